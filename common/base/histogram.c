/* Values below 2^7 have a bucket each; above, every power of two is cut into 2^7 equal buckets, so
 * a bucket is at most 1/128 as wide as its values. */
#include "common/base/histogram.h"

#include <string.h>

#include "common/base/check.h"

#define SUB (1u << HISTOGRAM_SUB_BITS)
#define VALUE_MAX ((1ULL << 40) - 1)

static unsigned bucket_of(uint64_t v)
{
    if (v > VALUE_MAX)
        v = VALUE_MAX;
    if (v < SUB)
        return (unsigned)v;
    unsigned shift = 63u - (unsigned)__builtin_clzll(v) - HISTOGRAM_SUB_BITS;
    return ((shift + 1) << HISTOGRAM_SUB_BITS) + (unsigned)((v >> shift) & (SUB - 1));
}

/* The largest value that lands in the bucket. */
static uint64_t bucket_last(unsigned b)
{
    if (b < SUB)
        return b;
    unsigned shift = (b >> HISTOGRAM_SUB_BITS) - 1;
    uint64_t first = (uint64_t)(SUB + (b & (SUB - 1))) << shift;
    return first + ((1ULL << shift) - 1);
}

void histogram_init(struct histogram *h)
{
    memset(h, 0, sizeof(*h));
}

void histogram_add(struct histogram *h, uint64_t value)
{
    h->count++;
    h->sum += value;
    if (value > h->max)
        h->max = value;
    h->bucket[bucket_of(value)]++;
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
    to->count += from->count;
    to->sum += from->sum;
    if (from->max > to->max)
        to->max = from->max;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        to->bucket[i] += from->bucket[i];
}

uint64_t histogram_quantile(const struct histogram *h, double q)
{
    if (h->count == 0)
        return 0;
    CHECK(q >= 0.0);
    CHECK(q <= 1.0);
    double rank = q * (double)h->count;
    uint64_t want = (uint64_t)rank;
    if ((double)want < rank || want == 0)
        want++;
    uint64_t seen = 0;
    for (unsigned i = 0; i + 1 < HISTOGRAM_BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen >= want) {
            uint64_t last = bucket_last(i);
            return last < h->max ? last : h->max;
        }
    }
    return h->max; /* the last bucket also holds what is over 2^40 */
}
