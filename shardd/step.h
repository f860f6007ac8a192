/* Carries out one step of placementd on the core that has the group (msg_placement.h).
 *
 * Every step is idempotent and comes again with each report until one proves it, so a step that
 * cannot be done now is simply left; the leader remembers why (refused_op, refused_err of the
 * replica) and the report says it. Steps for a leader are guarded by the shard's epoch: an order
 * from the past, or to a leader that is no more, does nothing.
 *
 * Owner: none.  Thread: the group's core.  Depends on: core, replica, handover, split, merge. */
#ifndef SHARDD_STEP_H
#define SHARDD_STEP_H

#include "common/wire/msg_heartbeat.h"

struct core;

void step_run(struct core *c, const struct msg_step *s);

#endif
