#include "common/wire/mp.h"

#include <msgpack/pack.h>

#include "common/base/check.h"
#include "common/wire/mp_head.h"

/* ---- writing ---- */

static int mp_write(void *data, const char *p, size_t n)
{
    buf_append(data, p, n);
    return 0;
}

/* The packer keeps no state of its own between values, so each call makes one. The write callback
 * cannot fail, so neither can packing: results are not looked at. */
static msgpack_packer mp_packer(struct buf *b)
{
    msgpack_packer pk;
    msgpack_packer_init(&pk, b, mp_write);
    return pk;
}

void mp_put_nil(struct buf *b)
{
    msgpack_packer pk = mp_packer(b);
    msgpack_pack_nil(&pk);
}

void mp_put_bool(struct buf *b, bool v)
{
    msgpack_packer pk = mp_packer(b);
    if (v)
        msgpack_pack_true(&pk);
    else
        msgpack_pack_false(&pk);
}

void mp_put_uint(struct buf *b, uint64_t v)
{
    msgpack_packer pk = mp_packer(b);
    msgpack_pack_uint64(&pk, v);
}

void mp_put_int(struct buf *b, int64_t v)
{
    msgpack_packer pk = mp_packer(b);
    msgpack_pack_int64(&pk, v);
}

void mp_put_str(struct buf *b, const char *s)
{
    mp_put_strn(b, slice_str(s));
}

void mp_put_strn(struct buf *b, struct slice s)
{
    CHECK(s.n <= UINT32_MAX);
    buf_reserve(b, s.n + 5);
    msgpack_packer pk = mp_packer(b);
    msgpack_pack_str(&pk, s.n);
    msgpack_pack_str_body(&pk, s.p, s.n);
}

void mp_put_bin(struct buf *b, struct slice s)
{
    CHECK(s.n <= UINT32_MAX);
    buf_reserve(b, s.n + 5);
    msgpack_packer pk = mp_packer(b);
    msgpack_pack_bin(&pk, s.n);
    msgpack_pack_bin_body(&pk, s.p, s.n);
}

void mp_put_array(struct buf *b, uint32_t n)
{
    msgpack_packer pk = mp_packer(b);
    msgpack_pack_array(&pk, n);
}

void mp_put_map(struct buf *b, uint32_t n)
{
    msgpack_packer pk = mp_packer(b);
    msgpack_pack_map(&pk, n);
}

/* ---- reading ---- */

/* Reads the head at the cursor without moving it. False (and bad) if there is no whole value's
 * head, or its payload or children cannot fit in what is left. */
static inline bool mp_head_at(struct mp_reader *r, struct mp_head *h)
{
    if (r->bad || r->left.n == 0 || mp_head_read(r->left.p, r->left.n, h) != ERR_OK ||
        mp_head_payload(h) + mp_head_children(h) > r->left.n - h->size) {
        r->bad = true;
        return false;
    }
    return true;
}

static inline void mp_step(struct mp_reader *r, size_t n)
{
    r->left.p += n;
    r->left.n -= n;
}

/* Takes a head of the wanted type; payload and children stay. */
static inline bool mp_take(struct mp_reader *r, enum mp_type want, struct mp_head *h)
{
    if (!mp_head_at(r, h))
        return false;
    if (h->type != want) {
        r->bad = true;
        return false;
    }
    mp_step(r, h->size);
    return true;
}

enum mp_type mp_peek(const struct mp_reader *r)
{
    struct mp_head h;
    if (r->bad || r->left.n == 0 || mp_head_read(r->left.p, r->left.n, &h) == ERR_BAD_REQUEST)
        return MP_END;
    return h.type;
}

bool mp_get_nil(struct mp_reader *r)
{
    if (mp_peek(r) != MP_NIL)
        return false;
    mp_step(r, 1);
    return true;
}

bool mp_get_bool(struct mp_reader *r)
{
    struct mp_head h;
    return mp_take(r, MP_BOOL, &h) && h.value != 0;
}

