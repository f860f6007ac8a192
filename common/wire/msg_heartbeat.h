/* Reports of nodes to placementd, and the steps that they get for an answer.
 *
 *   node.heartbeat  [{"node", "inc", "have":map version, "free", "size", "p99", "moving", "ver",
 *                     "groups":[[group, replica, role, state, term, [range, members], first, last,
 *                                leader, applied, bytes, keys,
 *                                [[replica, node, role, match]...],
 *                                reads, writes, phase, copy, merge, child, refused_op,
 *                                refused_err, chunks, peer, log_term, log_index]...]}]
 *                   -> {"version":map version, "rate":bytes/s, "members":[address...],
 *                       "steps":[[kind, replica, campaign, join, shard, op, node, other|nil]...]}
 *                   shard as in msg_map.h: [group, first, last, [range, members], leader,
 *                   [[replica, node, role]...]]
 *
 *   node.report     [], a notification of placementd's leader to a node: heartbeat now, there is
 *                   something for you
 *
 * Who takes them, what is skipped and what is refused: msg_placement.h.
 * Thread: any, pure.  Depends on: meta/shard_map, msg_map, msg_placement, mp, rpc. */
#ifndef WIRE_MSG_HEARTBEAT_H
#define WIRE_MSG_HEARTBEAT_H

#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/base/slice.h"
#include "common/meta/shard_map.h"

struct msg_member_status {
    uint64_t replica;
    uint32_t node;
    uint8_t role;   /* enum group_role */
    uint64_t match; /* last log index known to be there; 0: not known */
};

/* One replica that a node holds. */
struct msg_group_status {
    uint64_t group;
    uint64_t replica; /* our own id in it; 0: not known, for it is BROKEN */
    uint8_t role;     /* enum group_role, our own */
    uint8_t state;    /* enum msg_replica_state */
    uint64_t term;
    struct shard_epoch epoch; /* as this replica has applied it */
    uint16_t first_slot, last_slot;
    uint64_t leader; /* replica id; 0: not known */
    uint64_t applied;
    uint64_t bytes, keys;
    uint64_t reads, writes; /* operations a second, lately; of its leader, others 0 */
    uint8_t phase;          /* enum shard_phase: of a merge */
    uint8_t copy;           /* enum msg_copy: a merge's target, how far this replica's copy is */
    uint64_t merge;         /* operator id of the merge it takes part in; 0: none */
    uint64_t child;         /* group id of a split's child that is not made here yet; 0: none */
    /* The last step that this leader could not carry out: operator, enum err. 0: none. */
    uint64_t refused_op;
    uint32_t refused_err;
    uint64_t chunks; /* that the copy has got since the node runs: grows as it gets on */
    uint64_t peer;   /* the other group of a merge, while it is in a phase; else 0 */
    /* Its last log entry, applied or not: whose is later has more, if a majority is lost. */
    uint64_t log_term, log_index;
    /* The group's configuration with matches: only its leader fills it in (others 0). */
    uint32_t n_members;
    struct msg_member_status member[LIMIT_GROUP_MEMBERS];
};

/* How far the copy of a merge's source is in a replica of its target. */
enum msg_copy {
    MSG_COPY_NONE = 0,
    MSG_COPY_RUNNING = 1,  /* the source's data is being copied */
    MSG_COPY_BULK = 2,     /* all but what has changed since it began */
    MSG_COPY_COMPLETE = 3, /* all, up to the source's FREEZE */
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
    uint64_t write_p99_us;        /* of acknowledged writes, over the last seconds; 0: none */
    uint64_t moving;              /* bytes/s of snapshots coming in and going out */
    char version[LIMIT_NAME + 1]; /* of the software */
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

    /* The rest goes to the group's leader and is carried out only if its epoch is exactly
     * shard.epoch, so that an order from the past does nothing. Done already: do nothing. What
     * cannot be done now is tried again, as the step comes again with each report until one proves
     * it; the report says why not (refused_op, refused_err). */
    MSG_STEP_ADD_STANDBY = 3, /* (replica, node) joins the group as a standby */
    MSG_STEP_PROMOTE = 4,     /* `replica` becomes a voter, once it has caught up */
    MSG_STEP_REMOVE = 5,      /* `replica` leaves; a leader hands leadership over first */
    MSG_STEP_TRANSFER = 6,    /* leadership goes to `replica` */
    /* The slots other.first_slot .. other.last_slot, an end of the shard's range, become the group
     * `other`, whose replicas sit on the same nodes (ids and roles as given). */
    MSG_STEP_SPLIT = 7,
    /* Merge of shard (source) into other (target), or the other way about; operator `op` names it.
     * Order: TARGET (to the target's leader), INTENT (to the source's), copying, FREEZE (source),
     * OWN (target). Given up before OWN: ABORT (target), then UNFREEZE (source). */
    MSG_STEP_MERGE_TARGET = 8,
    MSG_STEP_MERGE_INTENT = 9,
    MSG_STEP_MERGE_FREEZE = 10,
    MSG_STEP_MERGE_OWN = 11,
    MSG_STEP_MERGE_ABORT = 12,
    MSG_STEP_MERGE_UNFREEZE = 13,
    /* Unsafe, by an operator's explicit order when a majority is lost for good: the replica
     * `replica` on this node makes itself the only voter of the group. */
    MSG_STEP_FORCE = 14,
};

struct msg_step {
    uint8_t kind;
    uint64_t replica;
    bool campaign; /* create: group_options.campaign (the preferred leader, on its first start) */
    bool join;
    uint64_t op;             /* operator that wants it; 0: none */
    uint32_t node;           /* ADD_STANDBY */
    struct shard_desc shard; /* destroy: what the map says of the group now */
    struct shard_desc other; /* SPLIT: the child; MERGE_*: the other group; else group 0 */
};

struct msg_heartbeat_reply {
    uint64_t version;   /* of the newest map */
    uint64_t move_rate; /* bytes/s that snapshots of this node may take; 0: no limit */
    uint32_t n_members;
    char member[LIMIT_GROUP_MEMBERS]
               [64]; /* client addresses of placementd's members, as far as known */
    uint32_t n_steps;
    struct msg_step *steps;
};
void msg_heartbeat_reply_encode(struct buf *b, uint32_t msgid, const struct msg_heartbeat_reply *r);
/* On success *out owns `steps`: msg_heartbeat_reply_close(). */
MUST_USE enum err msg_heartbeat_reply_decode(struct slice raw, struct msg_heartbeat_reply *out);
void msg_heartbeat_reply_close(struct msg_heartbeat_reply *r);

#endif
