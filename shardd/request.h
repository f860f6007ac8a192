/* The life of one request on a core. Read this first.
 *
 * A request is born in session (decoded from a client message) or from mail (forwarded by another
 * core of this node), found a replica by router, and handed to write_path or read_path. Whoever has
 * it answers it exactly once with one of the request_reply_*() calls, which also free it. The
 * answer goes to the session's connection, or by mail to the core that has the session.
 *
 *   session_on_message -> request_create -> router_dispatch -> write_path_add | read_path_add
 *        ... commit and apply, or ReadIndex and engine ... -> request_reply_* -> conn_out
 *
 * A session that ends orphans its requests: they go on and their answers are dropped.
 *
 * Owner: struct core counts them and bounds their number and bytes.  Thread: one core. */
#ifndef SHARDD_REQUEST_H
#define SHARDD_REQUEST_H

#include "common/base/list.h"
#include "common/base/slice.h"
#include "common/meta/shard_map.h"
#include "common/wire/msg_kv.h"

struct core;
struct session;

/* What becomes of the ops of a kv.batch. */
struct request_items {
    uint32_t n;
    uint32_t next; /* where the next result of the entry goes: the next one with ERR_INCOMPLETE */
    uint64_t late_ms; /* one came too late, at this time of the log; else 0 */
    struct msg_kv_item item[];
};

struct request {
    struct list link;       /* in the queue of the path that has it */
    struct list in_core;    /* core's list of all, for deadlines */
    struct list in_session; /* its session's list; self-linked if remote or orphaned */
    struct core *core;
    struct session *session;     /* NULL: remote or orphaned */
    struct request **holder;     /* write path: the batch's slot that points here; else NULL */
    struct request_items *items; /* kv.batch; owned; else NULL */
    uint64_t remote_session;     /* forwarded: id of the session on remote_core; 0: local */
    uint32_t remote_core;
    uint32_t msgid;
    uint64_t deadline; /* ns, io_now() */
    uint64_t born;     /* the same clock */
    uint32_t bytes;    /* charged to the core */
    uint16_t slot;
    uint8_t method;               /* enum kv_method */
    uint8_t level;                /* of a read: enum kv_read_level */
    bool pinned;                  /* an offload thread works on it: its deadline must wait */
    uint32_t n;                   /* mget: number of keys */
    uint64_t token, staleness_ms; /* of a read, as in msg_kv_request */
    uint64_t at;                  /* of a read: the shard's position when it began */
    uint32_t key_size;
    uint8_t key[]; /* of reads only; mget: its items, raw */
};

/* "kv.put" and so on. */
bool request_method(struct slice name, enum kv_method *out);
/* `remote_session` 0 and session set: local. Charges the core; NULL if the core is full. */
struct request *request_create(struct core *core, struct session *session, uint32_t msgid,
                               const struct msg_kv_request *m, uint16_t slot);
void request_reply_value(struct request *r, const struct msg_kv_result *value);
/* A kv.mget. */
void request_reply_values(struct request *r, const struct msg_kv_item *items, uint32_t n,
                          uint64_t at);
/* NOT_FOUND; `at` as in msg_kv_result. */
void request_reply_absent(struct request *r, uint64_t at);
/* Of a write; `number` counts for an incr only. */
void request_reply_written(struct request *r, uint64_t version, int64_t number);
/* A kv.batch: r->items as they are. */
void request_reply_items(struct request *r);
/* Of a write that came too late to be known as a repetition, at this time of the log: it did
 * nothing, but an earlier try may have. */
void request_reply_late(struct request *r, uint64_t time_ms);
/* Of a failed condition; `version`: the present one. */
void request_reply_condition(struct request *r, uint64_t version);
/* `desc` may be NULL; else the error carries that piece of the map. */
void request_reply_error(struct request *r, enum err e, const char *text, uint64_t retry_ms,
                         const struct shard_desc *desc);
/* Answers every request whose deadline has passed with TIMEOUT. Called on the core's tick. */
void request_expire(struct core *core, uint64_t now);
/* Gives the memory back that is kept for the core's next requests. */
void request_free_spare(struct core *core);
/* Answers to a request that was refused before it was created. */
void request_refuse(struct core *core, struct session *session, uint32_t remote_core,
                    uint64_t remote_session, uint32_t msgid, enum err e, const char *text,
                    uint64_t retry_ms, const struct shard_desc *desc);

#endif
