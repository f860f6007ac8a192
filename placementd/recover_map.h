/* The map made anew from what the nodes have, when placementd was lost whole: `kvctl cluster
 * recover` without --lost. The data decides; what was acknowledged is where it was, nothing is
 * moved.
 *
 * Every replica says what it has applied: range, epoch, members. For each group the word of its
 * leader counts, if a majority of its voters is heard and nobody knows of a newer epoch: so it is
 * the newest that the group has decided. A group whose range another one has taken in (a merge) is
 * gone: the taker's range epoch is later. Then every slot has to belong to exactly one group, and
 * every node that has a replica has to be heard, or given up by name; else it is said what is
 * missing, and nothing is made. A merge under way comes in turned back, as after an import
 * (restore_apply.h).
 *
 * All ids begin above all that were seen, with a gap (RESTORE_GAP), so that what was given out and
 * is not seen is not given out again.
 *
 * Pure. Owner: none.  Thread: the loop.  Depends on: cluster, recovery. */
#ifndef PLACEMENTD_RECOVER_MAP_H
#define PLACEMENTD_RECOVER_MAP_H

#include "placementd/cluster.h"
#include "placementd/recovery.h"

#define RECOVER_FRESH_NS (4 * NS_PER_S) /* what was last said longer ago does not count */

/* One that is to come; borrowed. */
struct recover_map {
    const struct cluster *c; /* recovering: its id and nodes */
    const struct recovery *seen;
    uint64_t now;
    uint32_t n_lost;
    const uint32_t *lost; /* nodes that are given up */
    void *arg;
    void (*say)(void *arg, const char *line); /* what is there and what is missing, a line a call */
};

/* True: *out is the state, cluster_close() it. False: what is missing was said. */
bool recover_map_build(const struct recover_map *r, struct cluster *out);

#endif
