#include "placementd/http_metrics.h"

#include "common/http/metric.h"

#define COUNTER(name, help, value) metric_one(b, METRIC_COUNTER, name, help, (double)(value))
#define GAUGE(name, help, value) metric_one(b, METRIC_GAUGE, name, help, (double)(value))

enum { UP, SUSPECT, DOWN, UNKNOWN, DRAINING, LOST, REMOVED, STATES };
static const char *const state_names[STATES] = {"up",       "suspect", "down",   "unknown",
                                                "draining", "lost",    "removed"};
static const char *const kind_names[SAMPLE_KINDS] = {
    "", "move", "replace", "transfer-leader", "add-replica", "remove-replica", "split", "merge"};
static const char *const end_names[CLUSTER_ENDS] = {"done", "cancelled", "failed"};

/* ---- on the loop ---- */

static unsigned state_of(const struct server *s, const struct cluster_node *n, uint64_t now)
{
    if (n->state == CLUSTER_NODE_LOST)
        return LOST;
    if (n->state == CLUSTER_NODE_REMOVED)
        return REMOVED;
    if (!fsm_leads(&s->fsm))
        return UNKNOWN;
    switch (liveness_state(&s->live, n->id, now)) {
    case LIVE_UP:
        return n->state == CLUSTER_NODE_DRAINING ? DRAINING : UP;
    case LIVE_SUSPECT:
        return SUSPECT;
    case LIVE_DOWN:
        return DOWN;
    default:
        return UNKNOWN;
    }
}

static void take_nodes(const struct server *s, struct http_sample *out)
{
    const struct cluster *c = &s->fsm.cluster;
    uint64_t now = io_now(s->io);
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        const struct live_node *live = liveness_node(&s->live, c->nodes[i].id);
        out->node_states[state_of(s, &c->nodes[i], now)]++;
        if (!live || !out->leads)
            continue;
        out->bytes += live->bytes;
        out->disk_free += live->disk_free;
        out->disk_size += live->disk_size;
    }
}

static void take_groups(const struct server *s, struct http_sample *out)
{
    const struct cluster *c = &s->fsm.cluster;
    uint64_t now = io_now(s->io);
    out->groups = c->n_groups;
    for (uint32_t i = 0; i < c->n_groups && out->leads; i++) {
        const struct shard_desc *d = &c->groups[i].desc;
        uint32_t voters = 0, up = 0;
        for (uint32_t k = 0; k < d->n_replicas; k++) {
            const struct cluster_node *n = cluster_find_node(c, d->replica[k].node);
            if (d->replica[k].role != GROUP_VOTER)
                continue;
            enum liveness_state state = liveness_state(&s->live, d->replica[k].node, now);
            voters++;
            up += n && n->state != CLUSTER_NODE_LOST && state != LIVE_DOWN && state != LIVE_SUSPECT;
        }
        out->groups_leaderless += liveness_leader(&s->live, &c->groups[i]) == 0;
        out->groups_lost += up < voters / 2 + 1;
        out->groups_short += up < cluster_replicas(c, s->driver.options.plan.replicas);
    }
}

void http_sample_take(struct server *s, struct http_sample *out)
{
    const struct cluster *c = &s->fsm.cluster;
    const struct wal *wal = group_set_wal(s->groups);
    out->leads = fsm_leads(&s->fsm);
    out->leader = server_leader(s);
    out->self = s->self->id;
    out->term = s->fsm.group ? group_term(s->fsm.group) : 0;
    out->paused = c->paused;
    out->map_version = c->map_version;
    out->heartbeats = s->heartbeats;
    out->members = s->members.n;
    for (uint32_t i = 0; i < c->n_operators; i++) {
        const struct cluster_operator *o = &c->operators[i];
        if (o->kind < SAMPLE_KINDS)
            (*(o->queued ? &out->queued[o->kind] : &out->running[o->kind]))++;
    }
    memcpy(out->ended, c->ended, sizeof(out->ended));
    take_nodes(s, out);
    take_groups(s, out);
    out->sessions = s->n_sessions;
    out->requests = s->n_requests;
    out->raft = *group_set_stats(s->groups);
    out->wal = *wal_stats(wal);
    wal_usage(wal, &out->wal_segments, &out->wal_bytes);
    out->peers = *peer_stats(s->peers);
}

