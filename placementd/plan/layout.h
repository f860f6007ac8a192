/* The first layout: where the replicas of N equal slot ranges go.
 *
 * Rules: all slots are covered, ranges differ by one slot at most; a group's replicas are on
 * different nodes, and on different hosts unless that is waived; on different zones where there are
 * zones enough; replicas and preferred leaders (the first of each group) differ by one or two
 * between nodes where hosts and zones allow.
 *
 * Pure, the same answer for the same question.  Thread: any.  Depends on: base, meta. */
#ifndef PLACEMENTD_PLAN_LAYOUT_H
#define PLACEMENTD_PLAN_LAYOUT_H

#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/meta/shard_map.h"

struct layout_node {
    uint32_t node;
    const char *zone, *host; /* "" for the zone: the host is its own; borrowed */
};

struct layout_request {
    uint32_t n_nodes;
    const struct layout_node *nodes; /* those that may take replicas */
    uint32_t groups;                 /* 1 .. LIMIT_SLOTS */
    uint32_t replicas;               /* 1, 3 or 5 */
    bool allow_same_host;
    uint64_t first_group, first_replica; /* ids are counted up from these */
};

/* Fills groups[0 .. request->groups). ERR_BAD_REQUEST, ERR_REFUSED: `msg` says what is missing. */
MUST_USE enum err layout_plan(const struct layout_request *request, struct shard_desc *groups,
                              char *msg, size_t n);

#endif
