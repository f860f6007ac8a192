/* The client without I/O: calls in flight, routing, retries, sessions, connections' protocol.
 * Sans-I/O: no thread, lock, clock or socket inside, and no allocation per call of a single key;
 * time comes in as `now` (monotonic ns), bytes go in and out through functions. socket.c drives it
 * in production, the simulator in tests.
 *
 *   shell                                   core
 *   client_core_submit(op) ------------->   routes by slot, encodes into a connection's output
 *   client_core_flush() ---------------->   ops.connect(), ops.send() once per connection
 *   bytes arrive: client_core_on_data() ->  op->done(op, result)
 *   time passes: client_core_tick() ---->   deadlines, retries; op->done(op, result)
 *   client_core_next_deadline() says when to tick next.
 *
 * A turn of the shell: any number of submit, on_connected, on_data, on_writable, on_closed, then
 * tick (if due), then ONE flush. Connections are small numbers that the core picks and uses again
 * after they closed; number 0 is the map's.
 *
 * Rules. The functions in client_core_ops never call back into the core. op->done() is never called
 * inside client_core_submit(); inside it client_core_submit() may be called, nothing else of the
 * core. Every submitted op is answered exactly once, at its deadline at the latest (plus a tick).
 * Owner: the shell.  Thread: one.  Depends on: base, meta, wire. */
#ifndef CLIENT_CLIENT_CORE_H
#define CLIENT_CLIENT_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/wheel.h"
#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/wire/msg_kv.h"

struct client_core;
struct client_conn;
struct client_part;

struct client_core_ops {
    /* Start to connect `conn` to "ip:port". Later, from the shell's loop: on_connected or
     * on_closed. */
    void (*connect)(void *arg, unsigned conn, const char *addr);
    /* Hand bytes over: all or the first part of them (the count is returned; the rest is offered
     * again after client_core_on_writable()). Bytes not taken were surely never sent. 0 on an
     * error: on_closed comes from the loop. */
    size_t (*send)(void *arg, unsigned conn, struct slice data);
    /* Close at once; no on_closed for it. */
    void (*close)(void *arg, unsigned conn);
    /* level 0 debug, 1 info, 2 warning. May be NULL. */
    void (*log)(void *arg, int level, const char *text);
};

struct client_core_options {
    const char *const *seeds; /* "ip:port" of placementd or shardd; copied */
    unsigned n_seeds;         /* at least 1, at most CLIENT_SEEDS_MAX are used */
    const char *name;         /* for sys.hello; copied */
    const char *zone;         /* replicas there are asked first for weaker reads; NULL: none */
    uint64_t seed;            /* of the back-off's jitter */
    uint64_t now;
    const uint8_t *session; /* 16 random bytes, copied; NULL: made of `seed` */
    bool no_session;        /* writes of unknown fate are not repeated */
};
#define CLIENT_SEEDS_MAX 16u

/* What became of an op. Borrowed until op->done() returns. */
struct client_result {
    enum err err;
    bool maybe_applied; /* a failed write that may have been, or may yet be, applied */
    bool has_ttl;       /* of a get: the value expires */
    uint64_t
        version; /* of a failed condition: the key's present one; 0: it is absent, or not told */
    uint64_t ttl_ms;
    uint64_t at;    /* position of the shard that was read; 0: not told */
    int64_t number; /* incr */
    struct slice value;
    const char *text; /* "" if there is nothing to say */
};

/* The place of a write in the session: what a repetition is known by. Private. */
struct client_write {
    struct list link; /* in the session's list of unanswered ones, by seq; self-linked otherwise */
    uint64_t seq;     /* 0: none was given */
    uint64_t until_ms;
};

/* One call. The memory is the caller's; it and the bytes of key and value must stay until done().
 */
