#include "placementd/operator_internal.h"

#include <stdarg.h>
#include <stdio.h>

#include "common/base/check.h"
#include "common/raft/group.h"

typedef unsigned long long ull;

bool operator_makes_replica(uint8_t step)
{
    return step == CLUSTER_STEP_CREATE || step == CLUSTER_STEP_ADD_STANDBY ||
           step == CLUSTER_STEP_PROMOTE;
}

bool operator_is_voter(const struct cluster_group *g, uint64_t replica)
{
    int at = cluster_replica_index(g, replica);
    return at >= 0 && g->desc.replica[at].role == GROUP_VOTER;
}

uint64_t operator_leaving(const struct cluster_operator *o)
{
    for (uint32_t i = o->at; i < o->n_steps; i++)
        if (o->step[i].kind == CLUSTER_STEP_REMOVE)
            return o->step[i].replica;
    return 0;
}

void operator_say(char *why, size_t n, const char *fmt, ...)
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

bool operator_may_cancel(const struct cluster_operator *o)
{
    uint8_t step = o->step[o->at].kind;
    if (o->queued)
        return true;
    if (o->cancelling)
        return false;
    if (o->kind == CLUSTER_OP_MERGE)
        return step != CLUSTER_STEP_MERGE_OWN;
    return operator_makes_replica(step) || o->kind == CLUSTER_OP_TRANSFER_LEADER ||
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
        operator_say(m->why, m->n, "there is no node %u", to);
        return ERR_NOT_FOUND;
    }
    if (n->state != CLUSTER_NODE_IN) {
        operator_say(m->why, m->n, "node %s does not take part", n->name);
        return ERR_REFUSED;
    }
    if (replica_on(&m->g->desc, to)) {
        operator_say(m->why, m->n, "node %s has a replica of group %llu already", n->name,
                     (ull)m->g->desc.group);
        return ERR_REFUSED;
    }
    if (m->g->desc.n_replicas == LIMIT_GROUP_MEMBERS) {
        operator_say(m->why, m->n, "group %llu has %u replicas, the most that can be",
                     (ull)m->g->desc.group, m->g->desc.n_replicas);
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
    operator_say(m->why, m->n, "group %llu has no such replica", (ull)d->group);
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
    operator_say(m->why, m->n, "group %llu has no such replica that votes", (ull)d->group);
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
        operator_say(m->why, m->n, "it is the only replica of group %llu that votes",
                     (ull)m->g->desc.group);
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
        operator_say(m->why, m->n, "slot %u does not cut group %llu, which has slots %u to %u",
                     m->op->slot, (ull)d->group, d->first_slot, d->last_slot);
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
        operator_say(m->why, m->n, "there is no group %llu to merge with", (ull)m->op->into);
        return ERR_NOT_FOUND;
    }
    if (s->last_slot + 1u != t->first_slot && t->last_slot + 1u != s->first_slot) {
        operator_say(m->why, m->n, "groups %llu and %llu are not neighbours", (ull)s->group,
                     (ull)t->group);
        return ERR_REFUSED;
    }
    if (s->n_replicas != t->n_replicas || !only_voters(s) || !only_voters(t)) {
        operator_say(m->why, m->n, "groups %llu and %llu do not have the same number of replicas",
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
        operator_say(why, n, "there is no group %llu", (ull)op->group);
        return ERR_NOT_FOUND;
    }
    o.epoch = m.g->desc.epoch;
    snprintf(o.reason, sizeof(o.reason), "%s", op->why);
    operator_say(why, n, "unknown kind of operator");
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
