#include "placementd/operator.h"

#include <stdarg.h>
#include <stdio.h>

#include "common/base/check.h"
#include "common/raft/group.h"
#include "placementd/cluster_index.h"

typedef unsigned long long ull;

__attribute__((format(printf, 3, 4))) static void say(char *why, size_t n, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, n, fmt, args);
    va_end(args);
}

const char *operator_kind_name(uint8_t kind)
{
    static const char *const names[] = {
        "?",           "move",           "replace", "transfer-leader",
        "add-replica", "remove-replica", "split",   "merge"};
    return kind <= CLUSTER_OP_MERGE ? names[kind] : names[0];
}

const char *operator_step_name(uint8_t kind)
{
    static const char *const names[] = {
        "?",     "create",  "add-standby", "catch-up",     "transfer-leader", "remove", "destroy",
        "split", "prepare", "copy",        "copy-changes", "hand-over",       "abort",  "unfreeze"};
    return kind <= CLUSTER_STEP_MERGE_UNFREEZE ? names[kind] : names[0];
}

static bool makes_replica(uint8_t step)
{
    return step == CLUSTER_STEP_CREATE || step == CLUSTER_STEP_ADD_STANDBY ||
           step == CLUSTER_STEP_PROMOTE;
}

bool operator_may_cancel(const struct cluster_operator *o)
{
    uint8_t step = o->step[o->at].kind;
    if (o->queued)
        return true;
    if (o->cancelling)
        return false;
    if (o->kind == CLUSTER_OP_MERGE)
        return step != CLUSTER_STEP_MERGE_OWN;
    return makes_replica(step) || o->kind == CLUSTER_OP_TRANSFER_LEADER ||
           (o->kind == CLUSTER_OP_REMOVE_REPLICA && step == CLUSTER_STEP_TRANSFER_LEADER);
}

/* ---- making ---- */

struct maker {
    const struct cluster *c;
    const struct plan_op *op;
    const struct cluster_group *g;
    struct cluster_operator *out;
    char *why;
    size_t n;
};

static void step(struct maker *m, uint8_t kind, uint32_t node, uint64_t replica)
{
    CHECK(m->out->n_steps < CLUSTER_STEPS_MAX);
    m->out->step[m->out->n_steps++] = (struct cluster_step){kind, node, replica};
}

static const struct shard_replica *replica_on(const struct shard_desc *d, uint32_t node)
{
    for (uint32_t i = 0; i < d->n_replicas; i++)
        if (d->replica[i].node == node)
            return &d->replica[i];
    return NULL;
}

/* Replica ids 0: drawn at apply, one a node. */
static enum err make_replica(struct maker *m, uint32_t to)
{
    const struct cluster_node *n = cluster_find_node(m->c, to);
    if (!n) {
        say(m->why, m->n, "there is no node %u", to);
        return ERR_NOT_FOUND;
    }
    if (n->state != CLUSTER_NODE_IN) {
        say(m->why, m->n, "node %s does not take part", n->name);
        return ERR_REFUSED;
    }
    if (replica_on(&m->g->desc, to)) {
        say(m->why, m->n, "node %s has a replica of group %llu already", n->name,
            (ull)m->g->desc.group);
        return ERR_REFUSED;
    }
    if (m->g->desc.n_replicas == LIMIT_GROUP_MEMBERS) {
        say(m->why, m->n, "group %llu has %u replicas, the most that can be", (ull)m->g->desc.group,
            m->g->desc.n_replicas);
        return ERR_REFUSED;
    }
    step(m, CLUSTER_STEP_CREATE, to, 0);
    step(m, CLUSTER_STEP_ADD_STANDBY, to, 0);
    step(m, CLUSTER_STEP_PROMOTE, to, 0);
    return ERR_OK;
}

/* The replica that goes: by id, or by its node. */
static const struct shard_replica *leaving(struct maker *m)
{
    const struct shard_desc *d = &m->g->desc;
    for (uint32_t i = 0; i < d->n_replicas; i++)
        if (m->op->replica ? d->replica[i].replica == m->op->replica
                           : d->replica[i].node == m->op->from)
            return &d->replica[i];
    say(m->why, m->n, "group %llu has no such replica", (ull)d->group);
    return NULL;
}

