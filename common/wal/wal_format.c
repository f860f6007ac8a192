#include "common/wal/wal_format.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/crc32c.h"

static const char SEGMENT_MAGIC[8] = {'S', 'K', 'V', 'W', 'A', 'L', 'S', 'G'};
static const char COMMIT_MAGIC[8] = {'S', 'K', 'V', 'W', 'A', 'L', 'C', 'M'};

enum { HEADER_CRC = 48, COMMIT_CRC = 44 };

static void put32(uint8_t *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof v);
}

static void put64(uint8_t *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, sizeof v);
}

static uint32_t get32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return le32toh(v);
}

static uint64_t get64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return le64toh(v);
}

/* Start value of the checksum of something that stands at `lsn`. */
static uint32_t seed_at(uint32_t seed, uint64_t lsn)
{
    uint8_t place[8];
    put64(place, lsn);
    return crc32c(seed, place, sizeof place);
}

void wal_segment_header_encode(const struct wal_segment_header *h, uint8_t out[WAL_BLOCK])
{
    memset(out, 0, WAL_BLOCK);
    memcpy(out, SEGMENT_MAGIC, sizeof SEGMENT_MAGIC);
    put32(out + 8, WAL_VERSION);
    put64(out + 16, h->number);
    put64(out + 24, h->size);
    put64(out + 32, h->log);
    put64(out + 40, h->salt);
    put32(out + HEADER_CRC, crc32c(0, out, HEADER_CRC));
}

enum err wal_segment_header_decode(struct slice block, struct wal_segment_header *out,
                                   const char **why, uint32_t *version)
{
    *version = 0;
    if (block.n < WAL_BLOCK) {
        *why = "the file is shorter than its header";
        return ERR_CORRUPT;
    }
    const uint8_t *p = block.p;
    if (memcmp(p, SEGMENT_MAGIC, sizeof SEGMENT_MAGIC) != 0) {
        *why = "it does not begin like a segment of a write-ahead log";
        return ERR_FORMAT;
    }
    *version = get32(p + 8);
    /* Before the checksum: another version may sum something else. */
    if (*version != WAL_VERSION) {
        *why = "unknown or newer format version";
        return ERR_FORMAT;
    }
    if (get32(p + HEADER_CRC) != crc32c(0, p, HEADER_CRC)) {
        *why = "the checksum of its header is wrong";
        return ERR_CORRUPT;
    }
    struct wal_segment_header h = {
        .number = get64(p + 16),
        .size = get64(p + 24),
        .log = get64(p + 32),
        .salt = get64(p + 40),
    };
    if (h.size < WAL_SEGMENT_MIN || h.size > WAL_SEGMENT_MAX || h.size % WAL_BLOCK != 0 ||
        h.number == 0 || h.number > UINT64_MAX / WAL_SEGMENT_MAX / 2) {
        *why = "its header has impossible values";
        return ERR_CORRUPT;
    }
    *out = h;
    return ERR_OK;
}

uint32_t wal_segment_seed(const struct wal_segment_header *h)
{
    uint8_t b[24];
    put64(b, h->number);
    put64(b + 8, h->log);
    put64(b + 16, h->salt);
    return crc32c(0, b, sizeof b);
}

void wal_commit_encode(const struct wal_commit_header *h, uint32_t seed, uint64_t lsn,
                       uint8_t out[WAL_COMMIT_HEADER])
{
    memset(out, 0, WAL_COMMIT_HEADER);
    memcpy(out, COMMIT_MAGIC, sizeof COMMIT_MAGIC);
    put64(out + 8, h->sequence);
    put64(out + 16, h->oldest);
    put32(out + 24, h->length);
    put32(out + 28, h->count);
    put32(out + 32, h->records_crc);
    put32(out + COMMIT_CRC, crc32c(seed_at(seed, lsn), out, COMMIT_CRC));
}

#ifdef SHARDKV_TEST_HOOKS
unsigned wal_test_bugs;
#endif

static bool commit_header_verify(struct slice s, uint32_t seed, uint64_t lsn,
                                 struct wal_commit_header *out)
{
    const uint8_t *p = s.p;
    if (s.n < WAL_COMMIT_HEADER || memcmp(p, COMMIT_MAGIC, sizeof COMMIT_MAGIC) != 0)
        return false;
    if (get32(p + COMMIT_CRC) != crc32c(seed_at(seed, lsn), p, COMMIT_CRC) &&
        !WAL_BUG(WAL_BUG_NO_CRC))
        return false;
    *out = (struct wal_commit_header){
        .sequence = get64(p + 8),
        .oldest = get64(p + 16),
        .length = get32(p + 24),
        .count = get32(p + 28),
        .records_crc = get32(p + 32),
    };
    return out->length >= WAL_COMMIT_HEADER && out->length <= s.n && out->sequence != 0;
}

