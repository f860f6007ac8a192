/* rebalance plan, apply, status, watch, pause, resume, cancel; operator list, cancel. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "client/ctl/admin.h"
#include "client/ctl/output.h"
#include "client/ctl/plan.h"
#include "client/ctl/watch.h"

static int no_words(struct ctl *ctl, const char *command, int argc)
{
    return argc > 1 ? ctl_usage(ctl, command, "%s takes no arguments", command) : CTL_OK;
}

static int call(struct ctl *ctl, const char *action, bool changes, json_t **answer)
{
    return admin_call(ctl, "admin.rebalance", changes, json_pack("{s:s}", "action", action),
                      answer);
}

static int show_plan(struct ctl *ctl)
{
    json_t *answer;
    char head[120];
    int code = call(ctl, "plan", false, &answer);
    if (code != CTL_OK)
        return code;
    const char *id = admin_str(answer, "plan");
    if (ctl->output == CTL_JSON) {
        out_json(plan_json(answer));
    } else {
        snprintf(head, sizeof(head), "Plan %.40s at topology version %llu", id,
                 (unsigned long long)admin_u64(answer, "version"));
        plan_print(ctl, answer, head);
        if (json_array_size(json_object_get(answer, "ops")))
            printf("Nothing has changed. Run: kvctl rebalance apply %s\n", id);
    }
    json_decref(answer);
    return CTL_OK;
}

int cmd_rebalance_plan(struct ctl *ctl, int argc, char **argv)
{
    (void)argv;
    int code = no_words(ctl, "rebalance plan", argc);
    return code == CTL_OK ? show_plan(ctl) : code;
}

int cmd_rebalance_apply(struct ctl *ctl, int argc, char **argv)
{
    static const struct option options[] = {{"detach", no_argument, NULL, 'd'}, {0}};
    bool detach = false;
    json_t *answer;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == '?')
            return CTL_USAGE;
        detach = true;
    }
    if (argc - optind != 1)
        return ctl_usage(ctl, "rebalance apply",
                         "name the plan to apply: kvctl rebalance plan says its id");
    if (ctl->dry_run)
        return show_plan(ctl);
    int code = admin_call(ctl, "admin.rebalance", true,
                          json_pack("{s:s,s:s}", "action", "apply", "plan", argv[optind]), &answer);
    if (code != CTL_OK)
        return code;
    const json_t *ids = json_object_get(answer, "operators");
    const json_t *refused = json_object_get(answer, "refused");
    size_t i;
    json_t *text;
    json_array_foreach(refused, i, text)
        fprintf(stderr, "kvctl: left out: %s\n", json_string_value(text));
    if (!detach)
        code = watch_operators(ctl, "rebalancing", ids, false);
    else if (ctl->output == CTL_JSON)
        out_json(plan_json(answer));
    else
        printf("%zu operators are under way. Follow them: kvctl rebalance watch\n",
               json_array_size(ids));
    json_decref(answer);
    return code;
}

static void operators_table(const struct ctl *ctl, const json_t *list)
{
    char bytes[16], moved[16], age[32];
    struct out_table *t =
        out_table_new(ctl, "ID WHAT GROUP STATE STEP FROM TO >MOVED >SIZE >AGE WHY");
    size_t i;
    json_t *o;
    json_array_foreach(list, i, o)
    {
        const char *waits = admin_str(o, "waits_for");
        out_table_row(t);
        out_table_cell(t, "%s", admin_str(o, "id"));
        out_table_cell(t, "%s", admin_str(o, "kind"));
        out_table_cell(t, "g%s", admin_str(o, "group"));
        out_table_cell(t, "%s", admin_str(o, "state"));
        out_table_cell(t, "%s (%llu/%llu)", admin_str(o, "step"),
                       (unsigned long long)admin_u64(o, "at") + 1,
                       (unsigned long long)admin_u64(o, "steps"));
        out_table_cell(t, "%s", admin_str(o, "from")[0] ? admin_str(o, "from") : "-");
        out_table_cell(t, "%s", admin_str(o, "to")[0] ? admin_str(o, "to") : "-");
        out_table_cell(t, "%s", out_size(admin_u64(o, "moved"), moved));
        out_table_cell(t, "%s", out_size(admin_u64(o, "bytes"), bytes));
        out_table_cell(t, "%s", admin_seconds(admin_u64(o, "age_ms") / 1000, age));
        out_table_cell(t, "%s%s%s", admin_str(o, "reason"), waits[0] ? "; waits for " : "", waits);
    }
    out_table_end(t);
}

int cmd_rebalance_status(struct ctl *ctl, int argc, char **argv)
{
    json_t *a;
    char left[16], rate[16], seconds[32];
    (void)argv;
    int code = no_words(ctl, "rebalance status", argc);
    if (code != CTL_OK || (code = call(ctl, "status", false, &a)) != CTL_OK)
        return code;
    if (ctl->output == CTL_JSON) {
        out_json(json_incref(a));
    } else {
        printf("balancing is %s%s\n",
               !admin_bool(a, "auto")    ? "off by configuration (placement.auto-rebalance)"
               : admin_bool(a, "paused") ? "paused"
                                         : "on",
               admin_bool(a, "paused") ? "; repair and drains go on. Run: kvctl rebalance resume"
                                       : "");
        printf("%llu under way, %llu waiting, %s left", (unsigned long long)admin_u64(a, "running"),
               (unsigned long long)admin_u64(a, "queued"),
               out_size(admin_u64(a, "bytes_left"), left));
        if (admin_u64(a, "rate"))
            printf(", %s/s", out_size(admin_u64(a, "rate"), rate));
        if (admin_u64(a, "seconds_left"))
            printf(", about %s", admin_seconds(admin_u64(a, "seconds_left"), seconds));
        putchar('\n');
        if (json_array_size(json_object_get(a, "operators")))
            operators_table(ctl, json_object_get(a, "operators"));
    }
    json_decref(a);
    return CTL_OK;
}

int cmd_rebalance_watch(struct ctl *ctl, int argc, char **argv)
{
    (void)argv;
    int code = no_words(ctl, "rebalance watch", argc);
    if (code != CTL_OK)
        return code;
    json_t *none = json_array();
    code = watch_operators(ctl, "moving", none, true);
    json_decref(none);
    return code;
}

static int simple(struct ctl *ctl, int argc, const char *command, const char *action,
                  const char *said)
{
    json_t *answer;
    int code = no_words(ctl, command, argc);
    if (code != CTL_OK)
        return code;
    if (ctl->dry_run) {
        if (ctl->output == CTL_JSON)
            out_json(json_pack("{s:s}", "would", said));
        else
            printf("would: %s\n", said);
        return CTL_OK;
    }
    code = call(ctl, action, true, &answer);
    if (code != CTL_OK)
        return code;
    if (ctl->output == CTL_JSON)
        out_json(json_incref(answer));
    else
        printf("%s\n", said);
    json_decref(answer);
    return CTL_OK;
}

int cmd_rebalance_pause(struct ctl *ctl, int argc, char **argv)
{
    (void)argv;
    return simple(ctl, argc, "rebalance pause", "pause",
                  "balancing is paused; repair and drains go on");
}

int cmd_rebalance_resume(struct ctl *ctl, int argc, char **argv)
{
    (void)argv;
    return simple(ctl, argc, "rebalance resume", "resume", "balancing goes on");
}

static int print_cancelled(struct ctl *ctl, json_t *answer)
{
    char count[48];
    uint64_t kept = admin_u64(answer, "kept");
    if (ctl->output == CTL_JSON) {
        out_json(answer);
        return CTL_OK;
    }
    printf("%s cancelled", admin_count(admin_u64(answer, "cancelled"), "operator", count));
    if (kept)
        printf("; %llu too far on to be taken back", (unsigned long long)kept);
    putchar('\n');
    json_decref(answer);
    return CTL_OK;
}

/* Says what would be asked to turn back; `id` 0: all of it. */
static int show_cancelled(struct ctl *ctl, unsigned long long id)
{
    json_t *a, *op, *list = json_array();
    char count[48];
    size_t i;
    int code = admin_call(ctl, "admin.operator", false, json_pack("{s:s}", "action", "list"), &a);
    if (code != CTL_OK)
        return json_decref(list), code;
    json_array_foreach(json_object_get(a, "operators"), i, op)
    {
        if (id == 0 || admin_u64(op, "id") == id)
            json_array_append(list, op);
    }
    if (ctl->output == CTL_JSON)
        out_json(json_pack("{s:O}", "would_cancel", list));
    else
        printf("would cancel %s\n", admin_count(json_array_size(list), "operator", count));
    if (ctl->output != CTL_JSON && json_array_size(list))
        operators_table(ctl, list);
    json_decref(list);
    json_decref(a);
    return CTL_OK;
}

