/* The client's core under a shell made of arrays: every step of time and every byte is the test's.
 * For the tests of client_core; one world a test program. */
#ifndef TESTS_UNIT_CLIENT_CORE_WORLD_H
#define TESTS_UNIT_CLIENT_CORE_WORLD_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/client_core.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/wire/mp.h"
#include "common/wire/msg_map.h"
#include "common/wire/rpc.h"

#define CONNS 16
#define NODES 3

struct wire {
    bool open, established, mute;
    char addr[64];
    struct buf out; /* what the core has sent and the test has not looked at */
    unsigned connects;
};

static struct client_core *core;
static struct wire wires[CONNS];
static uint64_t now;
static uint64_t retain_ms; /* that servers tell in their hello; 0: they have no sessions */
#define SERVER_TIME 1700000000000ULL /* at the beginning */
#define BEGINNING (100 * NS_PER_S)
static size_t send_limit; /* bytes that "the kernel" takes */

static inline void op_connect(void *arg, unsigned conn, const char *addr)
{
    (void)arg;
    ck_assert(!wires[conn].open);
    wires[conn].open = true;
    wires[conn].established = wires[conn].mute = false;
    wires[conn].connects++;
    buf_clear(&wires[conn].out);
    snprintf(wires[conn].addr, sizeof(wires[conn].addr), "%s", addr);
}

static inline size_t op_send(void *arg, unsigned conn, struct slice data)
{
    (void)arg;
    ck_assert(wires[conn].established);
    size_t n = data.n < send_limit ? data.n : send_limit;
    send_limit -= n;
    buf_append(&wires[conn].out, data.p, n);
    return n;
}

static inline void op_close(void *arg, unsigned conn)
{
    (void)arg;
    ck_assert(wires[conn].open);
    wires[conn].open = false;
}

static const struct client_core_ops ops = {op_connect, op_send, op_close, NULL};

/* ---- an operation of the test ---- */

struct op {
    struct client_op op;
    int answers;
    enum err err;
    bool maybe;
    uint64_t version;
    int64_t number;
    bool has_ttl;
    uint64_t ttl_ms;
    char value[64];
};

static inline void on_done(struct client_op *op, const struct client_result *r)
{
    struct op *o = CONTAINER_OF(op, struct op, op);
    o->answers++;
    o->err = r->err;
    o->maybe = r->maybe_applied;
    o->version = r->version;
    o->number = r->number;
    o->has_ttl = r->has_ttl;
    o->ttl_ms = r->ttl_ms;
    snprintf(o->value, sizeof(o->value), "%.*s", (int)r->value.n, (const char *)r->value.p);
}

static inline void submit(struct op *o, enum kv_method method, const char *key, unsigned timeout_ms)
{
    ck_assert(!o->op.done || o->answers == 1); /* not in flight */
    *o = (struct op){0};
    o->op.method = method;
    o->op.key = slice_str(key);
    o->op.value = slice_str(method == KV_METHOD_PUT ? "value" : "");
    o->op.deadline = now + timeout_ms * NS_PER_MS;
    o->op.done = on_done;
    client_core_submit(core, &o->op, now);
    ck_assert_int_eq(o->answers, 0); /* never inside submit */
    client_core_flush(core, now);
}

/* ---- the world's side ---- */

static inline void setup(void)
{
    static const char *const seeds[] = {"10.0.0.1:1", "10.0.0.2:1"};
    for (unsigned i = 0; i < CONNS; i++) {
        buf_close(&wires[i].out);
        wires[i] = (struct wire){0};
    }
    now = BEGINNING;
    send_limit = SIZE_MAX;
    retain_ms = 0;
    struct client_core_options o = {
        .seeds = seeds, .n_seeds = 2, .seed = 1, .now = now, .zone = "here"};
    core = client_core_create(&o, &ops, NULL);
}

static inline void teardown(void)
{
    client_core_destroy(core);
}

static inline void advance(unsigned ms)
{
    for (uint64_t end = now + ms * NS_PER_MS; now < end;) {
        now += WHEEL_TICK_NS;
        client_core_tick(core, now);
        client_core_flush(core, now);
    }
}

/* The next request on the connection; false if there is none. Borrowed until the next call. */
static inline bool next_request(unsigned conn, struct rpc_message *m)
{
    static struct buf message;
    size_t n;
    if (rpc_split(buf_slice(&wires[conn].out), LIMIT_FRAME, &n) != ERR_OK)
        return false;
    buf_clear(&message);
    buf_append(&message, wires[conn].out.p, n);
    buf_consume(&wires[conn].out, n);
    ck_assert_int_eq(rpc_decode(buf_slice(&message), m), ERR_OK);
    ck_assert_int_eq(m->type, RPC_REQUEST);
    return true;
}

static inline bool is_method(const struct rpc_message *m, const char *name)
{
    return slice_eq(m->method, slice_str(name));
}

static inline void feed(unsigned conn, struct buf *b)
{
    client_core_on_data(core, conn, buf_slice(b), now);
    buf_close(b);
    client_core_flush(core, now);
}

static inline unsigned conn_to(const char *addr)
{
    for (unsigned i = 1; i < CONNS; i++)
        if (wires[i].open && strcmp(wires[i].addr, addr) == 0)
            return i;
    return 0;
}

