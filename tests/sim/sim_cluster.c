/* See sim_cluster.h. */
#include "tests/sim/sim_cluster.h"

#include <stdio.h>

#include "common/base/check.h"
#include "common/raft/group_set.h"
#include "shardd/engine_key.h"
#include "shardd/replica.h"
#include "tests/sim/nemesis.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_engine.h"
#include "tests/sim/sim_placement.h"
#include "tests/sim/violation.h"

typedef unsigned long long ull;

#define SEEN_MAX 1024u

struct seen {
    uint64_t group, index;
    struct group_conf conf;
};

static struct {
    const struct scenario *s;
    struct sim_cluster_ops ops;
    struct seen seen[SEEN_MAX]; /* by group: the newest configuration */
    unsigned n_seen;
    unsigned removals; /* nodes that may go for good */
} C;

void sim_cluster_init(const struct scenario *s, const struct sim_cluster_ops *ops)
{
    C.s = s;
    C.ops = *ops;
    C.removals = s->removals;
}

/* The newest state that a member has; a leader's if there is one. NULL: nobody has any. */
static const struct cluster *state(void)
{
    const struct cluster *best = NULL;
    bool best_leads = false;

    for (unsigned i = 1; i <= C.s->placements; i++) {
        bool leads = false;
        const struct cluster *c =
            sim_host_up(sim_host_find(i)) ? sim_placement_state(i, &leads) : NULL;
        if (!c || c->n_groups == 0)
            continue;
        if (!best || (leads && !best_leads) ||
            (leads == best_leads && c->map_version > best->map_version)) {
            best = c;
            best_leads = leads;
        }
    }
    return best;
}

/* ---- at random ---- */

static void name_of(unsigned i, char out[16])
{
    snprintf(out, 16, "s%u", C.s->placements + 1 + i);
}

static void random_node(char out[16])
{
    name_of((unsigned)sim_below(C.s->nodes), out);
}

static void name_node(const struct cluster *c, uint32_t id, char out[16])
{
    const struct cluster_node *n = cluster_find_node(c, id);

    snprintf(out, 16, "%.15s", n ? n->name : "?");
}

static uint64_t neighbour(const struct cluster *c, const struct shard_desc *d)
{
    for (uint32_t i = 0, from = (uint32_t)sim_below(c->n_groups); i < c->n_groups; i++) {
        const struct shard_desc *o = &c->groups[(from + i) % c->n_groups].desc;
        if (o->last_slot + 1 == d->first_slot || d->last_slot + 1 == o->first_slot)
            return o->group;
    }
    return d->group;
}

static void act_group(const struct cluster *c)
{
    static const char *const actions[] = {"split",        "split",          "merge",
                                          "merge",        "merge",          "merge",
                                          "move-replica", "move-replica",   "move-replica",
                                          "add-replica",  "remove-replica", "transfer-leader"};
    const struct shard_desc *d = &c->groups[sim_below(c->n_groups)].desc;
    struct sim_ask q = {.method = "admin.group", .group = d->group};

    q.action = actions[sim_below(sizeof actions / sizeof *actions)];
    if (strcmp(q.action, "split") == 0 && sim_chance(0.7))
        q.slot = d->first_slot + (uint32_t)sim_below(d->last_slot - d->first_slot + 2u);
    if (strcmp(q.action, "merge") == 0)
        q.into = neighbour(c, d);
    if (strcmp(q.action, "move-replica") == 0 || strcmp(q.action, "remove-replica") == 0)
        name_node(c, d->replica[sim_below(d->n_replicas)].node, q.from);
    if (strcmp(q.action, "transfer-leader") == 0)
        name_node(c, d->replica[sim_below(d->n_replicas)].node, q.to);
    else if ((strcmp(q.action, "move-replica") == 0 || strcmp(q.action, "add-replica") == 0) &&
             sim_chance(0.6))
        random_node(q.to);
    C.ops.ask(&q);
}

