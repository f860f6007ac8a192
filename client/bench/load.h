/* The load itself: lanes, each with one operation under way.
 *
 * Closed loop: the completion of an operation starts the lane's next one, right in the callback on
 * the library's I/O thread: no hop between threads, no allocation. Open loop (--rate): operation i
 * is due at start + i / rate; the pacer (the main thread) gives it to an idle lane, or, if none is
 * idle, the next completion takes it up late; its latency counts from when it was due.
 *
 * Thread: lanes belong to the I/O thread from load_start() on, the counters with them; read them
 * after load_stop().  Depends on: kvclient.h, base. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stdatomic.h>
#include <stdio.h>

#include "client/bench/history.h"
#include "client/bench/keys.h"
#include "client/bench/op.h"
#include "client/bench/options.h"
#include "client/kvclient.h"
#include "common/base/histogram.h"

struct load_side {
    struct histogram latency; /* us */
    uint64_t done, items;     /* answered within the measured time; their keys */
};

struct load;
struct load *load_create(const struct bench_options *o, kv_client **handles, FILE *history);
void load_destroy(struct load *l);

/* Puts every key once. 0, or the exit code with a message on stderr. */
int load_fill(struct load *l);
/* Warm-up, then the measured time. Returns when all operations are answered. */
void load_run(struct load *l);
/* Ends the measurement early. For a signal's handler: any thread, any time. */
void load_interrupt(void);

struct load_report {
    const struct load_side *read, *write;
    uint64_t ok, errors, unknown;
    uint64_t conflicts;                     /* of ok: --if-version found another one */
    double seconds, cpu;                    /* measured; cores */
    double max_gap_ms;                      /* --gaps */
    uint64_t retries, retried, retries_max; /* of all handles, from their start */
    uint64_t follower_reads;                /* so too */
    kv_err last_error;
    char error_text[160];
};
void load_get_report(const struct load *l, struct load_report *out);

#endif
