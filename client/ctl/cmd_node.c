/* node list, show, drain, undrain, remove, maintenance. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/admin.h"
#include "client/ctl/output.h"
#include "client/ctl/plan.h"
#include "client/ctl/watch.h"

struct node_options {
    bool plan, detach, off;
    unsigned for_ms;
};

/* The one node that is named; its status. CTL_OK: kvadmin_status_close(). */
static int parse(struct ctl *ctl, const char *command, int argc, char **argv,
                 struct node_options *o, struct kvadmin_status *s, const struct kvadmin_node **node)
{
    static const struct option options[] = {{"plan", no_argument, NULL, 'p'},
                                            {"detach", no_argument, NULL, 'd'},
                                            {"off", no_argument, NULL, 'o'},
                                            {"for", required_argument, NULL, 'f'},
                                            {0}};
    *o = (struct node_options){.plan = ctl->dry_run};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == '?')
            return CTL_USAGE;
        if (c == 'f' && (!ctl_parse_duration(optarg, &o->for_ms) || o->for_ms == 0))
            return ctl_usage(ctl, command, "'%s' is no duration such as 30m", optarg);
        o->plan = o->plan || c == 'p';
        o->detach = o->detach || c == 'd';
        o->off = o->off || c == 'o';
    }
    if (argc - optind != 1)
        return ctl_usage(ctl, command, "%s wants the name of one node", command);
    int code = admin_status(ctl, s);
    if (code != CTL_OK)
        return code;
    *node = admin_find_node(s, argv[optind]);
    if (*node)
        return CTL_OK;
    code = admin_no_node(ctl, s, argv[optind]);
    kvadmin_status_close(s);
    return code;
}

static json_t *params(const char *action, const struct kvadmin_node *node, bool plan)
{
    return json_pack("{s:s,s:s,s:b}", "action", action, "node", node->name, "plan", plan);
}

int cmd_node_list(struct ctl *ctl, int argc, char **argv)
{
    return cmd_nodes(ctl, argc, argv);
}

/* ---- show ---- */

static const struct kvadmin_replica *replica_on(const struct kvadmin_group *g, uint32_t node)
{
    for (unsigned k = 0; k < g->n_replicas; k++)
        if (g->replica[k].node == node)
            return &g->replica[k];
    return NULL;
}

static void show_text(const struct ctl *ctl, const struct kvadmin_status *s,
                      const struct kvadmin_node *n, const json_t *lines)
{
    char a[16], b[16];
    size_t i;
    json_t *line;
    printf("%s (node %u)  %s\n", n->name, n->id, n->state);
    printf("  address     %s, for other nodes %s\n", n->address, n->peer);
    printf("  zone, host  %s, %s\n", n->zone[0] ? n->zone : "-", n->host[0] ? n->host : "-");
    printf("  disk        %s free of %s, %s of shards\n", out_size(n->disk_free, a),
           out_size(n->disk_size, b), out_size(n->bytes, (char[16]){0}));
    printf("  replicas    %llu, leader of %llu\n", (unsigned long long)n->replicas,
           (unsigned long long)n->leaders);
    json_array_foreach(lines, i, line) printf("  %s\n", json_string_value(line));
    struct out_table *t = out_table_new(ctl, "GROUP SLOTS ROLE >BYTES >KEYS");
    for (unsigned k = 0; k < s->n_groups; k++) {
        const struct kvadmin_group *g = &s->groups[k];
        const struct kvadmin_replica *r = replica_on(g, n->id);
        if (!r)
            continue;
        out_table_row(t);
        out_table_cell(t, "g%llu", (unsigned long long)g->id);
        out_table_cell(t, "%u-%u", g->first_slot, g->last_slot);
        out_table_cell(t, "%s", g->leader == n->id ? "leader" : r->role);
        out_table_cell(t, "%s", out_size(g->bytes, a));
        out_table_cell(t, "%llu", (unsigned long long)g->keys);
    }
    out_table_end(t);
}

static void show_json(const struct kvadmin_status *s, const struct kvadmin_node *n,
                      const json_t *lines)
{
    json_t *groups = json_array();
    for (unsigned k = 0; k < s->n_groups; k++) {
        const struct kvadmin_group *g = &s->groups[k];
        const struct kvadmin_replica *r = replica_on(g, n->id);
        if (r)
            json_array_append_new(
                groups, json_pack("{s:o,s:o,s:s,s:b,s:I}", "id", out_json_id(g->id), "replica",
                                  out_json_id(r->id), "role", r->role, "leader", g->leader == n->id,
                                  "bytes", (json_int_t)g->bytes));
    }
    out_json(json_pack("{s:o,s:s,s:s,s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:o,s:O}", "id",
                       out_json_id(n->id), "name", n->name, "address", n->address, "peer", n->peer,
                       "zone", n->zone, "host", n->host, "state", n->state, "leaders",
                       (json_int_t)n->leaders, "replicas", (json_int_t)n->replicas, "bytes",
                       (json_int_t)n->bytes, "disk_free", (json_int_t)n->disk_free, "disk_size",
                       (json_int_t)n->disk_size, "groups", groups, "lines", lines));
}

