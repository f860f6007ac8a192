/* MessagePack: writing (through msgpack-c's packer into a buf) and reading.
 *
 * Reading is a bounds-checked cursor over bytes that skim() has passed; it never allocates. The hot
 * methods and all messages of ours use it. A reader that met a wrong type is `bad` and stays bad
 * (values read are then zero or empty): check once at the end.
 * Thread: any, no sharing.  Depends on: base, msgpack-c. */
#ifndef WIRE_MP_H
#define WIRE_MP_H

#include <stdbool.h>
#include "common/base/err.h"
#include "common/base/slice.h"

void mp_put_nil(struct buf *b);
void mp_put_bool(struct buf *b, bool v);
void mp_put_uint(struct buf *b, uint64_t v);
void mp_put_int(struct buf *b, int64_t v);
void mp_put_str(struct buf *b, const char *s);
void mp_put_strn(struct buf *b, struct slice s);
void mp_put_bin(struct buf *b, struct slice s);
void mp_put_array(struct buf *b, uint32_t n);
void mp_put_map(struct buf *b, uint32_t n);

enum mp_type {
    MP_NIL,
    MP_BOOL,
    MP_UINT,
    MP_INT,
    MP_FLOAT,
    MP_STR,
    MP_BIN,
    MP_ARRAY,
    MP_MAP,
    MP_EXT,
    MP_END
};

struct mp_reader {
    struct slice left;
    bool bad;
};
static inline struct mp_reader mp_reader_of(struct slice s)
{
    return (struct mp_reader){s, false};
}
enum mp_type mp_peek(const struct mp_reader *r); /* MP_END at the end or when bad */
bool mp_get_nil(struct mp_reader *r);            /* consumes a nil if there is one; never bad */
bool mp_get_bool(struct mp_reader *r);
uint64_t mp_get_uint(struct mp_reader *r);               /* bad if negative */
uint64_t mp_get_upto(struct mp_reader *r, uint64_t max); /* bad, and 0, if it is above `max` */
uint32_t mp_get_u32(struct mp_reader *r);                /* bad if it does not fit; so the next */
uint16_t mp_get_u16(struct mp_reader *r);
int64_t mp_get_int(struct mp_reader *r);
struct slice mp_get_str(struct mp_reader *r);
struct slice mp_get_bytes(struct mp_reader *r); /* bin or str: clients of all languages */
uint32_t mp_get_array(struct mp_reader *r);     /* the count; the elements follow. At most the
                                                bytes left, so it may size an allocation */
uint32_t mp_get_map(struct mp_reader *r);
struct slice mp_get_raw(struct mp_reader *r); /* one whole value, undecoded */
void mp_skip(struct mp_reader *r);
/* Copies a str of at most cap - 1 bytes, NUL-terminated; bad if longer or if it holds a NUL. */
void mp_get_cstr(struct mp_reader *r, char *out, size_t cap);
/* A bin or str of exactly 16 bytes: a cluster's id. */
void mp_get_id(struct mp_reader *r, uint8_t out[16]);

/* ---- what our messages are made of: maps of named fields, arrays that later versions lengthen */

static inline void mp_put_pair(struct buf *b, const char *key, uint64_t v)
{
    mp_put_str(b, key);
    mp_put_uint(b, v);
}

static inline void mp_put_pair_str(struct buf *b, const char *key, const char *v)
{
    mp_put_str(b, key);
    mp_put_str(b, v);
}

static inline void mp_put_pair_bool(struct buf *b, const char *key, bool v)
{
    mp_put_str(b, key);
    mp_put_bool(b, v);
}

static inline bool mp_key_is(struct slice key, const char *name)
{
    return slice_eq(key, slice_str(name));
}

/* Opens an array of at least `least` elements; how many there are beyond these, for mp_skip_n(). */
uint32_t mp_get_tuple(struct mp_reader *r, uint32_t least);
void mp_skip_n(struct mp_reader *r, uint32_t n);

#endif
