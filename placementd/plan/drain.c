/* Empties draining nodes, max_moves at a time. Whether a drain can be finished at all is proved
 * before it begins (plan_preview_drain()); once it is under way each replica that can leave leaves,
 * whatever has become of the rest. */
#include <stdio.h>

#include "placementd/plan/fit.h"

static void drain_node(struct fit *f, uint32_t node)
{
    const struct fit_node *p = &f->node[node];
    for (uint32_t k = 0; k < p->n && p->out < f->v->options.max_moves; k++) {
        uint32_t a = f->by_node[p->first + k];
        uint32_t g = a / LIMIT_GROUP_MEMBERS, i = a % LIMIT_GROUP_MEMBERS;
        if (f->taken[g] || !fit_has_quorum(f, g) || !fit_exchanges(&f->v->groups[g]) ||
            !fit_room(f, false))
            continue;
        uint32_t to = fit_best_soon(f, g, (int)i);
        if (to == FIT_NONE)
            continue;
        struct plan_op op = fit_op(f, PLAN_MOVE, g, (int)i, to);
        snprintf(op.why, sizeof op.why, "%s is draining, %u replica%s left on it",
                 fit_name(f, node), p->n, p->n == 1 ? " is" : "s are");
        fit_propose(f, g, &op);
    }
}

void drain_propose(struct fit *f)
{
    for (uint32_t i = 0; i < f->v->n_nodes; i++) {
        /* One that is not heard of cannot be told to go; if it stays away it is repaired. */
        if (f->v->nodes[i].draining && f->v->nodes[i].state == PLAN_NODE_UP)
            drain_node(f, i);
    }
}
