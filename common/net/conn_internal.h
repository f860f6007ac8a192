/* What the files of conn share: conn.c has a connection, conn_set.c all of them.
 *
 * Owner: conn.c.  Thread: as in conn.h.  Depends on: conn. */
#ifndef NET_CONN_INTERNAL_H
#define NET_CONN_INTERNAL_H

#include "common/base/limits.h"
#include "common/net/conn.h"

struct conn_set {
    struct io *io;
    struct list all;
    struct list dirty; /* with output to be sent */
    struct list todo;  /* with an end to report or messages to deliver */
    struct io_timer timer;
    unsigned count;
    size_t held, bound;    /* bytes of all connections, and from where on they are a crowd */
    struct io_timer watch; /* runs while they are */
};

struct conn {
    struct list link, dirty, todo;
    struct conn_set *set;
    struct io_sock *sock;
    const struct conn_ops *ops;
    void *arg;
    struct buf in;           /* received, not yet delivered */
    size_t need;             /* bytes that the first message in `in` needs at least; 0: unknown */
    struct buf out, sending; /* the next output; the output under way */
    size_t counted;          /* of all three, in set->held */
    uint64_t send_since;     /* when the output under way was begun */
    struct io_timer partial, linger;
    uint64_t partial_since; /* when the message began that is still incomplete; 0: there is none */
    size_t partial_bytes;   /* received since */
    bool connected;
    bool paused; /* by the owner */
    bool choked; /* too much unsent output */
    bool sock_paused;
    bool closing; /* sends what there is, then ends */
    bool ending;  /* on_end is due */
    void (*detached)(void *arg, int handle, struct slice rest);
    void *detached_arg;
    enum err why;
};

static inline bool conn_set_crowded(const struct conn_set *cs)
{
    return cs->held > cs->bound;
}

/* So much may be unsent before reading pauses. */
static inline size_t conn_out_limit(const struct conn *c)
{
    return conn_set_crowded(c->set) ? LIMIT_CONN_CROWDED : LIMIT_CONN_OUT;
}

/* ---- conn.c ---- */

/* Takes it off all lists and lets go of its socket. */
void conn_release(struct conn *c);
void conn_free(struct conn *c);
/* on_end(), now, and the end. */
void conn_finish(struct conn *c);
void conn_end_later(struct conn *c, enum err why);
/* Goes on after a stop: first with what is in `in`. */
void conn_go_on(struct conn *c);
/* Starts a send of what is in `out`, unless one is under way. */
void conn_flush(struct conn *c);

#endif
