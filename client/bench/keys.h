/* Which key comes next, and its bytes.
 * Thread: none of its own.  Depends on: base. */
#ifndef BENCH_KEYS_H
#define BENCH_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/rng.h"

struct keys {
    uint64_t n;
    bool zipfian;
    unsigned size;
    char prefix[16];                 /* at most size - the digits of n */
    double theta, zetan, alpha, eta; /* zipfian */
};

/* Zipfian of many keys takes a while (one pow() a key). */
void keys_init(struct keys *k, uint64_t n, bool zipfian, unsigned size, const char *prefix);
uint64_t keys_next(const struct keys *k, struct rng *rng);
/* Writes k->size bytes: the prefix, then the number in decimal with zeros before it. */
void keys_format(const struct keys *k, uint64_t number, uint8_t *out);

#endif
