/* Sockets: receiving, sending, connecting, handing over, closing.
 *
 * Lifetime. An io_sock has up to three requests with the kernel (receive, send, connect). Closing
 * cancels them and frees it after the last one's completion; nothing is freed under a callback that
 * may still be on the stack: the dead wait in the graveyard until the turn's end. */
#include "common/io/uring_impl.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/check.h"

#define SEND_MAX (1u << 30) /* of one request */
#define KEEPALIVE_IDLE_S 30 /* a peer that lost its power is noticed in about a minute */
#define KEEPALIVE_INTERVAL_S 10
#define UNACKED_MS 20000u /* connected sockets: sent, but not acknowledged for so long */

struct io_sock {
    struct list link; /* in io->socks, later in io->graveyard */
    struct list deferred;
    struct io *io;
    int fd;
    const struct io_sock_ops *ops;
    void *arg;
    struct uring_req recv, send, connect;
    bool receiving, sending, connecting; /* requests with the kernel */
    bool recv_cancelled;
    bool connected;
    bool paused;
    bool ended;    /* on_end is called or will be once the kernel has let go of the send */
    bool reported; /* on_end is called */
    bool closed;
    void (*detached)(void *arg, int handle); /* set: handing over */
    enum err why;
    struct slice out; /* what is still to be sent */
    uint8_t *private; /* URING_RECV_PRIVATE: its receive buffer */
    void *owned;      /* freed with the io_sock */
    union uring_sockaddr to;
};

enum err uring_net_error(int error)
{
    switch (error) {
    case ECONNRESET:
    case EPIPE:
    case ECONNABORTED:
    case ESHUTDOWN:
        return ERR_CLOSED;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
    case ETIMEDOUT:
    case EADDRNOTAVAIL:
        return ERR_UNREACHABLE;
    case EADDRINUSE:
        return ERR_ADDRESS_IN_USE;
    default:
        return err_from_errno(error);
    }
}

socklen_t uring_sockaddr_of(const struct io_addr *a, union uring_sockaddr *out)
{
    static const uint8_t v4_prefix[12] = {[10] = 0xff, [11] = 0xff};
    memset(out, 0, sizeof *out);
    if (memcmp(a->ip, v4_prefix, sizeof v4_prefix) == 0) { /* also where there is no IPv6 */
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(a->port);
        memcpy(&out->v4.sin_addr, a->ip + 12, 4);
        return sizeof out->v4;
    }
    out->v6.sin6_family = AF_INET6;
    out->v6.sin6_port = htons(a->port);
    memcpy(&out->v6.sin6_addr, a->ip, 16);
    return sizeof out->v6;
}

void uring_addr_from(const union uring_sockaddr *a, struct io_addr *out)
{
    memset(out, 0, sizeof *out);
    if (a->any.sa_family == AF_INET) {
        out->ip[10] = out->ip[11] = 0xff;
        memcpy(out->ip + 12, &a->v4.sin_addr, 4);
        out->port = ntohs(a->v4.sin_port);
    } else if (a->any.sa_family == AF_INET6) {
        memcpy(out->ip, &a->v6.sin6_addr, 16);
        out->port = ntohs(a->v6.sin6_port);
    }
}

/* ---- the end ---- */

static void bury_if_idle(struct io_sock *s)
{
    CHECK(s->closed);
    if (s->receiving || s->sending || s->connecting)
        return;
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    list_remove(&s->deferred);
    list_remove(&s->link);
    list_push_back(&s->io->graveyard, &s->link);
}

static void sock_free(struct io_sock *s)
{
    list_remove(&s->link);
    free(s->private);
    free(s->owned);
    free(s);
}

void uring_socks_bury(struct io *io)
{
    struct list *item;
    while ((item = list_first(&io->graveyard)) != NULL)
        sock_free(CONTAINER_OF(item, struct io_sock, link));
}

void uring_socks_destroy(struct io *io)
{
    struct list *item;
    uring_socks_bury(io);
    while ((item = list_first(&io->socks)) != NULL) {
        struct io_sock *s = CONTAINER_OF(item, struct io_sock, link);
        CHECK(s->closed);
        if (s->fd >= 0)
            close(s->fd);
        sock_free(s);
    }
}

static void cancel_receive(struct io_sock *s)
{
    if (s->receiving && !s->recv_cancelled) {
        s->recv_cancelled = true;
        uring_cancel(s->io, &s->recv);
    }
}

static void cancel_all(struct io_sock *s)
{
    cancel_receive(s);
    if (s->sending)
        uring_cancel(s->io, &s->send);
    if (s->connecting)
        uring_cancel(s->io, &s->connect);
}

