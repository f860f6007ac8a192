/* Lays the cluster out: asks the placementd members in turn for cluster.init until one says that it
 * is done, or was done before. Owner: full_world.c. */
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
};

/* Inside a process of its own. */
struct sim_admin *sim_admin_start(unsigned placements, unsigned groups, unsigned replicas);

#endif
