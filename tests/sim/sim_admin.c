/* See sim_admin.h. */
#include "tests/sim/sim_admin.h"

#include <stdio.h>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/wire/mp.h"
#include "common/wire/msg_placement.h"
#include "common/wire/rpc.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_placement.h"

#define RETRY_NS (300 * NS_PER_MS)
#define SOON_NS (20 * NS_PER_MS)
#define TRIES 8u
#define PATIENT_TRIES 300u

static enum err on_split(void *arg, struct slice data, size_t *n)
{
    (void)arg;
    return rpc_split(data, LIMIT_FRAME, n);
}

static void next_ask(struct sim_admin *a)
{
    memmove(a->ask, a->ask + 1, --a->n_asks * sizeof a->ask[0]);
}

/* The id of a plan that was made. */
static void keep_plan(struct sim_admin *a, struct slice result)
{
    struct mp_reader r = mp_reader_of(result);

    for (uint32_t left = mp_get_map(&r); left > 0 && !r.bad; left--) {
        if (slice_eq(mp_get_str(&r), slice_str("plan")) && mp_peek(&r) == MP_STR) {
            mp_get_cstr(&r, a->plan, sizeof a->plan);
            return;
        }
        mp_skip(&r);
    }
}

static bool elsewhere(enum err e)
{
    return e == ERR_NOT_LEADER || e == ERR_NO_LEADER || e == ERR_NOT_READY ||
           e == ERR_SHUTTING_DOWN || e == ERR_UNKNOWN_OUTCOME || e == ERR_TIMEOUT;
}

static void on_answer(struct sim_admin *a, const struct rpc_error *e, struct slice result)
{
    const struct sim_ask *q = &a->ask[0];

    sim_log("%s %s %s%s%s group %llu id %llu: %s %s", q->method, q->action, q->node, q->from, q->to,
            (unsigned long long)q->group, (unsigned long long)q->id, err_name(e->err), e->text);
    if (elsewhere(e->err))
        return;
    if (e->err == ERR_OK)
        keep_plan(a, result);
    a->answered++;
    a->refused += e->err != ERR_OK;
    next_ask(a);
}

static void on_message(void *arg, struct slice message)
{
    struct sim_admin *a = arg;
    struct rpc_message m;
    struct rpc_error e = {.err = ERR_OK};

    if (rpc_decode(message, &m) != ERR_OK || m.type != RPC_RESPONSE)
        return;
    if (m.error.n > 0)
        rpc_get_error(m.error, &e);
    if (!a->done) {
        sim_log("cluster.init: %s %s", err_name(e.err), e.text);
        a->done = e.err == ERR_OK || e.err == ERR_EXISTS;
        return;
    }
    if (a->n_asks > 0)
        on_answer(a, &e, m.result);
    io_timer_set(a->io, &a->tick, io_now(a->io) + SOON_NS);
}

static void on_end(void *arg, enum err why)
{
    struct sim_admin *a = arg;

    (void)why;
    a->conn = NULL;
}

static const struct conn_ops ops = {.split = on_split, .on_message = on_message, .on_end = on_end};

static void put_text(struct buf *b, const char *name, const char *value)
{
    if (!value[0])
        return;
    mp_put_pair_str(b, name, value);
}

static void put_number(struct buf *b, const char *name, uint64_t value, bool there)
{
    if (!there)
        return;
    mp_put_pair(b, name, value);
}

static void put_ask(const struct sim_ask *q, struct buf *b)
{
    unsigned n = 1u + !!q->node[0] + !!q->from[0] + !!q->to[0] + !!q->plan[0] + !!q->peer[0] +
                 !!q->group + !!q->into + !!q->id + !!q->slot + q->has_for + q->all;

    rpc_put_request(b, 1, q->method);
    mp_put_array(b, 1);
    mp_put_map(b, n);
    put_text(b, "action", q->action);
    put_text(b, "node", q->node);
    put_text(b, "from", q->from);
    put_text(b, "to", q->to);
    put_text(b, "plan", q->plan);
    put_text(b, "peer", q->peer);
    put_number(b, "group", q->group, q->group);
    put_number(b, "into", q->into, q->into);
    put_number(b, "id", q->id, q->id);
    put_number(b, "slot", q->slot, q->slot);
    put_number(b, "for_ms", q->for_ms, q->has_for);
    if (q->all)
        mp_put_pair_bool(b, "all", true);
}

static void on_tick(struct io_timer *t)
{
    struct sim_admin *a = CONTAINER_OF(t, struct sim_admin, tick);
    struct msg_init init = {.groups = a->groups, .replicas = a->replicas};
    struct io_addr addr;
    char text[64];

    if (a->conn) {
        conn_abort(a->conn); /* no answer, or one to be asked elsewhere */
        a->conn = NULL;
    }
    if (a->done && a->n_asks > 0 &&
        a->ask[0].tries++ == (a->ask[0].patient ? PATIENT_TRIES : TRIES)) {
        a->unanswered++;
        next_ask(a);
    }
    if (a->done && a->n_asks == 0)
        return;
    io_timer_set(a->io, t, io_now(a->io) + RETRY_NS);
    snprintf(text, sizeof text, "127.0.0.%u:%u", 1 + a->next++ % a->placements,
             SIM_PLACEMENT_CLIENT_PORT);
    CHECK(io_addr_parse(text, &addr) == ERR_OK);
    a->conn = conn_connect(a->conns, &addr, &ops, a);
    if (a->done)
        put_ask(&a->ask[0], conn_out(a->conn));
    else
        msg_init_encode(conn_out(a->conn), 1, &init);
}

void sim_admin_ask(struct sim_admin *a, const struct sim_ask *ask)
{
    if (!a->done || a->n_asks == SIM_ADMIN_ASKS)
        return;
    a->ask[a->n_asks++] = *ask;
    if (a->n_asks > 1)
        return;
    io_timer_set(a->io, &a->tick, io_now(a->io));
    io_again(a->io);
}

void sim_admin_split(struct sim_admin *a, uint64_t group, uint16_t slot)
{
    struct sim_ask q = {.method = "admin.group", .action = "split", .group = group, .slot = slot};

    if (a->n_asks == 0)
        sim_admin_ask(a, &q);
}

static void on_turn(void *arg)
{
    struct sim_admin *a = arg;

    conn_set_flush(a->conns);
}

struct sim_admin *sim_admin_start(unsigned placements, unsigned groups, unsigned replicas)
{
    struct sim_admin *a = mem_zalloc(sizeof *a);
    struct io_options o = {0};
    char msg[128];

    a->placements = placements;
    a->groups = groups;
    a->replicas = replicas;
    CHECK(io_create(&o, &a->io, msg, sizeof msg) == ERR_OK);
    a->conns = conn_set_create(a->io);
    io_set_turn_hook(a->io, on_turn, a);
    a->tick.fn = on_tick;
    io_timer_set(a->io, &a->tick, io_now(a->io) + RETRY_NS);
    return a;
}
