#include "client/retry.h"

#include "common/base/limits.h"

#define HOPS_MAX 3u
#define DELAY_MIN (4 * NS_PER_MS)
#define DELAY_DOUBLINGS 6u

enum retry_action retry_decide(enum err e, bool repeatable, bool maybe_applied, bool hinted,
                               unsigned hops)
{
    if (maybe_applied && !repeatable)
        return RETRY_NO;
    switch (err_class(e)) {
    case ERR_CLASS_DONE:
    case ERR_CLASS_NEVER:
        return RETRY_NO;
    case ERR_CLASS_REFRESH:
        return hinted && hops < HOPS_MAX ? RETRY_NOW : RETRY_LATER;
    case ERR_CLASS_BACKOFF:
        return RETRY_LATER;
    case ERR_CLASS_UNKNOWN:
        break;
    }
    return repeatable ? RETRY_LATER : RETRY_NO;
}

uint64_t retry_delay(struct rng *rng, unsigned attempt, uint64_t hint_ms)
{
    unsigned doublings = attempt < DELAY_DOUBLINGS ? attempt : DELAY_DOUBLINGS;
    uint64_t delay = DELAY_MIN << doublings;
    delay = delay / 2 + rng_below(rng, delay / 2);
    uint64_t hint = (hint_ms < 1000 ? hint_ms : 1000) * NS_PER_MS;
    /* Jitter on the hint too: all clients of a busy node were told the same. */
    if (hint > delay)
        delay = hint + rng_below(rng, hint / 2 + 1);
    return delay;
}
