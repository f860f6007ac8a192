/* One replica of a shard on this core: its Raft group, its database, its shard state, its paths.
 *
 * On disk: <data>/groups/<id>/db (the engine), .../snap-<n> (checkpoints being sent),
 * .../incoming-<n> (a snapshot being fetched). The engine holds the shard's state and position in
 * two meta keys, written in every batch, so data and position never come apart.
 *
 * States: STARTING (opening or being created, on an offload thread), RUNNING, INSTALLING (a
 * snapshot is being fetched or swapped in), BROKEN (its data cannot be served; reported), STOPPED.
 * One that broke by the disk (full, or an error of the engine) is closed, opened and replayed from
 * the log every second, later every half minute, until that works.
 *
 * Owner: struct core.  Thread: one core; the engine's slow calls on offload threads. */
#ifndef SHARDD_REPLICA_H
#define SHARDD_REPLICA_H

#include "common/raft/group.h"
#include "shardd/dedupe.h"
#include "shardd/engine.h"
#include "shardd/merge.h"
#include "shardd/load.h"
#include "shardd/read_path.h"
#include "shardd/scan.h"
#include "shardd/shard.h"
#include "shardd/split.h"
#include "shardd/write_path.h"

struct core;

enum replica_state {
    REPLICA_STARTING,
    REPLICA_RUNNING,
    REPLICA_INSTALLING,
    REPLICA_BROKEN,
    REPLICA_STOPPED,
};

struct replica {
    struct core *core;
    struct group *group; /* NULL unless RUNNING or INSTALLING */
    struct engine_db *db;
    struct shard shard;
    struct dedupe *dedupe; /* goes with shard */
    enum replica_state state;
    char path[3000];
    char broken[256];      /* why, when BROKEN */
    bool log_given_up;     /* BROKEN for good: its log holds the WAL no more */
    bool heals;            /* it may have been the disk's state: it is opened again */
    uint64_t reopen_at;    /* core's tick of the next try */
    uint64_t reopen_ticks; /* ticks between the last tries */

    struct load_ops ops;
    struct write_path writes;
    struct read_path reads;
    struct list dirty; /* core's list of replicas with work for the turn's end */

    struct engine_batch *batch;    /* of the run of entries being applied */
    struct group_position applied; /* what the batch brings the engine to */
    struct write_batch *replying;

    /* maintenance */
    bool busy_offload; /* one engine call at a time on an offload thread */
    bool touched;      /* written since its stats were last taken */
    struct engine_db_stats stats;
    uint64_t durable_index;                 /* of what the log was last cut to */
    unsigned checkpoints;                   /* snapshot_store_make() calls under way */
    uint64_t swept_at;                      /* core's tick; of `dedupe` when it was full */
    unsigned checkpointing;                 /* of them, those that use the engine */
    uint64_t offering[LIMIT_GROUP_MEMBERS]; /* for these replicas; 0: unused */
    uint64_t hold_until;                    /* core's tick; the log is kept for a receiver */
    struct replica_install *install;        /* under way, or NULL */
    bool doomed;        /* to be closed and its data destroyed, once nothing is under way */
    uint64_t tombstone; /* doomed: the version of the tombstones that has to be durable first */
    bool routed;        /* router_add() */
    struct scan_state scan;
    struct split split;

    /* A merge (merge_copy.h). */
    struct merge_copy *copy; /* phase TARGET: of the source's data; else NULL */
    uint64_t copies;         /* serial number of the last one */
    uint32_t lives;          /* how often its database was opened or replaced */
    struct merge_parking parking;

    uint64_t handover_until; /* ns; leadership is being handed over (handover.h); 0: not */
    /* The last step that this leader could not carry out (step.h). */
    uint64_t refused_op;
    enum err refused_err;

    /* The last change of the shard that was proposed here. */
    uint64_t change_index, change_term;
};

/* Blocking (at start): opens the replica in <data>/groups/<id> and starts its group. What cannot be
 * opened is kept as BROKEN, for the report. NULL: there is nothing of a replica there. */
struct replica *replica_open(struct core *core, uint64_t group_id);
/* Makes a new replica as placementd's order says, on an offload thread; it runs when done. */
void replica_create(struct core *core, const struct shard_desc *desc, uint64_t replica_id,
                    bool campaign);
/* Makes an empty one that waits for a snapshot: it is a member of its group once that has added it,
 * and owns no slot before it has a state. `desc`: what the map says, for the report until then. */
void replica_join(struct core *core, const struct shard_desc *desc, uint64_t replica_id);
/* Unsafe, by an operator's order: makes itself the only member, if no leader is known
 * (replica_force.c). ERR_OK: under way or done. ERR_BUSY; ERR_REFUSED: it leads, or has no state.
 */
