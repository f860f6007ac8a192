/* Write-ahead log shared by every group of one core.
 *
 * Appends of all groups are gathered for one turn of the loop and written as one 4 KiB-padded
 * commit followed by one fdatasync (io_write_durable). One commit is in flight at a time; what is
 * appended meanwhile becomes the next one (group commit). Segments are zero-written once and
 * recycled by rename; the format is in wal_format.h.
 *
 * A record's lsn is its position in the endless log (segment number x segment size + offset), so
 * lsns grow and a durable lsn implies all earlier ones.
 *
 * Any write or fsync error is final (fsyncgate): on_fatal() is called once, nothing is acknowledged
 * any more and the owner must end the process.
 *
 * Owner: struct group_set.  Thread: that core only.  Depends on: io, fs, wal_format. */
#ifndef WAL_WAL_H
#define WAL_WAL_H

#include "common/base/err.h"
#include "common/base/latency.h"
#include "common/base/limits.h"
#include "common/base/slice.h"
#include "common/io/io.h"

struct wal;

enum wal_type {
    WAL_ENTRY = 1, /* a raft entry: index, term, kind = raft's entry type; payload = its bytes */
    WAL_STATE = 2, /* a group's state: term = current term, index = vote (replica id or 0),
                      payload = the owner's (first index of the log, ...) */
    WAL_DROP = 3,  /* the group's log is gone for good: earlier records of it do not count */
};

struct wal_record {
    uint64_t group;
    uint64_t index, term;
    uint8_t type; /* enum wal_type */
    uint8_t kind;
};

struct wal_options {
    struct io *io;
    const char *dir;         /* created if absent; copied */
    uint64_t segment_size;   /* 0: LIMIT_WAL_SEGMENT_DEFAULT; fixed when the directory is made:
                                later opens take it from the segment headers. A multiple of 4 KiB,
                                64 KiB to 1 GiB, else ERR_CONFIG; see wal_record_max(). At most
                                1/128 of the disk, but never below 16 MiB for that: a log has
                                half a dozen of them, and nodes may share a disk */
    unsigned spare_segments; /* recycled or prepared ahead, at most; 0: 2 */
    void *arg; /* of all callbacks below; all come from the loop, all must be set, none
                  may call wal_close() */
    /* All records with lsn < `lsn` are durable. */
    void (*on_durable)(void *arg, uint64_t lsn);
    /* A new segment begins: append the state (WAL_STATE) of every group in the log now, started or
     * not, so that older segments are needed for entries only. Called inside wal_flush() (also by
     * the first one with something to write after wal_open()), or inside wal_append(), before the
     * record that is being appended. */
    void (*on_rotate)(void *arg);
    /* The lowest lsn of an entry that is still needed; UINT64_MAX if none. Decides recycling. */
    uint64_t (*oldest_needed)(void *arg);
    void (*on_fatal)(void *arg, enum err why, const char *text);
    /* Progress of wal_open(): once (0, bytes to read), then (bytes read, 0) after each segment. May
     * be NULL. */
    void (*on_replay)(void *arg, uint64_t done, uint64_t total);
};

/* One good record found by recovery, in lsn order. `payload` is borrowed until return. */
typedef void (*wal_replay_fn)(void *arg, const struct wal_record *r, struct slice payload,
                              uint64_t lsn);

/* Recovers the directory (blocking) and opens it for appending. Calls `replay` for every record in
 * lsn order. A torn tail of the LAST commit is cut off; damage before a good record is ERR_CORRUPT
 * with `msg` naming file and offset and what to do; ERR_FORMAT for an unknown version. */
MUST_USE enum err wal_open(const struct wal_options *options, wal_replay_fn replay,
                           void *replay_arg, struct wal **out, char *msg, size_t n);
/* No write may be in flight (wal_idle()), or the io must be at its end. Blocks for one small write:
 * the mark that makes later damage to the last commit known as damage. */
void wal_close(struct wal *w);

/* Queues one record and copies it; its lsn goes to *lsn (may be NULL). Never blocks. on_durable
 * tells when. Size limit: LIMIT_ENTRY + header (CHECKed). */
void wal_append(struct wal *w, const struct wal_record *r, struct slice payload, uint64_t *lsn);
/* End of turn: starts writing what is queued unless a write is in flight (then it follows). */
void wal_flush(struct wal *w);
/* Nothing queued, nothing in flight, no segment being prepared. */
bool wal_idle(const struct wal *w);
/* Bytes queued or in flight: for admission. */
uint64_t wal_backlog(const struct wal *w);
uint64_t wal_next_lsn(const struct wal *w);
uint64_t wal_durable_lsn(const struct wal *w);
/* Drawn when the directory was made: tells this log from one made in its place. Durable. */
uint64_t wal_id(const struct wal *w);
/* Little space is left on the disk: no spare segments are kept from now on (true), or again. */
void wal_set_tight(struct wal *w, bool tight);
uint64_t wal_segment_size(const struct wal *w);
/* The disk is full and the log cannot get its next segment: commits may come to wait (the backlog
 * grows); refuse what is not needed to free space. It heals by itself. */
bool wal_starved(const struct wal *w);
/* Largest payload of a record: LIMIT_ENTRY and some, but less in segments below
 * LIMIT_WAL_COMMIT + 8 KiB, which are for tests and the simulator. */
uint64_t wal_record_max(const struct wal *w);
/* Segments that hold records (pinned or current) and their bytes. */
void wal_usage(const struct wal *w, unsigned *segments, uint64_t *bytes);
/* Lsn at which the segment holding `lsn` ends: what must be given up to free that segment. */
uint64_t wal_segment_end(const struct wal *w, uint64_t lsn);

/* Reads one durable record back. Zero the struct, set lsn and done, keep it until done. */
struct wal_read {
    uint64_t lsn;
    /* On ERR_OK record and payload are set; payload is borrowed until done() returns.
     * ERR_CORRUPT if the checksum fails, ERR_NOT_FOUND if the segment was recycled. */
    void (*done)(struct wal_read *r, enum err result);
    struct wal_record record;
    struct slice payload;
    void *internal[16]; /* private */
};
void wal_read(struct wal *w, struct wal_read *r);

struct wal_stats {
    uint64_t commits, records, bytes, rotations, reads;
    uint64_t fsync_ns_total, fsync_ns_max; /* write + fdatasync, as seen by the loop */
    struct latency fsync;                  /* the same */
};
const struct wal_stats *wal_stats(const struct wal *w);

#endif
