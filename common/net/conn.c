/* Splitting the stream. A message that lies whole within the received bytes is passed on where it
 * is. One that does not is gathered in `in`, with as few bytes of its successors as possible: once
 * it is complete, the bytes behind it are read where they were received, so that a long pipelined
 * stream is copied only at the seams.
 *
 * Two kinds of stop, both leaving messages in `in`: the owner's (conn_pause) and choking on unsent
 * output. The socket itself is paused only when `in` has grown: a short stop costs no system call.
 *
 * Nothing is called back from inside a call of the owner's: what is to be done goes on the set's
 * list and is done from a timer that is due at once. */
#include "common/net/conn_internal.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/base/mem.h"

#define GATHER_STEP (4 * KIB)       /* least bytes added to a partial message at a time */
#define STOPPED_IN (256 * KIB)      /* received but not delivered: then the socket is paused */
#define BUFFER_KEEP (1 * MIB)       /* larger buffers are given back once empty, */
#define BUFFERS_KEEP (64 * MIB)     /* or smaller ones if there are many connections */
#define PARTIAL_PROGRESS (64 * KIB) /* in LIMIT_CONN_PARTIAL_NS: slow, but not stuck */
#define CLOSE_NS (1 * NS_PER_S)

size_t conn_unsent(const struct conn *c)
{
    return c->out.n + c->sending.n;
}

static bool stopped(const struct conn *c)
{
    return c->paused || c->choked || c->closing || c->ending || c->detached != NULL;
}

static void schedule(struct conn *c)
{
    struct conn_set *cs = c->set;
    list_remove(&c->todo);
    list_push_back(&cs->todo, &c->todo);
    if (!io_timer_armed(&cs->timer))
        io_timer_set(cs->io, &cs->timer, io_now(cs->io));
}

static void mark_dirty(struct conn *c)
{
    if (!c->ending && list_empty(&c->dirty))
        list_push_back(&c->set->dirty, &c->dirty);
}

static void drop_if_large(const struct conn *c, struct buf *b)
{
    size_t keep = BUFFERS_KEEP / c->set->count;
    buf_clear(b);
    if (b->cap > (keep < BUFFER_KEEP ? keep : BUFFER_KEEP))
        buf_close(b);
}

/* ---- the end ---- */

void conn_release(struct conn *c)
{
    struct io *io = c->set->io;
    list_remove(&c->link);
    list_remove(&c->dirty);
    list_remove(&c->todo);
    io_timer_cancel(io, &c->partial);
    io_timer_cancel(io, &c->linger);
    if (c->sock != NULL) {
        /* The kernel may not have let go of these bytes yet. */
        io_sock_close_with(c->sock, c->sending.p);
        c->sending = (struct buf){0};
    }
    c->set->held -= c->counted;
    c->counted = 0;
    c->set->count--;
}

void conn_free(struct conn *c)
{
    buf_close(&c->in);
    buf_close(&c->out);
    buf_close(&c->sending);
    free(c);
}

void conn_finish(struct conn *c)
{
    c->ending = true;
    conn_release(c);
    c->ops->on_end(c->arg, c->why);
    conn_free(c);
}

void conn_end_later(struct conn *c, enum err why)
{
    if (c->ending)
        return;
    c->ending = true;
    c->why = why;
    schedule(c);
}

static void close_with(struct conn *c, enum err why)
{
    if (c->closing || c->ending)
        return;
    CHECK(c->detached == NULL);
    c->closing = true;
    c->why = why;
    /* The rest is read and thrown away: a socket closed with unread bytes resets the connection,
     * which may take the last words with it. */
    if (c->sock_paused)
        io_sock_resume(c->sock);
    c->sock_paused = false;
    if (conn_unsent(c) == 0)
        conn_end_later(c, why);
    else
        io_timer_set(c->set->io, &c->linger, io_now(c->set->io) + CLOSE_NS);
}

static void on_linger(struct io_timer *t)
{
    struct conn *c = CONTAINER_OF(t, struct conn, linger);
    conn_end_later(c, c->why);
}

void conn_close(struct conn *c)
{
    close_with(c, ERR_CLOSED);
}

void conn_abort(struct conn *c)
{
    CHECK(c->detached == NULL);
    conn_end_later(c, ERR_CLOSED);
}

/* ---- input ---- */

