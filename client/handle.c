/* The life of a handle, its bounds, its session, its statistics. */
#include "client/handle.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "client/url.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/meta/slot.h"

#define TIMEOUT_DEFAULT_MS 5000u
#define IN_FLIGHT_DEFAULT 65536u
#define IN_FLIGHT_BYTES_DEFAULT (256 * MIB)

void waiter_init(struct waiter *w)
{
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->cond, NULL);
    w->done = false;
}

void waiter_wake(struct waiter *w)
{
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock); /* the last touch: the waiter's stack may go after it */
}

void waiter_wait(struct waiter *w)
{
    pthread_mutex_lock(&w->lock);
    while (!w->done)
        pthread_cond_wait(&w->cond, &w->lock);
    pthread_mutex_unlock(&w->lock);
    pthread_cond_destroy(&w->cond);
    pthread_mutex_destroy(&w->lock);
}

/* ---- on the I/O thread ---- */

typedef void (*thread_fn)(struct kv_client *kv, void *arg, uint64_t now);

struct thread_call {
    struct socket_post post;
    struct kv_client *kv;
    thread_fn fn;
    void *arg;
    struct waiter waiter;
};

static void run_thread_call(struct socket_post *p, uint64_t now)
{
    struct thread_call *c = CONTAINER_OF(p, struct thread_call, post);
    c->fn(c->kv, c->arg, now);
    waiter_wake(&c->waiter);
}

/* Runs `fn` there, and waits for it. Not to be called on that thread itself. */
static void on_thread(struct kv_client *kv, thread_fn fn, void *arg)
{
    struct thread_call c = {.post.run = run_thread_call, .kv = kv, .fn = fn, .arg = arg};
    waiter_init(&c.waiter);
    socket_post(kv->thread, &c.post);
    waiter_wait(&c.waiter);
}

/* ---- opening and closing ---- */

static void attach(struct kv_client *kv, void *arg, uint64_t now)
{
    struct client_core_options *o = arg;
    o->now = now;
    socket_attach(&kv->sc, kv->thread);
    kv->sc.core = client_core_create(o, &socket_core_ops, &kv->sc);
}

static uint64_t jitter_seed(const void *p)
{
    return socket_now() ^ ((uint64_t)(uintptr_t)p << 20) ^ (uint64_t)getpid();
}

/* The kernel's; where it has none yet (early in boot), ones that differ by time and process. */
static void random_bytes(uint8_t *out, size_t n, const void *p)
{
    if (getrandom(out, n, GRND_NONBLOCK) == (ssize_t)n)
        return;
    struct rng rng;
    rng_seed(&rng, jitter_seed(p));
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)rng_next(&rng);
}

/* The part of kv_open() that cannot fail. */
static void handle_init(struct kv_client *kv, const kv_options *o)
{
    kv->fork_count = socket_fork_count();
    kv->timeout_ms = o->timeout_ms ? o->timeout_ms : TIMEOUT_DEFAULT_MS;
    kv->max_in_flight = o->max_in_flight ? o->max_in_flight : IN_FLIGHT_DEFAULT;
    kv->max_bytes = o->max_in_flight_bytes ? o->max_in_flight_bytes : IN_FLIGHT_BYTES_DEFAULT;
    kv->sc.log = o->log;
    kv->sc.log_arg = o->log_arg;
    pthread_mutex_init(&kv->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&kv->drained, &attr);
    pthread_condattr_destroy(&attr);
    list_init(&kv->pool);
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
    handle_init(kv, &o);
    uint8_t session[MSG_KV_SESSION_ID];
    random_bytes(session, sizeof(session), kv);
    const char *seeds[CLIENT_SEEDS_MAX];
    for (unsigned i = 0; i < u.n; i++)
        seeds[i] = u.addr[i];
    struct client_core_options core = {
        .seeds = seeds,
        .n_seeds = u.n,
        .name = o.name,
        .zone = o.zone,
        .seed = jitter_seed(kv),
        .session = session,
        .no_session = (o.flags & KV_OPEN_NO_SESSION) != 0,
    };
    on_thread(kv, attach, &core);
    *out = kv;
    return KV_OK;
}

static void detach(struct kv_client *kv, void *arg, uint64_t now)
{
    (void)arg;
    (void)now;
    client_core_destroy(kv->sc.core);
    socket_detach(&kv->sc);
    handle_free_pool(kv);
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
    on_thread(kv, detach, NULL);
    socket_thread_release(kv->thread);
    pthread_cond_destroy(&kv->drained);
    pthread_mutex_destroy(&kv->lock);
    free(kv);
    return drained ? KV_OK : KV_TIMEOUT;
}

/* ---- what calls need ---- */

