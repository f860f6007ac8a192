/* One replica of a Raft group: drives libraft's raft_step() and guards its known bugs.
 *
 * Input: messages of peers, proposals, timers, durable lsns. Output, in libraft's order of duty:
 * term and vote to the WAL (messages of the group are held back until they are durable), entries to
 * the WAL, messages to peers, committed entries to apply(). The group's log keeps recent entries in
 * memory under a byte budget and reads older ones back from the WAL.
 *
 * Every entry is applied exactly once in a run of the process, in order of index. On a restart the
 * owner starts the group at the position that its engine has made durable; entries after that are
 * applied again once they are known to be committed.
 *
 * Linearizable reads: ReadIndex by stamps, or a lease (group_read); reads of followers
 * (group_follower_read). See common/raft/README.md for the guards.
 *
 * Owner: struct group_set.  Thread: one core.  Depends on: wal, meta, wire, libraft. */
#ifndef RAFT_GROUP_H
#define RAFT_GROUP_H

#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/base/list.h"
#include "common/base/slice.h"
#include "common/io/io.h"

struct group;
struct group_set;

enum group_role { GROUP_STANDBY = 0, GROUP_VOTER = 1, GROUP_SPARE = 2 }; /* libraft's numbers */

struct group_member {
    uint64_t replica; /* unique for ever within the cluster, never 0 */
    uint32_t node;
    uint8_t role; /* enum group_role */
};

struct group_conf {
    uint32_t n;
    struct group_member member[LIMIT_GROUP_MEMBERS];
};

/* A point of the log together with what a snapshot must know: the state after applying `index`. */
struct group_position {
    uint64_t index, term;
    uint64_t conf_index; /* index of the entry that made `conf`; 1 for the initial one */
    struct group_conf conf;
};
void group_position_encode(const struct group_position *p, struct buf *out);
MUST_USE enum err group_position_decode(struct cursor *c, struct group_position *out);
bool group_conf_equal(const struct group_conf *a, const struct group_conf *b);
/* NULL if not a member. */
const struct group_member *group_conf_find(const struct group_conf *c, uint64_t replica);

enum group_state { GROUP_FOLLOWER, GROUP_CANDIDATE, GROUP_LEADER };

struct group_entry {
    uint64_t index, term;
    struct slice payload; /* borrowed until return */
};

/* What the driver asks of its owner. All calls come from the loop or from inside a group_*() call;
 * the owner may call group_propose() and group_read() from them, but not group_stop(). */
struct group_ops {
    /* The next committed command. Non-command entries (barriers, configurations) are not shown, but
     * move group_applied(). */
    void (*apply)(void *arg, const struct group_entry *e);
    /* End of a run of entries: write the engine's batch (with group_applied() as its position) and
     * answer. Called also when the run had no command. */
    void (*applied)(void *arg);
    /* The role, the term or the known leader has changed (leader NULL: none known). */
    void (*on_state)(void *arg, enum group_state state, uint64_t term,
                     const struct group_member *leader);
    /* A configuration was committed; group_applied() has it. */
    void (*on_conf)(void *arg, const struct group_conf *conf);
    /* Leader: `to` needs a snapshot. Make (or reuse) a checkpoint, then group_offer_snapshot(). May
     * be asked again for the same member; the owner keeps one under way per member. */
    void (*snapshot_wanted)(void *arg, const struct group_member *to);
    /* Follower: fetch the snapshot that `manifest` describes from `from`, make it durable and swap
     * it in (engine closed, replaced, opened), then group_installed(); or group_install_failed().
     * No apply() comes meanwhile. `manifest` is borrowed until return. */
    void (*install)(void *arg, const struct group_position *p, struct slice manifest,
                    const struct group_member *from);
    /* The log or the library failed in a way that only this replica suffers from (a damaged WAL
     * record read back): it is stopped; the owner reports it and has it re-seeded. */
    void (*on_broken)(void *arg, enum err why, const char *text);
};

struct group_options {
    uint64_t group;   /* id, never 0 */
    uint64_t replica; /* our own id in it */
    /* What the owner's engine has durably applied. A new group starts at {1, 1, 1, initial conf}.
     */
    struct group_position durable;
    bool create;   /* new: there must be no log of it in the WAL (ERR_EXISTS) */
    bool campaign; /* stand for election at once instead of after a timeout (first start) */
    const struct group_ops *ops;
    void *arg;
};

/* ERR_CORRUPT: the log in the WAL does not continue the durable position. */
MUST_USE enum err group_start(struct group_set *set, const struct group_options *options,
                              struct group **out);
