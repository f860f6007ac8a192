#include "client/ctl/plan.h"

#include <stdio.h>
#include <string.h>

#include "client/ctl/output.h"

/* The one kind that all are of, or "". */
static const char *only_kind(const json_t *ops)
{
    const char *kind = "";
    size_t i;
    json_t *op;
    json_array_foreach(ops, i, op)
    {
        if (i > 0 && strcmp(kind, admin_str(op, "kind")) != 0)
            return "";
        kind = admin_str(op, "kind");
    }
    return kind;
}

static const char *or_dash(const char *text)
{
    return text[0] ? text : "-";
}

void plan_print_ops(const struct ctl *ctl, const json_t *ops)
{
    char size[16], into[32];
    bool moves = strcmp(only_kind(ops), "move") == 0;
    struct out_table *t = out_table_new(ctl, moves ? "GROUP SLOTS >SIZE FROM TO WHY"
                                                   : "WHAT GROUP SLOTS >SIZE FROM TO WHY");
    size_t i;
    json_t *op;
    json_array_foreach(ops, i, op)
    {
        const char *to = admin_str(op, "to");
        if (strcmp(admin_str(op, "kind"), "split") == 0)
            snprintf(into, sizeof(into), "slot %llu", (unsigned long long)admin_u64(op, "slot"));
        else
            snprintf(into, sizeof(into), "g%.20s", admin_str(op, "into"));
        out_table_row(t);
        if (!moves)
            out_table_cell(t, "%s", admin_str(op, "kind"));
        out_table_cell(t, "g%s", admin_str(op, "group"));
        out_table_cell(t, "%llu-%llu", (unsigned long long)admin_u64(op, "first_slot"),
                       (unsigned long long)admin_u64(op, "last_slot"));
        out_table_cell(t, "%s", out_size(admin_u64(op, "bytes"), size));
        out_table_cell(t, "%s", or_dash(admin_str(op, "from")));
        out_table_cell(t, "%s", to[0] ? to : into[1] ? into : "-");
        out_table_cell(t, "%s", admin_str(op, "why"));
    }
    out_table_end(t);
}

void plan_figures(const json_t *answer, char *out, size_t n)
{
    char size[16], rate[16], seconds[32], count[48];
    const json_t *ops = json_object_get(answer, "ops");
    const char *kind = only_kind(ops);
    snprintf(out, n, "%s, %s",
             admin_count(json_array_size(ops), strcmp(kind, "move") == 0 ? "move" : "step", count),
             out_size(admin_u64(answer, "bytes"), size));
    if (admin_u64(answer, "at_a_time"))
        snprintf(out + strlen(out), n - strlen(out), ", %llu at a time",
                 (unsigned long long)admin_u64(answer, "at_a_time"));
    if (admin_u64(answer, "rate"))
        snprintf(out + strlen(out), n - strlen(out), ", cap %s/s",
                 out_size(admin_u64(answer, "rate"), rate));
    snprintf(out + strlen(out), n - strlen(out), ", about %s",
             admin_seconds(admin_u64(answer, "seconds"), seconds));
}

static void print_load(const json_t *answer)
{
    const json_t *nodes = json_object_get(answer, "nodes");
    uint64_t peak = 0, voters = admin_u64(answer, "lowest_voters");
    const char *who = "";
    size_t i;
    json_t *node;
    if (json_array_size(nodes))
        printf("Bytes:");
    json_array_foreach(nodes, i, node)
    {
        uint64_t disk = admin_u64(node, "peak_disk_percent");
        printf("%s%s %llu%%->%llu%%", i ? "  " : " ", admin_str(node, "node"),
               (unsigned long long)admin_u64(node, "before_percent"),
               (unsigned long long)admin_u64(node, "after_percent"));
        if (disk >= peak) {
            peak = disk;
            who = admin_str(node, "node");
        }
    }
    if (who[0])
        printf("   peak disk %llu%% (%s)", (unsigned long long)peak, who);
    if (voters)
        printf("%snever below %llu voter%s", json_array_size(nodes) ? "   " : "",
               (unsigned long long)voters, voters == 1 ? "" : "s");
    if (json_array_size(nodes) || voters)
        putchar('\n');
}

void plan_print(const struct ctl *ctl, const json_t *answer, const char *head)
{
    char figures[200];
    const json_t *ops = json_object_get(answer, "ops");
    if (!json_array_size(ops)) {
        printf("%s: nothing to do\n", head);
        print_load(answer);
        return;
    }
    plan_figures(answer, figures, sizeof(figures));
    printf("%s: %s\n", head, figures);
    plan_print_ops(ctl, ops);
    print_load(answer);
}

json_t *plan_json(const json_t *answer)
{
    json_t *o = json_object();
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)answer, name, value)
    {
        if (strcmp(name, "ops") == 0)
            name = "moves";
        else if (strcmp(name, "version") == 0)
            name = "topology_version";
        json_object_set(o, name, value);
    }
    return o;
}
