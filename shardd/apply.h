/* Applies one committed command: bytes in, engine batch and results out. Pure but for reading the
 * engine where an operation depends on what is there; the same on every replica.
 *
 * An operation: its slot must be owned, else WRONG_SHARD and nothing is remembered. One of a
 * session that is known gets its first result; one that comes too late to be known as a repetition
 * gets UNKNOWN_OUTCOME (dedupe.h). Else its condition is looked at, and it is done; the outcome is
 * remembered. Values that have expired by the log's time are not there.
 * A run (command.h) is looked at as if each of its operations were done after the other; if one
 * fails, none is done, and those that would not have failed are NOT_APPLIED.
 *
 * Owner: struct replica.  Thread: its core.  Depends on: command, dedupe, shard, engine. */
#ifndef SHARDD_APPLY_H
#define SHARDD_APPLY_H

#include "shardd/command.h"
#include "shardd/dedupe.h"
#include "shardd/engine.h"
#include "shardd/shard.h"

struct apply_outcome {
    /* ERR_OK, ERR_CONDITION_FAILED, ERR_NOT_FOUND (touch), ERR_NOT_A_NUMBER, ERR_NOT_APPLIED,
     * ERR_WRONG_SHARD (the range changed between proposal and apply), ERR_UNKNOWN_OUTCOME */
    enum err err;
    uint64_t version; /* the one given, or for a failed condition the present one (0: absent) */
    int64_t number;   /* incr */
    bool repeated;    /* it is the result of an earlier entry */
};
/* Called for each op in order. */
typedef void (*apply_result_fn)(void *arg, uint32_t i, const struct apply_outcome *o);

/* True if ops of the command depend on what is there: what is pending in a batch must be written to
 * the engine before apply_command(), for it reads that. */
MUST_USE enum err apply_needs_engine(struct slice payload, bool *out);

/* Appends the command's effects to `batch` and moves `shard` (version, time) and `dedupe`.
 * ERR_CORRUPT, ERR_FORMAT: the entry cannot be understood, nothing may go on; ERR_IO and others:
 * the engine failed. */
MUST_USE enum err apply_command(struct shard *shard, struct dedupe *dedupe, struct slice payload,
                                struct engine_db *db, struct engine_batch *batch,
                                apply_result_fn result, void *arg);

#endif
