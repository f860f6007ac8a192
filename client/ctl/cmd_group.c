/* group list, show, split, merge, transfer-leader, move-replica, add-replica, remove-replica. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "client/ctl/admin.h"
#include "client/ctl/output.h"
#include "client/ctl/plan.h"
#include "client/ctl/watch.h"

struct group_options {
    bool plan, detach;
    long slot; /* -1: not given */
    int n;     /* words after the options */
    char **words;
};

static int parse(struct ctl *ctl, const char *command, int argc, char **argv, int wanted,
                 const char *what, struct group_options *o)
{
    static const struct option options[] = {{"plan", no_argument, NULL, 'p'},
                                            {"detach", no_argument, NULL, 'd'},
                                            {"at", required_argument, NULL, 'a'},
                                            {0}};
    unsigned long long slot;
    *o = (struct group_options){.plan = ctl->dry_run, .slot = -1};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == '?')
            return CTL_USAGE;
        if (c == 'a' && (!ctl_parse_u64(optarg, &slot) || slot >= 16384))
            return ctl_usage(ctl, command, "'%s' is no slot: 0 to 16383", optarg);
        if (c == 'a')
            o->slot = (long)slot;
        o->plan = o->plan || c == 'p';
        o->detach = o->detach || c == 'd';
    }
    o->n = argc - optind;
    o->words = argv + optind;
    if (o->n != wanted)
        return ctl_usage(ctl, command, "%s wants %s", command, what);
    return CTL_OK;
}

/* A group's name as an id, looked up by the server. */
static bool group_param(json_t *p, const char *name, const char *text)
{
    uint64_t id;
    if (!admin_group(text, &id) || id > INT64_MAX)
        return false;
    json_object_set_new(p, name, json_integer((json_int_t)id));
    return true;
}

static unsigned long long group_of(const json_t *p, const char *name)
{
    return (unsigned long long)json_integer_value(json_object_get(p, name));
}

static int bad_group(struct ctl *ctl, const char *text)
{
    struct kvadmin_status s;
    int code = admin_status(ctl, &s);
    if (code != CTL_OK)
        return code;
    code = admin_no_group(ctl, &s, text);
    kvadmin_status_close(&s);
    return code;
}

int cmd_group_list(struct ctl *ctl, int argc, char **argv)
{
    return cmd_groups(ctl, argc, argv);
}

/* ---- show ---- */

static void show_text(const struct ctl *ctl, const struct kvadmin_status *s,
                      const struct kvadmin_group *g, const json_t *lines)
{
    char buf[16], size[16];
    size_t i;
    json_t *line;
    printf("g%llu  slots %u-%u, epoch %u.%u, term %llu, %s, %llu keys\n", (unsigned long long)g->id,
           g->first_slot, g->last_slot, g->epoch.range, g->epoch.members,
           (unsigned long long)g->term, out_size(g->bytes, size), (unsigned long long)g->keys);
    printf("  reads %llu/s, writes %llu/s\n", (unsigned long long)g->reads,
           (unsigned long long)g->writes);
    json_array_foreach(lines, i, line)
    {
        if (i > 0) /* the first says what is above already */
            printf("  %s\n", json_string_value(line));
    }
    struct out_table *t = out_table_new(ctl, "NODE >REPLICA ROLE >MATCH");
    for (unsigned k = 0; k < g->n_replicas; k++) {
        const struct kvadmin_replica *r = &g->replica[k];
        out_table_row(t);
        out_table_cell(t, "%s", admin_node_name(s, r->node, buf));
        out_table_cell(t, "%llu", (unsigned long long)r->id);
        out_table_cell(t, "%s", r->node == g->leader ? "leader" : r->role);
        out_table_cell(t, "%llu", (unsigned long long)r->match);
    }
    out_table_end(t);
}