/* The bytes being sent are the owner's again after on_end: so it waits for the send's completion.
 */
static void report_end(struct io_sock *s)
{
    if (!s->ended || s->reported || s->closed || s->sending)
        return;
    s->reported = true;
    s->ops->on_end(s->arg, s->why);
}

static void sock_end(struct io_sock *s, enum err why)
{
    if (s->ended || s->closed)
        return;
    s->ended = true;
    s->why = why;
    cancel_all(s);
    report_end(s);
}

/* Later, from the loop: what a function here finds out at once must not be called back at once. */
static void defer(struct io_sock *s)
{
    list_remove(&s->deferred);
    list_push_back(&s->io->deferred, &s->deferred);
    s->io->again = true;
}

static void finish_detach(struct io_sock *s)
{
    void (*done)(void *arg, int handle) = s->detached;
    int handle = s->ended ? -1 : s->fd;
    if (!s->ended)
        s->fd = -1;
    s->closed = true;
    bury_if_idle(s);
    done(s->arg, handle);
}

void uring_socks_deferred(struct io *io)
{
    struct list now, *item;
    list_init(&now);
    list_splice(&now, &io->deferred);
    while ((item = list_pop_front(&now)) != NULL) {
        struct io_sock *s = CONTAINER_OF(item, struct io_sock, deferred);
        if (s->detached != NULL)
            finish_detach(s);
        else
            report_end(s);
    }
}

/* ---- receiving ---- */

static void arm_receive(struct io_sock *s)
{
    struct io *io = s->io;
    if (s->receiving || s->paused || s->ended || s->closed || !s->connected || s->detached != NULL)
        return;
    struct io_uring_sqe *sqe = uring_sqe(io);
    if (io->can.recv == URING_RECV_PRIVATE) {
        if (s->private == NULL)
            s->private = mem_alloc(URING_BUFFER_SIZE);
        io_uring_prep_recv(sqe, s->fd, s->private, URING_BUFFER_SIZE, 0);
    } else {
        /* A multishot receive takes no length. A single one needs it before 6.0, where length 0 is
         * not the buffer's but nothing, and reads as the end of the stream. */
        bool multi = io->can.recv == URING_RECV_MULTISHOT;
        io_uring_prep_recv(sqe, s->fd, NULL, multi ? 0 : URING_BUFFER_SIZE, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = URING_BUFFER_GROUP;
        if (multi)
            sqe->ioprio |= IORING_RECV_MULTISHOT;
    }
    s->receiving = true;
    s->recv_cancelled = false;
    uring_track(io, sqe, &s->recv);
}

/* The receive request is over; s is alive, not closed. */
static void receive_over(struct io_sock *s, int res)
{
    struct io *io = s->io;
    bool go_on = res > 0 || res == -ENOBUFS || res == -ECANCELED || res == -EINTR || res == -EAGAIN;
    if (res == -EINVAL && io->can.recv == URING_RECV_MULTISHOT) {
        io->can.recv = URING_RECV_SINGLE; /* the probe was too hopeful */
        go_on = true;
    }
    if (s->detached != NULL) {
        s->ended = !go_on;
        finish_detach(s);
    } else if (go_on) {
        /* ENOBUFS: all buffers are full; they are free again before this goes to the kernel. */
        arm_receive(s);
    } else {
        sock_end(s, res == 0 ? ERR_CLOSED : uring_net_error(-res));
    }
}

static void on_receive(struct uring_req *r, int res, unsigned flags)
{
    struct io_sock *s = CONTAINER_OF(r, struct io_sock, recv);
    struct io *io = s->io;
    bool lent = (flags & IORING_CQE_F_BUFFER) != 0;
    unsigned id = flags >> IORING_CQE_BUFFER_SHIFT;
    if (res > 0 && !s->closed && !s->ended)
        s->ops->on_data(s->arg, slice_of(lent ? uring_buffer(io, id) : s->private, (size_t)res));
    if (lent)
        uring_buffer_return(io, id);
    if (flags & IORING_CQE_F_MORE)
        return;
    s->receiving = false;
    if (s->closed)
        bury_if_idle(s);
    else
        receive_over(s, res);
}

void io_sock_pause(struct io_sock *s)
{
    s->paused = true;
    cancel_receive(s);
}

void io_sock_resume(struct io_sock *s)
{
    s->paused = false;
    arm_receive(s); /* if the cancelled one is not over yet, its end does this */
}

/* ---- sending ---- */

static void send_more(struct io_sock *s)
{
    struct io_uring_sqe *sqe = uring_sqe(s->io);
    size_t n = s->out.n < SEND_MAX ? s->out.n : SEND_MAX;
    /* MSG_WAITALL: newer kernels go on with a partial send by themselves. */
    io_uring_prep_send(sqe, s->fd, s->out.p, n, MSG_NOSIGNAL | MSG_WAITALL);
    s->sending = true;
    uring_track(s->io, sqe, &s->send);
}

static void on_send(struct uring_req *r, int res, unsigned flags)
{
    struct io_sock *s = CONTAINER_OF(r, struct io_sock, send);
    (void)flags;
    s->sending = false;
    if (s->closed) {
        bury_if_idle(s);
        return;
    }
    if (s->ended) {
        report_end(s);
        return;
    }
    if (res < 0 && res != -EINTR && res != -EAGAIN) {
        sock_end(s, uring_net_error(-res));
        return;
    }
    if (res > 0)
        s->out = slice_of(s->out.p + res, s->out.n - (size_t)res);
    if (s->out.n > 0)
        send_more(s);
    else
        s->ops->on_sent(s->arg);
}

void io_sock_send(struct io_sock *s, struct slice data)
{
    CHECK(!s->sending);
    CHECK(!s->closed && s->detached == NULL);
    CHECK(s->connected && data.n > 0);
    if (s->ended)
        return; /* on_end has been or will be called: nothing more will */
    s->out = data;
    send_more(s);
}

bool io_sock_sending(const struct io_sock *s)
{
    return s->sending;
}

/* ---- beginning and end ---- */

static struct io_sock *sock_new(struct io *io, int fd, const struct io_sock_ops *ops, void *arg);

static void on_connect(struct uring_req *r, int res, unsigned flags)
{
    struct io_sock *s = CONTAINER_OF(r, struct io_sock, connect);
    (void)flags;
    s->connecting = false;
    if (s->closed) {
        bury_if_idle(s);
    } else if (res < 0) {
        sock_end(s, uring_net_error(-res));
    } else {
        s->connected = true;
        arm_receive(s);
        s->ops->on_connected(s->arg);
    }
}

static struct io_sock *sock_new(struct io *io, int fd, const struct io_sock_ops *ops, void *arg)
{
    struct io_sock *s = mem_zalloc(sizeof *s);
    s->io = io;
    s->fd = fd;
    s->ops = ops;
    s->arg = arg;
    s->recv.fn = on_receive;
    s->send.fn = on_send;
    s->connect.fn = on_connect;
    list_init(&s->deferred);
    list_push_back(&io->socks, &s->link);
    return s;
}

static void set_option(int fd, int level, int name, int value)
{
    /* Hints: a socket that does not know one (another family) works without. */
    (void)setsockopt(fd, level, name, &value, sizeof value);
}

static void set_options(int fd)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
}

