/* Wire format of the messages between the replicas of a group.
 *
 * Little-endian. Header: u8 version (1), u8 type, u64 from, u64 to (replica ids), u64 term (the
 * sender's current one), u64 stamp (a leader's clock, else 0), u64 echo (a follower's: the newest
 * stamp it saw from the leader of `term`, else 0). Then by type:
 *   APPEND         u64 prev_index, prev_term, commit; u32 n; n x {u64 term, u8 kind, u32 size};
 *                  the payloads one after the other
 *   APPEND_RESULT  u64 term, rejected, last
 *   VOTE           u64 term, last_index, last_term; u8 flags (1 disrupt, 2 pre-vote)
 *   VOTE_RESULT    u64 term; u8 flags (1 granted, 2 pre-vote)
 *   INSTALL        u64 term; position (group_position_encode); u32 n, manifest
 *   TIMEOUT_NOW    u64 term, last_index, last_term
 *   PING, PONG     nothing
 *   ASK            u64 question (not 0): a follower asks for the read index (follower_read.h)
 *   ANSWER         u64 question, index (neither 0)
 *
 * Decoding checks all bounds and whatever libraft takes for granted (terms that do not fall, a
 * well-formed configuration, ...): a message that passes cannot break an invariant of the library
 * by its form.
 *
 * Owner: nobody, pure.  Thread: any.  Depends on: base, libraft's message numbers. */
#ifndef RAFT_GROUP_MSG_H
#define RAFT_GROUP_MSG_H

#include "common/raft/group.h"

enum group_msg_type {
    MSG_APPEND = 1, /* 1 ... 6: libraft's numbers */
    MSG_APPEND_RESULT = 2,
    MSG_VOTE = 3,
    MSG_VOTE_RESULT = 4,
    MSG_INSTALL = 5,
    MSG_TIMEOUT_NOW = 6,
    MSG_PING = 7,
    MSG_PONG = 8,
    MSG_ASK = 9,
    MSG_ANSWER = 10,
};

#define GROUP_MSG_HEADER 42
#define GROUP_MSG_ENTRIES LIMIT_RAFT_INFLIGHT_ENTRIES

struct group_msg_entry {
    uint64_t term;
    uint8_t kind;
    struct slice payload; /* borrowed from the message */
};

struct group_msg {
    uint8_t type;
    uint64_t from, to, term, stamp, echo;
    union {
        struct {
            uint64_t prev_index, prev_term, commit;
            uint32_t n;
        } append;
        struct {
            uint64_t term, rejected, last;
        } append_result;
        struct {
            uint64_t term, last_index, last_term;
            bool disrupt, pre_vote;
        } vote;
        struct {
            uint64_t term;
            bool granted, pre_vote;
        } vote_result;
        struct {
            uint64_t term;
            struct group_position position;
            struct slice manifest; /* borrowed from the message */
        } install;
        struct {
            uint64_t term, last_index, last_term;
        } timeout_now;
        struct {
            uint64_t question;
        } ask;
        struct {
            uint64_t question, index;
        } answer;
    };
};

/* Appends everything but the payloads of an APPEND's entries, which follow `out` on the wire. */
void group_msg_encode(const struct group_msg *m, const struct group_msg_entry *entries,
                      struct buf *out);
/* ERR_CORRUPT if it is malformed. `entries` has room for GROUP_MSG_ENTRIES. */
MUST_USE enum err group_msg_decode(struct slice message, struct group_msg *out,
                                   struct group_msg_entry *entries);

#endif