/* So many nodes take part that one may go for good. */
static bool may_remove(const struct cluster *c)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < c->n_nodes; i++)
        n += c->nodes[i].state == CLUSTER_NODE_IN;
    return n >= 4 && C.removals > 0;
}

static void act_node(const struct cluster *c)
{
    static const char *const actions[] = {"drain",   "drain",       "undrain",
                                          "undrain", "maintenance", "remove"};
    struct sim_ask q = {.method = "admin.node", .action = actions[sim_below(6)]};

    random_node(q.node);
    for (uint32_t i = 0; i < c->n_nodes && strcmp(q.action, "remove") == 0; i++)
        if (c->nodes[i].state == CLUSTER_NODE_DRAINING)
            name_node(c, c->nodes[i].id, q.node);
    if (strcmp(q.action, "remove") == 0 && !may_remove(c))
        return;
    if (strcmp(q.action, "maintenance") == 0) {
        q.has_for = true;
        q.for_ms = sim_chance(0.3) ? 0 : 500 + sim_below(3000);
    }
    C.ops.ask(&q);
}

static void act_rebalance(const struct sim_admin *a)
{
    static const char *const actions[] = {"plan", "apply", "pause", "resume", "resume", "cancel"};
    struct sim_ask q = {.method = "admin.rebalance", .action = actions[sim_below(6)]};

    if (strcmp(q.action, "apply") == 0) {
        snprintf(q.plan, sizeof q.plan, "%s", a->plan[0] ? a->plan : "none");
        struct sim_ask plan = {.method = "admin.rebalance", .action = "plan"};
        C.ops.ask(&plan);
    }
    C.ops.ask(&q);
}

static void act_operator(const struct cluster *c)
{
    struct sim_ask q = {.method = "admin.operator", .action = "cancel"};

    if (c->n_operators == 0 || sim_chance(0.1))
        q.all = true;
    else
        q.id = c->operators[sim_below(c->n_operators)].id;
    C.ops.ask(&q);
}

void sim_cluster_act(struct sim_admin *a)
{
    const struct cluster *c = state();
    uint64_t dice = sim_below(100);

    if (!c || a->n_asks > 4)
        return;
    if (dice < 60)
        act_group(c);
    else if (dice < 76)
        act_node(c);
    else if (dice < 88)
        act_rebalance(a);
    else
        act_operator(c);
}

void sim_cluster_merge(void)
{
    const struct cluster *c = state();

    if (!c)
        return;
    const struct shard_desc *d = &c->groups[sim_below(c->n_groups)].desc;
    struct sim_ask q = {.method = "admin.group", .action = "merge", .group = d->group};
    q.into = neighbour(c, d);
    C.ops.ask(&q);
}

void sim_cluster_settle(void)
{
    for (unsigned i = 0; i < C.s->nodes; i++) {
        struct sim_ask q = {.method = "admin.node", .action = "undrain", .patient = true};
        name_of(i, q.node);
        C.ops.ask(&q);
        q.action = "maintenance";
        q.has_for = true;
        C.ops.ask(&q);
    }
}

void sim_cluster_rest(void)
{
    struct sim_ask q = {.method = "admin.rebalance", .action = "pause", .patient = true};

    C.ops.ask(&q);
}

/* ---- what is watched while it runs ---- */

static struct seen *seen_of(uint64_t group)
{
    for (unsigned i = 0; i < C.n_seen; i++)
        if (C.seen[i].group == group)
            return &C.seen[i];
    CHECK(C.n_seen < SEEN_MAX);
    C.seen[C.n_seen++].group = group;
    return &C.seen[C.n_seen - 1];
}

void sim_cluster_watch(const struct replica *r)
{
    struct seen *s = seen_of(r->shard.group);

    if (r->applied.index > 0 && r->applied.conf_index > s->index) {
        s->index = r->applied.conf_index;
        s->conf = r->applied.conf;
    }
}

void sim_cluster_check(struct replica *r)
{
    const struct group_member *m =
        group_conf_find(&seen_of(r->shard.group)->conf, r->shard.replica);
    const struct cluster *c = r->doomed ? state() : NULL;

    if (c && m && m->role == GROUP_VOTER && cluster_find_group(c, r->shard.group))
        sim_violation("group %llu replica %llu is destroyed while it votes", (ull)r->shard.group,
                      (ull)r->shard.replica);
}

