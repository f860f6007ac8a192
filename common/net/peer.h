/* Links to the other nodes for Raft messages: one outgoing connection per node (and core), all
 * groups batched into one frame with a CRC32C a turn; incoming connections carry the other way.
 *
 * Losing messages is allowed (Raft repeats them): a node that does not take its bytes loses the
 * newest ones once its buffer is full; reconnection with jittered back-off, 50 ms to 2 s.
 * The first frame of a connection is a HELLO: protocol version, cluster id, node, incarnation,
 * core, purpose. A HELLO of another cluster, of an unknown version, or meant for another node is
 * refused: the connection is closed and logged once.
 *
 * Owner: struct core.  Thread: that core.  Depends on: conn, wire/frame. */
#ifndef NET_PEER_H
#define NET_PEER_H

#include "common/net/conn.h"

struct peer_set;

enum peer_purpose { PEER_RAFT = 1, PEER_SNAPSHOT = 2 };

struct peer_hello {
    uint8_t cluster[16];
    uint32_t node;        /* who speaks */
    uint32_t to;          /* whom it wants */
    uint64_t incarnation; /* of the speaker's data directory */
    uint16_t core;        /* the speaker's core; asks for the core of the same number, modulo */
    uint8_t purpose;      /* enum peer_purpose */
};

struct peer_set_options {
    struct io *io;
    struct conn_set *conns;
    struct peer_hello self; /* `to` and `purpose` are filled in per link */
    void *arg;
    /* Address of a node's peer port; false if not known (yet). */
    bool (*resolve)(void *arg, uint32_t node, struct io_addr *out);
    /* One message of `group`, borrowed until return. */
    void (*on_message)(void *arg, uint32_t from, uint64_t group, struct slice message);
    /* A checked hello has come in on `c`, now owned by the receiver, which has to give it a home:
     * PEER_RAFT on this core: peer_take(); another core: conn_detach(), io_post(), and there
     * conn_adopt() through peer_take_handle(); PEER_SNAPSHOT: snapshot_serve(). */
    void (*on_hello)(void *arg, struct conn *c, const struct peer_hello *hello);
};

struct peer_set *peer_set_create(const struct peer_set_options *o);
void peer_set_destroy(struct peer_set *ps);
/* An accepted connection on the peer port: waits for its HELLO. Takes the handle. */
void peer_accept(struct peer_set *ps, int handle);
/* Goes on with a connection whose HELLO was seen: messages go to on_message. */
void peer_take(struct peer_set *ps, struct conn *c, const struct peer_hello *hello);
void peer_take_handle(struct peer_set *ps, int handle, const struct peer_hello *hello,
                      struct slice rest);

/* Queues one message for the node's frame of this turn (concatenation of `parts`, copied). */
void peer_send(struct peer_set *ps, uint32_t node, uint64_t group, const struct slice *parts,
               unsigned n);
/* End of turn, before conn_set_flush(): closes the frames. */
void peer_flush(struct peer_set *ps);
/* The address of a node has changed: drop its link and connect anew. */
void peer_forget(struct peer_set *ps, uint32_t node);
/* ns of io_now() at which anything last came from the node; 0: never. */
uint64_t peer_heard(const struct peer_set *ps, uint32_t node);

struct peer_stats {
    uint64_t frames_out, frames_in, messages_out, messages_in, dropped, connects, refused;
};
const struct peer_stats *peer_stats(const struct peer_set *ps);

#endif
