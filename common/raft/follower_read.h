/* Reads by a replica that does not lead: what it must have applied first, by the leader's word.
 *
 * A follower asks its leader for a read index. The leader notes the index that a linearizable read
 * would have to see, proves by ReadIndex that it still leads, and answers. Whatever was committed
 * when the follower asked, by its own clock, is at or below that index: a *point* (time, index).
 * Once the index is applied here, the state here is no older than that time.
 *
 * One question is under way at a time, shared by all reads; a read that came after it was asked
 * waits for the next. It keeps its number and its time when it is repeated (a message was lost, the
 * leader changed), and only the answer to that number counts: one to an earlier life of this
 * replica says nothing in terms of the present clock.
 *
 * Pure: the owner sends, and says what is applied.
 *
 * Owner: struct group.  Thread: one core.  Depends on: base. */
#ifndef RAFT_FOLLOWER_READ_H
#define RAFT_FOLLOWER_READ_H

#include "common/raft/group.h"

/* All that was committed at the time `at` (ns, this replica's clock) has an index <= `index`. */
struct follower_point {
    uint64_t at, index;
};

struct follower_read {
    struct list waiting;  /* for an answer to a question that is new enough */
    struct list answered; /* for their index to be applied */
    struct list failed;   /* to be told at the end of the turn */
    enum err why;
    uint64_t proven; /* the state here is no older than that; 0: nothing known */
    struct follower_point pending, next; /* not applied yet; index 0: none */
    uint64_t number;                     /* of the last question */
    bool asking;                         /* it is under way */
    uint64_t asked_at;                   /* ns */
    uint64_t sent_ms, sent_to;           /* last sent, to that replica; 0: not sent */
};

/* `first`: any number that an earlier life of this replica is not likely to have used. */
void follower_read_init(struct follower_read *f, uint64_t first);
/* `since`: the state that is read must not be older. It is given up at `until_ms`. */
void follower_read_add(struct follower_read *f, struct group_read *r, uint64_t since,
                       uint64_t until_ms);
/* All reads will end with `why`. */
void follower_read_fail(struct follower_read *f, enum err why);
/* The same, and what was proven counts no more: what is applied here goes back. */
void follower_read_reset(struct follower_read *f);
/* The question to send to `leader` (0: not known) now; 0: none. `repeat_ms`: after so long without
 * an answer. */
uint64_t follower_read_question(struct follower_read *f, uint64_t leader, uint64_t now,
                                uint64_t repeat_ms);
void follower_read_answer(struct follower_read *f, uint64_t question, uint64_t index);
/* Calls done() of what is answered and applied, of what is over its time and of what failed. */
void follower_read_run(struct follower_read *f, uint64_t applied, uint64_t now_ms);
bool follower_read_empty(const struct follower_read *f);
/* When something is to be done next: to send again, to give up. UINT64_MAX: nothing waits. */
uint64_t follower_read_due_ms(const struct follower_read *f, uint64_t repeat_ms);

#endif
