/* The child's database, made before the split, so that the split has little left to do.
 *
 * From the apply of PREPARE on, each replica of the parent makes a database of the child's slots at
 * its place and writes to it, too, whatever is applied to those slots. At the apply of SPLIT it has
 * them all; the child's identity is added and one flush makes it a replica: it is born. Then its
 * core takes over the open database.
 *
 * All of that is local and may fail or be given up at any time: then the child is made after the
 * split (split.c). A directory of which the database has no identity of its own is unborn: nothing
 * has ever run from it, so it is removed at the next start. The file "unborn" in it says where that
 * has to be looked at.
 *
 * Owner: struct replica (the parent).  Thread: its core; jobs on offload threads.
 * Depends on: core, replica, engine. */
#ifndef SHARDD_SPLIT_PREP_H
#define SHARDD_SPLIT_PREP_H

#include "common/raft/group.h"
#include "shardd/shard_change.h"

struct core;
struct engine_db;
struct replica;

/* A child as it begins. */
struct split_birth {
    struct shard shard; /* replica 0: it has none on this node */
    struct group_position position;
};

/* At the apply of PREPARE. */
void split_prep_begin(struct replica *r, const struct shard_change *c);
/* Before r->batch is written. */
void split_prep_mirror(struct replica *r);
/* Starts what can be started, gives up what has been waited for long enough. */
void split_prep_tick(struct replica *r);
/* Ready for some while: the other replicas will be, too. Or there is nothing to wait for. */
bool split_prep_settled(const struct replica *r);
/* A database of this child is there or on its way: true, and split_born() follows unless it fails.
 */
bool split_prep_birth(struct replica *r, const struct split_birth *b);
/* Takes it back; at once, or when its job ends. */
void split_prep_drop(struct replica *r);
/* At start, and before the child is made: removes the group's directory if it is unborn. Blocking.
 */
MUST_USE enum err split_prep_recover(struct core *c, uint64_t group, const char *path);
/* Before a replica is made by an order: the same of one that could not be taken away when it was
 * given up. Its database is open in *db, so no parent here still prepares it. ERR_NOT_FOUND: it is
 * not unborn. Otherwise *db is closed. Blocking. */
MUST_USE enum err split_prep_remove_open(struct core *c, uint64_t group, const char *path,
                                         struct engine_db **db);

#endif
