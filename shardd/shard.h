/* A shard's own replicated state: what it owns, its epoch, its version counter and its log time.
 *
 * Changed only by applying log entries; stored in the engine in the same batch as the data. A
 * shard refuses what it does not own, whatever placementd's map says.
 * Owner: struct replica.  Thread: its core.  Depends on: base, meta. */
#ifndef SHARDD_SHARD_H
#define SHARDD_SHARD_H

#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/meta/shard_map.h"
#include "shardd/shard_bug.h"

struct shard {
    uint64_t group, replica; /* replica: which of the group's this is */
    uint16_t first_slot, last_slot;
    struct shard_epoch epoch;
    uint64_t version; /* last one given out; versions grow for ever */
    uint64_t time_ms; /* the log's time */

    /* A merge (shard_change.h). */
    uint8_t phase; /* enum shard_phase */
    /* Operator id of the last one. It stays when that is over (phase NONE): no entry of it, nor of
     * an older one, counts any more. Operator ids grow. */
    uint64_t merge;
    uint64_t merge_peer;            /* the other group; else 0 */
    uint16_t peer_first, peer_last; /* its range */
    uint64_t frozen_index;          /* FROZEN: index of the FREEZE; else 0 */
};

/* What values expire by. */
static inline uint64_t shard_time(const struct shard *s)
{
#ifdef SHARDKV_TEST_HOOKS
    if (SHARD_BUG(EXPIRY))
        return shard_test_clock;
#endif
    return s->time_ms;
}

static inline bool shard_owns(const struct shard *s, uint16_t slot)
{
    return slot >= s->first_slot && slot <= s->last_slot &&
           (s->phase != SHARD_PHASE_FROZEN || SHARD_BUG(FREEZE));
}

/* Its data stays in the database: owned (frozen or not), or being taken in. */
static inline bool shard_keeps(const struct shard *s, uint16_t slot)
{
    return (slot >= s->first_slot && slot <= s->last_slot) ||
           (s->phase == SHARD_PHASE_TARGET && slot >= s->peer_first && slot <= s->peer_last);
}

void shard_encode(const struct shard *s, struct buf *out);
/* ERR_FORMAT, ERR_CORRUPT. Leaves the cursor behind it. */
MUST_USE enum err shard_decode(struct cursor *c, struct shard *out);

#endif
