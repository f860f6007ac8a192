#include "client/breaker.h"

#include "common/base/limits.h"

bool breaker_allows(const struct breaker *b, uint64_t now)
{
    return b->opened == 0 || now >= b->until;
}

void breaker_take(struct breaker *b, uint64_t now)
{
    if (b->opened)
        b->until = now + BREAKER_PROBE_MS * NS_PER_MS;
}

void breaker_answered(struct breaker *b)
{
    b->failures = 0;
    b->opened = 0;
}

bool breaker_failed(struct breaker *b, bool cheap, uint64_t now, struct rng *rng)
{
    if (b->failures < BREAKER_FAILURES)
        b->failures++;
    if (b->failures < BREAKER_FAILURES)
        return false;
    uint64_t ms = BREAKER_OPEN_MIN_MS;
    for (unsigned i = 0; i < b->opened && ms < BREAKER_OPEN_MAX_MS; i++)
        ms *= 2;
    uint64_t most = cheap ? BREAKER_OPEN_CHEAP_MS : BREAKER_OPEN_MAX_MS;
    if (ms > most)
        ms = most;
    /* The upper half is random: many clients must not come back at the same moment. */
    uint64_t ns = ms * NS_PER_MS;
    b->until = now + ns / 2 + rng_below(rng, ns / 2 + 1);
    if (!cheap || b->opened == 0)
        b->opened++; /* refusals alone do not make the next wait longer */
    return true;
}

void breaker_hint(struct breaker *b, uint64_t now)
{
    if (b->until > now)
        b->until = now;
}
