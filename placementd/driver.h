/* The leader's loop over operators: proves the step under way, begins what waits, asks the planner.
 *
 *   report from a node -> liveness -> driver_report(): operators that it may bear on
 *   tick              -> driver_turn(): all operators, those that wait, the planner
 *
 * What it decides it proposes as commands; cluster_apply() checks again. Everything here is lost
 * with the leadership and made anew by the next leader from the state and the first reports. One
 * command at a time is in flight for an operator, and one round of the planner.
 *
 * Limits: an operator that moves data begins when every node it concerns has fewer than max_moves
 * into it and out of it; others begin at once. Those that wait are looked at in the order of their
 * ids and begin as they fit.
 *
 * Pure (time comes in, commands go out by a callback). Owner: struct server.  Thread: the loop.
 * Depends on: operator, plan. */
#ifndef PLACEMENTD_DRIVER_H
#define PLACEMENTD_DRIVER_H

#include "common/base/map.h"
#include "placementd/cluster_command.h"
#include "placementd/liveness.h"
#include "placementd/plan/planner.h"

struct driver_options {
    struct plan_options plan; /* .balance: placement.auto-rebalance */
    uint64_t down_after_ns;   /* a node that is down for so long is dead: replaced */
    uint64_t stall_ms;        /* no progress for so long: given up */
    void *arg;
    /* As fsm_propose(). */
    enum err (*propose)(void *arg, const struct cluster_command *cmd, uint64_t *index,
                        uint64_t *term);
};

/* The world at a moment. Borrowed. */
struct driver_moment {
    const struct cluster *cluster;
    const struct liveness *live;
    uint64_t now, wall_ms;
};

struct driver {
    struct driver_options options;
    struct map proposed; /* operator -> struct driver_proposed; owned */
    uint64_t since;      /* when this member became leader */
    uint64_t plan_at;    /* ns: the next round of the planner, not before */
    uint64_t plan_index; /* log index of the last command of the last round */
    uint64_t applied;    /* of the last command that was applied */
    uint64_t last_index; /* of the last command proposed */
    uint64_t last_term;
    uint32_t n_proposals; /* by the last call */
    uint64_t rounds;      /* of the planner, for metrics */
};

void driver_init(struct driver *d, const struct driver_options *o);
void driver_close(struct driver *d);
/* Leadership begins: forgets everything. */
void driver_reset(struct driver *d, uint64_t now);

/* A heartbeat was taken down in liveness. Both return how many commands they proposed, the last of
 * them at d->last_index. */
uint32_t driver_report(struct driver *d, const struct driver_moment *m,
                       const struct msg_heartbeat *h);
uint32_t driver_turn(struct driver *d, const struct driver_moment *m);

/* A command was applied. */
void driver_applied(struct driver *d, uint64_t index);

/* Proposes an operator: checked here as far as the state tells, and again when it is applied; then
 * its result's value is the operator's id (request_on_result()). It begins at once if the limits
 * allow it, else it waits. `origin`: enum cluster_origin. ERR_NOT_FOUND, ERR_REFUSED, ERR_BUSY with
 * `why`; errors of propose(). */
MUST_USE enum err driver_add(struct driver *d, const struct driver_moment *m,
                             const struct plan_op *op, uint8_t origin, uint64_t *index,
                             uint64_t *term, char *why, size_t n);
/* Takes an operator back. ERR_NOT_FOUND, ERR_REFUSED with `why`; errors of propose(). */
MUST_USE enum err driver_cancel(struct driver *d, const struct driver_moment *m, uint64_t id,
                                uint64_t *index, uint64_t *term, char *why, size_t n);
/* May the operator begin now? Else `why` says what it waits for. */
bool driver_may_begin(const struct driver *d, const struct cluster *c,
                      const struct cluster_operator *o, char *why, size_t n);
/* Is balancing in force? Else `why` says why not. */
bool driver_balances(const struct driver *d, const struct driver_moment *m, char *why, size_t n);

#endif
