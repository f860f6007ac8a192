/* What became of the writes of sessions, so that a repeated one is known (Raft dissertation 6.3).
 *
 * A client numbers its writes; the shard keeps the result of each until the client says that it has
 * it ("ack"), or until the log's time is past the write's "until", which is the same in each
 * repetition. So a repetition finds the first result, or comes too late to be known as one and is
 * refused: never applied twice, whatever clocks say. Part of the replicated state: changed only by
 * applying entries, the same on all replicas. (A result that is past its time may be there or not:
 * nobody can see it.)
 *
 * Rows. The table is in memory. What has changed of it is written when the replica's memory is made
 * durable (replica_freeze), a row for each session: a replay begins where that was, and makes the
 * rest of the table again. Nothing is read or written for a write by itself.
 *   key    's'  first slot of the shard as big-endian u16   sid   u16 0
 *   value  the head of engine_key.h (version: the group's id; expiry: past all "until" of the
 *          session), u64 floor, then for each result: u64 seq, u16 slot, u8 error (bit 7: a number
 *          follows), u32 until before the head's expiry, u64 version, [i64 number]
 * Rows that are out of date are past their time or another group's. The table is loaded by one
 * scan. A split writes the child's rows, with its id, at its first slot: like its data they do not
 * change in the parent from then on. A merge copies the source's.
 *
 * Bounds: LIMIT_SESSION_RESULTS, then the oldest go (their repetitions are refused);
 * LIMIT_SHARD_RESULTS and LIMIT_SHARD_SESSIONS are the leader's, before it proposes (dedupe_full).
 *
 * Owner: struct replica.  Thread: its core.  Depends on: command, engine. */
#ifndef SHARDD_DEDUPE_H
#define SHARDD_DEDUPE_H

#include "shardd/command.h"
#include "shardd/engine.h"

struct dedupe;

struct dedupe *dedupe_create(void);
void dedupe_destroy(struct dedupe *d); /* takes NULL */
void dedupe_clear(struct dedupe *d);

struct dedupe_result {
    enum err err; /* a definite one */
    uint64_t version;
    int64_t number;
};

enum dedupe_found {
    DEDUPE_NEW,   /* to be evaluated, then dedupe_record() */
    DEDUPE_KNOWN, /* *out is the answer */
    DEDUPE_LATE,  /* it cannot be told any more */
};
/* `op` has a session; `time_ms`: the log's. Changes nothing. */
enum dedupe_found dedupe_find(struct dedupe *d, const struct command_op *op, uint64_t time_ms,
                              struct dedupe_result *out);
void dedupe_record(struct dedupe *d, const struct command_op *op, uint16_t slot, uint64_t time_ms,
                   const struct dedupe_result *result);

#define DEDUPE_PREFETCH 16u
/* Begins to load what dedupe_find() and dedupe_record() of these sessions (up to DEDUPE_PREFETCH)
 * will touch, so that their cache misses overlap. */
void dedupe_prefetch(const struct dedupe *d, const uint8_t *const sids[], uint32_t n);

/* At the end of a command; now and then it drops some of what is past its time. */
void dedupe_age(struct dedupe *d, uint64_t time_ms);
/* Adds the rows of the sessions that have changed since this was called last. */
void dedupe_store(struct dedupe *d, uint64_t group, uint16_t first_slot,
                  struct engine_batch *batch);
/* Adds the rows of `group` that are stored at `first_slot`; blocks. ERR_CORRUPT, ERR_FORMAT, or
 * the engine's. */
MUST_USE enum err dedupe_load(struct dedupe *d, struct engine_db *db, uint64_t group,
                              uint16_t first_slot, uint64_t time_ms);
/* The results of slots `first` to `last` leave for the group `to`, whose rows are added to the
 * batch. The rows that stay are written anew with dedupe_rewrite(). */
void dedupe_leave(struct dedupe *d, uint64_t to, uint16_t first, uint16_t last,
                  struct engine_batch *batch);
/* All rows, in place of those in the range of the shard, which has changed. */
void dedupe_rewrite(struct dedupe *d, uint64_t group, uint16_t first_slot, uint16_t last_slot,
                    struct engine_batch *batch);

/* The leader may not propose an op of this session now. */
bool dedupe_full(const struct dedupe *d, const uint8_t *sid);
/* Drops what is past its time. */
void dedupe_sweep(struct dedupe *d, uint64_t time_ms);
uint32_t dedupe_sessions(const struct dedupe *d);
uint32_t dedupe_results(const struct dedupe *d);

#ifdef SHARDKV_TEST_HOOKS
/* Of all that can be seen of it: the same on all replicas that have applied the same. */
uint64_t dedupe_hash(const struct dedupe *d, uint64_t time_ms);
#endif

#endif
