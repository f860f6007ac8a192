/* More and fewer members of placementd, at random (scenario: founders, placements).
 *
 * Hosts 1 .. founders begin; the others are spares. The operator's client starts an empty member on
 * a spare, or on a host whose member was removed, under an id that was never used, and asks for it
 * to be added; or asks for any one to be removed. In peace: whoever is wanted votes (one of an even
 * number may stand by), whoever was removed has ended, and enough has happened.
 *
 * Owner: full_world.c, sim_cluster.c.  Depends on: sim_placement. */
#ifndef SIM_SIM_MEMBERS_H
#define SIM_SIM_MEMBERS_H

#include "placementd/cluster.h"
#include "tests/sim/scenario.h"
#include "tests/sim/sim_cluster.h"

void sim_members_init(const struct scenario *s, const struct sim_cluster_ops *ops);
/* `c`: as placementd's leader (or who is up) has it. */
void sim_members_act(const struct cluster *c);
void sim_members_judge(void);

#endif