static enum err make_move(struct maker *m, bool dead)
{
    const struct shard_replica *old = leaving(m);
    if (!old)
        return ERR_NOT_FOUND;
    enum err e = make_replica(m, m->op->to);
    if (e != ERR_OK)
        return e;
    if (!dead)
        step(m, CLUSTER_STEP_TRANSFER_LEADER, 0, 0);
    step(m, CLUSTER_STEP_REMOVE, old->node, old->replica);
    if (!dead)
        step(m, CLUSTER_STEP_DESTROY, old->node, old->replica);
    return ERR_OK;
}

static enum err make_transfer(struct maker *m)
{
    const struct shard_desc *d = &m->g->desc;
    for (uint32_t i = 0; i < d->n_replicas; i++) {
        const struct shard_replica *r = &d->replica[i];
        if (m->op->replica ? r->replica != m->op->replica : r->node != m->op->to)
            continue;
        if (r->role != GROUP_VOTER)
            break;
        step(m, CLUSTER_STEP_TRANSFER_LEADER, 0, r->replica);
        return ERR_OK;
    }
    say(m->why, m->n, "group %llu has no such replica that votes", (ull)d->group);
    return ERR_NOT_FOUND;
}

static enum err make_remove(struct maker *m)
{
    const struct shard_replica *old = leaving(m);
    unsigned voters = 0;
    if (!old)
        return ERR_NOT_FOUND;
    for (uint32_t i = 0; i < m->g->desc.n_replicas; i++)
        voters += m->g->desc.replica[i].role == GROUP_VOTER;
    if (old->role == GROUP_VOTER && voters == 1) {
        say(m->why, m->n, "it is the only replica of group %llu that votes", (ull)m->g->desc.group);
        return ERR_REFUSED;
    }
    if (old->role == GROUP_VOTER)
        step(m, CLUSTER_STEP_TRANSFER_LEADER, 0, 0);
    step(m, CLUSTER_STEP_REMOVE, old->node, old->replica);
    step(m, CLUSTER_STEP_DESTROY, old->node, old->replica);
    return ERR_OK;
}

static enum err make_split(struct maker *m)
{
    const struct shard_desc *d = &m->g->desc;
    if (m->op->slot <= d->first_slot || m->op->slot > d->last_slot) {
        say(m->why, m->n, "slot %u does not cut group %llu, which has slots %u to %u", m->op->slot,
            (ull)d->group, d->first_slot, d->last_slot);
        return ERR_REFUSED;
    }
    m->out->slot = m->op->slot;
    step(m, CLUSTER_STEP_SPLIT, 0, 0);
    return ERR_OK;
}

static bool only_voters(const struct shard_desc *d)
{
    for (uint32_t i = 0; i < d->n_replicas; i++)
        if (d->replica[i].role != GROUP_VOTER)
            return false;
    return true;
}

/* First the source's replicas go where the target's are. */
static enum err make_merge(struct maker *m)
{
    const struct cluster_group *target = cluster_find_group(m->c, m->op->into);
    const struct shard_desc *s = &m->g->desc, *t = target ? &target->desc : NULL;
    uint32_t to = 0;
    if (!t || t->group == s->group) {
        say(m->why, m->n, "there is no group %llu to merge with", (ull)m->op->into);
        return ERR_NOT_FOUND;
    }
    if (s->last_slot + 1u != t->first_slot && t->last_slot + 1u != s->first_slot) {
        say(m->why, m->n, "groups %llu and %llu are not neighbours", (ull)s->group, (ull)t->group);
        return ERR_REFUSED;
    }
    if (s->n_replicas != t->n_replicas || !only_voters(s) || !only_voters(t)) {
        say(m->why, m->n, "groups %llu and %llu do not have the same number of replicas",
            (ull)s->group, (ull)t->group);
        return ERR_REFUSED;
    }
    m->out->peer = t->group;
    for (uint32_t i = 0; i < s->n_replicas; i++) {
        const struct shard_replica *old = &s->replica[i];
        if (replica_on(t, old->node))
            continue;
        while (replica_on(s, t->replica[to].node))
            to++;
        enum err e = make_replica(m, t->replica[to++].node);
        if (e != ERR_OK)
            return e;
        step(m, CLUSTER_STEP_REMOVE, old->node, old->replica);
        step(m, CLUSTER_STEP_DESTROY, old->node, old->replica);
    }
    for (uint8_t kind = CLUSTER_STEP_MERGE_TARGET; kind <= CLUSTER_STEP_MERGE_OWN; kind++)
        step(m, kind, 0, 0);
    return ERR_OK;
}