static void malformed(struct conn *c, enum err why)
{
    if (c->ops->on_malformed != NULL)
        c->ops->on_malformed(c->arg, why);
    close_with(c, why);
}

static void choke_if_full(struct conn *c)
{
    if (conn_unsent(c) > conn_out_limit(c))
        c->choked = true;
}

/* Passes on the whole messages at the start of `data`; gives the number of bytes used. */
static size_t deliver(struct conn *c, struct slice data)
{
    size_t at = 0;
    c->need = 0;
    while (at < data.n && !stopped(c)) {
        struct slice rest = slice_of(data.p + at, data.n - at);
        size_t n = 0;
        enum err e = c->ops->split(c->arg, rest, &n);
        if (e == ERR_INCOMPLETE) {
            c->need = n;
            break;
        }
        if (e != ERR_OK) {
            malformed(c, e);
            break;
        }
        CHECK(n > 0 && n <= rest.n);
        c->partial_since = 0;
        at += n;
        c->ops->on_message(c->arg, slice_of(rest.p, n));
        choke_if_full(c);
    }
    return at;
}

/* Adds `data` to the partial message in `in` until that is whole; gives what is left of `data`, to
 * be read where it is. */
static struct slice gather(struct conn *c, struct slice data)
{
    while (c->in.n > 0 && data.n > 0 && !stopped(c)) {
        size_t old = c->in.n;
        size_t step = c->need > old ? c->need - old : 1;
        step = step > GATHER_STEP ? step : GATHER_STEP;
        step = step < data.n ? step : data.n;
        buf_append(&c->in, data.p, step);
        size_t used = c->in.n < c->need ? 0 : deliver(c, buf_slice(&c->in));
        if (used >= old) { /* what is left in `in` is the start of `data` */
            drop_if_large(c, &c->in);
            step = used - old;
        } else {
            buf_consume(&c->in, used);
        }
        data = slice_of(data.p + step, data.n - step);
    }
    return data;
}

/* Watches over a message that stays incomplete. The timer is left alone while it runs. */
static void watch_partial(struct conn *c)
{
    struct io *io = c->set->io;
    if (c->in.n == 0 || stopped(c)) {
        c->partial_since = 0;
        return;
    }
    if (c->partial_since == 0) {
        c->partial_since = io_now(io);
        c->partial_bytes = 0;
    }
    if (!io_timer_armed(&c->partial))
        io_timer_set(io, &c->partial, c->partial_since + LIMIT_CONN_PARTIAL_NS);
}

static void on_partial(struct io_timer *t)
{
    struct conn *c = CONTAINER_OF(t, struct conn, partial);
    struct io *io = c->set->io;
    if (c->partial_since == 0 || c->ending)
        return;
    if (io_now(io) - c->partial_since >= LIMIT_CONN_PARTIAL_NS) {
        if (c->partial_bytes < PARTIAL_PROGRESS) {
            conn_end_later(c, ERR_TIMEOUT);
            return;
        }
        c->partial_since = io_now(io);
        c->partial_bytes = 0;
    }
    io_timer_set(io, t, c->partial_since + LIMIT_CONN_PARTIAL_NS);
}

static void take(struct conn *c, struct slice data)
{
    c->partial_bytes += data.n;
    data = gather(c, data);
    if (c->in.n == 0 && !stopped(c)) {
        size_t used = deliver(c, data);
        data = slice_of(data.p + used, data.n - used);
    }
    if (c->closing || c->ending) {
        drop_if_large(c, &c->in);
        conn_count(c);
        return;
    }
    buf_append(&c->in, data.p, data.n);
    conn_count(c);
    watch_partial(c);
    if (stopped(c) && c->detached == NULL && c->in.n > STOPPED_IN && !c->sock_paused) {
        c->sock_paused = true;
        io_sock_pause(c->sock);
    }
}

/* Goes on after a stop: first with what is in `in`. */
void conn_go_on(struct conn *c)
{
    if (stopped(c))
        return;
    size_t used = deliver(c, buf_slice(&c->in));
    buf_consume(&c->in, used);
    if (c->in.n == 0 || c->closing || c->ending)
        drop_if_large(c, &c->in);
    conn_count(c);
    watch_partial(c);
    if (!stopped(c) && c->sock_paused) {
        c->sock_paused = false;
        io_sock_resume(c->sock);
    }
}

void conn_feed(struct conn *c, struct slice data)
{
    buf_append(&c->in, data.p, data.n);
    schedule(c);
}

