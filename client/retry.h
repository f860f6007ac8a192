/* The retry policy: what to do with an error, and how long to wait. Pure.
 *
 * Surely not applied (classes BACKOFF and REFRESH) is tried again; an unknown outcome only of what
 * can be repeated: a read, for reading twice does no harm, and a write of a session, for the
 * servers know it again. Thread: any, pure.  Depends on: base. */
#ifndef CLIENT_RETRY_H
#define CLIENT_RETRY_H

#include <stdbool.h>
#include <stdint.h>
#include "common/base/err.h"
#include "common/base/rng.h"

enum retry_action {
    RETRY_NO,    /* hand the error to the caller */
    RETRY_NOW,   /* the map or the leader is known better now */
    RETRY_LATER, /* after retry_delay() */
};

/* `hinted`: the answer told where to go instead. `hops`: redirects followed without a pause, so
 * that two nodes that point at each other do not make a storm. */
enum retry_action retry_decide(enum err e, bool repeatable, bool maybe_applied, bool hinted,
                               unsigned hops);
/* Exponential from 4 ms to 256 ms, the upper half of it random. `hint_ms`: at least this long (from
 * the server; taken up to 1 s). In ns. */
uint64_t retry_delay(struct rng *rng, unsigned attempt, uint64_t hint_ms);

#endif
