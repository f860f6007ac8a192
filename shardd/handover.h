/* A planned change of leader as clients see it: requests wait for the milliseconds that it takes.
 *
 * From handover_begin() on the replica proposes nothing (the driver waits until the target has the
 * whole log); writes stay in the open batch and, once this replica leads no more, reads in the
 * gathered list. As soon as the new leader is known all are answered with a redirect to it; if the
 * handover fails, or takes longer than HANDOVER_HOLD_MS, they go on as ever. Nothing that is held
 * was proposed, so a client may send it again without doubt.
 *
 * Owner: struct replica.  Thread: its core. */
#ifndef SHARDD_HANDOVER_H
#define SHARDD_HANDOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"

#define HANDOVER_HOLD_MS 300u

struct replica;

/* Hands leadership to replica id `to` (0: the most advanced voter). Errors as group_transfer(). */
MUST_USE enum err handover_begin(struct replica *r, uint64_t to);
/* Requests wait for the new leader: proposals and, unless it leads, reads. */
bool handover_holds(const struct replica *r);
/* Role or leader may have changed, or time has passed: lets go what was held if it is over. */
void handover_settle(struct replica *r);

#endif
