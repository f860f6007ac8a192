/* Composition root of one core thread: its loop, WAL, groups, peers, sessions and replicas.
 *
 * A turn: completions, timers and mail run their callbacks; then core_turn() flushes in this order:
 * writes proposed and reads gathered (one of each per group), groups (WAL, held messages, read
 * rounds), peer frames, connections (one send each).
 *
 * Cores share nothing but struct node, which is constant while they run; everything else goes by
 * mail. A group lives on core (group id mod cores).
 *
 * Owner: struct server (or the simulator).  Thread: its own. */
#ifndef SHARDD_CORE_H
#define SHARDD_CORE_H

#include <stdatomic.h>

#include "common/base/map.h"
#include "common/net/peer.h"
#include "common/raft/group_set.h"
#include "common/raft/snapshot_wire.h"
#include "shardd/load.h"
#include "shardd/replica.h"
#include "shardd/router.h"
#include "shardd/tombstone.h"
#include "shardd/stats.h"

struct core;
struct snapshot_store;
struct snapshot_server;
struct snapshot_fetch_options;

/* Settings of the node. */
struct node_options {
    const char *data_dir; /* opened and locked by the caller */
    const char *name, *zone, *host;
    uint64_t incarnation;
    unsigned cores;
    unsigned clients; /* connections of a core; 0: LIMIT_CONNECTIONS */
    uint64_t key_max, value_max;
    uint64_t wal_segment_size;
    uint64_t log_memory; /* of the node; divided among the cores */
    unsigned election_timeout_ms, heartbeat_ms;
    bool read_lease;               /* leaders read by lease */
    uint64_t snapshot_rate;        /* bytes/s, 0: none */
    uint64_t session_retention_ms; /* 0: SESSION_RETENTION_MS */
    uint64_t merge_chunk;          /* bytes of a merge's copy at a time; 0: 256 KiB */
};

/* What all cores of a node see. */
struct node {
    struct node_options options;
    struct engine *engine;
    struct core *core[LIMIT_CORES];
    /* Called on any core's thread: the node must end (a WAL failed). Does not return in
     * production. */
    void (*on_fatal)(void *arg, enum err why, const char *text);
    /* Something worth reporting changed (a leader, a replica). On the changed core's thread. */
    void (*on_changed)(void *arg, struct core *c);
    void *arg;
    /* How far the start has come, for those who wait for it: bytes of the WAL (cores add to both),
     * replicas opened. Any thread. */
    atomic_ullong replay_done, replay_total, replicas_opened;
    atomic_bool registered; /* placementd has taken us in this run */
};

#define SESSION_RETENTION_MS 600000u
static inline uint64_t node_session_retention(const struct node *n)
{
    uint64_t ms = n->options.session_retention_ms;
    return ms ? ms : SESSION_RETENTION_MS;
}

/* Per cent of the WAL's bytes read so far. */
static inline unsigned node_replayed(const struct node *n)
{
    unsigned long long total = atomic_load(&n->replay_total), done = atomic_load(&n->replay_done);
    return total == 0 ? 0 : done >= total ? 100 : (unsigned)(done * 100 / total);
}

struct core {
    struct node *node;
    unsigned number;
    struct io *io;
    struct conn_set *conns;
    struct group_set *groups;
    uint64_t wal_id; /* of its WAL; constant: other cores may read it */
    struct tombstones tombstones;
    struct peer_set *peers; /* NULL until the node is a member of a cluster */
    struct snapshot_store *snapshots;
    struct snapshot_server *snapshot_server;
    struct snapshot_rate fetch_rate;
    struct load load;
    uint64_t key_max, value_max; /* of node_options, until core_set_limits() */
    uint8_t cluster[16];
    uint32_t node_id; /* 0 until then */

    struct map replicas; /* group id -> struct replica */
    struct router router;
    struct shard_map map;
    struct list dirty; /* replicas with work for the turn's end */
    struct list sessions;
    struct map session_by_id;
    uint64_t next_session;

    /* Bytes of requests that other cores have forwarded and this one has not taken up yet: the only
     * field that other cores touch. */
    atomic_size_t inbound;
    struct list requests; /* all unanswered */
    unsigned n_requests;
    uint64_t request_bytes;
    struct list spare_requests; /* their memory, for the next ones (request.c) */
    unsigned n_spare_requests;
    uint64_t turn_values; /* bytes of values that this turn has answered with */
    uint64_t next_deadline;

    struct io_timer tick; /* 100 ms: deadlines, maintenance */
    uint64_t ticks;
    uint64_t removals;     /* serial number: each directory that goes has a name of its own */
    atomic_ullong alive;   /* grows with each tick: another thread sees that the loop turns */
    bool over_memory;      /* memtables over budget: BUSY */
    bool space_near;       /* few reserves are left: looked at each tick */
    bool no_space;         /* disk nearly full: puts get NO_SPACE, deletes are taken */
    unsigned offload_jobs; /* engine jobs of replicas under way */
    uint64_t disk_free, disk_size;
    struct io_work space_work;
    uint64_t space_free, space_size; /* what it found; its own while space_busy */
    bool space_busy;

    /* clean stop */
    bool draining; /* new requests are refused */
    int stage;
    uint64_t stop_deadline;
    void (*on_stopped)(void *arg);
    void *stopped_arg;
    struct core_stats stats;
};

/* Recovers the WAL and opens this core's replicas (blocking), then is ready to run on `io`. With
 * `node_id` 0 the node has not joined a cluster yet: core_join() comes later. */
MUST_USE enum err core_create(struct node *node, unsigned number, struct io *io,
                              const uint8_t cluster[16], uint32_t node_id, struct core **out,
                              char *msg, size_t n);
/* After its loop has ended. */
void core_destroy(struct core *c);

/* The node is a member now (same values again: no-op). On the core's thread. */
void core_join(struct core *c, const uint8_t cluster[16], uint32_t node_id);
/* An accepted client or peer socket, on the core's thread. */
void core_accept_client(struct core *c, int handle);
void core_accept_peer(struct core *c, int handle);
/* A newer map (copied). On the core's thread. */
void core_set_map(struct core *c, const struct shard_map *map);
/* Limits that may change while it runs; bytes/s of snapshots each way (0: none). On the core's
 * thread. */
void core_set_limits(struct core *c, uint64_t key_max, uint64_t value_max, uint64_t snapshot_rate);
/* Starts a clean stop: new requests are refused, leaderships handed over, what is under way ends or
 * is given up after `ms`; then the replicas and the WAL are closed and `stopped` is called from the
 * loop: io_stop() and, after the loop, core_destroy(). */
void core_stop(struct core *c, unsigned ms, void (*stopped)(void *arg), void *arg);

struct replica *core_find_replica(struct core *c, uint64_t group);
unsigned core_of_group(const struct node *n, uint64_t group);
/* Runs a function on another core's thread: fn(core, arg). Any thread. */
void core_post(struct core *to, void (*fn)(struct core *c, void *arg), void *arg);
/* Destroys a replica and its data by order of placementd (it must be `replica`). */
void core_destroy_replica(struct core *c, uint64_t group, uint64_t replica);
/* Tells the node that something worth reporting changed. */
void core_changed(struct core *c);
/* Fills in who we are and how to find others. */
void core_fetch_options(struct core *c, struct snapshot_fetch_options *o);
/* For callbacks whose argument is a replica: the address of a node's peer port. */
bool core_resolve_replica(void *arg, uint32_t node, struct io_addr *out);

#endif
