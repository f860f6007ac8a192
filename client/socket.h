/* The I/O thread: one per process, an epoll loop that drives the client_cores of all handles.
 *
 * A turn: wait, run what other threads posted, read what arrived (client_core_on_data and so the
 * callbacks), run due timers, then one send per connection that has output. The eventfd is written
 * only when the thread sleeps, so a busy loop costs its callers no system call.
 *
 * Owner: reference-counted; the first handle starts it, the last one ends it.  Thread: functions
 * say which. Depends on: client_core. */
#ifndef CLIENT_SOCKET_H
#define CLIENT_SOCKET_H

#include "client/client_core.h"
#include "common/base/list.h"

struct socket_thread;

/* What is to be run on the I/O thread. The memory is the poster's until run() is called. */
struct socket_post {
    struct list link;
    void (*run)(struct socket_post *p, uint64_t now);
};

/* A handle's part in the loop. Embedded in kv_client; all fields are the I/O thread's. */
struct socket_client {
    struct socket_thread *thread;
    struct client_core *core;
    struct list link;           /* attached to the thread */
    struct list touched;        /* to be flushed this turn */
    struct socket_conn **conns; /* by the core's number; NULL: not open */
    unsigned n_conns;
    void (*log)(void *arg, int level, const char *text);
    void *log_arg;
};

extern const struct client_core_ops socket_core_ops; /* arg: struct socket_client */

/* Any thread. ERR_NO_SPACE: no thread or file descriptor to be had. */
MUST_USE enum err socket_thread_acquire(struct socket_thread **out);
/* Any thread but the I/O thread; joins it when this was the last reference. */
void socket_thread_release(struct socket_thread *t);
/* Any thread. */
void socket_post(struct socket_thread *t, struct socket_post *p);
bool socket_on_thread(const struct socket_thread *t);
/* Monotonic ns, read afresh. Any thread. */
uint64_t socket_now(void);
/* How many forks this process has come out of: a handle of another count is the parent's. */
unsigned socket_fork_count(void);

/* The I/O thread only. */
void socket_attach(struct socket_client *sc, struct socket_thread *t);
/* After client_core_destroy(). */
void socket_detach(struct socket_client *sc);
/* The core was called: flush it in this turn. */
void socket_touch(struct socket_client *sc);
/* The time of this turn. */
uint64_t socket_turn_now(const struct socket_thread *t);

#endif