/* Connects and answers the hello. */
static inline void accept_conn(unsigned conn, uint32_t node)
{
    struct rpc_message m;
    struct buf b = {0};
    struct msg_hello_reply r = {.proto = 1, .node = node, .cores = 1};
    if (retain_ms) {
        r.time_ms = SERVER_TIME + (now - BEGINNING) / NS_PER_MS;
        r.retain_ms = retain_ms;
    }
    ck_assert(wires[conn].open && !wires[conn].established);
    wires[conn].established = true;
    client_core_on_connected(core, conn, now);
    client_core_flush(core, now);
    ck_assert(next_request(conn, &m) && is_method(&m, "sys.hello"));
    ck_assert(!next_request(conn, &m)); /* nothing before the answer */
    msg_hello_reply_encode(&b, m.msgid, &r);
    feed(conn, &b);
}

/* One group of three replicas over all slots; node i at 10.1.0.i:1; leader: replica 10 + node. */
static inline void put_map(struct buf *b, uint32_t leader, uint32_t epoch)
{
    struct shard_map m;
    shard_map_init(&m);
    m.version = epoch;
    struct shard_desc s = {.group = 7,
                           .last_slot = LIMIT_SLOTS - 1,
                           .epoch = {1, epoch},
                           .leader = leader ? 10 + leader : 0,
                           .n_replicas = NODES};
    for (uint32_t i = 0; i < NODES; i++) {
        struct shard_node n = {.node = i + 1, .cores = 1};
        snprintf(n.name, sizeof(n.name), "n%u", i + 1);
        snprintf(n.client_addr, sizeof(n.client_addr), "10.1.0.%u:1", i + 1);
        s.replica[i] = (struct shard_replica){.replica = 11 + i, .node = i + 1, .role = 1};
        shard_map_put_node(&m, &n);
    }
    shard_map_put_shard(&m, &s);
    msg_map_encode(b, &m);
    shard_map_close(&m);
}

static inline void give_map(uint32_t leader)
{
    struct rpc_message m;
    struct buf b = {0};
    accept_conn(0, 99);
    ck_assert(next_request(0, &m) && is_method(&m, "map.watch"));
    rpc_put_result(&b, m.msgid);
    put_map(&b, leader, 1);
    feed(0, &b);
}

static inline void answer_get(unsigned conn, const char *value)
{
    struct rpc_message m;
    struct buf b = {0};
    ck_assert(next_request(conn, &m) && is_method(&m, "kv.get"));
    msg_kv_put_get_result(&b, m.msgid,
                          &(struct msg_kv_result){.value = slice_str(value), .version = 5});
    feed(conn, &b);
}

static inline void answer_error(unsigned conn, const char *method, enum err e, uint32_t leader,
                                struct slice map)
{
    struct rpc_message m;
    struct buf b = {0};
    struct rpc_error re = {.err = e, .leader = leader, .map = map};
    ck_assert(next_request(conn, &m) && is_method(&m, method));
    rpc_put_error(&b, m.msgid, &re);
    feed(conn, &b);
}

static inline void lose(unsigned conn)
{
    wires[conn].open = wires[conn].established = false;
    client_core_on_closed(core, conn, ERR_CLOSED, now);
    client_core_flush(core, now);
}

/* A get waiting for nothing but its node 1. Returns the connection. */
static inline unsigned begin(struct op *o, enum kv_method method)
{
    submit(o, method, "k", 5000);
    give_map(1);
    unsigned c = conn_to("10.1.0.1:1");
    ck_assert_uint_ne(c, 0);
    accept_conn(c, 1);
    return c;
}

/* A request for keys that came in somewhere. */
struct asked {
    unsigned conn;
    uint32_t node, msgid;
    struct msg_kv_request q;
};

static inline bool method_of(const struct rpc_message *m, enum kv_method *out)
{
    for (unsigned k = 0; k < KV_METHODS; k++) {
        *out = (enum kv_method)k;
        if (is_method(m, msg_kv_method_name(*out)))
            return true;
    }
    return false;
}

/* Lets up to `ms` pass, accepting every connection and answering pings, until a request for keys
 * comes; false if none does. What the request borrows is valid until the next call. */
static inline bool next_asked(unsigned ms, struct asked *a)
{
    for (uint64_t end = now + ms * NS_PER_MS;; advance(2)) {
        for (unsigned conn = 1; conn < CONNS; conn++) {
            struct rpc_message m;
            enum kv_method method;
            if (!wires[conn].open || wires[conn].mute)
                continue;
            a->node = (uint32_t)(wires[conn].addr[7] - '0');
            if (!wires[conn].established)
                accept_conn(conn, a->node);
            while (next_request(conn, &m)) {
                if (!method_of(&m, &method)) {
                    struct buf b = {0};
                    struct msg_hello_reply r = {.proto = 1, .node = a->node, .cores = 1};
                    r.time_ms = retain_ms ? SERVER_TIME + (now - BEGINNING) / NS_PER_MS : 0;
                    r.retain_ms = retain_ms;
                    msg_hello_reply_encode(&b, m.msgid, &r);
                    feed(conn, &b);
                    continue;
                }
                ck_assert_int_eq(msg_kv_decode(method, m.params, &a->q), ERR_OK);
                a->conn = conn;
                a->msgid = m.msgid;
                return true;
            }
        }
        if (now >= end)
            return false;
    }
}

static inline void reply_error(const struct asked *a, const struct rpc_error *e)
{
    struct buf b = {0};
    rpc_put_error(&b, a->msgid, e);
    feed(a->conn, &b);
}

static inline void reply_version(const struct asked *a, uint64_t version)
{
    struct buf b = {0};
    msg_kv_put_version(&b, a->msgid, version);
    feed(a->conn, &b);
}

/* The first one, once the core has got the map. */
static inline struct asked first_asked(void)
{
    struct asked a;
    give_map(1);
    ck_assert(next_asked(100, &a));
    return a;
}

#endif
