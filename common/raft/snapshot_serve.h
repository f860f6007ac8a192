/* Sender's side of the snapshot stream: answers the reads of other nodes from the snapshot_store.
 *
 * A connection that said HELLO with purpose PEER_SNAPSHOT is handed over by snapshot_serve(). Its
 * requests (at most SNAPSHOT_WINDOW waiting: more is a violation and closes it) are answered one at
 * a time, each read from the file on an offload thread; no read is started while more than 2 MiB of
 * earlier answers are unsent or while the rate's budget is spent, so a slow reader costs a bounded
 * buffer. At most `max_serves` connections: one more is answered with BUSY and closed. One without
 * progress for `idle_ns` is closed.
 *
 * Owner: struct core.  Thread: that core.  Depends on: conn, frame, snapshot_store, snapshot_wire.
 */
#ifndef RAFT_SNAPSHOT_SERVE_H
#define RAFT_SNAPSHOT_SERVE_H

#include "common/net/conn.h"
#include "common/raft/snapshot_store.h"

struct snapshot_server;

struct snapshot_server_options {
    struct io *io;
    struct conn_set *conns;
    struct snapshot_store *store;
    unsigned max_serves;  /* 0: 4 */
    uint64_t bytes_per_s; /* over all connections; 0: no limit; below 64 KiB/s counts as that */
    uint64_t idle_ns;     /* 0: 30 s */
};

struct snapshot_server *snapshot_server_create(const struct snapshot_server_options *o);
/* Ends all serves; `done` is called from the loop once the last read has ended and it is freed. */
void snapshot_server_destroy(struct snapshot_server *s, void (*done)(void *arg), void *arg);

/* Takes over a connection from peer_set_options.on_hello (same core and conn_set). */
void snapshot_serve(struct snapshot_server *s, struct conn *c);
/* The same for one that came from another core by conn_detach() and io_post(). Takes the handle. */
void snapshot_serve_handle(struct snapshot_server *s, int handle, struct slice rest);

struct snapshot_server_stats {
    unsigned serving;
    uint64_t served, refused, violations, chunks, bytes;
};
/* Another bytes_per_s from now on. */
void snapshot_server_set_rate(struct snapshot_server *s, uint64_t bytes_per_s);
void snapshot_server_stats(const struct snapshot_server *s, struct snapshot_server_stats *out);

#endif
