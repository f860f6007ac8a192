/* What a client has seen, as text that may be handed to another process.
 *
 *   "kv1." base64url(cluster[16] runs crc32c[4, little-endian])
 *   runs: { varint count, varint version }..., which together cover every slot, from 0 on
 *
 * A version is the highest that was seen of a slot; 0: none. The checksum is of all before it.
 * Thread: any, pure.  Depends on: base. */
#ifndef CLIENT_TOKEN_H
#define CLIENT_TOKEN_H

#include "common/base/err.h"
#include "common/base/slice.h"

/* Appends the text, without a NUL. `seen`: LIMIT_SLOTS versions; NULL: all 0. */
void token_encode(const uint8_t cluster[16], const uint64_t *seen, struct buf *out);
/* Untrusted. ERR_BAD_REQUEST: it is none. `seen`: of LIMIT_SLOTS. */
MUST_USE enum err token_decode(struct slice text, uint8_t cluster[16], uint64_t *seen);

#endif
