#include "shardd/config.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/version.h"
#include "common/io/fs.h"
#include "common/io/io.h"

#define AT(field) offsetof(struct shardd_config, field)

const struct config_key shardd_config_keys[] = {
    {"node", "id", CONFIG_STRING, AT(name), "", 0, LIMIT_NAME, "name of this node, unique"},
    {"node", "data-dir", CONFIG_STRING, AT(data_dir), "", 0, 2048, "directory of its data"},
    {"node", "zone", CONFIG_STRING, AT(zone), "", 0, LIMIT_NAME, "failure zone (rack, room)"},
    {"node", "host", CONFIG_STRING, AT(host), "", 0, LIMIT_NAME,
     "host label; no two replicas of a group share one (default: the host's name)"},
    {"node", "cores", CONFIG_UINT, AT(cores), "0", 0, LIMIT_CORES,
     "core threads; 0: one per processor. Fixed once the data directory is made"},
    {"cluster", "placement", CONFIG_STRING_LIST, AT(placement), "", 0, 0,
     "client addresses of placementd's members"},
    {"listen", "client", CONFIG_STRING, AT(listen_client), "127.0.0.1:7001", 1, 64,
     "ip:port for clients"},
    {"listen", "peer", CONFIG_STRING, AT(listen_peer), "127.0.0.1:7002", 1, 64,
     "ip:port for other nodes"},
    {"listen", "http", CONFIG_STRING, AT(listen_http), "", 0, 64,
     "ip:port for health, metrics and status; empty: none"},
    {"listen", "insecure", CONFIG_BOOL, AT(insecure), "false", 0, 0,
     "allow a non-loopback address although there is no TLS"},
    {"wal", "segment-size", CONFIG_SIZE, AT(wal_segment_size), "64MiB", 32 * MIB, 1 * GIB,
     "size of a WAL segment, less on a small disk; fixed once the data directory is made"},
    {"wal", "io", CONFIG_STRING, AT(wal_io), "fdatasync", 1, 16,
     "fdatasync: write then fdatasync; dsync: one write with RWF_DSYNC (disks with FUA)"},
    {"raft", "log-memory", CONFIG_SIZE, AT(log_memory), "64MiB", 1 * MIB, 0,
     "recent log entries kept in memory, whole node"},
    {"raft", "election-timeout", CONFIG_DURATION_MS, AT(election_timeout_ms), "500ms", 100, 10000,
     "a leader is replaced after so long a silence"},
    {"raft", "heartbeat", CONFIG_DURATION_MS, AT(heartbeat_ms), "100ms", 10, 1000,
     "interval of a leader's heartbeats"},
    {"raft", "read-lease", CONFIG_BOOL, AT(read_lease), "false", 0, 0,
     "leaders read without asking the others; the election timeout must be the same on all nodes"},
    {"raft", "snapshot-rate", CONFIG_SIZE, AT(snapshot_rate), "0", 0, 0,
     "bytes per second of snapshots, each way and core; 0: no limit"},
    {"rocksdb", "block-cache", CONFIG_SIZE, AT(block_cache), "64MiB", 1 * MIB, 0,
     "cache of data blocks, whole node"},
    {"rocksdb", "memtable-budget", CONFIG_SIZE, AT(memtable_budget), "128MiB", 8 * MIB, 0,
     "memory for writes not yet flushed, whole node"},
    {"rocksdb", "compression", CONFIG_STRING, AT(compression), "none", 1, 8, "none, lz4 or zstd"},
    {"limits", "key-size", CONFIG_SIZE, AT(key_max), "4KiB", 1, LIMIT_KEY, "largest key"},
    {"limits", "value-size", CONFIG_SIZE, AT(value_max), "1MiB", 1, LIMIT_VALUE_MAX,
     "largest value"},
    {"limits", "session-retention", CONFIG_DURATION_MS, AT(session_retention_ms), "10m", 10000,
     86400000, "how long a repeated write is known as one"},
    {"log", "level", CONFIG_STRING, AT(log_level), "info", 1, 8, "debug, info, warn or error"},
};
const size_t shardd_config_n = sizeof shardd_config_keys / sizeof shardd_config_keys[0];

