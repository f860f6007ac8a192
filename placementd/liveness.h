/* What the leader has heard from nodes: who is up, who leads which group, sizes.
 *
 * Local to the leader and lost with it, on purpose: a heartbeat costs no log entry. A new leader
 * knows everything again after one round of heartbeats; until then nodes are `unknown`.
 *
 * Pure (time comes in). Owner: struct server.  Thread: the loop.  Depends on: cluster, wire. */
#ifndef PLACEMENTD_LIVENESS_H
#define PLACEMENTD_LIVENESS_H

#include "common/base/map.h"
#include "common/wire/msg_heartbeat.h"
#include "placementd/cluster.h"

#define LIVENESS_SUSPECT_NS (5 * NS_PER_S)
#define LIVENESS_DOWN_NS (20 * NS_PER_S)
#define LIVENESS_STALL_NS (120 * NS_PER_S)
/* Load that leaders are balanced by: averaged over some 30 s, for clients come in waves. A new
 * leader has counted nothing yet: its figures count only when it has led for SETTLE. A group whose
 * leader or range has just changed is left in peace for CALM. */
#define LIVENESS_AVERAGE_NS (30 * NS_PER_S)
#define LIVENESS_SETTLE_NS (20 * NS_PER_S)
#define LIVENESS_CALM_NS (60 * NS_PER_S)

enum liveness_state { LIVE_UNKNOWN, LIVE_UP, LIVE_SUSPECT, LIVE_DOWN };

/* What a node last said of one replica that it holds. */
struct live_replica {
    uint64_t group, replica; /* replica 0: it does not know which (BROKEN) */
    uint8_t role, state;     /* enum group_role, msg_replica_state */
    uint8_t phase, copy;     /* enum shard_phase, msg_copy */
    uint64_t merge, child;
    uint64_t applied, bytes, chunks;
    uint64_t log_term, log_index;
};

struct live_node {
    uint64_t heard; /* ns; 0: not since we lead */
    uint64_t disk_free, disk_size;
    uint64_t bytes; /* of its replicas */
    uint64_t write_p99_us, moving;
    char version[LIMIT_NAME + 1];
    uint32_t replicas, cap;
    struct live_replica *replica; /* in the order of its report; owned */
    enum liveness_state told;     /* last state that was logged */
};

struct live_group {
    uint64_t first;        /* first report of any replica since we lead */
    uint64_t heard;        /* last report of its leader; 0: none */
    uint64_t moved;        /* last sign that a copy of it gets on; 0: none */
    uint64_t term, leader; /* replica id of the newest term known */
    /* as its leader last said */
    uint64_t bytes, keys, reads, writes;
    /* thousandths of a request a second: the average; when it was brought up to date, 0: never */
    uint64_t load_milli, load_at;
    uint64_t leader_since, range_since; /* last change that we have seen; 0: none */
    struct shard_epoch epoch;
    uint16_t first_slot, last_slot;
    uint8_t phase;
    uint64_t merge;
    uint64_t refused_op;
    uint32_t refused_err;
    uint64_t behind; /* sum of what standbys have: grows as they catch up */
    uint32_t n_members;
    struct msg_member_status member[LIMIT_GROUP_MEMBERS];
};

struct liveness {
    struct map nodes, groups;     /* id -> live_node, live_group; owned */
    uint64_t since;               /* when this member became leader */
    uint64_t suspect_ns, down_ns; /* silence after which a node is suspect, down */
    uint64_t stall_ns;            /* no progress for so long: an operator is given up */
};

/* With the times above; the owner may set others. */
void liveness_init(struct liveness *l, uint64_t now);
void liveness_close(struct liveness *l);
/* Leadership begins (anew): forgets everything but the times. */
void liveness_reset(struct liveness *l, uint64_t now);

/* A checked heartbeat of a known node. on_leader (may be NULL) hears of each group whose leader
 * hint has changed. */
void liveness_report(struct liveness *l, const struct cluster *c, const struct msg_heartbeat *h,
                     uint64_t now, void (*on_leader)(void *arg, uint64_t group), void *arg);

const struct live_node *liveness_node(const struct liveness *l, uint32_t node);    /* or NULL */
const struct live_group *liveness_group(const struct liveness *l, uint64_t group); /* or NULL */
/* What the node last said of its replica of the group; NULL: it holds none, or was not heard. */
const struct live_replica *liveness_replica(const struct liveness *l, uint32_t node,
                                            uint64_t group);
enum liveness_state liveness_state(const struct liveness *l, uint32_t node, uint64_t now);
const char *liveness_state_name(enum liveness_state s);
/* The hint: replica id of the group's leader; 0: not known, or no replica of the group any more. */
uint64_t liveness_leader(const struct liveness *l, const struct cluster_group *g);
/* Requests a second on average: what leaders are balanced by. */
uint64_t liveness_load(const struct live_group *g);
/* Its leader or range has changed only just now: not to be balanced. */
bool liveness_unsettled(const struct live_group *g, uint64_t now);
/* Drops what was heard of groups that are not in the state any more. Now and then. */
void liveness_forget(struct liveness *l, const struct cluster *c);
/* Calls fn for each node whose state is another than when last told. */
void liveness_tell(struct liveness *l, const struct cluster *c, uint64_t now,
                   void (*fn)(void *arg, const struct cluster_node *n, enum liveness_state was,
                              enum liveness_state is),
                   void *arg);

#endif
