/* slice: borrowed bytes. buf: owned, growing bytes.
 * Thread: any, no sharing.  Depends on: mem. */
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *p; /* may be NULL when n is 0 */
    size_t n;
};

struct buf {
    uint8_t *p;
    size_t n, cap;
};

static inline struct slice slice_of(const void *p, size_t n)
{
    return (struct slice){(const uint8_t *)p, n};
}
static inline struct slice slice_str(const char *s)
{
    return (struct slice){(const uint8_t *)s, strlen(s)};
}
static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
static inline struct slice buf_slice(const struct buf *b)
{
    return (struct slice){b->p, b->n};
}

/* A zeroed struct buf is an empty one. */
void buf_close(struct buf *b);                 /* frees, leaves it empty and usable */
void buf_reserve(struct buf *b, size_t extra); /* room for `extra` more bytes */
void buf_append(struct buf *b, const void *p, size_t n);
/* Grows by n uninitialised bytes and returns their start. */
uint8_t *buf_extend(struct buf *b, size_t n);
void buf_u8(struct buf *b, uint8_t v);
/* Little-endian fixed width, the order of every binary format of ours. */
void buf_u16(struct buf *b, uint16_t v);
void buf_u32(struct buf *b, uint32_t v);
void buf_u64(struct buf *b, uint64_t v);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Drops the first n bytes. */
void buf_consume(struct buf *b, size_t n);
static inline void buf_clear(struct buf *b)
{
    b->n = 0;
}

/* A bounds-checked little-endian reader over a slice: a read past the end sets `bad`, gives zeros
 * and empty slices, and stays bad: check once at the end. */
struct cursor {
    struct slice left;
    bool bad;
};
static inline struct cursor cursor_of(struct slice s)
{
    return (struct cursor){s, false};
}
uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_u16(struct cursor *c);
uint32_t cursor_u32(struct cursor *c);
uint64_t cursor_u64(struct cursor *c);
struct slice cursor_bytes(struct cursor *c, size_t n); /* borrowed from the underlying slice */

#endif