int cmd_node_show(struct ctl *ctl, int argc, char **argv)
{
    struct node_options o;
    struct kvadmin_status s;
    const struct kvadmin_node *n;
    int code = parse(ctl, "node show", argc, argv, &o, &s, &n);
    if (code != CTL_OK)
        return code;
    char msg[256] = "";
    json_t *why = NULL, *none = json_array();
    if (admin_ask(ctl, "admin.why", json_pack("{s:s}", "node", n->name), &why, msg, sizeof(msg)) !=
        KV_OK)
        why = NULL;
    json_t *lines = why ? json_object_get(why, "lines") : none;
    if (!json_is_array(lines))
        lines = none;
    if (ctl->output == CTL_JSON)
        show_json(&s, n, lines);
    else
        show_text(ctl, &s, n, lines);
    json_decref(why);
    json_decref(none);
    kvadmin_status_close(&s);
    return CTL_OK;
}

/* ---- drain ---- */

struct drain {
    char name[64];
    uint64_t bytes, replicas; /* when it began */
    bool began;
    char state[32];
};

static kv_err look_drain(struct ctl *ctl, void *arg, struct watch_now *now, char *msg, size_t n)
{
    struct drain *d = arg;
    struct kvadmin_status s = {0};
    kv_err e = kvadmin_status(ctl->url, ctl->timeout_ms, &s, msg, n);
    if (e != KV_OK)
        return e;
    const struct kvadmin_node *node = s.authoritative ? admin_find_node(&s, d->name) : NULL;
    if (!node) {
        kvadmin_status_close(&s);
        snprintf(msg, n, "the leader of placementd is not known");
        return KV_NO_LEADER;
    }
    if (!d->began || node->replicas > d->replicas)
        d->replicas = node->replicas;
    if (!d->began || node->bytes > d->bytes)
        d->bytes = node->bytes;
    d->began = true;
    now->unit = "replica";
    now->total = (unsigned)d->replicas;
    now->done = (unsigned)(d->replicas - node->replicas);
    now->bytes_total = d->bytes;
    now->bytes = d->bytes - node->bytes;
    now->over = node->replicas == 0;
    for (unsigned i = 0; i < s.n_operators; i++) {
        const struct kvadmin_operator *op = &s.operators[i];
        if (strcmp(op->from, d->name) != 0)
            continue;
        now->over = false; /* data is being deleted there yet */
        if (op->waits_for[0] && strcmp(op->state, "queued") != 0) {
            snprintf(now->note, sizeof(now->note), "g%llu: waits for %s",
                     (unsigned long long)op->group, op->waits_for);
            break;
        }
    }
    if (now->over)
        now->bytes = d->bytes;
    bool draining = node->draining || strcmp(node->state, "draining") == 0;
    kvadmin_status_close(&s);
    if (!draining && !now->over) {
        snprintf(msg, n, "%s is not being drained any more", d->name);
        return KV_REFUSED;
    }
    return KV_OK;
}

static int wait_drain(struct ctl *ctl, const struct kvadmin_node *node)
{
    struct drain d = {0};
    char what[100], resume[100];
    snprintf(d.name, sizeof(d.name), "%s", node->name);
    snprintf(what, sizeof(what), "draining %s", node->name);
    snprintf(resume, sizeof(resume), "kvctl node drain %s --yes", node->name);
    struct watch w = {what, resume, look_drain, &d};
    int code = watch_run(ctl, &w);
    if (code != CTL_OK)
        return code;
    if (ctl->output == CTL_JSON)
        out_json(json_pack("{s:s,s:s,s:b,s:I,s:I}", "node", d.name, "state", "draining", "empty", 1,
                           "moved", (json_int_t)d.replicas, "bytes", (json_int_t)d.bytes));
    else
        printf("%s is empty. Run: kvctl node remove %s (or: kvctl node undrain %s)\n", d.name,
               d.name, d.name);
    return CTL_OK;
}

