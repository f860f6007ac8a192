/* Connections to nodes: opening, hello, encoding of ops, losing them, and noticing one that answers
 * nothing any more. What comes in is client_reply.c's.
 *
 * Message ids. An op's id is the connection's running number, skipping those whose place in the
 * ring is taken; ids come round after 2^31 requests, so a late answer to an op that has timed out
 * never meets another op. The ring is at least twice as large as the ops in it. */
#include <stdio.h>
#include <stdlib.h>

#include "client/client_core_int.h"
#include "client/retry.h"
#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/wire/msg_map.h"

#define RING_MIN 64u

struct client_conn *client_conn_new(struct client_core *core, const char *addr, uint64_t now)
{
    struct client_conn *c = mem_zalloc(sizeof(*c));
    c->core = core;
    c->id = core->n_conns++;
    core->conns = mem_realloc(core->conns, core->n_conns * sizeof(*core->conns));
    core->conns[c->id] = c;
    snprintf(c->addr, sizeof(c->addr), "%s", addr);
    c->retry_at = now;
    wheel_node_init(&c->timer, TIMER_CONN);
    list_init(&c->dirty);
    list_init(&c->waiting);
    c->ring_size = RING_MIN;
    c->ring = mem_zalloc(c->ring_size * sizeof(struct client_op *));
    c->next_msgid = 1;
    return c;
}

void client_conn_free(struct client_conn *c)
{
    buf_close(&c->in);
    buf_close(&c->out);
    free(c->ring);
    free(c);
}

struct client_conn *client_conn_for(struct client_core *core, const struct route *r, uint64_t now)
{
    uint64_t key = (uint64_t)r->node << 16 | r->core;
    struct client_conn *c = map_find(&core->conn_of, key);
    if (!c) {
        c = client_conn_new(core, r->addr, now);
        c->node = r->node;
        c->node_core = r->core;
        map_set(&core->conn_of, key, c);
    } else if (c->state == CONN_DOWN && strcmp(c->addr, r->addr) != 0) {
        snprintf(c->addr, sizeof(c->addr), "%s", r->addr); /* the node has moved */
        c->retry_at = now;
    }
    return c;
}

void client_conn_dirty(struct client_conn *c)
{
    if (list_empty(&c->dirty))
        list_push_back(&c->core->dirty, &c->dirty);
}

void client_conn_open(struct client_conn *c, uint64_t now)
{
    CHECK(c->state == CONN_DOWN);
    c->state = CONN_CONNECTING;
    c->opened_at = now;
    c->core->stats.connects++;
    wheel_set(&c->core->wheel, &c->timer, now + CONN_CONNECT_NS);
    c->core->ops->connect(c->core->arg, c->id, c->addr);
}

bool client_conn_usable(struct client_conn *c, uint64_t now)
{
    if (!breaker_allows(&c->breaker, now))
        return false;
    if (c->state == CONN_DOWN) {
        if (now < c->retry_at)
            return false;
        if (c->suspect)
            client_conn_open(c, now);
    }
    return !c->suspect && !c->stalled;
}

static void put_hello(struct client_conn *c, uint32_t msgid, uint64_t now)
{
    struct msg_hello h = {.proto = RPC_PROTOCOL_VERSION};
    snprintf(h.client, sizeof(h.client), "%s", c->core->name);
    if (!c->is_map && msgid == MSGID_HELLO) {
        h.has_core = true;
        h.core = c->node_core;
    }
    msg_hello_encode(&c->out, msgid, &h);
    c->hello_at = c->time_asked_at = now;
    client_conn_dirty(c);
}

void client_conn_failed(struct client_conn *c, bool cheap, uint64_t now)
{
    struct client_core *core = c->core;
    if (c->is_map || !breaker_failed(&c->breaker, cheap, now, &core->rng))
        return; /* the map's goes from address to address anyway */
    core->stats.breaker_opens++;
    client_core_log(core, 2, "node %u at %s keeps failing: left alone for %llu ms", c->node,
                    c->addr, (unsigned long long)((c->breaker.until - now) / NS_PER_MS));
}

void client_core_on_connected(struct client_core *core, unsigned id, uint64_t now)
{
    struct client_conn *c = core->conns[id];
    CHECK(c->state == CONN_CONNECTING);
    c->state = CONN_HELLO;
    c->last_data = now;
    put_hello(c, MSGID_HELLO, now);
}

