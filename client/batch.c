#include "client/batch.h"

#include <stdlib.h>

#include "common/base/limits.h"
#include "common/base/mem.h"

#define BATCH_BYTES_MAX GIB

kv_batch *kv_batch_create(void)
{
    return calloc(1, sizeof(kv_batch));
}

void kv_batch_destroy(kv_batch *b)
{
    if (!b)
        return;
    buf_close(&b->bytes);
    free(b->ops);
    free(b);
}

size_t kv_batch_count(const kv_batch *b)
{
    return b->n;
}

struct client_item batch_item(const struct kv_batch *b, size_t i)
{
    struct client_item item = b->ops[i].item;
    const uint8_t *at = b->bytes.p + b->ops[i].at;
    item.key = slice_of(at, item.key.n);
    item.value = slice_of(at + item.key.n, item.value.n);
    return item;
}

static kv_err check(const kv_batch *b, kv_slice key, kv_slice value)
{
    if (key.len == 0)
        return KV_KEY_EMPTY;
    if (key.len > LIMIT_KEY)
        return KV_KEY_TOO_LARGE;
    if (value.len > LIMIT_VALUE_MAX)
        return KV_VALUE_TOO_LARGE;
    if (b->n >= BATCH_OPS_MAX || b->bytes.n + key.len + value.len > BATCH_BYTES_MAX)
        return KV_BUSY;
    return KV_OK;
}

/* `item`: method, delta, and a ttl that the call itself gives. */
static kv_err add(kv_batch *b, struct client_item item, kv_slice key, kv_slice value,
                  const kv_callopts *opts)
{
    kv_callopts o = KV_CALLOPTS_INIT;
    kv_err e = check(b, key, value);
    if (e != KV_OK)
        return e;
    if (opts)
        memcpy(&o, opts, opts->size < sizeof(o) ? opts->size : sizeof(o));
    if (b->n == b->cap) {
        size_t cap = b->cap ? 2 * b->cap : 16;
        struct batch_op *ops = realloc(b->ops, cap * sizeof(*ops));
        if (!ops)
            return KV_NO_MEMORY;
        b->ops = ops;
        b->cap = cap;
    }
    item.if_absent = (o.flags & KV_IF_ABSENT) != 0;
    item.has_if_version = (o.flags & KV_IF_VERSION) != 0;
    item.if_version = o.if_version;
    if (item.method != KV_METHOD_TOUCH) {
        item.has_ttl = (o.flags & KV_TTL) != 0;
        item.ttl_ms = o.ttl_ms;
    }
    item.key.n = key.len;
    item.value.n = value.len;
    b->ops[b->n++] = (struct batch_op){.item = item, .at = b->bytes.n};
    buf_append(&b->bytes, key.data, key.len);
    if (value.len)
        buf_append(&b->bytes, value.data, value.len);
    return KV_OK;
}

kv_err kv_batch_put(kv_batch *b, kv_slice key, kv_slice value, const kv_callopts *opts)
{
    return add(b, (struct client_item){.method = KV_METHOD_PUT}, key, value, opts);
}

kv_err kv_batch_delete(kv_batch *b, kv_slice key, const kv_callopts *opts)
{
    return add(b, (struct client_item){.method = KV_METHOD_DELETE}, key, (kv_slice){0}, opts);
}

kv_err kv_batch_incr(kv_batch *b, kv_slice key, int64_t delta, const kv_callopts *opts)
{
    struct client_item item = {.method = KV_METHOD_INCR, .delta = delta};
    return add(b, item, key, (kv_slice){0}, opts);
}

kv_err kv_batch_touch(kv_batch *b, kv_slice key, uint64_t ttl_ms, const kv_callopts *opts)
{
    struct client_item item = {.method = KV_METHOD_TOUCH, .has_ttl = true, .ttl_ms = ttl_ms};
    return add(b, item, key, (kv_slice){0}, opts);
}

kv_err kv_batch_persist(kv_batch *b, kv_slice key, const kv_callopts *opts)
{
    return add(b, (struct client_item){.method = KV_METHOD_TOUCH}, key, (kv_slice){0}, opts);
}
