/* The placement state machine's state: cluster id, members, nodes, groups, operators.
 *
 * Pure: changed only by cluster_apply() (cluster_command.h), in log order, on every member alike:
 * no clock, no liveness, no pointer order. The same commands give the same bytes of
 * cluster_encode(). Groups are kept in ascending id, nodes in ascending id, operators in ascending
 * id.
 *
 * Ids (node, replica, group, operator) are counted up and never used twice.
 *
 * Size: encoded it must fit one manifest (LIMIT_MANIFEST), for it is its own snapshot: 16384 groups
 * of five replicas (1.8 MB), 4096 nodes (at most 1.4 MB) and CLUSTER_OPERATORS_MAX fit.
 *
 * Owner: struct fsm.  Thread: the loop.  Depends on: base, meta. */
#ifndef PLACEMENTD_CLUSTER_H
#define PLACEMENTD_CLUSTER_H

#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/base/slice.h"
#include "common/meta/shard_map.h"

#define CLUSTER_FORMAT 3u
#define CLUSTER_MEMBERS_MAX LIMIT_GROUP_MEMBERS
#define CLUSTER_MEMBERS_WANTED 5u /* 1, 3 or 5 of them; more only on the way */
#define CLUSTER_REMOVED_MAX 8u    /* members that are still told that they were removed */
#define CLUSTER_OPERATORS_MAX 1024u
#define CLUSTER_STEPS_MAX 32u /* a merge that first moves five replicas */
#define CLUSTER_FINISHED_MAX 128u
#define CLUSTER_GROUPS_MAX LIMIT_SLOTS
#define CLUSTER_REPLICAS_MAX 5u /* voters that cluster.init may lay */

enum cluster_node_state {
    CLUSTER_NODE_IN = 1,       /* takes part; whether it is up is liveness, not state */
    CLUSTER_NODE_LOST = 2,     /* its disk was wiped: it came back under a new id */
    CLUSTER_NODE_DRAINING = 3, /* its replicas are moved away */
    CLUSTER_NODE_REMOVED = 4,
};

struct cluster_node {
    uint32_t id;
    uint8_t state;                 /* enum cluster_node_state */
    uint64_t maintenance_until_ms; /* wall clock; its replicas are not replaced before; 0: none */
    uint64_t incarnation;
    char name[LIMIT_NAME + 1];
    char zone[LIMIT_NAME + 1];
    char host[LIMIT_NAME + 1];
    char client_addr[64], peer_addr[64];
    uint16_t cores;
};

struct cluster_group {
    struct shard_desc desc; /* leader is always 0 here: it is a hint, see liveness.h */
    /* Bit i: the node of desc.replica[i] has reported it. An order to create a replica is never
     * given again after that: a voter that lost its data must not vote under its old id. */
    uint16_t created;
    /* By `recover --lost`: this replica is to make itself the only voter; 0: none. Ends with the
     * group's next epoch. */
    uint64_t force;
};

/* A member of placementd's own group. A member that comes back with another incarnation was wiped:
 * it may have voted, so it is shut out until it is removed and added under a new id. */
struct cluster_member {
    uint32_t id;
    uint64_t incarnation; /* 0: added, not heard of yet */
    char client_addr[64];
    char peer_addr[64]; /* "": as configured */
    bool leaving;       /* to be removed from the group, then from here */
};

enum cluster_operator_kind {
    CLUSTER_OP_MOVE = 1,
    CLUSTER_OP_REPLACE = 2,
    CLUSTER_OP_TRANSFER_LEADER = 3,
    CLUSTER_OP_ADD_REPLICA = 4,
    CLUSTER_OP_REMOVE_REPLICA = 5,
    CLUSTER_OP_SPLIT = 6,
    CLUSTER_OP_MERGE = 7,
};

