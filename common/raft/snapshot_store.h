/* Checkpoints that this core offers to other nodes, each a directory of files with its manifest.
 *
 * snapshot_store_make() runs the owner's checkpoint function on an offload thread, in the new
 * directory <replica dir>/snap-<id>, then, as long work that needs the engine no more, reads every
 * file for its size and CRC32C and builds the manifest that goes into InstallSnapshot. The
 * checkpoint then lives until it has not been used for `expire_ns` (each request of a receiver is a
 * use, each offer, too), until its place is wanted and its receiver is done or does not come for
 * it, or until its group is dropped. At most `max_live` live at a time: they pin disk space.
 * Nothing is remembered over a restart: snapshot_store_clean() removes what an earlier run left.
 *
 * Owner: struct core.  Thread: that core; works run on offload threads.
 * Depends on: io, fs, snapshot_manifest. */
#ifndef RAFT_SNAPSHOT_STORE_H
#define RAFT_SNAPSHOT_STORE_H

#include "common/io/io.h"
#include "common/raft/snapshot_manifest.h"

struct snapshot_store;

struct snapshot_store_options {
    struct io *io;
    uint16_t core;      /* put into manifests: where receivers have to ask */
    unsigned max_live;  /* checkpoints at a time, those being made included; 0: 4 */
    uint64_t expire_ns; /* unused for so long: removed; 0: 60 s */
    /* Its place may be taken if nobody has asked for any of it for so long since it was made, or
     * for four times as long since its receiver asked last; 0: 5 s */
    uint64_t unasked_ns;
    void *arg;
    /* From snapshot_store_make(): checkpoint() of that group is about to run. May be NULL. */
    void (*checkpointing)(void *arg, uint64_t group);
    /* From the loop: checkpoint() of that group has returned, its engine is free. May be NULL. */
    void (*checkpointed)(void *arg, uint64_t group);
};

struct snapshot_store *snapshot_store_create(const struct snapshot_store_options *o);
/* Drops everything. No server (snapshot_serve.h) may be left. `done` is called from the loop once
 * all work has ended, all directories are gone and the store is freed. */
void snapshot_store_destroy(struct snapshot_store *s, void (*done)(void *arg), void *arg);

/* Blocking, at start (or offload): removes all snap-* directories in a replica's directory. */
MUST_USE enum err snapshot_store_clean(const char *dir);

/* On an offload thread: makes a checkpoint in directory `path`, which does not exist yet (its
 * parent does), tells the index of the last entry applied in it (exactly: read it from the
 * checkpoint, more may have been applied meanwhile) and appends the owner's note (may stay empty)
 * to *note. The engine must not be closed meanwhile: wait for checkpointed(), which comes before
 * `done` and before snapshot_store_drop()'s. */
typedef enum err (*snapshot_checkpoint_fn)(void *arg, const char *path, uint64_t *index,
                                           struct buf *note);
/* On success `m` and `encoded` (the manifest as it is sent) are borrowed until return. */
typedef void (*snapshot_made_fn)(void *arg, enum err result, const struct snapshot_manifest *m,
                                 struct slice encoded);

/* Makes a snapshot of `group`, whose replica lives in `dir`. If one with an index of at least
 * `min_index` is live, that one is used (and counts as used now); if one is being made, this call
 * joins it. `done` is always called, once, from the loop: ERR_BUSY (max_live are live; ask again
 * later), ERR_INTERRUPTED (dropped meanwhile), ERR_TOO_LARGE, what checkpoint() gave, or errors of
 * reading the files. Joined calls: only the first one's `checkpoint` runs. True: this one's will,
 * between checkpointing() and checkpointed(). */
bool snapshot_store_make(struct snapshot_store *s, uint64_t group, const char *dir,
                         uint64_t min_index, snapshot_checkpoint_fn checkpoint,
                         snapshot_made_fn done, void *arg);

/* The replica is going away: its snapshots can no longer be had from now on. `done` (may be NULL)
 * is called from the loop once nothing of the group is under way and its directories are gone, so
 * that its engine may be closed and its directory removed. */
void snapshot_store_drop(struct snapshot_store *s, uint64_t group, void (*done)(void *arg),
                         void *arg);

/* ---- for the server ---- */

struct snapshot; /* one live checkpoint */
/* Finds and pins it: its files stay until snapshot_unpin(). Renews its time. NULL if it is gone. */
struct snapshot *snapshot_store_pin(struct snapshot_store *s, uint64_t id);
void snapshot_unpin(struct snapshot *snap);
/* Stable while pinned. */
const struct snapshot_manifest *snapshot_get_manifest(const struct snapshot *snap);
const char *snapshot_path(const struct snapshot *snap);
/* A receiver has all of it: it may go when its place is wanted. */
void snapshot_store_finished(struct snapshot_store *s, uint64_t id);

struct snapshot_store_stats {
    unsigned live, making;
    uint64_t made, failed, reused, expired, evicted;
};
void snapshot_store_stats(const struct snapshot_store *s, struct snapshot_store_stats *out);

#endif
