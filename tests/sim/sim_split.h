/* Splits groups of the full world by order of an operator, and watches who owns which slot.
 *
 * Owner: the full world.  Depends on: sim, shardd. */
#ifndef SIM_SIM_SPLIT_H
#define SIM_SIM_SPLIT_H

#include <stdint.h>

struct replica;

/* `each` shows every replica of every node that is up; `split` has placementd asked to split a
 * group before a slot. */
void sim_split_init(void (*each)(void (*fn)(struct replica *r)),
                    void (*split)(uint64_t group, uint16_t slot));
/* Picks a group and a slot. */
void sim_split_begin(void);
/* Every replica, often: what each group owns by its newest state. A violation: two replicas of a
 * group disagree about an epoch. */
void sim_split_watch(const struct replica *r);
/* After a round of sim_split_watch(). A violation: two groups own one slot. */
void sim_split_check(void);
/* In the end. A violation: a slot that nobody owns; a child that was not made. */
void sim_split_judge(void);
/* How many groups there are, merged ones too. */
unsigned sim_split_groups(void);

#endif
