/* What comes in on a connection: splitting, hello, answers matched with their ops. Untrusted. */
#include <stdio.h>

#include "client/client_core_int.h"
#include "common/base/check.h"

void client_reply_saw_time(struct client_conn *c, const struct msg_hello_reply *r, uint64_t now)
{
    c->time_ms = c->core->time_ms = r->time_ms;
    c->time_at = c->core->time_at = now;
    /* So that sums of them fit: no server means more. */
    c->retain_ms = r->retain_ms < UINT32_MAX ? r->retain_ms : UINT32_MAX;
    if (r->time_ms == 0 || r->time_ms >= UINT64_MAX / 2)
        c->retain_ms = 0;
    snprintf(c->zone, sizeof(c->zone), "%s", r->zone);
}

static void saw_latency(struct client_conn *c, uint64_t ns)
{
    c->latency = c->latency ? c->latency - c->latency / 8 + ns / 8 : ns;
}

static bool on_hello(struct client_conn *c, const struct rpc_message *m, uint64_t now)
{
    struct msg_hello_reply r;
    if (m->error.n)
        return false;
    /* placementd is no node of the map; only its willingness matters. */
    if (!c->is_map && (msg_hello_reply_decode(m->result, &r) != ERR_OK || r.node != c->node)) {
        client_core_log(c->core, 2, "%s is not node %u any more", c->addr, c->node);
        c->core->want_refresh = true;
        return false;
    }
    c->state = CONN_READY;
    c->suspect = false;
    c->failures = 0;
    wheel_cancel(&c->timer);
    if (c->is_map) {
        client_map_on_ready(c, now);
        return true;
    }
    client_reply_saw_time(c, &r, now);
    saw_latency(c, now - c->hello_at);
    breaker_hint(&c->breaker, now); /* it lives; whether it serves is seen by the next op */
    client_conn_pump(c, now);
    return true;
}

static void on_time(struct client_conn *c, const struct rpc_message *m, uint64_t now)
{
    struct msg_hello_reply r;
    if (!c->is_map && m->error.n == 0 && msg_hello_reply_decode(m->result, &r) == ERR_OK)
        client_reply_saw_time(c, &r, now);
}

/* What an answer says of its node, to the breaker and to the routing of weaker reads. */
static void judge(struct client_conn *c, const struct client_op *op, enum err e, bool late,
                  uint64_t now)
{
    c->answered = true;
    if (late) /* its clock may have jumped */
        c->time_asked_at = 0;
    if (err_class(e) == ERR_CLASS_UNKNOWN && !late) {
        client_conn_failed(c, false, now);
        return;
    }
    breaker_answered(&c->breaker);
    if (op->level != KV_LEVEL_LINEARIZABLE && err_class(e) == ERR_CLASS_DONE) {
        saw_latency(c, now - op->sent_at);
        c->core->stats.follower_reads += op->follower;
    }
}

static void on_error_reply(struct client_conn *c, struct client_op *op, const struct rpc_message *m,
                           uint64_t now)
{
    struct rpc_error e;
    rpc_get_error(m->error, &e);
    judge(c, op, e.err, e.err == ERR_UNKNOWN_OUTCOME && e.time_ms != 0, now);
    if (err_class(e.err) == ERR_CLASS_UNKNOWN)
        client_core_log(c->core, 1, "node %u at %s: %s: %s", c->node, c->addr, err_name(e.err),
                        e.text);
    if (err_class(e.err) != ERR_CLASS_DONE) {
        client_core_attempt_failed(c->core, op, &e, now);
        return;
    }
    struct client_result r = {.err = e.err, .text = e.text, .version = e.version, .at = e.at};
    if (e.err == ERR_OK || (op->part && op->part->n > 1)) { /* an error that says ok is nonsense */
        r.err = ERR_INTERNAL;
        r.maybe_applied = !msg_kv_is_read(op->method);
        r.text = "the node's answer is malformed";
    }
    client_core_complete(c->core, op, &r);
}

