#include "placementd/heartbeat.h"

#include <stdlib.h>

#include "common/base/map.h"
#include "common/base/mem.h"

static void create_step(const struct cluster_group *g, uint32_t at, struct msg_step *out)
{
    *out = (struct msg_step){
        .kind = MSG_STEP_CREATE_REPLICA, .replica = g->desc.replica[at].replica, .shard = g->desc};
    /* Only a group as it was laid out starts from its list; later replicas join a running one. */
    bool initial = g->desc.epoch.members == 1;
    out->join = !initial;
    out->campaign = initial && at == 0;
}

static bool must_destroy(const struct cluster *c, const struct msg_group_status *s)
{
    const struct cluster_group *g = cluster_find_group(c, s->group);
    if (!g || cluster_replica_index(g, s->replica) >= 0 ||
        shard_epoch_less(g->desc.epoch, s->epoch))
        return false;
    /* An operator's new replica is on its node before the group lists it. */
    const struct cluster_operator *o = cluster_operator_of(c, s->group);
    for (uint32_t i = 0; o && i < o->n_steps; i++)
        if (o->step[i].replica == s->replica && i >= o->at)
            return false;
    return true;
}

uint32_t heartbeat_steps(const struct cluster *c, const struct msg_heartbeat *h,
                         struct msg_step *steps)
{
    struct map held;
    uint32_t n = 0;
    map_init(&held);
    for (uint32_t i = 0; i < h->n_groups; i++) {
        map_set(&held, h->groups[i].group, &h->groups[i]);
        if (n < HEARTBEAT_STEPS_MAX && must_destroy(c, &h->groups[i]))
            steps[n++] = (struct msg_step){
                .kind = MSG_STEP_DESTROY_REPLICA,
                .replica = h->groups[i].replica,
                .shard = cluster_find_group(c, h->groups[i].group)->desc,
            };
    }
    for (uint32_t i = 0; i < c->n_groups && n < HEARTBEAT_STEPS_MAX; i++) {
        const struct cluster_group *g = &c->groups[i];
        for (uint32_t j = 0; j < g->desc.n_replicas; j++)
            if (g->desc.replica[j].node == h->node && !(g->created & 1u << j) &&
                !map_find(&held, g->desc.group))
                create_step(g, j, &steps[n++]);
    }
    map_close(&held);
    return n;
}

/* The desc that a leader's report describes. */
static bool newer_desc(const struct cluster_group *g, const struct msg_group_status *s,
                       struct shard_desc *out)
{
    if (s->state != MSG_REPLICA_LEADER || s->n_members == 0 ||
        !shard_epoch_less(g->desc.epoch, s->epoch))
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

void heartbeat_commands(const struct cluster *c, const struct msg_heartbeat *h,
                        void (*propose)(void *arg, const struct cluster_command *cmd), void *arg)
{
    struct cluster_command created = {.kind = CLUSTER_CMD_CREATED};
    for (uint32_t i = 0; i < h->n_groups; i++) {
        const struct msg_group_status *s = &h->groups[i];
        const struct cluster_group *g = cluster_find_group(c, s->group);
        int at = g ? cluster_replica_index(g, s->replica) : -1;
        if (at < 0)
            continue;
        if (g->desc.replica[at].node == h->node && !(g->created & 1u << at)) {
            if (!created.created)
                created.created = mem_alloc(h->n_groups * sizeof(*created.created));
            created.created[created.n_created++] = (struct cluster_created){s->group, s->replica};
        }
        struct shard_desc d;
        if (newer_desc(g, s, &d)) {
            struct cluster_command cmd = {.kind = CLUSTER_CMD_GROUP, .n_groups = 1, .groups = &d};
            propose(arg, &cmd);
        }
    }
    if (created.n_created)
        propose(arg, &created);
    free(created.created);
}
