/* What a core looks after every 100 ms: memory, the WAL's length, disk space, broken and doomed
 * replicas. Admission rests on its findings.
 *
 * - Memtables over three quarters of the budget: the largest replica's is flushed; over one and a
 *   half budgets: writes get BUSY.
 * - A replica whose memtable is full, or that pins old WAL segments, is flushed; what that made
 *   durable cuts its log.
 * - Every second: free disk space.
 *
 * A full disk. Each core looks at the free space once a second, each tick when it gets short. Below
 * twice the reserve its WAL keeps no spare segments; below it writes get NO_SPACE (deletes and
 * reads go on) until one and a half times of it are free. The reserve is half the memtable budget
 * and two WAL segments: what it takes to flush, cut the log and go on. A flush that has no room is
 * not begun, as its failure breaks the replica; one that is broken for want of space is reopened as
 * soon as there is some. `tiny_disk_full` in tests/cluster/disks.py: six daemons on 1.2 GiB.
 *
 * Owner: struct core.  Thread: its own, with work on the offload threads. */
#ifndef SHARDD_MAINTENANCE_H
#define SHARDD_MAINTENANCE_H

struct core;

void maintenance_tick(struct core *c);

/* Destroys the replicas that are doomed, are quiet, and whose tombstone is durable. */
void maintenance_bury(struct core *c);

#endif