enum err operator_make(const struct cluster *c, const struct plan_op *op, uint64_t now_wall_ms,
                       uint8_t origin, struct cluster_operator *out, char *why, size_t n)
{
    struct cluster_operator o = {.id = 1,
                                 .kind = op->kind,
                                 .origin = origin,
                                 .group = op->group,
                                 .created_ms = now_wall_ms,
                                 .bytes = op->bytes};
    struct maker m = {c, op, cluster_find_group(c, op->group), &o, why, n};
    enum err e = ERR_BAD_REQUEST;
    if (!m.g) {
        say(why, n, "there is no group %llu", (ull)op->group);
        return ERR_NOT_FOUND;
    }
    o.epoch = m.g->desc.epoch;
    snprintf(o.reason, sizeof(o.reason), "%s", op->why);
    say(why, n, "unknown kind of operator");
    switch (op->kind) {
    case PLAN_MOVE:
    case PLAN_REPLACE:
        e = make_move(&m, op->kind == PLAN_REPLACE);
        break;
    case PLAN_TRANSFER:
        e = make_transfer(&m);
        break;
    case PLAN_ADD:
        e = make_replica(&m, op->to);
        break;
    case PLAN_REMOVE:
        e = make_remove(&m);
        break;
    case PLAN_SPLIT:
        e = make_split(&m);
        break;
    case PLAN_MERGE:
        e = make_merge(&m);
        break;
    }
    if (e == ERR_OK)
        *out = o;
    return e;
}

/* ---- judging ---- */

struct judge {
    const struct cluster *c;
    const struct cluster_operator *o;
    const struct cluster_step *step;
    const struct cluster_group *g, *peer; /* NULL: gone, or (peer) none */
    const struct liveness *l;
    uint64_t now, wall_ms;
    char *why;
    size_t n;
};

static bool node_is_out(const struct judge *j, uint32_t node)
{
    const struct cluster_node *n = cluster_find_node(j->c, node);
    return !n || n->state == CLUSTER_NODE_LOST || n->state == CLUSTER_NODE_REMOVED;
}

static bool is_voter(const struct cluster_group *g, uint64_t replica)
{
    int at = cluster_replica_index(g, replica);
    return at >= 0 && g->desc.replica[at].role == GROUP_VOTER;
}

static enum operator_verdict check_create(struct judge *j)
{
    const struct live_replica *r = liveness_replica(j->l, j->step->node, j->o->group);
    if (!r || r->replica != j->step->replica)
        return OPERATOR_WAIT;
    if (r->state != MSG_REPLICA_BROKEN)
        return OPERATOR_PROVEN;
    say(j->why, j->n, "node %u could not make the replica", j->step->node);
    return OPERATOR_FAILED;
}

static enum operator_verdict check_promote(struct judge *j)
{
    if (is_voter(j->g, j->step->replica))
        return OPERATOR_PROVEN;
    if (cluster_replica_index(j->g, j->step->replica) >= 0)
        return OPERATOR_WAIT;
    say(j->why, j->n, "the new replica was removed from the group");
    return OPERATOR_FAILED;
}

