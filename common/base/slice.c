#include "common/base/slice.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"

#define BUF_FIRST_CAP 64u

void buf_close(struct buf *b)
{
    free(b->p);
    *b = (struct buf){0};
}

void buf_reserve(struct buf *b, size_t extra)
{
    if (extra <= b->cap - b->n)
        return;
    CHECK(extra <= SIZE_MAX / 2 - b->n);
    size_t cap = b->cap ? b->cap : BUF_FIRST_CAP;
    while (cap < b->n + extra)
        cap *= 2;
    b->p = mem_realloc(b->p, cap);
    b->cap = cap;
}

uint8_t *buf_extend(struct buf *b, size_t n)
{
    buf_reserve(b, n);
    if (!b->p) /* n was 0: still give a pointer that may be added to */
        buf_reserve(b, 1);
    uint8_t *p = b->p + b->n;
    b->n += n;
    return p;
}

void buf_append(struct buf *b, const void *p, size_t n)
{
    if (n == 0)
        return;
    memcpy(buf_extend(b, n), p, n);
}

void buf_u8(struct buf *b, uint8_t v)
{
    *buf_extend(b, 1) = v;
}

static void buf_le(struct buf *b, uint64_t v, size_t n)
{
    uint8_t *p = buf_extend(b, n);
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

void buf_u16(struct buf *b, uint16_t v)
{
    buf_le(b, v, 2);
}

void buf_u32(struct buf *b, uint32_t v)
{
    buf_le(b, v, 4);
}

void buf_u64(struct buf *b, uint64_t v)
{
    buf_le(b, v, 8);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    buf_reserve(b, 1);
    int n = vsnprintf((char *)b->p + b->n, b->cap - b->n, fmt, args);
    va_end(args);
    CHECK(n >= 0);
    if ((size_t)n >= b->cap - b->n) {
        buf_reserve(b, (size_t)n + 1); /* vsnprintf writes a NUL, which is not counted */
        int m = vsnprintf((char *)b->p + b->n, b->cap - b->n, fmt, again);
        CHECK(m == n);
    }
    va_end(again);
    b->n += (size_t)n;
}

void buf_consume(struct buf *b, size_t n)
{
    CHECK(n <= b->n);
    if (n == 0)
        return;
    memmove(b->p, b->p + n, b->n - n);
    b->n -= n;
}

/* n <= 8 bytes, little-endian; 0 past the end. */
static uint64_t cursor_le(struct cursor *c, size_t n)
{
    if (c->bad || c->left.n < n) {
        c->bad = true;
        return 0;
    }
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)c->left.p[i] << (8 * i);
    c->left.p += n;
    c->left.n -= n;
    return v;
}

uint8_t cursor_u8(struct cursor *c)
{
    return (uint8_t)cursor_le(c, 1);
}

uint16_t cursor_u16(struct cursor *c)
{
    return (uint16_t)cursor_le(c, 2);
}

uint32_t cursor_u32(struct cursor *c)
{
    return (uint32_t)cursor_le(c, 4);
}

uint64_t cursor_u64(struct cursor *c)
{
    return cursor_le(c, 8);
}

struct slice cursor_bytes(struct cursor *c, size_t n)
{
    if (c->bad || c->left.n < n) {
        c->bad = true;
        return (struct slice){0};
    }
    struct slice s = {c->left.p, n};
    if (n) {
        c->left.p += n;
        c->left.n -= n;
    }
    return s;
}
