/* cluster.status: the whole picture as one MessagePack map that translates to JSON one to one.
 *
 *   {"schema":1, "cluster":hex, "version":n, "health":"ok|degraded|unavailable|forming|unknown",
 *    "reasons":[text...], "from":member, "leader":member, "leader_addr":text,
 *    "authoritative":bool, "paused":bool,
 *    "members":[{"id","client","peer","leader":bool,"self":bool,"heard_ms":n|nil}...],
 *    "nodes":[{"id","name","address","peer","zone","host","state","leaders","replicas","bytes",
 *              "disk_free","disk_size","cores","heard_ms":n|nil,
 *              "draining":bool,"maintenance_ms":n}...],
 *    "groups":[{"id","first_slot","last_slot","epoch":[r,m],"leader":node|0,"term",
 *               "replicas":[{"node","id","role","match","created"}...],"bytes","keys",
 *               "reads","writes"}...],
 *    "operators":[{"id","kind","group","step","steps","reason","state","doing","from","to",
 *                  "bytes","moved","age_ms","waits_for"}...]}
 * Health is unknown when a follower is asked. Node states: up, suspect, down, unknown (a new leader
 * has not heard it yet, or the answer is not authoritative), lost, draining, removed. Only the
 * leader's answer is authoritative: liveness, leaders and sizes are known to it alone.
 *
 * Pure reading. Owner: none.  Thread: the loop.  Depends on: server. */
#ifndef PLACEMENTD_STATUS_H
#define PLACEMENTD_STATUS_H

#include "common/base/slice.h"

struct server;

void status_encode(struct server *s, struct buf *out);

#endif
