#include "shardd/engine_batch.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/limits.h"
#include "common/base/mem.h"

#define BATCH_KEEP (1 * MIB) /* a batch keeps this much memory when it is cleared */

struct engine_batch *engine_batch_create(void)
{
    return mem_zalloc(sizeof(struct engine_batch));
}

void engine_batch_destroy(struct engine_batch *b)
{
    if (!b)
        return;
    buf_close(&b->ops);
    free(b);
}

void engine_batch_clear(struct engine_batch *b)
{
    b->n = 0;
    buf_clear(&b->ops);
    if (b->ops.cap > BATCH_KEEP)
        buf_close(&b->ops);
}

static void add(struct engine_batch *b, uint8_t kind, struct slice key, struct slice head,
                struct slice body)
{
    buf_reserve(&b->ops, 9 + key.n + head.n + body.n);
    buf_u8(&b->ops, kind);
    buf_u32(&b->ops, (uint32_t)key.n);
    buf_u32(&b->ops, (uint32_t)(head.n + body.n));
    buf_append(&b->ops, key.p, key.n);
    buf_append(&b->ops, head.p, head.n);
    buf_append(&b->ops, body.p, body.n);
    b->n++;
}

void engine_batch_put(struct engine_batch *b, struct slice key, struct slice value)
{
    add(b, ENGINE_OP_PUT, key, value, slice_of(NULL, 0));
}

void engine_batch_put2(struct engine_batch *b, struct slice key, struct slice head,
                       struct slice body)
{
    add(b, ENGINE_OP_PUT, key, head, body);
}

void engine_batch_delete(struct engine_batch *b, struct slice key)
{
    add(b, ENGINE_OP_DELETE, key, slice_of(NULL, 0), slice_of(NULL, 0));
}

void engine_batch_delete_range(struct engine_batch *b, struct slice from, struct slice to)
{
    add(b, ENGINE_OP_DELETE_RANGE, from, to, slice_of(NULL, 0));
}

/* Order of keys: bytewise. */
static int key_cmp(struct slice a, struct slice b)
{
    int order = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return order != 0 ? order : (a.n > b.n) - (a.n < b.n);
}

uint64_t engine_batch_copy(const struct engine_batch *from, struct slice first, struct slice end,
                           struct engine_batch *to)
{
    struct cursor c = cursor_of(buf_slice(&from->ops));
    size_t before = to->ops.n;

    for (unsigned i = 0; i < from->n; i++) {
        struct engine_op op = engine_op_next(&c);
        if (op.kind != ENGINE_OP_DELETE_RANGE && key_cmp(op.key, first) >= 0 &&
            key_cmp(op.key, end) < 0)
            add(to, op.kind, op.key, op.value, slice_of(NULL, 0));
    }
    return to->ops.n - before;
}

unsigned engine_batch_count(const struct engine_batch *b)
{
    return b->n;
}
