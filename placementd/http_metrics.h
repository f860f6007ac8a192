/* What the metrics page of placementd shows: taken on the loop, written out elsewhere.
 * Owner: whoever asks.  Thread: http_sample_take() the loop; http_metrics() any. */
#ifndef PLACEMENTD_HTTP_METRICS_H
#define PLACEMENTD_HTTP_METRICS_H

#include "common/wal/wal.h"
#include "placementd/server.h"

#define SAMPLE_KINDS 8u /* enum cluster_operator_kind, from 1 */

struct http_sample {
    bool leads, paused;
    uint32_t leader, self;
    uint64_t map_version, heartbeats, term;
    uint32_t members, groups, groups_leaderless, groups_short, groups_lost;
    uint32_t node_states[8]; /* in the order of http_metrics.c's names */
    uint32_t running[SAMPLE_KINDS], queued[SAMPLE_KINDS];
    uint64_t ended[SAMPLE_KINDS][CLUSTER_ENDS];
    uint64_t bytes, disk_free, disk_size; /* over all nodes */
    unsigned sessions, requests, wal_segments;
    uint64_t wal_bytes;
    struct group_set_stats raft;
    struct wal_stats wal;
    struct peer_stats peers;
};

void http_sample_take(struct server *s, struct http_sample *out);
void http_metrics(const struct http_sample *h, struct buf *out);

#endif
