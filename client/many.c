/* The calls of many keys: checks, copies, hand-over to the I/O thread, and gathering of the
 * results. */
#include <stdlib.h>

#include "client/batch.h"
#include "client/handle.h"
#include "client/queue.h"
#include "client/result.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/meta/slot.h"

#define KEYS_MAX 65536u
#define ATOMIC_OP_BYTES 128u /* of an operation in a request, beside key and value */

/* From its start to its completion; one allocation with its items. */
struct many_call {
    struct client_many many;
    struct socket_post post;
    struct kv_client *kv;
    size_t bytes; /* that count against the handle's bound */
    kv_results *results;
    uint8_t *copies; /* of keys and values; NULL: they are borrowed */
    kv_many_done done;
    void *arg;
    kv_queue *queue;
    struct waiter *waiter; /* of a synchronous call; NULL otherwise */
    struct client_item items[];
};

static void call_free(struct many_call *c)
{
    kv_results_free(c->results);
    free(c->copies);
    free(c);
}

/* ---- on the I/O thread ---- */

static void on_item_done(struct client_many *m, uint32_t i, const struct client_result *r)
{
    struct many_call *c = CONTAINER_OF(m, struct many_call, many);
    struct kv_result borrowed = result_borrow(r);
    c->results->result[i] = kv_result_keep(&borrowed);
}

static void on_many_done(struct client_many *m)
{
    struct many_call *c = CONTAINER_OF(m, struct many_call, many);
    struct waiter *waiter = c->waiter;
    kv_err e = results_err(c->results);
    handle_unadmit(c->kv, c->bytes);
    if (waiter) { /* the call is the waiting thread's now */
        waiter_wake(waiter);
        return;
    }
    if (c->queue) {
        queue_push_many(c->queue, c->arg, e, c->results);
        c->results = NULL;
    }
    if (c->done)
        c->done(c->arg, e, c->results);
    call_free(c);
}

static void submit_now(struct many_call *c, uint64_t now)
{
    socket_touch(&c->kv->sc);
    client_core_submit_many(c->kv->sc.core, &c->many, now);
}

static void run_submit(struct socket_post *p, uint64_t now)
{
    submit_now(CONTAINER_OF(p, struct many_call, post), now);
}

/* ---- on the caller's ---- */

static struct many_call *call_new(struct kv_client *kv, enum kv_method method, size_t n,
                                  const kv_callopts *o)
{
    struct many_call *c = mem_zalloc(sizeof(*c) + n * sizeof(c->items[0]));
    c->many.method = method;
    c->many.all = method == KV_METHOD_BATCH && (o->flags & KV_ATOMIC) != 0;
    c->many.level = method == KV_METHOD_MGET ? (uint8_t)o->read : 0;
    c->many.staleness_ms = o->max_staleness_ms;
    c->many.deadline = handle_deadline(kv, o->timeout_ms);
    c->many.bytes_max = kv->max_bytes;
    c->many.items = c->items;
    c->many.n = (uint32_t)n;
    c->many.item_done = on_item_done;
    c->many.done = on_many_done;
    c->post.run = run_submit;
    c->kv = kv;
    c->results = results_new(n);
    c->queue = o->queue;
    return c;
}

/* Takes the items' bytes over, so that the caller's may go. */
static void copy_bytes(struct many_call *c)
{
    size_t total = 0;
    for (uint32_t i = 0; i < c->many.n; i++)
        total += c->items[i].key.n + c->items[i].value.n;
    uint8_t *p = c->copies = mem_alloc(total);
    for (uint32_t i = 0; i < c->many.n; i++) {
        struct client_item *item = &c->items[i];
        memcpy(p, item->key.p, item->key.n);
        item->key.p = p;
        p += item->key.n;
        if (item->value.n)
            memcpy(p, item->value.p, item->value.n);
        item->value.p = p;
        p += item->value.n;
    }
}

static kv_err start(struct many_call *c, const kv_callopts *o, kv_many_done done, void *arg)
{
    struct kv_client *kv = c->kv;
    c->done = done;
    c->arg = arg;
    if (!(o->flags & KV_BORROW))
        copy_bytes(c);
    if (socket_on_thread(kv->thread))
        submit_now(c, socket_turn_now(kv->thread));
    else
        socket_post(kv->thread, &c->post);
    return KV_OK;
}

static kv_err wait_for(struct many_call *c, kv_results **out)
{
    struct waiter waiter;
    c->waiter = &waiter;
    waiter_init(&waiter);
    socket_post(c->kv->thread, &c->post);
    waiter_wait(&waiter);
    kv_err e = results_err(c->results);
    if (out) {
        *out = c->results;
        c->results = NULL;
    }
    call_free(c);
    return e;
}

/* What a call that waits has to look at before anything else. */
static kv_err check_wait(const struct kv_client *kv, kv_results **out)
{
    if (out)
        *out = NULL;
    kv_err e = handle_usable(kv);
    if (e == KV_OK && socket_on_thread(kv->thread))
        e = KV_BAD_REQUEST; /* would wait for itself */
    return e;
}

