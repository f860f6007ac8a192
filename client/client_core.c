/* Calls in flight: submission, routing, retries, deadlines. */
#include "client/client_core.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/client_core_int.h"
#include "client/retry.h"
#include "client/token.h"
#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/meta/slot.h"

void client_core_log(struct client_core *core, int level, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    if (!core->ops->log)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    core->ops->log(core->arg, level, text);
}

struct client_core *client_core_create(const struct client_core_options *o,
                                       const struct client_core_ops *ops, void *arg)
{
    struct client_core *core = mem_zalloc(sizeof(*core));
    CHECK(o->n_seeds > 0);
    core->ops = ops;
    core->arg = arg;
    snprintf(core->name, sizeof(core->name), "%s", o->name ? o->name : "libkvclient");
    snprintf(core->zone, sizeof(core->zone), "%s", o->zone ? o->zone : "");
    rng_seed(&core->rng, o->seed);
    core->taste = rng_next(&core->rng);
    client_session_init(&core->session, o->session, &core->rng);
    core->session.off = o->no_session;
    route_cache_init(&core->routes);
    wheel_init(&core->wheel, o->now);
    list_init(&core->dirty);
    list_init(&core->want_map);
    map_init(&core->conn_of);
    core->n_seeds = o->n_seeds < CLIENT_SEEDS_MAX ? o->n_seeds : CLIENT_SEEDS_MAX;
    for (unsigned i = 0; i < core->n_seeds; i++)
        snprintf(core->seeds[i], sizeof(core->seeds[i]), "%s", o->seeds[i]);
    /* Many clients share one URL: they should not all ask the first address. */
    core->next_addr = (unsigned)rng_below(&core->rng, core->n_seeds);
    struct client_conn *c = client_conn_new(core, core->seeds[core->next_addr], o->now);
    c->is_map = true;
    return core;
}

void client_core_destroy(struct client_core *core)
{
    if (!core)
        return;
    client_core_fail_all(core, ERR_CLOSED);
    for (unsigned i = 0; i < core->n_conns; i++) {
        if (core->conns[i]->state != CONN_DOWN)
            core->ops->close(core->arg, i);
        client_conn_free(core->conns[i]);
    }
    free(core->conns);
    map_close(&core->conn_of);
    route_cache_close(&core->routes);
    client_session_close(&core->session);
    buf_close(&core->items);
    free(core);
}

void client_core_complete(struct client_core *core, struct client_op *op,
                          const struct client_result *r)
{
    CHECK(op->conn == NULL);
    list_remove(&op->link);
    wheel_cancel(&op->timer);
    client_write_forget(&op->write);
    if (op->part) { /* counted by the many that it is a part of */
        op->done(op, r);
        return;
    }
    core->stats.in_flight--;
    if (err_class(r->err) == ERR_CLASS_DONE)
        core->stats.ok++;
    else if (r->maybe_applied)
        core->stats.unknown++;
    else
        core->stats.failed++;
    client_session_saw(&core->session, op->slot, r->version);
    client_session_saw(&core->session, op->slot, r->at);
    op->done(op, r);
}

static void fail(struct client_core *core, struct client_op *op, enum err e, bool maybe_applied,
                 const char *text)
{
    bool maybe = (maybe_applied || op->unsure) && !msg_kv_is_read(op->method);
    /* The class alone would call it not applied, and it may be, by an attempt before. */
    if (maybe && err_class(e) != ERR_CLASS_UNKNOWN && e != ERR_CLOSED)
        e = ERR_UNKNOWN_OUTCOME;
    struct client_result r = {.err = e, .maybe_applied = maybe, .text = text};
    client_core_complete(core, op, &r);
}

/* Sets the op aside until `at`, but not beyond its deadline. */
static void set_timer(struct client_core *core, struct client_op *op, uint64_t at)
{
    wheel_set(&core->wheel, &op->timer, at < op->deadline ? at : op->deadline);
}

void client_core_start(struct client_core *core, struct client_op *op, uint16_t slot)
{
    wheel_node_init(&op->timer, TIMER_OP);
    list_init(&op->link);
    client_write_init(&op->write);
    op->conn = NULL;
    op->asked_node = 0;
    op->attempts = op->hops = op->sends = 0;
    op->unsure = op->hopeless = op->to_leader = op->follower = false;
    op->last_err = ERR_OK;
    op->slot = slot;
    set_timer(core, op, op->deadline);
}

void client_core_submit(struct client_core *core, struct client_op *op, uint64_t now)
{
    op->part = NULL;
    core->stats.calls++;
    core->stats.in_flight++;
    client_core_start(core, op, slot_of_key(op->key));
    client_core_route_op(core, op, now);
}

void client_core_soon(struct client_core *core, struct client_op *op)
{
    set_timer(core, op, 0);
}

void client_core_give_up(struct client_core *core, struct client_op *op, uint64_t now)
{
    op->hopeless = true;
    set_timer(core, op, now);
}

