/* The planner: what should be done next, as a pure function of a view.
 *
 * A round asks the rules in order, each in a file of its own: repair, drain, spread (checkers),
 * then, with options.balance, leaders, bytes, split (balancers). A rule sees what earlier ones have
 * proposed in this round. What is under way counts: at most max_moves into and out of a node, and
 * no second operator for a group. Every proposal says why.
 *
 * 500 nodes and 16384 groups take less than a second a round.
 *
 * Thread: any, pure.  Depends on: plan/view. */
#ifndef PLACEMENTD_PLAN_PLANNER_H
#define PLACEMENTD_PLAN_PLANNER_H

#include "placementd/plan/view.h"

/* One round. Appends to *out. */
void plan_round(const struct plan_view *v, struct plan_list *out);

/* Why a node may not take a replica of the group (or one more at all, g NULL): ERR_REFUSED with the
 * reason in `why`; ERR_OK. `leaving`: a replica of the group that goes; 0: none. */
MUST_USE enum err plan_may_take(const struct plan_view *v, const struct plan_group *g,
                                uint64_t leaving, const struct plan_node *to, char *why, size_t n);
/* Checks what an operator has asked for by hand against quorum, space and spread. The op's blanks
 * are filled in: replica from node, `to` 0 by the best node. ERR_REFUSED, ERR_NOT_FOUND,
 * ERR_BUSY with the reason. */
MUST_USE enum err plan_check(const struct plan_view *v, struct plan_op *op, char *why, size_t n);

/* What a longer piece of work would come to: the rounds are played through on a copy, each
 * operator as if done, until nothing more is proposed. */
struct plan_preview {
    struct plan_list ops; /* in order; owned */
    uint64_t bytes;
    uint64_t seconds;       /* at `rate` bytes/s, max_moves at a time */
    unsigned lowest_voters; /* that any group has on the way */
    uint32_t n_nodes;
    struct plan_preview_node {
        uint32_t node;
        unsigned before_percent, after_percent; /* of the mean of bytes over capacity */
        unsigned peak_disk_percent;
    } * nodes; /* owned */
};
/* Balancing, with options.balance on. */
void plan_preview_balance(const struct plan_view *v, uint64_t rate, struct plan_preview *out);
/* Emptying `node`. ERR_REFUSED with the reason if it cannot be emptied (room, spread, quorum): *out
 * is then not initialised. */
MUST_USE enum err plan_preview_drain(const struct plan_view *v, uint32_t node, uint64_t rate,
                                     struct plan_preview *out, char *why, size_t n);
void plan_preview_close(struct plan_preview *p);

#endif