/* ---- ops onto the connection ---- */

static uint32_t take_msgid(struct client_conn *c, struct client_op *op)
{
    if (c->ring_size < 2 * (c->n_inflight + 1)) {
        uint32_t size = 2 * c->ring_size;
        struct client_op **ring = mem_zalloc(size * sizeof(struct client_op *));
        for (uint32_t i = 0; i < c->ring_size; i++)
            if (c->ring[i]) /* different places in the small ring: so also in the large one */
                ring[c->ring[i]->msgid % size] = c->ring[i];
        free(c->ring);
        c->ring = ring;
        c->ring_size = size;
    }
    while (c->ring[c->next_msgid % c->ring_size])
        c->next_msgid = (c->next_msgid + 1) & ~MSGID_CONTROL;
    uint32_t id = c->next_msgid;
    c->next_msgid = (id + 1) & ~MSGID_CONTROL;
    c->ring[id % c->ring_size] = op;
    c->n_inflight++;
    return id;
}

void client_conn_forget(struct client_op *op)
{
    struct client_conn *c = op->conn;
    uint32_t at = op->msgid % c->ring_size;
    CHECK(c->ring[at] == op);
    c->ring[at] = NULL;
    c->n_inflight--;
    op->conn = NULL;
}

/* ns. Clocks run apart: by a small part of the retention, until the server's is asked for again. */
static uint64_t time_is_good_for(const struct client_conn *c)
{
    uint64_t part = c->retain_ms * NS_PER_MS / 8 + CONN_SILENCE_NS;
    return part < CONN_TIME_NS ? part : CONN_TIME_NS;
}

/* The last time by the log at which a repetition is known, of a write that is sent now. Servers
 * take up to twice the retention: a part of it is left for a log whose time stands still. */
static uint64_t until_ms(const struct client_conn *c, uint16_t slot, uint64_t now)
{
    uint64_t node = c->time_ms + (now - c->time_at) / NS_PER_MS;
    uint64_t log = route_cache_time(&c->core->routes, slot, c->retain_ms / 2, now);
    return (log > node ? log : node) + c->retain_ms;
}

/* Gives a write its place in the session, or the one that it has. False: it may have been applied
 * by an attempt before, and this server would not know it. */
static bool set_session(struct client_conn *c, struct client_op *op, struct msg_kv_request *q,
                        uint64_t now)
{
    struct client_session *s = &c->core->session;
    if (s->off || c->retain_ms == 0) {
        client_write_forget(&op->write);
        return !op->unsure;
    }
    if (op->part) {
        uint64_t same = op->part->until_ms;
        op->write.until_ms = same ? same : until_ms(c, op->slot, now);
        op->write.seq = 1; /* its items have their own */
    } else if (!op->unsure || op->write.seq == 0) {
        client_session_number(s, &op->write);
        op->write.until_ms = until_ms(c, op->slot, now);
    }
    q->session.id = slice_of(s->id, sizeof(s->id));
    q->session.until_ms = op->write.until_ms;
    q->seq = op->part ? 0 : op->write.seq;
    return true;
}

static void set_level(const struct client_conn *c, const struct client_op *op,
                      struct msg_kv_request *q)
{
    q->level = op->level;
    if (op->level == KV_LEVEL_SESSION)
        q->token = client_session_seen(&c->core->session, op->slot);
    if (op->level == KV_LEVEL_BOUNDED)
        q->staleness_ms = op->staleness_ms;
}

static void encode(struct client_conn *c, struct client_op *op, uint64_t now)
{
    uint64_t left = op->deadline > now ? (op->deadline - now) / NS_PER_MS : 0;
    const struct shard_desc *s = shard_map_find(&c->core->routes.map, op->slot);
    struct msg_kv_request req = {
        .method = op->method,
        .key = op->key,
        .value = op->value,
        .delta = op->delta,
        .deadline_ms = left ? left : 1,
        .epoch_range = s ? s->epoch.range : 0,
        .epoch_members = s ? s->epoch.members : 0,
        .if_absent = op->if_absent,
        .has_if_version = op->has_if_version,
        .if_version = op->if_version,
        .has_ttl = op->has_ttl,
        .ttl_ms = op->ttl_ms,
    };
    if (msg_kv_is_read(op->method)) {
        set_level(c, op, &req);
    } else if (!set_session(c, op, &req, now)) {
        client_core_give_up(c->core, op, now);
        return;
    }
    if (op->part)
        client_many_encode(op->part, &req);
    if (req.session.id.n)
        req.session.ack = client_session_ack(&c->core->session);
    op->conn = c;
    op->sent_at = now;
    op->msgid = take_msgid(c, op);
    msg_kv_encode(&c->out, op->msgid, &req);
    op->sent_end = c->handed + (c->out.n - c->out_head);
    if (c->retain_ms && now - c->time_asked_at >= time_is_good_for(c))
        put_hello(c, MSGID_PING, now);
}

