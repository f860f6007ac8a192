/* What a core counts while it works: plain fields, read by copying them on the core's thread.
 *
 * Owner: struct core.  Thread: its own. */
#ifndef SHARDD_STATS_H
#define SHARDD_STATS_H

#include "common/base/err.h"
#include "common/base/latency.h"
#include "common/wire/msg_kv.h"

/* What became of a request, as coarse as an operator thinks. */
enum stats_result {
    STATS_OK,
    STATS_NEGATIVE, /* a definite answer: no such key, the condition does not hold */
    STATS_REDIRECT, /* another node or group has the key */
    STATS_BUSY,
    STATS_NO_SPACE,
    STATS_NO_LEADER,
    STATS_TIMEOUT, /* or lost its leader: the outcome is unknown */
    STATS_INVALID, /* malformed or too large */
    STATS_FAILED,
    STATS_RESULTS
};
#define STATS_METHODS KV_METHODS /* enum kv_method */

struct core_stats {
    uint64_t requests, replies, refused_busy, forwarded, expired;
    uint64_t turns;
    uint64_t repeated; /* ops applied here that were known as repetitions */
    uint64_t answers[STATS_METHODS][STATS_RESULTS]; /* of requests that were taken up */
    uint64_t refused[STATS_RESULTS];                /* of those that were not */
    struct latency read, write;                     /* from the request's turn to its answer's */
    struct latency turn;                            /* duration of the loop's turns */
};

enum stats_result stats_result_of(enum err e);
const char *stats_result_name(enum stats_result r);
const char *stats_method_name(unsigned method);
/* A request that was taken up is answered, `ns` after it came. */
void stats_answered(struct core_stats *s, unsigned method, enum err e, uint64_t ns);

#endif
