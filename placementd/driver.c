#include "placementd/driver.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/raft/group.h"
#include "placementd/cluster_index.h"
#include "placementd/operator.h"
#include "placementd/plan_view.h"

typedef unsigned long long ull;

#define AGAIN_NS (1 * NS_PER_S)      /* a proposal that came to nothing is made again */
#define PLAN_NS (1 * NS_PER_S)       /* between two rounds of a small cluster */
#define PLAN_GROUPS 4000u            /* a second more for each so many groups */
#define PLAN_LOST_NS (10 * NS_PER_S) /* a round whose commands were never applied */

/* The command in flight for an operator. */
struct driver_proposed {
    uint8_t kind, at;
    bool cancelling;
    uint64_t when;
};

void driver_init(struct driver *d, const struct driver_options *o)
{
    memset(d, 0, sizeof(*d));
    d->options = *o;
    map_init(&d->proposed);
}

void driver_close(struct driver *d)
{
    size_t it = 0;
    void *value;
    while (map_next(&d->proposed, &it, NULL, &value))
        free(value);
    map_close(&d->proposed);
}

void driver_reset(struct driver *d, uint64_t now)
{
    driver_close(d);
    map_init(&d->proposed);
    d->since = now;
    d->plan_at = now + PLAN_NS;
    d->plan_index = d->applied = d->last_index = 0;
}

void driver_applied(struct driver *d, uint64_t index)
{
    d->applied = index;
}

/* ---- proposing ---- */

static enum err propose(struct driver *d, const struct cluster_command *cmd, uint64_t *index,
                        uint64_t *term)
{
    enum err e = d->options.propose(d->options.arg, cmd, index, term);
    if (e == ERR_OK) {
        d->last_index = *index;
        d->last_term = *term;
        d->n_proposals++;
    } else {
        log_debug("proposal_refused", "kind=%u error=%s", cmd->kind, err_name(e));
    }
    return e;
}

/* Once for each change: the same command only after it has come to nothing for a while. */
static bool propose_for(struct driver *d, const struct driver_moment *m,
                        const struct cluster_operator *o, struct cluster_command *cmd)
{
    struct driver_proposed *p = map_find(&d->proposed, o->id);
    uint64_t index, term;
    if (p && p->kind == cmd->kind && p->at == o->at && p->cancelling == o->cancelling &&
        m->now - p->when < AGAIN_NS)
        return false;
    if (!p) {
        p = mem_zalloc(sizeof(*p));
        map_set(&d->proposed, o->id, p);
    }
    *p = (struct driver_proposed){cmd->kind, o->at, o->cancelling, m->now};
    cmd->op.id = o->id;
    cmd->op.at = o->at;
    cmd->op.cancelling = o->cancelling;
    cmd->now_ms = m->wall_ms;
    bool done = propose(d, cmd, &index, &term) == ERR_OK;
    if (!done)
        p->when = 0;
    return done;
}

static void forget_ended(struct driver *d, const struct cluster *c)
{
    size_t it = 0;
    uint64_t id;
    void *value;
    while (map_next(&d->proposed, &it, &id, &value))
        if (!cluster_find_operator(c, id)) {
            free(value);
            map_remove(&d->proposed, id);
        }
}

/* ---- steps ---- */

static uint64_t deadline(const struct driver *d, const struct driver_moment *m, uint8_t step)
{
    bool frozen = step == CLUSTER_STEP_MERGE_FREEZE || step == CLUSTER_STEP_MERGE_OWN;
    uint64_t ms = d->options.stall_ms;
    return m->wall_ms + (frozen && ms > OPERATOR_FROZEN_MS ? OPERATOR_FROZEN_MS : ms);
}

static void check(struct driver *d, const struct driver_moment *m, const struct cluster_operator *o)
{
    struct cluster_command cmd = {0};
    bool last = o->at + 1 == o->n_steps;
    enum operator_verdict v =
        operator_check(m->cluster, o, m->live, m->now, m->wall_ms, cmd.why, sizeof(cmd.why));
    if (v == OPERATOR_WAIT)
        return;
    if (v == OPERATOR_PROVEN) {
        cmd.kind = CLUSTER_CMD_OPERATOR_STEP;
        cmd.op.deadline_ms = last ? 0 : deadline(d, m, o->step[o->at + 1].kind);
    } else {
        cmd.kind = CLUSTER_CMD_OPERATOR_END;
        cmd.outcome = ERR_TIMEOUT;
    }
    if (!propose_for(d, m, o, &cmd))
        return;
    const char *step = operator_step_name(o->step[o->at].kind);
    if (v == OPERATOR_PROVEN)
        log_info("operator_step", "op=%llu kind=%s group=%llu done=%s last=%d", (ull)o->id,
                 operator_kind_name(o->kind), (ull)o->group, step, last);
    else
        log_warn("operator_given_up", "op=%llu kind=%s group=%llu step=%s text=\"%s\"", (ull)o->id,
                 operator_kind_name(o->kind), (ull)o->group, step, cmd.why);
}