static void on_op_reply(struct client_conn *c, const struct rpc_message *m, uint64_t now)
{
    struct client_op *op = c->ring[m->msgid % c->ring_size];
    if (!op || op->msgid != m->msgid)
        return; /* late: it has timed out */
    client_conn_forget(op);
    if (m->error.n) {
        on_error_reply(c, op, m, now);
        return;
    }
    judge(c, op, ERR_OK, false, now);
    if (op->part && !client_many_is_single(op->part)) {
        client_many_on_reply(op->part, m->result, now);
        return;
    }
    struct msg_kv_result res = {0};
    struct client_result r = {.err = ERR_OK, .text = ""};
    if (msg_kv_decode_result(client_op_method(op), m->result, &res) != ERR_OK) {
        r.err = ERR_INTERNAL;
        r.maybe_applied = !msg_kv_is_read(op->method);
        r.text = "the node's answer is malformed";
    } else {
        r.value = res.value;
        r.version = res.version;
        r.number = res.number;
        r.has_ttl = res.has_ttl;
        r.ttl_ms = res.ttl_ms;
        r.at = res.at;
    }
    client_core_complete(c->core, op, &r);
}

static bool is_map_changed(const struct rpc_message *m)
{
    return m->type == RPC_NOTIFY && slice_eq(m->method, slice_str("map.changed"));
}

/* False: the peer talks nonsense, the connection is to be dropped. */
static bool on_message(struct client_conn *c, struct slice data, uint64_t now)
{
    struct rpc_message m;
    if (rpc_decode(data, &m) != ERR_OK)
        return false;
    if (is_map_changed(&m)) {
        struct mp_reader r = mp_reader_of(m.params);
        if (mp_get_array(&r) < 1)
            return !r.bad;
        struct slice piece = mp_get_raw(&r);
        return !r.bad && client_map_take(c->core, piece, false, now);
    }
    if (m.type != RPC_RESPONSE)
        return m.type == RPC_NOTIFY; /* unknown notifications are ignored */
    if (c->state == CONN_HELLO)
        return m.msgid == MSGID_HELLO && on_hello(c, &m, now);
    if (m.msgid == MSGID_PING) {
        on_time(c, &m, now);
        return true;
    }
    if (c->is_map) {
        if (m.msgid == MSGID_MAP || m.msgid == MSGID_WATCH)
            client_map_on_reply(c, &m, now);
        return true;
    }
    on_op_reply(c, &m, now);
    return true;
}

void client_core_on_data(struct client_core *core, unsigned id, struct slice data, uint64_t now)
{
    struct client_conn *c = core->conns[id];
    CHECK(c->state == CONN_HELLO || c->state == CONN_READY);
    core->stats.bytes_received += data.n;
    c->last_data = now;
    c->ping_at = 0;
    c->stalled = false;
    bool gathered = c->in.n > 0;
    if (gathered) {
        buf_append(&c->in, data.p, data.n);
        if (c->in.n < c->in_need)
            return;
        data = buf_slice(&c->in);
    }
    while (data.n) {
        size_t n = 0;
        enum err e = rpc_split(data, LIMIT_FRAME, &n);
        if (e == ERR_INCOMPLETE) {
            c->in_need = n > data.n ? n : data.n + 1;
            break;
        }
        if (e != ERR_OK || !on_message(c, slice_of(data.p, n), now)) {
            client_core_log(core, 2, "%s sends nonsense", c->addr);
            client_conn_drop(c, e != ERR_OK ? e : ERR_BAD_REQUEST, now);
            return;
        }
        if (c->state == CONN_DOWN)
            return; /* dropped by what the message caused */
        data = slice_of(data.p + n, data.n - n);
    }
    if (gathered)
        buf_consume(&c->in, c->in.n - data.n);
    else if (data.n)
        buf_append(&c->in, data.p, data.n);
    if (c->in.n == 0 && c->in.cap > MIB)
        buf_close(&c->in); /* one large value must not stay for ever */
    client_conn_pump(c, now);
}
