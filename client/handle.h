/* kv_client: a handle. Its life, what it may have in flight, and the way to its core on the I/O
 * thread.
 *
 * Owner: the application.  Thread: any, unless said otherwise.  Depends on: socket, client_core. */
#ifndef CLIENT_HANDLE_H
#define CLIENT_HANDLE_H

#include <pthread.h>
#include <stdatomic.h>

#include "client/kvclient.h"
#include "client/socket.h"

struct kv_client {
    struct socket_client sc;
    struct socket_thread *thread;
    unsigned fork_count;
    uint32_t timeout_ms, max_in_flight;
    uint64_t max_bytes;
    atomic_uint_fast32_t in_flight;
    atomic_uint_fast64_t in_flight_bytes;
    atomic_bool closing;
    pthread_mutex_t lock; /* with `drained`: kv_close() waits for in_flight == 0 */
    pthread_cond_t drained;
    /* the I/O thread's */
    struct list pool; /* calls that are free, by their post's link; client.c */
    unsigned n_pool;
};

/* Waits for something to have been run on the I/O thread. */
struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
};
void waiter_init(struct waiter *w);
void waiter_wake(struct waiter *w);
void waiter_wait(struct waiter *w); /* and closes it */

/* KV_FORKED or KV_CLOSED, if the handle must not be used. */
kv_err handle_usable(const struct kv_client *kv);
/* Reserves room for a call of so many bytes: KV_FORKED, KV_CLOSED, KV_BUSY. */
kv_err handle_admit(struct kv_client *kv, size_t bytes);
/* Any thread. After the last one the handle may be gone, if it is being closed. */
void handle_unadmit(struct kv_client *kv, size_t bytes);
/* ns; of a call that begins now with this timeout (0: the handle's). */
uint64_t handle_deadline(const struct kv_client *kv, uint32_t timeout_ms);
/* What the caller gave, and defaults for what it does not know of. */
kv_callopts handle_opts(const kv_callopts *given);
/* Frees the calls in kv->pool. client.c */
void handle_free_pool(struct kv_client *kv);

#endif
