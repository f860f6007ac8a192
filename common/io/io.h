/* THE seam between our code and the world: clock, random, timers, sockets, file I/O, offload and
 * core-to-core mail. Everything above it is single-threaded, callback-driven and deterministic.
 *
 * Two implementations, chosen at link time: io_uring.c (production) and tests/sim/sim_io.c (the
 * simulator: simulated clock, network and disk; several struct io in one process).
 *
 * A loop runs in turns: gather all completions and run their callbacks, run due timers, deliver
 * mail, then call the turn hook ONCE (the owner flushes there: proposals, WAL, peers, connections),
 * then submit everything with one system call and wait.
 *
 * Rules. No callback is ever called from inside the function that started the operation: always
 * from the loop. Callbacks may call any function here, also close the thing they are called for.
 * Owner: struct core (one io per core thread).  Thread: that thread only, but for io_post() and
 * io_stop(), which any thread may call.  Depends on: base. */
#ifndef IO_IO_H
#define IO_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/list.h"
#include "common/base/slice.h"

struct io;

struct io_options {
    unsigned core;            /* number of this core, for messages */
    unsigned offload_threads; /* threads for blocking work; 0: default (2); one for urgent work is
                                 added */
    unsigned sq_entries;      /* 0: default */
    bool dsync;               /* WAL writes by RWF_DSYNC instead of a linked fdatasync */
};

/* Creates the loop. On failure `msg` says what is missing and what to do (io_uring forbidden by
 * sysctl kernel.io_uring_disabled or a seccomp profile, kernel too old, RLIMIT_MEMLOCK, ...). */
MUST_USE enum err io_create(const struct io_options *options, struct io **out, char *msg, size_t n);
/* All sockets, files, timers and work must be closed or done. */
void io_destroy(struct io *io);

/* Runs turns until io_stop(). */
void io_run(struct io *io);
void io_stop(struct io *io); /* any thread */
/* Called once at the end of every turn, before submission. */
void io_set_turn_hook(struct io *io, void (*hook)(void *arg), void *arg);
/* Asks for one more turn without waiting (the hook has left work for the next). */
void io_again(struct io *io);

/* ---- clock and chance ---- */

/* Monotonic ns (CLOCK_BOOTTIME), read once a turn: constant within a turn, and every turn's is
 * greater than the last one's. */
uint64_t io_now(const struct io *io);
/* The same clock read afresh, for measuring. */
uint64_t io_now_exact(const struct io *io);
/* Wall clock, ms since 1970. May jump. */
uint64_t io_wall_ms(const struct io *io);
uint64_t io_random(struct io *io);

/* ---- timers ---- */

struct io_timer {
    void (*fn)(struct io_timer *t);
    uint64_t at;     /* ns; private */
    size_t heap_pos; /* private; 0: not set */
    uint64_t order;  /* private; equal times fire in the order they were set */
};
/* Zero the struct and set fn first. */
void io_timer_set(struct io *io, struct io_timer *t, uint64_t at_ns); /* re-arms if armed */
void io_timer_cancel(struct io *io, struct io_timer *t);              /* no-op if not armed */
static inline bool io_timer_armed(const struct io_timer *t)
{
    return t->heap_pos != 0;
}

/* ---- sockets (TCP, non-blocking, TCP_NODELAY) ---- */

struct io_addr {
    uint8_t ip[16]; /* IPv6, IPv4 as ::ffff:a.b.c.d */
    uint16_t port;  /* host order */
};
/* "127.0.0.1:7000", "[::1]:7000"; names are not resolved here. */
MUST_USE enum err io_addr_parse(const char *text, struct io_addr *out);
void io_addr_format(const struct io_addr *a, char out[64]);
bool io_addr_is_loopback(const struct io_addr *a);

struct io_listener;
/* `handle` is an accepted socket: io_sock_adopt() it (here or, by io_post, on another core) or
 * io_handle_close() it. Handles are plain integers that any thread may pass on. */
typedef void (*io_accept_fn)(void *arg, int handle, const struct io_addr *from);
/* SO_REUSEPORT is NOT set: a port in use is ERR_ADDRESS_IN_USE. port 0 takes a free one. */
MUST_USE enum err io_listen(struct io *io, const struct io_addr *addr, io_accept_fn fn, void *arg,
                            struct io_listener **out);
