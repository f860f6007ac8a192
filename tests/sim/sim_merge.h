/* Merges two neighbouring groups of the full world, as placementd would: step by step, each ordered
 * again and again until the shards' own state shows it; some are given up on the way. And watches
 * that what the shards decide fits together.
 *
 * Owner: the full world.  Depends on: sim, shardd. */
#ifndef SIM_SIM_MERGE_H
#define SIM_SIM_MERGE_H

struct replica;

/* `each` shows every replica of every node that is up; `call` runs a function in the process that
 * has the replica. Groups that one of the first `placements` hosts has an operator of, or does not
 * know, are left alone. */
void sim_merge_init(void (*each)(void (*fn)(struct replica *r)),
                    void (*call)(const struct replica *r, void (*fn)(void *arg), void *arg),
                    unsigned placements);
/* Nothing happens if one is under way or there are no two groups to merge. */
void sim_merge_begin(void);
/* Every replica, often. A violation: a merge that was both owned and given up, a source that serves
 * again though its target owns its range. */
void sim_merge_watch(const struct replica *r);
/* In the end. A violation: one is still under way. */
void sim_merge_judge(void);
/* How many have come to OWN, and were given up. */
unsigned sim_merge_owned(void);
unsigned sim_merge_aborted(void);

#endif
