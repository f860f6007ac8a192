#include "placementd/operator_apply.h"

#include <stdio.h>

#include "placementd/cluster_index.h"

typedef unsigned long long ull;

static bool makes_replica(uint8_t step)
{
    return step == CLUSTER_STEP_CREATE || step == CLUSTER_STEP_ADD_STANDBY ||
           step == CLUSTER_STEP_PROMOTE;
}

static bool same_epoch(struct shard_epoch a, struct shard_epoch b)
{
    return a.range == b.range && a.members == b.members;
}

static void finish(struct cluster *c, const struct cluster_operator *o, uint8_t outcome,
                   const char *why, uint64_t now_ms)
{
    struct cluster_finished f = {
        .id = o->id, .group = o->group, .ended_ms = now_ms, .kind = o->kind, .outcome = outcome};
    memcpy(f.reason, o->reason, sizeof(f.reason));
    snprintf(f.why, sizeof(f.why), "%s", why);
    cluster_add_finished(c, &f);
    if (o->kind < sizeof(c->ended) / sizeof(c->ended[0]))
        c->ended[o->kind][outcome == ERR_OK              ? CLUSTER_END_DONE
                          : outcome == ERR_SHUTTING_DOWN ? CLUSTER_END_CANCELLED
                                                         : CLUSTER_END_FAILED]++;
    cluster_remove_operator(c, o->id);
}

/* ---- add ---- */

/* Whom it concerns is there, as it was when the operator was made, and free. */
static bool fits(const struct cluster *c, const struct cluster_operator *o,
                 struct cluster_result *out)
{
    const struct cluster_group *g = cluster_find_group(c, o->group);
    if (!g || (o->peer && !cluster_find_group(c, o->peer))) {
        cluster_refuse(out, ERR_NOT_FOUND, "there is no group %llu", (ull)(g ? o->peer : o->group));
        return false;
    }
    if (!same_epoch(g->desc.epoch, o->epoch)) {
        cluster_refuse(out, ERR_WRONG_EPOCH, "group %llu has changed meanwhile", (ull)o->group);
        return false;
    }
    for (uint32_t i = 0; i < o->n_steps; i++) {
        const struct cluster_step *s = &o->step[i];
        const struct cluster_node *n = cluster_find_node(c, s->node);
        if (s->kind == CLUSTER_STEP_CREATE && (!n || n->state != CLUSTER_NODE_IN)) {
            cluster_refuse(out, ERR_REFUSED, "node %u does not take part any more", s->node);
            return false;
        }
    }
    return true;
}

static bool is_free(const struct cluster *c, const struct cluster_operator *o,
                    struct cluster_result *out)
{
    uint32_t splits = 0;
    for (uint32_t i = 0; i < 2; i++) {
        uint64_t group = i ? o->peer : o->group;
        const struct cluster_operator *other = group ? cluster_operator_of(c, group) : NULL;
        if (other) {
            cluster_refuse(out, ERR_BUSY, "group %llu has an operator under way: %llu", (ull)group,
                           (ull)other->id);
            return false;
        }
    }
    if (c->n_operators == CLUSTER_OPERATORS_MAX) {
        cluster_refuse(out, ERR_BUSY, "%u operators are under way", c->n_operators);
        return false;
    }
    for (uint32_t i = 0; i < c->n_operators; i++)
        splits += c->operators[i].kind == CLUSTER_OP_SPLIT;
    if (o->kind == CLUSTER_OP_SPLIT && c->n_groups + splits >= CLUSTER_GROUPS_MAX) {
        cluster_refuse(out, ERR_REFUSED, "there are %u groups, the most that can be", c->n_groups);
        return false;
    }
    return true;
}

/* A step that makes a replica names it by its node until the id is drawn. */
static void draw_replicas(struct cluster *c, struct cluster_operator *o)
{
    for (uint32_t i = 0; i < o->n_steps; i++) {
        if (o->step[i].kind != CLUSTER_STEP_CREATE)
            continue;
        uint64_t id = c->next_replica++;
        for (uint32_t k = i; k < o->n_steps; k++)
            if (o->step[k].node == o->step[i].node && makes_replica(o->step[k].kind))
                o->step[k].replica = id;
    }
}

void operator_apply_add(struct cluster *c, const struct cluster_command *cmd,
                        struct cluster_result *out)
{
    struct cluster_operator new = cmd->op;
    struct shard_desc child;
    if (!fits(c, &new, out) || !is_free(c, &new, out))
        return;
    new.at = 0;
    new.cancelling = false;
    new.turned = 0;
    if (new.kind == CLUSTER_OP_SPLIT) {
        if (!cluster_split_child(c, &new, &child)) {
            cluster_refuse(out, ERR_REFUSED, "slot %u does not cut group %llu", new.slot,
                           (ull) new.group);
            return;
        }
        new.child = c->next_group++;
        /* One for every member that there may ever be: the list is that of the split's moment. */
        new.child_replica = c->next_replica;
        c->next_replica += LIMIT_GROUP_MEMBERS;
    }
    draw_replicas(c, &new);
    new.id = c->next_operator++;
    cluster_add_operator(c, &new);
    out->value = new.id;
}

/* ---- start, step ---- */

void operator_apply_start(struct cluster *c, const struct cluster_command *cmd,
                          struct cluster_result *out)
{
    struct cluster_operator *o = cluster_find_operator(c, cmd->op.id);
    if (!o || !o->queued)
        return;
    if (!fits(c, o, out)) {
        finish(c, o, (uint8_t)out->err, out->text, cmd->now_ms);
        return;
    }
    o->queued = false;
    o->deadline_ms = cmd->op.deadline_ms;
    cluster_index_operators_changed(c);
}

