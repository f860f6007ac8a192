#include "placementd/heartbeat.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "placementd/cluster_index.h"
#include "placementd/operator.h"

/* Only a group as it was laid out starts from its list; later replicas join a running one. */
static bool is_initial(const struct cluster_group *g)
{
    return g->desc.epoch.range == 1 && g->desc.epoch.members == 1;
}

static void create_step(const struct cluster_group *g, uint32_t at, struct msg_step *out)
{
    *out = (struct msg_step){
        .kind = MSG_STEP_CREATE_REPLICA, .replica = g->desc.replica[at].replica, .shard = g->desc};
    out->join = !is_initial(g);
    out->campaign = is_initial(g) && at == 0;
}

static bool must_destroy(const struct cluster *c, const struct msg_group_status *s)
{
    const struct cluster_group *g = cluster_find_group(c, s->group);
    if (s->replica == 0)
        return false; /* broken, and does not know which one it is */
    if (!g)
        return cluster_group_is_gone(c, s->group);
    return cluster_replica_index(g, s->replica) < 0 && !shard_epoch_less(g->desc.epoch, s->epoch) &&
           !cluster_replica_is_coming(c, s->group, s->replica);
}

static void destroy_step(const struct cluster *c, const struct msg_group_status *s,
                         struct msg_step *out)
{
    const struct cluster_group *g = cluster_find_group(c, s->group);
    *out = (struct msg_step){.kind = MSG_STEP_DESTROY_REPLICA, .replica = s->replica};
    if (g)
        out->shard = g->desc;
    else
        out->shard.group = s->group;
}

static bool may_create(const struct liveness *l, const struct cluster_group *g, uint64_t now)
{
    const struct live_group *live = liveness_group(l, g->desc.group);
    return is_initial(g) || (live && now - live->first >= HEARTBEAT_JOIN_NS);
}

/* The order of `recover --lost`, until the group's next epoch shows that it was carried out. */
static uint32_t force_steps(const struct cluster *c, const struct msg_heartbeat *h,
                            struct msg_step *steps, uint32_t n)
{
    for (uint32_t i = 0; i < h->n_groups && n < HEARTBEAT_STEPS_MAX; i++) {
        const struct cluster_group *g = cluster_find_group(c, h->groups[i].group);
        if (g && g->force && g->force == h->groups[i].replica)
            steps[n++] =
                (struct msg_step){.kind = MSG_STEP_FORCE, .replica = g->force, .shard = g->desc};
    }
    return n;
}

static bool was_ordered(const struct msg_step *steps, uint32_t n, uint64_t group)
{
    for (uint32_t i = 0; i < n; i++)
        if (steps[i].shard.group == group)
            return true;
    return false;
}

static bool holds(const struct msg_heartbeat *h, uint64_t group)
{
    for (uint32_t i = 0; i < h->n_groups; i++)
        if (h->groups[i].group == group)
            return true;
    return false;
}

uint32_t heartbeat_steps(const struct cluster *c, const struct liveness *l,
                         const struct msg_heartbeat *h, uint64_t now, struct msg_step *steps)
{
    if (c->recovering)
        return 0; /* nothing is known well enough to order anything */
    uint32_t n = operator_orders(c, h, l, steps, HEARTBEAT_STEPS_MAX), n_groups;
    n = force_steps(c, h, steps, n);
    uint32_t ordered = n;
    for (uint32_t i = 0; i < h->n_groups && n < HEARTBEAT_STEPS_MAX; i++)
        if (must_destroy(c, &h->groups[i]) && !was_ordered(steps, ordered, h->groups[i].group))
            destroy_step(c, &h->groups[i], &steps[n++]);
    const uint32_t *at = cluster_groups_of(c, h->node, &n_groups);
    for (uint32_t i = 0; i < n_groups && n < HEARTBEAT_STEPS_MAX; i++) {
        const struct cluster_group *g = &c->groups[at[i]];
        for (uint32_t j = 0; j < g->desc.n_replicas && n < HEARTBEAT_STEPS_MAX; j++)
            if (g->desc.replica[j].node == h->node && !(g->created >> j & 1) &&
                may_create(l, g, now) && !holds(h, g->desc.group) &&
                !was_ordered(steps, ordered, g->desc.group))
                create_step(g, j, &steps[n++]);
    }
    return n;
}

/* The desc that a leader's report describes. */
static bool newer_desc(const struct cluster_group *g, const struct msg_group_status *s,
                       struct shard_desc *out)
{
    if (s->state != MSG_REPLICA_LEADER || s->n_members == 0 ||
        (g && !(shard_epoch_less(g->desc.epoch, s->epoch) || CLUSTER_TEST_ANY_EPOCH)))
        return false;
    *out = (struct shard_desc){.group = s->group,
                               .first_slot = s->first_slot,
                               .last_slot = s->last_slot,
                               .epoch = s->epoch,
                               .n_replicas = s->n_members};
    for (uint32_t i = 0; i < s->n_members; i++) {
        out->replica[i] =
            (struct shard_replica){s->member[i].replica, s->member[i].node, s->member[i].role};
        if (s->member[i].replica == 0 || s->member[i].node == 0)
            return false;
        for (uint32_t j = 0; j < i; j++)
            if (s->member[j].replica == s->member[i].replica ||
                s->member[j].node == s->member[i].node)
                return false;
    }
    return true;
}

static void tell_group(const struct cluster_group *g, const struct msg_group_status *s,
                       void (*propose)(void *arg, const struct cluster_command *cmd), void *arg)
{
    struct shard_desc d;
    struct cluster_command cmd = {.kind = CLUSTER_CMD_GROUP, .n_groups = 1, .groups = &d};
    if (newer_desc(g, s, &d))
        propose(arg, &cmd);
}

void heartbeat_commands(const struct cluster *c, const struct msg_heartbeat *h,
                        void (*propose)(void *arg, const struct cluster_command *cmd), void *arg)
{
    struct cluster_command created = {.kind = CLUSTER_CMD_CREATED};
    if (c->recovering)
        return; /* the map is made as a whole (recover_map.h) */
    for (uint32_t i = 0; i < h->n_groups; i++) {
        const struct msg_group_status *s = &h->groups[i];
        const struct cluster_group *g = cluster_find_group(c, s->group);
        int at = g ? cluster_replica_index(g, s->replica) : -1;
        if (!g && s->group >= c->unsure_from && s->group < c->unsure_to)
            tell_group(NULL, s, propose, arg);
        if (at < 0)
            continue;
        if (g->desc.replica[at].node == h->node && !(g->created >> at & 1)) {
            if (!created.created)
                created.created = mem_alloc(h->n_groups * sizeof(*created.created));
            created.created[created.n_created++] = (struct cluster_created){s->group, s->replica};
        }
        tell_group(g, s, propose, arg);
    }
    if (created.n_created)
        propose(arg, &created);
    free(created.created);
}
