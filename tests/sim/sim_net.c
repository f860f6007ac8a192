/* The network: byte streams between hosts, in order within a connection, with latency, loss
 * (seen as a retransmission's delay), cuts in one direction, clogs, resets, and windows.
 *
 * A connection has two ends; each has an outgoing pipe, a queue of chunks of which the first has an
 * event. While the direction is cut the chunk stays and tries again with a growing timeout, as TCP
 * would. Acknowledgements need the other direction: cut off, the sender's window fills up.
 * A killed process resets its connections; a host that lost power says nothing, and answers with a
 * reset once it is up again and hears of a connection it does not know: bytes, or the question of a
 * sender whose window is full. */
#include "tests/sim/sim_stream.h"

#include <stdlib.h>

#define WINDOW (256 * KIB)
#define CHUNK_MAX (64 * KIB)
#define RTO_FIRST (200 * NS_PER_MS)
#define RTO_MAX (1 * NS_PER_S)
#define CONNECT_TIMEOUT (10 * NS_PER_S)

enum chunk_kind { CHUNK_DATA, CHUNK_FIN, CHUNK_RESET, CHUNK_SYN, CHUNK_SYN_ACK };

struct chunk {
    struct list link;
    uint64_t at;
    enum chunk_kind kind;
    size_t n;
    uint8_t data[];
};

void sim_net_begin(void)
{
    list_init(&sim_world.conns);
    map_init(&sim_world.handles);
    sim_world.next_handle = 1;
    sim_world.next_port = 40000;
    sim_world.net =
        (struct sim_net_config){40 * NS_PER_US, 400 * NS_PER_US, 0.001, 20 * NS_PER_MS, 0.0};
}

void sim_net_configure(const struct sim_net_config *c)
{
    sim_world.net = *c;
}

static struct end *other(struct end *e)
{
    return e == &e->conn->end[0] ? &e->conn->end[1] : &e->conn->end[0];
}

static bool blocked(unsigned from, unsigned to)
{
    return sim_world.cut[from][to] || sim_world.clogged[from][to] > sim_world.now;
}

static uint64_t latency(void)
{
    const struct sim_net_config *c = &sim_world.net;
    uint64_t ns = sim_between(c->latency_min, c->latency_max);

    if (sim_chance(c->spike))
        ns += sim_below(c->spike_max);
    if (sim_chance(c->loss))
        ns += RTO_FIRST + sim_below(RTO_FIRST);
    return ns;
}

/* ---- sending ---- */

static void put_chunk(struct end *e, enum chunk_kind kind, struct slice data)
{
    struct chunk *c = mem_alloc(sizeof *c + data.n);
    uint64_t at = sim_world.now + latency();

    c->kind = kind;
    c->n = data.n;
    if (data.n)
        memcpy(c->data, data.p, data.n);
    e->last_at = at > e->last_at ? at : e->last_at;
    c->at = e->last_at;
    if (list_empty(&e->pipe)) {
        e->rto = RTO_FIRST;
        sim_at(&e->event, c->at);
    }
    list_push_back(&e->pipe, &c->link);
}

static void drop_pipe(struct end *e)
{
    struct list *item;

    while ((item = list_pop_front(&e->pipe)))
        free(CONTAINER_OF(item, struct chunk, link));
    sim_cancel(&e->event);
    sim_cancel(&e->ack);
}

/* Moves what fits into the window from the sender's memory into the pipe. */
void sim_end_pump(struct end *e)
{
    struct io_sock *s = e->sock;

    if (!s || !s->sending || !e->established || e->reset)
        return;
    while (s->tx_done < s->tx.n && e->unacked < WINDOW) {
        size_t n = s->tx.n - s->tx_done, room = WINDOW - e->unacked;
        n = n < room ? n : room;
        if (n > CHUNK_MAX)
            n = CHUNK_MAX;
        put_chunk(e, CHUNK_DATA, slice_of(s->tx.p + s->tx_done, n));
        s->tx_done += n;
        e->unacked += n;
    }
    if (s->tx_done == s->tx.n && list_empty(&s->ready_sent.link))
        sim_io_ready(s->io, &s->ready_sent);
}

/* ---- receiving ---- */

void sim_end_wake(struct end *e)
{
    struct io_sock *s = e->sock;

    if (s && !s->ended && !s->closed && list_empty(&s->ready_rx.link) &&
        ((e->rx.n > 0 && !s->paused) || e->reset || (e->fin && e->rx.n == 0)))
        sim_io_ready(s->io, &s->ready_rx);
}

