/* Listening sockets. */
#include "common/io/uring_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/limits.h"

#define BACKLOG 1024
#define RETRY_NS (100 * NS_PER_MS) /* after a refused accept: out of file handles or memory */

struct io_listener {
    struct list link; /* in io->listeners */
    struct io *io;
    int fd;
    struct uring_req accept;
    bool accepting; /* the request is with the kernel */
    bool closed;
    struct io_timer retry;
    io_accept_fn fn;
    void *arg;
};

static void arm(struct io_listener *l)
{
    struct io_uring_sqe *sqe = uring_sqe(l->io);
    if (l->io->can.multishot_accept)
        io_uring_prep_multishot_accept(sqe, l->fd, NULL, NULL, SOCK_CLOEXEC);
    else
        io_uring_prep_accept(sqe, l->fd, NULL, NULL, SOCK_CLOEXEC);
    uring_track(l->io, sqe, &l->accept);
    l->accepting = true;
}

static void on_retry(struct io_timer *t)
{
    arm(CONTAINER_OF(t, struct io_listener, retry));
}

static void listener_free(struct io_listener *l)
{
    io_timer_cancel(l->io, &l->retry);
    list_remove(&l->link);
    close(l->fd);
    free(l);
}

static void accepted(struct io_listener *l, int handle)
{
    union uring_sockaddr sa = {0};
    socklen_t n = sizeof sa;
    struct io_addr from;
    /* Asked for here because a multishot accept has one address field for all. */
    if (l->closed || getpeername(handle, &sa.any, &n) != 0) {
        close(handle);
        return;
    }
    uring_addr_from(&sa, &from);
    l->fn(l->arg, handle, &from);
}

static void on_accept(struct uring_req *r, int res, unsigned flags)
{
    struct io_listener *l = CONTAINER_OF(r, struct io_listener, accept);
    if (res >= 0)
        accepted(l, res);
    if (flags & IORING_CQE_F_MORE)
        return;
    l->accepting = false;
    if (l->closed) {
        listener_free(l);
    } else if (res >= 0 || res == -ECONNABORTED || res == -EINTR || res == -EAGAIN) {
        arm(l);
    } else {
        if (res == -EINVAL)
            l->io->can.multishot_accept = false;
        io_timer_set(l->io, &l->retry, l->io->now + RETRY_NS);
    }
}

static enum err open_listening(const struct io_addr *addr, int *out)
{
    union uring_sockaddr sa;
    socklen_t n = uring_sockaddr_of(addr, &sa);
    int one = 1;
    int fd = socket(sa.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return uring_net_error(errno);
    /* REUSEADDR only lets a restart pass over old connections in TIME_WAIT. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, &sa.any, n) != 0 || listen(fd, BACKLOG) != 0) {
        enum err e = uring_net_error(errno);
        close(fd);
        return e;
    }
    *out = fd;
    return ERR_OK;
}

enum err io_listen(struct io *io, const struct io_addr *addr, io_accept_fn fn, void *arg,
                   struct io_listener **out)
{
    int fd = -1;
    enum err e = open_listening(addr, &fd);
    if (e != ERR_OK)
        return e;
    struct io_listener *l = mem_zalloc(sizeof *l);
    l->io = io;
    l->fd = fd;
    l->fn = fn;
    l->arg = arg;
    l->accept.fn = on_accept;
    l->retry.fn = on_retry;
    list_push_back(&io->listeners, &l->link);
    arm(l);
    *out = l;
    return ERR_OK;
}

void io_listener_addr(const struct io_listener *l, struct io_addr *out)
{
    union uring_sockaddr sa = {0};
    socklen_t n = sizeof sa;
    int rc = getsockname(l->fd, &sa.any, &n);
    CHECK(rc == 0);
    uring_addr_from(&sa, out);
}

void io_listener_close(struct io_listener *l)
{
    CHECK(!l->closed);
    l->closed = true;
    if (!l->accepting) {
        listener_free(l);
        return;
    }
    /* The port is free at once, the rest when the kernel has let go of the request. */
    shutdown(l->fd, SHUT_RDWR);
    uring_cancel(l->io, &l->accept);
}

void uring_listeners_destroy(struct io *io)
{
    struct list *item;
    while ((item = list_first(&io->listeners)) != NULL) {
        struct io_listener *l = CONTAINER_OF(item, struct io_listener, link);
        CHECK(l->closed);
        listener_free(l);
    }
}

void io_handle_close(int handle)
{
    close(handle);
}