kv_err handle_usable(const struct kv_client *kv)
{
    if (kv->fork_count != socket_fork_count())
        return KV_FORKED;
    return atomic_load_explicit(&kv->closing, memory_order_relaxed) ? KV_CLOSED : KV_OK;
}

kv_err handle_admit(struct kv_client *kv, size_t bytes)
{
    kv_err e = handle_usable(kv);
    if (e != KV_OK)
        return e;
    uint_fast32_t n = atomic_fetch_add_explicit(&kv->in_flight, 1, memory_order_relaxed);
    uint_fast64_t b = atomic_fetch_add_explicit(&kv->in_flight_bytes, bytes, memory_order_relaxed);
    if (n < kv->max_in_flight && (b == 0 || b + bytes <= kv->max_bytes))
        return KV_OK;
    handle_unadmit(kv, bytes);
    return KV_BUSY;
}

void handle_unadmit(struct kv_client *kv, size_t bytes)
{
    atomic_fetch_sub_explicit(&kv->in_flight_bytes, bytes, memory_order_relaxed);
    uint_fast32_t before = atomic_fetch_sub_explicit(&kv->in_flight, 1, memory_order_acq_rel);
    if (before == 1 && atomic_load_explicit(&kv->closing, memory_order_relaxed)) {
        pthread_mutex_lock(&kv->lock);
        pthread_cond_broadcast(&kv->drained);
        pthread_mutex_unlock(&kv->lock);
    }
}

uint64_t handle_deadline(const struct kv_client *kv, uint32_t timeout_ms)
{
    uint64_t now = socket_on_thread(kv->thread) ? socket_turn_now(kv->thread) : socket_now();
    return now + (timeout_ms ? timeout_ms : kv->timeout_ms) * NS_PER_MS;
}

kv_callopts handle_opts(const kv_callopts *given)
{
    kv_callopts o = KV_CALLOPTS_INIT;
    if (given)
        memcpy(&o, given, given->size < sizeof(o) ? given->size : sizeof(o));
    return o;
}

/* ---- sessions across handles ---- */

struct session_call {
    struct buf text;   /* what is exported */
    const char *token; /* what is imported; NULL: export */
    enum err err;
};

/* On the I/O thread: it touches nothing but the session. */
static void session_do(struct kv_client *kv, void *arg, uint64_t now)
{
    struct session_call *s = arg;
    (void)now;
    if (s->token)
        s->err = client_core_import(kv->sc.core, slice_str(s->token));
    else
        client_core_export(kv->sc.core, &s->text);
}

static kv_err session_run(struct kv_client *kv, struct session_call *s)
{
    kv_err e = handle_usable(kv);
    if (e != KV_OK)
        return e;
    if (socket_on_thread(kv->thread))
        session_do(kv, s, 0);
    else
        on_thread(kv, session_do, s);
    return KV_OK;
}

kv_err kv_session_export(kv_client *kv, char *token, size_t cap, size_t *n)
{
    struct session_call s = {0};
    kv_err e = session_run(kv, &s);
    if (e == KV_OK) {
        if (n)
            *n = s.text.n + 1;
        if (s.text.n + 1 > cap) {
            e = KV_TOO_LARGE;
        } else {
            memcpy(token, s.text.p, s.text.n);
            token[s.text.n] = '\0';
        }
    }
    buf_close(&s.text);
    return e;
}

kv_err kv_session_import(kv_client *kv, const char *token)
{
    struct session_call s = {.token = token ? token : ""};
    kv_err e = session_run(kv, &s);
    return e == KV_OK && s.err != ERR_OK ? KV_BAD_REQUEST : e;
}

/* ---- looking inside ---- */

static void read_stats(struct kv_client *kv, void *arg, uint64_t now)
{
    (void)now;
    client_core_get_stats(kv->sc.core, arg);
}

kv_err kv_get_stats(kv_client *kv, kv_stats *stats)
{
    if (kv->fork_count != socket_fork_count())
        return KV_FORKED;
    if (socket_on_thread(kv->thread) || stats->size < sizeof(size_t))
        return KV_BAD_REQUEST;
    struct client_core_stats s;
    on_thread(kv, read_stats, &s);
    kv_stats all = {
        .size = stats->size,
        .calls = s.calls,
        .ok = s.ok,
        .failed = s.failed,
        .unknown = s.unknown,
        .retries = s.retries,
        .redirects = s.redirects,
        .connects = s.connects,
        .disconnects = s.disconnects,
        .map_updates = s.map_updates,
        .map_version = s.map_version,
        .in_flight = atomic_load(&kv->in_flight),
        .bytes_sent = s.bytes_sent,
        .bytes_received = s.bytes_received,
        .retried = s.retried,
        .retries_max = s.retries_max,
        .breaker_opens = s.breaker_opens,
        .follower_reads = s.follower_reads,
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
