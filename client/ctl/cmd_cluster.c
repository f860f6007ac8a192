/* status, nodes, groups, locate, cluster init: what placementd tells. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/admin.h"
#include "client/ctl/ctl.h"
#include "client/ctl/output.h"
#include "client/kvadmin.h"

/* ---- JSON ---- */

static json_t *heard_json(bool heard, uint64_t ms)
{
    return heard ? json_integer((json_int_t)ms) : json_null();
}

static json_t *nodes_json(const struct kvadmin_status *s)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < s->n_nodes; i++) {
        const struct kvadmin_node *n = &s->nodes[i];
        json_array_append_new(
            list, json_pack("{s:o,s:s,s:s,s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:b,s:I}",
                            "id", out_json_id(n->id), "name", n->name, "address", n->address,
                            "peer", n->peer, "zone", n->zone, "host", n->host, "state", n->state,
                            "leaders", (json_int_t)n->leaders, "replicas", (json_int_t)n->replicas,
                            "bytes", (json_int_t)n->bytes, "disk_free", (json_int_t)n->disk_free,
                            "disk_size", (json_int_t)n->disk_size, "cores", (json_int_t)n->cores,
                            "heard_ms", heard_json(n->heard, n->heard_ms), "draining", n->draining,
                            "maintenance_ms", (json_int_t)n->maintenance_ms));
    }
    return list;
}

static json_t *groups_json(const struct kvadmin_status *s)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < s->n_groups; i++) {
        const struct kvadmin_group *g = &s->groups[i];
        json_t *replicas = json_array();
        for (unsigned k = 0; k < g->n_replicas; k++) {
            const struct kvadmin_replica *r = &g->replica[k];
            json_array_append_new(replicas,
                                  json_pack("{s:o,s:o,s:s,s:I}", "node", out_json_id(r->node), "id",
                                            out_json_id(r->id), "role", r->role, "match",
                                            (json_int_t)r->match));
        }
        json_array_append_new(list,
                              json_pack("{s:o,s:I,s:I,s:[I,I],s:o,s:I,s:o,s:I,s:I,s:I,s:I}", "id",
                                        out_json_id(g->id), "first_slot", (json_int_t)g->first_slot,
                                        "last_slot", (json_int_t)g->last_slot, "epoch",
                                        (json_int_t)g->epoch.range, (json_int_t)g->epoch.members,
                                        "leader", g->leader ? out_json_id(g->leader) : json_null(),
                                        "term", (json_int_t)g->term, "replicas", replicas, "bytes",
                                        (json_int_t)g->bytes, "keys", (json_int_t)g->keys, "reads",
                                        (json_int_t)g->reads, "writes", (json_int_t)g->writes));
    }
    return list;
}

static json_t *status_json(const struct kvadmin_status *s)
{
    json_t *reasons = json_array(), *members = json_array(), *operators = json_array();
    for (unsigned i = 0; i < s->n_reasons; i++)
        json_array_append_new(reasons, json_string(s->reason[i]));
    for (unsigned i = 0; i < s->n_members; i++) {
        const struct kvadmin_member *m = &s->member[i];
        json_array_append_new(members, json_pack("{s:o,s:s,s:s,s:s,s:b,s:o}", "id",
                                                 out_json_id(m->id), "address", m->client, "peer",
                                                 m->peer, "role", m->role, "leader", m->leader,
                                                 "heard_ms", heard_json(m->heard, m->heard_ms)));
    }
    for (unsigned i = 0; i < s->n_operators; i++) {
        const struct kvadmin_operator *o = &s->operators[i];
        json_array_append_new(
            operators,
            json_pack("{s:o,s:s,s:o,s:I,s:I,s:s,s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:s}", "id",
                      out_json_id(o->id), "kind", o->kind, "group", out_json_id(o->group), "step",
                      (json_int_t)o->step, "steps", (json_int_t)o->steps, "reason", o->reason,
                      "state", o->state, "doing", o->doing, "from", o->from, "to", o->to, "bytes",
                      (json_int_t)o->bytes, "moved", (json_int_t)o->moved, "age_ms",
                      (json_int_t)o->age_ms, "waits_for", o->waits_for));
    }
    return json_pack("{s:s,s:o,s:s,s:b,s:o,s:o,s:s,s:b,s:o,s:o,s:o,s:o}", "cluster", s->cluster,
                     "version", out_json_id(s->version), "health", s->health, "paused", s->paused,
                     "reasons", reasons, "leader", s->leader ? out_json_id(s->leader) : json_null(),
                     "leader_addr", s->leader_addr, "authoritative", s->authoritative, "members",
                     members, "nodes", nodes_json(s), "groups", groups_json(s), "operators",
                     operators);
}

