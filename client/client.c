/* The public calls: checks, bounds, copies and hand-over to the I/O thread. */
#include <netdb.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/kvclient.h"
#include "client/queue.h"
#include "client/result.h"
#include "client/socket.h"
#include "client/url.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/meta/slot.h"

#define TIMEOUT_DEFAULT_MS 5000u
#define IN_FLIGHT_DEFAULT 65536u
#define IN_FLIGHT_BYTES_DEFAULT (256 * MIB)
#define POOL_MAX 4096u
#define INLINE_BYTES 192u

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
    struct list pool; /* struct call, free ones */
    unsigned n_pool;
};

/* One call, from its start to its completion. On the caller's stack for synchronous calls. */
struct call {
    struct client_op op;
    struct socket_post post; /* link also serves the pool */
    struct kv_client *kv;
    kv_done done;
    void *arg;
    kv_queue *queue;
    size_t bytes;  /* that count against the handle's bound */
    uint8_t *heap; /* copies of key and value that do not fit below */
    uint8_t inlined[INLINE_BYTES];
};

/* Waits for something to have been run on the I/O thread. */
struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
};

static void waiter_init(struct waiter *w)
{
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->cond, NULL);
    w->done = false;
}

static void waiter_wake(struct waiter *w)
{
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock); /* the last touch: the waiter's stack may go after it */
}

static void waiter_wait(struct waiter *w)
{
    pthread_mutex_lock(&w->lock);
    while (!w->done)
        pthread_cond_wait(&w->cond, &w->lock);
    pthread_mutex_unlock(&w->lock);
    pthread_cond_destroy(&w->cond);
    pthread_mutex_destroy(&w->lock);
}

/* ---- opening and closing ---- */

struct attach {
    struct socket_post post;
    struct kv_client *kv;
    struct client_core_options options;
    struct waiter waiter;
};

static void run_attach(struct socket_post *p, uint64_t now)
{
    struct attach *a = CONTAINER_OF(p, struct attach, post);
    struct kv_client *kv = a->kv;
    a->options.now = now;
    socket_attach(&kv->sc, kv->thread);
    kv->sc.core = client_core_create(&a->options, &socket_core_ops, &kv->sc);
    waiter_wake(&a->waiter);
}

static uint64_t jitter_seed(const void *p)
{
    return socket_now() ^ ((uint64_t)(uintptr_t)p << 20) ^ (uint64_t)getpid();
}

kv_err kv_open(const char *url, const kv_options *options, kv_client **out, char *msg, size_t n)
{
    kv_options o = KV_OPTIONS_INIT;
    struct url u;
    if (options)
        memcpy(&o, options, options->size < sizeof(o) ? options->size : sizeof(o));
    kv_err e = url_resolve(url, &u, msg, n);
    if (e != KV_OK)
        return e;
    struct kv_client *kv = mem_zalloc(sizeof(*kv));
    if (socket_thread_acquire(&kv->thread) != ERR_OK) {
        snprintf(msg, msg ? n : 0, "no thread or file descriptor to be had");
        free(kv);
        return KV_NO_MEMORY;
    }
    kv->fork_count = socket_fork_count();
    kv->timeout_ms = o.timeout_ms ? o.timeout_ms : TIMEOUT_DEFAULT_MS;
    kv->max_in_flight = o.max_in_flight ? o.max_in_flight : IN_FLIGHT_DEFAULT;
    kv->max_bytes = o.max_in_flight_bytes ? o.max_in_flight_bytes : IN_FLIGHT_BYTES_DEFAULT;
    kv->sc.log = o.log;
    kv->sc.log_arg = o.log_arg;
    pthread_mutex_init(&kv->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&kv->drained, &attr);
    pthread_condattr_destroy(&attr);
    list_init(&kv->pool);

    const char *seeds[CLIENT_SEEDS_MAX];
    for (unsigned i = 0; i < u.n; i++)
        seeds[i] = u.addr[i];
    struct attach a = {.post.run = run_attach, .kv = kv};
    a.options = (struct client_core_options){
        .seeds = seeds, .n_seeds = u.n, .name = o.name, .seed = jitter_seed(kv)};
    waiter_init(&a.waiter);
    socket_post(kv->thread, &a.post);
    waiter_wait(&a.waiter);
    *out = kv;
    return KV_OK;
}