/* The replica that the operator is about to remove; 0: none. */
static uint64_t replica_leaving(const struct cluster_operator *o)
{
    for (uint32_t i = o->at; i < o->n_steps; i++)
        if (o->step[i].kind == CLUSTER_STEP_REMOVE)
            return o->step[i].replica;
    return 0;
}

static enum operator_verdict check_transfer(struct judge *j)
{
    uint64_t leader = liveness_leader(j->l, j->g), old = replica_leaving(j->o);
    if (j->o->kind == CLUSTER_OP_TRANSFER_LEADER)
        return leader == j->step->replica ? OPERATOR_PROVEN : OPERATOR_WAIT;
    return leader && leader != old ? OPERATOR_PROVEN : OPERATOR_WAIT;
}

/* An absent replica that was never there proves as much as one that is gone: what turns up later is
 * not listed and destroyed for that (heartbeat.h). */
static enum operator_verdict check_destroy(struct judge *j)
{
    const struct live_replica *r = liveness_replica(j->l, j->step->node, j->o->group);
    enum liveness_state live = liveness_state(j->l, j->step->node, j->now);
    if (node_is_out(j, j->step->node) || live == LIVE_DOWN)
        return OPERATOR_PROVEN;
    /* Listed after all, by an order that was on its way when the operator turned back: the driver
     * removes such a standby by an operator of its own. */
    if (cluster_replica_index(j->g, j->step->replica) >= 0)
        return OPERATOR_PROVEN;
    bool gone = !r || (r->replica && r->replica != j->step->replica);
    return live == LIVE_UP && gone ? OPERATOR_PROVEN : OPERATOR_WAIT;
}

static enum operator_verdict check_split(struct judge *j)
{
    const struct cluster_group *child = cluster_find_group(j->c, j->o->child);
    if (!child)
        return OPERATOR_WAIT;
    bool late = j->o->deadline_ms && j->wall_ms > j->o->deadline_ms;
    return late || liveness_leader(j->l, child) ? OPERATOR_PROVEN : OPERATOR_WAIT;
}

static bool in_phase(const struct judge *j, uint64_t group, uint8_t phase)
{
    const struct live_group *g = liveness_group(j->l, group);
    return g && g->merge == j->o->id && g->phase == phase;
}

/* All replicas of the target have copied so far, and none of their nodes is away. */
static bool all_copied(struct judge *j, uint8_t copy)
{
    for (uint32_t i = 0; i < j->peer->desc.n_replicas; i++) {
        const struct shard_replica *t = &j->peer->desc.replica[i];
        const struct live_replica *r = liveness_replica(j->l, t->node, j->o->peer);
        if (!r || r->replica != t->replica || r->merge != j->o->id || r->copy < copy ||
            r->state == MSG_REPLICA_BROKEN || liveness_state(j->l, t->node, j->now) != LIVE_UP) {
            say(j->why, j->n, "node %u is not done copying", t->node);
            return false;
        }
    }
    return true;
}

/* The range as the target's leader has it applied is not that of the map plus the source's. */
static bool owns_source(const struct judge *j)
{
    const struct live_group *t = liveness_group(j->l, j->o->peer);
    return t && t->first_slot <= j->g->desc.first_slot && t->last_slot >= j->g->desc.last_slot;
}

static enum operator_verdict check_merge(struct judge *j)
{
    uint64_t source = j->o->group, target = j->o->peer;
    const struct live_group *s = liveness_group(j->l, source);
    bool proven = false;
    switch (j->step->kind) {
    case CLUSTER_STEP_MERGE_TARGET:
        proven = in_phase(j, target, SHARD_PHASE_TARGET);
        break;
    case CLUSTER_STEP_MERGE_INTENT:
        proven = in_phase(j, source, SHARD_PHASE_SOURCE) && all_copied(j, MSG_COPY_BULK);
        break;
    case CLUSTER_STEP_MERGE_FREEZE:
        proven = in_phase(j, source, SHARD_PHASE_FROZEN) && all_copied(j, MSG_COPY_COMPLETE) &&
                 !shard_epoch_less(j->g->desc.epoch, s->epoch);
        break;
    case CLUSTER_STEP_MERGE_ABORT:
        proven = in_phase(j, target, SHARD_PHASE_NONE) && !owns_source(j);
        break;
    case CLUSTER_STEP_MERGE_UNFREEZE:
        proven = in_phase(j, source, SHARD_PHASE_NONE);
        break;
    default:
        break; /* OWN: the map shows it, see judge_step() */
    }
    return proven ? OPERATOR_PROVEN : OPERATOR_WAIT;
}

