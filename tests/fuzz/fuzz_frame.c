/* The peer port's bytes. A fuzzer cannot guess checksums, so the input is also taken as a frame's
 * body: framed, it must come back whole; and with the input's checksum set right, decoding must
 * agree with splitting. */
#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "common/base/limits.h"
#include "common/wire/frame.h"
#include "tests/fuzz/fuzz.h"

static void as_body(struct slice in)
{
    struct buf b = {0};
    struct slice body;
    uint8_t type;
    size_t n;
    size_t begin = frame_begin(&b, FRAME_MESSAGES);
    buf_append(&b, in.p, in.n);
    frame_finish(&b, begin);
    CHECK(frame_split(buf_slice(&b), in.n, &n) == ERR_OK);
    CHECK(n == b.n);
    CHECK(frame_decode(buf_slice(&b), &type, &body) == ERR_OK);
    CHECK(type == FRAME_MESSAGES);
    CHECK(slice_eq(body, in));
    buf_close(&b);
}

static void as_frame_with_checksum(struct slice in)
{
    struct buf b = {0};
    struct slice body;
    uint8_t type;
    size_t n;
    buf_append(&b, in.p, in.n);
    uint32_t crc = crc32c(crc32c(0, b.p, 12), b.p + FRAME_HEADER, b.n - FRAME_HEADER);
    for (int i = 0; i < 4; i++)
        b.p[12 + i] = (uint8_t)(crc >> (8 * i));
    bool split = frame_split(buf_slice(&b), LIMIT_PEER_FRAME, &n) == ERR_OK && n == b.n;
    bool decoded = frame_decode(buf_slice(&b), &type, &body) == ERR_OK;
    CHECK(split == decoded);
    buf_close(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size);
    while (in.n) {
        struct slice body;
        uint8_t type;
        size_t n = 0;
        enum err err = frame_split(in, LIMIT_PEER_FRAME, &n);
        if (err == ERR_INCOMPLETE)
            CHECK(n > in.n);
        if (err)
            break;
        CHECK(n <= in.n);
        if (frame_decode(slice_of(in.p, n), &type, &body) == ERR_OK)
            CHECK(body.n == n - FRAME_HEADER);
        in.p += n;
        in.n -= n;
    }
    as_body(slice_of(data, size));
    if (size >= FRAME_HEADER)
        as_frame_with_checksum(slice_of(data, size));
    return 0;
}
