/* Moves replicas that share a host or a zone with another of their group to where they share less:
 * hosts first, then zones. Every move strictly lowers the number of such pairs, which nothing else
 * raises but a repair or drain that has no choice; so none is ever moved back. */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "placementd/plan/fit.h"

/* Zones that have a node with room, so that groups without a chance cost nothing. */
struct open_zones {
    uint32_t n, *zone; /* owned */
};

static struct open_zones find_open(const struct fit *f)
{
    struct open_zones z = {0, mem_alloc((f->v->n_nodes + 1) * sizeof(uint32_t))};
    bool *seen = mem_zalloc(2 * (size_t)f->v->n_nodes + 1);
    for (uint32_t i = 0; i < f->v->n_nodes; i++) {
        if (seen[f->node[i].zone] || fit_judge(f, NULL, NULL, -1, i, true) != FIT_OK)
            continue;
        seen[f->node[i].zone] = true;
        z.zone[z.n++] = f->node[i].zone;
    }
    free(seen);
    return z;
}

static bool zone_may_improve(const struct fit *f, uint32_t g, uint32_t here,
                             const struct open_zones *open)
{
    for (uint32_t z = 0; z < open->n; z++) {
        uint32_t there = 0;
        for (uint32_t i = 0; i < f->v->groups[g].desc->n_replicas; i++) {
            uint32_t at = fit_at(f, g)[i];
            there += at != FIT_NONE && f->node[at].zone == open->zone[z];
        }
        if (there < here)
            return true;
    }
    return false;
}

static void propose(struct fit *f, uint32_t g, uint32_t i, struct fit_pairs here, uint32_t to)
{
    uint32_t at = fit_at(f, g)[i];
    const struct plan_node *p = &f->v->nodes[at];
    struct plan_op op = fit_op(f, PLAN_MOVE, g, (int)i, to);
    if (here.host)
        snprintf(op.why, sizeof op.why, "%u replicas of the group on host %s", here.host + 1,
                 p->host);
    else
        snprintf(op.why, sizeof op.why, "%u replicas of the group in zone %s", here.zone + 1,
                 p->zone);
    fit_propose(f, g, &op);
}

/* A follower rather than the leader. */
static void spread_group(struct fit *f, uint32_t g, const struct open_zones *open)
{
    const struct plan_group *p = &f->v->groups[g];
    const uint32_t *at = fit_at(f, g);
    int leader = fit_leader(p);
    if (!fit_exchanges(p))
        return;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < p->desc->n_replicas; i++) {
            if (((int)i == leader) != (pass == 1) || at[i] == FIT_NONE ||
                f->node[at[i]].out >= f->v->options.max_moves)
                continue;
            struct fit_pairs here = fit_pairs(f, p, at, (int)i, at[i]);
            if (f->n_hosts == 1)
                here.host = 0;
            if (!here.host && !(here.zone && zone_may_improve(f, g, here.zone, open)))
                continue;
            uint32_t to = fit_best(f, g, (int)i, FIT_ZONES_BETTER, true);
            if (to != FIT_NONE) {
                propose(f, g, i, here, to);
                return;
            }
        }
    }
}

bool spread_wanted(const struct fit *f, uint32_t g)
{
    const uint32_t *at = fit_at(f, g);
    for (uint32_t i = 0; i < f->v->groups[g].desc->n_replicas; i++) {
        if (at[i] == FIT_NONE)
            continue;
        struct fit_pairs here = fit_pairs(f, &f->v->groups[g], at, (int)i, at[i]);
        if (((here.host && f->n_hosts > 1) || here.zone) &&
            fit_best(f, g, (int)i, FIT_ZONES_BETTER, false) != FIT_NONE)
            return true;
    }
    return false;
}

void spread_propose(struct fit *f)
{
    struct open_zones open = find_open(f);
    for (uint32_t g = 0; g < f->v->n_groups && open.n && fit_room(f, false); g++)
        if (!f->taken[g] && fit_has_quorum(f, g))
            spread_group(f, g, &open);
    free(open.zone);
}
