/* Copies a merge's source into the database of its target, on one node.
 *
 * Pulled by the target's replica, chunk by chunk: it asks the source's core, which has the chunk
 * gathered on an offload thread (from what RocksDB has stored, flushed first) and sends it back;
 * the target writes it, together with how far it is, in one batch. So a crash loses whole chunks
 * and the copy goes on where it stands. The target does not own the slots: nobody sees them.
 *
 *   BULK      the source's range in order of keys, while the source serves on
 *   FOLLOW    what the source has marked as changed (engine_key.h), in order of versions, again and
 *             again; the first short run makes the copy "caught up" (MSG_COPY_BULK)
 *   COMPLETE  a run of FOLLOW that began after FREEZE was applied here has come to its end, and all
 *             of it is durable
 *
 * What the source knows of sessions (dedupe.h) has no marks: it is little, does not change once the
 * source is frozen, and comes whole with the first chunk of a run that began after that.
 *
 * Why that gives the source's state: marks begin with INTENT, and the first scan runs on what was
 * flushed after INTENT was applied. A key without a mark has not changed since; a marked one is
 * read after its mark, and once more for each later mark. All of the source's state follows from
 * its log, so a source that went back by a crash comes to the same keys, versions and marks again.
 *
 * It yields: to memtables over budget, to stalls, to the node's rate for moving data, and by a
 * short rest after each chunk while clients wait.
 *
 * Owner: struct replica (the target).  Thread: its core; gathering on the source's offload threads.
 * Depends on: engine, core. */
#ifndef SHARDD_MERGE_COPY_H
#define SHARDD_MERGE_COPY_H

#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/io/io.h"
#include "shardd/engine_key.h"

struct core;
struct merge_job;
struct replica;

enum merge_stage {
    MERGE_BULK = 1,
    MERGE_FOLLOW = 2,
    MERGE_COMPLETE = 3,
};

/* How far a copy is: kept in the target's database with the data, under ENGINE_META_MERGE. */
struct merge_mark {
    uint64_t op;
    uint8_t stage;         /* enum merge_stage */
    uint64_t version;      /* FOLLOW: the first change that has not been copied */
    uint64_t frozen_index; /* COMPLETE: of the source */
    struct buf cursor;     /* BULK: the first key that has not been copied */
};
void merge_mark_encode(const struct merge_mark *m, struct buf *out);
/* ERR_CORRUPT, ERR_FORMAT. On success *out, empty before, owns its cursor. */
MUST_USE enum err merge_mark_decode(struct slice raw, struct merge_mark *out);
void merge_mark_close(struct merge_mark *m);
/* ERR_NOT_FOUND: the database has none. Blocking. */
struct engine_db;
MUST_USE enum err merge_mark_load(struct engine_db *db, struct merge_mark *out);

struct merge_copy {
    struct replica *target;
    uint64_t source; /* group */
    uint16_t first_slot, last_slot;
    struct engine_key_range range, sessions;
    struct merge_mark mark;
    uint64_t serial;     /* of this copy in its replica: mail of an older one is not for us */
    bool fresh;          /* nothing is written yet: the range is cleared first */
    bool caught_up;      /* FOLLOW has had a short run */
    bool settling;       /* it is made durable before it counts as caught up: less to do later */
    bool durable;        /* COMPLETE, and it would survive a crash */
    bool waiting;        /* a job is on its way, or a flush */
    bool nudged;         /* something has changed at the source since it was asked */
    bool begin_run;      /* the next job begins a run: the source is flushed first */
    uint64_t run_frozen; /* frozen_index of the source when this run began; 0: it was not */
    uint64_t run_bytes;
    unsigned runs;
    uint32_t source_life; /* replica.lives of the source that the last flush was of */
    uint64_t chunks, bytes;
    struct io_timer timer;
};

/* `r` is in phase TARGET. Goes on from the mark in its database if that is of this merge. */
void merge_copy_create(struct replica *r);
/* Takes NULL. Jobs under way find nobody. */
void merge_copy_destroy(struct merge_copy *c);
/* Deletes what was copied. */
struct engine_batch;
void merge_copy_clear(const struct merge_copy *c, struct engine_batch *b);
/* The source has come into another phase: do not wait for the timer. */
void merge_copy_nudge(struct merge_copy *c);

#endif