uint64_t mp_get_uint(struct mp_reader *r)
{
    struct mp_head h;
    if (!mp_head_at(r, &h))
        return 0;
    /* Some packers write small positive numbers as signed ones. */
    if (h.type != MP_UINT && (h.type != MP_INT || (int64_t)h.value < 0)) {
        r->bad = true;
        return 0;
    }
    mp_step(r, h.size);
    return h.value;
}

uint64_t mp_get_upto(struct mp_reader *r, uint64_t max)
{
    uint64_t v = mp_get_uint(r);
    if (v > max) {
        r->bad = true;
        return 0;
    }
    return v;
}

uint32_t mp_get_u32(struct mp_reader *r)
{
    return (uint32_t)mp_get_upto(r, UINT32_MAX);
}

uint16_t mp_get_u16(struct mp_reader *r)
{
    return (uint16_t)mp_get_upto(r, UINT16_MAX);
}

int64_t mp_get_int(struct mp_reader *r)
{
    struct mp_head h;
    if (!mp_head_at(r, &h))
        return 0;
    if (h.type != MP_INT && (h.type != MP_UINT || h.value > INT64_MAX)) {
        r->bad = true;
        return 0;
    }
    mp_step(r, h.size);
    return (int64_t)h.value;
}

static inline struct slice mp_payload(struct mp_reader *r, size_t n)
{
    struct slice s = {r->left.p, n};
    mp_step(r, n);
    return s;
}

struct slice mp_get_str(struct mp_reader *r)
{
    struct mp_head h;
    if (!mp_take(r, MP_STR, &h))
        return (struct slice){0};
    return mp_payload(r, (size_t)h.value);
}

struct slice mp_get_bytes(struct mp_reader *r)
{
    struct mp_head h;
    if (!mp_head_at(r, &h))
        return (struct slice){0};
    if (h.type != MP_BIN && h.type != MP_STR) {
        r->bad = true;
        return (struct slice){0};
    }
    mp_step(r, h.size);
    return mp_payload(r, (size_t)h.value);
}

uint32_t mp_get_array(struct mp_reader *r)
{
    struct mp_head h;
    return mp_take(r, MP_ARRAY, &h) ? (uint32_t)h.value : 0;
}

uint32_t mp_get_map(struct mp_reader *r)
{
    struct mp_head h;
    return mp_take(r, MP_MAP, &h) ? (uint32_t)h.value : 0;
}

void mp_skip(struct mp_reader *r)
{
    /* No stack: how many values are still to come is all that matters, so depth costs nothing. */
    for (uint64_t open = 1; open > 0; open--) {
        struct mp_head h;
        if (!mp_head_at(r, &h))
            return;
        open += mp_head_children(&h);
        mp_step(r, h.size + (size_t)mp_head_payload(&h));
        if (open - 1 > r->left.n) {
            r->bad = true;
            return;
        }
    }
}

struct slice mp_get_raw(struct mp_reader *r)
{
    const uint8_t *start = r->left.p;
    mp_skip(r);
    if (r->bad)
        return (struct slice){0};
    return slice_of(start, (size_t)(r->left.p - start));
}

void mp_get_cstr(struct mp_reader *r, char *out, size_t cap)
{
    CHECK(cap > 0);
    out[0] = '\0';
    struct slice s = mp_get_str(r);
    if (s.n >= cap || (s.n && memchr(s.p, '\0', s.n))) {
        r->bad = true;
        return;
    }
    if (s.n)
        memcpy(out, s.p, s.n);
    out[s.n] = '\0';
}

void mp_get_id(struct mp_reader *r, uint8_t out[16])
{
    struct slice s = mp_get_bytes(r);
    if (s.n != 16) {
        r->bad = true;
        return;
    }
    memcpy(out, s.p, 16);
}

uint32_t mp_get_tuple(struct mp_reader *r, uint32_t least)
{
    uint32_t n = mp_get_array(r);
    if (n < least) {
        r->bad = true;
        return 0;
    }
    return n - least;
}

void mp_skip_n(struct mp_reader *r, uint32_t n)
{
    for (; n > 0 && !r->bad; n--)
        mp_skip(r);
}
