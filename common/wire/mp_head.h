/* The head of one MessagePack value: the only place that knows the format's tag bytes when reading.
 * Shared by skim.c and mp.c, inline because both live in its inner loop.
 * Thread: any, pure.  Source: github.com/msgpack/msgpack/blob/master/spec.md. */
#ifndef WIRE_MP_HEAD_H
#define WIRE_MP_HEAD_H

#include "common/wire/mp.h"

struct mp_head {
    enum mp_type type;
    /* Bytes of the head: the tag, a length or count, an ext's type, a number's value. */
    uint32_t size;
    /* By type. bool: 0 or 1. uint, int: the value. float: its bits. str, bin, ext: bytes that
     * follow. array: elements. map: pairs. */
    uint64_t value;
};

static inline uint64_t mp_be(const uint8_t *p, uint32_t width)
{
    switch (width) {
    case 1:
        return p[0];
    case 2: {
        uint16_t v;
        memcpy(&v, p, 2);
        return __builtin_bswap16(v);
    }
    case 4: {
        uint32_t v;
        memcpy(&v, p, 4);
        return __builtin_bswap32(v);
    }
    default: {
        uint64_t v;
        memcpy(&v, p, 8);
        return __builtin_bswap64(v);
    }
    }
}

#define MP_TAGS_FIRST 0xc0u
#define MP_TAGS_END 0xe0u

/* Tags 0xc0 to 0xdf: type, then the bytes of the number, length or count after the tag. Width 0:
 * nothing follows the tag. */
struct mp_tag {
    uint8_t type, width;
};
static const struct mp_tag mp_tags[MP_TAGS_END - MP_TAGS_FIRST] = {
    {MP_NIL, 0},   {MP_END, 0},   {MP_BOOL, 0}, {MP_BOOL, 0},              /* c1 is never used */
    {MP_BIN, 1},   {MP_BIN, 2},   {MP_BIN, 4},                             /* c4 */
    {MP_EXT, 1},   {MP_EXT, 2},   {MP_EXT, 4},                             /* c7 */
    {MP_FLOAT, 4}, {MP_FLOAT, 8},                                          /* ca */
    {MP_UINT, 1},  {MP_UINT, 2},  {MP_UINT, 4}, {MP_UINT, 8},              /* cc */
    {MP_INT, 1},   {MP_INT, 2},   {MP_INT, 4},  {MP_INT, 8},               /* d0 */
    {MP_EXT, 0},   {MP_EXT, 0},   {MP_EXT, 0},  {MP_EXT, 0},  {MP_EXT, 0}, /* d4: 1 to 16 */
    {MP_STR, 1},   {MP_STR, 2},   {MP_STR, 4},                             /* d9 */
    {MP_ARRAY, 2}, {MP_ARRAY, 4}, {MP_MAP, 2},  {MP_MAP, 4},               /* dc */
};

/* A signed number of `width` bytes, extended to 64 bits. */
static inline uint64_t mp_sign_extend(uint64_t v, uint32_t width)
{
    uint32_t shift = 64 - 8 * width;
    return (uint64_t)((int64_t)(v << shift) >> shift);
}

static inline enum err mp_head_tagged(const uint8_t *p, size_t n, struct mp_head *out)
{
    struct mp_tag tag = mp_tags[p[0] - MP_TAGS_FIRST];
    out->type = (enum mp_type)tag.type;
    if (tag.width == 0) {
        if (tag.type == MP_END)
            return ERR_BAD_REQUEST;
        out->value = tag.type == MP_BOOL ? p[0] & 1u : 0;
        out->size = 1;
        if (tag.type == MP_EXT) {
            out->value = 1ULL << (p[0] - 0xd4);
            out->size = 2; /* the ext's own type byte */
        }
        return n < out->size ? ERR_INCOMPLETE : ERR_OK;
    }
    out->size = 1u + tag.width + (tag.type == MP_EXT);
    if (n < out->size)
        return ERR_INCOMPLETE;
    out->value = mp_be(p + 1, tag.width);
    if (tag.type == MP_INT)
        out->value = mp_sign_extend(out->value, tag.width);
    return ERR_OK;
}

/* The head at p, of which n >= 1 bytes may be read. ERR_INCOMPLETE: out->size bytes are needed.
 * ERR_BAD_REQUEST: no such tag. */
static inline enum err mp_head_read(const uint8_t *p, size_t n, struct mp_head *out)
{
    uint8_t t = p[0];
    out->size = 1;
    if (t < 0x80) {
        out->type = MP_UINT;
        out->value = t;
    } else if (t < 0x90) {
        out->type = MP_MAP;
        out->value = t & 0x0fu;
    } else if (t < 0xa0) {
        out->type = MP_ARRAY;
        out->value = t & 0x0fu;
    } else if (t < 0xc0) {
        out->type = MP_STR;
        out->value = t & 0x1fu;
    } else if (t >= 0xe0) {
        out->type = MP_INT;
        out->value = mp_sign_extend(t, 1);
    } else {
        return mp_head_tagged(p, n, out);
    }
    return ERR_OK;
}

/* Bytes after the head that belong to the value itself. */
static inline uint64_t mp_head_payload(const struct mp_head *h)
{
    return h->type == MP_STR || h->type == MP_BIN || h->type == MP_EXT ? h->value : 0;
}

/* Values after the head that belong to the value. */
static inline uint64_t mp_head_children(const struct mp_head *h)
{
    if (h->type == MP_ARRAY)
        return h->value;
    return h->type == MP_MAP ? 2 * h->value : 0;
}

#endif
