#include "common/net/peer_hello.h"

#include "common/base/limits.h"
#include "common/wire/frame.h"

void peer_hello_encode(struct buf *b, const struct peer_hello *h)
{
    size_t begin = frame_begin(b, FRAME_HELLO);
    buf_u16(b, PEER_PROTOCOL_VERSION);
    buf_append(b, h->cluster, sizeof h->cluster);
    buf_u32(b, h->node);
    buf_u32(b, h->to);
    buf_u64(b, h->incarnation);
    buf_u16(b, h->core);
    buf_u8(b, h->purpose);
    frame_finish(b, begin);
}

enum err peer_hello_decode(struct slice body, struct peer_hello *out)
{
    struct cursor c = cursor_of(body);
    struct peer_hello h = {0};
    uint16_t version = cursor_u16(&c);
    if (!c.bad && version != PEER_PROTOCOL_VERSION)
        return ERR_PROTOCOL_VERSION;
    struct slice cluster = cursor_bytes(&c, sizeof h.cluster);
    if (cluster.n == sizeof h.cluster)
        memcpy(h.cluster, cluster.p, cluster.n);
    h.node = cursor_u32(&c);
    h.to = cursor_u32(&c);
    h.incarnation = cursor_u64(&c);
    h.core = cursor_u16(&c);
    h.purpose = cursor_u8(&c);
    if (c.bad || h.node == 0 || h.core >= LIMIT_CORES ||
        (h.purpose != PEER_RAFT && h.purpose != PEER_SNAPSHOT))
        return ERR_BAD_REQUEST;
    *out = h;
    return ERR_OK;
}
