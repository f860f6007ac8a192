/* See sim_count.h. */
#include "tests/sim/sim_count.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/net/conn.h"
#include "common/wire/mp.h"
#include "common/wire/msg_kv.h"
#include "common/wire/rpc.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_shardd.h"
#include "tests/sim/violation.h"

#define CLIENTS 12u
#define OPS 128u /* of one client, kept to be sent again */
#define COUNTERS 6u
#define NUMBERS 65536u
#define TICK (5 * NS_PER_MS)
#define SILENCE (1 * NS_PER_S)
#define LOST 0.1   /* share of answers that are not read */
#define TWICE 0.1  /* of requests sent to two nodes */
#define AGAIN 0.05 /* chance, each tick and client, that an old request is sent again */
#define CLOCKS_APART_MS 12000u
#define READ 0x80000000u /* message ids of the reads at the end */

typedef unsigned long long ull;

enum kind { COUNT, PAIR, ONCE, EXPIRING, TOUCH };

struct answer {
    enum err err;
    uint64_t version;
    int64_t number;
};

struct op {
    enum { UNUSED, WAITING, ANSWERED, UNKNOWN } state;
    enum kind kind;
    unsigned counter;
    uint64_t seq, until_ms, next_send;
    unsigned tries, node;
    char key[2][32];
    struct answer answer[2]; /* PAIR: both */
    struct buf first;        /* the request as it was first sent */
};

struct client {
    unsigned number;
    uint8_t sid[MSG_KV_SESSION_ID];
    uint64_t next_seq;
    unsigned window;
    struct op op[OPS];
    unsigned next_op;
    struct conn *conn[SIM_HOSTS];
};

/* The argument of a connection: whose it is, and to which node. */
struct link {
    struct client *client;
    unsigned node;
    uint64_t silent_since; /* the first request since the last answer; 0: none */
};

struct counter {
    bool given[NUMBERS];
    uint64_t acknowledged, unknown;
    bool read;
    int64_t value; /* at the end */
};

static struct {
    struct io *io;
    struct conn_set *conns;
    struct io_timer tick;
    unsigned first, nodes, n, next_read;
    uint64_t retention_ms;
    struct client client[CLIENTS];
    struct counter counter[COUNTERS], pair[COUNTERS];
    bool settling;
    uint64_t answered, unknown, repeated; /* repeated: definite answers beyond the first */
} C;

/* ---- judging answers ---- */

static void give_number(struct counter *c, const struct op *o, int64_t number)
{
    if (number < 1 || number >= (int64_t)NUMBERS)
        sim_violation("%s: a sum of %lld", o->key[0], (long long)number);
    if (c->given[number])
        sim_violation("%s: the number %lld was given to two writes", o->key[0], (long long)number);
    c->given[number] = true;
    c->acknowledged++;
}

static void first_answer(const struct client *c, struct op *o)
{
    const struct answer *a = o->answer;
    C.answered++;
    if (o->kind == COUNT || o->kind == PAIR) {
        struct counter *counter = o->kind == COUNT ? C.counter : C.pair;
        if (a[0].err != ERR_OK)
            sim_violation("%s: counting gave %s", o->key[0], err_name(a[0].err));
        give_number(&counter[o->counter], o, a[0].number);
    }
    if (o->kind == PAIR && (a[1].err != ERR_OK || a[1].number != a[0].number))
        sim_violation("%s: one half of a pair has %lld, the other %lld", o->key[0],
                      (long long)a[0].number, (long long)a[1].number);
    if (o->kind == ONCE && a[0].err != ERR_OK)
        sim_violation(
            "client %u: %s was made by this write alone, and it was told %s (version %llu)",
            c->number, o->key[0], err_name(a[0].err), (ull)a[0].version);
}

static void on_definite(const struct client *c, struct op *o, const struct answer a[2])
{
    if (o->state == ANSWERED) {
        for (unsigned i = 0; i < 2; i++)
            if (a[i].err != o->answer[i].err || a[i].version != o->answer[i].version ||
                a[i].number != o->answer[i].number)
                sim_violation("client %u seq %llu, %s: first %s version %llu number %lld, then %s "
                              "version %llu number %lld",
                              c->number, (ull)o->seq, o->key[i], err_name(o->answer[i].err),
                              (ull)o->answer[i].version, (long long)o->answer[i].number,
                              err_name(a[i].err), (ull)a[i].version, (long long)a[i].number);
        C.repeated++;
        return;
    }
    if (o->state == UNKNOWN && (o->kind == COUNT || o->kind == PAIR))
        (o->kind == COUNT ? C.counter : C.pair)[o->counter].unknown--;
    o->state = ANSWERED;
    memcpy(o->answer, a, sizeof o->answer);
    first_answer(c, o);
}

