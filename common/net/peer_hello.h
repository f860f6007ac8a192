/* The first frame of a connection between nodes: who speaks, to whom, what for.
 *
 *   body of FRAME_HELLO: u16 protocol version, cluster 16, u32 node, u32 to, u64 incarnation,
 *   u16 core, u8 purpose; bytes behind it belong to a later version and are ignored.
 *
 * Thread: any, pure.  Depends on: wire/frame. */
#ifndef NET_PEER_HELLO_H
#define NET_PEER_HELLO_H

#include "common/net/peer.h"

#define PEER_PROTOCOL_VERSION 1u
#define PEER_HELLO_MAX 1024u /* of the frame's body */

/* Appends the whole frame. */
void peer_hello_encode(struct buf *b, const struct peer_hello *h);
/* A frame's body. Untrusted. ERR_BAD_REQUEST: malformed; ERR_PROTOCOL_VERSION. */
MUST_USE enum err peer_hello_decode(struct slice body, struct peer_hello *out);

#endif