/* ---- the page ---- */

static void operators(const struct http_sample *h, struct buf *b)
{
    const char *name = "shardkv_placement_operators";
    metric_family(b, METRIC_GAUGE, name, "Operators that are not ended, by kind and state.");
    for (unsigned k = 1; k < SAMPLE_KINDS; k++) {
        metric_sample(b, name, h->running[k], "kind", kind_names[k], "state", "running", NULL);
        metric_sample(b, name, h->queued[k], "kind", kind_names[k], "state", "queued", NULL);
    }
    name = "shardkv_placement_operators_ended_total";
    metric_family(b, METRIC_COUNTER, name,
                  "Operators ended, by kind and outcome, as this member has applied them.");
    for (unsigned k = 1; k < SAMPLE_KINDS; k++)
        for (unsigned e = 0; e < CLUSTER_ENDS; e++)
            metric_sample(b, name, (double)h->ended[k][e], "kind", kind_names[k], "outcome",
                          end_names[e], NULL);
    GAUGE("shardkv_placement_balancing_paused", "1: kvctl rebalance pause is in force.", h->paused);
}

static void cluster(const struct http_sample *h, struct buf *b)
{
    GAUGE("shardkv_placement_leader", "1: this member leads.", h->leads);
    GAUGE("shardkv_placement_leader_known", "1: a leader is known.", h->leader != 0);
    GAUGE("shardkv_placement_term", "Term of the placement group.", h->term);
    GAUGE("shardkv_placement_members", "Members of the placement group.", h->members);
    GAUGE("shardkv_map_version", "Version of the shard map.", h->map_version);
    GAUGE("shardkv_placement_groups", "Groups in the map.", h->groups);
    GAUGE("shardkv_placement_groups_leaderless",
          "Groups without a known leader; only the placement leader knows.", h->groups_leaderless);
    GAUGE("shardkv_placement_groups_short",
          "Groups with fewer voters on nodes that are up than they were laid out with; only the "
          "leader "
          "knows.",
          h->groups_short);
    GAUGE("shardkv_placement_groups_lost",
          "Groups without a majority of voters on nodes that are up; only the leader knows.",
          h->groups_lost);
    metric_family(b, METRIC_GAUGE, "shardkv_placement_nodes",
                  "Nodes, by state; only the placement leader knows who is up.");
    for (unsigned i = 0; i < STATES; i++)
        metric_sample(b, "shardkv_placement_nodes", h->node_states[i], "state", state_names[i],
                      NULL);
    GAUGE("shardkv_placement_replica_bytes", "Bytes of all replicas, as nodes report.", h->bytes);
    GAUGE("shardkv_placement_disk_free_bytes", "Free disk space of all nodes.", h->disk_free);
    GAUGE("shardkv_placement_disk_size_bytes", "Disk space of all nodes.", h->disk_size);
}

void http_metrics(const struct http_sample *h, struct buf *b)
{
    metric_process(b);
    cluster(h, b);
    operators(h, b);
    COUNTER("shardkv_placement_heartbeats_total", "Heartbeats of nodes answered by this member.",
            h->heartbeats);
    GAUGE("shardkv_connections", "Connections of nodes, clients and kvctl.", h->sessions);
    GAUGE("shardkv_requests_in_flight", "Requests that wait for the group.", h->requests);
    COUNTER("shardkv_raft_elections_total", "Elections that this member stood for.",
            h->raft.elections);
    COUNTER("shardkv_raft_proposals_total", "Commands proposed.", h->raft.proposals);
    COUNTER("shardkv_wal_written_bytes_total", "Bytes written to the log.", h->wal.bytes);
    COUNTER("shardkv_wal_fsyncs_total", "Commits of the log, one fsync each.", h->wal.commits);
    metric_family(b, METRIC_HISTOGRAM, "shardkv_wal_fsync_seconds",
                  "Time of a commit's write and fsync.");
    metric_latency(b, "shardkv_wal_fsync_seconds", &h->wal.fsync, NULL, NULL);
    GAUGE("shardkv_wal_segments", "Segments that hold records.", h->wal_segments);
    GAUGE("shardkv_wal_size_bytes", "Size of the segments that hold records.", h->wal_bytes);
    COUNTER("shardkv_peer_messages_dropped_total", "Messages dropped because a link was full.",
            h->peers.dropped);
}
