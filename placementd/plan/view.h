/* What the planner sees: one const picture of the cluster, and what it answers with.
 *
 * Built by placementd (plan_view.c) from the replicated state and what the leader has heard; drawn
 * up by hand in tests. Everything is plain data; nothing in plan/ knows of Raft, sockets or clocks.
 *
 * Owner: the caller.  Thread: any, pure.  Depends on: base, meta. */
#ifndef PLACEMENTD_PLAN_VIEW_H
#define PLACEMENTD_PLAN_VIEW_H

#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/meta/shard_map.h"

enum plan_node_state {
    PLAN_NODE_UP,
    PLAN_NODE_SUSPECT, /* not heard for 5 s: nothing goes there */
    PLAN_NODE_DOWN,    /* not heard for 20 s */
    PLAN_NODE_DEAD,    /* down for down-after, or lost, and not in maintenance: replaced */
};

struct plan_node {
    uint32_t id;
    const char *name, *zone, *host; /* borrowed; zone "": none */
    uint8_t state;                  /* enum plan_node_state */
    bool draining;
    bool maintenance;              /* not replaced while down; nothing goes there */
    uint64_t disk_free, disk_size; /* 0 of size: not known yet: nothing goes there */
    uint32_t incoming, outgoing;   /* moves under way into and out of it */
    uint64_t incoming_bytes;       /* of those into it: not in disk_free yet */
    uint64_t down_ms;              /* not heard for so long; 0: heard, lost, or not known */
};

struct plan_group {
    const struct shard_desc *desc; /* borrowed; leader: the hint (0: not known) */
    uint64_t bytes, keys;          /* of one replica */
    uint64_t reads, writes;        /* a second, of late */
    uint64_t requests;             /* a second, averaged: what leaders are balanced by */
    bool unsettled;                /* leader or range has just changed: no balancing of leaders */
    bool busy;                     /* an operator is under way or waiting: leave it alone */
    uint16_t lagging;              /* bit i: replica i is known not to have caught up, or broken */
    uint16_t missing;              /* bit i: replica i was wiped or is broken: replace it at once */
    uint64_t next_leader;          /* replica that a transfer under way goes to; 0: none */
};

struct plan_options {
    uint32_t replicas;           /* voters that a group should have */
    uint32_t max_moves;          /* into and out of one node at a time; 2 */
    uint32_t max_operators;      /* under way at all; 0: no limit */
    uint64_t split_bytes;        /* a shard larger than this is split; 0: never */
    uint64_t split_ops;          /* operations a second above which it is split; 0: never */
    uint32_t max_groups;         /* no split beyond */
    unsigned hysteresis_percent; /* 5 */
    unsigned disk_full_percent;  /* nothing moves into a node above it; 80 */
    bool balance;                /* false: only repair, drain and spread */
};

struct plan_view {
    uint32_t n_nodes, n_groups;
    const struct plan_node *nodes;   /* ascending id */
    const struct plan_group *groups; /* ascending group id */
    struct plan_options options;
};

/* Same numbers as enum cluster_operator_kind. */
enum plan_kind {
    PLAN_MOVE = 1, /* `replica` goes from node `from` to node `to` */
    PLAN_REPLACE =
        2, /* a new replica on `to` takes the place of `replica`, which is dead, on `from` */
    PLAN_TRANSFER = 3, /* leadership goes to `replica` on node `to` */
    PLAN_ADD = 4,      /* one more replica, on `to` */
    PLAN_REMOVE = 5,   /* one less: `replica` on `from` */
    PLAN_SPLIT = 6,    /* at `slot`: the first slot of the new group */
    PLAN_MERGE = 7,    /* the group goes into `into`, its neighbour */
};

struct plan_op {
    uint8_t kind; /* enum plan_kind */
    uint64_t group;
    uint64_t replica;  /* 0: none */
    uint32_t from, to; /* nodes; 0: none */
    uint16_t slot;
    uint64_t into;
    uint64_t bytes; /* to be moved */
    char why[128];
};

struct plan_list {
    uint32_t n, cap;
    struct plan_op *op; /* owned */
};
void plan_list_init(struct plan_list *l);
void plan_list_close(struct plan_list *l);
void plan_list_add(struct plan_list *l, const struct plan_op *op);

const struct plan_node *plan_find_node(const struct plan_view *v, uint32_t id);   /* or NULL */
const struct plan_group *plan_find_group(const struct plan_view *v, uint64_t id); /* or NULL */

#endif
