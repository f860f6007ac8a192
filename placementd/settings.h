/* placementd's settings: the table of keys and what follows from them.
 * Owner: main.  Thread: the main one, at start.  Depends on: config, members. */
#ifndef PLACEMENTD_SETTINGS_H
#define PLACEMENTD_SETTINGS_H

#include "common/base/config.h"
#include "placementd/members.h"

struct settings {
    /* as configured */
    uint64_t node_id;
    char *data_dir, *name;
    char *cluster_name, *cluster_members;
    bool join;
    char *listen_client, *listen_peer, *listen_http; /* listen_http "": no HTTP */
    bool insecure;
    uint64_t election_timeout_ms, heartbeat_ms;
    uint64_t segment_size;
    uint64_t replicas, groups;
    bool auto_rebalance;
    uint64_t max_moves, max_operators, max_groups, move_rate; /* move_rate: bytes/s, 0: no limit */
    uint64_t split_size, split_ops, hysteresis, disk_full;    /* bytes, ops/s, percent, percent */
    uint64_t suspect_after_ms, down_at_ms, down_after_ms, stall_after_ms;
    char *log_level;
    /* checked and derived by settings_check() */
    struct io_addr client, peer, http;
    struct members members;
    struct member *self; /* in members */
};

extern const struct config_key settings_keys[];
extern const size_t settings_n_keys;

/* Fills the derived part. ERR_CONFIG: `msg` names the key, what is wrong and the fix. `insecure`
 * allows addresses other than loopback. */
MUST_USE enum err settings_check(struct settings *s, bool insecure, char *msg, size_t n);

#endif