static void show_json(const struct kvadmin_status *s, const struct kvadmin_group *g,
                      const json_t *lines)
{
    char buf[16];
    json_t *replicas = json_array();
    for (unsigned k = 0; k < g->n_replicas; k++) {
        const struct kvadmin_replica *r = &g->replica[k];
        json_array_append_new(replicas,
                              json_pack("{s:o,s:s,s:o,s:s,s:b,s:I}", "node", out_json_id(r->node),
                                        "name", admin_node_name(s, r->node, buf), "id",
                                        out_json_id(r->id), "role", r->role, "leader",
                                        r->node == g->leader, "match", (json_int_t)r->match));
    }
    out_json(
        json_pack("{s:o,s:I,s:I,s:[I,I],s:o,s:I,s:o,s:I,s:I,s:I,s:I,s:O}", "id", out_json_id(g->id),
                  "first_slot", (json_int_t)g->first_slot, "last_slot", (json_int_t)g->last_slot,
                  "epoch", (json_int_t)g->epoch.range, (json_int_t)g->epoch.members, "leader",
                  g->leader ? out_json_id(g->leader) : json_null(), "term", (json_int_t)g->term,
                  "replicas", replicas, "bytes", (json_int_t)g->bytes, "keys", (json_int_t)g->keys,
                  "reads", (json_int_t)g->reads, "writes", (json_int_t)g->writes, "lines", lines));
}

int cmd_group_show(struct ctl *ctl, int argc, char **argv)
{
    struct group_options o;
    struct kvadmin_status s;
    uint64_t id = 0;
    char msg[256] = "";
    int code = parse(ctl, "group show", argc, argv, 1, "one group", &o);
    if (code != CTL_OK || (code = admin_status(ctl, &s)) != CTL_OK)
        return code;
    const struct kvadmin_group *g = admin_group(o.words[0], &id) ? admin_find_group(&s, id) : NULL;
    if (!g) {
        code = admin_no_group(ctl, &s, o.words[0]);
        kvadmin_status_close(&s);
        return code;
    }
    json_t *why = NULL, *none = json_array();
    if (admin_ask(ctl, "admin.why", json_pack("{s:I}", "group", (json_int_t)id), &why, msg,
                  sizeof(msg)) != KV_OK)
        why = NULL;
    json_t *lines = why ? json_object_get(why, "lines") : none;
    if (!json_is_array(lines))
        lines = none;
    if (ctl->output == CTL_JSON)
        show_json(&s, g, lines);
    else
        show_text(ctl, &s, g, lines);
    json_decref(why);
    json_decref(none);
    kvadmin_status_close(&s);
    return CTL_OK;
}

/* ---- changes ---- */

static int print_plan(struct ctl *ctl, const json_t *answer)
{
    if (ctl->output == CTL_JSON) {
        out_json(plan_json(answer));
        return CTL_OK;
    }
    plan_print_ops(ctl, json_object_get(answer, "ops"));
    printf("Nothing has changed.\n");
    return CTL_OK;
}

static int print_detached(struct ctl *ctl, const json_t *answer)
{
    size_t i;
    json_t *id;
    if (ctl->output == CTL_JSON) {
        out_json(plan_json(answer));
        return CTL_OK;
    }
    json_array_foreach(json_object_get(answer, "operators"), i, id)
        printf("operator %s. Follow it: kvctl rebalance watch\n", json_string_value(id));
    return CTL_OK;
}

/* Takes `p`. */
static int change(struct ctl *ctl, const struct group_options *o, json_t *p, const char *what)
{
    json_t *answer;
    if (o->plan)
        json_object_set_new(p, "plan", json_true());
    int code = admin_call(ctl, "admin.group", !o->plan, p, &answer);
    if (code != CTL_OK)
        return code;
    if (o->plan)
        code = print_plan(ctl, answer);
    else if (o->detach)
        code = print_detached(ctl, answer);
    else
        code = watch_operators(ctl, what, json_object_get(answer, "operators"), false);
    json_decref(answer);
    return code;
}