/* What the state itself can tell is not believed to the leader. */
static bool step_is_done(const struct cluster *c, const struct cluster_operator *o)
{
    switch (o->step[o->at].kind) {
    case CLUSTER_STEP_SPLIT:
        return cluster_find_group(c, o->child) != NULL;
    case CLUSTER_STEP_MERGE_OWN:
        return cluster_find_group(c, o->group) == NULL;
    default:
        return true;
    }
}

void operator_apply_step(struct cluster *c, const struct cluster_command *cmd,
                         struct cluster_result *out)
{
    struct cluster_operator *o = cluster_find_operator(c, cmd->op.id);
    (void)out;
    /* Steps are counted anew when an operator turns back. */
    if (!o || o->queued || o->at != cmd->op.at || o->cancelling != cmd->op.cancelling ||
        !step_is_done(c, o))
        return; /* proven already, or given up */
    if (o->at + 1 == o->n_steps) {
        finish(c, o, o->cancelling ? o->outcome : ERR_OK, o->cancelling ? o->why : "", cmd->now_ms);
        return;
    }
    o->at++;
    o->deadline_ms = cmd->op.deadline_ms;
    cluster_index_operators_changed(c);
}

/* ---- end ---- */

static void turn(struct cluster *c, struct cluster_operator *o, const struct cluster_command *cmd)
{
    o->cancelling = true;
    o->outcome = cmd->outcome;
    o->deadline_ms = 0;
    memcpy(o->why, cmd->why, sizeof(o->why));
    cluster_index_operators_changed(c);
}

static void turn_to(struct cluster *c, struct cluster_operator *o,
                    const struct cluster_command *cmd, const struct cluster_step *steps, uint8_t n)
{
    o->turned = o->step[o->at].kind;
    o->at = 0;
    o->n_steps = n;
    memcpy(o->step, steps, n * sizeof(*steps));
    turn(c, o, cmd);
}

/* The replica that the step under way makes leaves the group, if it may be in it, and goes. */
static void take_back_replica(struct cluster *c, struct cluster_operator *o,
                              const struct cluster_command *cmd)
{
    const struct cluster_step now = o->step[o->at];
    const struct cluster_step steps[] = {{CLUSTER_STEP_REMOVE, now.node, now.replica},
                                         {CLUSTER_STEP_DESTROY, now.node, now.replica}};
    if (now.kind == CLUSTER_STEP_CREATE)
        turn_to(c, o, cmd, steps + 1, 1);
    else
        turn_to(c, o, cmd, steps, 2);
}

static void turn_merge(struct cluster *c, struct cluster_operator *o,
                       const struct cluster_command *cmd)
{
    static const struct cluster_step back[] = {{.kind = CLUSTER_STEP_MERGE_ABORT},
                                               {.kind = CLUSTER_STEP_MERGE_UNFREEZE}};
    /* Before INTENT was ever ordered the source knows of nothing. */
    turn_to(c, o, cmd, back, o->step[o->at].kind == CLUSTER_STEP_MERGE_TARGET ? 1 : 2);
}

/* A merge in the midst of a move whose old replica is leaving: it stops after that move. */
static void stop_after_move(struct cluster *c, struct cluster_operator *o,
                            const struct cluster_command *cmd)
{
    uint8_t at = o->at;
    while (at + 1 < o->n_steps && o->step[at].kind != CLUSTER_STEP_DESTROY)
        at++;
    o->n_steps = (uint8_t)(at + 1);
    turn(c, o, cmd);
}

static void end_running(struct cluster *c, struct cluster_operator *o,
                        const struct cluster_command *cmd, struct cluster_result *out)
{
    uint8_t step = o->step[o->at].kind;
    bool merges = step >= CLUSTER_STEP_MERGE_TARGET;
    if (makes_replica(step))
        take_back_replica(c, o, cmd);
    else if (step == CLUSTER_STEP_SPLIT)
        cluster_refuse(out, ERR_BUSY, "operator %llu splits a group: it cannot be taken back",
                       (ull)o->id);
    else if (step == CLUSTER_STEP_MERGE_OWN && cmd->outcome == ERR_SHUTTING_DOWN)
        cluster_refuse(out, ERR_BUSY, "operator %llu is handing the range over: too late",
                       (ull)o->id);
    else if (merges)
        turn_merge(c, o, cmd);
    else if (o->kind == CLUSTER_OP_MERGE)
        stop_after_move(c, o, cmd);
    else if (step == CLUSTER_STEP_TRANSFER_LEADER &&
             (o->kind == CLUSTER_OP_TRANSFER_LEADER || o->kind == CLUSTER_OP_REMOVE_REPLICA))
        finish(c, o, cmd->outcome, cmd->why, cmd->now_ms);
    else
        cluster_refuse(out, ERR_BUSY, "operator %llu is nearly done: too late to take it back",
                       (ull)o->id);
}

void operator_apply_end(struct cluster *c, const struct cluster_command *cmd,
                        struct cluster_result *out)
{
    struct cluster_operator *o = cluster_find_operator(c, cmd->op.id);
    if (!o)
        return;
    bool gone = !cluster_find_group(c, o->group) || (o->peer && !cluster_find_group(c, o->peer));
    bool owned = gone && (o->step[o->at].kind == CLUSTER_STEP_MERGE_OWN ||
                          o->turned == CLUSTER_STEP_MERGE_OWN);
    if (owned)
        finish(c, o, ERR_OK, "", cmd->now_ms); /* the log had decided before */
    else if (o->queued || gone)
        finish(c, o, cmd->outcome, cmd->why, cmd->now_ms);
    else if (!o->cancelling)
        end_running(c, o, cmd, out);
}
