/* See sim_client.h. The shell around client_core that client/socket.c is in production. */
#include "tests/sim/sim_client.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/base/mem.h"

#define OUT_MAX (64 * KIB) /* taken at once, as a socket's buffer would */

static void on_data(void *arg, struct slice data)
{
    struct sim_client_conn *c = arg;

    client_core_on_data(c->client->core, c->id, data, io_now(c->client->io));
}

static void drop(struct sim_client_conn *c)
{
    if (c->client->conn[c->id] == c)
        c->client->conn[c->id] = NULL;
    io_sock_close_with(c->sock, c->out.p);
    free(c);
}

static void on_end(void *arg, enum err why)
{
    struct sim_client_conn *c = arg;
    struct sim_client *client = c->client;
    unsigned id = c->id;

    drop(c);
    client_core_on_closed(client->core, id, why, io_now(client->io));
}

static void on_sent(void *arg)
{
    struct sim_client_conn *c = arg;

    buf_clear(&c->out);
    client_core_on_writable(c->client->core, c->id);
}

static void on_connected(void *arg)
{
    struct sim_client_conn *c = arg;

    c->connected = true;
    client_core_on_connected(c->client->core, c->id, io_now(c->client->io));
}

static const struct io_sock_ops sock_ops = {on_data, on_end, on_sent, on_connected};

static void op_connect(void *arg, unsigned id, const char *addr)
{
    struct sim_client *client = arg;
    struct sim_client_conn *c = mem_zalloc(sizeof *c);
    struct io_addr a;

    CHECK(id < SIM_CLIENT_CONNS && !client->conn[id]);
    CHECK(io_addr_parse(addr, &a) == ERR_OK);
    c->client = client;
    c->id = id;
    c->sock = io_sock_connect(client->io, &a, &sock_ops, c);
    client->conn[id] = c;
}

static size_t op_send(void *arg, unsigned id, struct slice data)
{
    struct sim_client *client = arg;
    struct sim_client_conn *c = client->conn[id];
    size_t n = data.n < OUT_MAX ? data.n : OUT_MAX;

    if (!c || !c->connected || io_sock_sending(c->sock))
        return 0;
    buf_append(&c->out, data.p, n);
    io_sock_send(c->sock, buf_slice(&c->out));
    return n;
}

static void op_close(void *arg, unsigned id)
{
    struct sim_client *client = arg;

    if (client->conn[id])
        drop(client->conn[id]);
}

static const struct client_core_ops core_ops = {
    .connect = op_connect, .send = op_send, .close = op_close};

static void on_turn(void *arg)
{
    struct sim_client *c = arg;
    uint64_t now = io_now(c->io), next;

    if (client_core_next_deadline(c->core) <= now)
        client_core_tick(c->core, now);
    client_core_flush(c->core, now);
    next = client_core_next_deadline(c->core);
    if (next == UINT64_MAX)
        io_timer_cancel(c->io, &c->tick);
    else
        io_timer_set(c->io, &c->tick, next > now + NS_PER_MS ? next : now + NS_PER_MS);
}

static void on_tick(struct io_timer *t)
{
    (void)t; /* the turn's end does it */
}

struct sim_client *sim_client_start(const char *const *seeds, unsigned n)
{
    struct sim_client *c = mem_zalloc(sizeof *c);
    struct io_options io_options = {0};
    struct client_core_options o = {.seeds = seeds, .n_seeds = n, .name = "sim"};
    char msg[128];

    CHECK(io_create(&io_options, &c->io, msg, sizeof msg) == ERR_OK);
    o.seed = io_random(c->io);
    o.now = io_now(c->io);
    c->tick.fn = on_tick;
    c->core = client_core_create(&o, &core_ops, c);
    io_set_turn_hook(c->io, on_turn, c);
    return c;
}
