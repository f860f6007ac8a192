/* How placementd's own group follows the list of wanted members (cluster.member): which change of
 * its configuration comes next, what may be asked for, and what is said about it.
 *
 * One change at a time, by the leader, from what is replicated and what it hears: a new leader goes
 * on where the old one was. A member that is wanted comes in as a standby once it is heard and has
 * no state of its own; it is filled by a snapshot. Then:
 *
 *   - Standbys are promoted in pairs, as an even number of voters survives no more failures than
 * the odd one below: 1 -> 3 and 3 -> 5 begin when BOTH newcomers have caught up, so that the even
 *     number in between lasts a round trip. Alone one is promoted only to replace a voter that
 *     leaves, or to make an even number odd.
 *   - Two voters are passed through on the way from 1 to 3 alone, and never on the way down: three
 *     never become two. If a voter dies in that moment placementd stands still until it is back;
 *     reads and writes of clients do not need it.
 *   - A voter leaves only when at least three remain. A leader that is to leave hands over first.
 *   - What was promised ends: asked for is granted only if it can be carried out with those that
 * are listed. So one without a vote, too, is kept as long as a voter that leaves waits for it, or
 * the second of two for a third.
 *
 * Pure. Owner: struct server.  Thread: the loop.  Depends on: cluster, raft (configurations). */
#ifndef PLACEMENTD_MEMBERSHIP_H
#define PLACEMENTD_MEMBERSHIP_H

#include "common/raft/group.h"
#include "placementd/cluster.h"

struct membership_seen {
    uint32_t id;
    bool heard;  /* lately; true for ourselves */
    bool blank;  /* it has no state: it may join */
    bool caught; /* a standby whose log is nearly complete */
};

/* Borrowed for one call. */
struct membership {
    const struct cluster *c;
    const struct group_conf *conf; /* committed */
    uint32_t self;
    /* What is seen here is about to be old, and no next change is made from it: */
    bool changing;  /* another configuration is proposed or committed, not applied */
    bool leave_due; /* MEMBER_LEAVE is proposed and not in the list yet */
    uint32_t n;
    struct membership_seen seen[2 * CLUSTER_MEMBERS_MAX];
};

enum membership_kind {
    MEMBERSHIP_NOTHING,
    MEMBERSHIP_CHANGE,   /* group_change() to `conf` */
    MEMBERSHIP_HANDOVER, /* group_transfer() */
    MEMBERSHIP_FORGET,   /* it has left the group: propose MEMBER_REMOVE */
};

struct membership_step {
    enum membership_kind kind;
    uint32_t id;
    struct group_conf conf;
};

void membership_next(const struct membership *m, struct membership_step *out);

/* ERR_OK: `why` says what will happen. Else what is wrong and what to do: ERR_BAD_REQUEST,
 * ERR_NOT_FOUND, ERR_REFUSED. */
MUST_USE enum err membership_may_add(const struct membership *m, uint64_t id, const char *peer,
                                     char *why, size_t n);
MUST_USE enum err membership_may_remove(const struct membership *m, uint64_t id, char *why,
                                        size_t n);
/* "voter", "standby" (it catches up, or waits for another), "leaving", "expected" (added, has not
 * come in), "" (not wanted, not in the group). */
const char *membership_role(const struct membership *m, uint32_t id);
/* What is under way and what it waits for; "" if all is as wanted. */
void membership_note(const struct membership *m, char *out, size_t n);

#endif