static enum operator_verdict judge_step(struct judge *j)
{
    switch (j->step->kind) {
    case CLUSTER_STEP_CREATE:
        return check_create(j);
    case CLUSTER_STEP_ADD_STANDBY:
        return cluster_replica_index(j->g, j->step->replica) >= 0 ? OPERATOR_PROVEN : OPERATOR_WAIT;
    case CLUSTER_STEP_PROMOTE:
        return check_promote(j);
    case CLUSTER_STEP_TRANSFER_LEADER:
        return check_transfer(j);
    case CLUSTER_STEP_REMOVE:
        return cluster_replica_index(j->g, j->step->replica) < 0 ? OPERATOR_PROVEN : OPERATOR_WAIT;
    case CLUSTER_STEP_DESTROY:
        return check_destroy(j);
    case CLUSTER_STEP_SPLIT:
        return check_split(j);
    default:
        return check_merge(j);
    }
}

/* Nothing gets on: neither this step nor the copying that it waits for. */
static bool is_stalled(const struct judge *j)
{
    const struct live_group *g = liveness_group(j->l, j->o->peer ? j->o->peer : j->o->group);
    uint64_t moved = g && g->moved > j->l->since ? g->moved : j->l->since;
    if (j->o->deadline_ms == 0 || j->wall_ms <= j->o->deadline_ms)
        return false;
    /* While the source is frozen nobody serves its range: no waiting for a slow copy there. */
    return j->step->kind == CLUSTER_STEP_MERGE_FREEZE || j->step->kind == CLUSTER_STEP_MERGE_OWN ||
           j->now - moved >= j->l->stall_ns;
}

static enum operator_verdict give_up(struct judge *j)
{
    const struct live_group *g = liveness_group(j->l, j->o->group);
    char cause[64] = "";
    if (g && g->refused_op == j->o->id && g->refused_err)
        snprintf(cause, sizeof(cause), ": its leader says %s", err_name((enum err)g->refused_err));
    else if (j->step->node && liveness_state(j->l, j->step->node, j->now) != LIVE_UP)
        snprintf(cause, sizeof(cause), ": node %u is not heard", j->step->node);
    else if (liveness_leader(j->l, j->g) == 0)
        snprintf(cause, sizeof(cause), ": the group has no known leader");
    say(j->why, j->n, "no progress at \"%s\"%s", operator_step_name(j->step->kind), cause);
    return OPERATOR_FAILED;
}

static enum operator_verdict judge_time(struct judge *j)
{
    uint8_t kind = j->step->kind;
    const struct cluster_node *n = cluster_find_node(j->c, j->step->node);
    if (j->o->cancelling)
        return OPERATOR_WAIT;
    if (makes_replica(kind) && n && n->state != CLUSTER_NODE_IN) {
        say(j->why, j->n, "node %s does not take part any more", n->name);
        return OPERATOR_FAILED;
    }
    if (!is_stalled(j))
        return OPERATOR_WAIT;
    if (makes_replica(kind) || kind >= CLUSTER_STEP_MERGE_TARGET)
        return give_up(j);
    if (kind == CLUSTER_STEP_TRANSFER_LEADER)
        return j->o->kind == CLUSTER_OP_TRANSFER_LEADER ? give_up(j)
                                                        : OPERATOR_PROVEN; /* REMOVE does it too */
    return OPERATOR_WAIT; /* from here on the only way is forward */
}

