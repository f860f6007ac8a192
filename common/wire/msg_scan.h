/* admin.scan: the pairs of a range of slots, a page at a time. For export and repair, not for
 * applications: it is asked of the shard's leader, one page of a shard at a time.
 *
 *   admin.scan  [first, last, after, {opts}?]
 *               -> [[[key, value, version, expiry]...], next, after, group, position]
 *
 * `first`..`last`: slots, inclusive; `after`: nil, or a key of the slot `first`: only what comes
 * behind it. Pairs come in the order of (slot, key). `expiry`: ms since 1970, or nil.
 * The answer's `next` and `after` are the next request's `first` and `after`; `next` nil: there is
 * nothing more up to `last`. A page may be empty and yet not the last one: it ends with the shard.
 * opts; unknown ones are ignored:
 *   "max"  bytes of keys and values after which the page ends (bounded by the server)
 *   "grp", "pos"  the group and position of the page before: it need not be newer than that
 * A page holds all that was acknowledged before its request (with "pos": before the request that
 * gave it), each pair as of some moment since. Errors as of kv.get; BUSY: another page of the same
 * shard, or something else, is at its engine.
 * Thread: any, pure.  Depends on: mp, rpc. */
#ifndef WIRE_MSG_SCAN_H
#define WIRE_MSG_SCAN_H

#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/wire/mp.h"

#define MSG_SCAN_METHOD "admin.scan"

struct msg_scan_request {
    uint16_t first_slot, last_slot;
    bool has_after;
    struct slice after; /* borrowed */
    uint64_t max_bytes; /* 0: the server's */
    uint64_t group, position;
};
/* A whole request message. */
void msg_scan_encode(struct buf *b, uint32_t msgid, const struct msg_scan_request *r);
/* `params` is rpc_message.params. ERR_BAD_REQUEST. */
MUST_USE enum err msg_scan_decode(struct slice params, struct msg_scan_request *out);

struct msg_scan_item {
    struct slice key, value; /* borrowed */
    uint64_t version;
    uint64_t expiry_ms; /* 0: none */
};
void msg_scan_put_item(struct buf *items, const struct msg_scan_item *item);

struct msg_scan_reply {
    uint32_t n;
    struct slice items; /* raw, one after the other; borrowed */
    bool more;
    uint16_t next_slot; /* if more */
    bool has_after;
    struct slice after; /* borrowed */
    uint64_t group, position;
};
/* A whole response. */
void msg_scan_put_reply(struct buf *b, uint32_t msgid, const struct msg_scan_reply *r);
/* From rpc_message.result; untrusted. Checks each item; then `n` times msg_scan_next_item() with
 * mp_reader_of(out->items). ERR_BAD_REQUEST. */
MUST_USE enum err msg_scan_decode_reply(struct slice raw, struct msg_scan_reply *out);
void msg_scan_next_item(struct mp_reader *items, struct msg_scan_item *out);

#endif
