/* Scenario files (*.scn): a workload and the faults it has to live with. One setting a line:
 *
 *   world raft|full        nodes N       groups N      placements N (full)
 *   clients N              keys N        reads PERCENT          think-ms N (mean pause of a client)
 *   members N (raft: voters at first; 0: all nodes)
 *   seconds N              healthy N     segment-kib N    begin N (s without faults first)
 *   latency-us MIN MAX     spike SHARE MS    loss SHARE
 *   fault NAME every SECONDS [for MIN MAX]     (names: nemesis.h)
 *   damage N               hosts of each kind that may lose data to flips and wipes (1); without a
 *                          majority of undamaged ones only safety is judged, not progress
 *   swarm                  each seed takes a random part of the faults
 *   operators 1            placementd and an operator's client move, split and merge: judged by
 * sim_cluster.h hosts N                machines that the nodes are spread over (0: one each) zones
 * N                zones of those (1) down-ms N              silence after which a node is down;
 * dead-ms N: and is replaced; stall-ms N: an operator is given up (0: placementd's defaults)
 *   removals 1             nodes may be removed for good
 *   replicas N             of a group, as it is laid out (0: 3, or 1 with fewer than three nodes)
 *   lease 1                leaders read by lease
 *   levels PERCENT         of the gets are weaker reads (full; checker_level.h)
 *   apart 1                clocks of servers run at 0.8 or 1.2 from the start, each seed others
 *   sessions N             clients that repeat their writes and count effects (sim_count.h)
 *   retention-ms N         limits.session-retention (0: the default)
 *   split-bytes N          a larger group is split (0: placementd's default); max-groups N
 *
 * '#' begins a comment. Thread: none of its own. */
#ifndef SIM_SCENARIO_H
#define SIM_SCENARIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

/* X(name, text) */
#define FAULT_TABLE(X)                                                                             \
    X(FAULT_KILL, "kill")                                                                          \
    X(FAULT_POWER, "power")                                                                        \
    X(FAULT_POWER_ALL, "power-all")                                                                \
    X(FAULT_CRASH_FS, "crash-fs")                                                                  \
    X(FAULT_PAUSE, "pause")                                                                        \
    X(FAULT_CUT_IN, "cut-in")                                                                      \
    X(FAULT_CUT_OUT, "cut-out")                                                                    \
    X(FAULT_CUT, "cut")                                                                            \
    X(FAULT_CUT_LINK, "cut-link")                                                                  \
    X(FAULT_PARTITION, "partition")                                                                \
    X(FAULT_CLOG, "clog")                                                                          \
    X(FAULT_RESET, "reset")                                                                        \
    X(FAULT_STALL, "stall")                                                                        \
    X(FAULT_SLOW, "slow")                                                                          \
    X(FAULT_CLOCK, "clock")                                                                        \
    X(FAULT_WRITE_ERROR, "write-error")                                                            \
    X(FAULT_READ_ERROR, "read-error")                                                              \
    X(FAULT_DISK_FULL, "disk-full")                                                                \
    X(FAULT_FLIP_WAL, "flip-wal")                                                                  \
    X(FAULT_FLIP_DATA, "flip-data")                                                                \
    X(FAULT_FLIP_MAP, "flip-map")                                                                  \
    X(FAULT_FLIP_ANY, "flip-any")                                                                  \
    X(FAULT_WIPE, "wipe")                                                                          \
    X(FAULT_TRANSFER, "transfer")                                                                  \
    X(FAULT_MEMBER, "member")                                                                      \
    X(FAULT_MERGE, "merge")                                                                        \
    X(FAULT_SPLIT, "split")                                                                        \
    X(FAULT_ADMIN, "admin")                                                                        \
    X(FAULT_GONE, "gone")                                                                          \
    X(FAULT_PLACEMENT, "placement")

#define FAULT_ENUM(name, text) name,
enum fault { FAULT_TABLE(FAULT_ENUM) FAULT_COUNT };
#undef FAULT_ENUM
const char *fault_name(enum fault f);

struct scenario_fault {
    double every;    /* mean, s; 0: off */
    double min, max; /* duration, s */
};

struct scenario {
    char name[64];
    bool full; /* world full instead of raft */
    bool swarm;
    unsigned nodes, members, groups, placements, clients, keys, reads;
    double think_ms, begin, seconds, healthy;
    unsigned segment_kib, damage;
    unsigned operators, hosts, zones, down_ms, dead_ms, stall_ms, split_bytes, max_groups;
    unsigned replicas, removals, lease, apart, levels, sessions, retention_ms;
    double latency_min_us, latency_max_us, spike, spike_ms, loss;
    struct scenario_fault fault[FAULT_COUNT];
};

static inline unsigned scenario_replicas(const struct scenario *s)
{
    return s->replicas ? s->replicas : s->nodes >= 3 ? 3 : 1;
}

/* ERR_NOT_FOUND, ERR_CONFIG with `msg`. */
MUST_USE enum err scenario_load(const char *path, struct scenario *out, char *msg, size_t n);

#endif