/* What async calls have to say: where to deliver. */
static kv_err check_async(const kv_callopts *o, bool has_done)
{
    return has_done == (o->queue != NULL) ? KV_BAD_REQUEST : KV_OK; /* exactly one of the two */
}

/* ---- mget ---- */

static kv_err check_keys(const kv_slice *keys, size_t n, const kv_callopts *o, size_t *bytes)
{
    if (n == 0 || n > KEYS_MAX || (unsigned)o->read > KV_READ_ANY)
        return KV_BAD_REQUEST;
    *bytes = n * sizeof(struct client_item);
    for (size_t i = 0; i < n; i++) {
        if (keys[i].len == 0)
            return KV_KEY_EMPTY;
        if (keys[i].len > LIMIT_KEY)
            return KV_KEY_TOO_LARGE;
        *bytes += keys[i].len;
    }
    return KV_OK;
}

static kv_err mget_new(kv_client *kv, const kv_slice *keys, size_t n, const kv_callopts *o,
                       struct many_call **out)
{
    size_t bytes;
    kv_err e = handle_usable(kv);
    if (e == KV_OK)
        e = check_keys(keys, n, o, &bytes);
    if (e == KV_OK)
        e = handle_admit(kv, bytes);
    if (e != KV_OK)
        return e;
    struct many_call *c = call_new(kv, KV_METHOD_MGET, n, o);
    c->bytes = bytes;
    for (size_t i = 0; i < n; i++) {
        c->items[i].method = KV_METHOD_GET;
        c->items[i].key = slice_of(keys[i].data, keys[i].len);
    }
    *out = c;
    return KV_OK;
}

kv_err kv_mget(kv_client *kv, const kv_slice *keys, size_t n, const kv_callopts *opts,
               kv_results **out)
{
    kv_callopts o = handle_opts(opts);
    struct many_call *c;
    kv_err e = check_wait(kv, out);
    if (e == KV_OK)
        e = mget_new(kv, keys, n, &o, &c);
    return e == KV_OK ? wait_for(c, out) : e;
}

kv_err kv_mget_async(kv_client *kv, const kv_slice *keys, size_t n, const kv_callopts *opts,
                     kv_many_done done, void *arg)
{
    kv_callopts o = handle_opts(opts);
    struct many_call *c;
    kv_err e = handle_usable(kv);
    if (e == KV_OK)
        e = check_async(&o, done != NULL);
    if (e == KV_OK)
        e = mget_new(kv, keys, n, &o, &c);
    return e == KV_OK ? start(c, &o, done, arg) : e;
}

/* ---- batch ---- */

/* All of it has to be one request of one shard. */
static kv_err check_atomic(const kv_batch *b)
{
    size_t bytes = b->bytes.n + b->n * ATOMIC_OP_BYTES;
    if (b->n > LIMIT_BATCH || bytes > LIMIT_FRAME - KIB)
        return KV_TOO_LARGE;
    for (size_t i = 1; i < b->n; i++)
        if (slot_of_key(batch_item(b, i).key) != slot_of_key(batch_item(b, 0).key))
            return KV_CROSS_SLOT;
    return KV_OK;
}

static kv_err batch_new(kv_client *kv, const kv_batch *b, const kv_callopts *o,
                        struct many_call **out)
{
    size_t bytes = b->bytes.n + b->n * sizeof(struct client_item);
    kv_err e = handle_usable(kv);
    if (e == KV_OK && b->n == 0)
        e = KV_BAD_REQUEST;
    if (e == KV_OK && (o->flags & KV_ATOMIC))
        e = check_atomic(b);
    if (e == KV_OK)
        e = handle_admit(kv, bytes);
    if (e != KV_OK)
        return e;
    struct many_call *c = call_new(kv, KV_METHOD_BATCH, b->n, o);
    c->bytes = bytes;
    for (size_t i = 0; i < b->n; i++)
        c->items[i] = batch_item(b, i);
    *out = c;
    return KV_OK;
}

kv_err kv_batch_run(kv_client *kv, const kv_batch *b, const kv_callopts *opts, kv_results **out)
{
    kv_callopts o = handle_opts(opts);
    struct many_call *c;
    kv_err e = check_wait(kv, out);
    if (e == KV_OK)
        e = batch_new(kv, b, &o, &c);
    return e == KV_OK ? wait_for(c, out) : e;
}

kv_err kv_batch_run_async(kv_client *kv, const kv_batch *b, const kv_callopts *opts,
                          kv_many_done done, void *arg)
{
    kv_callopts o = handle_opts(opts);
    struct many_call *c;
    kv_err e = handle_usable(kv);
    if (e == KV_OK)
        e = check_async(&o, done != NULL);
    if (e == KV_OK)
        e = batch_new(kv, b, &o, &c);
    return e == KV_OK ? start(c, &o, done, arg) : e;
}
