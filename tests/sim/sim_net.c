/* Sockets of io.h: byte streams between hosts, in order within a connection, with latency, loss
 * (seen as a retransmission's delay), cuts in one direction, clogs, resets, and windows.
 *
 * A connection has two ends; each has an outgoing pipe, a queue of chunks of which the first has an
 * event. While the direction is cut the chunk stays and tries again with a growing timeout, as TCP
 * would. Acknowledgements need the other direction: cut off, the sender's window fills up.
 * A killed process resets its connections; a host that lost power says nothing, and answers with a
 * reset once it is up again and hears of a connection it does not know. */
#include "tests/sim/sim_internal.h"

#include <stdlib.h>

#define WINDOW (256 * KIB)
#define RECV_MAX (64 * KIB)
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

struct end {
    struct conn *conn;
    unsigned host, life; /* whose it is */
    int handle;          /* of an accepted one that no io has adopted; 0: none */
    struct io_sock *sock;
    bool gone; /* closed by the owner, or its host died */
    bool established;
    /* outgoing */
    struct list pipe;
    struct sim_event event; /* delivery of the first chunk */
    uint64_t last_at, rto;
    size_t unacked;
    struct sim_event ack;
    size_t to_ack;
    /* incoming */
    struct buf rx;
    bool fin, reset;
};

struct conn {
    struct list link;
    struct end end[2]; /* 0: who connected */
    struct io_addr to;
    uint64_t began;
};

struct io_listener {
    struct list link; /* sim_host.listeners */
    struct io *io;
    struct io_addr addr;
    io_accept_fn fn;
    void *arg;
    bool closed;
};

struct io_sock {
    struct sim_grave grave;
    struct sim_ready ready_rx, ready_sent, ready_connected, ready_detach;
    struct io *io;
    struct end *end;
    const struct io_sock_ops *ops;
    void *arg;
    struct slice tx;
    size_t tx_done;
    bool sending, paused, ended, closed;
    void (*detached)(void *arg, int handle);
};

struct accepting {
    struct sim_ready ready;
    struct io_listener *listener;
    int handle;
    struct io_addr from;
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
static void pump(struct end *e)
{
    struct io_sock *s = e->sock;

    if (!s || !s->sending || !e->established || e->reset)
        return;
    while (s->tx_done < s->tx.n && e->unacked < WINDOW) {
        size_t n = s->tx.n - s->tx_done, room = WINDOW - e->unacked;
        n = n < room ? n : room;
        if (n > RECV_MAX)
            n = RECV_MAX;
        put_chunk(e, CHUNK_DATA, slice_of(s->tx.p + s->tx_done, n));
        s->tx_done += n;
        e->unacked += n;
    }
    if (s->tx_done == s->tx.n && list_empty(&s->ready_sent.link))
        sim_io_ready(s->io, &s->ready_sent);
}

/* ---- receiving ---- */

static void wake_receiver(struct end *e)
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
    pump(e);
}

/* The receiver took n bytes: the sender's window opens once the news has travelled. */
static void acknowledge(struct end *receiver, size_t n)
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
    wake_receiver(e);
}

static void accept_run(struct sim_ready *r)
{
    struct accepting *a = CONTAINER_OF(r, struct accepting, ready);
    struct accepting copy = *a;

    free(a);
    if (copy.listener->closed)
        io_handle_close(copy.handle);
    else
        copy.listener->fn(copy.listener->arg, copy.handle, &copy.from);
}

static struct io_addr host_addr(unsigned host, uint16_t port)
{
    struct io_addr a = {.port = port};

    a.ip[10] = a.ip[11] = 0xff;
    a.ip[12] = 127;
    a.ip[15] = (uint8_t)host;
    return a;
}

static struct io_listener *find_listener(unsigned host, uint16_t port)
{
    struct sim_host *h = sim_world.host[host];

