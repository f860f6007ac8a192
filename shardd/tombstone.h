/* Which replicas of this core were destroyed: none of them may ever come back under its id.
 *
 * Replica ids are drawn from one counter of the cluster and each group has one operator at a time,
 * so of one group ids only grow: its greatest destroyed id says it for all below. The file
 * <data>/groups/tombstones-<core> (magic, format, count, crc32c, {group, replica}...) is written
 * whole, and is durable before a replica's data goes. One save at a time, on an offload thread;
 * what is added meanwhile goes with the next.
 *
 * Bound: TOMBSTONES_MAX groups; beyond it the lowest group ids, those of the oldest groups, go.
 * Owner: struct core.  Thread: that core; saves on an offload thread.  Depends on: io, fs, map. */
#ifndef SHARDD_TOMBSTONE_H
#define SHARDD_TOMBSTONE_H

#include "common/base/map.h"
#include "common/base/slice.h"
#include "common/io/io.h"

#define TOMBSTONES_MAX 65536u

struct tombstones {
    struct io *io;
    char path[3000];
    struct map greatest; /* group -> greatest destroyed replica id */
    uint64_t version;    /* counts additions */
    uint64_t saved;      /* version that is durable */
    uint64_t saving;     /* version being saved; 0: none */
    struct io_work work;
    struct buf bytes;
    enum err result;
    void *arg;
    void (*on_saved)(void *arg); /* also after a failure: see `saved` */
};

/* Reads the file (blocking). ERR_CORRUPT, ERR_FORMAT, ... with `msg`. */
MUST_USE enum err tombstones_open(struct tombstones *t, struct io *io, const char *dir,
                                  unsigned core, char *msg, size_t n);
/* No save may be under way. */
void tombstones_close(struct tombstones *t);
/* `replica` of `group`, or a later one of it, was destroyed here. */
bool tombstones_has(const struct tombstones *t, uint64_t group, uint64_t replica);
/* The version that has to be saved before the replica's data goes. */
uint64_t tombstones_add(struct tombstones *t, uint64_t group, uint64_t replica);
/* Starts to save if there is something to and no save is under way. */
void tombstones_save(struct tombstones *t);

#endif
