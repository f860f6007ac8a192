/* shardd's configuration: TOML file and --set, in one struct. See deploy/ for a sample.
 * Thread: the main one, at start. */
#ifndef SHARDD_CONFIG_H
#define SHARDD_CONFIG_H

#include <stdbool.h>

#include "common/base/config.h"

struct shardd_config {
    char *name, *data_dir, *zone, *host;
    char *placement;                                 /* list, '\n' between */
    char *listen_client, *listen_peer, *listen_http; /* listen_http "": no HTTP */
    uint64_t cores;                                  /* 0: as many as processors */
    uint64_t wal_segment_size;
    char *wal_io; /* "fdatasync" or "dsync" */
    uint64_t log_memory, election_timeout_ms, heartbeat_ms;
    uint64_t block_cache, memtable_budget;
    char *compression;
    uint64_t key_max, value_max, snapshot_rate, session_retention_ms;
    char *log_level;
    bool insecure, read_lease;
};

#define SHARDD_PLACEMENT_MAX 16u
/* The addresses of cluster.placement; ERR_CONFIG: `msg` names the one that is none. */
struct io_addr;
MUST_USE enum err shardd_config_placement(const struct shardd_config *c, struct io_addr *out,
                                          unsigned *n, char *msg, size_t msgn);

extern const struct config_key shardd_config_keys[];
extern const size_t shardd_config_n;

enum config_action { CONFIG_RUN, CONFIG_EXIT_OK, CONFIG_EXIT_USAGE };

/* Reads the command line and the file it names; prints help, version, the checked configuration or
 * one line of error itself. *out is to be freed with config_free() in any case. */
enum config_action shardd_config_load(int argc, char **argv, struct shardd_config *out);

#endif