/* ---- tables ---- */

static bool gone(const struct kvadmin_node *n)
{
    return strcmp(n->state, "lost") == 0 || strcmp(n->state, "removed") == 0;
}

static void nodes_table(const struct ctl *ctl, const struct kvadmin_status *s)
{
    char size[16], free_size[16];
    struct out_table *t =
        out_table_new(ctl, "NODE ADDRESS ZONE HOST STATE >LEADERS >REPLICAS >BYTES >DISK-FREE");
    for (unsigned i = 0; i < s->n_nodes; i++) {
        const struct kvadmin_node *n = &s->nodes[i];
        out_table_row(t);
        out_table_cell(t, "%s", n->name);
        out_table_cell(t, "%s", n->address);
        out_table_cell(t, "%s", n->zone[0] ? n->zone : "-");
        out_table_cell(t, "%s", n->host);
        out_table_cell(t, "%s%s", n->state, n->maintenance_ms ? " (maintenance)" : "");
        out_table_cell(t, "%llu", (unsigned long long)n->leaders);
        out_table_cell(t, "%llu", (unsigned long long)n->replicas);
        /* Of one that is gone, or has not told yet, there is nothing to say. */
        bool told = n->disk_size && !gone(n);
        out_table_cell(t, "%s", told ? out_size(n->bytes, size) : "-");
        out_table_cell(t, "%s", told ? out_size(n->disk_free, free_size) : "-");
    }
    out_table_end(t);
}

static void groups_table(const struct ctl *ctl, const struct kvadmin_status *s)
{
    char buf[16], size[16];
    struct out_table *t = out_table_new(ctl, "GROUP SLOTS >EPOCH LEADER REPLICAS >KEYS >BYTES");
    for (unsigned i = 0; i < s->n_groups; i++) {
        const struct kvadmin_group *g = &s->groups[i];
        char replicas[256] = "";
        for (unsigned k = 0; k < g->n_replicas; k++) {
            size_t at = strlen(replicas);
            bool voter = strcmp(g->replica[k].role, "voter") == 0;
            snprintf(replicas + at, sizeof(replicas) - at, "%s%s%s", at ? "," : "",
                     admin_node_name(s, g->replica[k].node, buf), voter ? "" : "*");
        }
        out_table_row(t);
        out_table_cell(t, "g%llu", (unsigned long long)g->id);
        out_table_cell(t, "%u-%u", g->first_slot, g->last_slot);
        out_table_cell(t, "%u.%u", g->epoch.range, g->epoch.members);
        out_table_cell(t, "%s", admin_node_name(s, g->leader, buf));
        out_table_cell(t, "%s", replicas);
        out_table_cell(t, "%llu", (unsigned long long)g->keys);
        out_table_cell(t, "%s", out_size(g->bytes, size));
    }
    out_table_end(t);
}

static void operators_table(const struct ctl *ctl, const struct kvadmin_status *s)
{
    char moved[16], bytes[16], age[32];
    struct out_table *t =
        out_table_new(ctl, "OPERATOR WHAT GROUP STEP FROM TO >MOVED >SIZE >AGE WHY");
    for (unsigned i = 0; i < s->n_operators; i++) {
        const struct kvadmin_operator *o = &s->operators[i];
        out_table_row(t);
        out_table_cell(t, "%llu", (unsigned long long)o->id);
        out_table_cell(t, "%s", o->kind);
        out_table_cell(t, "g%llu", (unsigned long long)o->group);
        if (strcmp(o->state, "queued") == 0)
            out_table_cell(t, "waiting");
        else
            out_table_cell(t, "%s (%llu/%llu)", o->doing, (unsigned long long)o->step + 1,
                           (unsigned long long)o->steps);
        out_table_cell(t, "%s", o->from[0] ? o->from : "-");
        out_table_cell(t, "%s", o->to[0] ? o->to : "-");
        out_table_cell(t, "%s", out_size(o->moved, moved));
        out_table_cell(t, "%s", out_size(o->bytes, bytes));
        out_table_cell(t, "%s", admin_seconds(o->age_ms / 1000, age));
        out_table_cell(t, "%s", o->reason);
    }
    out_table_end(t);
}

