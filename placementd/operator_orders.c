#include "placementd/operator_internal.h"

#include "common/raft/group.h"
#include "placementd/cluster_index.h"

#ifdef SHARDKV_TEST_HOOKS
bool operator_test_destroy_early;
#endif

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
    if (OPERATOR_TEST_DESTROY_EARLY && step->kind == CLUSTER_STEP_REMOVE && s &&
        s->replica == step->replica)
        order(x, MSG_STEP_DESTROY_REPLICA, o, g);
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
    uint64_t old = operator_leaving(o), best = 0, best_match = 0;
    if (o->step[o->at].replica)
        return o->step[o->at].replica;
    for (uint32_t i = 0; i < o->at; i++)
        if (o->step[i].kind == CLUSTER_STEP_PROMOTE && operator_is_voter(g, o->step[i].replica))
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
