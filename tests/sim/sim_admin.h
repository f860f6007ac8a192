/* The operator of the cluster, as kvctl. Lays it out: asks the placementd members in turn for
 * cluster.init until one says that it is done, or was done before; then calls methods on demand,
 * one after the other, each until a member answers it, or some times. Owner: full_world.c. */
#ifndef SIM_SIM_ADMIN_H
#define SIM_SIM_ADMIN_H

#include "common/net/conn.h"

#define SIM_ADMIN_ASKS 64u

/* A call of admin.*: fields that are empty or 0 are left out. */
struct sim_ask {
    const char *method, *action; /* static */
    char node[16], from[16], to[16], plan[16], peer[32];
    uint64_t group, into, id, for_ms;
    uint32_t slot;
    bool has_for, all;
    bool patient; /* it has to be answered */
    unsigned tries;
};

struct sim_admin {
    struct io *io;
    struct conn_set *conns;
    struct conn *conn;
    struct io_timer tick;
    unsigned placements, next;
    unsigned groups, replicas;
    bool done; /* laid out */
    struct sim_ask ask[SIM_ADMIN_ASKS];
    unsigned n_asks;
    uint64_t answered, refused, unanswered;
    char plan[16]; /* id of the last one */
};

/* Inside a process of its own. */
struct sim_admin *sim_admin_start(unsigned placements, unsigned groups, unsigned replicas);
/* Puts it at the end of the queue; nothing happens if that is full. Inside the process. */
void sim_admin_ask(struct sim_admin *a, const struct sim_ask *ask);
/* Asks for a split of the group before the slot, if nothing else is asked for. Inside. */
void sim_admin_split(struct sim_admin *a, uint64_t group, uint16_t slot);

#endif