void conn_pause(struct conn *c)
{
    c->paused = true;
}

void conn_resume(struct conn *c)
{
    if (!c->paused)
        return;
    c->paused = false;
    if (!c->ending && c->detached == NULL)
        schedule(c);
}

/* ---- output ---- */

struct buf *conn_out(struct conn *c)
{
    mark_dirty(c);
    return &c->out;
}

static void unchoke_if_drained(struct conn *c)
{
    if (c->choked && conn_unsent(c) <= conn_out_limit(c) / 2) {
        c->choked = false;
        schedule(c);
    }
}

void conn_flush(struct conn *c)
{
    conn_count(c);
    choke_if_full(c);
    if (!c->connected || c->ending || c->out.n == 0 || io_sock_sending(c->sock))
        return;
    CHECK(c->detached == NULL && c->sending.n == 0);
    struct buf b = c->sending;
    c->sending = c->out;
    c->out = b;
    c->send_since = io_now(c->set->io);
    io_sock_send(c->sock, buf_slice(&c->sending));
}

/* ---- callbacks of the socket ---- */

static void on_sock_data(void *arg, struct slice data)
{
    struct conn *c = arg;
    if (!c->ending && !c->closing)
        take(c, data);
}

static void on_sock_end(void *arg, enum err why)
{
    struct conn *c = arg;
    if (!c->ending && !c->closing)
        c->why = why;
    conn_finish(c);
}

static void on_sock_sent(void *arg)
{
    struct conn *c = arg;
    drop_if_large(c, &c->sending);
    conn_count(c);
    if (c->out.n > 0)
        mark_dirty(c);
    else if (c->closing)
        conn_end_later(c, c->why);
    unchoke_if_drained(c);
}

static void on_sock_connected(void *arg)
{
    struct conn *c = arg;
    c->connected = true;
    if (c->ending)
        return;
    if (c->out.n > 0)
        mark_dirty(c);
    if (c->ops->on_connected != NULL && !c->closing)
        c->ops->on_connected(c->arg);
}

static const struct io_sock_ops sock_ops = {
    .on_data = on_sock_data,
    .on_end = on_sock_end,
    .on_sent = on_sock_sent,
    .on_connected = on_sock_connected,
};

/* ---- coming and going ---- */

static struct conn *conn_new(struct conn_set *cs, const struct conn_ops *ops, void *arg)
{
    struct conn *c = mem_zalloc(sizeof *c);
    c->set = cs;
    c->ops = ops;
    c->arg = arg;
    c->partial.fn = on_partial;
    c->linger.fn = on_linger;
    list_init(&c->dirty);
    list_init(&c->todo);
    list_push_back(&cs->all, &c->link);
    cs->count++;
    return c;
}

enum err conn_adopt(struct conn_set *cs, int handle, const struct conn_ops *ops, void *arg,
                    struct conn **out)
{
    struct conn *c = conn_new(cs, ops, arg);
    enum err e = io_sock_adopt(cs->io, handle, &sock_ops, c, &c->sock);
    if (e != ERR_OK) {
        c->sock = NULL;
        conn_release(c);
        conn_free(c);
        return e;
    }
    c->connected = true;
    *out = c;
    return ERR_OK;
}

struct conn *conn_connect(struct conn_set *cs, const struct io_addr *to, const struct conn_ops *ops,
                          void *arg)
{
    struct conn *c = conn_new(cs, ops, arg);
    c->sock = io_sock_connect(cs->io, to, &sock_ops, c);
    return c;
}

static void on_sock_detached(void *arg, int handle)
{
    struct conn *c = arg;
    c->sock = NULL; /* gone with this call */
    conn_release(c);
    c->detached(c->detached_arg, handle, buf_slice(&c->in));
    conn_free(c);
}

void conn_detach(struct conn *c, void (*done)(void *arg, int handle, struct slice rest), void *arg)
{
    CHECK(conn_unsent(c) == 0);
    CHECK(c->connected && !c->closing && !c->ending && c->detached == NULL);
    c->detached = done;
    c->detached_arg = arg;
    list_remove(&c->todo);
    io_sock_detach(c->sock, on_sock_detached);
}

void *conn_arg(const struct conn *c)
{
    return c->arg;
}

void conn_set_ops(struct conn *c, const struct conn_ops *ops, void *arg)
{
    c->ops = ops;
    c->arg = arg;
}
