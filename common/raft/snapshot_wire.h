/* Bodies of the FRAME_SNAPSHOT_ frames (frame.h has the envelope and its CRC32C), and the token
 * bucket that both ends use.
 *
 *   FRAME_SNAPSHOT_GET   receiver  u64 snapshot  u32 file  u64 offset  u32 length (1 .. 1 MiB)
 *   FRAME_SNAPSHOT_DATA  sender    u64 snapshot  u32 file  u64 offset  bytes (exactly `length`)
 *   FRAME_SNAPSHOT_END   sender    u64 snapshot  u32 error: no (more) answers, the connection ends
 *                        receiver  u64 snapshot  u32 0: all is received and durable
 *
 * `file` is the position in the manifest. Requests are answered in order; at most SNAPSHOT_WINDOW
 * may be unanswered. One connection serves one snapshot at a time, after a HELLO with purpose
 * PEER_SNAPSHOT whose `core` is the manifest's.
 * Thread: any, no sharing.  Depends on: base, frame. */
#ifndef RAFT_SNAPSHOT_WIRE_H
#define RAFT_SNAPSHOT_WIRE_H

#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/base/slice.h"

#define SNAPSHOT_CHUNK_MAX (1 * MIB)
#define SNAPSHOT_WINDOW 8u
#define SNAPSHOT_FRAME_MAX (SNAPSHOT_CHUNK_MAX + 64) /* largest body */

struct snapshot_get {
    uint64_t id, offset;
    uint32_t file, length;
};
struct snapshot_data {
    uint64_t id, offset;
    uint32_t file;
    struct slice bytes; /* borrowed */
};
struct snapshot_end {
    uint64_t id;
    enum err err;
};
/* Whole frames, appended. */
void snapshot_put_get(struct buf *b, const struct snapshot_get *g);
void snapshot_put_data(struct buf *b, const struct snapshot_data *d);
void snapshot_put_end(struct buf *b, const struct snapshot_end *e);
/* From a frame's body. Untrusted. ERR_BAD_REQUEST. */
MUST_USE enum err snapshot_get_decode(struct slice body, struct snapshot_get *out);
MUST_USE enum err snapshot_data_decode(struct slice body, struct snapshot_data *out);
MUST_USE enum err snapshot_end_decode(struct slice body, struct snapshot_end *out);

/* Token bucket: at most `bytes_per_s` on average, bursts of a quarter second or one chunk. What is
 * taken may exceed what is there: the debt is waited for before the next. */
struct snapshot_rate {
    uint64_t bytes_per_s; /* 0: no limit */
    uint64_t burst;
    int64_t tokens;
    uint64_t at;    /* ns of the last refill; 0: never */
    uint64_t taken; /* bytes, ever */
};
/* Below 64 KiB/s (and above 0) counts as that: a chunk has to fit into the timeouts. */
void snapshot_rate_init(struct snapshot_rate *r, uint64_t bytes_per_s);
/* 0: go; else ns to wait before asking again. */
uint64_t snapshot_rate_wait(struct snapshot_rate *r, uint64_t now);
/* Another limit, as init; what was taken so far stays counted. */
void snapshot_rate_set(struct snapshot_rate *r, uint64_t bytes_per_s);
void snapshot_rate_take(struct snapshot_rate *r, uint64_t bytes);

#endif
