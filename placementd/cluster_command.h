/* The commands of placementd's log: what may change the state, how it is encoded and applied.
 *
 * An entry is one command: u8 version (1), u8 kind, fields (little-endian, cluster_put_text()).
 * What depends on time or liveness is decided by the leader before it proposes; what apply can
 * check against the state it checks again, as other commands may have come between: a command that
 * does not fit is refused and changes nothing.
 *
 * Pure. Owner: struct fsm.  Thread: the loop.  Depends on: cluster. */
#ifndef PLACEMENTD_CLUSTER_COMMAND_H
#define PLACEMENTD_CLUSTER_COMMAND_H

#include "placementd/cluster.h"

#define CLUSTER_COMMAND_VERSION 1u

enum cluster_command_kind {
    CLUSTER_CMD_FOUND = 1,           /* draws the cluster's id; the first one counts */
    CLUSTER_CMD_MEMBER = 2,          /* a member of placementd: incarnation and client address */
    CLUSTER_CMD_REGISTER = 3,        /* a node: new, back again, moved, or wiped */
    CLUSTER_CMD_LAYOUT = 4,          /* the first groups */
    CLUSTER_CMD_CREATED = 5,         /* replicas seen on their nodes */
    CLUSTER_CMD_GROUP = 6,           /* a group's newer range or members, told by its leader */
    CLUSTER_CMD_NODE_STATE = 7,      /* in, draining, removed; maintenance until */
    CLUSTER_CMD_OPERATOR_ADD = 8,    /* draws its ids */
    CLUSTER_CMD_OPERATOR_STEP = 9,   /* the step under way is proven: on to the next, or done */
    CLUSTER_CMD_OPERATOR_END = 10,   /* failed or cancelled; a merge first turns back */
    CLUSTER_CMD_OPERATOR_START = 11, /* a queued one begins */
    CLUSTER_CMD_PAUSE = 12,
    CLUSTER_CMD_MEMBER_REMOVE = 13, /* it has left the group */
    CLUSTER_CMD_LOST = 17,          /* nodes given up; replicas that go on alone (created) */
    CLUSTER_CMD_ADOPT = 18,         /* the id of a cluster whose placementd was lost */
    CLUSTER_CMD_REJOIN = 19,        /* a node of this cluster that the state does not know */
    CLUSTER_CMD_MEMBER_ADD = 15,    /* one that is to join: id never used, peer address */
    CLUSTER_CMD_MEMBER_LEAVE = 16,  /* one that is to leave (id) */
    CLUSTER_CMD_IMPORT = 14, /* a whole state takes the place of one without groups; its members
                                stay ours, its operators are dropped */
};

struct cluster_created {
    uint64_t group, replica;
};

struct cluster_command {
    uint8_t kind;
    uint8_t cluster[16];          /* FOUND, ADOPT */
    struct cluster_member member; /* MEMBER; MEMBER_ADD (id, peer), _LEAVE, _REMOVE (id) */
    struct cluster_node node;     /* REGISTER (id and state are ignored), REJOIN (state is ignored),
                                     NODE_STATE (id, state) */
    /* LAYOUT: groups with all ids filled in by the leader, good only if the next ids are still
     * those of `groups[0]`. GROUP: one. Owned. */
    uint32_t n_groups;
    struct shard_desc *groups;
    uint32_t n_created;
    struct cluster_created *created; /* CREATED; LOST: those that go on alone. Owned */
    uint32_t n_lost;
    uint32_t *lost;             /* LOST: nodes. Owned */
    struct cluster_operator op; /* OPERATOR_ADD (ids ignored); _STEP (id, at, cancelling: the
                                   step that is proven, deadline_ms: of the next one); _END
                                   (id); _START (id, deadline_ms) */
    uint64_t now_ms;            /* wall clock of the leader: STEP, END, START */
    uint8_t outcome;            /* END: enum err */
    char why[128];              /* END */
    bool paused;                /* PAUSE */
    struct slice state;         /* IMPORT: cluster_encode(); borrowed */
};

void cluster_command_encode(const struct cluster_command *c, struct buf *out);
/* ERR_CORRUPT, ERR_FORMAT. On success *out owns its lists. */
MUST_USE enum err cluster_command_decode(struct slice in, struct cluster_command *out);
void cluster_command_close(struct cluster_command *c);

/* What a command did. */
struct cluster_result {
    enum err err;   /* ERR_OK also if it changed nothing since it was done already */
    char text[200]; /* reason of a refusal */
    uint64_t value; /* REGISTER: node id; OPERATOR_ADD: operator id */
    bool map_changed;
};

/* Reports each change of the map, for watchers. Either may be NULL. */
struct cluster_changes {
    void *arg;
    void (*group)(void *arg, uint64_t group);
    void (*node)(void *arg, uint32_t node);
};

__attribute__((format(printf, 3, 4))) void cluster_refuse(struct cluster_result *out, enum err e,
                                                          const char *fmt, ...);

#ifdef SHARDKV_TEST_HOOKS
/* A fault to plant, to show that the simulator finds it: what is told of a group counts whatever
 * its epoch. */
extern bool cluster_test_any_epoch;
#define CLUSTER_TEST_ANY_EPOCH cluster_test_any_epoch
#else
#define CLUSTER_TEST_ANY_EPOCH false
#endif

void cluster_apply(struct cluster *c, const struct cluster_command *cmd,
                   const struct cluster_changes *changes, struct cluster_result *out);

#endif
