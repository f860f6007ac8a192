/* High-dynamic-range histogram: values 0 .. 2^40, at most 1 % relative error, fixed memory.
 * Thread: one writer; merge to read. */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 7
#define HISTOGRAM_BUCKETS ((40 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
    uint64_t count, sum, max;
    uint64_t bucket[HISTOGRAM_BUCKETS];
};

void histogram_init(struct histogram *h);
void histogram_add(struct histogram *h, uint64_t value);
void histogram_merge(struct histogram *to, const struct histogram *from);
/* The value at quantile q in [0, 1]; 0 when empty. */
uint64_t histogram_quantile(const struct histogram *h, double q);

#endif
