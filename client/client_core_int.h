/* Inside of client_core: shared by client_core.c (calls), client_many.c (calls of many keys),
 * client_route.c (which node), client_conn.c and client_reply.c (connections, answers) and
 * client_map.c (where the map comes from). Nobody else includes this.
 *
 * The way of an op: submit -> route -> (no map: core->want_map) -> its node's connection
 * (conn->waiting until the connection is ready and has room, then encoded and in conn->ring)
 * -> answered, or its attempt failed -> retry now, or its timer says when -> route. */
#ifndef CLIENT_CLIENT_CORE_INT_H
#define CLIENT_CLIENT_CORE_INT_H

#include "client/breaker.h"
#include "client/client_core.h"
#include "client/client_session.h"
#include "client/route_cache.h"
#include "common/base/limits.h"
#include "common/base/map.h"
#include "common/base/rng.h"
#include "common/wire/mp.h"
#include "common/wire/rpc.h"

enum timer_kind { TIMER_OP, TIMER_CONN };

enum conn_state {
    CONN_DOWN,       /* not open; not before retry_at */
    CONN_CONNECTING, /* the shell is at it */
    CONN_HELLO,      /* sys.hello sent, the answer awaited: nothing else may be sent */
    CONN_READY,
};

/* Message ids of requests that are not ops; those of ops are below. */
#define MSGID_CONTROL 0x80000000u
#define MSGID_HELLO (MSGID_CONTROL | 1)
#define MSGID_PING (MSGID_CONTROL | 2)
#define MSGID_MAP (MSGID_CONTROL | 3)
#define MSGID_WATCH (MSGID_CONTROL | 4)

/* Unanswered ops of one connection; the server stops reading at LIMIT_CONN_REQUESTS. */
#define CONN_INFLIGHT_MAX (LIMIT_CONN_REQUESTS - 8)
#define CONN_UNSENT_MAX (4 * MIB)         /* encoded ahead of what the kernel takes */
#define CONN_SILENCE_NS (300 * NS_PER_MS) /* unanswered so long: ping; again so long: stalled */
#define CONN_STALL_CLOSE_NS (5 * NS_PER_S)
#define CONN_CONNECT_NS (2 * NS_PER_S)
#define CONN_TIME_NS (60 * NS_PER_S) /* the server's clock is asked for again after so long */
#define MAP_POLL_NS (5 * NS_PER_S)
#define MAP_EAGER_NS (100 * NS_PER_MS) /* the map lacks what somebody waits for */

struct client_conn {
    struct client_core *core;
    unsigned id;
    bool is_map; /* number 0 */
    uint32_t node;
    uint16_t node_core;
    char addr[64];
    enum conn_state state;
    unsigned failures; /* in a row, for the back-off */
    uint64_t retry_at;
    struct wheel_node timer; /* connecting: give up; ready: look for a stall */

    struct buf in;  /* the start of a message that is not complete */
    size_t in_need; /* its length is at least this */
    struct buf out; /* encoded, from out_head on not yet handed over */
    size_t out_head;
    uint64_t handed;   /* bytes of this connection that the shell took */
    bool blocked;      /* the shell took a part only: wait for on_writable */
    struct list dirty; /* in core->dirty while there is something to hand over */

    struct client_op **ring; /* by msgid modulo its size; see conn_take_msgid() */
    uint32_t ring_size, n_inflight, next_msgid;
    struct list waiting; /* ops to be encoded here */

    uint64_t last_data, ping_at; /* ping_at 0: no ping under way */
    bool stalled;                /* answers nothing: ask other nodes meanwhile */
    /* The last attempt failed or it answered nothing: no op waits here until it has answered a
     * hello (a stopped process still lets its kernel accept connections). */
    bool suspect;
    bool answered; /* an op, since it is ready */
    struct breaker breaker;
    uint64_t latency;   /* ns, smoothed, of reads that any replica answers; 0: not known */
    uint64_t opened_at; /* the attempt to connect */
    uint64_t hello_at;  /* when the hello or the question for its time was sent */
    uint64_t time_ms;   /* the server's clock at time_at */
    uint64_t time_at, time_asked_at;
    uint64_t retain_ms; /* of its sessions; 0: it has none */
    char zone[LIMIT_NAME + 1];
};

/* A part of a client_many: items of one shard, as one request. */
struct client_part {
    struct client_op op;
    struct client_many *many;
    struct client_core *core;
    uint32_t n, cap;
    uint32_t *items; /* indices, ascending */
    size_t bytes;
    uint64_t until_ms; /* of its items that are unsure: all the same; 0: none is */
};

struct client_core {
    const struct client_core_ops *ops;
    void *arg;
    char name[64];
    char zone[LIMIT_NAME + 1];
    struct rng rng;
    uint64_t taste; /* in what order equal replicas take turns at weaker reads */
    struct client_session session;
    uint64_t time_ms, time_at; /* a server's clock, as the last hello told it */
    enum err closing;          /* client_core_fail_all() is at it: nothing is begun any more */
    struct buf items;          /* scratch: of the part that is encoded */
    struct route_cache routes;
    struct wheel wheel;
    struct list dirty;    /* struct client_conn.dirty */
    struct list want_map; /* ops that wait for a map that knows their slot */