/* Stops and frees it; pending reads fail with ERR_SHUTTING_DOWN; the log stays on disk. */
void group_stop(struct group *g);

/* Proposes one packed entry (copied). ERR_OK: it has *index at the current term; watch apply() (an
 * entry there with this index and another term means: surely not applied). ERR_NOT_LEADER;
 * ERR_BUSY: in-flight window full or transfer under way; nothing was proposed. */
MUST_USE enum err group_propose(struct group *g, struct slice payload, uint64_t *index,
                                uint64_t *term);

/* A linearizable read: done(ERR_OK) once this replica is proven leader after the call and has
 * applied all that was committed before it: read the engine inside done() or in the same turn.
 * Else ERR_NOT_LEADER, ERR_SHUTTING_DOWN. Zero the struct and set done; keep it until done. */
struct group_read {
    struct list link;  /* private */
    uint64_t stamp;    /* private */
    uint64_t index;    /* private */
    uint64_t until_ms; /* private */
    void (*done)(struct group_read *r, enum err result);
};
void group_read(struct group *g, struct group_read *r);
/* A read that any replica may do, leading or not: done(ERR_OK) once what it has applied is no older
 * than `max_age` ns before the call; 0: once it has applied all that was committed before the call.
 * A follower asks its leader, which proves that it leads; ERR_NOT_LEADER if that, or the applying,
 * takes more than a quarter of a second: the leader is to be asked. */
void group_follower_read(struct group *g, struct group_read *r, uint64_t max_age);
/* What is applied is known to be no older than that now: group_follower_read() would have nothing
 * to wait for. True time: a clock that runs slow is allowed for. */
bool group_fresh(struct group *g, uint64_t max_age);
/* Gives up a read that is not done yet: done() will not be called. */
void group_read_cancel(struct group_read *r);

/* The engine has made the state at `p` durable: the log before it may go. Monotonic. */
void group_compact(struct group *g, const struct group_position *p);
/* Answers snapshot_wanted(). `p` is the state in the checkpoint. */
void group_offer_snapshot(struct group *g, uint64_t replica, const struct group_position *p,
                          struct slice manifest);
void group_installed(struct group *g, const struct group_position *p);
/* Starts the group again from what is on disk (`durable` as in group_start). */
void group_install_failed(struct group *g, const struct group_position *durable);

/* Hands leadership to `replica` (0: the most advanced voter that answers): proposals are refused
 * (ERR_BUSY), then transferred once its log is complete. on_state() tells. ERR_NOT_LEADER, ERR_BUSY
 * (also: it has not answered for an election timeout), ERR_REFUSED: no such voter. Gives up after
 * one election timeout and accepts proposals again. */
MUST_USE enum err group_transfer(struct group *g, uint64_t replica);
/* Leader: one is under way. */
bool group_transferring(const struct group *g);
/* A change of the members is under way: not committed yet. */
bool group_changing(const struct group *g);
/* Changes ONE member. `conf` differs from the current one in one member's presence or role.
 * ERR_NOT_LEADER, ERR_BUSY (one is pending, or nothing of this term is committed yet),
 * ERR_REFUSED (two voters would be left out of three, the leader would remove itself, ...). */
MUST_USE enum err group_change(struct group *g, const struct group_conf *conf);

/* UNSAFE, when a majority is lost for good: this replica makes itself the only member, by an entry
 * at the end of its log in a term of its own, and goes on with all that its log has. `durable`: as
 * in group_start(). What others acknowledged and this replica has not is lost; members of the old
 * configuration must never come back. ERR_BUSY, ERR_REFUSED (it has no state, or is no member). */
MUST_USE enum err group_force(struct group *g, const struct group_position *durable);

/* Inspection; constant time. */
uint64_t group_id(const struct group *g);
uint64_t group_replica(const struct group *g);
enum group_state group_state_of(const struct group *g);
uint64_t group_term(const struct group *g);
/* NULL if none is known. May be our own member. */
const struct group_member *group_leader(const struct group *g);
const struct group_position *group_applied(const struct group *g);
uint64_t group_commit_index(const struct group *g);
uint64_t group_last_index(const struct group *g);
bool group_installing(const struct group *g);
/* Bytes proposed here and not applied yet. */
uint64_t group_inflight_bytes(const struct group *g);
/* Leader only: a member's match index; 0 if unknown. */
uint64_t group_match(const struct group *g, uint64_t replica);
/* First lsn that this group still needs in the WAL; UINT64_MAX if none. */
uint64_t group_needed_lsn(const struct group *g);

#endif