/* Tries again after the back-off. */
static void later(struct client_core *core, struct client_op *op, uint64_t hint_ms, uint64_t now)
{
    op->hops = 0;
    set_timer(core, op, now + retry_delay(&core->rng, op->attempts, hint_ms));
}

static void count_send(struct client_core *core, struct client_op *op)
{
    if (op->sends < UINT16_MAX)
        op->sends++;
    if (op->sends == 1)
        return;
    core->stats.retries++;
    core->stats.retried += op->sends == 2;
    if (op->sends - 1u > core->stats.retries_max)
        core->stats.retries_max = op->sends - 1u;
}

void client_core_route_op(struct client_core *core, struct client_op *op, uint64_t now)
{
    struct route r;
    enum err e;
    struct client_conn *c = client_route_pick(core, op, now, &r, &e);
    if (e == ERR_NOT_READY) {
        list_push_back(&core->want_map, &op->link);
        client_map_kick(core, now);
        return;
    }
    if (op->attempts < UINT16_MAX)
        op->attempts++;
    if (!c) {
        op->to_leader = false; /* whoever can be reached */
        op->last_err = e == ERR_OK ? ERR_UNREACHABLE : e;
        core->want_refresh = true;
        client_map_kick(core, now);
        later(core, op, 0, now);
        return;
    }
    count_send(core, op);
    breaker_take(&c->breaker, now);
    op->asked_node = r.node;
    op->follower = !r.leader;
    client_conn_enqueue(c, op, now);
}

void client_core_route(struct client_core *core, struct client_op *op, uint64_t now)
{
    if (op->part)
        client_many_regroup(op->part, now);
    client_core_route_op(core, op, now);
}

/* A node says so, so it has heard of that one lately: no reason to leave it alone. */
static void leader_lives(struct client_core *core, uint16_t slot, uint64_t now)
{
    struct route r;
    if (route_cache_find(&core->routes, slot, 0, 0, &r) == ERR_OK)
        breaker_hint(&client_conn_for(core, &r, now)->breaker, now);
}

/* Learns from an error where the leader is. True if it is known better now. */
static bool learn(struct client_core *core, struct client_op *op, const struct rpc_error *e,
                  uint64_t now)
{
    bool hinted = false;
    if (e->map.n)
        hinted = client_map_take(core, e->map, true, now);
    bool forget = e->err == ERR_NOT_LEADER || e->err == ERR_NO_LEADER ||
                  e->err == ERR_SHUTTING_DOWN || e->err == ERR_UNREACHABLE;
    if (forget)
        route_cache_forget_leader(&core->routes, op->slot, op->asked_node);
    if (e->leader && e->leader != op->asked_node) {
        if (route_cache_learn_leader(&core->routes, op->slot, e->leader)) {
            leader_lives(core, op->slot, now);
            return true;
        }
        hinted = false;
    }
    if (!hinted && err_class(e->err) == ERR_CLASS_REFRESH) {
        core->want_refresh = true;
        client_map_kick(core, now);
    }
    /* A piece without a leader says where to ask, but not more than the back-off would find. */
    return hinted && e->err != ERR_NOT_LEADER;
}

/* A read, or a write that the servers will know again. */
static bool repeatable(const struct client_core *core, const struct client_op *op, uint64_t now)
{
    if (msg_kv_is_read(op->method))
        return true;
    return op->write.seq != 0 &&
           core->time_ms + (now - core->time_at) / NS_PER_MS <= op->write.until_ms;
}

/* The server has refused a write as too late to be known as a repetition: by this attempt it was
 * surely not applied. */
static bool came_too_late(const struct client_op *op, const struct rpc_error *e)
{
    return e->time_ms != 0 && e->err == ERR_UNKNOWN_OUTCOME && op->write.seq != 0 &&
           !msg_kv_is_read(op->method);
}

static void became_unsure(struct client_op *op)
{
    op->unsure = true;
    if (op->part)
        client_many_unsure(op->part);
}

void client_core_attempt_failed(struct client_core *core, struct client_op *op,
                                const struct rpc_error *e, uint64_t now)
{
    CHECK(op->conn == NULL && list_empty(&op->link));
    bool is_read = msg_kv_is_read(op->method);
    bool late = came_too_late(op, e);
    bool maybe = !is_read && !late && (e->maybe_applied || err_class(e->err) == ERR_CLASS_UNKNOWN);
    bool hinted = learn(core, op, e, now);
    if (late)
        route_cache_saw_time(&core->routes, op->slot, e->time_ms, now);
    if (late && op->unsure) { /* and of the attempts before nobody can tell any more */
        fail(core, op, e->err, true, e->text);
        return;
    }
    if (maybe)
        became_unsure(op);
    if (err_class(e->err) == ERR_CLASS_REFRESH)
        core->stats.redirects++;
    op->last_err = e->err;
    /* Also from a replica that is not there yet: it answers fast, and would be asked for ever. */
    op->to_leader = e->err == ERR_NOT_LEADER || op->follower;
    switch (retry_decide(e->err, late || repeatable(core, op, now), maybe, hinted, op->hops)) {
    case RETRY_NO:
        fail(core, op, e->err, maybe, e->text);
        return;
    case RETRY_NOW:
        op->hops++;
        client_core_route(core, op, now);
        return;
    case RETRY_LATER:
        later(core, op, e->retry_ms, now);
        return;
    }
}