    struct client_conn **conns; /* by number */
    unsigned n_conns;
    struct map conn_of; /* node << 16 | core -> struct client_conn */

    char seeds[CLIENT_SEEDS_MAX][64];
    unsigned n_seeds, next_addr;
    bool want_refresh; /* somebody met an old map */
    bool map_asked;    /* map.get or map.watch unanswered: single flight */
    bool no_watch;     /* that server does not know map.watch */
    uint64_t map_at;   /* when it was asked, or answered */
    struct client_core_stats stats;
};

/* ---- client_core.c ---- */
void client_core_log(struct client_core *core, int level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void client_core_route(struct client_core *core, struct client_op *op, uint64_t now);
/* Without a look at how its items are grouped. */
void client_core_route_op(struct client_core *core, struct client_op *op, uint64_t now);
/* Begins the flight of an op whose public fields are set. */
void client_core_start(struct client_core *core, struct client_op *op, uint16_t slot);
/* The op's attempt came to nothing. It must be in no list and on no connection any more. */
void client_core_attempt_failed(struct client_core *core, struct client_op *op,
                                const struct rpc_error *e, uint64_t now);
void client_core_complete(struct client_core *core, struct client_op *op,
                          const struct client_result *r);
/* The map has grown: ops that waited for it go on. */
void client_core_map_changed(struct client_core *core, uint64_t now);

/* Routes it at the next tick. */
void client_core_soon(struct client_core *core, struct client_op *op);
/* Fails what has come to its end in a place where done() must not be called: at the next tick. */
void client_core_give_up(struct client_core *core, struct client_op *op, uint64_t now);

/* ---- client_route.c ---- */
/* The connection to try; NULL: none can be used (*e says why; ERR_NOT_READY: the map lacks the
 * slot). */
struct client_conn *client_route_pick(struct client_core *core, const struct client_op *op,
                                      uint64_t now, struct route *r, enum err *e);

/* ---- client_many.c ---- */
/* Splits the part's op so that all its items are of one shard, by the map as it is, and within the
 * bounds of a request; what does not belong goes into parts of its own, which are routed. */
void client_many_regroup(struct client_part *p, uint64_t now);
/* The request's options stay the caller's; this fills method, key, items. Numbers the writes. */
void client_many_encode(struct client_part *p, struct msg_kv_request *q);
void client_many_unsure(struct client_part *p);
/* It has one item and goes as the method with a single key. */
static inline bool client_many_is_single(const struct client_part *p)
{
    return p->n == 1 && !p->many->all;
}
/* The method that the op goes as. */
static inline enum kv_method client_op_method(const struct client_op *op)
{
    return op->part && client_many_is_single(op->part)
               ? op->part->many->items[op->part->items[0]].method
               : op->method;
}
/* The answer of a part with more than one item. */
void client_many_on_reply(struct client_part *p, struct slice raw, uint64_t now);

/* ---- client_reply.c ---- */
void client_reply_saw_time(struct client_conn *c, const struct msg_hello_reply *r, uint64_t now);

/* ---- client_conn.c ---- */
struct client_conn *client_conn_new(struct client_core *core, const char *addr, uint64_t now);
void client_conn_free(struct client_conn *c);
struct client_conn *client_conn_for(struct client_core *core, const struct route *r, uint64_t now);
/* True if an op may be put there now. One that is suspect is opened by this, to find out. */
bool client_conn_usable(struct client_conn *c, uint64_t now);
void client_conn_open(struct client_conn *c, uint64_t now);
/* Closes it from our side; ops on it are failed or tried again. */
void client_conn_drop(struct client_conn *c, enum err why, uint64_t now);
/* Queues the op and encodes it at once if there is room. */
void client_conn_enqueue(struct client_conn *c, struct client_op *op, uint64_t now);
/* Takes a sent op off its connection. */
void client_conn_forget(struct client_op *op);
void client_conn_dirty(struct client_conn *c);
void client_conn_on_timer(struct client_conn *c, uint64_t now);
/* Encodes what waits, as far as there is room. */
void client_conn_pump(struct client_conn *c, uint64_t now);
/* The node did not do what it should: counts against its breaker. `cheap`: see breaker.h. */
void client_conn_failed(struct client_conn *c, bool cheap, uint64_t now);

/* ---- client_map.c ---- */
/* Opens the map's connection or asks for a newer map, if that is called for. */
void client_map_kick(struct client_core *core, uint64_t now);
void client_map_on_ready(struct client_conn *c, uint64_t now);
void client_map_on_reply(struct client_conn *c, const struct rpc_message *m, uint64_t now);
/* A map or a piece of one; `redirect`: it came with one. True if it was sound. */
bool client_map_take(struct client_core *core, struct slice raw, bool redirect, uint64_t now);
void client_map_on_timer(struct client_conn *c, uint64_t now);
void client_map_on_down(struct client_conn *c, uint64_t now);

#endif