bool wal_commit_verify(struct slice s, uint32_t seed, uint64_t lsn, struct wal_commit_header *out)
{
    struct wal_commit_header h;
    if (!commit_header_verify(s, seed, lsn, &h))
        return false;
    uint64_t at = WAL_COMMIT_HEADER;
    uint32_t sum = 0;
    for (uint32_t i = 0; i < h.count; i++) {
        struct slice rest = {s.p + at, h.length - at};
        if (!wal_record_verify(rest, seed, lsn + at))
            return false;
        sum = crc32c(sum, rest.p, 4);
        at += wal_record_size(wal_record_length(rest.p));
    }
    if (at != h.length || (sum != h.records_crc && !WAL_BUG(WAL_BUG_NO_CRC)))
        return false;
    *out = h;
    return true;
}

uint32_t wal_record_encode(const struct wal_record *r, struct slice payload, uint32_t seed,
                           uint64_t lsn, uint8_t *out)
{
    size_t whole = wal_record_size(payload.n);
    memset(out, 0, WAL_RECORD_HEADER);
    put32(out + 4, (uint32_t)payload.n);
    put64(out + 8, r->group);
    put64(out + 16, r->index);
    put64(out + 24, r->term);
    out[32] = r->type;
    out[33] = r->kind;
    if (payload.n > 0)
        memcpy(out + WAL_RECORD_HEADER, payload.p, payload.n);
    size_t used = WAL_RECORD_HEADER + payload.n;
    memset(out + used, 0, whole - used);
    put32(out, crc32c(seed_at(seed, lsn), out + 4, used - 4));
    return get32(out);
}

uint32_t wal_record_length(const uint8_t header[WAL_RECORD_HEADER])
{
    return get32(header + 4);
}

void wal_record_decode(struct slice s, struct wal_record *out, struct slice *payload)
{
    const uint8_t *p = s.p;
    *out = (struct wal_record){
        .group = get64(p + 8),
        .index = get64(p + 16),
        .term = get64(p + 24),
        .type = p[32],
        .kind = p[33],
    };
    *payload = slice_of(p + WAL_RECORD_HEADER, wal_record_length(p));
}

bool wal_record_verify(struct slice s, uint32_t seed, uint64_t lsn)
{
    if (s.n < WAL_RECORD_HEADER || wal_record_size(wal_record_length(s.p)) > s.n)
        return false;
    size_t used = WAL_RECORD_HEADER + (size_t)wal_record_length(s.p);
    return get32(s.p) == crc32c(seed_at(seed, lsn), s.p + 4, used - 4) || WAL_BUG(WAL_BUG_NO_CRC);
}

bool wal_find_commit(struct slice image, uint64_t from, uint32_t seed, uint64_t base,
                     uint64_t *offset, struct wal_commit_header *out)
{
    for (uint64_t at = wal_align(from, WAL_BLOCK); at + WAL_COMMIT_HEADER <= image.n;
         at += WAL_BLOCK) {
        struct slice rest = {image.p + at, image.n - at};
        if (wal_commit_verify(rest, seed, base + at, out)) {
            *offset = at;
            return true;
        }
    }
    return false;
}

static const char *const PREFIX[] = {"", "wal-", "spare-", "new-"};
static const char *const SUFFIX[] = {"", ".log", ".log", ".tmp"};

void wal_name_format(enum wal_name kind, uint64_t number, char out[WAL_NAME_MAX])
{
    CHECK(kind != WAL_NAME_OTHER);
    snprintf(out, WAL_NAME_MAX, "%s%016llx%s", PREFIX[kind], (unsigned long long)number,
             SUFFIX[kind]);
}

enum wal_name wal_name_parse(const char *name, uint64_t *number)
{
    for (enum wal_name kind = WAL_NAME_SEGMENT; kind <= WAL_NAME_NEW; kind++) {
        size_t skip = strlen(PREFIX[kind]);
        if (strncmp(name, PREFIX[kind], skip) != 0)
            continue;
        uint64_t n = strtoull(name + skip, NULL, 16);
        /* Only the one spelling that we write ourselves counts. */
        char again[WAL_NAME_MAX];
        wal_name_format(kind, n, again);
        if (strcmp(name, again) == 0 && n != 0) {
            *number = n;
            return kind;
        }
    }
    return WAL_NAME_OTHER;
}
