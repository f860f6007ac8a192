/* A batch of the engine as bytes, for the engines that apply it (engine.h has how it is made).
 *
 * Owner: as in engine.h.  Thread: as its owner.  Depends on: engine. */
#ifndef SHARDD_ENGINE_BATCH_H
#define SHARDD_ENGINE_BATCH_H

#include "shardd/engine.h"

/* Operations as they will be applied: { u8 kind, u32 key, u32 value, key, value }... */
struct engine_batch {
    struct buf ops;
    unsigned n;
};

enum engine_op_kind {
    ENGINE_OP_PUT = 1,
    ENGINE_OP_DELETE = 2,
    ENGINE_OP_DELETE_RANGE = 3, /* from `key` to before `value` */
};

struct engine_op {
    uint8_t kind;
    struct slice key, value; /* borrowed from the batch */
};

/* The next operation of a cursor over `ops`. */
static inline struct engine_op engine_op_next(struct cursor *c)
{
    struct engine_op op = {.kind = cursor_u8(c)};
    uint32_t key_n = cursor_u32(c), value_n = cursor_u32(c);
    op.key = cursor_bytes(c, key_n);
    op.value = cursor_bytes(c, value_n);
    return op;
}

#endif
