/* One asynchronous file operation of a simulated host: between sim_io.c, which times it, and the
 * disk, which executes it or tears it apart in a crash. */
#ifndef SIM_SIM_FILEOP_H
#define SIM_SIM_FILEOP_H

#include "tests/sim/sim_internal.h"

struct sim_fileop {
    struct list link; /* sim_disk.ops while in flight */
    struct sim_ready ready;
    struct sim_event event;
    struct sim_host *host;
    struct io *io;
    struct io_op *op;
    struct fs_file *f;
    const uint8_t *from; /* write */
    void *to;            /* read */
    size_t n;
    uint64_t offset;
    bool write;
    enum err result;
};

/* How long the host's disk takes for the next operation. */
uint64_t sim_fileop_latency(struct sim_host *h);
enum err sim_fileop_execute(struct sim_fileop *o);

#endif