/* ---- judgement ---- */

/* The replica on the node of that id that the map means; NULL if its node is not up or has none. */
static const struct replica *find(uint32_t node, uint64_t group)
{
    for (unsigned i = C.s->placements + 1; i <= C.s->placements + C.s->nodes; i++) {
        struct sim_shardd *s = C.ops.shardd(i);
        if (s && s->node.core[0]->node_id == node)
            return core_find_replica(s->node.core[core_of_group(&s->node, group)], group);
    }
    return NULL;
}

static bool same_replicas(const struct shard_desc *a, const struct shard_desc *b)
{
    if (a->n_replicas != b->n_replicas)
        return false;
    for (uint32_t i = 0; i < a->n_replicas; i++) {
        bool there = false;
        for (uint32_t k = 0; k < b->n_replicas; k++)
            there = there || (a->replica[i].replica == b->replica[k].replica &&
                              a->replica[i].node == b->replica[k].node &&
                              a->replica[i].role == b->replica[k].role);
        if (!there)
            return false;
    }
    return true;
}

static bool is_empty(const struct replica *r, struct slice from, struct slice to)
{
    return sim_engine_hash(r->db, from, to, 0) == 0;
}

/* No data but of its own slots, no marks of changes, no mark of a copy. */
static void judge_data(const struct replica *r)
{
    struct engine_key_range owned, all;
    uint8_t name[32], end[33];

    engine_key_slots(0, LIMIT_SLOTS - 1, &all);
    engine_key_slots(r->shard.first_slot, r->shard.last_slot, &owned);
    if (!is_empty(r, engine_key_from(&all), engine_key_from(&owned)) ||
        !is_empty(r, engine_key_to(&owned), engine_key_to(&all)))
        sim_violation("group %llu replica %llu has data of slots that are not its own",
                      (ull)r->shard.group, (ull)r->shard.replica);
    if (!is_empty(r, slice_of("c", 1), engine_key_changes_end()))
        sim_violation("group %llu replica %llu: marks of a merge are left", (ull)r->shard.group,
                      (ull)r->shard.replica);
    struct slice key = engine_key_meta(name, ENGINE_META_MERGE);
    memcpy(end, key.p, key.n);
    end[key.n] = 0;
    if (!is_empty(r, key, slice_of(end, key.n + 1)))
        sim_violation("group %llu replica %llu: a merge's copy is left", (ull)r->shard.group,
                      (ull)r->shard.replica);
}

static void judge_replica(const struct shard_desc *d, const struct shard_replica *m)
{
    const struct replica *r = find(m->node, d->group);
    struct shard_desc own;

    if (!r || r->shard.replica != m->replica || r->state != REPLICA_RUNNING)
        sim_violation("group %llu: replica %llu does not run on node %u (%s)", (ull)d->group,
                      (ull)m->replica, m->node,
                      !r                               ? "it is not there"
                      : r->shard.replica != m->replica ? "another one is there"
                                                       : "not running");
    if (r->shard.first_slot != d->first_slot || r->shard.last_slot != d->last_slot ||
        r->shard.epoch.range != d->epoch.range || r->shard.epoch.members != d->epoch.members)
        sim_violation("group %llu: slots %u-%u epoch %u.%u in the map, %u-%u %u.%u in replica %llu",
                      (ull)d->group, d->first_slot, d->last_slot, d->epoch.range, d->epoch.members,
                      r->shard.first_slot, r->shard.last_slot, r->shard.epoch.range,
                      r->shard.epoch.members, (ull)m->replica);
    if (r->shard.phase != SHARD_PHASE_NONE)
        sim_violation("group %llu replica %llu is in phase %u in peace", (ull)d->group,
                      (ull)m->replica, r->shard.phase);
    replica_describe(r, &own);
    if (!same_replicas(d, &own))
        sim_violation("group %llu: the map has other replicas than replica %llu", (ull)d->group,
                      (ull)m->replica);
    judge_data(r);
}