static void status_text(const struct ctl *ctl, const struct kvadmin_status *s)
{
    unsigned up = 0, led = 0, heard = 0, away = 0;
    for (unsigned i = 0; i < s->n_nodes; i++) {
        const char *state = s->nodes[i].state;
        away += gone(&s->nodes[i]);
        up += strcmp(state, "up") == 0 || strcmp(state, "draining") == 0 ||
              strcmp(state, "maintenance") == 0;
    }
    for (unsigned i = 0; i < s->n_groups; i++)
        led += s->groups[i].leader != 0;
    for (unsigned i = 0; i < s->n_members; i++)
        heard += s->member[i].heard && s->member[i].heard_ms < 2000;
    bool ok = strcmp(s->health, "ok") == 0;
    bool bad = strcmp(s->health, "unavailable") == 0;
    printf("%s%s%s", out_color(ctl, ok ? 'g' : bad ? 'r' : 'y'), s->health, out_color_end(ctl));
    for (unsigned i = 0; i < s->n_reasons; i++)
        printf("%s%s", i ? ", " : ": ", s->reason[i]);
    printf("\n\ncluster     %s, map version %llu\n", s->cluster[0] ? s->cluster : "(not founded)",
           (unsigned long long)s->version);
    printf("placementd  %u of %u members heard, leader %u at %s\n", heard, s->n_members, s->leader,
           s->leader_addr[0] ? s->leader_addr : "(unknown)");
    printf("nodes       %u of %u up\n", up, s->n_nodes - away);
    printf("groups      %u of %u with a leader\n", led, s->n_groups);
    printf("operators   %u under way or waiting%s\n", s->n_operators,
           s->paused ? "; balancing is paused" : "");
    if (s->n_nodes) {
        putchar('\n');
        nodes_table(ctl, s);
    }
    if (s->n_groups) {
        putchar('\n');
        groups_table(ctl, s);
    }
    if (s->n_operators) {
        putchar('\n');
        operators_table(ctl, s);
    }
}

/* ---- commands ---- */

static int no_arguments(struct ctl *ctl, int argc, char **argv)
{
    const char *name = argv[0] + strlen(CTL_PROGRAM);
    return argc > 1 ? ctl_usage(ctl, name, "%s takes no arguments", name) : CTL_OK;
}

/* What the commands without arguments begin with. On CTL_OK: kvadmin_status_close(). */
static int status_for(struct ctl *ctl, int argc, char **argv, struct kvadmin_status *out)
{
    int code = no_arguments(ctl, argc, argv);
    return code == CTL_OK ? admin_status(ctl, out) : code;
}

int cmd_status(struct ctl *ctl, int argc, char **argv)
{
    struct kvadmin_status s;
    int code = status_for(ctl, argc, argv, &s);
    if (code != CTL_OK)
        return code;
    if (ctl->output == CTL_JSON)
        out_json(status_json(&s));
    else
        status_text(ctl, &s);
    code = strcmp(s.health, "ok") == 0 ? CTL_OK : CTL_NEGATIVE;
    kvadmin_status_close(&s);
    return code;
}

int cmd_nodes(struct ctl *ctl, int argc, char **argv)
{
    struct kvadmin_status s;
    int code = status_for(ctl, argc, argv, &s);
    if (code != CTL_OK)
        return code;
    if (ctl->output == CTL_JSON)
        out_json(json_pack("{s:o}", "nodes", nodes_json(&s)));
    else
        nodes_table(ctl, &s);
    kvadmin_status_close(&s);
    return CTL_OK;
}

int cmd_groups(struct ctl *ctl, int argc, char **argv)
{
    struct kvadmin_status s;
    int code = status_for(ctl, argc, argv, &s);
    if (code != CTL_OK)
        return code;
    if (ctl->output == CTL_JSON)
        out_json(json_pack("{s:o}", "groups", groups_json(&s)));
    else
        groups_table(ctl, &s);
    kvadmin_status_close(&s);
    return CTL_OK;
}

/* placementd's map leaves leaders to the nodes; its status knows them from their reports. */
static uint64_t find_leader(struct ctl *ctl, const struct shard_desc *d)
{
    struct kvadmin_status s;
    char msg[256];
    uint64_t leader = d->leader;
    if (leader || kvadmin_status(ctl->url, ctl->timeout_ms, &s, msg, sizeof(msg)) != KV_OK)
        return leader;
    for (unsigned i = 0; i < s.n_groups; i++)
        for (uint32_t k = 0; k < d->n_replicas && s.groups[i].id == d->group; k++)
            if (d->replica[k].node == s.groups[i].leader)
                leader = d->replica[k].replica;
    kvadmin_status_close(&s);
    return leader;
}