uint32_t driver_report(struct driver *d, const struct driver_moment *m,
                       const struct msg_heartbeat *h)
{
    const struct cluster *c = m->cluster;
    uint32_t n;
    d->n_proposals = 0;
    if (c->n_operators == 0)
        return 0;
    const uint32_t *at = cluster_operators_at(c, h->node, &n);
    for (uint32_t i = 0; i < n; i++)
        check(d, m, &c->operators[at[i]]);
    for (uint32_t i = 0; i < h->n_groups; i++) {
        const struct cluster_operator *o = cluster_operator_of(c, h->groups[i].group);
        if (o && !o->queued)
            check(d, m, o);
    }
    return d->n_proposals;
}

/* ---- beginning ---- */

/* The first node where the operator's moves would be more than allowed; NULL: it fits. */
static const struct cluster_node *full_node(const struct driver *d, const struct cluster *c,
                                            const struct cluster_operator *o,
                                            const struct plan_flow *flow, struct plan_flow *mine)
{
    uint32_t max = d->options.plan.max_moves;
    memset(mine, 0, c->n_nodes * sizeof(*mine));
    plan_view_add_flow(c, o, mine);
    for (uint32_t i = 0; i < c->n_nodes; i++)
        if ((mine[i].in && flow[i].in >= max) || (mine[i].out && flow[i].out >= max))
            return &c->nodes[i];
    return NULL;
}

static bool enough_operators(const struct driver *d, const struct cluster *c)
{
    uint32_t running = 0;
    for (uint32_t i = 0; i < c->n_operators; i++)
        running += !c->operators[i].queued;
    return d->options.plan.max_operators && running >= d->options.plan.max_operators;
}

bool driver_may_begin(const struct driver *d, const struct cluster *c,
                      const struct cluster_operator *o, char *why, size_t n)
{
    struct plan_flow *flow = plan_view_flows(c, false);
    struct plan_flow *mine = mem_zalloc((c->n_nodes + 1u) * sizeof(*mine));
    const struct cluster_node *full = full_node(d, c, o, flow, mine);
    bool enough = enough_operators(d, c);
    if (full)
        snprintf(why, n, "%s, which has %u moves under way, the most at a time", full->name,
                 d->options.plan.max_moves);
    else if (enough)
        snprintf(why, n, "one of %u operators under way to end, the most at a time",
                 d->options.plan.max_operators);
    free(flow);
    free(mine);
    return !full && !enough;
}

static void begin_waiting(struct driver *d, const struct driver_moment *m)
{
    const struct cluster *c = m->cluster;
    struct plan_flow *flow = NULL, *mine = NULL;
    if (enough_operators(d, c))
        return;
    for (uint32_t i = 0; i < c->n_operators; i++) {
        const struct cluster_operator *o = &c->operators[i];
        if (!o->queued)
            continue;
        if (!flow) {
            flow = plan_view_flows(c, false);
            mine = mem_zalloc((c->n_nodes + 1u) * sizeof(*mine));
        }
        if (full_node(d, c, o, flow, mine))
            continue;
        struct cluster_command cmd = {.kind = CLUSTER_CMD_OPERATOR_START};
        cmd.op.deadline_ms = deadline(d, m, o->step[0].kind);
        if (propose_for(d, m, o, &cmd))
            log_info("operator_begins", "op=%llu kind=%s group=%llu", (ull)o->id,
                     operator_kind_name(o->kind), (ull)o->group);
        plan_view_add_flow(c, o, flow);
    }
    free(flow);
    free(mine);
}

/* ---- from outside ---- */

