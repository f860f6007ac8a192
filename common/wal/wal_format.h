/* The format of the write-ahead log on disk: the one place that describes it. Pure: no I/O.
 *
 * A log is a directory of segment files `wal-<number, 16 hex digits>.log`, all of one size, read in
 * the order of their numbers (numbers grow; gaps are allowed, see "sequence"). Besides them there
 * may be `spare-<number>.log` (a complete segment file to be used again; its contents mean nothing)
 * and `new-<number>.tmp` (unfinished; removed at open). All integers are little-endian.
 *
 *     segment   block 0: header        at most 56 bytes used, the rest zero
 *               commit, commit, ...    each begins at a multiple of 4096
 *               zeros or stale bytes   up to the segment's size
 *
 *     header    0 magic[8] "SKVWALSG"   8 version u32   12 zero u32   16 number u64
 *               24 size u64   32 log id u64   40 salt u64   48 crc u32 of bytes 0..47
 *
 *     commit    0 magic[8] "SKVWALCM"   8 sequence u64   16 oldest u64   24 length u32
 *               28 count u32   32 records_crc u32   36 zero u32   40 zero u32   44 crc u32
 *               then `count` records; zeros up to the next multiple of 4096 (not checked)
 *
 *     record    0 crc u32   4 length u32   8 group u64   16 index u64   24 term u64   32 type u8
 *               33 kind u8   34 zero u16   36 zero u32   40 payload[length], zeros up to 8
 *
 * Checksums are CRC32C. Every commit and record checksum starts from the segment's seed, the CRC of
 * its (number, log id, salt), and from the lsn it stands at, so that stale bytes of a segment used
 * again, or bytes that a user put into a value, or that were written to the wrong place, never
 * pass: the salt is drawn at random for each use of a segment file. A record's crc covers its bytes
 * from 4 on: one record can be verified alone. A commit's records_crc covers the crcs of its
 * records in order and its crc its first 44 bytes: every byte is summed once.
 *
 * sequence: commits are numbered one by one through the whole log, so that the end of a segment
 *           needs no mark, and a lost commit or segment shows as a gap.
 * oldest:   number of the oldest segment still part of the log when the commit was made; segments
 *           below it are freed only once such a commit is durable, so that a missing file shows.
 * length:   bytes of header and records, without the padding.
 *
 * A commit without records is a mark: one is written when a log is opened (in a segment of its own)
 * and one when it is closed, so that damage to the commit before it is known as damage. A third
 * kind makes `oldest` known while the log waits for disk space: it stands in the segment's last
 * block, so there may be a gap before it.
 *
 * A record's lsn is number * size + its offset in the segment. Segment numbers start at 1.
 *
 * Thread: any.  Depends on: base. */
#ifndef WAL_WAL_FORMAT_H
#define WAL_WAL_FORMAT_H

#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/wal/wal.h"

enum {
    WAL_VERSION = 1,
    WAL_BLOCK = 4096, /* commits begin at, and are padded to, multiples of it */
    WAL_COMMIT_HEADER = 48,
    WAL_RECORD_HEADER = 40,
    WAL_NAME_MAX = 32, /* longest name of a file in the directory, with its end */
};

/* Segment sizes allowed. The lower bound is for tests and the simulator: a record must fit into one
 * segment, so segments below LIMIT_WAL_COMMIT + WAL_BLOCK only take smaller ones than LIMIT_ENTRY
 * (wal_record_max()). */
#define WAL_SEGMENT_MIN (64 * KIB)
#define WAL_SEGMENT_MAX (1 * GIB)

struct wal_segment_header {
    uint64_t number, size;
    uint64_t log;  /* drawn when the directory is made: the same in all segments */
    uint64_t salt; /* drawn for each use of a segment file */
};

struct wal_commit_header {
    uint64_t sequence, oldest;
    uint32_t length, count, records_crc;
};

static inline uint64_t wal_align(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}
static inline uint64_t wal_record_size(size_t payload)
{
    return wal_align(WAL_RECORD_HEADER + (uint64_t)payload, 8);
}

void wal_segment_header_encode(const struct wal_segment_header *h, uint8_t out[WAL_BLOCK]);
/* ERR_FORMAT: not a segment, or of another version; ERR_CORRUPT: damaged. *why is then a static
 * text and *version what it says. */
MUST_USE enum err wal_segment_header_decode(struct slice block, struct wal_segment_header *out,
                                            const char **why, uint32_t *version);
/* What all checksums of this segment start from. */
uint32_t wal_segment_seed(const struct wal_segment_header *h);

void wal_commit_encode(const struct wal_commit_header *h, uint32_t seed, uint64_t lsn,
                       uint8_t out[WAL_COMMIT_HEADER]);
/* The header at `s` (the rest of the segment) and every record of the commit are good. */
MUST_USE bool wal_commit_verify(struct slice s, uint32_t seed, uint64_t lsn,
                                struct wal_commit_header *out);

/* Writes header and payload, zero-padded to 8 bytes, and returns the record's crc. `out` has
 * wal_record_size(payload.n) bytes. */
uint32_t wal_record_encode(const struct wal_record *r, struct slice payload, uint32_t seed,
                           uint64_t lsn, uint8_t *out);
/* Length of the payload as the (unverified) header says. */
uint32_t wal_record_length(const uint8_t header[WAL_RECORD_HEADER]);
/* Decodes without verifying; `s` holds the whole record. `payload` borrows from it. */
void wal_record_decode(struct slice s, struct wal_record *out, struct slice *payload);
/* The record at the start of `s` lies within it and its checksum is right. */
MUST_USE bool wal_record_verify(struct slice s, uint32_t seed, uint64_t lsn);

/* The first good commit at a multiple of WAL_BLOCK at or after `from`. `image` is the segment from
 * its start, `base` the lsn of that. False: none. */
MUST_USE bool wal_find_commit(struct slice image, uint64_t from, uint32_t seed, uint64_t base,
                              uint64_t *offset, struct wal_commit_header *out);

/* Faults planted by the simulator (make sim-bugs), which must find them. */
#ifdef SHARDKV_TEST_HOOKS
enum {
    WAL_BUG_NO_CRC = 1 << 0,      /* no checksum is looked at */
    WAL_BUG_TORN_ALWAYS = 1 << 1, /* damage passes for a torn tail */
    WAL_BUG_TORN_NEVER = 1 << 2,  /* a torn tail passes for damage */
};
extern unsigned wal_test_bugs;
#define WAL_BUG(bit) ((wal_test_bugs & (bit)) != 0)
#else
#define WAL_BUG(bit) false
#endif

/* File names. */
enum wal_name { WAL_NAME_OTHER, WAL_NAME_SEGMENT, WAL_NAME_SPARE, WAL_NAME_NEW };
void wal_name_format(enum wal_name kind, uint64_t number, char out[WAL_NAME_MAX]);
enum wal_name wal_name_parse(const char *name, uint64_t *number);

#endif