static void run_detach(struct socket_post *p, uint64_t now)
{
    struct attach *a = CONTAINER_OF(p, struct attach, post);
    struct kv_client *kv = a->kv;
    (void)now;
    client_core_destroy(kv->sc.core);
    socket_detach(&kv->sc);
    for (struct list *item; (item = list_pop_front(&kv->pool));)
        free(CONTAINER_OF(CONTAINER_OF(item, struct socket_post, link), struct call, post));
    waiter_wake(&a->waiter);
}

/* False: calls are left when the time is over. */
static bool drain(struct kv_client *kv, uint32_t timeout_ms)
{
    uint64_t until = socket_now() + timeout_ms * NS_PER_MS;
    struct timespec ts = {.tv_sec = (time_t)(until / NS_PER_S),
                          .tv_nsec = (long)(until % NS_PER_S)};
    int rc = 0;
    pthread_mutex_lock(&kv->lock);
    while (atomic_load(&kv->in_flight) > 0 && rc == 0)
        rc = pthread_cond_timedwait(&kv->drained, &kv->lock, &ts);
    pthread_mutex_unlock(&kv->lock);
    return atomic_load(&kv->in_flight) == 0;
}

kv_err kv_close(kv_client *kv, uint32_t timeout_ms)
{
    if (!kv)
        return KV_OK;
    if (kv->fork_count != socket_fork_count())
        return KV_FORKED;
    if (socket_on_thread(kv->thread))
        return KV_BAD_REQUEST;
    atomic_store(&kv->closing, true);
    bool drained = drain(kv, timeout_ms);
    struct attach a = {.post.run = run_detach, .kv = kv};
    waiter_init(&a.waiter);
    socket_post(kv->thread, &a.post);
    waiter_wait(&a.waiter);
    socket_thread_release(kv->thread);
    pthread_cond_destroy(&kv->drained);
    pthread_mutex_destroy(&kv->lock);
    free(kv);
    return drained ? KV_OK : KV_TIMEOUT;
}

/* ---- calls ---- */

/* Reserves room for the call, or says why not. */
static kv_err admit(struct kv_client *kv, kv_slice key, kv_slice value, size_t *bytes)
{
    if (kv->fork_count != socket_fork_count())
        return KV_FORKED;
    if (atomic_load_explicit(&kv->closing, memory_order_relaxed))
        return KV_CLOSED;
    if (key.len == 0)
        return KV_KEY_EMPTY;
    if (key.len > LIMIT_KEY)
        return KV_KEY_TOO_LARGE;
    if (value.len > LIMIT_VALUE_MAX)
        return KV_VALUE_TOO_LARGE;
    *bytes = key.len + value.len;
    uint_fast32_t n = atomic_fetch_add_explicit(&kv->in_flight, 1, memory_order_relaxed);
    uint_fast64_t b = atomic_fetch_add_explicit(&kv->in_flight_bytes, *bytes, memory_order_relaxed);
    if (n < kv->max_in_flight && (b == 0 || b + *bytes <= kv->max_bytes))
        return KV_OK;
    atomic_fetch_sub(&kv->in_flight, 1);
    atomic_fetch_sub(&kv->in_flight_bytes, *bytes);
    return KV_BUSY;
}

static void unadmit(struct kv_client *kv, size_t bytes)
{
    atomic_fetch_sub_explicit(&kv->in_flight_bytes, bytes, memory_order_relaxed);
    uint_fast32_t before = atomic_fetch_sub_explicit(&kv->in_flight, 1, memory_order_acq_rel);
    if (before == 1 && atomic_load_explicit(&kv->closing, memory_order_relaxed)) {
        pthread_mutex_lock(&kv->lock);
        pthread_cond_broadcast(&kv->drained);
        pthread_mutex_unlock(&kv->lock);
    }
}

static void submit_now(struct call *call, uint64_t now)
{
    struct kv_client *kv = call->kv;
    socket_touch(&kv->sc);
    client_core_submit(kv->sc.core, &call->op, now);
}

static void run_submit(struct socket_post *p, uint64_t now)
{
    submit_now(CONTAINER_OF(p, struct call, post), now);
}

static struct call *call_new(struct kv_client *kv, bool on_io_thread)
{
    struct list *item = on_io_thread ? list_pop_front(&kv->pool) : NULL;
    if (!item)
        return mem_alloc(sizeof(struct call));
    kv->n_pool--;
    return CONTAINER_OF(CONTAINER_OF(item, struct socket_post, link), struct call, post);
}

