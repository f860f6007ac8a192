#include "shardd/command.h"

#include <string.h>

#include "common/base/check.h"
#include "common/base/limits.h"

#define FORMAT_1 1u
#define HEAD_SIZE 14u /* format, time, count, depends */
#define DEPENDS_AT 13u
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
    buf_u8(b, 0);
}

size_t command_op_size(const struct command_op *op)
{
    return OP_SIZE + (op->flags & COMMAND_IF_VERSION ? 8u : 0u) +
           (op->flags & COMMAND_EXPIRY ? 8u : 0u) +
           (op->flags & COMMAND_SESSION ? SESSION_SIZE + COMMAND_SESSION_ID : 0u) +
           (op->kind == COMMAND_INCR ? 8u : 0u) + op->key.n + op->value.n;
}

/* Little-endian; gives where to go on. An op is written into room that was made once: it is half of
 * what a put costs before it is proposed. */
static uint8_t *store(uint8_t *p, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        p[i] = (uint8_t)(v >> (8 * i));
    return p + bytes;
}

static uint8_t *store_bytes(uint8_t *p, const void *bytes, size_t n)
{
    if (n > 0)
        memcpy(p, bytes, n);
    return p + n;
}

static uint8_t *store_session(uint8_t *p, const struct command_op *op, bool same)
{
    CHECK(op->ack <= op->seq && op->seq - op->ack <= COMMAND_ACK_BEHIND);
    if (!same)
        p = store_bytes(p, op->sid, COMMAND_SESSION_ID);
    p = store(p, op->seq, 8);
    p = store(p, op->seq - op->ack, 4);
    return store(p, op->until_ms, 8);
}

void command_put_op(struct buf *b, const struct command_op *op, const uint8_t *last_sid)
{
    CHECK(op->key.n <= LIMIT_KEY && op->value.n <= LIMIT_VALUE_MAX);
    bool session = (op->flags & COMMAND_SESSION) != 0;
    bool same = session && last_sid && memcmp(last_sid, op->sid, COMMAND_SESSION_ID) == 0;
    buf_reserve(b, command_op_size(op));
    if (command_depends(op))
        b->p[DEPENDS_AT] = 1;
    uint8_t *p = b->p + b->n;
    *p++ = op->kind;
    *p++ = (uint8_t)(op->flags | (same ? COMMAND_SAME : 0));
    p = store(p, op->key.n, 2);
    p = store(p, op->value.n, 4);
    if (op->flags & COMMAND_IF_VERSION)
        p = store(p, op->if_version, 8);
    if (op->flags & COMMAND_EXPIRY)
        p = store(p, op->expiry_ms, 8);
    if (session)
        p = store_session(p, op, same);
    if (op->kind == COMMAND_INCR)
        p = store(p, (uint64_t)op->delta, 8);
    p = store_bytes(p, op->key.p, op->key.n);
    p = store_bytes(p, op->value.p, op->value.n);
    b->n = (size_t)(p - b->p);
}

void command_finish(struct buf *b, uint64_t time_ms, uint32_t n_ops)
{
    CHECK(b->n >= HEAD_SIZE);
    store(b->p + 1, time_ms, 8);
    store(b->p + 9, n_ops, 4);
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
    uint8_t depends = format == FORMAT_1 ? 1 : cursor_u8(&r.cursor);
    if (r.cursor.bad || depends > 1)
        return ERR_CORRUPT;
    r.depends = depends != 0;
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
    if (!r->depends && command_depends(&op))
        return ERR_CORRUPT;
    r->left--;
    *out = op;
    return ERR_OK;
}
