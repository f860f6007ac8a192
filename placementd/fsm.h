/* The replicated state machine: the cluster's state under one Raft group, with its snapshot file.
 *
 * Committed entries are decoded and applied to `cluster`. Every FSM_SAVE_EVERY entries the whole
 * state is written to DIR/state by an offload thread (fs_write_file: new or old, never half), then
 * the log before it may go. The same bytes are the manifest that a lagging member gets; it makes
 * them durable in its own file before it says that they are installed.
 *
 * File: "SKPS", u32 version (1), u32 crc32c of what follows, group_position, u32 length of the
 * state, cluster_encode(). It is written before the group first starts, so the initial members are
 * those of the first start, whatever the configuration says later.
 *
 * Owner: struct server.  Thread: the loop.  Depends on: raft, io, cluster_command. */
#ifndef PLACEMENTD_FSM_H
#define PLACEMENTD_FSM_H

#include "common/io/io.h"
#include "common/raft/group_set.h"
#include "placementd/cluster_command.h"

#define FSM_GROUP 1u         /* the group's id in the WAL and on the peer links */
#define FSM_SAVE_EVERY 4096u /* entries between two snapshots */

/* All calls come from the loop; those of apply may come from inside group_*(). */
struct fsm_ops {
    /* One command was applied (ERR_OK or refused, see result). */
    void (*on_result)(void *arg, uint64_t index, uint64_t term, const struct cluster_result *r);
    void (*on_state)(void *arg, enum group_state state, uint64_t term, uint32_t leader);
    /* The map has changed: this group, this node, or everything (a snapshot came in). */
    void (*on_group)(void *arg, uint64_t group);
    void (*on_node)(void *arg, uint32_t node);
    void (*on_replaced)(void *arg);
    /* This member cannot go on: end the process. */
    void (*on_fatal)(void *arg, enum err why, const char *text);
};

struct fsm_save {
    struct io_work work;
    struct buf bytes;
    struct group_position position;
    enum err result;
    bool busy;
    bool install; /* the state comes from another member and replaces ours when it is durable */
};

struct fsm {
    struct cluster cluster;
    struct group *group;
    struct group_position durable; /* what the file holds */
    uint64_t since_save;           /* entries */
    struct io *io;
    char path[4096];
    const struct fsm_ops *ops;
    void *arg;
    struct fsm_save save;
    uint64_t retry_at;   /* ns: no new save before; after a failed one */
    struct buf incoming; /* a snapshot to install, waiting for its turn */
    struct group_position incoming_position;
    bool has_incoming;
    bool dead;                  /* on_fatal() was called: nothing is applied any more */
    struct cluster replacement; /* decoded from it */
    uint64_t wanted[LIMIT_GROUP_MEMBERS];
    uint32_t n_wanted;
};

/* Blocking, at start. Loads DIR/state or writes the first one with `initial` as members.
 * ERR_CORRUPT, ERR_FORMAT, ERR_IO, ERR_NO_SPACE with `msg`. */
MUST_USE enum err fsm_open(struct fsm *f, struct io *io, const char *dir,
                           const struct group_conf *initial, const struct fsm_ops *ops, void *arg,
                           char *msg, size_t n);
/* Starts the group. `campaign` counts on the very first start only. */
MUST_USE enum err fsm_start(struct fsm *f, struct group_set *set, uint64_t replica, bool campaign,
                            char *msg, size_t n);
/* End of turn: snapshots in and out. */
void fsm_turn(struct fsm *f);
/* Something that a restart has to know at once, before the log is known to be committed: who the
 * members are and where. */
void fsm_save_soon(struct fsm *f);
/* Nothing runs on an offload thread. */
bool fsm_idle(const struct fsm *f);
/* The group is stopped first. */
void fsm_close(struct fsm *f);

/* Proposes a command. Errors as group_propose(). */
MUST_USE enum err fsm_propose(struct fsm *f, const struct cluster_command *cmd, uint64_t *index,
                              uint64_t *term);
bool fsm_leads(const struct fsm *f);

#endif
