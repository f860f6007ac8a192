/* A placementd member as a simulated process. Its object file keeps placementd's own symbols to
 * itself (tests.mk), because shardd has functions of the same names. */
#ifndef SIM_SIM_PLACEMENT_H
#define SIM_SIM_PLACEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sim/scenario.h"

#define SIM_PLACEMENT_CLIENT_PORT 7000u
#define SIM_PLACEMENT_PEER_PORT 7100u

/* Inside the process of host `number`; members are the hosts 1 .. scenario's. Ends the process if
 * it cannot start for a fault of the disk; anything else is a violation. */
void sim_placement_start(unsigned number, const struct scenario *s);

/* The member that is to be on the host from its next start on, with an empty disk: its id. */
void sim_placement_rename(unsigned number, uint32_t id);
uint32_t sim_placement_id(unsigned number);
/* It was told that it was removed. */
bool sim_placement_removed(unsigned number);
/* What the member, which leads, has to say of the membership. */
void sim_placement_note(unsigned number, char *out, size_t n);

struct cluster;
/* The state that the member on host `number` has, as it has applied it. Only while its process is
 * up; NULL: it has none yet. */
const struct cluster *sim_placement_state(unsigned number, bool *leads);
/* The member knows the group and has no operator for it. */
bool sim_placement_settled(unsigned number, uint64_t group);

#endif
