/* Parameters and results of sys.hello and of the kv.* methods.
 *
 *   sys.hello  [{"proto":1, "client":"name", "core":k?}]
 *              -> {"proto":1, "cluster":bin16, "node":id, "name":str, "cores":n, "core":k,
 *                  "key_max":n, "value_max":n, "time":ms, "retain":ms, "zone":str}
 *   kv.get     [key, {opts}?]         -> [value, version, {extra}?]     or error NOT_FOUND
 *   kv.put     [key, value, {opts}?]  -> [version]
 *   kv.delete  [key, {opts}?]         -> [version]
 *   kv.incr    [key, delta, {opts}?]  -> [version, number]     an absent key counts as 0; the value
 *                                        is the number in decimal digits. BAD_REQUEST: it is none
 *   kv.touch   [key, {opts}?]         -> [version]     sets the expiry to "ttl", without it none;
 *                                        or error NOT_FOUND
 *   kv.mget    [[key...], {opts}?]    -> [[[code, version, value, ttl]...], {extra}?]
 *   kv.batch   [[op...], {opts}?]     -> [[[code, version, number]...], {extra}?]
 *              op: ["put", key, value, {opts}?], ["delete", key, {opts}?],
 *                  ["incr", key, delta, {opts}?], ["touch", key, {opts}?]
 *
 * opts; unknown ones are ignored:
 *   "dl"   ms left until the caller's deadline
 *   "ep"   [range, members] epoch in the map of the caller
 *   "ifv"  version: only if the key has it (a write)      "ifa" true: only if there is no such key
 *   "ttl"  ms that the value is to live (put, incr: of a key that is made; touch)
 *   "sid"  bin16, the client's session; "seq" n >= 1, the number of this write in it; "ack": the
 *          results of all below it are not asked for again; "unt": ms since 1970 by the log's time,
 *          until when a repetition of this write is known as one, the same in each repetition. All
 *          or none. Past "unt", below an "ack" that was seen: UNKNOWN_OUTCOME, never applied twice,
 *          and by this request surely not at all; the hint "time" (kv.batch: extra) says so: the
 *          log's time, ms since 1970, to which the "unt" of another write should be related
 *          In kv.batch each op has a "seq" of its own, the others stand in the batch's opts
 *   "all"  true: all ops of the batch or none; its keys must be of one slot
 *   "rd"   read level (enum kv_read_level), "tok": session: the position that must have been
 *          applied; "st": bounded: ms that the answer may be out of date
 * extra: "ttl" ms left to live, if it has an expiry; "at" the shard's position when it was read
 * (the newest version that the shard has given), if "rd" was given and is not 0, and of an mget
 * always. NOT_FOUND has it as a hint at any level: it is all that tells how new "absent" is.
 *
 * A kv.mget or kv.batch is served by one shard: keys of others get the code WRONG_SHARD. An item of
 * an mget that would make the answer too large gets TOO_LARGE: it is to be read alone.
 * "core" in hello asks for the socket to be handed to that core of the node; it must be the first
 * request of a connection and be answered before others are sent.
 * Keys and values may be bin or str. Thread: any, pure.  Depends on: mp, rpc. */
#ifndef WIRE_MSG_KV_H
#define WIRE_MSG_KV_H

#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/wire/mp.h"

enum kv_method {
    KV_METHOD_GET,
    KV_METHOD_PUT,
    KV_METHOD_DELETE,
    KV_METHOD_INCR,
    KV_METHOD_TOUCH, /* the last one with a single key */
    KV_METHOD_MGET,
    KV_METHOD_BATCH,
};
#define KV_METHODS 7u
/* "kv.get", ... Static. */
const char *msg_kv_method_name(enum kv_method method);
static inline bool msg_kv_is_read(enum kv_method method)
{
    return method == KV_METHOD_GET || method == KV_METHOD_MGET;
}

enum kv_read_level { KV_LEVEL_LINEARIZABLE, KV_LEVEL_SESSION, KV_LEVEL_BOUNDED, KV_LEVEL_ANY };

#define MSG_KV_SESSION_ID 16u /* bytes */
struct msg_kv_session {
    struct slice id; /* 16 bytes, borrowed; n == 0: no session */
    uint64_t ack, until_ms;
};

