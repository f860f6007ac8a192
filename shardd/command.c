#include "shardd/command.h"

#include <string.h>

#include "common/base/check.h"
#include "common/base/limits.h"

#define FORMAT_1 1u
#define HEAD_SIZE 13u /* format, time, count */
#define OP_SIZE 8u
#define SESSION_SIZE 20u /* without the sid */
#define FLAGS_1 (COMMAND_IF_VERSION | COMMAND_IF_ABSENT)
#define FLAGS (FLAGS_1 | COMMAND_EXPIRY | COMMAND_SESSION | COMMAND_SAME | COMMAND_MORE)

void command_begin(struct buf *b)
{
    CHECK(b->n == 0);
    buf_u8(b, COMMAND_FORMAT);
    buf_u64(b, 0);
    buf_u32(b, 0);
}

size_t command_op_size(const struct command_op *op)
{
    return OP_SIZE + (op->flags & COMMAND_IF_VERSION ? 8u : 0u) +
           (op->flags & COMMAND_EXPIRY ? 8u : 0u) +
           (op->flags & COMMAND_SESSION ? SESSION_SIZE + COMMAND_SESSION_ID : 0u) +
           (op->kind == COMMAND_INCR ? 8u : 0u) + op->key.n + op->value.n;
}

static void put_session(struct buf *b, const struct command_op *op, bool same)
{
    CHECK(op->ack <= op->seq && op->seq - op->ack <= COMMAND_ACK_BEHIND);
    if (!same)
        buf_append(b, op->sid, COMMAND_SESSION_ID);
    buf_u64(b, op->seq);
    buf_u32(b, (uint32_t)(op->seq - op->ack));
    buf_u64(b, op->until_ms);
}

void command_put_op(struct buf *b, const struct command_op *op, const uint8_t *last_sid)
{
    CHECK(op->key.n <= LIMIT_KEY && op->value.n <= LIMIT_VALUE_MAX);
    bool session = (op->flags & COMMAND_SESSION) != 0;
    bool same = session && last_sid && memcmp(last_sid, op->sid, COMMAND_SESSION_ID) == 0;
    buf_reserve(b, command_op_size(op));
    buf_u8(b, op->kind);
    buf_u8(b, (uint8_t)(op->flags | (same ? COMMAND_SAME : 0)));
    buf_u16(b, (uint16_t)op->key.n);
    buf_u32(b, (uint32_t)op->value.n);
    if (op->flags & COMMAND_IF_VERSION)
        buf_u64(b, op->if_version);
    if (op->flags & COMMAND_EXPIRY)
        buf_u64(b, op->expiry_ms);
    if (session)
        put_session(b, op, same);
    if (op->kind == COMMAND_INCR)
        buf_u64(b, (uint64_t)op->delta);
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
    if (format != COMMAND_FORMAT && format != FORMAT_1)
        return ERR_FORMAT;
    if (r.left > payload.n / OP_SIZE)
        return ERR_CORRUPT;
    *out = r;
    return ERR_OK;
}

static void get_session(struct command_reader *r, struct command_op *op)
{
    struct cursor *c = &r->cursor;
    if (!(op->flags & COMMAND_SAME)) {
        struct slice sid = cursor_bytes(c, COMMAND_SESSION_ID);
        if (!c->bad)
            r->sid = sid.p;
    }
    op->sid = r->sid;
    op->seq = cursor_u64(c);
    uint32_t behind = cursor_u32(c);
    op->until_ms = cursor_u64(c);
    if (!r->sid || behind > op->seq)
        c->bad = true;
    else
        op->ack = op->seq - behind;
    op->flags &= (uint8_t)~COMMAND_SAME;
}

enum err command_next(struct command_reader *r, struct command_op *out)
{
    CHECK(r->left > 0);
    struct cursor *c = &r->cursor;
    struct command_op op = {.kind = cursor_u8(c), .flags = cursor_u8(c)};
    size_t key_size = cursor_u16(c);
    size_t value_size = cursor_u32(c);
    if (c->bad)
        return ERR_CORRUPT;
    /* Of a newer release: what it means must not be guessed. */
    if (op.kind < COMMAND_PUT || op.kind > COMMAND_TOUCH || (op.flags & ~FLAGS))
        return ERR_FORMAT;
    if (op.flags & COMMAND_IF_VERSION)
        op.if_version = cursor_u64(c);
    if (op.flags & COMMAND_EXPIRY)
        op.expiry_ms = cursor_u64(c);
    if (op.flags & COMMAND_SESSION)
        get_session(r, &op);
    if (op.kind == COMMAND_INCR)
        op.delta = (int64_t)cursor_u64(c);
    op.key = cursor_bytes(c, key_size);
    op.value = cursor_bytes(c, value_size);
    if (c->bad || key_size == 0 || key_size > LIMIT_KEY || value_size > LIMIT_VALUE_MAX ||
        (op.flags & COMMAND_MORE && r->left == 1) || (op.flags & COMMAND_SAME))
        return ERR_CORRUPT;
    r->left--;
    *out = op;
    return ERR_OK;
}
