/* Operators: from what is wanted to steps, from the step under way to orders, from reports to
 * proof.
 *
 * Pure functions over the replicated state and what the leader has heard. The leader of placementd
 * calls them at each heartbeat: operator_check() proves or fails the step under way (then it
 * proposes OPERATOR_STEP or OPERATOR_END), operator_orders() gives what the reporting node has to
 * do. An order is repeated with each report until one proves it; every order is idempotent and
 * guarded by the group's epoch, so an old leader's or a repeated one does nothing.
 *
 * Steps of each kind (placement.md): MOVE create, standby, promote, [transfer,] remove, destroy;
 * REPLACE the same without transfer and destroy; TRANSFER; ADD create, standby, promote; REMOVE
 * [transfer,] remove, destroy; SPLIT split; MERGE [moves until both groups sit on the same nodes
 * are operators of their own, made before it] target, intent, copied, freeze, complete, own,
 * destroy.
 *
 * Owner: none.  Thread: any.  Depends on: cluster, liveness, plan/view, wire/msg_placement. */
#ifndef PLACEMENTD_OPERATOR_H
#define PLACEMENTD_OPERATOR_H

#include "common/wire/msg_heartbeat.h"
#include "placementd/cluster.h"
#include "placementd/liveness.h"
#include "placementd/plan/view.h"

/* Builds an operator from a checked plan_op; ids that it will draw (replica, child) are left 0:
 * apply of OPERATOR_ADD draws them. ERR_NOT_FOUND, ERR_REFUSED with `why`. */
MUST_USE enum err operator_make(const struct cluster *c, const struct plan_op *op,
                                uint64_t now_wall_ms, uint8_t origin, struct cluster_operator *out,
                                char *why, size_t n);

#define OPERATOR_FROZEN_MS 10000u /* a merge's source may be frozen for so long */

enum operator_verdict {
    OPERATOR_WAIT,   /* not yet */
    OPERATOR_PROVEN, /* on to the next step, or finished */
    OPERATOR_FAILED, /* cannot be finished: `why` says it */
};
/* The step under way, judged by the state and by what was heard. Also FAILED past the deadline
 * where the kind allows giving up. */
enum operator_verdict operator_check(const struct cluster *c, const struct cluster_operator *o,
                                     const struct liveness *l, uint64_t now, uint64_t now_wall_ms,
                                     char *why, size_t n);
/* Orders for the node that sent `h`, of operators under way: at most one per group. Returns how
 * many of `steps[0 .. max)` were filled in. */
uint32_t operator_orders(const struct cluster *c, const struct msg_heartbeat *h,
                         const struct liveness *l, struct msg_step *steps, uint32_t max);
#ifdef SHARDKV_TEST_HOOKS
/* A fault to plant, to show that the simulator finds it: data is destroyed before the group has let
 * the replica go. */
extern bool operator_test_destroy_early;
#define OPERATOR_TEST_DESTROY_EARLY operator_test_destroy_early
#else
#define OPERATOR_TEST_DESTROY_EARLY false
#endif

/* May it still be taken back? A split that was handed out, or a merge that may have been owned,
 * not. */
bool operator_may_cancel(const struct cluster_operator *o);
const char *operator_kind_name(uint8_t kind); /* "move" ... */
const char *operator_step_name(uint8_t kind); /* "catch-up" ... */

#endif
