/* Splits: how the slots that leave a shard become a replica of a group of their own.
 *
 * The entry SPLIT decides (shard_change.h). From its apply on the child's slots never change in the
 * parent's database, so each replica makes the child by itself, from a checkpoint taken any time
 * after, at position {1, 1, 1, members of the entry}: the same on all.
 *
 *   split_step     leader: PREPARE is logged, every replica makes a database of the child's slots
 *                  and keeps it up to date (split_prep.h); when that is done, SPLIT
 *   split_applied  the child is noted in the parent's database, in the batch of the new range
 *   the birth      of the database that was prepared; or, if there is none, a job: checkpoint,
 *                  identity of the child, directory under its name; on an offload thread, one at a
 *                  time, tried again until it works, over restarts too
 *   then           the child's core runs it; the parent drops the note and the child's slots
 *
 * A directory of the child that is there already is left as it is: made before a crash, or by an
 * order to join.
 *
 * Measured, three nodes on one busy disk: born 2 to 15 ms after SPLIT; the slowest write took 52 to
 * 62 ms with a split, else 16 to 25.
 *
 * Owner: struct replica (the parent).  Thread: its core; jobs on offload threads.
 * Depends on: core, replica, shard_change. */
#ifndef SHARDD_SPLIT_H
#define SHARDD_SPLIT_H

#include "common/base/list.h"
#include "common/wire/msg_heartbeat.h"
#include "shardd/engine.h"
#include "shardd/shard_change.h"
#include "shardd/split_prep.h"

struct replica;
struct split_prep;

/* Embedded in struct replica. */
struct split {
    struct list children; /* that are not made here yet; in order of their entries */
    unsigned failures;    /* of the job, in a row */
    uint64_t retry_at;    /* core's tick */

    struct split_prep *prep; /* NULL: none */
    bool busy;               /* a job of prep is under way */

    /* Leader: the split that is being prepared. */
    struct shard_change next; /* kind 0: none */
    bool prepared;            /* its PREPARE was applied */
};

void split_init(struct split *s);
void split_close(struct split *s);
/* Reads the notes of `r` from its database, in place of those in memory. ERR_CORRUPT, ERR_FORMAT,
 * or the engine's. */
MUST_USE enum err split_load(struct replica *r);

/* An order MSG_STEP_SPLIT. Leader only. ERR_OK: under way, or done already. ERR_BUSY, ERR_NO_SPACE:
 * not now, the step comes again. ERR_WRONG_EPOCH, ERR_REFUSED (range or replicas do not fit). */
MUST_USE enum err split_step(struct replica *r, const struct msg_step *step);
/* At the entry's apply: the shard has its new range already. Adds to r->batch. */
void split_applied(struct replica *r, const struct shard_change *c, uint64_t index);
/* At the apply of PREPARE. */
void split_prepare_applied(struct replica *r, const struct shard_change *c);
/* The child has its database, which now is its core's. Takes `db`. */
void split_born(struct replica *r, const struct split_birth *b, struct engine_db *db);
/* Goes on with what is to be done, if nothing else is in the way. On each tick, too. */
void split_continue(struct replica *r);
/* Group id of the first child that is not made here yet; 0: none. For the report. */
uint64_t split_pending(const struct replica *r);
/* The replica must not be destroyed yet: a child is still to be made of it. */
bool split_holds(const struct replica *r);

/* Deletes the data and sessions of those of the slots that the shard neither owns nor takes in. */
void split_forget(struct engine_batch *b, const struct shard *s, uint16_t first, uint16_t last);
/* Deletes all but the data and sessions of the shard's slots. */
void split_strip(struct engine_batch *b, const struct shard *s);
/* For a database that comes from another node: it keeps what is the shard's, not the sender's
 * notes. */
void split_adopt(struct engine_batch *b, const struct shard *s);

#endif
