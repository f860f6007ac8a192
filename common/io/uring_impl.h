/* Inside of the io_uring implementation of io.h: what its files share.
 *
 * Every request to the kernel carries a pointer to a struct uring_req, which lives in the object it
 * is for (socket, listener, op); that object is freed only after the request's last completion.
 * Requests without one (cancellations) carry NULL and their completions are ignored.
 *
 * uring_loop.c    create, destroy, the turn, clock and timers
 * uring_probe.c   what this kernel can do, and messages for those that forbid it
 * uring_buffers.c the ring of receive buffers lent to the kernel
 * uring_listen.c, uring_sock.c, uring_file.c, uring_mail.c, uring_offload.c: the parts of io.h
 *
 * Owner: struct io.  Thread: the loop's, but for struct uring_inbox.  Depends on: liburing. */
#ifndef IO_URING_IMPL_H
#define IO_URING_IMPL_H

#include <liburing.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/io/io.h"
#include "common/io/timer_heap.h"

#define URING_SQ_DEFAULT 2048u
#define URING_CQ_ENTRIES                                                                           \
    16384u                 /* a turn's completions; more overflow to kernel memory, none is lost */
#define URING_BUFFERS 256u /* receive buffers of a core */
#define URING_BUFFER_SIZE (16u * 1024u)
#define URING_BUFFER_GROUP 1
#define URING_OFFLOAD_DEFAULT 2u

struct uring_req {
    void (*fn)(struct uring_req *r, int res, unsigned flags);
};

/* How bytes are received, best first; a kernel gets the best it can. */
enum uring_recv_mode {
    URING_RECV_MULTISHOT, /* 6.0: one request goes on for ever, buffers from the ring */
    URING_RECV_SINGLE,    /* 5.19: one request a read, buffers from the ring */
    URING_RECV_PRIVATE,   /* 5.15: one request a read into a buffer of the socket's own */
};

struct uring_features {
    enum uring_recv_mode recv;
    bool multishot_accept; /* 5.19 */
    bool cqe_skip;         /* 5.17 */
};

/* For tests: lets the loops created from now on behave as on an older kernel. */
enum { URING_WITHOUT_MULTISHOT = 1, URING_WITHOUT_BUFFERS = 2, URING_WITHOUT_DEFER = 4 };
extern unsigned uring_without;

struct uring_buffers {
    struct io_uring_buf_ring *ring;
    uint8_t *memory;
};

/* What other threads leave for the loop. */
struct uring_inbox {
    pthread_mutex_t lock;
    struct list mail, done; /* under lock */
    atomic_bool stop;
    atomic_bool sleeping; /* the loop waits, or is about to: whoever clears it wakes it */
    int wake_fd;          /* eventfd */
};

struct uring_pool {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct list queue[IO_WORK_LONG + 1]; /* by class; under lock */
    bool in_long;                        /* a long work runs; under lock */
    bool stop;                           /* under lock */
    pthread_t *threads;                  /* the last one for urgent work alone */
    unsigned n;
};

struct io {
    struct io_uring ring;
    struct uring_features can;
    struct io_options options;
    bool enabled; /* the ring belongs to the thread that did that */
    bool again;
    uint64_t now;
    struct rng rng;
    struct timer_heap timers;
    void (*hook)(void *arg);
    void *hook_arg;
    void *mail_arg;
    unsigned in_flight; /* requests whose last completion is to come */
    struct list socks, listeners;
    struct list deferred;  /* socks with something to report that no completion will */
    struct list graveyard; /* socks to be freed at the turn's end */
    struct uring_buffers buffers;
    struct uring_inbox inbox;
    struct uring_req wake;
    bool wake_armed;
    struct uring_pool pool;
};

/* uring_probe.c */
MUST_USE enum err uring_open(struct io *io, char *msg, size_t n);
/* What a failed set-up means and what to do about it. */
void uring_explain(int error, char *msg, size_t n);

/* uring_loop.c: room for `n` entries that must go in together; then the entries themselves. */
void uring_reserve(struct io *io, unsigned n);
struct io_uring_sqe *uring_sqe(struct io *io);
/* Call after io_uring_prep_*(): `r` gets the completions. */
void uring_track(struct io *io, struct io_uring_sqe *sqe, struct uring_req *r);
/* A prepared request whose success is silent or whose completion goes to no one. */
void uring_untracked(struct io_uring_sqe *sqe, struct uring_req *r);
void uring_cancel(struct io *io, struct uring_req *r);

/* uring_buffers.c */
MUST_USE bool uring_buffers_create(struct io *io); /* false: this kernel has none */
void uring_buffers_destroy(struct io *io);
uint8_t *uring_buffer(struct io *io, unsigned id);
void uring_buffer_return(struct io *io, unsigned id);

/* uring_sock.c */
void uring_socks_deferred(struct io *io); /* reports what was put off */
void uring_socks_bury(struct io *io);     /* frees the graveyard */
void uring_socks_destroy(struct io *io);
union uring_sockaddr {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};
socklen_t uring_sockaddr_of(const struct io_addr *a, union uring_sockaddr *out);
void uring_addr_from(const union uring_sockaddr *a, struct io_addr *out);
enum err uring_net_error(int error);

/* uring_listen.c */
void uring_listeners_destroy(struct io *io);

/* uring_mail.c */
void uring_inbox_init(struct io *io);
void uring_inbox_close(struct io *io);
void uring_inbox_arm(struct io *io);
/* Says that the loop is about to wait. False: there is something already, do not. */
bool uring_inbox_sleep(struct io *io);
void uring_inbox_awake(struct io *io);
void uring_inbox_done(struct io *io); /* finished offload work */
void uring_inbox_mail(struct io *io);
void uring_inbox_put_done(struct io *io, struct io_work *w); /* any thread */

/* uring_offload.c */
MUST_USE enum err uring_pool_start(struct io *io);
void uring_pool_stop(struct io *io);

#endif
