#include "shardd/describe.h"

#include "shardd/merge.h"
#include "shardd/split.h"

static uint8_t state_of(const struct replica *r)
{
    switch (r->state) {
    case REPLICA_BROKEN:
        return MSG_REPLICA_BROKEN;
    case REPLICA_INSTALLING:
        return MSG_REPLICA_INSTALLING;
    case REPLICA_RUNNING:
        return (uint8_t)group_state_of(r->group);
    default:
        return MSG_REPLICA_FOLLOWER;
    }
}

/* What only a leader knows. */
static void describe_leader(const struct replica *r, struct msg_group_status *out)
{
    out->reads = load_reads(&r->ops);
    out->writes = load_writes(&r->ops);
    out->n_members = r->applied.conf.n;
    for (uint32_t i = 0; i < r->applied.conf.n; i++) {
        const struct group_member *m = &r->applied.conf.member[i];
        out->member[i] = (struct msg_member_status){
            m->replica, m->node, m->role,
            m->replica == r->shard.replica ? r->applied.index : group_match(r->group, m->replica)};
    }
}

void describe_replica(const struct replica *r, struct msg_group_status *out)
{
    struct shard_desc desc;
    replica_describe(r, &desc);
    *out = (struct msg_group_status){
        .group = r->shard.group,
        .replica = r->shard.replica,
        .state = state_of(r),
        .epoch = r->shard.epoch,
        .first_slot = r->shard.first_slot,
        .last_slot = r->shard.last_slot,
        .leader = desc.leader,
        .applied = r->applied.index,
        .bytes = r->state == REPLICA_INSTALLING ? replica_install_bytes(r)
                                                : r->stats.disk_bytes + r->stats.memtable_bytes,
        .keys = r->stats.keys,
        .phase = r->shard.phase,
        .copy = merge_copy_state(r),
        .merge = merge_operator(r),
        .child = split_pending(r),
        .refused_op = r->refused_op,
        .refused_err = r->refused_op ? (uint32_t)r->refused_err : 0,
    };
    const struct group_member *self = group_conf_find(&r->applied.conf, r->shard.replica);
    out->role = self ? self->role : GROUP_SPARE;
    if (r->state != REPLICA_RUNNING || !r->group)
        return;
    out->term = group_term(r->group);
    if (replica_is_leader(r))
        describe_leader(r, out);
}