    LIST_FOR(item, &h->listeners)
    {
        struct io_listener *l = CONTAINER_OF(item, struct io_listener, link);
        if (l->addr.port == port)
            return l;
    }
    return NULL;
}

static void on_syn(struct end *client)
{
    struct end *server = other(client);
    struct io_listener *l = find_listener(server->host, client->conn->to.port);
    struct accepting *a;

    if (!l) {
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
    a = mem_zalloc(sizeof *a);
    a->ready.fn = accept_run;
    a->listener = l;
    a->handle = server->handle;
    a->from = host_addr(client->host, (uint16_t)(client->conn->began % 20000 + 40000));
    list_init(&a->ready.link);
    sim_io_ready(l->io, &a->ready);
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
        pump(to);
        break;
    default:
        break;
    }
    wake_receiver(to);
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

static void end_close(struct end *e)
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
        }
        free_if_done(c);
    }
}

/* ---- io.h: listeners and handles ---- */

enum err io_listen(struct io *io, const struct io_addr *addr, io_accept_fn fn, void *arg,
                   struct io_listener **out)
{
    struct sim_host *h = sim_io_host(io);
    struct io_listener *l;
    uint16_t port = addr->port;

    if (port == 0) {
        while (find_listener(h->number, ++sim_world.next_port))
            ;
        port = sim_world.next_port;
    }
    if (find_listener(h->number, port))
        return ERR_ADDRESS_IN_USE;
    l = mem_zalloc(sizeof *l);
    l->io = io;
    l->addr = host_addr(h->number, port);
    l->fn = fn;
    l->arg = arg;
    list_push_back(&h->listeners, &l->link);
    *out = l;
    return ERR_OK;
}

void io_listener_addr(const struct io_listener *l, struct io_addr *out)
{
    *out = l->addr;
}

/* Kept in memory: connections on their way to it still point at it. */
void io_listener_close(struct io_listener *l)
{
    list_remove(&l->link);
    l->closed = true;
}

void io_handle_close(int handle)
{
    struct end *e = map_find(&sim_world.handles, (uint64_t)handle);

    if (e)
        end_close(e);
}

/* ---- io.h: sockets ---- */

static void sock_end(struct io_sock *s, enum err why)
{
    s->ended = true;
    list_remove(&s->ready_rx.link);
    list_remove(&s->ready_sent.link);
    list_remove(&s->ready_connected.link);
    s->sending = false;
    s->ops->on_end(s->arg, why);
}

static void sock_rx(struct sim_ready *r)
{
    struct io_sock *s = CONTAINER_OF(r, struct io_sock, ready_rx);
    struct end *e = s->end;

    if (e->reset) {
        sock_end(s, e->established ? ERR_CLOSED : ERR_UNREACHABLE);
        return;
    }
    if (e->rx.n > 0 && !s->paused) {
        size_t n = e->rx.n < RECV_MAX ? e->rx.n : RECV_MAX;
        uint8_t *piece;
        if (sim_chance(0.1))
            n = 1 + (size_t)sim_below(n);
        /* Exactly sized, so that a read past its end is seen by the address sanitizer. */
        piece = mem_dup(e->rx.p, n);
        buf_consume(&e->rx, n);
        acknowledge(e, n);
        s->ops->on_data(s->arg, slice_of(piece, n));
        free(piece);
        if (!s->closed && !s->detached)
            wake_receiver(e);
        return;
    }
    if (e->fin && e->rx.n == 0)
        sock_end(s, ERR_CLOSED);
}

static void sock_sent(struct sim_ready *r)
{
    struct io_sock *s = CONTAINER_OF(r, struct io_sock, ready_sent);

    s->sending = false;
    if (s->ops->on_sent)
        s->ops->on_sent(s->arg);
}

static void sock_connected(struct sim_ready *r)
{
    struct io_sock *s = CONTAINER_OF(r, struct io_sock, ready_connected);

    if (s->ops->on_connected)
        s->ops->on_connected(s->arg);
}

static void sock_detach_run(struct sim_ready *r);

