/* What a core is busy with, and how much of it snapshots may take.
 *
 * Operations a second of each replica (smoothed over some 5 s), the 99th percentile of acknowledged
 * writes over the last 5 s, bytes a second of snapshots in and out. Counting costs an increment a
 * request; the rest is done each half second.
 *
 * Snapshots yield to clients: while they move and the node's p99 is above 10 ms and above twice
 * what it was without them, their pace is halved each half second; else it grows back by a quarter.
 * Cap of the pace: the configured rate and that of placementd, whichever is less.
 *
 * Owner: struct core.  Thread: its own; p99_us is read by other cores. */
#ifndef SHARDD_LOAD_H
#define SHARDD_LOAD_H

#include <stdatomic.h>
#include <stdint.h>

#include "common/base/histogram.h"

#define LOAD_TICKS 5u /* of the core: half a second */
#define LOAD_PERIODS 10u

struct core;
struct replica;

/* Of one replica; `reads` and `writes` are counted up by the paths. */
struct load_ops {
    uint64_t reads, writes;           /* since the last period began */
    uint64_t read_milli, write_milli; /* thousandths of an operation a second */
};

struct load {
    struct histogram writes;       /* us, of this period */
    uint64_t p99_us[LOAD_PERIODS]; /* of the last periods; 0: none */
    unsigned at;
    atomic_ullong last_p99_us;    /* of the last period: other cores share the disk */
    uint64_t baseline_us;         /* p99 without snapshots, smoothed */
    uint64_t moved, moving;       /* snapshot bytes counted so far; bytes/s in the last period */
    uint64_t configured, ordered; /* caps, bytes/s; 0: none */
    uint64_t pace;                /* while it yields; 0: it does not */
};

/* A write was acknowledged `ns` after it came. */
void load_write(struct load *l, uint64_t ns);
/* On every tick of the core. */
void load_tick(struct core *c);
/* 99th percentile over the last periods, us; 0: no writes. */
uint64_t load_write_p99(const struct load *l);
/* Bytes/s for snapshots each way, by configuration and by order; 0: no limit. */
void load_configure(struct core *c, uint64_t bytes_per_s);
void load_order(struct core *c, uint64_t bytes_per_s);
/* Of one replica, operations a second. */
uint64_t load_reads(const struct load_ops *o);
uint64_t load_writes(const struct load_ops *o);

/* Pure: the next pace. `cap` 0: none. Result 0: as fast as the cap allows. */
uint64_t load_pace(uint64_t pace, uint64_t cap, uint64_t moving, uint64_t p99_us,
                   uint64_t baseline_us);

#endif