enum operator_verdict operator_check(const struct cluster *c, const struct cluster_operator *o,
                                     const struct liveness *l, uint64_t now, uint64_t now_wall_ms,
                                     char *why, size_t n)
{
    struct judge j = {c,
                      o,
                      &o->step[o->at],
                      cluster_find_group(c, o->group),
                      o->peer ? cluster_find_group(c, o->peer) : NULL,
                      l,
                      now,
                      now_wall_ms,
                      why,
                      n};
    if (n)
        why[0] = 0;
    if (o->queued)
        return OPERATOR_WAIT;
    if (j.step->kind == CLUSTER_STEP_MERGE_OWN && !j.g && j.peer)
        return OPERATOR_PROVEN;
    if (!j.g || (o->peer && !j.peer)) {
        say(why, n, "group %llu is gone", (ull)(j.g ? o->peer : o->group));
        return OPERATOR_FAILED;
    }
    enum operator_verdict v = judge_step(&j);
    return v == OPERATOR_WAIT ? judge_time(&j) : v;
}

/* ---- orders ---- */

/* At another epoch a leader would refuse: its news come into the state first. */
static bool same_epoch(struct shard_epoch a, struct shard_epoch b)
{
    return a.range == b.range && a.members == b.members;
}

struct orders {
    const struct cluster *c;
    const struct msg_heartbeat *h;
    const struct liveness *l;
    struct msg_step *steps;
    uint32_t n, max;
};

static struct msg_step *order(struct orders *x, uint8_t kind, const struct cluster_operator *o,
                              const struct cluster_group *g)
{
    struct msg_step *s = &x->steps[x->n++];
    *s = (struct msg_step){
        .kind = kind, .op = o->id, .replica = o->step[o->at].replica, .shard = g->desc};
    return s;
}

static const struct msg_group_status *held(const struct msg_heartbeat *h, uint64_t group)
{
    for (uint32_t i = 0; i < h->n_groups; i++)
        if (h->groups[i].group == group)
            return &h->groups[i];
    return NULL;
}

/* Steps that go to a node whether it leads or not. */
static void order_node(struct orders *x, const struct cluster_operator *o)
{
    const struct cluster_step *step = &o->step[o->at];
    const struct cluster_group *g = cluster_find_group(x->c, o->group);
    const struct msg_group_status *s = held(x->h, o->group);
    if (!g)
        return;
    if (step->kind == CLUSTER_STEP_CREATE && !s)
        order(x, MSG_STEP_CREATE_REPLICA, o, g)->join = true;
    /* A replica that knows a newer epoch may be listed by it. */
    if (step->kind == CLUSTER_STEP_DESTROY && s && s->replica == step->replica &&
        cluster_replica_index(g, s->replica) < 0 && !shard_epoch_less(g->desc.epoch, s->epoch))
        order(x, MSG_STEP_DESTROY_REPLICA, o, g);
}

/* Who shall lead: the replica that takes the place of the one that leaves, else the voter on a node
 * that is up which has most of the log. */
static uint64_t next_leader(const struct orders *x, const struct cluster_operator *o,
                            const struct cluster_group *g, const struct msg_group_status *s)
{
    uint64_t old = replica_leaving(o), best = 0, best_match = 0;
    if (o->step[o->at].replica)
        return o->step[o->at].replica;
    for (uint32_t i = 0; i < o->at; i++)
        if (o->step[i].kind == CLUSTER_STEP_PROMOTE && is_voter(g, o->step[i].replica))
            best = o->step[i].replica;
    for (uint32_t i = 0; best == 0 && i < s->n_members; i++) {
        const struct msg_member_status *m = &s->member[i];
        if (m->replica != old && m->role == GROUP_VOTER && m->match >= best_match &&
            liveness_node(x->l, m->node)) {
            best = m->replica;
            best_match = m->match;
        }
    }
    return best;
}

