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
#define SPLIT_TRIES 6u

static enum err on_split(void *arg, struct slice data, size_t *n)
{
    (void)arg;
    return rpc_split(data, LIMIT_FRAME, n);
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
    sim_log("%s: %s %s", a->done ? "split" : "cluster.init", err_name(e.err), e.text);
    if (a->done && (e.err == ERR_OK || err_class(e.err) == ERR_CLASS_NEVER))
        a->split = 0;
    a->done = a->done || e.err == ERR_OK || e.err == ERR_EXISTS;
}

static void on_end(void *arg, enum err why)
{
    struct sim_admin *a = arg;

    (void)why;
    a->conn = NULL;
}

static const struct conn_ops ops = {.split = on_split, .on_message = on_message, .on_end = on_end};

static void put_split(const struct sim_admin *a, struct buf *b)
{
    rpc_put_request(b, 1, "admin.group");
    mp_put_array(b, 1);
    mp_put_map(b, 3);
    mp_put_str(b, "action");
    mp_put_str(b, "split");
    mp_put_str(b, "group");
    mp_put_uint(b, a->split);
    mp_put_str(b, "slot");
    mp_put_uint(b, a->slot);
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
    if (a->split && a->tries++ == SPLIT_TRIES)
        a->split = 0;
    if (a->done && !a->split)
        return;
    io_timer_set(a->io, t, io_now(a->io) + RETRY_NS);
    snprintf(text, sizeof text, "127.0.0.%u:%u", 1 + a->next++ % a->placements,
             SIM_PLACEMENT_CLIENT_PORT);
    CHECK(io_addr_parse(text, &addr) == ERR_OK);
    a->conn = conn_connect(a->conns, &addr, &ops, a);
    if (a->done)
        put_split(a, conn_out(a->conn));
    else
        msg_init_encode(conn_out(a->conn), 1, &init);
}

void sim_admin_split(struct sim_admin *a, uint64_t group, uint16_t slot)
{
    if (!a->done || a->split)
        return;
    a->split = group;
    a->slot = slot;
    a->tries = 0;
    io_timer_set(a->io, &a->tick, io_now(a->io));
    io_again(a->io);
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