static bool is_definite(enum err e)
{
    return err_class(e) == ERR_CLASS_DONE;
}

/* False: nothing is settled by this. */
static bool read_answer(const struct op *o, const struct rpc_message *m, struct answer a[2])
{
    struct rpc_error e;
    struct msg_kv_result r;
    struct mp_reader items;
    struct msg_kv_extra extra;
    if (m->error.n > 0) {
        rpc_get_error(m->error, &e);
        sim_log("seq %llu %s: %s (%s)", (ull)o->seq, o->key[0], err_name(e.err), e.text);
        a[0] = (struct answer){e.err, e.version, 0};
        if (e.err == ERR_CROSS_SLOT || e.err == ERR_KEY_EMPTY || e.err == ERR_NOT_A_NUMBER)
            sim_violation("%s: %s", o->key[0], err_name(e.err));
        return is_definite(e.err);
    }
    if (o->kind == PAIR) {
        CHECK(msg_kv_decode_items(KV_METHOD_BATCH, m->result, 2, &items, &extra) == ERR_OK);
        for (unsigned i = 0; i < 2; i++) {
            struct msg_kv_item item;
            msg_kv_next_item(KV_METHOD_BATCH, &items, &item);
            a[i] = (struct answer){item.err, item.result.version, item.result.number};
        }
        return is_definite(a[0].err) && is_definite(a[1].err);
    }
    CHECK(msg_kv_decode_result(o->kind == COUNT || o->kind == EXPIRING ? KV_METHOD_INCR
                                                                       : KV_METHOD_PUT,
                               m->result, &r) == ERR_OK);
    a[0] = (struct answer){ERR_OK, r.version, r.number};
    return true;
}

static void on_read(uint32_t i, const struct rpc_message *m)
{
    struct counter *c = i % 2 ? &C.pair[i / 2] : &C.counter[i / 2];
    struct msg_kv_result r = {0};
    char text[32];
    if (m->error.n > 0) {
        struct rpc_error e;
        rpc_get_error(m->error, &e);
        c->read = c->read || e.err == ERR_NOT_FOUND;
        return;
    }
    CHECK(msg_kv_decode_result(KV_METHOD_GET, m->result, &r) == ERR_OK);
    snprintf(text, sizeof text, "%.*s", (int)r.value.n, (const char *)r.value.p);
    c->value = atoll(text);
    c->read = true;
}

static void on_message(void *arg, struct slice message)
{
    struct link *l = arg;
    struct client *c = l->client;
    struct rpc_message m;
    struct answer a[2] = {{ERR_OK, 0, 0}, {ERR_OK, 0, 0}};
    CHECK(rpc_decode(message, &m) == ERR_OK);
    l->silent_since = 0;
    if (m.type != RPC_RESPONSE || sim_chance(LOST))
        return;
    if (m.msgid & READ) {
        on_read(m.msgid & ~READ, &m);
        return;
    }
    for (unsigned i = 0; i < OPS; i++) {
        struct op *o = &c->op[i];
        if (o->state != UNUSED && o->seq == m.msgid && read_answer(o, &m, a))
            on_definite(c, o, a);
    }
}

/* ---- connections ---- */

static enum err on_split(void *arg, struct slice data, size_t *n)
{
    (void)arg;
    return rpc_split(data, LIMIT_FRAME, n);
}

static void on_end(void *arg, enum err why)
{
    struct link *l = arg;
    (void)why;
    if (l->client->conn[l->node] && conn_arg(l->client->conn[l->node]) == l)
        l->client->conn[l->node] = NULL;
    free(l);
}

static const struct conn_ops ops = {.split = on_split, .on_message = on_message, .on_end = on_end};

static void send_to(struct client *c, unsigned node, struct slice bytes)
{
    if (!c->conn[node]) {
        struct link *l = mem_zalloc(sizeof *l);
        struct io_addr addr;
        char text[64];
        *l = (struct link){.client = c, .node = node};
        snprintf(text, sizeof text, "127.0.0.%u:%u", C.first + node, SIM_SHARDD_CLIENT_PORT);
        CHECK(io_addr_parse(text, &addr) == ERR_OK);
        c->conn[node] = conn_connect(C.conns, &addr, &ops, l);
    }
    struct link *l = conn_arg(c->conn[node]);
    if (l->silent_since == 0)
        l->silent_since = io_now(C.io);
    /* A machine that lost its power is silent for ever, also when it is back. */
    if (io_now(C.io) - l->silent_since > SILENCE) {
        conn_abort(c->conn[node]);
        c->conn[node] = NULL;
    } else {
        buf_append(conn_out(c->conn[node]), bytes.p, bytes.n);
    }
}

