/* Administrative calls for kvctl: blocking sockets with a deadline, one request at a time.
 *
 * Asks the addresses of a URL one after the other; placementd's followers point at their leader,
 * which is then asked. Not part of the library's interface.
 * Thread: the caller's.  Depends on: wire, meta. */
#ifndef CLIENT_KVADMIN_H
#define CLIENT_KVADMIN_H

#include "client/kvclient.h"
#include "common/base/slice.h"
#include "common/meta/shard_map.h"

struct kvadmin_node {
    uint32_t id;
    char name[LIMIT_NAME + 1], zone[LIMIT_NAME + 1], host[LIMIT_NAME + 1];
    char address[64], peer[64], state[32];
    uint64_t leaders, replicas, bytes, disk_free, disk_size, cores;
    bool heard;
    uint64_t heard_ms;
    bool draining;           /* whether it is up or not */
    uint64_t maintenance_ms; /* so long yet; 0: none */
};

struct kvadmin_replica {
    uint32_t node;
    uint64_t id, match;
    char role[16];
    bool created;
};

struct kvadmin_group {
    uint64_t id, term, bytes, keys;
    uint64_t reads, writes; /* a second */
    unsigned first_slot, last_slot;
    struct shard_epoch epoch;
    uint32_t leader; /* node; 0: not known */
    unsigned n_replicas;
    struct kvadmin_replica replica[LIMIT_GROUP_MEMBERS];
};

struct kvadmin_member {
    uint32_t id;
    char client[64], peer[64];
    char role[16]; /* voter, standby, leaving, expected */
    bool leader, heard;
    uint64_t heard_ms;
};

struct kvadmin_operator {
    uint64_t id, group, step, steps;
    uint64_t bytes, moved, age_ms;
    char kind[32], reason[160], state[32], doing[32], from[LIMIT_NAME + 1], to[LIMIT_NAME + 1];
    char waits_for[160];
};

#define KVADMIN_REASONS 16u
#define KVADMIN_MEMBERS 16u

struct kvadmin_status {
    char cluster[64], health[32], leader_addr[64];
    bool paused; /* balancing */
    uint64_t version;
    uint32_t from, leader;
    bool authoritative; /* the leader's own answer */
    unsigned n_reasons, n_members, n_nodes, n_groups, n_operators;
    char reason[KVADMIN_REASONS][160];
    struct kvadmin_member member[KVADMIN_MEMBERS];
    struct kvadmin_node *nodes;
    struct kvadmin_group *groups;
    struct kvadmin_operator *operators;
};

/* All: KV_OK and an initialised *out, or the failure with `msg` saying more. */
kv_err kvadmin_status(const char *url, unsigned timeout_ms, struct kvadmin_status *out, char *msg,
                      size_t n);
void kvadmin_status_close(struct kvadmin_status *s);
/* The map, from any address that has one; shard_map_close() it. */
kv_err kvadmin_map(const char *url, unsigned timeout_ms, struct shard_map *out, char *msg,
                   size_t n);
kv_err kvadmin_init(const char *url, unsigned timeout_ms, unsigned groups, unsigned replicas,
                    char *msg, size_t n);
/* Any method of the placement leader: `params` is the one params value, *out (the caller's to
 * close) gets the result as it came. `changes`: it is sent once only, and if no answer comes the
 * outcome is unknown. */
kv_err kvadmin_call(const char *url, unsigned timeout_ms, const char *method, struct slice params,
                    bool changes, struct buf *out, char *msg, size_t n);

#endif