/* On the I/O thread, after completion. */
static void call_recycle(struct call *call)
{
    struct kv_client *kv = call->kv;
    free(call->heap);
    if (kv->n_pool >= POOL_MAX) {
        free(call);
        return;
    }
    kv->n_pool++;
    list_push_front(&kv->pool, &call->post.link);
}

/* Everything of the call but key and value. */
static void call_fill(struct call *call, struct kv_client *kv, enum kv_method method,
                      const kv_callopts *o)
{
    uint32_t timeout = o->timeout_ms ? o->timeout_ms : kv->timeout_ms;
    call->op.method = method;
    call->op.if_absent = (o->flags & KV_IF_ABSENT) != 0;
    call->op.has_if_version = (o->flags & KV_IF_VERSION) != 0;
    call->op.if_version = o->if_version;
    call->op.has_ttl = (o->flags & KV_TTL) != 0;
    call->op.ttl_ms = o->ttl_ms;
    call->op.level = (uint8_t)o->read;
    call->op.staleness_ms = o->max_staleness_ms;
    call->op.delta = 0;
    uint64_t now = socket_on_thread(kv->thread) ? socket_turn_now(kv->thread) : socket_now();
    call->op.deadline = now + timeout * NS_PER_MS;
    call->post.run = run_submit;
    call->kv = kv;
    call->heap = NULL;
    call->queue = o->queue;
}

static void copy_bytes(struct call *call, kv_slice key, kv_slice value)
{
    uint8_t *p = call->inlined;
    if (key.len + value.len > INLINE_BYTES)
        p = call->heap = mem_alloc(key.len + value.len);
    memcpy(p, key.data, key.len);
    if (value.len)
        memcpy(p + key.len, value.data, value.len);
    call->op.key = slice_of(p, key.len);
    call->op.value = slice_of(p + key.len, value.len);
}

static kv_callopts opts_of(const kv_callopts *given)
{
    kv_callopts o = KV_CALLOPTS_INIT;
    if (given)
        memcpy(&o, given, given->size < sizeof(o) ? given->size : sizeof(o));
    return o;
}

static void on_async_done(struct client_op *op, const struct client_result *r)
{
    struct call *call = CONTAINER_OF(op, struct call, op);
    kv_done done = call->done;
    void *arg = call->arg;
    struct kv_result result = result_borrow(r);
    unadmit(call->kv, call->bytes);
    if (call->queue)
        queue_push(call->queue, arg, &result);
    /* First: `done` will most likely start the next call, which takes this very memory, still in
     * the cache. Nothing of `result` points into it. */
    call_recycle(call);
    if (done)
        done(arg, result.err, &result);
}

static kv_err start(struct kv_client *kv, enum kv_method method, kv_slice key, kv_slice value,
                    const kv_callopts *opts, kv_done done, void *arg)
{
    kv_callopts o = opts_of(opts);
    size_t bytes;
    if (!done == !o.queue)
        return KV_BAD_REQUEST; /* exactly one of the two */
    kv_err e = admit(kv, key, value, &bytes);
    if (e != KV_OK)
        return e;
    bool on_thread = socket_on_thread(kv->thread);
    struct call *call = call_new(kv, on_thread);
    call_fill(call, kv, method, &o);
    call->bytes = bytes;
    call->done = done;
    call->arg = arg;
    call->op.done = on_async_done;
    if (o.flags & KV_BORROW) {
        call->op.key = slice_of(key.data, key.len);
        call->op.value = slice_of(value.data, value.len);
    } else {
        copy_bytes(call, key, value);
    }
    if (on_thread)
        submit_now(call, socket_turn_now(kv->thread));
    else
        socket_post(kv->thread, &call->post);
    return KV_OK;
}

kv_err kv_get_async(kv_client *kv, kv_slice key, const kv_callopts *opts, kv_done done, void *arg)
{
    return start(kv, KV_METHOD_GET, key, (kv_slice){0}, opts, done, arg);
}

kv_err kv_put_async(kv_client *kv, kv_slice key, kv_slice value, const kv_callopts *opts,
                    kv_done done, void *arg)
{
    return start(kv, KV_METHOD_PUT, key, value, opts, done, arg);
}

kv_err kv_delete_async(kv_client *kv, kv_slice key, const kv_callopts *opts, kv_done done,
                       void *arg)
{
    return start(kv, KV_METHOD_DELETE, key, (kv_slice){0}, opts, done, arg);
}

