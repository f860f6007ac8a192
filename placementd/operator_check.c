#include "placementd/operator_internal.h"

#include <stdio.h>

typedef unsigned long long ull;

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

/* Another replica of the group on the node where one is made: of an operator before, given up,
 * whose order to take it in came through late. A node has one at most. */
static bool is_taken(struct judge *j)
{
    const struct shard_desc *d = &j->g->desc;
    for (uint32_t i = 0; i < d->n_replicas; i++) {
        if (d->replica[i].node != j->step->node || d->replica[i].replica == j->step->replica)
            continue;
        operator_say(j->why, j->n, "node %u has replica %llu of the group", j->step->node,
                     (ull)d->replica[i].replica);
        return true;
    }
    return false;
}

static enum operator_verdict check_create(struct judge *j)
{
    if (is_taken(j))
        return OPERATOR_FAILED;
    const struct live_replica *r = liveness_replica(j->l, j->step->node, j->o->group);
    if (!r || r->replica != j->step->replica)
        return OPERATOR_WAIT;
    if (r->state != MSG_REPLICA_BROKEN)
        return OPERATOR_PROVEN;
    operator_say(j->why, j->n, "node %u could not make the replica", j->step->node);
    return OPERATOR_FAILED;
}

static enum operator_verdict check_promote(struct judge *j)
{
    if (operator_is_voter(j->g, j->step->replica))
        return OPERATOR_PROVEN;
    if (cluster_replica_index(j->g, j->step->replica) >= 0)
        return OPERATOR_WAIT;
    operator_say(j->why, j->n, "the new replica was removed from the group");
    return OPERATOR_FAILED;
}

static enum operator_verdict check_transfer(struct judge *j)
{
    uint64_t leader = liveness_leader(j->l, j->g), old = operator_leaving(j->o);
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
    /* Listed after all, by an order that was on its way when the operator turned back: the planner
     * removes such a standby by an operator of its own. */
    if (cluster_replica_index(j->g, j->step->replica) >= 0)
        return OPERATOR_PROVEN;
    /* Nor does what is too broken to know its number, and cannot be destroyed by it, hold anything
     * up: it serves nothing, and is destroyed should it ever come to know. */
    bool gone = !r || r->replica != j->step->replica;
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
            operator_say(j->why, j->n, "node %u is not done copying", t->node);
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
        if (cluster_replica_index(j->g, j->step->replica) >= 0)
            return OPERATOR_PROVEN;
        return is_taken(j) ? OPERATOR_FAILED : OPERATOR_WAIT;
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
    uint64_t moved = j->l->since;
    for (int i = 0; i < 2; i++) {
        const struct live_group *g = liveness_group(j->l, i ? j->o->peer : j->o->group);
        moved = g && g->moved > moved ? g->moved : moved;
    }
    bool frozen =
        j->step->kind == CLUSTER_STEP_MERGE_FREEZE || j->step->kind == CLUSTER_STEP_MERGE_OWN;
    /* A deadline further away than any is given: the wall clock was set back, or a leader with
     * another one has taken over. It must not keep a range frozen until the clock has come there.
     */
    uint64_t longest = frozen ? OPERATOR_FROZEN_MS : j->l->stall_ns / NS_PER_MS;
    bool past = j->wall_ms > j->o->deadline_ms || j->o->deadline_ms - j->wall_ms > longest;
    if (j->o->deadline_ms == 0 || !past)
        return false;
    /* While the source is frozen nobody serves its range: no waiting for a slow copy there. */
    return frozen || j->now - moved >= j->l->stall_ns;
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
    operator_say(j->why, j->n, "no progress at \"%s\"%s", operator_step_name(j->step->kind), cause);
    return OPERATOR_FAILED;
}

static enum operator_verdict judge_time(struct judge *j)
{
    uint8_t kind = j->step->kind;
    const struct cluster_node *n = cluster_find_node(j->c, j->step->node);
    if (j->o->cancelling)
        return OPERATOR_WAIT;
    if (operator_makes_replica(kind) && n && n->state != CLUSTER_NODE_IN) {
        operator_say(j->why, j->n, "node %s does not take part any more", n->name);
        return OPERATOR_FAILED;
    }
    if (!is_stalled(j))
        return OPERATOR_WAIT;
    if (operator_makes_replica(kind) || kind >= CLUSTER_STEP_MERGE_TARGET)
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
        operator_say(why, n, "group %llu is gone", (ull)(j.g ? o->peer : o->group));
        return OPERATOR_FAILED;
    }
    enum operator_verdict v = judge_step(&j);
    return v == OPERATOR_WAIT ? judge_time(&j) : v;
}
