/* libkvclient's core fed with whatever servers may send. The input is a script: each step has a
 * byte that says what happens to which connection, and for data a length and the bytes. Connections
 * are accepted, and greeted properly if the script wants that, so that it gets behind the hello
 * soon. Checked: nothing crashes, each call is answered exactly once, a read is never "maybe
 * applied". */
#include <stdio.h>
#include <stdlib.h>

#include "client/client_core.h"
#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/wire/mp.h"
#include "common/wire/msg_map.h"
#include "common/wire/rpc.h"
#include "tests/fuzz/fuzz.h"

#define CONNS 32u
#define OPS 8u
#define ITEMS 12u
#define MSGID_HELLO 0x80000001u
#define MSGID_WATCH 0x80000004u

static struct {
    struct client_core *core;
    bool open[CONNS], established[CONNS];
    uint64_t now;
    bool greets;
    struct op {
        struct client_op op;
        unsigned answers;
    } ops[OPS];
    struct many {
        struct client_many many;
        struct client_item items[ITEMS];
        unsigned answers[ITEMS], done;
    } many[2];
} f;

static void op_connect(void *arg, unsigned conn, const char *addr)
{
    (void)arg;
    CHECK(addr != NULL);
    CHECK(conn < CONNS || f.core);
    if (conn < CONNS) {
        CHECK(!f.open[conn]);
        f.open[conn] = true;
        f.established[conn] = false;
    }
}

static size_t op_send(void *arg, unsigned conn, struct slice data)
{
    (void)arg;
    CHECK(conn < CONNS && f.established[conn]);
    return data.n;
}

static void op_close(void *arg, unsigned conn)
{
    (void)arg;
    if (conn < CONNS)
        f.open[conn] = false;
}

static const struct client_core_ops core_ops = {
    .connect = op_connect, .send = op_send, .close = op_close};

static void on_done(struct client_op *op, const struct client_result *r)
{
    struct op *o = CONTAINER_OF(op, struct op, op);
    o->answers++;
    CHECK(r->err == ERR_OK || r->text != NULL);
    CHECK(!r->maybe_applied || op->method != KV_METHOD_GET);
    CHECK(!r->maybe_applied || r->err != ERR_OK);
}

static void on_item(struct client_many *m, uint32_t i, const struct client_result *r)
{
    struct many *o = CONTAINER_OF(m, struct many, many);
    o->answers[i]++;
    CHECK(!r->maybe_applied || m->method == KV_METHOD_BATCH);
}

static void on_many(struct client_many *m)
{
    CONTAINER_OF(m, struct many, many)->done++;
}

static void submit_all(void)
{
    static const char *const keys[] = {"a", "b", "c", "d", "{t}1", "{t}2"};
    for (unsigned i = 0; i < OPS; i++) {
        f.ops[i].op = (struct client_op){.method = (enum kv_method)(i % (KV_METHOD_TOUCH + 1u)),
                                         .key = slice_str(keys[i % 6]),
                                         .value = slice_str("v"),
                                         .level = (uint8_t)(i > 4 ? i % 4 : 0),
                                         .deadline = f.now + (i + 1) * NS_PER_S,
                                         .done = on_done};
        client_core_submit(f.core, &f.ops[i].op, f.now);
    }
    for (unsigned k = 0; k < 2; k++) {
        struct many *m = &f.many[k];
        m->many = (struct client_many){.method = k ? KV_METHOD_BATCH : KV_METHOD_MGET,
                                       .deadline = f.now + 3 * NS_PER_S,
                                       .bytes_max = 1000,
                                       .items = m->items,
                                       .n = ITEMS,
                                       .item_done = on_item,
                                       .done = on_many};
        for (unsigned i = 0; i < ITEMS; i++) {
            m->items[i].method = k ? (enum kv_method)(KV_METHOD_PUT + i % 4) : KV_METHOD_GET;
            m->items[i].key = slice_str(keys[i % 6]);
        }
        client_core_submit_many(f.core, &m->many, f.now);
    }
}

static void feed(unsigned conn, struct slice data)
{
    client_core_on_data(f.core, conn, data, f.now);
}

