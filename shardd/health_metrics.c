/* The metrics page of a node. Names follow Prometheus' rules: base units, counters end in _total.
 */
#include <stdio.h>

#include "common/http/metric.h"
#include "shardd/health.h"

#define COUNTER(name, help, value) metric_one(b, METRIC_COUNTER, name, help, (double)(value))
#define GAUGE(name, help, value) metric_one(b, METRIC_GAUGE, name, help, (double)(value))

static void requests(const struct health_core *a, struct buf *b)
{
    const char *name = "shardkv_requests_total";
    metric_family(b, METRIC_COUNTER, name,
                  "Requests that were taken up and answered, by kind and result.");
    for (unsigned m = 0; m < STATS_METHODS; m++)
        for (unsigned r = 0; r < STATS_RESULTS; r++)
            metric_sample(b, name, (double)a->stats.answers[m][r], "kind", stats_method_name(m),
                          "result", stats_result_name(r), NULL);
    name = "shardkv_requests_refused_total";
    metric_family(b, METRIC_COUNTER, name,
                  "Requests answered at once without being taken up, by result.");
    for (unsigned r = STATS_REDIRECT; r < STATS_RESULTS; r++)
        metric_sample(b, name, (double)a->stats.refused[r], "result", stats_result_name(r), NULL);
    name = "shardkv_request_seconds";
    metric_family(b, METRIC_HISTOGRAM, name, "Time from a request to its answer, on this node.");
    metric_latency(b, name, &a->stats.read, "kind", "read");
    metric_latency(b, name, &a->stats.write, "kind", "write");
    COUNTER("shardkv_requests_busy_total", "Requests refused for want of memory or room in queues.",
            a->stats.refused_busy);
    COUNTER("shardkv_requests_forwarded_total", "Requests passed on to another core of this node.",
            a->stats.forwarded);
    COUNTER("shardkv_writes_repeated_total",
            "Writes in the logs that were repetitions and got their first result; by each replica.",
            a->stats.repeated);
    GAUGE("shardkv_sessions", "Client sessions of which results are kept, by each replica.",
          a->sessions);
    GAUGE("shardkv_session_results", "Results of writes kept for repetitions, by each replica.",
          a->session_results);
    GAUGE("shardkv_requests_in_flight", "Requests not answered yet.", a->requests);
    GAUGE("shardkv_requests_in_flight_bytes", "Memory that requests not answered yet hold.",
          a->request_bytes);
    GAUGE("shardkv_connections", "Client connections.", a->connections);
}

static void loops(const struct health *h, const struct health_core *a, struct buf *b)
{
    const char *name = "shardkv_turns_total";
    metric_family(b, METRIC_COUNTER, name, "Turns of the event loops, by core.");
    for (unsigned i = 0; i < h->n; i++) {
        char core[16];
        snprintf(core, sizeof core, "%u", i);
        metric_sample(b, name, (double)h->core[i].stats.turns, "core", core, NULL);
    }
    name = "shardkv_turn_seconds";
    metric_family(b, METRIC_HISTOGRAM, name, "Duration of a turn of an event loop.");
    metric_latency(b, name, &a->stats.turn, NULL, NULL);
}

static void wal(const struct health_core *a, struct buf *b)
{
    COUNTER("shardkv_wal_written_bytes_total", "Bytes written to the write-ahead logs.",
            a->wal.bytes);
    COUNTER("shardkv_wal_records_total", "Records written to the write-ahead logs.",
            a->wal.records);
    COUNTER("shardkv_wal_fsyncs_total", "Commits of the write-ahead logs, one fsync each.",
            a->wal.commits);
    metric_family(b, METRIC_HISTOGRAM, "shardkv_wal_fsync_seconds",
                  "Time of a commit's write and fsync.");
    metric_latency(b, "shardkv_wal_fsync_seconds", &a->wal.fsync, NULL, NULL);
    COUNTER("shardkv_wal_rotations_total", "Segments begun.", a->wal.rotations);
    COUNTER("shardkv_wal_reads_total", "Entries read back from the logs.", a->wal.reads);
    GAUGE("shardkv_wal_segments", "Segments that hold records.", a->wal_segments);
    GAUGE("shardkv_wal_size_bytes", "Size of the segments that hold records.", a->wal_bytes);
}