/* ---- requests ---- */

/* What has not been answered to the caller: all below is confirmed. */
static uint64_t ack_of(const struct client *c)
{
    uint64_t ack = c->next_seq;
    for (unsigned i = 0; i < OPS; i++)
        if (c->op[i].state == WAITING && c->op[i].seq < ack)
            ack = c->op[i].seq;
    return ack;
}

static void encode_pair(const struct op *o, struct msg_kv_request *m, struct buf *out)
{
    struct buf items = {0};
    for (unsigned i = 0; i < 2; i++) {
        struct msg_kv_request half = {
            .method = KV_METHOD_INCR, .key = slice_str(o->key[i]), .delta = 1, .seq = o->seq + i};
        msg_kv_put_op(&items, &half);
    }
    m->method = KV_METHOD_BATCH;
    m->all = true;
    m->n = 2;
    m->seq = 0;
    m->items = buf_slice(&items);
    msg_kv_encode(out, (uint32_t)o->seq, m);
    buf_close(&items);
}

static void encode(const struct client *c, const struct op *o, struct buf *out)
{
    struct msg_kv_request m = {
        .key = slice_str(o->key[0]),
        .delta = 1,
        .seq = o->seq,
        .session = {slice_of(c->sid, sizeof c->sid), ack_of(c), o->until_ms},
        .has_ttl = o->kind == EXPIRING || o->kind == TOUCH,
        .ttl_ms = 20 + o->seq * 37 % 700,
    };
    m.method = o->kind == ONCE    ? KV_METHOD_PUT
               : o->kind == TOUCH ? KV_METHOD_TOUCH
                                  : KV_METHOD_INCR;
    if (o->kind == ONCE) {
        m.if_absent = true;
        m.value = m.key;
    }
    if (o->kind == PAIR)
        encode_pair(o, &m, out);
    else
        msg_kv_encode(out, (uint32_t)o->seq, &m);
}

static void send_op(struct client *c, struct op *o)
{
    struct buf bytes = {0};
    encode(c, o, &bytes);
    if (o->first.n == 0)
        buf_append(&o->first, bytes.p, bytes.n);
    send_to(c, o->node, buf_slice(&bytes));
    if (sim_chance(TWICE))
        send_to(c, (unsigned)sim_below(C.nodes), buf_slice(&o->first));
    buf_close(&bytes);
    o->node = (o->node + 1) % C.nodes;
    o->next_send = io_now(C.io) + (10 + sim_below(o->tries < C.nodes ? 40 : 300)) * NS_PER_MS;
    o->tries++;
}

static enum kind draw_kind(void)
{
    static const enum kind kinds[] = {COUNT, COUNT, COUNT,    COUNT,    PAIR,
                                      PAIR,  ONCE,  EXPIRING, EXPIRING, TOUCH};
    return kinds[sim_below(sizeof kinds / sizeof kinds[0])];
}

static void begin_op(struct client *c)
{
    struct op *o = &c->op[c->next_op % OPS];
    if (o->state == WAITING)
        return;
    buf_close(&o->first);
    *o = (struct op){.state = WAITING, .kind = draw_kind(), .seq = c->next_seq};
    c->next_op++;
    c->next_seq += o->kind == PAIR ? 2 : 1;
    o->counter = (unsigned)sim_below(COUNTERS);
    o->until_ms = io_wall_ms(C.io) + C.retention_ms;
    o->node = (unsigned)sim_below(C.nodes);
    if (o->kind == ONCE)
        snprintf(o->key[0], sizeof o->key[0], "once-%u-%llu", c->number, (ull)o->seq);
    else
        snprintf(o->key[0], sizeof o->key[0],
                 o->kind == COUNT  ? "count-%u"
                 : o->kind == PAIR ? "{pair-%u}a"
                                   : "expiring-%u",
                 o->counter);
    if (o->kind == PAIR)
        snprintf(o->key[1], sizeof o->key[1], "{pair-%u}b", o->counter);
    send_op(c, o);
}

/* Nobody may apply it any more, whatever the clocks. */
static void give_up(struct op *o)
{
    o->state = UNKNOWN;
    C.unknown++;
    if (o->kind == COUNT || o->kind == PAIR)
        (o->kind == COUNT ? C.counter : C.pair)[o->counter].unknown++;
}