static void order_members(struct orders *x, const struct cluster_operator *o,
                          const struct cluster_group *g, const struct msg_group_status *s)
{
    struct shard_desc child;
    switch (o->step[o->at].kind) {
    case CLUSTER_STEP_ADD_STANDBY:
        order(x, MSG_STEP_ADD_STANDBY, o, g)->node = o->step[o->at].node;
        break;
    case CLUSTER_STEP_PROMOTE:
        order(x, MSG_STEP_PROMOTE, o, g);
        break;
    case CLUSTER_STEP_REMOVE:
        order(x, MSG_STEP_REMOVE, o, g);
        break;
    case CLUSTER_STEP_TRANSFER_LEADER: {
        uint64_t to = next_leader(x, o, g, s);
        if (to && to != s->replica)
            order(x, MSG_STEP_TRANSFER, o, g)->replica = to;
        break;
    }
    case CLUSTER_STEP_SPLIT:
        if (cluster_split_child(x->c, o, &child))
            order(x, MSG_STEP_SPLIT, o, g)->other = child;
        break;
    }
}

/* A merge's steps go to the target's leader or to the source's. */
static void order_merge(struct orders *x, const struct cluster_operator *o,
                        const struct cluster_group *g, bool to_target)
{
    static const struct {
        uint8_t step, order;
        bool target;
    } rows[] = {
        {CLUSTER_STEP_MERGE_TARGET, MSG_STEP_MERGE_TARGET, true},
        {CLUSTER_STEP_MERGE_INTENT, MSG_STEP_MERGE_INTENT, false},
        {CLUSTER_STEP_MERGE_FREEZE, MSG_STEP_MERGE_FREEZE, false},
        {CLUSTER_STEP_MERGE_OWN, MSG_STEP_MERGE_OWN, true},
        {CLUSTER_STEP_MERGE_ABORT, MSG_STEP_MERGE_ABORT, true},
        {CLUSTER_STEP_MERGE_UNFREEZE, MSG_STEP_MERGE_UNFREEZE, false},
    };
    const struct cluster_group *other = cluster_find_group(x->c, to_target ? o->group : o->peer);
    for (uint32_t i = 0; other && i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].step == o->step[o->at].kind && rows[i].target == to_target)
            order(x, rows[i].order, o, g)->other = other->desc;
}

static bool is_named(const struct cluster_operator *o, uint32_t node)
{
    for (uint32_t i = o->at; i < o->n_steps; i++)
        if (o->step[i].node == node)
            return true;
    return false;
}

/* A node reports more often while it has orders, so whoever is needed soon gets one that asks for
 * nothing: to hand leadership to itself. */
static void keep_close(struct orders *x, const struct cluster_operator *o,
                       const struct cluster_group *g, const struct msg_group_status *s)
{
    if (s->state == MSG_REPLICA_LEADER || o->peer || is_named(o, x->h->node))
        order(x, MSG_STEP_TRANSFER, o, g)->replica = s->replica;
}

uint32_t operator_orders(const struct cluster *c, const struct msg_heartbeat *h,
                         const struct liveness *l, struct msg_step *steps, uint32_t max)
{
    struct orders x = {c, h, l, steps, 0, max};
    uint32_t n;
    if (c->n_operators == 0)
        return 0;
    const uint32_t *at = cluster_operators_at(c, h->node, &n);
    for (uint32_t i = 0; i < n && x.n < max; i++)
        order_node(&x, &c->operators[at[i]]);
    for (uint32_t i = 0; i < h->n_groups && x.n < max; i++) {
        const struct msg_group_status *s = &h->groups[i];
        const struct cluster_operator *o = cluster_operator_of(c, s->group);
        const struct cluster_group *g = o && !o->queued ? cluster_find_group(c, s->group) : NULL;
        uint32_t before = x.n;
        if (!g || cluster_replica_index(g, s->replica) < 0)
            continue;
        if (s->state == MSG_REPLICA_LEADER && same_epoch(s->epoch, g->desc.epoch)) {
            if (o->step[o->at].kind >= CLUSTER_STEP_MERGE_TARGET)
                order_merge(&x, o, g, o->peer == s->group);
            else if (o->group == s->group)
                order_members(&x, o, g, s);
        }
        if (x.n == before)
            keep_close(&x, o, g, s);
    }
    return x.n;
}
