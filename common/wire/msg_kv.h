/* Parameters and results of sys.hello, kv.get, kv.put and kv.delete.
 *
 *   sys.hello  [{"proto":1, "client":"name", "core":k?}]
 *              -> {"proto":1, "cluster":bin16, "node":id, "name":str, "cores":n, "core":k,
 *                  "key_max":n, "value_max":n}
 *   kv.get     [key, {opts}?]        -> [value, version]      or error NOT_FOUND
 *   kv.put     [key, value, {opts}?] -> [version]
 *   kv.delete  [key, {opts}?]        -> [version]
 *   opts       "dl" ms left until the caller's deadline, "ep" [range, members] epoch in the map of
 *              the caller, "ifv" if_version, "ifa" if_absent (bool); unknown keys are ignored.
 *
 * "core" in hello asks for the socket to be handed to that core of the node; it must be the first
 * request of a connection and be answered before others are sent.
 * Keys and values may be bin or str. Thread: any, pure.  Depends on: mp, rpc. */
#ifndef WIRE_MSG_KV_H
#define WIRE_MSG_KV_H

#include "common/base/err.h"
#include "common/base/slice.h"

enum kv_method { KV_METHOD_GET, KV_METHOD_PUT, KV_METHOD_DELETE };

struct msg_kv_request {
    enum kv_method method;
    struct slice key, value; /* borrowed */
    uint64_t deadline_ms;    /* 0: none given */
    uint32_t epoch_range, epoch_members;
    bool if_absent, has_if_version;
    uint64_t if_version;
};
/* `params` is rpc_message.params. Checks types only; sizes are the caller's. ERR_BAD_REQUEST. */
MUST_USE enum err msg_kv_decode(enum kv_method method, struct slice params,
                                struct msg_kv_request *out);
/* A whole request message. */
void msg_kv_encode(struct buf *b, uint32_t msgid, const struct msg_kv_request *r);

struct msg_kv_result {
    struct slice value; /* get only; borrowed */
    uint64_t version;
};
/* Whole responses. */
void msg_kv_put_get_result(struct buf *b, uint32_t msgid, struct slice value, uint64_t version);
void msg_kv_put_version(struct buf *b, uint32_t msgid, uint64_t version);
/* From rpc_message.result. Untrusted. */
MUST_USE enum err msg_kv_decode_result(enum kv_method method, struct slice raw,
                                       struct msg_kv_result *out);

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
};
void msg_hello_reply_encode(struct buf *b, uint32_t msgid, const struct msg_hello_reply *r);
MUST_USE enum err msg_hello_reply_decode(struct slice raw, struct msg_hello_reply *out);

#endif