static unsigned go_on(struct client *c)
{
    uint64_t now = io_now(C.io), wall = io_wall_ms(C.io);
    unsigned waiting = 0;
    for (unsigned i = 0; i < OPS; i++) {
        struct op *o = &c->op[i];
        if (o->state != WAITING)
            continue;
        if (wall > o->until_ms + CLOCKS_APART_MS)
            give_up(o);
        else if (now >= o->next_send)
            send_op(c, o);
        waiting += o->state == WAITING;
    }
    const struct op *old = &c->op[sim_below(OPS)];
    if (sim_chance(AGAIN) && (old->state == ANSWERED || old->state == UNKNOWN))
        send_to(c, (unsigned)sim_below(C.nodes), buf_slice(&old->first));
    return waiting;
}

static void read_counters(void)
{
    for (uint32_t i = 0; i < 2 * COUNTERS; i++) {
        char key[32];
        struct buf bytes = {0};
        if ((i % 2 ? C.pair : C.counter)[i / 2].read)
            continue;
        snprintf(key, sizeof key, i % 2 ? "{pair-%u}b" : "count-%u", i / 2);
        msg_kv_encode(&bytes, READ | i,
                      &(struct msg_kv_request){.method = KV_METHOD_GET, .key = slice_str(key)});
        send_to(&C.client[0], C.next_read % C.nodes, buf_slice(&bytes));
        buf_close(&bytes);
    }
    C.next_read++;
}

static void on_tick(struct io_timer *t)
{
    unsigned all = 0;
    for (unsigned i = 0; i < C.n; i++) {
        unsigned waiting = go_on(&C.client[i]);
        all += waiting;
        if (!C.settling && waiting < C.client[i].window && sim_chance(0.2))
            begin_op(&C.client[i]);
    }
    if (C.settling && all == 0)
        read_counters();
    io_timer_set(C.io, t, io_now(C.io) + (C.settling ? 4 * TICK : TICK));
}

static void on_turn(void *arg)
{
    (void)arg;
    conn_set_flush(C.conns);
}

/* ---- life ---- */

void sim_count_start(const struct scenario *s, unsigned first, unsigned n)
{
    struct io_options o = {0};
    char msg[128];
    C.first = first;
    C.nodes = n;
    C.n = s->sessions < CLIENTS ? s->sessions : CLIENTS;
    C.retention_ms = s->retention_ms ? s->retention_ms : SESSION_RETENTION_MS;
    CHECK(io_create(&o, &C.io, msg, sizeof msg) == ERR_OK);
    C.conns = conn_set_create(C.io);
    io_set_turn_hook(C.io, on_turn, NULL);
    for (unsigned i = 0; i < C.n; i++) {
        struct client *c = &C.client[i];
        c->number = i;
        c->next_seq = 1;
        c->window = 1 + (unsigned)sim_below(6);
        for (unsigned k = 0; k < sizeof c->sid; k++)
            c->sid[k] = (uint8_t)io_random(C.io);
    }
    C.tick.fn = on_tick;
    io_timer_set(C.io, &C.tick, io_now(C.io) + NS_PER_S);
}

void sim_count_settle(void)
{
    C.settling = true;
}

static void judge_counter(const char *name, unsigned i, const struct counter *c)
{
    if (!c->read)
        return;
    if (c->value < (int64_t)c->acknowledged || c->value > (int64_t)(c->acknowledged + c->unknown))
        sim_violation(
            "%s-%u is %lld: %llu writes were acknowledged, of %llu the outcome is unknown", name, i,
            (long long)c->value, (ull)c->acknowledged, (ull)c->unknown);
    for (int64_t n = c->value + 1; n < (int64_t)NUMBERS; n++)
        if (c->given[n])
            sim_violation("%s-%u is %lld, but %lld was given", name, i, (long long)c->value,
                          (long long)n);
}

void sim_count_judge(bool live)
{
    sim_log("counted: %llu answered, %llu unknown, %llu answered again", (ull)C.answered,
            (ull)C.unknown, (ull)C.repeated);
    for (unsigned i = 0; i < C.n && live; i++)
        for (unsigned k = 0; k < OPS; k++)
            if (C.client[i].op[k].state == WAITING)
                sim_violation("client %u seq %llu, %s: no answer in peace", i,
                              (ull)C.client[i].op[k].seq, C.client[i].op[k].key[0]);
    for (unsigned i = 0; i < COUNTERS && C.n > 0; i++) {
        judge_counter("count", i, &C.counter[i]);
        judge_counter("pair", i, &C.pair[i]);
        if (live && (!C.counter[i].read || !C.pair[i].read))
            sim_violation("count-%u or pair-%u cannot be read in peace", i, i);
    }
}
