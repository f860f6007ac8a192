/* What a core looks after every 100 ms: memory, the WAL's length, disk space, broken and doomed
 * replicas. Admission rests on its findings.
 *
 * - Memtables over three quarters of the budget: the largest replica's is flushed; over one and a
 *   half budgets: writes get BUSY.
 * - A replica whose memtable is full, or that pins old WAL segments, is flushed; what that made
 *   durable cuts its log.
 * - Every second: free disk space.
 *
 * Owner: struct core.  Thread: its own, with work on the offload threads. */
#ifndef SHARDD_MAINTENANCE_H
#define SHARDD_MAINTENANCE_H

struct core;

void maintenance_tick(struct core *c);

/* Destroys the replicas that are doomed, are quiet, and whose tombstone is durable. */
void maintenance_bury(struct core *c);

#endif
