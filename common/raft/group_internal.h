/* Shared by the files of the raft driver only: struct group, struct group_set and the calls between
 * group*.c. Not for other rooms.
 *
 * How a group runs. Every input becomes one or more libraft events through group_step(), which does
 * what the update asks for in libraft's order of duty and marks the group dirty. The owner's
 * callbacks all come from group_work(), once per turn, so they may call back in without harm.
 *
 * Owner: see group.h, group_set.h.  Thread: one core. */
#ifndef RAFT_GROUP_INTERNAL_H
#define RAFT_GROUP_INTERNAL_H

#include <raft.h>

#include "common/base/map.h"
#include "common/raft/follower_read.h"
#include "common/raft/group.h"
#include "common/raft/group_guard.h"
#include "common/raft/group_log.h"
#include "common/raft/group_msg.h"
#include "common/raft/group_set.h"
#include "common/raft/raft_conf.h"
#include "common/raft/read_index.h"

#if !defined(RAFT_VERSION_NUMBER) || RAFT_VERSION_NUMBER != 2201
#error                                                                                             \
    "built for libraft 0.22.1: its guards depend on that version's faults (common/raft/README.md)"
#endif

#define GROUP_TICK_MS 10u
#define GROUP_SPIN_MS 5u            /* SPIN: the least distance of two timeouts */
#define GROUP_PING_MS 50u           /* unanswered pings are repeated */
#define GROUP_FOLLOWER_READ_MS 250u /* a follower's read is given up after that */
/* Clocks run at 0.8 to 1.2 of true time: of any two, one shows at least 65 % of what the other does
 * (0.8 / 1.2, less some), and each at least 80 % of the time that has passed. */
#define GROUP_LEASE_PERCENT 65u
#define GROUP_SLOW_PERCENT 80u
#define GROUP_TRAILING 1024u     /* entries kept behind the compaction point, if cheap */
#define GROUP_APPLY_ENTRIES 512u /* of one group in a turn */
#define GROUP_APPLY_BYTES (8 * MIB)
#define GROUP_STREAM_BYTES (8 * MIB) /* to one peer in a turn */
#define GROUP_HELD_BYTES (8 * MIB)   /* messages waiting for term and vote: then they are lost */
#define GROUP_INSTALL_TIMEOUT_MS 5000u
#define GROUP_OFFER_MS 1000u /* between two offers to a peer */
#define GROUP_CAMPAIGN_TRIES 20u
#define GROUP_CAMPAIGN_HASTY 6u /* the first of them, at shorter intervals */

/* Entries on their way to a follower that could not all be sent at once: too many bytes for a
 * message, or only in the WAL. Active while next <= end. */
struct group_stream {
    uint64_t next, end, prev_term;
};

struct group_peer {
    uint64_t replica;
    uint32_t node;
    bool voter;
    bool wants_snapshot;
    uint64_t offered_ms; /* a snapshot was offered last: not asked for again at once */
    uint64_t echo;       /* newest stamp of ours that it answered in our term */
    uint64_t sent_stamp; /* newest stamp that we sent */
    uint64_t sent_ms;    /* last append message, */
    uint64_t sent_prev;  /* and the index before its entries */
    uint64_t told;       /* commit index that it has been told of, if nothing was lost */
    struct group_stream stream;
};

/* A snapshot being installed (follower). */
struct group_install {
    bool active;
    bool told; /* ops->install() was called */
    struct group_position position;
    struct buf manifest;
    struct group_member from;
};

/* A follower's question that is being proven. */
struct group_asked {
    struct group_read read;
    struct group *group;
    uint64_t replica, question; /* question 0: unused */
    uint32_t node;
};

struct group_transfer {
    uint64_t target; /* 0: none */
    bool started;    /* libraft knows */
    uint64_t deadline_ms;
};

struct group {
    struct group_set *set;
    uint64_t id, replica;
    const struct group_ops *ops;
    void *arg;
    struct raft r;
    struct group_log *log;
    char address[RAFT_ADDRESS_MAX];
    enum err broken; /* ERR_OK while it works */
    const char *broken_text;
    bool broken_told;

    struct group_conf conf; /* in force, committed or not; mirrors r.configuration */
    struct group_position applied, durable;
    bool in_apply;
    bool compact_later; /* group_compact() was called from inside apply() */
    struct group_position compact_to;

    uint64_t hold; /* lsn of the last term/vote record: messages wait until it is durable */
    struct list held;
    size_t held_bytes;