static void usage(FILE *to)
{
    fprintf(to, "Usage: shardd [--config FILE] [--set SECTION.KEY=VALUE]... [options]\n"
                "Serves shards of a shardkv cluster.\n\n"
                "  -c, --config FILE    TOML configuration\n"
                "  -s, --set S.K=VALUE  overrides one key (see below)\n"
                "      --cores N        short for --set node.cores=N\n"
                "      --insecure       short for --set listen.insecure=true\n"
                "      --check-config   checks, prints what is in force, and exits\n"
                "      --version, --help\n\nKeys:\n");
    for (size_t i = 0; i < shardd_config_n; i++) {
        const struct config_key *k = &shardd_config_keys[i];
        fprintf(to, "  %s.%-*s %s%s%s%s\n", k->section, 24 - (int)strlen(k->section), k->key,
                k->help, k->def[0] ? " [" : "", k->def, k->def[0] ? "]" : "");
    }
    fprintf(to,
            "\nExit code: 0 stopped, 1 failed, 2 wrong configuration, 3 the cluster refuses this\n"
            "node, 4 the data directory is damaged or another's, 70 the log could not be made\n"
            "durable.\n");
}

static bool load_file(const char *path, struct shardd_config *out, char *msg, size_t n)
{
    struct buf text = {0};
    enum err e = fs_read_file(path, &text);
    if (e != ERR_OK)
        snprintf(msg, n, "%s: %s", path, fs_last_error());
    else
        e = config_parse(shardd_config_keys, shardd_config_n, path, buf_slice(&text), out, msg, n);
    buf_close(&text);
    return e == ERR_OK;
}

enum err shardd_config_placement(const struct shardd_config *c, struct io_addr *out, unsigned *n,
                                 char *msg, size_t msgn)
{
    size_t it = 0;
    struct slice item;
    *n = 0;
    while (config_list_next(c->placement, &it, &item)) {
        char text[64];
        snprintf(text, sizeof text, "%.*s", (int)(item.n < 63 ? item.n : 63), (const char *)item.p);
        if (*n == SHARDD_PLACEMENT_MAX) {
            snprintf(msg, msgn, "cluster.placement: more than %u addresses", SHARDD_PLACEMENT_MAX);
            return ERR_CONFIG;
        }
        if (io_addr_parse(text, &out[(*n)++]) != ERR_OK) {
            snprintf(msg, msgn, "cluster.placement: \"%s\" is not ip:port", text);
            return ERR_CONFIG;
        }
    }
    return ERR_OK;
}

/* What the table cannot say. */
static bool check(struct shardd_config *c, char *msg, size_t n)
{
    enum log_level level;
    struct io_addr addr;
    struct io_addr placement[SHARDD_PLACEMENT_MAX];
    unsigned n_placement;
    const char *addrs[] = {c->listen_client, c->listen_peer, c->listen_http};
    if (!c->name[0])
        snprintf(msg, n, "node.id is not set: give this node a name, as --set node.id=n1");
    else if (!c->data_dir[0])
        snprintf(msg, n,
                 "node.data-dir is not set: name a directory for the data, as --set "
                 "node.data-dir=/var/lib/shardkv/shardd, or in the file that --config names");
    else if (!c->placement[0])
        snprintf(msg, n, "cluster.placement is not set: list placementd's client addresses");
    else if (strcmp(c->wal_io, "fdatasync") != 0 && strcmp(c->wal_io, "dsync") != 0)
        snprintf(msg, n, "wal.io is \"%s\": take fdatasync or dsync", c->wal_io);
    else if (strcmp(c->compression, "none") != 0 && strcmp(c->compression, "lz4") != 0 &&
             strcmp(c->compression, "zstd") != 0)
        snprintf(msg, n, "rocksdb.compression is \"%s\": take none, lz4 or zstd", c->compression);
    else if (!log_level_parse(c->log_level, &level))
        snprintf(msg, n, "log.level is \"%s\": take debug, info, warn or error", c->log_level);
    else if (c->heartbeat_ms * 2 > c->election_timeout_ms)
        snprintf(msg, n, "raft.heartbeat must be at most half of raft.election-timeout");
    else
        msg[0] = 0;
    if (!msg[0] && shardd_config_placement(c, placement, &n_placement, msg, n) != ERR_OK)
        return false;
    for (unsigned i = 0; i < 3 && !msg[0]; i++) {
        if (i == 2 && !addrs[i][0])
            break;
        if (io_addr_parse(addrs[i], &addr) != ERR_OK)
            snprintf(msg, n, "\"%s\" is not an address: write ip:port, as 127.0.0.1:7001",
                     addrs[i]);
        else if (!io_addr_is_loopback(&addr) && !c->insecure)
            snprintf(msg, n,
                     "listening on %s would be open to the network without TLS: use a loopback "
                     "address, or --insecure if the network is trusted",
                     addrs[i]);
    }
    return msg[0] == 0;
}