static void in_and_out(struct buf *b, const char *name, const char *help, uint64_t in, uint64_t out)
{
    metric_family(b, METRIC_COUNTER, name, help);
    metric_sample(b, name, (double)in, "direction", "in", NULL);
    metric_sample(b, name, (double)out, "direction", "out", NULL);
}

static void raft(const struct health_core *a, struct buf *b)
{
    COUNTER("shardkv_raft_elections_total", "Elections that replicas of this node stood for.",
            a->raft.elections);
    COUNTER("shardkv_raft_proposals_total", "Entries proposed.", a->raft.proposals);
    in_and_out(b, "shardkv_raft_messages_total", "Raft messages.", a->raft.messages_in,
               a->raft.messages_out);
    COUNTER("shardkv_raft_read_rounds_total", "Rounds that confirmed the leader for reads.",
            a->raft.read_rounds);
    GAUGE("shardkv_raft_log_memory_bytes", "Log entries held in memory.", a->raft.log_bytes);
    GAUGE("shardkv_raft_leaders", "Groups that this node leads.", a->leaders);
    in_and_out(b, "shardkv_snapshots_total", "Snapshots installed and sent.", a->raft.snapshots_in,
               a->raft.snapshots_out);
    in_and_out(b, "shardkv_snapshot_bytes_total", "Bytes of snapshots fetched and sent.",
               a->snapshot_bytes_in, a->snapshot_bytes_out);
    metric_family(b, METRIC_GAUGE, "shardkv_replicas", "Replicas on this node, by state.");
    for (unsigned s = 0; s < HEALTH_STATES; s++)
        metric_sample(b, "shardkv_replicas", (double)a->n_states[s], "state", health_state_name(s),
                      NULL);
    in_and_out(b, "shardkv_peer_frames_total", "Frames to and from other nodes.",
               a->peers.frames_in, a->peers.frames_out);
    COUNTER("shardkv_peer_messages_dropped_total", "Messages dropped because a link was full.",
            a->peers.dropped);
    COUNTER("shardkv_peer_connects_total", "Connections made to other nodes.", a->peers.connects);
}

static void engine(const struct health *h, const struct health_core *a, struct buf *b)
{
    GAUGE("shardkv_engine_memtable_bytes", "Writes in memory, all databases.",
          engine_memtable_bytes(h->node->engine));
    GAUGE("shardkv_engine_memtable_budget_bytes", "What rocksdb.memtable-budget allows.",
          engine_memtable_budget(h->node->engine));
    GAUGE("shardkv_engine_disk_bytes", "Size of all databases on disk.", a->disk_bytes);
    GAUGE("shardkv_engine_keys", "Keys in all databases, estimated.", a->keys);
    GAUGE("shardkv_engine_stalled", "Databases that slow writes down or stop them.", a->n_stalled);
    GAUGE("shardkv_disk_free_bytes", "Free space of the data directory's file system.",
          a->disk_free);
    GAUGE("shardkv_disk_size_bytes", "Size of the data directory's file system.", a->disk_size);
    GAUGE("shardkv_disk_full", "1: puts are refused for want of disk space.", a->no_space);
    GAUGE("shardkv_memory_full", "1: writes are refused, memtables are over their budget.",
          a->over_memory);
}

void health_metrics(const struct health *h, struct buf *b)
{
    struct health_core all;
    health_sum(h, &all);
    metric_process(b);
    requests(&all, b);
    loops(h, &all, b);
    wal(&all, b);
    raft(&all, b);
    engine(h, &all, b);
    GAUGE("shardkv_placement_connected", "1: placementd answers this node's heartbeats.",
          h->placement_connected);
    GAUGE("shardkv_map_version", "Version of the shard map in use.", all.map_version);
}
