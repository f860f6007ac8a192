/* Sockets and listeners of io.h: what a process sees of the streams that sim_net.c moves. Events of
 * a stream wait on the io's ready list for its next turn; data comes in pieces of random size. */
#include "tests/sim/sim_stream.h"

#include <stdlib.h>

#define RECV_MAX (64 * KIB)

struct io_listener {
    struct list link; /* sim_host.listeners */
    struct io *io;
    struct io_addr addr;
    io_accept_fn fn;
    void *arg;
    bool closed;
};

struct accepting {
    struct sim_ready ready;
    struct io_listener *listener;
    int handle;
    struct io_addr from;
};

/* ---- listeners and handles ---- */

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

bool sim_listener_there(unsigned host, uint16_t port)
{
    return find_listener(host, port) != NULL;
}

void sim_listener_accept(unsigned host, uint16_t port, int handle, unsigned from,
                         uint16_t from_port)
{
    struct accepting *a = mem_zalloc(sizeof *a);

    a->ready.fn = accept_run;
    a->listener = find_listener(host, port);
    a->handle = handle;
    a->from = host_addr(from, from_port);
    list_init(&a->ready.link);
    sim_io_ready(a->listener->io, &a->ready);
}

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
        sim_end_close(e);
}

/* ---- sockets ---- */

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
        sim_end_acknowledge(e, n);
        s->ops->on_data(s->arg, slice_of(piece, n));
        free(piece);
        if (!s->closed && !s->detached)
            sim_end_wake(e);
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
    sim_end_wake(e);
    return ERR_OK;
}

struct io_sock *io_sock_connect(struct io *io, const struct io_addr *to,
                                const struct io_sock_ops *ops, void *arg)
{
    return sock_create(io, sim_conn_open(sim_io_host(io)->number, to->ip[15], to), ops, arg);
}

void io_sock_send(struct io_sock *s, struct slice data)
{
    CHECK(!s->sending);
    CHECK(!s->closed);
    s->tx = data;
    s->tx_done = 0;
    s->sending = true;
    if (!s->ended)
        sim_end_pump(s->end);
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
    sim_end_wake(s->end);
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
        sim_end_close(s->end);
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
        sim_end_acknowledge(e, rx.n);
        s->ops->on_data(arg, buf_slice(&rx));
        buf_close(&rx);
    }
    if (e->reset || e->fin) {
        sim_end_close(e);
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
