/* Circuit breaker of one node: after some failures in a row the node is left alone for a while that
 * grows each time, then one request probes it: an answer closes the breaker, a failure opens it
 * again.
 *
 *   closed --(BREAKER_FAILURES in a row)--> open --(time)--> half open --(answer)--> closed
 *                                             ^---------------(failure)---'
 *
 * Owner: a connection.  Thread: none of its own, pure.  Depends on: base. */
#ifndef CLIENT_BREAKER_H
#define CLIENT_BREAKER_H

#include <stdbool.h>
#include <stdint.h>
#include "common/base/rng.h"

#define BREAKER_FAILURES 5u
#define BREAKER_OPEN_MIN_MS 100u
#define BREAKER_OPEN_MAX_MS 1000u
#define BREAKER_OPEN_CHEAP_MS 150u /* at most, if the failure was a quick refusal to connect */
#define BREAKER_PROBE_MS 500u      /* a probe without an answer for so long: the next one may go */

struct breaker {
    unsigned failures; /* in a row */
    unsigned opened;   /* times in a row without an answer between; 0: closed */
    uint64_t until;    /* open until then */
};

/* May a request go there now? */
bool breaker_allows(const struct breaker *b, uint64_t now);
/* One goes. When half open, no other goes until its outcome is known. */
void breaker_take(struct breaker *b, uint64_t now);
void breaker_answered(struct breaker *b);
/* True if this opened it (again). `cheap`: it cost no request its time, so that it may be tried
 * again soon: a node that has just been started is not missed for long. */
bool breaker_failed(struct breaker *b, bool cheap, uint64_t now, struct rng *rng);
/* Somebody says that the node lives: it may be probed at once. */
void breaker_hint(struct breaker *b, uint64_t now);

#endif
