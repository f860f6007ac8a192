#include "placementd/settings.h"

#include <stddef.h>
#include <stdio.h>

#include "common/base/log.h"

#define AT(field) offsetof(struct settings, field)

const struct config_key settings_keys[] = {
    {"node", "id", CONFIG_UINT, AT(node_id), "1", 1, 0xffff,
     "id of this member in cluster.members"},
    {"node", "data-dir", CONFIG_STRING, AT(data_dir), "", 0, 3072,
     "where the log and the state are kept"},
    {"node", "name", CONFIG_STRING, AT(name), NULL, 0, LIMIT_NAME,
     "name of this member; pID if empty"},
    {"cluster", "name", CONFIG_STRING, AT(cluster_name), "shardkv", 1, LIMIT_NAME,
     "members of clusters with different names refuse each other"},
    {"cluster", "members", CONFIG_STRING_LIST, AT(cluster_members), NULL, 0, 0,
     "peer addresses of all placementd members: ID=IP:PORT; empty: this one alone"},
    {"cluster", "join", CONFIG_BOOL, AT(join), "false", 0, 0,
     "at its first start this member waits to be added (kvctl cluster member add)"},
    {"listen", "client", CONFIG_STRING, AT(listen_client), "127.0.0.1:7001", 1, 63,
     "address for nodes, clients and kvctl"},
    {"listen", "peer", CONFIG_STRING, AT(listen_peer), NULL, 0, 63,
     "address for the other members; this member's entry in cluster.members if empty"},
    {"listen", "http", CONFIG_STRING, AT(listen_http), "", 0, 63,
     "address for health, metrics and status; empty: none"},
    {"listen", "insecure", CONFIG_BOOL, AT(insecure), "false", 0, 0,
     "allow addresses other than loopback although there is no TLS"},
    {"raft", "election-timeout", CONFIG_DURATION_MS, AT(election_timeout_ms), "500ms", 50, 60000,
     "silence of the leader after which a member stands for election"},
    {"raft", "heartbeat", CONFIG_DURATION_MS, AT(heartbeat_ms), "100ms", 10, 10000,
     "interval of the leader's heartbeats"},
    {"wal", "segment-size", CONFIG_SIZE, AT(segment_size), "16MiB", 16 * MIB, 1 * GIB,
     "size of one file of the log; fixed once the data directory is made"},
    {"placement", "replicas", CONFIG_UINT, AT(replicas), "3", 1, CLUSTER_REPLICAS_MAX,
     "replicas of a group when cluster.init does not say: 1, 3 or 5"},
    {"placement", "groups", CONFIG_UINT, AT(groups), "8", 1, LIMIT_SLOTS,
     "groups when cluster.init does not say"},
    {"placement", "auto-rebalance", CONFIG_BOOL, AT(auto_rebalance), "true", 0, 0,
     "balance leaders and bytes, split large shards; repair and drains go on without it"},
    {"placement", "max-moves", CONFIG_UINT, AT(max_moves), "2", 1, 64,
     "moves of replicas into, and out of, one node at a time"},
    {"placement", "max-operators", CONFIG_UINT, AT(max_operators), "0", 0, CLUSTER_OPERATORS_MAX,
     "operators under way at a time in the whole cluster; 0: no limit"},
    {"placement", "move-rate", CONFIG_SIZE, AT(move_rate), "100MiB", 0, 0,
     "bytes a second that moves of one node may take; 0: no limit"},
    {"placement", "split-size", CONFIG_SIZE, AT(split_size), "32GiB", 0, 0,
     "a shard larger than this is split; 0: never"},
    {"placement", "split-ops", CONFIG_UINT, AT(split_ops), "0", 0, 0,
     "a shard with more operations a second than this is split; 0: never"},
    {"placement", "max-groups", CONFIG_UINT, AT(max_groups), "16384", 1, CLUSTER_GROUPS_MAX,
     "no shard is split beyond so many groups"},
    {"placement", "hysteresis", CONFIG_UINT, AT(hysteresis), "5", 1, 50,
     "percent that a node may be off the mean before anything is moved"},
    {"placement", "disk-full", CONFIG_UINT, AT(disk_full), "80", 10, 95,
     "percent of a node's disk in use above which nothing is moved there"},
    {"placement", "suspect-after", CONFIG_DURATION_MS, AT(suspect_after_ms), "5s", 200, 0,
     "silence after which a node is suspect: nothing is moved there"},
    {"placement", "down-at", CONFIG_DURATION_MS, AT(down_at_ms), "20s", 500, 0,
     "silence after which a node is down"},
    {"placement", "down-after", CONFIG_DURATION_MS, AT(down_after_ms), "10m", 500, 0,
     "silence after which the replicas of a node are replaced, unless it is in maintenance"},
    {"placement", "stall-after", CONFIG_DURATION_MS, AT(stall_after_ms), "2m", 1000, 0,
     "an operator that makes no progress for so long is given up"},
    {"log", "level", CONFIG_STRING, AT(log_level), "info", 1, 8, "debug, info, warn or error"},
};
const size_t settings_n_keys = sizeof(settings_keys) / sizeof(settings_keys[0]);

