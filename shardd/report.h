/* A node's line to placementd: registers it, sends heartbeats, takes steps and maps back.
 *
 * Policy-free: it gathers nothing and does nothing itself; the owner's callbacks do. It keeps one
 * connection to one placementd member, follows NOT_LEADER to the leader, and tries the members in
 * turn with jittered back-off (50 ms to 2 s) for as long as it takes: with all of placementd down
 * the node goes on as it was.
 *
 * Flow: connect -> node.register (once a process, and again if placementd does not know the node)
 * -> on_registered -> map.watch -> every interval: collect() -> the owner calls report_fill() ->
 * node.heartbeat -> on_step() for each step, on_map() when a newer map came. Interval: 1 s;
 * 100 ms as long as the node holds no group or the last reply had a step, so that a cluster
 * forms in well under a second. Steps are handed out again until a report proves them: on_step()
 * must be idempotent.
 *
 * Owner: core 0.  Thread: that core.  Depends on: io, conn, wire/msg_placement, msg_map.
 * The owner calls conn_set_flush() at the end of its turns. No callback is called from inside a
 * report_*() call, and report_destroy() must not be called from a callback. */
#ifndef SHARDD_REPORT_H
#define SHARDD_REPORT_H

#include "common/net/conn.h"
#include "common/wire/msg_heartbeat.h"
#include "common/wire/msg_placement.h"

#define REPORT_ADDRESSES 16

struct report;

struct report_options {
    struct io *io;
    struct conn_set *conns;          /* core 0's */
    unsigned n_placement;            /* 1 .. REPORT_ADDRESSES */
    const struct io_addr *placement; /* client ports of placementd's members; copied */
    unsigned n_learned; /* up to LIMIT_GROUP_MEMBERS: the same as they were last told */
    const struct io_addr *learned;
    /* Who we are; copied. has_cluster and cluster from the data directory's stamp (a node of one
     * cluster never joins another: on_refused). */
    struct msg_register self;
    void *arg; /* of all callbacks; all come from the loop */
    /* The cluster and our node id: make them durable (data_dir_save) if they are new. The id stays
     * the same for a name and incarnation. Called once a process, again only if it changed. */
    void (*on_registered)(void *arg, const uint8_t cluster[16], uint32_t node);
    /* Gather the status of all replicas, then call report_fill(r, ...) once, now or later
     * (answers of other cores by mail). Not called again before that. */
    void (*collect)(void *arg, struct report *r);
    /* One order; borrowed until return. Idempotent. */
    void (*on_step)(void *arg, const struct msg_step *step);
    /* Bytes/s that snapshots of this node may take, 0: no limit; with every answer. May be NULL. */
    void (*on_rate)(void *arg, uint64_t bytes_per_s);
    /* All members' addresses, when they have changed. May be NULL. */
    void (*on_members)(void *arg, const struct io_addr *addr, unsigned n);
    /* A newer map, whole; borrowed until return. Versions never go back; the same version may come
     * again with newer leader hints. */
    void (*on_map)(void *arg, const struct shard_map *map);
    /* placementd will not have us (name in use, other cluster, ...); it is asked again every 2 s.
     * Called when the reason changes. May be NULL. */
    void (*on_refused)(void *arg, enum err why, const char *text);
};

struct report *report_create(const struct report_options *o);
/* Takes NULL. No callback afterwards. The conn_set must still be there. */
void report_destroy(struct report *r);

/* Answers collect(). Borrows `h` until return; node, incarnation and have are filled in here. */
void report_fill(struct report *r, const struct msg_heartbeat *h);
/* Something worth telling has happened (a leader changed, a step is done): heartbeat at once, but
 * not more often than each 20 ms. */
void report_kick(struct report *r);

/* Other addresses of placementd, 1 to REPORT_ADDRESSES: for the next connection. */
void report_set_placement(struct report *r, const struct io_addr *placement, unsigned n);

bool report_connected(const struct report *r); /* a heartbeat was answered within 3 s */
/* Replicas that it had when it last reported. */
uint32_t report_groups(const struct report *r);
/* The newest map seen; version 0 and no shards before the first. Borrowed until the next turn. */
const struct shard_map *report_map(const struct report *r);

#endif
