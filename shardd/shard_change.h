/* Changes of a shard's ownership: the log entries of splits and merges. Ownership is decided here
 * and nowhere else: by an entry at a place in the log, never by time and never by placementd's
 * word.
 *
 * Entry: u8 COMMAND_CHANGE_FORMAT (2; operations on keys begin with 1), u8 kind, u64 operator, u32
 * range and u32 members (the epoch that it was proposed at), u64 time_ms, then the kind's fields.
 * An entry that meets a shard at another epoch, or in a phase that it does not fit, changes
 * nothing: it came late.
 *
 *   SPLIT     the slots of `other`, an end of the range, leave the shard and become the group
 *             `other`
 *   TARGET    the shard prepares to take in `other`
 *   INTENT    the shard prepares to go into `other`: from here its changes are marked
 *   FREEZE    it serves nothing any more
 *   OWN       the target's range grows by the source's; versions and time go on above both
 *   ABORT     the target lets go: no later OWN of this operator counts. Then
 *   UNFREEZE  the source serves again
 *   PREPARE   nothing changes; a SPLIT into `other` is to come (split_prep.h)
 *
 * Each of them but TARGET, INTENT, ABORT and PREPARE moves the range epoch, above that of all
 * involved.
 *
 * ABORT and UNFREEZE count also if their TARGET or INTENT has not come: from then on it never will.
 * When a merge is over, on either side, the phase is NONE and shard.merge its operator.
 *
 * Fields: SPLIT, PREPARE u64 group, u16 first, u16 last, u32 range, u32 members of the child, u8 n,
 * n times (u64 replica, u32 node, u8 role). TARGET, INTENT: the same of the other group without
 * replicas. OWN: that, u64 index, u64 version, u64 time_ms of the source. The rest: none.
 *
 * Thread: any, pure.  Depends on: shard, meta. */
#ifndef SHARDD_SHARD_CHANGE_H
#define SHARDD_SHARD_CHANGE_H

#include "shardd/shard.h"

#define COMMAND_CHANGE_FORMAT 2

enum shard_change_kind {
    SHARD_SPLIT = 1,
    SHARD_MERGE_TARGET = 2,
    SHARD_MERGE_INTENT = 3,
    SHARD_MERGE_FREEZE = 4,
    SHARD_MERGE_OWN = 5,
    SHARD_MERGE_ABORT = 6,
    SHARD_MERGE_UNFREEZE = 7,
    SHARD_PREPARE = 8,
};

struct shard_change {
    uint8_t kind; /* enum shard_change_kind */
    uint64_t op;  /* operator id */
    struct shard_epoch epoch;
    struct shard_desc other; /* SPLIT, PREPARE: the child, whole (its epoch: {range + 1, 1});
                                TARGET, INTENT: the other group (range, epoch); OWN: the source */
    uint64_t time_ms;        /* the log's time */
    uint64_t source_index, source_version, source_time_ms; /* OWN: of the frozen source */
};

bool shard_change_is(struct slice payload); /* not an entry of operations on keys */
void shard_change_encode(const struct shard_change *c, struct buf *out);
/* Untrusted. ERR_CORRUPT, ERR_FORMAT. What it accepts encodes to the same bytes. */
MUST_USE enum err shard_change_decode(struct slice payload, struct shard_change *out);
/* ERR_OK: `s` has changed. ERR_WRONG_EPOCH, ERR_REFUSED (phase or range do not fit): it has not.
 * `index`: of the entry, not 0. */
MUST_USE enum err shard_change_apply(struct shard *s, const struct shard_change *c, uint64_t index);
/* "split", "merge_target", ... Static. */
const char *shard_change_name(uint8_t kind);

#endif