static void judge_group(const struct cluster *c, const struct shard_desc *d)
{
    unsigned due = scenario_replicas(C.s);

    if (d->n_replicas != due)
        sim_violation("group %llu has %u replicas in peace", (ull)d->group, d->n_replicas);
    for (uint32_t i = 0; i < d->n_replicas; i++) {
        const struct cluster_node *n = cluster_find_node(c, d->replica[i].node);
        if (d->replica[i].role != GROUP_VOTER)
            sim_violation("group %llu replica %llu does not vote", (ull)d->group,
                          (ull)d->replica[i].replica);
        if (!n || n->state != CLUSTER_NODE_IN)
            sim_violation("group %llu replica %llu is on node %u, which takes no part",
                          (ull)d->group, (ull)d->replica[i].replica, d->replica[i].node);
        for (uint32_t k = 0; k < i; k++)
            if (strcmp(cluster_find_node(c, d->replica[k].node)->host, n->host) == 0)
                sim_violation("group %llu has two replicas on machine %s", (ull)d->group, n->host);
        judge_replica(d, &d->replica[i]);
    }
}

static void judge_slots(const struct cluster *c)
{
    static uint64_t owner[LIMIT_SLOTS];

    memset(owner, 0, sizeof owner);
    for (uint32_t i = 0; i < c->n_groups; i++) {
        const struct shard_desc *d = &c->groups[i].desc;
        for (unsigned s = d->first_slot; s <= d->last_slot; s++) {
            if (owner[s])
                sim_violation("slot %u is of group %llu and of group %llu in the map", s,
                              (ull)owner[s], (ull)d->group);
            owner[s] = d->group;
        }
    }
    for (unsigned s = 0; s < LIMIT_SLOTS; s++)
        if (!owner[s])
            sim_violation("slot %u is of no group in the map", s);
}

static struct {
    const struct cluster *c;
    unsigned host;
    uint32_t node;
} at;

static bool is_listed(uint64_t group)
{
    const struct cluster_group *g = cluster_find_group(at.c, group);

    for (uint32_t i = 0; g && i < g->desc.n_replicas; i++)
        if (g->desc.replica[i].node == at.node)
            return true;
    return false;
}

static void judge_name(void *arg, const char *name, bool is_dir)
{
    ull group = 0;

    (void)arg;
    if (!is_dir)
        return;
    if ((sscanf(name, "%llu", &group) != 1 || !is_listed(group)) && !nemesis_damaged(at.host))
        sim_violation("n%u: %s is left in its groups directory", at.host, name);
}

static void judge_log(void *arg, uint64_t group)
{
    (void)arg;
    if (!is_listed(group) && !nemesis_damaged(at.host))
        sim_violation("n%u: the log of group %llu, which is gone from there, holds the WAL",
                      at.host, (ull)group);
}

static void list_inside(void *arg)
{
    char path[64];

    (void)arg;
    snprintf(path, sizeof path, "/n%u/data/groups", at.host);
    (void)!fs_list(path, judge_name, NULL);
}

/* Damaged so that it does not know which replica it is: nobody dares to destroy it. */
static bool nameless(const struct replica *r)
{
    return r->state == REPLICA_BROKEN && r->shard.replica == 0 && nemesis_damaged(at.host);
}

static bool is_removed(const struct cluster *c, unsigned host)
{
    char name[16];
    bool removed = false;

    name_of(host - C.s->placements - 1, name);
    for (uint32_t i = 0; i < c->n_nodes; i++)
        if (strcmp(c->nodes[i].name, name) == 0) /* the last of that name counts */
            removed = c->nodes[i].state == CLUSTER_NODE_REMOVED;
    return removed;
}