/* Two shards over three nodes. */
static void put_map(struct buf *b)
{
    struct shard_map m;
    shard_map_init(&m);
    m.version = 3;
    for (uint32_t i = 0; i < 3; i++) {
        struct shard_node n = {.node = i + 1, .cores = 1};
        snprintf(n.name, sizeof(n.name), "n%u", i + 1);
        snprintf(n.client_addr, sizeof(n.client_addr), "10.1.0.%u:1", i + 1);
        shard_map_put_node(&m, &n);
    }
    for (uint32_t k = 0; k < 2; k++) {
        struct shard_desc s = {.group = k + 1,
                               .first_slot = (uint16_t)(k * 8192),
                               .last_slot = (uint16_t)(k * 8192 + 8191),
                               .epoch = {1, 1},
                               .leader = 11 + k,
                               .n_replicas = 3};
        for (uint32_t i = 0; i < 3; i++)
            s.replica[i] = (struct shard_replica){.replica = 11 + i, .node = i + 1, .role = 1};
        shard_map_put_shard(&m, &s);
    }
    msg_map_encode(b, &m);
    shard_map_close(&m);
}

static void greet(unsigned conn)
{
    struct buf b = {0};
    /* The nodes are connected to as they are needed; whoever it is says the number that fits often.
     */
    struct msg_hello_reply r = {.proto = 1, .node = conn, .cores = 1, .time_ms = 1, .retain_ms = 9};
    msg_hello_reply_encode(&b, MSGID_HELLO, &r);
    if (conn == 0) {
        rpc_put_result(&b, MSGID_WATCH);
        put_map(&b);
    }
    feed(conn, buf_slice(&b));
    buf_close(&b);
}

static void establish(unsigned conn)
{
    f.established[conn] = true;
    client_core_on_connected(f.core, conn, f.now);
    client_core_flush(f.core, f.now);
    if (f.greets)
        greet(conn);
}

static struct slice take(struct slice *in, size_t n)
{
    struct slice s = slice_of(in->p, n < in->n ? n : in->n);
    *in = slice_of(in->p + s.n, in->n - s.n);
    return s;
}

/* What: the upper three bits; to which connection: the others. */
static void step(uint8_t what, struct slice *in)
{
    unsigned conn = what & 31;
    struct slice arg;
    switch (what >> 5) {
    case 0: /* some bytes */
    case 1:
        arg = take(in, 1);
        arg = take(in, arg.n ? arg.p[0] : 0);
        if (f.open[conn] && f.established[conn])
            feed(conn, arg);
        break;
    case 2: /* a whole message */
    {
        size_t n = 0;
        if (rpc_split(*in, 4096, &n) != ERR_OK)
            n = 1;
        arg = take(in, n);
        if (f.open[conn] && f.established[conn])
            feed(conn, arg);
        break;
    }
    case 3:
        if (f.open[conn]) {
            f.open[conn] = false;
            client_core_on_closed(f.core, conn, ERR_CLOSED, f.now);
        }
        break;
    case 4:
        if (f.open[conn] && f.established[conn])
            client_core_on_writable(f.core, conn);
        break;
    case 5: /* a token of a stranger */
        arg = take(in, 16);
        if (client_core_import(f.core, arg) == ERR_OK)
            CHECK(arg.n > 4);
        break;
    default:
        f.now += (uint64_t)conn * conn * 4 * NS_PER_MS;
        client_core_tick(f.core, f.now);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const seeds[] = {"10.0.0.1:1", "10.0.0.2:1"};
    struct slice in = slice_of(data, size);
    struct client_core_options o = {.seeds = seeds, .n_seeds = 2, .seed = 1, .now = NS_PER_S};
    if (size == 0 || size > 65536)
        return 0;
    memset(&f, 0, sizeof(f));
    f.now = NS_PER_S;
    f.core = client_core_create(&o, &core_ops, NULL);
    f.greets = data[0] & 1;
    (void)take(&in, 1);
    submit_all();
    client_core_flush(f.core, f.now);
    while (in.n) {
        for (unsigned conn = 0; conn < CONNS; conn++)
            if (f.open[conn] && !f.established[conn])
                establish(conn);
        struct slice what = take(&in, 1);
        step(what.p[0], &in);
        client_core_flush(f.core, f.now);
    }
    client_core_destroy(f.core);
    for (unsigned i = 0; i < OPS; i++)
        CHECK(f.ops[i].answers == 1);
    for (unsigned k = 0; k < 2; k++) {
        CHECK(f.many[k].done == 1);
        for (unsigned i = 0; i < ITEMS; i++)
            CHECK(f.many[k].answers[i] == 1);
    }
    return 0;
}
