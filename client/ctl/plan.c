#include "client/ctl/plan.h"

#include <stdio.h>
#include <stdlib.h>
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

/* "5 moves, 4 leader transfers" */
static void count_kinds(const json_t *ops, char *out, size_t n)
{
    static const struct {
        const char *kind, *said;
    } kinds[] = {{"move", "move"},
                 {"replace", "replacement"},
                 {"add-replica", "new replica"},
                 {"remove-replica", "removal"},
                 {"split", "split"},
                 {"merge", "merge"},
                 {"transfer-leader", "leader transfer"}};
    char count[48];
    out[0] = '\0';
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        size_t i, of_kind = 0;
        json_t *op;
        json_array_foreach(ops, i, op) of_kind += strcmp(admin_str(op, "kind"), kinds[k].kind) == 0;
        if (of_kind)
            snprintf(out + strlen(out), n - strlen(out), "%s%s", out[0] ? ", " : "",
                     admin_count(of_kind, kinds[k].said, count));
    }
    if (!out[0])
        snprintf(out, n, "no moves");
}

void plan_figures(const json_t *answer, char *out, size_t n)
{
    char size[16], rate[16], seconds[32];
    count_kinds(json_object_get(answer, "ops"), out, n);
    snprintf(out + strlen(out), n - strlen(out), ", %s",
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

static int by_name(const void *a, const void *b)
{
    return strverscmp(admin_str(*(json_t *const *)a, "node"),
                      admin_str(*(json_t *const *)b, "node"));
}

/* In the order that people count in: n2 before n10. */
static json_t *sorted_nodes(const json_t *answer)
{
    const json_t *nodes = json_object_get(answer, "nodes");
    size_t n = json_array_size(nodes);
    json_t **list = calloc(n + 1, sizeof(json_t *)), *out = json_array();
    if (!list)
        abort();
    for (size_t i = 0; i < n; i++)
        list[i] = json_array_get(nodes, i);
    qsort(list, n, sizeof(json_t *), by_name);
    for (size_t i = 0; i < n; i++)
        json_array_append(out, list[i]);
    free(list);
    return out;
}

static void print_load(const json_t *answer)
{
    json_t *nodes = sorted_nodes(answer);
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
    json_decref(nodes);
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
        const char *as = strcmp(name, "ops") == 0       ? "moves"
                         : strcmp(name, "version") == 0 ? "topology_version"
                                                        : name;
        json_object_set(o, as, value);
    }
    return o;
}
