/* A replica as the report to placementd shows it.
 * Thread: its core's.  Depends on: replica, split, merge, load. */
#ifndef SHARDD_DESCRIBE_H
#define SHARDD_DESCRIBE_H

#include "common/wire/msg_heartbeat.h"
#include "shardd/replica.h"

void describe_replica(const struct replica *r, struct msg_group_status *out);

#endif
