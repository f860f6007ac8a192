/* What nodes and operators say to placementd, and its answers. Envelope: rpc.h; reports of nodes:
 * msg_heartbeat.h.
 *
 *   node.register   [{"name", "inc", "zone", "host", "client", "peer", "cores", "cluster"?, "id"?}]
 *                   -> {"cluster":bin16, "node":id, "version":map version}
 *   cluster.init    [{"groups", "replicas"?, "allow_same_host"?}] -> {"groups", "version"}
 *
 * Only the leader of placementd takes these; another member answers NOT_LEADER with two hints:
 * "leader" (member id) and "leader_addr" ("ip:port" of its client port).
 * Unknown map keys and trailing array elements are skipped. All decoders take untrusted bytes that
 * skim() has passed and give ERR_BAD_REQUEST for anything malformed or out of range.
 * Thread: any, pure.  Depends on: meta/shard_map, mp, rpc. */
#ifndef WIRE_MSG_PLACEMENT_H
#define WIRE_MSG_PLACEMENT_H

#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/base/slice.h"
#include "common/meta/shard_map.h"

/* All texts are visible ASCII without spaces, quotes and backslashes; zone and host may be empty.
 */
struct msg_register {
    char name[LIMIT_NAME + 1];
    uint64_t incarnation; /* of the data directory; never 0 */
    char zone[LIMIT_NAME + 1];
    char host[LIMIT_NAME + 1]; /* two replicas of a group never share one */
    char client_addr[64];      /* "ip:port", as others reach it */
    char peer_addr[64];
    uint16_t cores;
    bool has_cluster; /* the node belongs to `cluster` already */
    uint8_t cluster[16];
    uint32_t node; /* with has_cluster: the id that it was given there; 0: it does not say */
};
void msg_register_encode(struct buf *b, uint32_t msgid, const struct msg_register *r);
MUST_USE enum err msg_register_decode(struct slice params, struct msg_register *out);

struct msg_register_reply {
    uint8_t cluster[16];
    uint32_t node;
    uint64_t version;
};
void msg_register_reply_encode(struct buf *b, uint32_t msgid, const struct msg_register_reply *r);
MUST_USE enum err msg_register_reply_decode(struct slice raw, struct msg_register_reply *out);

struct msg_init {
    uint32_t groups;
    uint32_t replicas; /* 0: three */
    bool allow_same_host;
};
void msg_init_encode(struct buf *b, uint32_t msgid, const struct msg_init *i);
MUST_USE enum err msg_init_decode(struct slice params, struct msg_init *out);

/* A NOT_LEADER (or, leader 0, NO_LEADER) error response with both hints. `addr` may be "". */
void msg_placement_put_not_leader(struct buf *b, uint32_t msgid, uint32_t leader, const char *addr);
/* The "leader_addr" hint of rpc_message.error; false if it has none. */
bool msg_placement_leader_addr(struct slice raw_error, char out[64]);

/* Visible ASCII without quotes: names go into logs, JSON and tables as they are. */
bool msg_placement_plain(const char *s);

/* [{"have":n}?], the parameters of map.get and map.watch. */
void msg_map_request_encode(struct buf *b, uint32_t msgid, const char *method, uint64_t have);
MUST_USE enum err msg_map_request_decode(struct slice params, uint64_t *have);

#endif
