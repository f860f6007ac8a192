/* The operations as JSON lines for a checker; the format is in design/reliability.md and the
 * README. Thread: one (the I/O thread).  Depends on: kvclient.h. */
#ifndef BENCH_HISTORY_H
#define BENCH_HISTORY_H

#include <stdbool.h>
#include <stdio.h>

#include "client/kvclient.h"

enum history_op { HISTORY_GET, HISTORY_PUT, HISTORY_DEL };

struct history_event {
    uint64_t client; /* one operation at a time; a new one after an unknown outcome */
    enum history_op op;
    kv_slice key, value; /* value: put's */
    uint64_t t0, t1;     /* ns */
    kv_err err;
    const kv_result *result;
};

void history_write(FILE *f, const struct history_event *e);

#endif
