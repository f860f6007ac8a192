/* Nodes that are gone for good: which groups lose their majority with them, and which replica each
 * of those can go on with. What `kvctl cluster recover --lost` says and does.
 *
 * A group that keeps a majority is left to the planner, which replaces what is missing. One that
 * does not can decide nothing any more: the surviving replica whose log is the longest (last term,
 * then last index) makes itself the only voter (group_force()), and the planner makes three of it.
 * What was acknowledged by lost replicas alone is given up with them. To be sure that the longest
 * log is found every survivor has to be heard.
 *
 * Pure. Owner: none.  Thread: the loop.  Depends on: cluster, liveness. */
#ifndef PLACEMENTD_RECOVER_LOST_H
#define PLACEMENTD_RECOVER_LOST_H

#include "placementd/cluster_command.h"
#include "placementd/liveness.h"

/* One that is to come; borrowed. */
struct recover_lost {
    const struct cluster *c;
    const struct liveness *live;
    uint64_t now;
    uint32_t n;
    const uint32_t *node; /* those that are lost */
    void *arg;
    void (*say)(void *arg, const char *line); /* what will happen, a line a call */
};

/* ERR_OK: `cmd` is the command, cluster_command_close() it. ERR_REFUSED with `why`: a node is still
 * heard, or a survivor is not. */
MUST_USE enum err recover_lost_plan(const struct recover_lost *r, struct cluster_command *cmd,
                                    char *why, size_t n);

#endif
