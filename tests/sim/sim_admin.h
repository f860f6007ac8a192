/* The operator of the cluster. Lays it out: asks the placementd members in turn for cluster.init
 * until one says that it is done, or was done before; then splits groups on demand.
 * Owner: full_world.c. */
#ifndef SIM_SIM_ADMIN_H
#define SIM_SIM_ADMIN_H

#include "common/net/conn.h"

struct sim_admin {
    struct io *io;
    struct conn_set *conns;
    struct conn *conn;
    struct io_timer tick;
    unsigned placements, next;
    unsigned groups, replicas;
    bool done;
    uint64_t split; /* group; 0: none */
    uint16_t slot;
    unsigned tries;
};

/* Inside a process of its own. */
struct sim_admin *sim_admin_start(unsigned placements, unsigned groups, unsigned replicas);
/* Asks for a split of the group before the slot until a member answers, or some times. Nothing
 * happens while one is asked for. Inside the process. */
void sim_admin_split(struct sim_admin *a, uint64_t group, uint16_t slot);

#endif
