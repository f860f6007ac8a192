/* A shardd as a simulated process: what shardd/server.c does, without threads. */
#ifndef SIM_SIM_SHARDD_H
#define SIM_SIM_SHARDD_H

#include "common/io/data_dir.h"
#include "shardd/core.h"
#include "shardd/front.h"
#include "tests/sim/scenario.h"

#define SIM_SHARDD_CLIENT_PORT 7200u
#define SIM_SHARDD_PEER_PORT 7300u

struct sim_shardd {
    unsigned number;
    struct data_dir dir;
    struct node node;
    struct front *front;
    void (*watch)(struct core *c); /* something has changed there, just now; may be NULL */
    char name[16], host[16], zone[16];
};

/* Inside the process of host `number`. Ends the process if a fault of the disk is in the way. */
struct sim_shardd *sim_shardd_start(unsigned number, unsigned cores, const struct scenario *s);

#endif