static void judge_node(const struct cluster *c, unsigned host)
{
    struct sim_shardd *s = C.ops.shardd(host);

    if (is_removed(c, host))
        return; /* it is told so and ends, whenever it is started */
    if (!s && nemesis_refused(host))
        return; /* its data is damaged: it stays down until somebody wipes it */
    if (!s)
        sim_violation("n%u is down in peace", host);
    at.c = c;
    at.host = host;
    at.node = s->node.core[0]->node_id;
    for (unsigned k = 0; k < s->node.options.cores; k++) {
        const struct map *m = &s->node.core[k]->replicas;
        size_t it = 0;
        uint64_t group;
        group_set_each_log(s->node.core[k]->groups, judge_log, NULL);
        void *value;
        while (map_next(m, &it, &group, &value))
            if (!is_listed(group) && !nameless(value))
                sim_violation("n%u (node %u) has replica %llu of group %llu, which the map does "
                              "not list there",
                              host, at.node, (ull)((struct replica *)value)->shard.replica,
                              (ull)group);
    }
    sim_host_call(sim_host_find(host), list_inside, NULL);
}

/* For --verbose: what there is, before it is judged. */
static void show(const struct cluster *c)
{
    for (uint32_t i = 0; i < c->n_groups; i++) {
        const struct shard_desc *d = &c->groups[i].desc;
        sim_log("map: group %llu slots %u-%u epoch %u.%u", (ull)d->group, d->first_slot,
                d->last_slot, d->epoch.range, d->epoch.members);
        for (uint32_t k = 0; k < d->n_replicas; k++)
            sim_log("     replica %llu node %u role %u", (ull)d->replica[k].replica,
                    d->replica[k].node, d->replica[k].role);
    }
    for (unsigned h = C.s->placements + 1; h <= C.s->placements + C.s->nodes; h++) {
        const struct sim_shardd *s = C.ops.shardd(h);
        for (unsigned k = 0; s && k < s->node.options.cores; k++) {
            size_t it = 0;
            void *value;
            while (map_next(&s->node.core[k]->replicas, &it, NULL, &value)) {
                const struct replica *r = value;
                sim_log("n%u node %u core %u: group %llu replica %llu state %d %s slots %u-%u "
                        "epoch %u.%u phase %u applied %llu term %llu%s",
                        h, s->node.core[k]->node_id, k, (ull)r->shard.group, (ull)r->shard.replica,
                        (int)r->state, r->state == REPLICA_BROKEN ? r->broken : "",
                        r->shard.first_slot, r->shard.last_slot, r->shard.epoch.range,
                        r->shard.epoch.members, r->shard.phase, (ull)r->applied.index,
                        r->group ? (ull)group_term(r->group) : 0,
                        replica_is_leader(r) ? " leads" : "");
            }
        }
    }
}

void sim_cluster_judge(void)
{
    const struct cluster *c = state();

    if (!c)
        sim_violation("placementd has no state in peace");
    show(c);
    for (uint32_t i = 0; i < c->n_operators; i++) {
        const struct cluster_operator *o = &c->operators[i];
        sim_violation("operator %llu (kind %u of group %llu, step %u of %u: kind %u%s%s) is still "
                      "under way in peace",
                      (ull)o->id, o->kind, (ull)o->group, o->at, o->n_steps, o->step[o->at].kind,
                      o->queued ? ", queued" : "", o->cancelling ? ", cancelling" : "");
    }
    judge_slots(c);
    for (uint32_t i = 0; i < c->n_groups; i++)
        judge_group(c, &c->groups[i].desc);
    for (unsigned i = C.s->placements + 1; i <= C.s->placements + C.s->nodes; i++)
        judge_node(c, i);
}

unsigned sim_cluster_ended(unsigned kind, unsigned end)
{
    const struct cluster *c = state();
    unsigned n = 0;

    for (uint32_t i = 0; c && i < c->n_finished; i++) {
        uint8_t o = c->finished[i].outcome;
        unsigned as = o == ERR_OK              ? CLUSTER_END_DONE
                      : o == ERR_SHUTTING_DOWN ? CLUSTER_END_CANCELLED
                                               : CLUSTER_END_FAILED;
        n += c->finished[i].kind == kind && as == end;
    }
    return n;
}