int cmd_group_split(struct ctl *ctl, int argc, char **argv)
{
    struct group_options o;
    char what[64];
    int code = parse(ctl, "group split", argc, argv, 1, "one group", &o);
    if (code != CTL_OK)
        return code;
    json_t *p = json_pack("{s:s}", "action", "split");
    if (!group_param(p, "group", o.words[0])) {
        json_decref(p);
        return bad_group(ctl, o.words[0]);
    }
    if (o.slot >= 0)
        json_object_set_new(p, "slot", json_integer(o.slot));
    snprintf(what, sizeof(what), "splitting g%llu", group_of(p, "group"));
    return change(ctl, &o, p, what);
}

int cmd_group_merge(struct ctl *ctl, int argc, char **argv)
{
    struct group_options o;
    json_t *answer;
    char what[128], question[256], into[32];
    int code =
        parse(ctl, "group merge", argc, argv, 2, "a group and the one that it goes into", &o);
    if (code != CTL_OK)
        return code;
    json_t *p = json_pack("{s:s}", "action", "merge");
    for (int i = 0; i < 2; i++) {
        if (!group_param(p, i ? "into" : "group", o.words[i])) {
            json_decref(p);
            return bad_group(ctl, o.words[i]);
        }
    }
    /* Whether it is possible is said before anything is asked. */
    json_t *trial = json_deep_copy(p);
    json_object_set_new(trial, "plan", json_true());
    if (!o.plan && (code = admin_call(ctl, "admin.group", false, trial, &answer)) == CTL_OK) {
        json_decref(answer);
        snprintf(question, sizeof(question), "This ends %.40s: its slots become %.40s's.",
                 o.words[0], o.words[1]);
        snprintf(into, sizeof(into), "%.30s", o.words[0]);
        if (!ctl_confirm(ctl, question, into))
            code = CTL_REFUSED;
    } else if (o.plan) {
        json_decref(trial);
    }
    if (code != CTL_OK) {
        json_decref(p);
        return code;
    }
    snprintf(what, sizeof(what), "merging g%llu into g%llu", group_of(p, "group"),
             group_of(p, "into"));
    return change(ctl, &o, p, what);
}

/* Those that name a group and nodes: `names` are the params of the words after the group. */
static int with_nodes(struct ctl *ctl, int argc, char **argv, const char *action,
                      const char *const *names, int n_names, const char *wants, const char *doing)
{
    struct group_options o;
    char command[40], what[96];
    snprintf(command, sizeof(command), "group %s", action);
    int code = parse(ctl, command, argc, argv, 1 + n_names, wants, &o);
    if (code != CTL_OK)
        return code;
    json_t *p = json_pack("{s:s}", "action", action);
    if (!group_param(p, "group", o.words[0])) {
        json_decref(p);
        return bad_group(ctl, o.words[0]);
    }
    for (int i = 0; i < n_names; i++)
        json_object_set_new(p, names[i], json_string(o.words[1 + i]));
    snprintf(what, sizeof(what), "%s g%llu", doing, group_of(p, "group"));
    return change(ctl, &o, p, what);
}

int cmd_group_transfer(struct ctl *ctl, int argc, char **argv)
{
    static const char *const names[] = {"to"};
    return with_nodes(ctl, argc, argv, "transfer-leader", names, 1, "a group and a node",
                      "handing over");
}

int cmd_group_move(struct ctl *ctl, int argc, char **argv)
{
    static const char *const names[] = {"from", "to"};
    return with_nodes(ctl, argc, argv, "move-replica", names, 2,
                      "a group, the node that it leaves and the one that it goes to", "moving");
}

int cmd_group_add(struct ctl *ctl, int argc, char **argv)
{
    static const char *const names[] = {"to"};
    return with_nodes(ctl, argc, argv, "add-replica", names, 1, "a group and a node", "growing");
}

int cmd_group_remove(struct ctl *ctl, int argc, char **argv)
{
    static const char *const names[] = {"from"};
    return with_nodes(ctl, argc, argv, "remove-replica", names, 1, "a group and a node",
                      "shrinking");
}