enum cluster_step_kind {
    CLUSTER_STEP_CREATE = 1,
    CLUSTER_STEP_ADD_STANDBY = 2,
    CLUSTER_STEP_PROMOTE = 3,
    CLUSTER_STEP_TRANSFER_LEADER = 4,
    CLUSTER_STEP_REMOVE = 5,
    CLUSTER_STEP_DESTROY = 6, /* the replica's data; done at once if its node is lost or dead */
    CLUSTER_STEP_SPLIT = 7,
    CLUSTER_STEP_MERGE_TARGET = 8,    /* the target knows */
    CLUSTER_STEP_MERGE_INTENT = 9,    /* the source marks its changes; all replicas copy in bulk */
    CLUSTER_STEP_MERGE_FREEZE = 10,   /* the source serves no more; the copies are completed */
    CLUSTER_STEP_MERGE_OWN = 11,      /* the target owns the range; the source leaves the map */
    CLUSTER_STEP_MERGE_ABORT = 12,    /* given up: first the target ... */
    CLUSTER_STEP_MERGE_UNFREEZE = 13, /* ... then the source */
};

/* Who wanted an operator. */
enum cluster_origin {
    CLUSTER_ORIGIN_PLANNER = 1,
    CLUSTER_ORIGIN_ADMIN = 2,
    CLUSTER_ORIGIN_PLAN = 3, /* `rebalance apply` */
};

struct cluster_step {
    uint8_t kind;     /* enum cluster_step_kind */
    uint32_t node;    /* whom it concerns; 0: the group's leader */
    uint64_t replica; /* 0: none, or (CREATE, ADD_STANDBY, PROMOTE) one to be drawn when added */
};

/* An ordered list of steps for one group; a new placement leader goes on with it. A group takes
 * part in one at a time (a merge's target too). */
struct cluster_operator {
    uint64_t id;
    uint8_t kind;    /* enum cluster_operator_kind */
    uint8_t origin;  /* enum cluster_origin */
    bool queued;     /* waits for its turn (limits per node); at is 0 */
    bool cancelling; /* given up: its steps now take back what it had made; see turned */
    uint8_t turned;  /* cancelling: kind of the step under way when it turned; else 0 */
    uint8_t outcome; /* cancelling: what it will end as, and why */
    char why[128];
    uint64_t group;
    struct shard_epoch
        epoch;           /* of the group when it was made; a queued one does not start at another */
    uint64_t created_ms; /* wall clock */
    uint64_t deadline_ms;   /* wall clock; 0: none */
    uint64_t peer;          /* merge: the target */
    uint16_t slot;          /* split: first slot of the child */
    uint64_t child;         /* split: its group id; drawn when added */
    uint64_t child_replica; /* split: its first replica id, one a member in desc's order */
    uint64_t bytes;         /* to be moved */
    char reason[128];
    uint8_t at; /* the step under way */
    uint8_t n_steps;
    struct cluster_step step[CLUSTER_STEPS_MAX];
};

/* How operators end, for the counters. */
enum cluster_end { CLUSTER_END_DONE, CLUSTER_END_CANCELLED, CLUSTER_END_FAILED, CLUSTER_ENDS };

/* What became of an operator: the last CLUSTER_FINISHED_MAX are kept. */
struct cluster_finished {
    uint64_t id, group, ended_ms;
    uint8_t kind;
    uint8_t outcome; /* enum err: OK done, SHUTTING_DOWN cancelled, else failed */
    char reason[128], why[128];
};

struct cluster {
    bool founded;
    uint8_t id[16];
    uint64_t map_version; /* 0: nothing yet */
    uint32_t next_node;
    uint64_t next_replica, next_group, next_operator;
    uint32_t next_member; /* ids of members below it have been used */
    uint32_t n_members, n_removed, n_nodes, n_groups, n_operators;
    struct cluster_member member[CLUSTER_MEMBERS_MAX];  /* ascending id */
    struct cluster_member removed[CLUSTER_REMOVED_MAX]; /* oldest first */
    struct cluster_node *nodes;
    struct cluster_group *groups;
    struct cluster_operator *operators;
    bool paused; /* no new balancing; repair and drains go on */
    /* By `cluster recover`: the id is that of a cluster whose placementd was lost. Its nodes come
     * back under the ids that they have; the map is made from what they report. */
    bool recovering;
    /* Of each group, as it was laid out: what repair keeps to. 0: not laid out yet. */
    uint32_t replicas;
    uint32_t n_finished;
    struct cluster_finished *finished; /* oldest first; room for CLUSTER_FINISHED_MAX */
    /* After an import: groups of these ids that the state does not know may have been made after
     * it was exported. Nobody is told to destroy them. from <= id < to. */
    uint64_t unsure_from, unsure_to;
    uint64_t ended[8][CLUSTER_ENDS]; /* by kind; counted by this process, never encoded */
    struct cluster_index *index;     /* derived, never encoded (cluster_index.h); owned */
};