MUST_USE enum err replica_force(struct replica *r);
/* Stops it: answers what waits, stops the group, closes the database, frees it.
 * CHECKs replica_quiet(). */
void replica_close(struct replica *r, enum err why);
/* Nothing of it is on an offload thread or being fetched. */
bool replica_quiet(const struct replica *r);
bool replica_is_leader(const struct replica *r);
/* Puts it on the core's list for the turn's end. */
void replica_mark_dirty(struct replica *r);
/* The map's description of its shard, as this replica knows it: for redirects and the report. */
void replica_describe(const struct replica *r, struct shard_desc *out);
/* Flushes what was written and cuts the log up to what that made durable. On an offload thread;
 * nothing happens if one is busy with this replica. */
void replica_maintain(struct replica *r);
void replica_set_broken(struct replica *r, enum err e, const char *text);
/* Closes and opens the database of a BROKEN replica whose group is stopped, if its time has come.
 */
void replica_reopen(struct replica *r);

/* ---- changes of the shard (replica_change.c) ---- */

struct shard_change;
/* Leader: proposes a split or a step of a merge; fills in epoch and time. Tried on a copy of the
 * shard first: ERR_REFUSED, ERR_WRONG_EPOCH. ERR_BUSY: the last one is not settled yet.
 * ERR_NOT_LEADER. ERR_OK says that it is on its way: the apply decides. */
MUST_USE enum err replica_propose_change(struct replica *r, struct shard_change *c);
bool replica_change_unsettled(const struct replica *r);
/* Leader: proposes a command without operations, so that the log's time comes up to this node's
 * wall clock. It is there when (index, term) has been applied. ERR_NOT_LEADER, ERR_BUSY. */
MUST_USE enum err replica_propose_clock(struct replica *r, uint64_t *index, uint64_t *term);
/* What a command proposed now would bring the log's time to. */
uint64_t replica_time_ms(const struct replica *r);
/* Applies a committed one. ERR_CORRUPT, ERR_FORMAT: nothing may go on. */
MUST_USE enum err replica_apply_change(struct replica *r, const struct group_entry *entry);

/* Writes r->batch with shard and position. Not while entries are being applied. */
void replica_write(struct replica *r);
/* Before an offload thread makes durable what is in memory: adds the rows of what is known of
 * sessions to it, and freezes it. Not while entries are being applied. */
void replica_freeze(struct replica *r);

/* ---- for replica_create.c ---- */

/* In core->replicas, STARTING. */
struct replica *replica_alloc(struct core *core, uint64_t group_id);
/* Starts its group from `position`, which its database has; RUNNING, or BROKEN. */
void replica_run(struct replica *r, const struct group_position *position, bool campaign);

/* ---- for replica_snapshot.c ---- */

/* Reads shard and position from a database; `durable`: as they would survive a crash now. */
MUST_USE enum err replica_load(struct engine_db *db, bool durable, struct shard *shard,
                               struct group_position *position);
/* The same from the directory of a database that is not open, which stays as it is. Blocking. */
MUST_USE enum err replica_peek(struct engine *e, const char *path, struct shard *shard,
                               struct group_position *position);
/* After that, and before its log goes on: the sessions that the database of `r`, just opened or
 * flushed, has. Blocking. */
MUST_USE enum err replica_load_sessions(struct replica *r);
/* Appends both to a batch. */
void replica_store(struct engine_batch *b, const struct shard *shard,
                   const struct group_position *position);
void replica_snapshot_wanted(void *arg, const struct group_member *to);
/* The store (its argument is the core) begins to need the engine of that group's replica; needs it
 * no more. */
void replica_checkpointing(void *arg, uint64_t group);
void replica_checkpointed(void *arg, uint64_t group);
/* The log is not cut for now: a member is fetching a snapshot, or is catching up behind one. It
 * would need the next one as soon as it has this, and so for ever under load. */
bool replica_holds_log(const struct replica *r);
void replica_install(void *arg, const struct group_position *p, struct slice manifest,
                     const struct group_member *from);
/* How much of it has arrived. */
uint64_t replica_install_bytes(const struct replica *r);
/* Gives up a fetch under way. */
void replica_install_cancel(struct replica *r);
/* Goes on with an installation that failed. On the core's tick. */
void replica_install_tick(struct replica *r);
/* Puts right a swap that a crash or a failure cut short. Blocking. */
MUST_USE enum err replica_swap_recover(const char *path);
/* That, and removes leftovers of checkpoints. Blocking, at start. */
MUST_USE enum err replica_snapshot_recover(const char *path);

#endif
