/* The client envelope: MessagePack-RPC. [0,msgid,method,params] [1,msgid,error,result]
 * [2,method,params].
 *
 * An error is nil or [number, "NAME", "text", flags, {hints}]; flags bit 0: maybe applied. Hints:
 * "leader" (node id), "slot", "epoch" ([range, members]), "retry_ms", "map" (a piece of the map,
 * msg_map.h), "ver" (the key's version where a condition failed), "at" and "time" (see msg_kv.h).
 * All hints are optional; unknown ones are ignored. Thread: any, pure.  Depends on: skim, mp. */
#ifndef WIRE_RPC_H
#define WIRE_RPC_H

#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/wire/mp.h"

#define RPC_PROTOCOL_VERSION 1

enum rpc_type { RPC_REQUEST = 0, RPC_RESPONSE = 1, RPC_NOTIFY = 2 };

/* All slices are borrowed from the message. */
struct rpc_message {
    uint8_t type;
    uint32_t msgid;
    struct slice method; /* request, notify */
    struct slice params; /* request, notify: one raw array */
    struct slice error;  /* response: one raw value; n == 0 for nil */
    struct slice result; /* response: one raw value */
};

struct rpc_error {
    enum err err;
    char text[256];
    bool maybe_applied;
    uint32_t leader;                     /* node id; 0: not known */
    uint64_t retry_ms;                   /* 0: none */
    uint32_t epoch_range, epoch_members; /* 0, 0: none */
    uint64_t version;                    /* present one of the key; 0: absent, or not told */
    uint64_t at;                         /* position of the shard; 0: not told */
    uint64_t time_ms;                    /* by the shard's log; 0: not told */
    struct slice map;                    /* raw; n == 0: none. Borrowed */
};

/* For conn_ops.split: the length of the first message in `in`. */
MUST_USE enum err rpc_split(struct slice in, size_t max, size_t *n);
/* `in` is exactly one message, already skimmed. ERR_BAD_REQUEST. */
MUST_USE enum err rpc_decode(struct slice in, struct rpc_message *out);
/* The same of what rpc_split() has found, to the byte: the parameters of a call, its last value,
 * are not walked through once more to see where they end. */
MUST_USE enum err rpc_decode_split(struct slice in, struct rpc_message *out);

/* Writes the head; the caller appends exactly one value (params array, or result). */
void rpc_put_request(struct buf *b, uint32_t msgid, const char *method);
void rpc_put_notify(struct buf *b, const char *method);
void rpc_put_result(struct buf *b, uint32_t msgid);
/* A whole error response. */
void rpc_put_error(struct buf *b, uint32_t msgid, const struct rpc_error *e);
/* The same with the table's text and no hints; text may be NULL. */
void rpc_put_error_simple(struct buf *b, uint32_t msgid, enum err e, const char *text);
/* From rpc_message.error. Malformed ones give ERR_INTERNAL with a text. */
void rpc_get_error(struct slice raw, struct rpc_error *out);

/* Opens parameters that are one map of options: how many. `optional`: no parameter is 0 of them. */
uint32_t rpc_open_params(struct mp_reader *r, bool optional);

#endif
