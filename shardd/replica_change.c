/* Changes of a replica's shard: proposed by its leader, applied by every replica. */
#include <stdlib.h>

#include "common/base/log.h"
#include "shardd/command.h"
#include "shardd/core.h"
#include "shardd/merge.h"
#include "shardd/shard_change.h"
#include "shardd/split.h"

typedef unsigned long long ull;

bool replica_change_unsettled(const struct replica *r)
{
    return r->change_index > r->applied.index && r->change_term == group_term(r->group);
}

uint64_t replica_time_ms(const struct replica *r)
{
    uint64_t now = io_wall_ms(r->core->io);
    return now > r->shard.time_ms ? now : r->shard.time_ms;
}

enum err replica_propose_clock(struct replica *r, uint64_t *index, uint64_t *term)
{
    if (!replica_is_leader(r))
        return ERR_NOT_LEADER;
    struct buf entry = {0};
    command_begin(&entry);
    command_finish(&entry, replica_time_ms(r), 0);
    enum err e = group_propose(r->group, buf_slice(&entry), index, term);
    buf_close(&entry);
    return e;
}

enum err replica_propose_change(struct replica *r, struct shard_change *c)
{
    if (!replica_is_leader(r))
        return ERR_NOT_LEADER;
    if (replica_change_unsettled(r))
        return ERR_BUSY;
    c->time_ms = replica_time_ms(r);
    c->epoch = r->shard.epoch;
    struct shard after = r->shard;
    enum err e = shard_change_apply(&after, c, r->applied.index + 1);
    if (e != ERR_OK)
        return e;
    struct buf entry = {0};
    uint64_t index, term;
    shard_change_encode(c, &entry);
    e = group_propose(r->group, buf_slice(&entry), &index, &term);
    buf_close(&entry);
    if (e == ERR_OK) {
        r->change_index = index;
        r->change_term = term;
    }
    return e;
}

enum err replica_apply_change(struct replica *r, const struct group_entry *entry)
{
    struct shard_change c;
    enum err e = shard_change_decode(entry->payload, &c);
    if (e != ERR_OK)
        return e;
    struct shard before = r->shard;
    enum err result = shard_change_apply(&r->shard, &c, entry->index);
    log_info("shard_change",
             "core=%u group=%llu kind=%s op=%llu index=%llu result=%s slots=%u-%u range=%u",
             r->core->number, (ull)r->shard.group, shard_change_name(c.kind), (ull)c.op,
             (ull)entry->index, err_name(result), r->shard.first_slot, r->shard.last_slot,
             r->shard.epoch.range);
    if (result == ERR_OK) {
        router_moved(&r->core->router, r, before.first_slot, before.last_slot);
        if (c.kind == SHARD_SPLIT)
            split_applied(r, &c, entry->index);
    }
    if (c.kind == SHARD_PREPARE && result == ERR_OK)
        split_prepare_applied(r, &c);
    else if (c.kind != SHARD_SPLIT && c.kind != SHARD_PREPARE)
        merge_applied(r, &c, result, entry->index);
    core_changed(r->core);
    return ERR_OK;
}
