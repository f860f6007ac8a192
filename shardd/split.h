/* Splits: how the slots that leave a shard become a replica of a group of their own.
 *
 * The entry SPLIT decides (shard_change.h). From its apply on the child's slots never change in the
 * parent's database, so each replica makes the child by itself, from a checkpoint taken any time
 * after, at position {1, 1, 1, members of the entry}: the same on all.
 *
 * Owner: struct replica (the parent).  Thread: its core; copying on offload threads. */
#ifndef SHARDD_SPLIT_H
#define SHARDD_SPLIT_H

#include "shardd/shard_change.h"

struct replica;

/* At the entry's apply. The shard has its new range already. */
void split_applied(struct replica *r, const struct shard_change *c, uint64_t index);

#endif
