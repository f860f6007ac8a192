/* What the leader has heard from nodes: who is up, who leads which group, sizes.
 *
 * Local to the leader and lost with it, on purpose: a heartbeat costs no log entry. A new leader
 * knows everything again after one round of heartbeats; until then nodes are `unknown`.
 *
 * Pure (time comes in). Owner: struct server.  Thread: the loop.  Depends on: cluster, wire. */
#ifndef PLACEMENTD_LIVENESS_H
#define PLACEMENTD_LIVENESS_H

#include "common/base/map.h"
#include "common/wire/msg_placement.h"
#include "placementd/cluster.h"

#define LIVENESS_SUSPECT_NS (5 * NS_PER_S)
#define LIVENESS_DOWN_NS (20 * NS_PER_S)

enum liveness_state { LIVE_UNKNOWN, LIVE_UP, LIVE_SUSPECT, LIVE_DOWN };

struct live_node {
    uint64_t heard; /* ns; 0: not since we lead */
    uint64_t disk_free, disk_size;
    uint64_t bytes; /* of its replicas */
    uint32_t replicas;
    enum liveness_state told; /* last state that was logged */
};

struct live_group {
    uint64_t heard;        /* last report of its leader; 0: none */
    uint64_t term, leader; /* replica id of the newest term known */
    uint64_t bytes, keys;
    uint32_t n_members; /* as its leader last said */
    struct msg_member_status member[LIMIT_GROUP_MEMBERS];
};

struct liveness {
    struct map nodes, groups; /* id -> live_node, live_group; owned */
    uint64_t since;           /* when this member became leader */
};

void liveness_init(struct liveness *l, uint64_t now);
void liveness_close(struct liveness *l);
/* Leadership begins (anew): forgets everything. */
void liveness_reset(struct liveness *l, uint64_t now);

/* A checked heartbeat of a known node. on_leader (may be NULL) hears of each group whose leader
 * hint has changed. */
void liveness_report(struct liveness *l, const struct cluster *c, const struct msg_heartbeat *h,
                     uint64_t now, void (*on_leader)(void *arg, uint64_t group), void *arg);

const struct live_node *liveness_node(const struct liveness *l, uint32_t node);    /* or NULL */
const struct live_group *liveness_group(const struct liveness *l, uint64_t group); /* or NULL */
enum liveness_state liveness_state(const struct liveness *l, uint32_t node, uint64_t now);
const char *liveness_state_name(enum liveness_state s);
/* The hint: replica id of the group's leader; 0: not known, or no replica of the group any more. */
uint64_t liveness_leader(const struct liveness *l, const struct cluster_group *g);
/* Calls fn for each node whose state is another than when last told. */
void liveness_tell(struct liveness *l, const struct cluster *c, uint64_t now,
                   void (*fn)(void *arg, const struct cluster_node *n, enum liveness_state was,
                              enum liveness_state is),
                   void *arg);

#endif
