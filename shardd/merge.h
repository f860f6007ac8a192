/* A merge as one node sees it: the replica of the source and that of the target sit side by side.
 *
 * The logs decide (shard_change.h); this room does what follows from them on this node: it proposes
 * what placementd's steps ask for, has the source's data copied into the target's database
 * (merge_copy.h), and lets the target propose OWN only when its own copy is complete.
 *
 * The two replicas may be on different cores: what goes between them is mail that names them by
 * group and replica, for either may be gone or restarted when it arrives.
 *
 * Owner: struct replica.  Thread: its core.  Depends on: shard_change, merge_copy, core. */
#ifndef SHARDD_MERGE_H
#define SHARDD_MERGE_H

#include "common/base/err.h"
#include "common/base/list.h"
#include "common/io/io.h"
#include "common/wire/msg_heartbeat.h"
#include "shardd/shard_change.h"

struct core;
struct replica;
struct request;

/* Requests that wait, briefly, for their range to come to its new group. Embedded in struct
 * replica. */
struct merge_parking {
    struct list requests;
    struct io_timer timer; /* armed while there are any: all are told to try again */
};
void merge_init(struct replica *r);

/* An order MSG_STEP_MERGE_* for this replica, which leads and is at the step's epoch. ERR_OK:
 * proposed, done already, or (OWN, UNFREEZE) the other group's core is being asked first. ERR_BUSY,
 * ERR_NOT_READY, ERR_NO_SPACE: not now, the step comes again. ERR_REFUSED: it does not fit the
 * shard's phase. */
MUST_USE enum err merge_step(struct replica *r, const struct msg_step *s);

/* An entry of a merge has been applied to r->shard with this result (ERR_OK: the shard changed).
 * Adds to r->batch, which the caller writes together with the shard and its position. */
void merge_applied(struct replica *r, const struct shard_change *c, enum err result,
                   uint64_t index);

/* The replica runs (again), from what its database holds: after opening, or an installation. Goes
 * on with a copy that a restart cut short. */
void merge_opened(struct replica *r);
/* Its database goes away or is replaced: no copy may touch it any more. merge_opened() follows, or
 * the replica's end. */
void merge_closed(struct replica *r);

/* For the report: enum msg_copy of a target, else MSG_COPY_NONE; operator that it takes part in. */
uint8_t merge_copy_state(const struct replica *r);
uint64_t merge_operator(const struct replica *r);

/* A snapshot must not take back what was reported: a copy that is complete. */
struct merge_promise {
    uint64_t op, frozen_index; /* op 0: nothing was promised */
};
struct merge_promise merge_promised(const struct replica *r);
struct engine_db;
/* The state `shard` in the database `db` keeps it. Blocking. */
bool merge_keeps(const struct merge_promise *p, const struct shard *shard, struct engine_db *db);

/* A fault to plant, to show that the simulator finds it: copies count as complete before they are.
 * Only in builds with SHARDKV_TEST_HOOKS. */
#ifdef SHARDKV_TEST_HOOKS
extern bool merge_test_early;
#define MERGE_TEST_EARLY merge_test_early
#else
#define MERGE_TEST_EARLY false
#endif

/* Takes a request for a frozen replica: it is answered when this node knows who serves its slot, or
 * told to try again before long. */
void merge_park(struct replica *r, struct request *request);

/* What to tell a client whose key a frozen replica does not serve. ERR_WRONG_SHARD: *desc is who
 * does; else ERR_BUSY with *retry_ms. Surely not applied in either case. */
enum err merge_frozen_answer(const struct replica *r, uint16_t slot, struct shard_desc *desc,
                             uint64_t *retry_ms);

#endif