static enum err address(const char *key, const char *text, bool insecure, struct io_addr *out,
                        char *msg, size_t n)
{
    if (io_addr_parse(text, out) != ERR_OK) {
        snprintf(msg, n, "%s: \"%s\" is not IP:PORT (names are not resolved)", key, text);
        return ERR_CONFIG;
    }
    if (!io_addr_is_loopback(out) && !insecure) {
        snprintf(msg, n,
                 "%s: %s is not a loopback address and there is no TLS: use 127.0.0.1, or give "
                 "--insecure (listen.insecure=true) on a network that you trust",
                 key, text);
        return ERR_CONFIG;
    }
    return ERR_OK;
}

static enum err check_members(struct settings *s, bool insecure, char *msg, size_t n)
{
    char alone[128];
    const char *list = s->cluster_members;
    if (!list[0]) {
        const char *peer = s->listen_peer[0] ? s->listen_peer : "127.0.0.1:7101";
        snprintf(alone, sizeof(alone), "%llu=%s", (unsigned long long)s->node_id, peer);
        list = alone;
    }
    enum err e = members_parse(list, &s->members, msg, n);
    if (e != ERR_OK)
        return e;
    if (!s->join && s->members.n % 2 == 0) {
        snprintf(
            msg, n,
            "cluster.members: %u members given; it must be 1, 3 or 5. A member that is to join "
            "a running group needs cluster.join=true",
            s->members.n);
        return ERR_CONFIG;
    }
    s->self = members_find(&s->members, (uint32_t)s->node_id);
    if (!s->self) {
        snprintf(msg, n, "node.id: %llu is not in cluster.members", (unsigned long long)s->node_id);
        return ERR_CONFIG;
    }
    char peer[64];
    io_addr_format(&s->self->peer, peer);
    return address("listen.peer", s->listen_peer[0] ? s->listen_peer : peer, insecure, &s->peer,
                   msg, n);
}

enum err settings_check(struct settings *s, bool insecure, char *msg, size_t n)
{
    enum log_level level;
    insecure = insecure || s->insecure;
    if (!s->data_dir[0]) {
        snprintf(msg, n,
                 "node.data-dir is not set: name a directory for the log and the state, as "
                 "--set node.data-dir=/var/lib/shardkv/placementd, or in the file that "
                 "--config names");
        return ERR_CONFIG;
    }
    enum err e = address("listen.client", s->listen_client, insecure, &s->client, msg, n);
    if (e == ERR_OK && s->listen_http[0])
        e = address("listen.http", s->listen_http, insecure, &s->http, msg, n);
    if (e == ERR_OK)
        e = check_members(s, insecure, msg, n);
    if (e != ERR_OK)
        return e;
    if (!log_level_parse(s->log_level, &level)) {
        snprintf(msg, n, "log.level: \"%s\" is not debug, info, warn or error", s->log_level);
        return ERR_CONFIG;
    }
    if (s->replicas % 2 == 0) {
        snprintf(msg, n, "placement.replicas: must be 1, 3 or 5");
        return ERR_CONFIG;
    }
    if (s->down_at_ms < s->suspect_after_ms || s->down_after_ms < s->down_at_ms) {
        snprintf(msg, n,
                 "placement.down-after: must be at least placement.down-at, and that at least "
                 "placement.suspect-after");
        return ERR_CONFIG;
    }
    if (s->election_timeout_ms < 3 * s->heartbeat_ms) {
        snprintf(msg, n, "raft.election-timeout: must be at least three times raft.heartbeat");
        return ERR_CONFIG;
    }
    return ERR_OK;
}