struct client_op {
    /* the caller's */
    enum kv_method method; /* one with a single key */
    struct slice key, value;
    int64_t delta; /* incr */
    bool if_absent, has_if_version, has_ttl;
    uint8_t level; /* enum kv_read_level */
    uint64_t if_version;
    uint64_t ttl_ms;       /* of put, incr, touch; touch without one: for ever */
    uint64_t staleness_ms; /* bounded level */
    uint64_t deadline;     /* ns */
    void (*done)(struct client_op *op, const struct client_result *r);
    /* private */
    struct wheel_node timer;  /* always set while in flight */
    struct list link;         /* in a list of waiters; self-linked otherwise */
    struct client_conn *conn; /* sent there and not answered; NULL otherwise */
    struct client_part *part; /* this is a part of a client_many; NULL otherwise */
    struct client_write write;
    uint64_t sent_end; /* position in the connection's stream after the last byte */
    uint64_t sent_at;  /* when it was encoded last */
    uint32_t msgid;
    uint32_t asked_node; /* the last node that it went to */
    uint16_t slot;
    uint16_t attempts, hops;
    uint16_t sends;    /* times it was given to a connection */
    bool unsure;       /* a write: an attempt may have been applied */
    bool hopeless;     /* unsure, and cannot be repeated: fails at the next tick */
    bool to_leader;    /* a weaker read that a replica sent to the leader */
    bool follower;     /* it was sent to a replica that is not known to lead */
    enum err last_err; /* why it is being tried again */
};

/* One key of an mget or one operation of a batch. */
struct client_item {
    /* the caller's, as in client_op; GET in an mget */
    enum kv_method method;
    bool if_absent, has_if_version, has_ttl;
    struct slice key, value;
    int64_t delta;
    uint64_t if_version, ttl_ms;
    /* private */
    struct client_write write;
    struct client_part *part; /* that it is in */
    uint32_t before;          /* 1 + index of the operation of the same key before it; 0: none */
    uint16_t slot;
    uint8_t state;
    bool unsure;
};

/* Many keys in one call: split by shard, sent in parallel, put together anew when the map moves.
 * The memory is the caller's, as with client_op. */
struct client_many {
    /* the caller's */
    enum kv_method method; /* KV_METHOD_MGET or KV_METHOD_BATCH */
    bool all;              /* batch: all or nothing. Then one slot, at most LIMIT_BATCH items */
    uint8_t level;
    uint64_t staleness_ms;
    uint64_t deadline;
    uint64_t bytes_max; /* values that an mget may gather; items beyond fail with TOO_LARGE */
    struct client_item *items;
    uint32_t n; /* at least 1 */
    /* Once per item, in any order; the result is borrowed. Then done(), once. The rules of
     * client_op.done() hold for both. */
    void (*item_done)(struct client_many *m, uint32_t i, const struct client_result *r);
    void (*done)(struct client_many *m);
    /* private */
    uint64_t bytes;
    uint32_t left, waiting;
    bool failed, unknown;
};

struct client_core_stats {
    uint64_t calls, ok, failed, unknown, retries, redirects, connects, disconnects, map_updates;
    uint64_t map_version, in_flight, bytes_sent, bytes_received;
    uint64_t retried, retries_max; /* operations sent more than once; how often at most */
    uint64_t breaker_opens, follower_reads;
};

/* `ops` is borrowed for the core's life. */
struct client_core *client_core_create(const struct client_core_options *options,
                                       const struct client_core_ops *ops, void *arg);
/* Fails what is in flight with ERR_CLOSED (see client_core_fail_all) and closes the connections. */
void client_core_destroy(struct client_core *core);

/* Always accepted: sizes are the caller's to check (key 1 byte to LIMIT_KEY). */
void client_core_submit(struct client_core *core, struct client_op *op, uint64_t now);
/* Likewise. */
void client_core_submit_many(struct client_core *core, struct client_many *m, uint64_t now);
void client_core_on_connected(struct client_core *core, unsigned conn, uint64_t now);
void client_core_on_data(struct client_core *core, unsigned conn, struct slice data, uint64_t now);
void client_core_on_writable(struct client_core *core, unsigned conn);
/* Also for a connection that could not be established. `why` only for messages. */
void client_core_on_closed(struct client_core *core, unsigned conn, enum err why, uint64_t now);
void client_core_tick(struct client_core *core, uint64_t now);
/* A lower bound; UINT64_MAX: none. 0: at once. */
uint64_t client_core_next_deadline(const struct client_core *core);
void client_core_flush(struct client_core *core, uint64_t now);
/* Answers everything in flight with `why`; writes that were sent: maybe applied. */
void client_core_fail_all(struct client_core *core, enum err why);

/* What this client has seen so far, as text (see token.h); appended to *out. */
void client_core_export(const struct client_core *core, struct buf *out);
/* Takes such a text: session reads see that too. ERR_BAD_REQUEST: it is none; ERR_FOREIGN: of
 * another cluster. Where the cluster is not known yet, it is compared when it is. */
MUST_USE enum err client_core_import(struct client_core *core, struct slice token);
void client_core_get_stats(const struct client_core *core, struct client_core_stats *out);

#endif