void client_conn_pump(struct client_conn *c, uint64_t now)
{
    if (c->state != CONN_READY || list_empty(&c->waiting))
        return;
    while (c->n_inflight < CONN_INFLIGHT_MAX && c->out.n - c->out_head < CONN_UNSENT_MAX) {
        struct list *item = list_pop_front(&c->waiting);
        if (!item)
            break;
        encode(c, CONTAINER_OF(item, struct client_op, link), now);
    }
    client_conn_dirty(c);
    if (list_empty(&c->timer.link)) { /* the first one under way: watch for silence */
        c->last_data = now;
        wheel_set(&c->core->wheel, &c->timer, now + CONN_SILENCE_NS / 2);
    }
}

void client_conn_enqueue(struct client_conn *c, struct client_op *op, uint64_t now)
{
    list_push_back(&c->waiting, &op->link);
    if (c->state == CONN_DOWN)
        client_conn_open(c, now);
    else
        client_conn_pump(c, now);
}

void client_core_on_writable(struct client_core *core, unsigned id)
{
    struct client_conn *c = core->conns[id];
    c->blocked = false;
    client_conn_dirty(c);
}

void client_core_flush(struct client_core *core, uint64_t now)
{
    struct list todo;
    list_init(&todo);
    list_splice(&todo, &core->dirty);
    for (struct list *item; (item = list_pop_front(&todo));) {
        struct client_conn *c = CONTAINER_OF(item, struct client_conn, dirty);
        while (!c->blocked && c->out.n > c->out_head) {
            struct slice left = slice_of(c->out.p + c->out_head, c->out.n - c->out_head);
            size_t n = core->ops->send(core->arg, c->id, left);
            CHECK(n <= left.n);
            c->handed += n;
            c->out_head += n;
            core->stats.bytes_sent += n;
            c->blocked = n < left.n;
            if (!c->blocked) {
                buf_clear(&c->out);
                c->out_head = 0;
                client_conn_pump(c, now); /* large values: there is room for more now */
            } else if (c->out_head > MIB) {
                buf_consume(&c->out, c->out_head);
                c->out_head = 0;
            }
        }
        list_remove(&c->dirty); /* pump() may have put it back */
    }
}

/* ---- the end of a connection ---- */

/* Takes everything off; returns it in `out`: first what was sent, oldest id first, then waiters. */
static void take_all(struct client_conn *c, struct list *out)
{
    for (uint32_t i = 0; i < c->ring_size && c->n_inflight; i++) {
        /* from the oldest possible id on: the order of submission, as far as ids did not skip */
        struct client_op *op = c->ring[(c->next_msgid + i) % c->ring_size];
        if (!op)
            continue;
        c->ring[op->msgid % c->ring_size] = NULL;
        c->n_inflight--;
        list_push_back(out, &op->link);
    }
    list_splice(out, &c->waiting);
}