int cmd_rebalance_cancel(struct ctl *ctl, int argc, char **argv)
{
    json_t *answer;
    (void)argv;
    int code = no_words(ctl, "rebalance cancel", argc);
    if (code == CTL_OK && ctl->dry_run)
        return show_cancelled(ctl, 0);
    if (code != CTL_OK || (code = call(ctl, "cancel", true, &answer)) != CTL_OK)
        return code;
    return print_cancelled(ctl, answer);
}

/* ---- operators ---- */

int cmd_operator_list(struct ctl *ctl, int argc, char **argv)
{
    json_t *a, *f;
    size_t i;
    (void)argv;
    int code = no_words(ctl, "operator list", argc);
    if (code != CTL_OK)
        return code;
    code = admin_call(ctl, "admin.operator", false, json_pack("{s:s}", "action", "list"), &a);
    if (code != CTL_OK)
        return code;
    if (ctl->output == CTL_JSON) {
        out_json(a);
        return CTL_OK;
    }
    const json_t *finished = json_object_get(a, "finished");
    if (json_array_size(json_object_get(a, "operators")))
        operators_table(ctl, json_object_get(a, "operators"));
    else
        printf("nothing is under way\n");
    if (json_array_size(finished)) {
        printf("\nended lately\n");
        struct out_table *t = out_table_new(ctl, "ID WHAT GROUP OUTCOME WHY");
        json_array_foreach(finished, i, f)
        {
            const char *why = admin_str(f, "why");
            out_table_row(t);
            out_table_cell(t, "%s", admin_str(f, "id"));
            out_table_cell(t, "%s", admin_str(f, "kind"));
            out_table_cell(t, "g%s", admin_str(f, "group"));
            out_table_cell(t, "%s", admin_str(f, "outcome"));
            out_table_cell(t, "%s%s%s", admin_str(f, "reason"), why[0] ? ": " : "", why);
        }
        out_table_end(t);
    }
    json_decref(a);
    return CTL_OK;
}

int cmd_operator_cancel(struct ctl *ctl, int argc, char **argv)
{
    static const struct option options[] = {{"all", no_argument, NULL, 'a'}, {0}};
    unsigned long long id = 0;
    bool all = false;
    json_t *answer;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == '?')
            return CTL_USAGE;
        all = true;
    }
    if (argc - optind != (all ? 0 : 1) || (!all && !ctl_parse_u64(argv[optind], &id)))
        return ctl_usage(ctl, "operator cancel",
                         "name an operator by its id (kvctl operator list), or --all");
    if (ctl->dry_run)
        return show_cancelled(ctl, id);
    json_t *p = all ? json_pack("{s:s,s:b}", "action", "cancel", "all", 1)
                    : json_pack("{s:s,s:I}", "action", "cancel", "id", (json_int_t)id);
    int code = admin_call(ctl, "admin.operator", true, p, &answer);
    return code == CTL_OK ? print_cancelled(ctl, answer) : code;
}