enum err io_sock_adopt(struct io *io, int handle, const struct io_sock_ops *ops, void *arg,
                       struct io_sock **out)
{
    CHECK(handle >= 0);
    set_options(handle);
    struct io_sock *s = sock_new(io, handle, ops, arg);
    s->connected = true;
    arm_receive(s);
    *out = s;
    return ERR_OK;
}

struct io_sock *io_sock_connect(struct io *io, const struct io_addr *to,
                                const struct io_sock_ops *ops, void *arg)
{
    struct io_sock *s = sock_new(io, -1, ops, arg);
    socklen_t n = uring_sockaddr_of(to, &s->to);
    /* Blocking on purpose: a request on an O_NONBLOCK fd ends in EAGAIN instead of waiting. */
    s->fd = socket(s->to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0) {
        s->ended = true;
        s->why = uring_net_error(errno);
        defer(s);
        return s;
    }
    set_options(s->fd);
    /* Not for accepted ones: it would also end a client that reads slowly. */
    set_option(s->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)UNACKED_MS);
    struct io_uring_sqe *sqe = uring_sqe(io);
    io_uring_prep_connect(sqe, s->fd, &s->to.any, n);
    s->connecting = true;
    uring_track(io, sqe, &s->connect);
    return s;
}

void io_sock_close_with(struct io_sock *s, void *owned)
{
    CHECK(!s->closed);
    s->closed = true;
    s->owned = owned;
    cancel_all(s);
    bury_if_idle(s);
}

void io_sock_detach(struct io_sock *s, void (*done)(void *arg, int handle))
{
    CHECK(!s->closed && !s->sending && s->detached == NULL);
    s->detached = done;
    if (s->receiving)
        cancel_receive(s);
    else if (!s->connecting)
        defer(s);
    else
        CHECK(!"io_sock_detach() of a socket that is not connected yet");
}