enum err driver_add(struct driver *d, const struct driver_moment *m, const struct plan_op *op,
                    uint8_t origin, uint64_t *index, uint64_t *term, char *why, size_t n)
{
    const struct cluster *c = m->cluster;
    struct cluster_command cmd = {.kind = CLUSTER_CMD_OPERATOR_ADD};
    char waits[128];
    enum err e = operator_make(c, op, m->wall_ms, origin, &cmd.op, why, n);
    if (e != ERR_OK)
        return e;
    const struct cluster_operator *other = cluster_operator_of(c, op->group);
    if (!other && cmd.op.peer)
        other = cluster_operator_of(c, cmd.op.peer);
    if (other) {
        snprintf(why, n, "group %llu has an operator under way: %llu", (ull)op->group,
                 (ull)other->id);
        return ERR_BUSY;
    }
    /* What is on its way into the state is not counted yet: then it waits until the next turn. */
    cmd.op.queued =
        d->last_index > d->applied || !driver_may_begin(d, c, &cmd.op, waits, sizeof(waits));
    if (!cmd.op.queued)
        cmd.op.deadline_ms = deadline(d, m, cmd.op.step[0].kind);
    e = propose(d, &cmd, index, term);
    if (e == ERR_OK)
        log_info("operator_proposed", "kind=%s group=%llu queued=%d reason=\"%s\"",
                 operator_kind_name(cmd.op.kind), (ull)op->group, cmd.op.queued, cmd.op.reason);
    return e;
}

enum err driver_cancel(struct driver *d, const struct driver_moment *m, uint64_t id,
                       uint64_t *index, uint64_t *term, char *why, size_t n)
{
    const struct cluster_operator *o = cluster_find_operator(m->cluster, id);
    struct cluster_command cmd = {.kind = CLUSTER_CMD_OPERATOR_END,
                                  .now_ms = m->wall_ms,
                                  .outcome = ERR_SHUTTING_DOWN,
                                  .why = "cancelled"};
    if (!o) {
        snprintf(why, n, "there is no operator %llu", (ull)id);
        return ERR_NOT_FOUND;
    }
    if (!operator_may_cancel(o)) {
        snprintf(why, n, "operator %llu is %s", (ull)id,
                 o->cancelling ? "being taken back already" : "too far: it goes on to its end");
        return ERR_REFUSED;
    }
    cmd.op.id = id;
    return propose(d, &cmd, index, term);
}

/* ---- the planner ---- */

bool driver_balances(const struct driver *d, const struct driver_moment *m, char *why, size_t n)
{
    const struct cluster *c = m->cluster;
    if (!d->options.plan.balance) {
        snprintf(why, n, "placement.auto-rebalance is off");
        return false;
    }
    if (c->paused) {
        snprintf(why, n, "balancing is paused");
        return false;
    }
    if (m->now - d->since >= d->options.down_after_ns)
        return true;
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        const struct cluster_node *node = &c->nodes[i];
        if ((node->state == CLUSTER_NODE_IN || node->state == CLUSTER_NODE_DRAINING) &&
            !liveness_node(m->live, node->id)) {
            snprintf(why, n, "node %s has not been heard since this leader came", node->name);
            return false;
        }
    }
    return true;
}

static void plan(struct driver *d, const struct driver_moment *m)
{
    struct plan_options o = d->options.plan;
    struct plan_picture picture;
    struct plan_list list;
    uint64_t index = 0, term;
    char why[160];
    o.balance = driver_balances(d, m, why, sizeof(why));
    plan_list_init(&list);
    plan_view_build(m->cluster, m->live, &o, d->options.down_after_ns, m->now, m->wall_ms,
                    &picture);
    plan_round(&picture.view, &list);
    plan_view_close(&picture);
    for (uint32_t i = 0; i < list.n; i++) {
        enum err e =
            driver_add(d, m, &list.op[i], CLUSTER_ORIGIN_PLANNER, &index, &term, why, sizeof(why));
        if (e != ERR_OK)
            log_debug("plan_refused", "kind=%s group=%llu error=%s text=\"%s\"",
                      operator_kind_name(list.op[i].kind), (ull)list.op[i].group, err_name(e), why);
    }
    plan_list_close(&list);
    d->plan_index = index;
    d->plan_at = m->now + PLAN_NS + m->cluster->n_groups / PLAN_GROUPS * NS_PER_S;
    d->rounds++;
}

uint32_t driver_turn(struct driver *d, const struct driver_moment *m)
{
    const struct cluster *c = m->cluster;
    d->n_proposals = 0;
    for (uint32_t i = 0; i < c->n_operators; i++)
        if (!c->operators[i].queued)
            check(d, m, &c->operators[i]);
    begin_waiting(d, m);
    forget_ended(d, c);
    bool in_flight = d->plan_index > d->applied && m->now < d->plan_at + PLAN_LOST_NS;
    if (c->n_groups && m->now >= d->plan_at && !in_flight)
        plan(d, m);
    return d->n_proposals;
}