struct msg_kv_request {
    enum kv_method method;
    struct slice key, value; /* borrowed */
    int64_t delta;           /* incr */
    uint64_t deadline_ms;    /* 0: none given */
    uint32_t epoch_range, epoch_members;
    bool if_absent, has_if_version, has_ttl;
    uint64_t if_version, ttl_ms;
    struct msg_kv_session session;
    uint64_t seq;          /* with a session; in an op of a batch too */
    uint8_t level;         /* enum kv_read_level */
    uint64_t token;        /* session level; 0: none */
    uint64_t staleness_ms; /* bounded level */
    bool all;              /* batch */
    uint32_t n;            /* mget, batch: items, 1 to LIMIT_BATCH */
    struct slice items;    /* mget, batch: the raw items, one after the other; borrowed */
};
/* `params` is rpc_message.params. Checks types and, for mget and batch, each item; sizes of keys
 * and values are the caller's. `key` of an mget or batch is that of its first item.
 * ERR_BAD_REQUEST. */
MUST_USE enum err msg_kv_decode(enum kv_method method, struct slice params,
                                struct msg_kv_request *out);
/* The items of a decoded mget or batch, with r = mp_reader_of(request->items): `n` times. They were
 * checked. An op has method, key, value, delta, conditions, ttl and seq. */
struct slice msg_kv_next_key(struct mp_reader *r);
void msg_kv_next_op(struct mp_reader *r, struct msg_kv_request *op);

/* A whole request message. For mget and batch `items` and `n` as written by the next two. */
void msg_kv_encode(struct buf *b, uint32_t msgid, const struct msg_kv_request *r);
void msg_kv_put_key(struct buf *items, struct slice key);
void msg_kv_put_op(struct buf *items, const struct msg_kv_request *op);

struct msg_kv_result {
    struct slice value; /* get only; borrowed */
    uint64_t version;
    int64_t number; /* incr */
    bool has_ttl;
    uint64_t ttl_ms;
    uint64_t at; /* 0: not told */
};
/* Whole responses. */
void msg_kv_put_get_result(struct buf *b, uint32_t msgid, const struct msg_kv_result *r);
void msg_kv_put_version(struct buf *b, uint32_t msgid, uint64_t version);
void msg_kv_put_number(struct buf *b, uint32_t msgid, uint64_t version, int64_t number);
/* From rpc_message.result, of a method with a single key. Untrusted. */
MUST_USE enum err msg_kv_decode_result(enum kv_method method, struct slice raw,
                                       struct msg_kv_result *out);

/* One item of the answer to an mget or a batch. */
struct msg_kv_item {
    enum err err;
    struct msg_kv_result result; /* mget: value and ttl; batch: number; both: version */
};
struct msg_kv_extra {
    uint64_t at;      /* mget; 0: not told */
    uint64_t time_ms; /* batch: that of the log, if an item came too late for it; else 0 */
};
/* A whole response: begin, n items, end. `method` MGET or BATCH. */
void msg_kv_begin_items(struct buf *b, uint32_t msgid, uint32_t n);
void msg_kv_put_item(struct buf *b, enum kv_method method, const struct msg_kv_item *item);
void msg_kv_end_items(struct buf *b, struct msg_kv_extra extra);
/* Untrusted. Checks all; then `n` times msg_kv_next_item() with *items. ERR_BAD_REQUEST, also if
 * there are not `n` of them. */
MUST_USE enum err msg_kv_decode_items(enum kv_method method, struct slice raw, uint32_t n,
                                      struct mp_reader *items, struct msg_kv_extra *extra);
void msg_kv_next_item(enum kv_method method, struct mp_reader *items, struct msg_kv_item *out);

struct msg_hello {
    uint32_t proto;
    char client[64];
    bool has_core;
    uint32_t core;
};
MUST_USE enum err msg_hello_decode(struct slice params, struct msg_hello *out);
void msg_hello_encode(struct buf *b, uint32_t msgid, const struct msg_hello *h);

struct msg_hello_reply {
    uint32_t proto;
    uint8_t cluster[16];
    uint32_t node;
    char name[64];
    uint32_t cores, core;
    uint64_t key_max, value_max;
    uint64_t time_ms;   /* the node's wall clock, ms since 1970; 0: not told */
    uint64_t retain_ms; /* how far ahead of the log's time "unt" may lie; 0: no sessions */
    char zone[64];
};
void msg_hello_reply_encode(struct buf *b, uint32_t msgid, const struct msg_hello_reply *r);
MUST_USE enum err msg_hello_reply_decode(struct slice raw, struct msg_hello_reply *out);

#endif