static void on_ack(struct sim_event *ev)
{
    struct end *e = CONTAINER_OF(ev, struct end, ack);

    if (blocked(other(e)->host, e->host)) {
        sim_at(ev, sim_world.now + RTO_FIRST);
        return;
    }
    CHECK(e->unacked >= e->to_ack);
    e->unacked -= e->to_ack;
    e->to_ack = 0;
    sim_end_pump(e);
}

/* The receiver took n bytes: the sender's window opens once the news has travelled. */
void sim_end_acknowledge(struct end *receiver, size_t n)
{
    struct end *e = other(receiver);

    if (e->gone)
        return;
    e->to_ack += n;
    if (e->ack.pos == 0)
        sim_at(&e->ack, sim_world.now + sim_world.net.latency_min);
}

static void free_conn(struct conn *c)
{
    for (int i = 0; i < 2; i++) {
        drop_pipe(&c->end[i]);
        buf_close(&c->end[i].rx);
        if (c->end[i].handle)
            map_remove(&sim_world.handles, (uint64_t)c->end[i].handle);
    }
    list_remove(&c->link);
    free(c);
}

static void free_if_done(struct conn *c)
{
    if (c->end[0].gone && c->end[1].gone && list_empty(&c->end[0].pipe) &&
        list_empty(&c->end[1].pipe))
        free_conn(c);
}

static void reset_end(struct end *e)
{
    e->reset = true;
    drop_pipe(e);
    sim_end_wake(e);
}

static void on_syn(struct end *client)
{
    struct end *server = other(client);
    uint16_t port = client->conn->to.port;

    if (!sim_listener_there(server->host, port)) {
        server->gone = true;
        put_chunk(server, CHUNK_RESET, slice_of(NULL, 0));
        return;
    }
    sim_world.stats.connects++;
    server->gone = false;
    server->established = true;
    server->life = sim_world.host[server->host]->life;
    server->handle = sim_world.next_handle++;
    map_set(&sim_world.handles, (uint64_t)server->handle, server);
    put_chunk(server, CHUNK_SYN_ACK, slice_of(NULL, 0));
    sim_listener_accept(server->host, port, server->handle, client->host,
                        (uint16_t)(client->conn->began % 20000 + 40000));
}

static void deliver(struct end *from, struct chunk *c)
{
    struct end *to = other(from);

    sim_world.stats.chunks++;
    sim_trace(c->n * 8 + c->kind);
    if (c->kind == CHUNK_SYN) {
        on_syn(from);
        return;
    }
    if (to->gone || to->reset) {
        /* Nobody there: bytes are answered by a reset. */
        if (c->kind == CHUNK_DATA && !from->gone && !from->reset && list_empty(&to->pipe))
            put_chunk(to, CHUNK_RESET, slice_of(NULL, 0));
        return;
    }
    switch (c->kind) {
    case CHUNK_DATA:
        buf_append(&to->rx, c->data, c->n);
        break;
    case CHUNK_FIN:
        to->fin = true;
        break;
    case CHUNK_RESET:
        reset_end(to);
        break;
    case CHUNK_SYN_ACK:
        to->established = true;
        if (to->sock)
            sim_io_ready(to->sock->io, &to->sock->ready_connected);
        sim_end_pump(to);
        break;
    default:
        break;
    }
    sim_end_wake(to);
}

static void on_chunk(struct sim_event *ev)
{
    struct end *from = CONTAINER_OF(ev, struct end, event);
    struct end *to = other(from);
    struct list *first = list_first(&from->pipe);
    struct chunk *c = CONTAINER_OF(first, struct chunk, link);
    struct conn *conn = from->conn;
    struct sim_host *th = sim_world.host[to->host];

    CHECK(first);
    if (c->kind == CHUNK_SYN && sim_world.now - conn->began > CONNECT_TIMEOUT) {
        reset_end(from);
        return;
    }
    if (blocked(from->host, to->host) || (!th->up && !th->powered)) {
        sim_at(ev, sim_world.now + from->rto / 2 + sim_below(from->rto));
        from->rto = from->rto * 2 > RTO_MAX ? RTO_MAX : from->rto * 2;
        return;
    }
    from->rto = RTO_FIRST;
    list_remove(first);
    deliver(from, c);
    free(c);
    if ((first = list_first(&from->pipe)))
        sim_at(&from->event, CONTAINER_OF(first, struct chunk, link)->at);
    else
        free_if_done(conn);
}

