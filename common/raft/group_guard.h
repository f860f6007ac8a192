/* Switches for tests of the raft driver; production leaves them alone.
 *
 * Each guard against a fault of libraft (README.md) has a bit, so that its test can show what
 * happens without it.  Thread: set before groups run. */
#ifndef RAFT_GROUP_GUARD_H
#define RAFT_GROUP_GUARD_H

enum group_guard {
    GUARD_STALE = 1 << 0,
    GUARD_REJ = 1 << 1,
    GUARD_TRIM = 1 << 2,
    GUARD_RVR = 1 << 3,
    GUARD_PVTERM = 1 << 4,
    GUARD_RETRY = 1 << 5,
    GUARD_INST = 1 << 6,
    GUARD_CONF = 1 << 7,
    GUARD_GATE = 1 << 8,
    GUARD_SINGLE = 1 << 9,
    GUARD_SPIN = 1 << 10,
    GUARD_NVOTE = 1 << 11,
    GUARD_BARRIER = 1 << 12, /* own-term entry at once on election */
    GUARD_BACK = 1 << 14,    /* the commit index does not go back */
    GUARD_PROMISE = 1 << 15, /* no vote for one election timeout after a leader's stamp */
    GUARD_BLANK = 1 << 13,   /* a blank follower of a leader whose log starts at 2 */
};

/* Guards to leave out. Always 0 but in tests. */
extern unsigned group_test_guards_off;

/* Faults to plant, to show that the simulator finds them. Only in builds with SHARDKV_TEST_HOOKS.
 */
enum group_bug {
    BUG_VOTE_NOT_HELD = 1 << 0,   /* messages leave before term and vote are durable */
    BUG_ACK_EARLY = 1 << 1,       /* entries count as stored before the WAL is durable */
    BUG_READ_LOCAL = 1 << 2,      /* reads are served without ReadIndex */
    BUG_APPLY_EARLY = 1 << 3,     /* stored entries are applied before they are committed */
    BUG_READ_NO_TERM = 1 << 4,    /* reads do not wait for an entry of the leader's own term */
    BUG_KEEP_LOG = 1 << 5,        /* the old log is not cut after a snapshot was installed */
    BUG_LEASE_NO_MARGIN = 1 << 6, /* the lease takes all clocks to run alike */
    BUG_LEASE_TRANSFER = 1 << 7,  /* it goes on while leadership is handed over */
};
#ifdef SHARDKV_TEST_HOOKS
extern unsigned group_test_bugs;
#define GROUP_BUG(bit) ((group_test_bugs & (bit)) != 0)
#else
#define GROUP_BUG(bit) false
#endif

#define GUARD(name) ((group_test_guards_off & (GUARD_##name)) == 0)

#endif