static int drain(struct ctl *ctl, const struct node_options *o, const struct kvadmin_node *node)
{
    json_t *plan, *answer;
    char head[100], figures[200], question[400];
    int code = admin_call(ctl, "admin.node", false, params("drain", node, true), &plan);
    if (code != CTL_OK)
        return code;
    snprintf(head, sizeof(head), "Draining %s", node->name);
    plan_figures(plan, figures, sizeof(figures));
    if (o->plan) {
        if (ctl->output == CTL_JSON) {
            out_json(plan_json(plan));
        } else {
            plan_print(ctl, plan, head);
            printf("Nothing has changed. Run: kvctl node drain %s\n", node->name);
        }
        json_decref(plan);
        return CTL_OK;
    }
    snprintf(question, sizeof(question), "This moves everything away from %s: %s.", node->name,
             figures);
    json_decref(plan);
    bool under_way = strcmp(node->state, "draining") == 0 || node->draining;
    if (!under_way && !ctl_confirm(ctl, question, node->name))
        return CTL_REFUSED;
    code = admin_call(ctl, "admin.node", true, params("drain", node, false), &answer);
    if (code != CTL_OK)
        return code;
    if (o->detach) {
        if (ctl->output == CTL_JSON)
            out_json(plan_json(answer));
        else
            printf("%s is being drained: %s. Follow it: kvctl node drain %s\n", node->name, figures,
                   node->name);
        json_decref(answer);
        return CTL_OK;
    }
    json_decref(answer);
    return wait_drain(ctl, node);
}

int cmd_node_drain(struct ctl *ctl, int argc, char **argv)
{
    struct node_options o;
    struct kvadmin_status s;
    const struct kvadmin_node *node;
    int code = parse(ctl, "node drain", argc, argv, &o, &s, &node);
    if (code != CTL_OK)
        return code;
    code = drain(ctl, &o, node);
    kvadmin_status_close(&s);
    return code;
}

/* ---- undrain, remove, maintenance ---- */

/* Calls and prints `done`, or with a plan `would`. */
static int simple(struct ctl *ctl, const struct node_options *o, json_t *p, const char *done,
                  const char *would)
{
    json_t *answer;
    int code = admin_call(ctl, "admin.node", !o->plan, p, &answer);
    if (code != CTL_OK)
        return code;
    if (ctl->output == CTL_JSON)
        out_json(plan_json(answer));
    else
        printf("%s\n", o->plan ? would : done);
    json_decref(answer);
    return CTL_OK;
}

int cmd_node_undrain(struct ctl *ctl, int argc, char **argv)
{
    struct node_options o;
    struct kvadmin_status s;
    const struct kvadmin_node *node;
    char done[200], would[200];
    int code = parse(ctl, "node undrain", argc, argv, &o, &s, &node);
    if (code != CTL_OK)
        return code;
    snprintf(done, sizeof(done), "%s takes part again; what was moved away comes back by balancing",
             node->name);
    snprintf(would, sizeof(would), "%s would take part again", node->name);
    code = simple(ctl, &o, params("undrain", node, o.plan), done, would);
    kvadmin_status_close(&s);
    return code;
}

int cmd_node_remove(struct ctl *ctl, int argc, char **argv)
{
    struct node_options o;
    struct kvadmin_status s;
    const struct kvadmin_node *node;
    char done[300], would[200], question[200];
    json_t *answer;
    int code = parse(ctl, "node remove", argc, argv, &o, &s, &node);
    if (code != CTL_OK)
        return code;
    /* Whether it is possible is said before anything is asked. */
    code = admin_call(ctl, "admin.node", false, params("remove", node, true), &answer);
    if (code == CTL_OK) {
        json_decref(answer);
        snprintf(question, sizeof(question),
                 "This removes %s for good: it can join again only with an empty data directory.",
                 node->name);
        if (!o.plan && !ctl_confirm(ctl, question, node->name))
            code = CTL_REFUSED;
    }
    if (code == CTL_OK) {
        snprintf(done, sizeof(done), "%s is removed. Stop its shardd and delete its data directory",
                 node->name);
        snprintf(would, sizeof(would), "%s would be removed", node->name);
        code = simple(ctl, &o, params("remove", node, o.plan), done, would);
    }
    kvadmin_status_close(&s);
    return code;
}

int cmd_node_maintenance(struct ctl *ctl, int argc, char **argv)
{
    struct node_options o;
    struct kvadmin_status s;
    const struct kvadmin_node *node;
    char done[300], would[200], time[32];
    int code = parse(ctl, "node maintenance", argc, argv, &o, &s, &node);
    if (code != CTL_OK)
        return code;
    if (!o.off && !o.for_ms) {
        kvadmin_status_close(&s);
        return ctl_usage(ctl, "node maintenance", "say for how long: --for 30m, or --off");
    }
    unsigned ms = o.off ? 0 : o.for_ms;
    admin_seconds(ms / 1000, time);
    if (ms)
        snprintf(done, sizeof(done),
                 "%s is in maintenance for %s: if it is down its replicas are not replaced, and "
                 "nothing moves to it",
                 node->name, time);
    else
        snprintf(done, sizeof(done), "%s is not in maintenance any more", node->name);
    snprintf(would, sizeof(would), "%s would be in maintenance for %s", node->name, time);
    json_t *p = params("maintenance", node, o.plan);
    json_object_set_new(p, "for_ms", json_integer((json_int_t)ms));
    code = simple(ctl, &o, p, done, would);
    kvadmin_status_close(&s);
    return code;
}
