/* Zipfian numbers after Gray et al., "Quickly Generating Billion-Record Synthetic Databases"
 * (1994), with YCSB's theta; ranks are scattered over the keys so that hot ones are not neighbours.
 */
#include "client/bench/keys.h"

#include <stdio.h>
#include <string.h>

#define THETA 0.99

/* ln and exp by the compiler's builtins would want libm; the few accurate digits that a load
 * generator needs come from these. */
static double ln(double x)
{
    int e = 0;
    while (x > 1.5) {
        x /= 2;
        e++;
    }
    while (x < 0.75) {
        x *= 2;
        e--;
    }
    double y = (x - 1) / (x + 1), y2 = y * y, sum = 0, term = y;
    for (int i = 1; i < 30; i += 2) {
        sum += term / i;
        term *= y2;
    }
    return 2 * sum + e * 0.69314718055994530942;
}

static double exp_of(double x)
{
    int k = (int)(x / 0.69314718055994530942);
    double r = x - k * 0.69314718055994530942, sum = 1, term = 1;
    for (int i = 1; i < 18; i++) {
        term *= r / i;
        sum += term;
    }
    for (; k > 0; k--)
        sum *= 2;
    for (; k < 0; k++)
        sum /= 2;
    return sum;
}

static double power(double base, double exponent)
{
    return base <= 0 ? 0 : exp_of(exponent * ln(base));
}

/* Sum of 1 / i^theta: the first ones exactly, the tail by its integral. */
static double zeta(uint64_t n)
{
    const uint64_t exact = n < 100000 ? n : 100000;
    double sum = 0;
    for (uint64_t i = 1; i <= exact; i++)
        sum += 1 / power((double)i, THETA);
    if (n > exact) {
        double a = (double)exact + 0.5, b = (double)n + 0.5;
        sum += (power(b, 1 - THETA) - power(a, 1 - THETA)) / (1 - THETA);
    }
    return sum;
}

void keys_init(struct keys *k, uint64_t n, bool zipfian, unsigned size, const char *prefix)
{
    *k = (struct keys){.n = n, .zipfian = zipfian && n > 2, .size = size, .theta = THETA};
    snprintf(k->prefix, sizeof(k->prefix), "%s", prefix);
    if (!k->zipfian)
        return;
    k->zetan = zeta(n);
    k->alpha = 1 / (1 - THETA);
    k->eta = (1 - power(2 / (double)n, 1 - THETA)) / (1 - zeta(2) / k->zetan);
}

static uint64_t scatter(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

uint64_t keys_next(const struct keys *k, struct rng *rng)
{
    if (!k->zipfian)
        return rng_below(rng, k->n);
    double u = rng_double(rng), uz = u * k->zetan;
    uint64_t rank;
    if (uz < 1)
        rank = 0;
    else if (uz < 1 + power(0.5, k->theta))
        rank = 1;
    else
        rank = (uint64_t)((double)k->n * power(k->eta * u - k->eta + 1, k->alpha));
    return scatter(rank + 1) % k->n;
}

void keys_format(const struct keys *k, uint64_t number, uint8_t *out)
{
    size_t prefix = strlen(k->prefix);
    memcpy(out, k->prefix, prefix);
    for (size_t i = k->size; i > prefix; i--) {
        out[i - 1] = (uint8_t)('0' + number % 10);
        number /= 10;
    }
}