static void went_down(struct client_conn *c, enum err why, uint64_t now)
{
    struct client_core *core = c->core;
    struct rpc_error lost = {.err = ERR_UNKNOWN_OUTCOME, .maybe_applied = true};
    struct rpc_error unsent = {.err = ERR_UNREACHABLE};
    struct list ops;
    uint64_t handed = c->handed;
    bool was_ready = c->state == CONN_READY;
    c->suspect = !was_ready || c->stalled;
    if (!was_ready || c->stalled || (c->n_inflight && !c->answered))
        client_conn_failed(c, !was_ready && now - c->opened_at < CONN_SILENCE_NS, now);
    snprintf(lost.text, sizeof(lost.text), "the connection to %s was lost", c->addr);
    snprintf(unsent.text, sizeof(unsent.text), "%s: %s", c->addr, err_text(why));
    client_core_log(core, was_ready ? 2 : 1, "connection to %s %s: %s", c->addr,
                    was_ready ? "lost" : "failed", err_text(why));

    list_init(&ops);
    take_all(c, &ops);
    c->state = CONN_DOWN;
    c->failures = was_ready ? 0 : c->failures + 1;
    c->retry_at = now + retry_delay(&core->rng, c->failures + 1, 0);
    c->handed = c->out_head = c->in_need = 0;
    c->stalled = c->blocked = c->answered = false;
    c->ping_at = 0;
    buf_clear(&c->in);
    buf_clear(&c->out);
    list_remove(&c->dirty);
    wheel_cancel(&c->timer);
    core->stats.disconnects++;
    if (c->is_map) {
        client_map_on_down(c, now);
        return;
    }
    route_cache_forget_node(&core->routes, c->node);
    for (struct list *item; (item = list_pop_front(&ops));) {
        struct client_op *op = CONTAINER_OF(item, struct client_op, link);
        bool sent = op->conn && op->sent_end <= handed;
        op->conn = NULL;
        client_core_attempt_failed(core, op, sent ? &lost : &unsent, now);
    }
    core->want_refresh = true;
    client_map_kick(core, now);
}

void client_conn_drop(struct client_conn *c, enum err why, uint64_t now)
{
    if (c->state == CONN_DOWN)
        return;
    c->core->ops->close(c->core->arg, c->id);
    went_down(c, why, now);
}

void client_core_on_closed(struct client_core *core, unsigned id, enum err why, uint64_t now)
{
    CHECK(core->conns[id]->state != CONN_DOWN);
    went_down(core->conns[id], why, now);
}

/* What can be repeated need not wait for a node that says nothing; a write outside of a session has
 * to: it may have been applied. So may every write that is encoded, for what the kernel has not
 * taken yet is sent when it does. */
static void move_away(struct client_conn *c, uint64_t now)
{
    struct rpc_error silent = {.err = ERR_UNREACHABLE, .text = "the node does not answer"};
    struct rpc_error unknown = {.err = ERR_UNKNOWN_OUTCOME, .maybe_applied = true};
    struct list sent, waiting;
    snprintf(unknown.text, sizeof(unknown.text), "%s does not answer", c->addr);
    list_init(&sent);
    list_init(&waiting);
    for (uint32_t i = 0; i < c->ring_size; i++) {
        struct client_op *op = c->ring[i];
        if (!op || (!msg_kv_is_read(op->method) && op->write.seq == 0))
            continue;
        client_conn_forget(op);
        list_push_back(&sent, &op->link);
    }
    list_splice(&waiting, &c->waiting);
    for (struct list *item; (item = list_pop_front(&sent));) {
        struct client_op *op = CONTAINER_OF(item, struct client_op, link);
        const struct rpc_error *e = msg_kv_is_read(op->method) ? &silent : &unknown;
        client_core_attempt_failed(c->core, op, e, now);
    }
    for (struct list *item; (item = list_pop_front(&waiting));)
        client_core_attempt_failed(c->core, CONTAINER_OF(item, struct client_op, link), &silent,
                                   now);
}

void client_conn_on_timer(struct client_conn *c, uint64_t now)
{
    if (c->state == CONN_CONNECTING || c->state == CONN_HELLO) {
        client_conn_drop(c, ERR_UNREACHABLE, now);
        return;
    }
    if (c->is_map) {
        client_map_on_timer(c, now);
        return;
    }
    if (c->state == CONN_DOWN || (c->n_inflight == 0 && !c->stalled && !c->ping_at))
        return; /* armed again by the next op */
    if (now - c->last_data >= CONN_STALL_CLOSE_NS) {
        client_conn_drop(c, ERR_TIMEOUT, now);
        return;
    }
    if (now - c->last_data >= CONN_SILENCE_NS) {
        if (!c->ping_at) {
            put_hello(c, MSGID_PING, now);
            c->ping_at = now;
        } else if (!c->stalled && now - c->ping_at >= CONN_SILENCE_NS) {
            client_core_log(c->core, 2, "node %u at %s does not answer", c->node, c->addr);
            c->stalled = true;
            c->core->want_refresh = true;
            client_map_kick(c->core, now);
            client_conn_failed(c, false, now);
            move_away(c, now);
        }
    }
    wheel_set(&c->core->wheel, &c->timer, now + CONN_SILENCE_NS / 2);
}
