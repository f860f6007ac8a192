/* The calls of a single key: checks, copies and hand-over to the I/O thread. */
#include <stdlib.h>

#include "client/handle.h"
#include "client/queue.h"
#include "client/result.h"
#include "common/base/limits.h"
#include "common/base/mem.h"

#define POOL_MAX 4096u
#define INLINE_BYTES 192u

/* What is asked. */
struct ask {
    enum kv_method method;
    kv_slice key, value;
    int64_t delta;
    bool ttl_given; /* by the call itself, whatever the options say */
    bool for_ever;
    uint64_t ttl_ms;
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

/* Checks and reserves room for the call, or says why not. */
static kv_err admit(struct kv_client *kv, const struct ask *a, const kv_callopts *o, size_t *bytes)
{
    kv_err e = handle_usable(kv);
    if (e != KV_OK)
        return e;
    if (a->key.len == 0)
        return KV_KEY_EMPTY;
    if (a->key.len > LIMIT_KEY)
        return KV_KEY_TOO_LARGE;
    if (a->value.len > LIMIT_VALUE_MAX)
        return KV_VALUE_TOO_LARGE;
    if ((unsigned)o->read > KV_READ_ANY)
        return KV_BAD_REQUEST;
    *bytes = a->key.len + a->value.len;
    return handle_admit(kv, *bytes);
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

void handle_free_pool(struct kv_client *kv)
{
    for (struct list *item; (item = list_pop_front(&kv->pool));)
        free(CONTAINER_OF(CONTAINER_OF(item, struct socket_post, link), struct call, post));
}

/* Everything of the call but key and value. */
static void call_fill(struct call *call, struct kv_client *kv, const struct ask *a,
                      const kv_callopts *o)
{
    struct client_op *op = &call->op;
    op->method = a->method;
    op->delta = a->delta;
    op->if_absent = (o->flags & KV_IF_ABSENT) != 0;
    op->has_if_version = (o->flags & KV_IF_VERSION) != 0;
    op->if_version = o->if_version;
    op->has_ttl = a->ttl_given ? !a->for_ever : (o->flags & KV_TTL) != 0;
    op->ttl_ms = a->ttl_given ? a->ttl_ms : o->ttl_ms;
    op->level = a->method == KV_METHOD_GET ? (uint8_t)o->read : 0;
    op->staleness_ms = o->max_staleness_ms;
    op->deadline = handle_deadline(kv, o->timeout_ms);
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

static void on_async_done(struct client_op *op, const struct client_result *r)
{
    struct call *call = CONTAINER_OF(op, struct call, op);
    kv_done done = call->done;
    void *arg = call->arg;
    struct kv_result result = result_borrow(r);
    handle_unadmit(call->kv, call->bytes);
    if (call->queue)
        queue_push(call->queue, arg, &result);
    /* First: `done` will most likely start the next call, which takes this very memory, still in
     * the cache. Nothing of `result` points into it. */
    call_recycle(call);
    if (done)
        done(arg, result.err, &result);
}

static kv_err start(struct kv_client *kv, const struct ask *a, const kv_callopts *opts,
                    kv_done done, void *arg)
{
    kv_callopts o = handle_opts(opts);
    size_t bytes;
    kv_err e = admit(kv, a, &o, &bytes);
    if (e != KV_OK)
        return e;
    if (!done == !o.queue) { /* exactly one of the two */
        handle_unadmit(kv, bytes);
        return KV_BAD_REQUEST;
    }
    bool on_thread = socket_on_thread(kv->thread);
    struct call *call = call_new(kv, on_thread);
    call_fill(call, kv, a, &o);
    call->bytes = bytes;
    call->done = done;
    call->arg = arg;
    call->op.done = on_async_done;
    if (o.flags & KV_BORROW) {
        call->op.key = slice_of(a->key.data, a->key.len);
        call->op.value = slice_of(a->value.data, a->value.len);
    } else {
        copy_bytes(call, a->key, a->value);
    }
    if (on_thread)
        submit_now(call, socket_turn_now(kv->thread));
    else
        socket_post(kv->thread, &call->post);
    return KV_OK;
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
    handle_unadmit(s->call.kv, s->call.bytes);
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

static kv_err wait_for(struct kv_client *kv, const struct ask *a, const kv_callopts *opts,
                       kv_result **out)
{
    kv_callopts o = handle_opts(opts);
    size_t bytes;
    kv_err e = admit(kv, a, &o, &bytes);
    if (out)
        *out = NULL;
    if (e == KV_FORKED)
        return e;
    if (e != KV_OK)
        return give(e, result_of_error(e, ""), out);
    if (socket_on_thread(kv->thread)) { /* would wait for itself */
        handle_unadmit(kv, bytes);
        return give(KV_BAD_REQUEST, result_of_error(KV_BAD_REQUEST, "called in a callback"), out);
    }
    struct sync_call s;
    call_fill(&s.call, kv, a, &o);
    s.call.bytes = bytes;
    s.call.op.key = slice_of(a->key.data, a->key.len);
    s.call.op.value = slice_of(a->value.data, a->value.len);
    s.call.op.done = on_sync_done;
    waiter_init(&s.waiter);
    socket_post(kv->thread, &s.call.post);
    waiter_wait(&s.waiter);
    return give(kv_result_err(s.result), s.result, out);
}

/* ---- the public ones ---- */

#define ASK_GET(k) ((struct ask){.method = KV_METHOD_GET, .key = (k)})
#define ASK_PUT(k, v) ((struct ask){.method = KV_METHOD_PUT, .key = (k), .value = (v)})
#define ASK_DELETE(k) ((struct ask){.method = KV_METHOD_DELETE, .key = (k)})
#define ASK_INCR(k, d) ((struct ask){.method = KV_METHOD_INCR, .key = (k), .delta = (d)})
#define ASK_TOUCH(k, t)                                                                            \
    ((struct ask){.method = KV_METHOD_TOUCH, .key = (k), .ttl_given = true, .ttl_ms = (t)})
#define ASK_PERSIST(k)                                                                             \
    ((struct ask){.method = KV_METHOD_TOUCH, .key = (k), .ttl_given = true, .for_ever = true})

kv_err kv_get(kv_client *kv, kv_slice key, const kv_callopts *opts, kv_result **out)
{
    return wait_for(kv, &ASK_GET(key), opts, out);
}

kv_err kv_get_async(kv_client *kv, kv_slice key, const kv_callopts *opts, kv_done done, void *arg)
{
    return start(kv, &ASK_GET(key), opts, done, arg);
}

kv_err kv_put(kv_client *kv, kv_slice key, kv_slice value, const kv_callopts *opts, kv_result **out)
{
    return wait_for(kv, &ASK_PUT(key, value), opts, out);
}

kv_err kv_put_async(kv_client *kv, kv_slice key, kv_slice value, const kv_callopts *opts,
                    kv_done done, void *arg)
{
    return start(kv, &ASK_PUT(key, value), opts, done, arg);
}

kv_err kv_delete(kv_client *kv, kv_slice key, const kv_callopts *opts, kv_result **out)
{
    return wait_for(kv, &ASK_DELETE(key), opts, out);
}

kv_err kv_delete_async(kv_client *kv, kv_slice key, const kv_callopts *opts, kv_done done,
                       void *arg)
{
    return start(kv, &ASK_DELETE(key), opts, done, arg);
}

kv_err kv_incr(kv_client *kv, kv_slice key, int64_t delta, const kv_callopts *opts, kv_result **out)
{
    return wait_for(kv, &ASK_INCR(key, delta), opts, out);
}

kv_err kv_incr_async(kv_client *kv, kv_slice key, int64_t delta, const kv_callopts *opts,
                     kv_done done, void *arg)
{
    return start(kv, &ASK_INCR(key, delta), opts, done, arg);
}

kv_err kv_touch(kv_client *kv, kv_slice key, uint64_t ttl_ms, const kv_callopts *opts,
                kv_result **out)
{
    return wait_for(kv, &ASK_TOUCH(key, ttl_ms), opts, out);
}

kv_err kv_touch_async(kv_client *kv, kv_slice key, uint64_t ttl_ms, const kv_callopts *opts,
                      kv_done done, void *arg)
{
    return start(kv, &ASK_TOUCH(key, ttl_ms), opts, done, arg);
}

kv_err kv_persist(kv_client *kv, kv_slice key, const kv_callopts *opts, kv_result **out)
{
    return wait_for(kv, &ASK_PERSIST(key), opts, out);
}

kv_err kv_persist_async(kv_client *kv, kv_slice key, const kv_callopts *opts, kv_done done,
                        void *arg)
{
    return start(kv, &ASK_PERSIST(key), opts, done, arg);
}