/* ---- ends ---- */

void sim_end_close(struct end *e)
{
    struct conn *c = e->conn;

    if (e->handle) {
        map_remove(&sim_world.handles, (uint64_t)e->handle);
        e->handle = 0;
    }
    e->sock = NULL;
    e->gone = true;
    buf_close(&e->rx);
    if (!e->established)
        drop_pipe(e); /* a connect given up */
    else if (!e->reset && !other(e)->gone)
        put_chunk(e, CHUNK_FIN, slice_of(NULL, 0));
    free_if_done(c);
}

static struct conn *conn_create(unsigned from, unsigned to)
{
    struct conn *c = mem_zalloc(sizeof *c);

    for (int i = 0; i < 2; i++) {
        struct end *e = &c->end[i];
        e->conn = c;
        e->host = i ? to : from;
        e->life = sim_world.host[e->host] ? sim_world.host[e->host]->life : 0;
        e->event.fn = on_chunk;
        e->ack.fn = on_ack;
        list_init(&e->pipe);
    }
    c->end[1].gone = true; /* until accepted */
    c->began = sim_world.now;
    list_push_back(&sim_world.conns, &c->link);
    return c;
}

struct end *sim_conn_open(unsigned from, unsigned target, const struct io_addr *to)
{
    struct end *e;

    if (target >= SIM_HOSTS || !sim_world.host[target])
        target = from; /* no such host: its port is closed, so refused */
    e = &conn_create(from, target)->end[0];
    e->conn->to = *to;
    put_chunk(e, CHUNK_SYN, slice_of(NULL, 0));
    return e;
}

void sim_net_host_died(struct sim_host *h, enum sim_death how)
{
    list_init(&h->listeners);
    LIST_FOR_SAFE(item, &sim_world.conns)
    {
        struct conn *c = CONTAINER_OF(item, struct conn, link);
        for (int i = 0; i < 2; i++) {
            struct end *e = &c->end[i];
            if (e->host != h->number || e->gone)
                continue;
            if (e->handle)
                map_remove(&sim_world.handles, (uint64_t)e->handle);
            e->handle = 0;
            e->sock = NULL;
            e->gone = true;
            buf_clear(&e->rx);
            drop_pipe(e);
            if (how == SIM_KILL && !e->reset && !other(e)->gone)
                put_chunk(e, CHUNK_RESET, slice_of(NULL, 0));
            else if (how != SIM_KILL && other(e)->unacked > 0 && list_empty(&other(e)->pipe))
                put_chunk(other(e), CHUNK_DATA, slice_of(NULL, 0)); /* asks about the window */
        }
        free_if_done(c);
    }
}

/* ---- faults ---- */

void sim_net_cut(unsigned from, unsigned to, bool cut)
{
    sim_world.cut[from][to] = cut;
}

bool sim_net_is_cut(unsigned from, unsigned to)
{
    return sim_world.cut[from][to];
}

void sim_net_cut_host(unsigned host, bool in, bool out, bool cut)
{
    for (unsigned i = 1; i < SIM_HOSTS; i++) {
        if (i == host)
            continue;
        if (in)
            sim_world.cut[i][host] = cut;
        if (out)
            sim_world.cut[host][i] = cut;
    }
}

void sim_net_heal(void)
{
    memset(sim_world.cut, 0, sizeof sim_world.cut);
    memset(sim_world.clogged, 0, sizeof sim_world.clogged);
}

void sim_net_clog(unsigned from, unsigned to, uint64_t ns)
{
    sim_world.clogged[from][to] = sim_world.now + ns;
}

bool sim_net_reset_one(unsigned host)
{
    struct conn *hit = NULL;
    uint64_t seen = 0;

    LIST_FOR(item, &sim_world.conns)
    {
        struct conn *c = CONTAINER_OF(item, struct conn, link);
        if ((c->end[0].host == host || c->end[1].host == host) && c->end[1].established &&
            !c->end[0].gone && !c->end[1].gone && sim_below(++seen) == 0)
            hit = c;
    }
    if (!hit)
        return false;
    sim_world.stats.resets++;
    reset_end(&hit->end[0]);
    reset_end(&hit->end[1]);
    return true;
}
