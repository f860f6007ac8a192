/* What nodes and operators say to placementd, and its answers. Envelope: rpc.h.
 *
 *   node.register   [{"name", "inc", "zone", "host", "client", "peer", "cores", "cluster"?}]
 *                   -> {"cluster":bin16, "node":id, "version":map version}
 *   node.heartbeat  [{"node", "inc", "have":map version, "free", "size",
 *                     "groups":[[group, replica, role, state, term, [range, members], first, last,
 *                                leader, applied, bytes, keys,
 *                                [[replica, node, role, match]...]]...]}]
 *                   -> {"version":map version, "steps":[[kind, replica, campaign, join, shard]...]}
 *                   shard as in msg_map.h: [group, first, last, [range, members], leader,
 *                   [[replica, node, role]...]]
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

struct msg_member_status {
    uint64_t replica;
    uint32_t node;
    uint8_t role;   /* enum group_role */
    uint64_t match; /* last log index known to be there; 0: not known */
};

/* One replica that a node holds. */
struct msg_group_status {
    uint64_t group;
    uint64_t replica; /* our own id in it */
    uint8_t role;     /* enum group_role, our own */
    uint8_t state;    /* enum msg_replica_state */
    uint64_t term;
    struct shard_epoch epoch; /* as this replica has applied it */
    uint16_t first_slot, last_slot;
    uint64_t leader; /* replica id; 0: not known */
    uint64_t applied;
    uint64_t bytes, keys;
    /* The group's configuration with matches: only its leader fills it in (others 0). */
    uint32_t n_members;
    struct msg_member_status member[LIMIT_GROUP_MEMBERS];
};

enum msg_replica_state {
    MSG_REPLICA_FOLLOWER = 0, /* the first three are enum group_state */
    MSG_REPLICA_CANDIDATE = 1,
    MSG_REPLICA_LEADER = 2,
    MSG_REPLICA_INSTALLING = 3,
    MSG_REPLICA_BROKEN = 4, /* on disk but not running: it has to be seeded again */
};

struct msg_heartbeat {
    uint32_t node;
    uint64_t incarnation;
    uint64_t have; /* version of the map that the node holds */
    uint64_t disk_free, disk_size;
    uint32_t n_groups;
    struct msg_group_status *groups; /* the caller's when encoding */
};
void msg_heartbeat_encode(struct buf *b, uint32_t msgid, const struct msg_heartbeat *h);
/* On success *out owns `groups`: msg_heartbeat_close(). */
MUST_USE enum err msg_heartbeat_decode(struct slice params, struct msg_heartbeat *out);
void msg_heartbeat_close(struct msg_heartbeat *h);

enum msg_step_kind {
    /* Make the replica `replica` of shard.group on this node. Unless `join`, its initial
     * configuration is shard.replica[] in this order, at position {1, 1, 1}; every replica of the
     * group starts from the same. With `join` it starts empty and waits for a snapshot.
     * Done already (the group is there with this replica id): do nothing. There with another
     * replica id: do nothing, the report shows it. */
    MSG_STEP_CREATE_REPLICA = 1,
    /* Stop the replica `replica` of shard.group and delete its data; not there: do nothing. */
    MSG_STEP_DESTROY_REPLICA = 2,
};

struct msg_step {
    uint8_t kind;
    uint64_t replica;
    bool campaign; /* create: group_options.campaign (the preferred leader, on its first start) */
    bool join;
    struct shard_desc shard; /* destroy: what the map says of the group now */
};

struct msg_heartbeat_reply {
    uint64_t version; /* of the newest map */
    uint32_t n_steps;
    struct msg_step *steps;
};
void msg_heartbeat_reply_encode(struct buf *b, uint32_t msgid, const struct msg_heartbeat_reply *r);
/* On success *out owns `steps`: msg_heartbeat_reply_close(). */
MUST_USE enum err msg_heartbeat_reply_decode(struct slice raw, struct msg_heartbeat_reply *out);
void msg_heartbeat_reply_close(struct msg_heartbeat_reply *r);

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

/* [{"have":n}?], the parameters of map.get and map.watch. */
void msg_map_request_encode(struct buf *b, uint32_t msgid, const char *method, uint64_t have);
MUST_USE enum err msg_map_request_decode(struct slice params, uint64_t *have);

#endif