    struct group_peer peer[LIMIT_GROUP_MEMBERS];
    unsigned peers;
    uint64_t role_term; /* term and state that peers, term_first and echo belong to */
    unsigned short role_state;
    uint64_t term_first; /* leader: first entry of our own term; 0: not appended yet */
    uint64_t echo;       /* follower: newest stamp of the leader of the current term */
    uint64_t next_echo, next_echo_term; /* of a term that libraft has not taken yet */
    uint64_t inflight;                  /* bytes proposed here and not applied yet */
    struct read_index reads;
    struct follower_read follower;
    struct group_asked asked[LIMIT_GROUP_MEMBERS];
    uint64_t ping_ms;
    uint64_t promised_ms; /* no vote and no candidacy before (group_read.c) */
    bool lease_over;      /* leader: not in this term any more */

    struct group_transfer transfer;
    struct group_install install;

    uint64_t due_ms, ticked_ms;
    uint64_t heard_ms, heard_term; /* last message of a leader */
    uint64_t holiday_ms;           /* no vote before (vote_holiday) */
    unsigned campaign;             /* quick candidacies left */

    enum group_state told_state;
    uint64_t told_term, told_leader;
    struct group_member leader;

    struct list dirty;    /* in set->dirty or set->later */
    struct list unstored; /* in set->unstored: entries not durable yet */
    struct list holding;  /* in set->holding: messages held */
    struct list reading;  /* in set->reading: reads pending, here or by the leader's word */
};

struct group_slot {
    struct group_log log;
    struct group *g; /* NULL: not started */
};

struct group_set {
    struct group_set_options o;
    struct io *io;
    struct wal *wal;
    struct map slots;       /* group id -> struct group_slot */
    struct group **started; /* ascending id */
    unsigned n, cap;
    struct log_pool pool;
    struct list dirty, later, unstored, holding, reading;
    struct io_timer timer;
    uint64_t armed_ms;
    uint64_t segment; /* bytes of a WAL segment */
    struct group_set_stats stats;
    struct buf scratch;
    struct group_msg_entry entries[GROUP_MSG_ENTRIES];
};

static inline uint64_t now_ms(const struct group_set *s)
{
    return io_now(s->io) / NS_PER_MS;
}
static inline bool group_is_leader(const struct group *g)
{
    return g->r.state == RAFT_LEADER;
}

/* group_set.c */
void group_set_arm(struct group_set *s, uint64_t due_ms);
void group_dirty(struct group *g);
void group_later(struct group *g); /* in the next turn */
struct group_slot *group_set_slot(const struct group_set *s, uint64_t group);
void group_set_add(struct group_set *s, struct group *g);
void group_set_remove(struct group_set *s, struct group *g);
struct group_slot *group_set_new_slot(struct group_set *s, uint64_t group);

/* group.c */
/* One libraft event and all that follows from it but the owner's callbacks. libraft's error. */
int group_step(struct group *g, struct raft_event *ev);
struct raft_event group_event(int type);
void group_fail(struct group *g, enum err why, const char *text);
void group_save_vote(struct group *g);
void group_set_role(struct group *g);
int group_submit(struct group *g, int kind, struct slice payload);
/* libraft from the log and g->durable (START). */
void group_boot(struct group *g);
void group_tick(struct group *g);
void group_stored(struct group *g, uint64_t durable_lsn);
/* The turn's work with all callbacks. */
void group_work(struct group *g);
void group_schedule(struct group *g);

/* group_apply.c */
void group_apply(struct group *g);
void group_run_install(struct group *g);
void group_begin_install(struct group *g, struct raft_update *u);
void group_run_compact(struct group *g);
/* libraft from the beginning, with what is on disk. */
void group_reboot(struct group *g);

/* group_send.c */
void group_send_update(struct group *g, const struct raft_update *u);
void group_send(struct group *g, uint32_t node, struct group_msg *m,
                const struct group_msg_entry *entries);
void group_release_held(struct group *g, uint64_t durable_lsn);
void group_drop_held(struct group *g);
struct group_peer *group_peer_find(struct group *g, uint64_t replica);
void group_pump(struct group *g);
void group_ping(struct group *g);
void group_tell_commit(struct group *g, struct group_peer *p, uint64_t index);
void group_on_loaded(void *arg, enum err result, uint64_t index);
uint64_t group_confirmed(struct group *g);

/* group_read.c */
bool group_promised(const struct group *g);
/* A stamp of the leader of `term`: echoed from now on if that is our term and we follow. */
void group_take_stamp(struct group *g, uint64_t term, uint64_t stamp);
void group_run_follower(struct group *g);
void group_ask(struct group *g);
void group_on_ask(struct group *g, uint32_t node, const struct group_msg *m);
void group_on_answer(struct group *g, const struct group_msg *m);

/* group_recv.c */
void group_receive(struct group *g, uint32_t node, const struct group_msg *m,
                   const struct group_msg_entry *entries);

#endif
