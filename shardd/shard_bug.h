/* Faults to plant in the ways of shards and replicas, to show that the simulator finds them. Only
 * in builds with SHARDKV_TEST_HOOKS; production leaves the guards alone.  Thread: set before cores
 * run. */
#ifndef SHARDD_SHARD_BUG_H
#define SHARDD_SHARD_BUG_H

enum shard_bug {
    SHARD_BUG_EPOCH = 1 << 0,          /* steps and entries of another epoch are carried out */
    SHARD_BUG_TOMBSTONE = 1 << 1,      /* what was destroyed here is not remembered */
    SHARD_BUG_FREEZE = 1 << 2,         /* a frozen shard goes on serving */
    SHARD_BUG_READ_MOVED = 1 << 4,     /* what a slow read found counts though its slot has left */
    SHARD_BUG_FOLLOWER_LOCAL = 1 << 8, /* weaker reads are answered from whatever is applied */
    SHARD_BUG_MIRROR = 1 << 3,    /* a split's child lacks what was written since it was prepared */
    SHARD_BUG_DEDUPE = 1 << 5,    /* a repeated write is not known as one */
    SHARD_BUG_ROWS = 1 << 7,      /* what is known of sessions is not made durable with the data */
    SHARD_BUG_ROWS_LATE = 1 << 9, /* it is, one flush later */
    SHARD_BUG_EXPIRY = 1 << 6, /* values expire by the clock of the node, not by the log's time */
};
#ifdef SHARDKV_TEST_HOOKS
extern unsigned shard_test_bugs;
extern unsigned long long shard_test_clock; /* for EXPIRY: ms, of the node that applies */
#define SHARD_BUG(name) ((shard_test_bugs & SHARD_BUG_##name) != 0)
#else
#define SHARD_BUG(name) false
#endif

#endif