static void fill_defaults(struct shardd_config *c)
{
    if (c->cores == 0) {
        long n = sysconf(_SC_NPROCESSORS_ONLN);
        c->cores = n < 1 ? 1 : (uint64_t)n > LIMIT_CORES ? LIMIT_CORES : (uint64_t)n;
    }
    if (!c->host[0]) {
        char host[LIMIT_NAME + 1] = "";
        if (gethostname(host, sizeof host - 1) != 0)
            snprintf(host, sizeof host, "localhost");
        free(c->host);
        c->host = strdup(host);
    }
}

static enum config_action fail(const char *msg)
{
    fprintf(stderr, "shardd: %s\n", msg);
    return CONFIG_EXIT_USAGE;
}

enum config_action shardd_config_load(int argc, char **argv, struct shardd_config *out)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"set", required_argument, NULL, 's'},
        {"cores", required_argument, NULL, 'n'},  {"insecure", no_argument, NULL, 'i'},
        {"check-config", no_argument, NULL, 'k'}, {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
    char msg[512], cores[64];
    bool check_only = false;
    memset(out, 0, sizeof *out);
    if (config_defaults(shardd_config_keys, shardd_config_n, out) != ERR_OK)
        return fail("a default of the configuration table is wrong");
    /* The file first, whatever the order: --set overrides it. */
    for (int pass = 0; pass < 2; pass++) {
        int o;
        optind = 1;
        opterr = pass == 0;
        while ((o = getopt_long(argc, argv, "c:s:h", options, NULL)) != -1) {
            bool ok = true;
            msg[0] = 0;
            if (o == '?')
                return CONFIG_EXIT_USAGE;
            if (o == 'h' || o == 'v') {
                o == 'h' ? usage(stdout) : (void)puts("shardd (shardkv) " SHARDKV_VERSION);
                return CONFIG_EXIT_OK;
            }
            snprintf(cores, sizeof cores, "node.cores=%.40s", o == 'n' ? optarg : "");
            if (o == 'c' && pass == 0)
                ok = load_file(optarg, out, msg, sizeof msg);
            else if (pass == 1 && (o == 's' || o == 'n' || o == 'i'))
                ok = config_set(shardd_config_keys, shardd_config_n,
                                o == 's'   ? optarg
                                : o == 'n' ? cores
                                           : "listen.insecure=true",
                                out, msg, sizeof msg) == ERR_OK;
            else if (o == 'k')
                check_only = true;
            if (!ok)
                return fail(msg);
        }
    }
    if (optind < argc) {
        snprintf(msg, sizeof msg, "unexpected argument \"%s\"; see --help", argv[optind]);
        return fail(msg);
    }
    if (!check(out, msg, sizeof msg))
        return fail(msg);
    fill_defaults(out);
    if (check_only) {
        struct buf text = {0};
        config_print(shardd_config_keys, shardd_config_n, out, &text);
        fwrite(text.p, 1, text.n, stdout);
        buf_close(&text);
        return CONFIG_EXIT_OK;
    }
    return CONFIG_RUN;
}
