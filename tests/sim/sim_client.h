/* A client process of the simulated world: client_core over simulated sockets, with the calls of
 * one or more clients on it. Owner: full_world.c. */
#ifndef SIM_SIM_CLIENT_H
#define SIM_SIM_CLIENT_H

#include "client/client_core.h"
#include "common/io/io.h"

#define SIM_CLIENT_CONNS 64u

struct sim_client_conn {
    struct sim_client *client;
    unsigned id;
    struct io_sock *sock;
    struct buf out; /* handed to the socket */
    bool connected;
};

struct sim_client {
    struct io *io;
    struct client_core *core;
    struct sim_client_conn *conn[SIM_CLIENT_CONNS];
    struct io_timer tick;
};

/* Inside the process. `seeds`: as of client_core_options. */
struct sim_client *sim_client_start(const char *const *seeds, unsigned n);

#endif
