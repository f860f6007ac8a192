/* What a node looks like at one moment: copied by each core on its own thread, read by another.
 *
 * Feeds the HTTP pages (http.h). Taking a sample walks the core's replicas and changes nothing.
 * Owner: whoever asks.  Thread: health_sample() the core's; the rest any. */
#ifndef SHARDD_HEALTH_H
#define SHARDD_HEALTH_H

#include "common/wal/wal.h"
#include "shardd/core.h"

#define HEALTH_STATES 5u /* enum replica_state */

struct health_replica {
    uint64_t group, replica, term, applied, bytes, keys;
    struct shard_epoch epoch;
    uint16_t first_slot, last_slot;
    uint8_t state; /* enum replica_state */
    uint8_t role;  /* enum group_role */
    bool leader, stalled;
    char reason[128]; /* of BROKEN; else "" */
};

struct health_core {
    struct core_stats stats;
    struct group_set_stats raft;
    struct wal_stats wal;
    struct peer_stats peers;
    unsigned wal_segments;
    uint64_t wal_bytes;
    unsigned leaders, connections, requests;
    uint64_t request_bytes, snapshot_bytes_in, snapshot_bytes_out;
    unsigned n_states[HEALTH_STATES], n_stalled;
    uint64_t memtable_bytes, disk_bytes, keys; /* of its replicas */
    uint64_t sessions, session_results;        /* the same */
    uint64_t disk_free, disk_size, map_version;
    uint32_t node_id; /* 0: not a member of a cluster yet */
    uint8_t cluster[16];
    bool no_space, over_memory, stopping;
    struct buf replicas; /* struct health_replica */
};

struct health {
    const struct node *node; /* its options and atomics only */
    bool placement_connected;
    unsigned n;
    struct health_core core[]; /* one a core thread */
};

struct health *health_create(const struct node *node);
void health_destroy(void *health);
/* Fills in this core's part; with `replicas` the list of them too. */
void health_sample(struct core *c, struct health_core *out);
const char *health_state_name(unsigned replica_state);
/* The sum of all cores; replicas are not in it. */
void health_sum(const struct health *h, struct health_core *out);

/* ---- the pages ---- */

/* One line a check, "[+]" or "[-]" first; false if one failed. */
bool health_ready(const struct health *h, struct buf *out);
void health_metrics(const struct health *h, struct buf *out);
void health_status(const struct health *h, struct buf *out); /* JSON */

#endif
