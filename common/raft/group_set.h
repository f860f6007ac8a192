/* All groups of one core: their shared WAL, their timers on common ticks, dispatch of messages.
 *
 * Life: group_set_open() recovers the WAL; then the owner starts each replica it has (group_start);
 * group_set_receive() for each message; group_set_turn() at the end of every turn.
 *
 * Owner: struct core.  Thread: that core.  Depends on: wal, group. */
#ifndef RAFT_GROUP_SET_H
#define RAFT_GROUP_SET_H

#include "common/raft/group.h"

struct group_set_options {
    struct io *io;
    const char *wal_dir;
    uint64_t wal_segment_size;    /* 0: default */
    uint64_t log_memory;          /* budget for entries kept in memory, all groups; 0: 64 MiB */
    unsigned election_timeout_ms; /* 0: 500 */
    unsigned heartbeat_ms;        /* 0: 100 */
    /* No vote for one election timeout after a start (but of a new group): whoever leads may have a
     * lease by what an earlier life has promised. */
    bool vote_holiday;
    /* Leaders read by lease; every voter must have vote_holiday, this may differ. */
    bool read_lease;
    void *arg;
    /* Queues a message of `group` for `node`: the concatenation of `parts`, copied at once. May
     * drop it. All messages to one node of a turn should leave in one send. */
    void (*send)(void *arg, uint32_t node, uint64_t group, const struct slice *parts, unsigned n);
    /* The WAL failed: end the process. */
    void (*on_fatal)(void *arg, enum err why, const char *text);
    /* Progress of group_set_open(): bytes of the WAL read since the last call, and bytes found that
     * are to be read. May be NULL. */
    void (*on_replay)(void *arg, uint64_t done, uint64_t total);
};

/* Errors and `msg` as wal_open(). */
MUST_USE enum err group_set_open(const struct group_set_options *o, struct group_set **out,
                                 char *msg, size_t n);
/* All groups stopped first. */
void group_set_close(struct group_set *s);

/* The WAL holds a log of this group (started or not). */
bool group_set_has_log(const struct group_set *s, uint64_t group);
/* Calls fn for every group with a log in the WAL. */
void group_set_each_log(const struct group_set *s, void (*fn)(void *arg, uint64_t group),
                        void *arg);
/* The log of a stopped group that will not be started again is given up: its entries hold the WAL
 * no more. From then on, also in later runs, a start is refused with ERR_CORRUPT. */
void group_set_give_up_log(struct group_set *s, uint64_t group);
/* The log of a stopped group is dropped for good (its replica was destroyed). */
void group_set_drop_log(struct group_set *s, uint64_t group);

struct group *group_set_find(const struct group_set *s, uint64_t group); /* NULL if not started */
/* Started groups in ascending id order: it starts at 0. */
struct group *group_set_next(const struct group_set *s, uint64_t *it);
unsigned group_set_count(const struct group_set *s);
unsigned group_set_leaders(const struct group_set *s);

/* One message from `node`. Untrusted: a malformed one is ERR_CORRUPT and changes nothing; unknown
 * groups are ignored (ERR_NOT_FOUND). */
enum err group_set_receive(struct group_set *s, uint32_t node, uint64_t group,
                           struct slice message);
/* End of turn: releases held messages, ReadIndex rounds, flushes the WAL. Call before peers are
 * flushed. */
void group_set_turn(struct group_set *s);

struct wal;
struct wal *group_set_wal(struct group_set *s);
/* The started group that pins the oldest WAL segment, if more than `segments` are held: flush its
 * engine. NULL if none. */
struct group *group_set_pinning(const struct group_set *s, unsigned segments);

struct group_set_stats {
    uint64_t elections, proposals, messages_in, messages_out, reads, read_rounds, log_reads;
    uint64_t lease_reads; /* group_read() calls that needed no round */
    uint64_t questions;   /* of followers for a read index, sent */
    uint64_t snapshots_out, snapshots_in;
    uint64_t log_bytes; /* entries in memory now */
};
const struct group_set_stats *group_set_stats(const struct group_set *s);

#endif
