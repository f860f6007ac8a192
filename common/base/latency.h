/* Durations counted in a few fixed buckets: what a metrics page shows, at the price of one short
 * search an event. For figures of a benchmark see histogram.h.
 *
 * Owner: whoever measures.  Thread: one writer; merge copies to read.  Depends on: nothing. */
#ifndef BASE_LATENCY_H
#define BASE_LATENCY_H

#include <stdint.h>

#define LATENCY_BOUNDS 17u

extern const uint64_t latency_bound_ns[LATENCY_BOUNDS]; /* ascending: 50 us to 10 s */

struct latency {
    uint64_t count, sum_ns;
    uint64_t bucket[LATENCY_BOUNDS + 1]; /* [i]: at most bound i; the last: above all bounds */
};

void latency_add(struct latency *l, uint64_t ns);
void latency_merge(struct latency *to, const struct latency *from);

#endif
