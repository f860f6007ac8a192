#include "client/token.h"

#include "common/base/crc32c.h"
#include "common/base/limits.h"

#define MAGIC "kv1."
#define MAGIC_LEN 4u
/* A run of each slot: the longest that there can be. */
#define BYTES_MAX (16u + LIMIT_SLOTS * 11u + 4u)

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void put_varint(struct buf *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        buf_u8(b, (uint8_t)(v | 0x80));
    buf_u8(b, (uint8_t)v);
}

static void put_base64(struct buf *out, struct slice in)
{
    for (size_t i = 0; i < in.n; i += 3) {
        size_t n = in.n - i < 3 ? in.n - i : 3;
        uint32_t v = 0;
        for (size_t k = 0; k < 3; k++)
            v = v << 8 | (k < n ? in.p[i + k] : 0u);
        for (size_t k = 0; k <= n; k++)
            buf_u8(out, (uint8_t)digits[v >> (18 - 6 * k) & 63]);
    }
}

void token_encode(const uint8_t cluster[16], const uint64_t *seen, struct buf *out)
{
    struct buf b = {0};
    buf_append(&b, cluster, 16);
    for (unsigned from = 0, to; from < LIMIT_SLOTS; from = to) {
        uint64_t version = seen ? seen[from] : 0;
        for (to = from + 1; to < LIMIT_SLOTS && (seen ? seen[to] : 0) == version;)
            to++;
        put_varint(&b, to - from);
        put_varint(&b, version);
    }
    uint32_t crc = crc32c(0, b.p, b.n);
    for (unsigned i = 0; i < 4; i++)
        buf_u8(&b, (uint8_t)(crc >> 8 * i));
    buf_append(out, MAGIC, MAGIC_LEN);
    put_base64(out, buf_slice(&b));
    buf_close(&b);
}

static int value_of(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

static bool get_base64(struct slice in, struct buf *out)
{
    uint32_t v = 0;
    unsigned bits = 0;
    for (size_t i = 0; i < in.n; i++) {
        int d = value_of(in.p[i]);
        if (d < 0)
            return false;
        v = v << 6 | (uint32_t)d;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            buf_u8(out, (uint8_t)(v >> bits));
        }
    }
    return in.n % 4 != 1;
}

static bool get_varint(struct slice *in, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && in->n; shift += 7) {
        uint8_t c = *in->p;
        *in = slice_of(in->p + 1, in->n - 1);
        if (shift == 63 && c > 1)
            return false; /* does not fit */
        v |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80) {
            *out = v;
            return true;
        }
    }
    return false;
}

static bool get_runs(struct slice in, uint64_t *seen)
{
    uint64_t slot = 0, count, version;
    while (slot < LIMIT_SLOTS) {
        if (!get_varint(&in, &count) || !get_varint(&in, &version) || count == 0 ||
            count > LIMIT_SLOTS - slot)
            return false;
        while (count--)
            seen[slot++] = version;
    }
    return in.n == 0;
}

enum err token_decode(struct slice text, uint8_t cluster[16], uint64_t *seen)
{
    struct buf b = {0};
    uint32_t crc = 0;
    if (text.n < MAGIC_LEN || memcmp(text.p, MAGIC, MAGIC_LEN) != 0 ||
        text.n > MAGIC_LEN + BYTES_MAX / 3 * 4 + 4)
        return ERR_BAD_REQUEST;
    bool ok = get_base64(slice_of(text.p + MAGIC_LEN, text.n - MAGIC_LEN), &b) && b.n >= 20;
    for (unsigned i = 0; ok && i < 4; i++)
        crc |= (uint32_t)b.p[b.n - 4 + i] << 8 * i;
    ok = ok && crc == crc32c(0, b.p, b.n - 4) && get_runs(slice_of(b.p + 16, b.n - 20), seen);
    if (ok)
        memcpy(cluster, b.p, 16);
    buf_close(&b);
    return ok ? ERR_OK : ERR_BAD_REQUEST;
}
