/* The peer envelope: little-endian binary frames with a CRC32C.
 *
 *   u32 magic "SKVF"   u32 length of the body   u8 version (1)   u8 type   u16 zero
 *   u32 crc32c of the 12 bytes before it with the body after it     body
 *
 * Body of FRAME_MESSAGES: { u64 group, u32 length, bytes }... Of FRAME_HELLO:
 * net/peer.c. Of the FRAME_SNAPSHOT_ types: raft/snapshot_stream.h.
 * Thread: any, pure.  Depends on: base. */
#ifndef WIRE_FRAME_H
#define WIRE_FRAME_H

#include "common/base/err.h"
#include "common/base/slice.h"

#define FRAME_HEADER 16u
#define FRAME_VERSION 1u

enum frame_type {
    FRAME_HELLO = 1,
    FRAME_MESSAGES = 2,
    FRAME_SNAPSHOT_GET = 16,
    FRAME_SNAPSHOT_DATA = 17,
    FRAME_SNAPSHOT_END = 18,
};

/* Reserves a header in an output buffer and gives its offset; frame_finish() fills it in. */
size_t frame_begin(struct buf *b, uint8_t type);
void frame_finish(struct buf *b, size_t begin);
/* For conn_ops.split; `max` bounds the body. ERR_INCOMPLETE: *n bytes are needed in all, as far as
 * is known. ERR_BAD_REQUEST: wrong magic or version; ERR_TOO_LARGE: body over `max`. */
MUST_USE enum err frame_split(struct slice in, size_t max, size_t *n);
/* `in` is exactly one frame. ERR_CORRUPT if the checksum is wrong. */
MUST_USE enum err frame_decode(struct slice in, uint8_t *type, struct slice *body);

#endif
