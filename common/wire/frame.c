#include "common/wire/frame.h"

#include "common/base/check.h"
#include "common/base/crc32c.h"

#define FRAME_CRC_AT 12u /* the checksum covers what is before it and what is after it */

static const uint8_t magic[4] = {'S', 'K', 'V', 'F'};

static void put_le32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static uint32_t get_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t frame_crc(const uint8_t *header, struct slice body)
{
    return crc32c(crc32c(0, header, FRAME_CRC_AT), body.p, body.n);
}

size_t frame_begin(struct buf *b, uint8_t type)
{
    size_t begin = b->n;
    uint8_t *h = buf_extend(b, FRAME_HEADER);
    memset(h, 0, FRAME_HEADER);
    memcpy(h, magic, sizeof(magic));
    h[8] = FRAME_VERSION;
    h[9] = type;
    return begin;
}

void frame_finish(struct buf *b, size_t begin)
{
    CHECK(begin <= b->n);
    CHECK(b->n - begin >= FRAME_HEADER);
    uint8_t *h = b->p + begin;
    CHECK(memcmp(h, magic, sizeof(magic)) == 0);
    size_t length = b->n - begin - FRAME_HEADER;
    CHECK(length <= UINT32_MAX);
    put_le32(h + 4, (uint32_t)length);
    put_le32(h + FRAME_CRC_AT, frame_crc(h, slice_of(h + FRAME_HEADER, length)));
}

enum err frame_split(struct slice in, size_t max, size_t *n)
{
    /* Strangers are told apart by what is there, without waiting for a whole header. */
    size_t known = in.n < sizeof(magic) ? in.n : sizeof(magic);
    if (known && memcmp(in.p, magic, known) != 0)
        return ERR_BAD_REQUEST;
    if (in.n > 8 && in.p[8] != FRAME_VERSION)
        return ERR_BAD_REQUEST;
    if (in.n < FRAME_HEADER) {
        *n = FRAME_HEADER;
        return ERR_INCOMPLETE;
    }
    if (in.p[10] != 0 || in.p[11] != 0)
        return ERR_BAD_REQUEST;
    uint32_t length = get_le32(in.p + 4);
    if (length > max)
        return ERR_TOO_LARGE;
    *n = FRAME_HEADER + (size_t)length;
    return in.n < *n ? ERR_INCOMPLETE : ERR_OK;
}

enum err frame_decode(struct slice in, uint8_t *type, struct slice *body)
{
    size_t n;
    enum err err = frame_split(in, UINT32_MAX, &n);
    if (err == ERR_INCOMPLETE || (err == ERR_OK && n != in.n))
        return ERR_BAD_REQUEST;
    if (err)
        return err;
    struct slice rest = slice_of(in.p + FRAME_HEADER, in.n - FRAME_HEADER);
    if (frame_crc(in.p, rest) != get_le32(in.p + FRAME_CRC_AT))
        return ERR_CORRUPT;
    *type = in.p[9];
    *body = rest;
    return ERR_OK;
}