static struct io_sock *sock_create(struct io *io, struct end *e, const struct io_sock_ops *ops,
                                   void *arg)
{
    struct io_sock *s = mem_zalloc(sizeof *s);

    s->io = io;
    s->end = e;
    s->ops = ops;
    s->arg = arg;
    s->ready_rx.fn = sock_rx;
    s->ready_sent.fn = sock_sent;
    s->ready_connected.fn = sock_connected;
    s->ready_detach.fn = sock_detach_run;
    list_init(&s->ready_rx.link);
    list_init(&s->ready_sent.link);
    list_init(&s->ready_connected.link);
    list_init(&s->ready_detach.link);
    e->sock = s;
    return s;
}

enum err io_sock_adopt(struct io *io, int handle, const struct io_sock_ops *ops, void *arg,
                       struct io_sock **out)
{
    struct end *e = map_remove(&sim_world.handles, (uint64_t)handle);

    if (!e)
        return ERR_CLOSED;
    e->handle = 0;
    *out = sock_create(io, e, ops, arg);
    wake_receiver(e);
    return ERR_OK;
}

struct io_sock *io_sock_connect(struct io *io, const struct io_addr *to,
                                const struct io_sock_ops *ops, void *arg)
{
    unsigned from = sim_io_host(io)->number, target = to->ip[15];
    struct conn *c;
    struct io_sock *s;

    if (target >= SIM_HOSTS || !sim_world.host[target])
        target = from; /* no such host: its port is closed, so refused */
    c = conn_create(from, target);
    c->to = *to;
    s = sock_create(io, &c->end[0], ops, arg);
    put_chunk(&c->end[0], CHUNK_SYN, slice_of(NULL, 0));
    return s;
}

void io_sock_send(struct io_sock *s, struct slice data)
{
    CHECK(!s->sending);
    CHECK(!s->closed);
    s->tx = data;
    s->tx_done = 0;
    s->sending = true;
    if (!s->ended)
        pump(s->end);
}

bool io_sock_sending(const struct io_sock *s)
{
    return s->sending;
}

void io_sock_pause(struct io_sock *s)
{
    s->paused = true;
}

void io_sock_resume(struct io_sock *s)
{
    s->paused = false;
    wake_receiver(s->end);
}

static void sock_free(struct io_sock *s)
{
    list_remove(&s->ready_rx.link);
    list_remove(&s->ready_sent.link);
    list_remove(&s->ready_connected.link);
    list_remove(&s->ready_detach.link);
    s->closed = true;
    list_init(&s->grave.link);
    sim_bury(&s->grave);
}

void io_sock_close_with(struct io_sock *s, void *owned)
{
    CHECK(!s->closed);
    free(owned);
    if (!s->detached)
        end_close(s->end);
    sock_free(s);
}

static void sock_detach_run(struct sim_ready *r)
{
    struct io_sock *s = CONTAINER_OF(r, struct io_sock, ready_detach);
    struct end *e = s->end;
    void (*done)(void *arg, int handle) = s->detached;
    void *arg = s->arg;
    int handle = -1;

    if (e->rx.n > 0 && !e->reset) {
        struct buf rx = e->rx;
        e->rx = (struct buf){0};
        acknowledge(e, rx.n);
        s->ops->on_data(arg, buf_slice(&rx));
        buf_close(&rx);
    }
    if (e->reset || e->fin) {
        end_close(e);
    } else {
        handle = sim_world.next_handle++;
        e->handle = handle;
        e->sock = NULL;
        map_set(&sim_world.handles, (uint64_t)handle, e);
    }
    sock_free(s);
    done(arg, handle);
}

void io_sock_detach(struct io_sock *s, void (*done)(void *arg, int handle))
{
    CHECK(!s->sending);
    CHECK(!s->closed && !s->detached);
    s->detached = done;
    list_remove(&s->ready_rx.link);
    sim_io_ready(s->io, &s->ready_detach);
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
