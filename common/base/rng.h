/* Seeded pseudo-random numbers (xoshiro256**); not for secrets.
 * Thread: one owner. */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdint.h>

struct rng {
    uint64_t s[4];
};

void rng_seed(struct rng *r, uint64_t seed);
uint64_t rng_next(struct rng *r);
/* Uniform in [0, n); 0 for n == 0. */
uint64_t rng_below(struct rng *r, uint64_t n);
double rng_double(struct rng *r); /* [0, 1) */

#endif
