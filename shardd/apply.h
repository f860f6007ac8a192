/* Applies one committed command: bytes in, engine batch and results out. Pure but for reading the
 * engine where an operation has a condition; the same on every replica.
 *
 * Owner: struct replica.  Thread: its core.  Depends on: command, shard, engine. */
#ifndef SHARDD_APPLY_H
#define SHARDD_APPLY_H

#include "shardd/command.h"
#include "shardd/engine.h"
#include "shardd/shard.h"

/* The outcome of op `i`: ERR_OK, ERR_CONDITION_FAILED or ERR_WRONG_SHARD (the range changed between
 * proposal and apply). `version`: the one given, or for a failed condition the present one (0:
 * absent). */
typedef void (*apply_result_fn)(void *arg, uint32_t i, enum err result, uint64_t version);

/* True if the command has conditions: what is pending in a batch must be written to the engine
 * before apply_command(), for conditions read it. */
MUST_USE enum err apply_needs_engine(struct slice payload, bool *out);

/* Appends the command's effects to `batch` and moves `shard` (version, time). `db` is read for
 * conditions only. ERR_CORRUPT, ERR_FORMAT: the entry cannot be understood, nothing may go on;
 * ERR_IO and others: the engine failed. */
MUST_USE enum err apply_command(struct shard *shard, struct slice payload, struct engine_db *db,
                                struct engine_batch *batch, apply_result_fn result, void *arg);

#endif
