/* A segment of the write-ahead log as recovery reads it. A fuzzer cannot guess checksums, so the
 * first byte says whether they are made right along the commits it happens to describe. */
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "common/wal/wal_format.h"
#include "tests/fuzz/fuzz.h"

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t get64(const uint8_t *p)
{
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}

static void put(uint8_t *p, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

/* Seals the commit at p as far as its lengths make sense; wrong ones stay wrong. */
static void seal(uint8_t *p, size_t n, uint32_t seed, uint64_t lsn)
{
    if (n < WAL_COMMIT_HEADER)
        return;
    uint32_t count = get32(p + 28), sum = 0;
    uint64_t at = WAL_COMMIT_HEADER;
    uint8_t place[8];
    for (uint32_t i = 0; i < count && at + WAL_RECORD_HEADER <= n; i++) {
        uint64_t used = WAL_RECORD_HEADER + (uint64_t)wal_record_length(p + at);
        if (used > n - at)
            break;
        put(place, lsn + at, 8);
        put(p + at, crc32c(crc32c(seed, place, 8), p + at + 4, used - 4), 4);
        sum = crc32c(sum, p + at, 4);
        at += wal_record_size(used - WAL_RECORD_HEADER);
    }
    struct wal_commit_header h = {.sequence = get64(p + 8),
                                  .oldest = get64(p + 16),
                                  .length = get32(p + 24),
                                  .count = count,
                                  .records_crc = sum};
    wal_commit_encode(&h, seed, lsn, p);
}

/* Walks a commit that passed: all of it lies inside, and encodes to the same bytes. */
static void walk(struct slice s, uint32_t seed, uint64_t lsn, const struct wal_commit_header *h)
{
    CHECK(h->length <= s.n && h->length >= WAL_COMMIT_HEADER);
    uint64_t at = WAL_COMMIT_HEADER;
    for (uint32_t i = 0; i < h->count; i++) {
        struct slice rest = {s.p + at, h->length - at};
        struct wal_record r;
        struct slice payload;
        CHECK(wal_record_verify(rest, seed, lsn + at));
        wal_record_decode(rest, &r, &payload);
        CHECK(payload.p + payload.n <= s.p + h->length);
        CHECK(r.kind == rest.p[33] && r.index == get64(rest.p + 16));
        at += wal_record_size(payload.n);
    }
    CHECK(at == h->length);
    struct wal_commit_header again;
    CHECK(!wal_commit_verify(s, seed + 1, lsn, &again));
    CHECK(!wal_commit_verify(s, seed, lsn + WAL_BLOCK, &again));
    CHECK(!wal_commit_verify((struct slice){s.p, h->length - 1}, seed, lsn, &again));
}

/* A record on its own, at any place. */
static void record(struct slice in)
{
    struct wal_record r = {1, 2, 3, WAL_ENTRY, 4}, back;
    struct slice payload;
    size_t n = wal_record_size(in.n);
    uint8_t *p = malloc(n);
    CHECK(p);
    wal_record_encode(&r, in, 5, 6, p);
    CHECK(wal_record_verify(slice_of(p, n), 5, 6));
    CHECK(!wal_record_verify(slice_of(p, n), 5, 7));
    CHECK(!wal_record_verify(slice_of(p, n - 8), 5, 6));
    wal_record_decode(slice_of(p, n), &back, &payload);
    CHECK(slice_eq(payload, in) && back.term == 3 && back.group == 1);
    free(p);
    if (wal_record_verify(in, 0, 0))
        wal_record_decode(in, &back, &payload);
}

static void segment(uint8_t *p, size_t n, bool right)
{
    struct wal_segment_header h = {.number = 7, .size = 1 << 20, .log = 1, .salt = 2};
    const char *why;
    uint32_t version;
    if (right && n >= WAL_BLOCK)
        wal_segment_header_encode(&h, p);
    if (wal_segment_header_decode(slice_of(p, n), &h, &why, &version) != ERR_OK)
        return;
    uint32_t seed = wal_segment_seed(&h);
    uint64_t base = h.number * h.size, offset;
    struct wal_commit_header c;
    if (right) {
        for (size_t at = WAL_BLOCK; at < n; at += WAL_BLOCK)
            seal(p + at, n - at, seed, base + at);
    }
    for (uint64_t at = WAL_BLOCK;
         at < n && wal_find_commit(slice_of(p, n), at, seed, base, &offset, &c);
         at = offset + WAL_BLOCK) {
        CHECK(offset >= at && offset % WAL_BLOCK == 0);
        walk(slice_of(p + offset, n - offset), seed, base + offset, &c);
    }
}

static void name(const uint8_t *data, size_t size)
{
    char text[64];
    char again[WAL_NAME_MAX];
    uint64_t number;
    size_t n = size < sizeof text - 1 ? size : sizeof text - 1;
    memcpy(text, data, n);
    text[n] = 0;
    enum wal_name kind = wal_name_parse(text, &number);
    if (kind == WAL_NAME_OTHER)
        return;
    wal_name_format(kind, number, again);
    CHECK(strcmp(text, again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    name(data + 1, size - 1);
    record(slice_of(data + 1, size - 1));
    uint8_t kind = data[0] % 3;
    /* kind 2: the input is commits only, a header block is put before it. */
    size_t before = kind == 2 ? WAL_BLOCK : 0;
    uint8_t *copy = malloc(before + size);
    CHECK(copy);
    memset(copy, 0, before + size);
    memcpy(copy + before, data + 1, size - 1);
    segment(copy, before + size - 1, kind != 0);
    free(copy);
    return 0;
}