/* What a group is to have; `setting`: placement.replicas. */
static inline uint32_t cluster_replicas(const struct cluster *c, uint32_t setting)
{
    return c->replicas ? c->replicas : setting;
}

void cluster_init(struct cluster *c);
void cluster_close(struct cluster *c);

/* NULL if there is none. */
struct cluster_node *cluster_find_node(const struct cluster *c, uint32_t id);
/* The node of that name that is not lost or removed. */
struct cluster_node *cluster_find_name(const struct cluster *c, const char *name);
struct cluster_group *cluster_find_group(const struct cluster *c, uint64_t id);
struct cluster_member *cluster_find_member(struct cluster *c, uint32_t id);
struct cluster_operator *cluster_find_operator(const struct cluster *c, uint64_t id);
/* The one that the group takes part in, as a merge's target too. */
struct cluster_operator *cluster_operator_of(const struct cluster *c, uint64_t group);
/* Index in desc.replica[]; -1 if it is not there. */
int cluster_replica_index(const struct cluster_group *g, uint64_t replica);

/* Keep the order; the id must not be there yet. */
struct cluster_node *cluster_add_node(struct cluster *c, const struct cluster_node *n);
struct cluster_group *cluster_add_group(struct cluster *c, const struct shard_desc *d);
struct cluster_operator *cluster_add_operator(struct cluster *c, const struct cluster_operator *o);
void cluster_remove_operator(struct cluster *c, uint64_t id);
void cluster_remove_group(struct cluster *c, uint64_t id);
/* Forgets the oldest one if there are CLUSTER_FINISHED_MAX. */
void cluster_add_finished(struct cluster *c, const struct cluster_finished *f);
/* The group of that id is gone for good: neither in the state nor about to come into it. */
bool cluster_group_is_gone(const struct cluster *c, uint64_t id);
/* A replica that an operator makes, or has made and still has to list: not one to be destroyed. */
bool cluster_replica_is_coming(const struct cluster *c, uint64_t group, uint64_t replica);
/* The child of a split operator, as ordered and as it comes into the state. False if the group is
 * not there or the slot does not cut it. */
bool cluster_split_child(const struct cluster *c, const struct cluster_operator *o,
                         struct shard_desc *out);

/* The whole state, little-endian, beginning with CLUSTER_FORMAT. */
void cluster_encode(const struct cluster *c, struct buf *out);
/* Untrusted. ERR_FORMAT, ERR_CORRUPT; initialises *out on success only. */
MUST_USE enum err cluster_decode(struct slice in, struct cluster *out);

/* Shared by the state and its commands. */
void cluster_put_text(struct buf *b, const char *s);
void cluster_get_text(struct cursor *c, char *out, size_t cap);
/* What a node tells of itself when it registers. Bad without a name. */
void cluster_put_told(struct buf *b, const struct cluster_node *n);
void cluster_get_told(struct cursor *c, struct cluster_node *n);
void cluster_put_desc(struct buf *b, const struct shard_desc *d);
/* Refuses (bad) slots, counts and ids out of range, and a replica or node given twice. */
void cluster_get_desc(struct cursor *c, struct shard_desc *d);
void cluster_put_member(struct buf *b, const struct cluster_member *m);
void cluster_get_member(struct cursor *c, struct cluster_member *m);
void cluster_put_operator(struct buf *b, const struct cluster_operator *o);
void cluster_get_operator(struct cursor *c, struct cluster_operator *o);

/* The map that clients see, without leader hints. *out is initialised here. */
void cluster_map(const struct cluster *c, struct shard_map *out);
void cluster_map_node(const struct cluster_node *n, struct shard_node *out);

#endif