struct sync_call {
    struct call call;
    struct waiter waiter;
    kv_result *result;
};

static void on_sync_done(struct client_op *op, const struct client_result *r)
{
    struct sync_call *s = CONTAINER_OF(CONTAINER_OF(op, struct call, op), struct sync_call, call);
    struct kv_result borrowed = result_borrow(r);
    s->result = kv_result_keep(&borrowed);
    unadmit(s->call.kv, s->call.bytes);
    waiter_wake(&s->waiter);
}

static kv_err give(kv_err e, kv_result *r, kv_result **out)
{
    if (out)
        *out = r;
    else
        kv_result_free(r);
    return e;
}

static kv_err wait_for(struct kv_client *kv, enum kv_method method, kv_slice key, kv_slice value,
                       const kv_callopts *opts, kv_result **out)
{
    kv_callopts o = opts_of(opts);
    size_t bytes;
    kv_err e = admit(kv, key, value, &bytes);
    if (out)
        *out = NULL;
    if (e == KV_FORKED)
        return e;
    if (e != KV_OK)
        return give(e, result_of_error(e, ""), out);
    if (socket_on_thread(kv->thread)) { /* would wait for itself */
        unadmit(kv, bytes);
        return give(KV_BAD_REQUEST, result_of_error(KV_BAD_REQUEST, "called in a callback"), out);
    }
    struct sync_call s;
    call_fill(&s.call, kv, method, &o);
    s.call.bytes = bytes;
    s.call.op.key = slice_of(key.data, key.len);
    s.call.op.value = slice_of(value.data, value.len);
    s.call.op.done = on_sync_done;
    waiter_init(&s.waiter);
    socket_post(kv->thread, &s.call.post);
    waiter_wait(&s.waiter);
    return give(kv_result_err(s.result), s.result, out);
}

kv_err kv_get(kv_client *kv, kv_slice key, const kv_callopts *opts, kv_result **out)
{
    return wait_for(kv, KV_METHOD_GET, key, (kv_slice){0}, opts, out);
}

kv_err kv_put(kv_client *kv, kv_slice key, kv_slice value, const kv_callopts *opts, kv_result **out)
{
    return wait_for(kv, KV_METHOD_PUT, key, value, opts, out);
}

kv_err kv_delete(kv_client *kv, kv_slice key, const kv_callopts *opts, kv_result **out)
{
    return wait_for(kv, KV_METHOD_DELETE, key, (kv_slice){0}, opts, out);
}

/* ---- looking inside ---- */

struct stats_call {
    struct socket_post post;
    struct kv_client *kv;
    struct client_core_stats stats;
    struct waiter waiter;
};

static void run_stats(struct socket_post *p, uint64_t now)
{
    struct stats_call *s = CONTAINER_OF(p, struct stats_call, post);
    (void)now;
    client_core_get_stats(s->kv->sc.core, &s->stats);
    waiter_wake(&s->waiter);
}

kv_err kv_get_stats(kv_client *kv, kv_stats *stats)
{
    if (kv->fork_count != socket_fork_count())
        return KV_FORKED;
    if (socket_on_thread(kv->thread) || stats->size < sizeof(size_t))
        return KV_BAD_REQUEST;
    struct stats_call s = {.post.run = run_stats, .kv = kv};
    waiter_init(&s.waiter);
    socket_post(kv->thread, &s.post);
    waiter_wait(&s.waiter);
    kv_stats all = {
        .size = stats->size,
        .calls = s.stats.calls,
        .ok = s.stats.ok,
        .failed = s.stats.failed,
        .unknown = s.stats.unknown,
        .retries = s.stats.retries,
        .redirects = s.stats.redirects,
        .connects = s.stats.connects,
        .disconnects = s.stats.disconnects,
        .map_updates = s.stats.map_updates,
        .map_version = s.stats.map_version,
        .in_flight = atomic_load(&kv->in_flight),
        .bytes_sent = s.stats.bytes_sent,
        .bytes_received = s.stats.bytes_received,
        .retried = s.stats.retried,
        .retries_max = s.stats.retries_max,
    };
    memcpy(stats, &all, stats->size < sizeof(all) ? stats->size : sizeof(all));
    return KV_OK;
}

unsigned kv_slot(kv_slice key)
{
    return slot_of_key(slice_of(key.data, key.len));
}

const char *kv_version(void)
{
    return KV_VERSION;
}