void io_listener_addr(const struct io_listener *l, struct io_addr *out); /* with the real port */
void io_listener_close(struct io_listener *l);
void io_handle_close(int handle);

struct io_sock;
struct io_sock_ops {
    /* Bytes arrived; borrowed until return. */
    void (*on_data)(void *arg, struct slice data);
    /* The end, exactly once: the peer closed (ERR_CLOSED) or an error; also a failed connect.
     * Nothing is called after it. The owner still has to call io_sock_close(). Not called after
     * io_sock_close(). */
    void (*on_end)(void *arg, enum err why);
    /* The last io_sock_send() is done, its bytes are the caller's again. */
    void (*on_sent)(void *arg);
    /* Only for io_sock_connect(): established. */
    void (*on_connected)(void *arg);
};
/* Starts receiving at once. Takes the handle. */
MUST_USE enum err io_sock_adopt(struct io *io, int handle, const struct io_sock_ops *ops, void *arg,
                                struct io_sock **out);
/* Never fails at once: a failure comes as on_end. Receiving starts when connected. */
struct io_sock *io_sock_connect(struct io *io, const struct io_addr *to,
                                const struct io_sock_ops *ops, void *arg);
/* Sends all of `data` (partial sends are gone on with inside). One at a time: CHECKs that no other
 * is under way. `data` must stay as it is until on_sent or on_end or io_sock_close(): after
 * io_sock_close() the implementation may still read it until the turn's end, so hand `owned`
 * memory over with io_sock_close_with() if it is to be freed at once. */
void io_sock_send(struct io_sock *s, struct slice data);
bool io_sock_sending(const struct io_sock *s);
/* Back-pressure: no more on_data until resumed (data already gathered may still come once). */
void io_sock_pause(struct io_sock *s);
void io_sock_resume(struct io_sock *s);
/* Ends it: no callback afterwards. `owned` (may be NULL) is free()d once the kernel lets go of it.
 */
void io_sock_close_with(struct io_sock *s, void *owned);
static inline void io_sock_close(struct io_sock *s)
{
    io_sock_close_with(s, NULL);
}
/* Hands the socket over: receiving ends, bytes that still come in are passed to on_data first, then
 * `done(arg, handle)` (handle -1: it ended meanwhile). The io_sock is gone when done is called.
 * CHECKs that no send is under way. */
void io_sock_detach(struct io_sock *s, void (*done)(void *arg, int handle));

/* ---- files: asynchronous part (blocking part: fs.h) ---- */

struct fs_file; /* opened by fs_open() */

struct io_op {
    /* `result`: ERR_OK or the failure. Short writes and reads past the end are failures (ERR_IO).
     */
    void (*done)(struct io_op *op, enum err result);
    void *internal[6]; /* private */
};
/* Writes and makes durable: done(ERR_OK) means that these bytes survive a power cut. File opened
 * with FS_DIRECT: buffer, size and offset multiples of 4096. */
void io_write_durable(struct io *io, struct fs_file *f, const void *p, size_t n, uint64_t offset,
                      struct io_op *op);
void io_read(struct io *io, struct fs_file *f, void *p, size_t n, uint64_t offset,
             struct io_op *op);

/* ---- blocking work on the offload threads ---- */

/* What else waits for it. No work waits for longer ones than it is itself, but behind what is as
 * urgent. */
enum io_work_class {
    IO_WORK_NORMAL, /* up to a second: a flush, a checkpoint */
    IO_WORK_URGENT, /* short, and the log or a client waits: a thread of its own is kept for these
                     */
    IO_WORK_LONG,   /* seconds and more: one at a time */
};

struct io_work {
    struct list link;                /* private */
    void (*run)(struct io_work *w);  /* on an offload thread: may block, must not touch the core */
    void (*done)(struct io_work *w); /* on the loop */
    uint8_t class;                   /* enum io_work_class; 0: normal */
    struct io *io;                   /* private */
};
void io_offload(struct io *io, struct io_work *w);

/* ---- mail between cores ---- */

struct io_mail {
    struct list link;                                       /* private */
    void (*deliver)(struct io_mail *m, void *receiver_arg); /* on the receiving loop; owns m */
};
/* Takes `m`. Any thread. Mail of one sender arrives in order. */
void io_post(struct io *to, struct io_mail *m);
/* `arg` is what deliver() gets: the receiving core. */
void io_set_mail_arg(struct io *io, void *arg);

#endif
