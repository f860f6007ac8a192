/* Streams of the simulated network: between sim_net.c, which moves bytes from host to host, and
 * sim_sock.c, which is io.h's sockets and listeners above them. */
#ifndef SIM_SIM_STREAM_H
#define SIM_SIM_STREAM_H

#include "tests/sim/sim_internal.h"

/* One side of a connection. */
struct end {
    struct conn *conn;
    unsigned host, life; /* whose it is */
    int handle;          /* of an accepted one that no io has adopted; 0: none */
    struct io_sock *sock;
    bool gone; /* closed by the owner, or its host died */
    bool established;
    /* outgoing */
    struct list pipe;
    struct sim_event event; /* delivery of the first chunk */
    uint64_t last_at, rto;
    size_t unacked;
    struct sim_event ack;
    size_t to_ack;
    /* incoming */
    struct buf rx;
    bool fin, reset;
};

struct conn {
    struct list link;
    struct end end[2]; /* 0: who connected */
    struct io_addr to;
    uint64_t began;
};

/* The process' side of an end. */
struct io_sock {
    struct sim_grave grave;
    struct sim_ready ready_rx, ready_sent, ready_connected, ready_detach;
    struct io *io;
    struct end *end;
    const struct io_sock_ops *ops;
    void *arg;
    struct slice tx;
    size_t tx_done;
    bool sending, paused, ended, closed;
    void (*detached)(void *arg, int handle);
};

/* sim_net.c */
/* A new connection to `target`, its SYN on its way; the client's end. */
struct end *sim_conn_open(unsigned from, unsigned target, const struct io_addr *to);
void sim_end_close(struct end *e);
/* Moves what fits into the window from the sender's memory into the pipe. */
void sim_end_pump(struct end *e);
/* Has the socket's owner look at what came, if there is anything it wants to see. */
void sim_end_wake(struct end *e);
/* The receiver took n bytes: the sender's window opens once the news has travelled. */
void sim_end_acknowledge(struct end *receiver, size_t n);

/* sim_sock.c */
bool sim_listener_there(unsigned host, uint16_t port);
/* There must be one; it hears of it in its next turn. */
void sim_listener_accept(unsigned host, uint16_t port, int handle, unsigned from,
                         uint16_t from_port);

#endif