void client_core_map_changed(struct client_core *core, uint64_t now)
{
    struct list ready;
    list_init(&ready);
    list_splice(&ready, &core->want_map);
    for (struct list *item; (item = list_pop_front(&ready));)
        client_core_route(core, CONTAINER_OF(item, struct client_op, link), now);
}

/* An op's deadline. What it gives tells apart "surely not applied" and "nobody knows". */
static void expire(struct client_core *core, struct client_op *op, uint64_t now)
{
    struct client_conn *c = op->conn;
    if (c) {
        /* What is encoded is sent, also if the kernel has not taken it yet. */
        client_conn_forget(op);
        if (now - op->sent_at >= CONN_SILENCE_NS && c->last_data < op->sent_at)
            client_conn_failed(c, false, now);
        fail(core, op, ERR_TIMEOUT, true, "no answer from the node within the deadline");
        return;
    }
    if (op->unsure) {
        fail(core, op, ERR_UNKNOWN_OUTCOME, true,
             "its answer was lost, and no repetition was answered within the deadline");
        return;
    }
    enum err e = op->last_err;
    if (e == ERR_OK) /* it never got as far as a connection */
        e = core->stats.map_version ? ERR_UNREACHABLE : ERR_NOT_READY;
    if (e == ERR_NOT_READY && core->conns[0]->state != CONN_READY)
        e = ERR_UNREACHABLE;
    if (err_class(e) == ERR_CLASS_REFRESH)
        e = ERR_NO_LEADER;
    /* A read whose last attempt had an unknown outcome simply timed out. */
    if (err_class(e) == ERR_CLASS_UNKNOWN)
        e = ERR_TIMEOUT;
    fail(core, op, e, false, "not done within the deadline");
}

static void on_op_timer(struct client_core *core, struct client_op *op, uint64_t now)
{
    if (op->hopeless) {
        fail(core, op, ERR_UNKNOWN_OUTCOME, true,
             "its answer was lost, and the node that leads now cannot tell whether it was applied");
        return;
    }
    if (now >= op->deadline) {
        expire(core, op, now);
        return;
    }
    CHECK(op->conn == NULL && list_empty(&op->link)); /* set aside by later() */
    set_timer(core, op, op->deadline);
    client_core_route(core, op, now);
}

void client_core_tick(struct client_core *core, uint64_t now)
{
    for (struct wheel_node *n; (n = wheel_pop(&core->wheel, now));) {
        if (n->kind == TIMER_OP)
            on_op_timer(core, CONTAINER_OF(n, struct client_op, timer), now);
        else
            client_conn_on_timer(CONTAINER_OF(n, struct client_conn, timer), now);
    }
}

uint64_t client_core_next_deadline(const struct client_core *core)
{
    return wheel_next(&core->wheel);
}

void client_core_fail_all(struct client_core *core, enum err why)
{
    core->closing = why;
    for (struct wheel_node *n; (n = wheel_pop_any(&core->wheel));) {
        if (n->kind != TIMER_OP)
            continue;
        struct client_op *op = CONTAINER_OF(n, struct client_op, timer);
        bool handed = op->conn && op->sent_end <= op->conn->handed;
        if (op->conn)
            client_conn_forget(op);
        fail(core, op, why, handed, "given up: the handle is closed");
    }
    core->closing = ERR_OK;
}

void client_core_get_stats(const struct client_core *core, struct client_core_stats *out)
{
    *out = core->stats;
}

void client_core_export(const struct client_core *core, struct buf *out)
{
    static const uint8_t none[16];
    const uint8_t *cluster = core->routes.map.cluster;
    if (memcmp(cluster, none, 16) == 0)
        cluster = core->session.cluster;
    token_encode(cluster, core->session.seen, out);
}

enum err client_core_import(struct client_core *core, struct slice token)
{
    static const uint8_t none[16];
    struct client_session *s = &core->session;
    uint8_t of[16];
    uint64_t *seen = mem_alloc(LIMIT_SLOTS * sizeof(*seen));
    enum err e = token_decode(token, of, seen);
    const uint8_t *mine = core->routes.map.cluster;
    bool known = memcmp(mine, none, 16) != 0;
    if (!known)
        mine = s->cluster; /* of a token before */
    if (e == ERR_OK && memcmp(of, none, 16) != 0) {
        if (memcmp(mine, none, 16) != 0 && memcmp(mine, of, 16) != 0)
            e = ERR_FOREIGN;
        else if (!known)
            memcpy(s->cluster, of, 16);
    }
    for (unsigned slot = 0; e == ERR_OK && slot < LIMIT_SLOTS; slot++)
        client_session_saw(s, (uint16_t)slot, seen[slot]);
    free(seen);
    return e;
}
