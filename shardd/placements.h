/* The addresses of placementd's members as they were last told, in the data directory's file
 * `placements`, a line each: those in the configuration may all have been replaced since.
 *
 * Only a hint: a file that is missing or damaged costs nothing but that.
 * Owner: front.  Thread: core 0; the file is written on an offload thread.  Depends on: io, fs. */
#ifndef SHARDD_PLACEMENTS_H
#define SHARDD_PLACEMENTS_H

#include "common/base/limits.h"
#include "common/base/slice.h"
#include "common/io/io.h"

struct placements {
    struct io *io;
    char path[3000];
    unsigned n;
    struct io_addr addr[LIMIT_GROUP_MEMBERS];
    /* one write at a time, the newest follows */
    struct io_work work;
    struct buf bytes;
    bool saving, again;
};

/* Blocking: reads the file. */
void placements_open(struct placements *p, struct io *io, const char *data_dir);
/* Keeps them; the file follows. */
void placements_set(struct placements *p, const struct io_addr *addr, unsigned n);

#endif
