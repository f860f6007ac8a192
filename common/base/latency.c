#include "common/base/latency.h"

#define US 1000ull
#define MS 1000000ull

const uint64_t latency_bound_ns[LATENCY_BOUNDS] = {
    50 * US, 100 * US, 250 * US, 500 * US, 1 * MS,    2500 * US, 5 * MS,    10 * MS,   25 * MS,
    50 * MS, 100 * MS, 250 * MS, 500 * MS, 1000 * MS, 2500 * MS, 5000 * MS, 10000 * MS};

void latency_add(struct latency *l, uint64_t ns)
{
    unsigned i = 0;
    while (i < LATENCY_BOUNDS && ns > latency_bound_ns[i])
        i++;
    l->bucket[i]++;
    l->count++;
    l->sum_ns += ns;
}

void latency_merge(struct latency *to, const struct latency *from)
{
    to->count += from->count;
    to->sum_ns += from->sum_ns;
    for (unsigned i = 0; i <= LATENCY_BOUNDS; i++)
        to->bucket[i] += from->bucket[i];
}