static void locate_json(const char *key, unsigned slot, const struct shard_map *m,
                        const struct shard_desc *d, uint64_t leader_id)
{
    json_t *o = json_object(), *replicas = json_array();
    json_t *leader = NULL;
    for (uint32_t i = 0; i < d->n_replicas; i++) {
        const struct shard_node *n = shard_map_find_node(m, d->replica[i].node);
        json_array_append_new(
            replicas, json_pack("{s:o,s:s,s:s,s:o}", "node", out_json_id(d->replica[i].node),
                                "name", n ? n->name : "", "address", n ? n->client_addr : "", "id",
                                out_json_id(d->replica[i].replica)));
        if (d->replica[i].replica == leader_id)
            leader = out_json_id(d->replica[i].node);
    }
    out_json_bytes(o, "key", key, strlen(key));
    json_object_set_new(o, "slot", json_integer(slot));
    json_object_set_new(o, "group", out_json_id(d->group));
    json_object_set_new(o, "leader", leader ? leader : json_null());
    json_object_set_new(o, "replicas", replicas);
    json_object_set_new(o, "map_version", out_json_id(m->version));
    out_json(o);
}

int cmd_locate(struct ctl *ctl, int argc, char **argv)
{
    struct shard_map m;
    char msg[512] = "";
    if (argc != 2)
        return ctl_usage(ctl, "locate", "locate wants one key");
    unsigned slot = kv_slot(kv_str(argv[1]));
    kv_err e = kvadmin_map(ctl->url, ctl->timeout_ms, &m, msg, sizeof(msg));
    if (e != KV_OK)
        return ctl_fail_kv(ctl, e, false, msg);
    const struct shard_desc *d = shard_map_find(&m, (uint16_t)slot);
    if (!d) {
        shard_map_close(&m);
        return ctl_fail_kv(ctl, KV_NOT_READY, false, "no group owns the key's slot");
    }
    uint64_t leader = find_leader(ctl, d);
    if (ctl->output == CTL_JSON) {
        locate_json(argv[1], slot, &m, d, leader);
    } else {
        printf("slot %u, group g%llu (slots %u-%u)\n", slot, (unsigned long long)d->group,
               d->first_slot, d->last_slot);
        for (uint32_t i = 0; i < d->n_replicas; i++) {
            const struct shard_node *n = shard_map_find_node(&m, d->replica[i].node);
            printf("  %-8s %s%s\n", n ? n->name : "?", n ? n->client_addr : "?",
                   d->replica[i].replica == leader ? "  leader" : "");
        }
    }
    shard_map_close(&m);
    return CTL_OK;
}

int cmd_cluster_init(struct ctl *ctl, int argc, char **argv)
{
    static const struct option options[] = {
        {"groups", required_argument, NULL, 'g'}, {"replicas", required_argument, NULL, 'r'}, {0}};
    unsigned long long groups = 8, replicas = 0; /* 0: as placementd is set */
    char msg[512] = "";
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == '?')
            return CTL_USAGE;
        unsigned long long n = 0;
        if (!ctl_parse_u64(optarg, &n) || n < 1 || n > (o == 'g' ? 16384 : 9))
            return ctl_usage(ctl, "cluster init", "'%s' is not a number that is possible", optarg);
        *(o == 'g' ? &groups : &replicas) = n;
    }
    if (optind < argc)
        return ctl_usage(ctl, "cluster init", "what is '%s'?", argv[optind]);
    kv_err e = kvadmin_init(ctl->url, ctl->timeout_ms, (unsigned)groups, (unsigned)replicas, msg,
                            sizeof(msg));
    if (e != KV_OK)
        return ctl_fail_kv(ctl, e, e == KV_TIMEOUT || e == KV_UNKNOWN_OUTCOME, msg);
    if (ctl->output == CTL_JSON && replicas == 0)
        out_json(json_pack("{s:I}", "groups", (json_int_t)groups));
    else if (ctl->output == CTL_JSON)
        out_json(
            json_pack("{s:I,s:I}", "groups", (json_int_t)groups, "replicas", (json_int_t)replicas));
    else if (replicas == 0)
        printf("laid out %llu groups\n", groups);
    else
        printf("laid out %llu groups of %llu replicas\n", groups, replicas);
    return CTL_OK;
}
