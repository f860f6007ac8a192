#include "shardd/command.h"

#include <string.h>

#include "common/base/check.h"
#include "common/base/limits.h"

#define HEAD_SIZE 13u /* format, time, count */
#define OP_SIZE 8u

void command_begin(struct buf *b)
{
    CHECK(b->n == 0);
    buf_u8(b, COMMAND_FORMAT);
    buf_u64(b, 0);
    buf_u32(b, 0);
}

size_t command_op_size(const struct command_op *op)
{
    return OP_SIZE + (op->flags & COMMAND_IF_VERSION ? 8u : 0u) + op->key.n + op->value.n;
}

void command_put_op(struct buf *b, const struct command_op *op)
{
    CHECK(op->key.n <= LIMIT_KEY && op->value.n <= LIMIT_VALUE_MAX);
    buf_reserve(b, command_op_size(op));
    buf_u8(b, op->kind);
    buf_u8(b, op->flags);
    buf_u16(b, (uint16_t)op->key.n);
    buf_u32(b, (uint32_t)op->value.n);
    if (op->flags & COMMAND_IF_VERSION)
        buf_u64(b, op->if_version);
    buf_append(b, op->key.p, op->key.n);
    buf_append(b, op->value.p, op->value.n);
}

static void store_le(uint8_t *p, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

void command_finish(struct buf *b, uint64_t time_ms, uint32_t n_ops)
{
    CHECK(b->n >= HEAD_SIZE);
    store_le(b->p + 1, time_ms, 8);
    store_le(b->p + 9, n_ops, 4);
}

enum err command_open(struct slice payload, struct command_reader *out)
{
    struct command_reader r = {.cursor = cursor_of(payload)};
    uint8_t format = cursor_u8(&r.cursor);
    r.time_ms = cursor_u64(&r.cursor);
    r.left = cursor_u32(&r.cursor);
    if (r.cursor.bad)
        return ERR_CORRUPT;
    if (format != COMMAND_FORMAT)
        return ERR_FORMAT;
    if (r.left > payload.n / OP_SIZE)
        return ERR_CORRUPT;
    *out = r;
    return ERR_OK;
}

enum err command_next(struct command_reader *r, struct command_op *out)
{
    CHECK(r->left > 0);
    struct cursor *c = &r->cursor;
    struct command_op op = {.kind = cursor_u8(c), .flags = cursor_u8(c)};
    size_t key_size = cursor_u16(c);
    size_t value_size = cursor_u32(c);
    if (op.flags & COMMAND_IF_VERSION)
        op.if_version = cursor_u64(c);
    op.key = cursor_bytes(c, key_size);
    op.value = cursor_bytes(c, value_size);
    if (c->bad || (op.kind != COMMAND_PUT && op.kind != COMMAND_DELETE) || key_size == 0 ||
        key_size > LIMIT_KEY || value_size > LIMIT_VALUE_MAX)
        return ERR_CORRUPT;
    r->left--;
    *out = op;
    return ERR_OK;
}
