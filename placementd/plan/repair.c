/* Replaces dead replicas, adds missing ones, removes surplus ones. Groups nearest to losing their
 * majority come first. A group without a majority is left alone: no order of ours could be carried
 * out, and what to give up is an operator's decision (kvctl cluster recover).
 *
 * libraft refuses to go from three voters to two, so a dead replica is never just removed where
 * that would leave two: its replacement comes first. */
#include <stdio.h>

#include "placementd/plan/fit.h"

#define ROLE_VOTER 1u

static void explain_bad(const struct fit *f, uint32_t g, uint32_t i, char *why, size_t n)
{
    uint32_t at = fit_at(f, g)[i];
    const struct plan_node *p = at == FIT_NONE ? NULL : &f->v->nodes[at];
    if (!p)
        snprintf(why, n, "node %u is gone", f->v->groups[g].desc->replica[i].node);
    else if (p->state == PLAN_NODE_DEAD && p->down_ms >= 60000)
        snprintf(why, n, "%s has been down for %llu min", p->name,
                 (unsigned long long)(p->down_ms / 60000));
    else if (p->state == PLAN_NODE_DEAD && p->down_ms > 0)
        snprintf(why, n, "%s has been down for %llu s", p->name,
                 (unsigned long long)(p->down_ms / 1000));
    else if (p->state == PLAN_NODE_DEAD)
        snprintf(why, n, "%s is lost", p->name);
    else
        snprintf(why, n, "the replica on %s was wiped or is broken", p->name);
}

/* libraft's rule; see above. */
static bool may_remove(const struct fit *f, uint32_t g, uint32_t i)
{
    const struct plan_group *p = &f->v->groups[g];
    if (p->desc->replica[i].role != ROLE_VOTER)
        return true;
    uint32_t voters = fit_voters(p), healthy = fit_healthy_voters(f, g) - fit_healthy(f, g, i);
    return voters != 3 && voters > 1 && healthy > (voters - 1) / 2;
}

static void propose_remove(struct fit *f, uint32_t g, uint32_t i, const char *why)
{
    struct plan_op op = fit_op(f, PLAN_REMOVE, g, (int)i, FIT_NONE);
    snprintf(op.why, sizeof op.why, "%s", why);
    fit_propose(f, g, &op);
}

static void replace(struct fit *f, uint32_t g, uint32_t i)
{
    uint32_t to = fit_best_soon(f, g, (int)i);
    if (to == FIT_NONE)
        return;
    struct plan_op op = fit_op(f, PLAN_REPLACE, g, (int)i, to);
    explain_bad(f, g, i, op.why, sizeof op.why);
    fit_propose(f, g, &op);
}

static void add(struct fit *f, uint32_t g)
{
    uint32_t to = fit_best_soon(f, g, -1);
    if (to == FIT_NONE)
        return;
    struct plan_op op = fit_op(f, PLAN_ADD, g, -1, to);
    snprintf(op.why, sizeof op.why, "the group has %u of %u replicas", fit_voters(&f->v->groups[g]),
             f->v->options.replicas);
    fit_propose(f, g, &op);
}

/* Which of two replicas is rather removed: what serves least, then what is placed worst, then a
 * follower, then the one on the fuller node. */
static bool rather(const struct fit *f, uint32_t g, uint32_t a, uint32_t b)
{
    const struct plan_group *p = &f->v->groups[g];
    const uint32_t *at = fit_at(f, g);
    bool ha = fit_healthy(f, g, a), hb = fit_healthy(f, g, b);
    if (ha != hb)
        return hb;
    bool da = f->v->nodes[at[a]].draining, db = f->v->nodes[at[b]].draining;
    if (da != db)
        return da;
    struct fit_pairs pa = fit_pairs(f, p, at, (int)a, at[a]);
    struct fit_pairs pb = fit_pairs(f, p, at, (int)b, at[b]);
    if (pa.host != pb.host)
        return pa.host > pb.host;
    if (pa.zone != pb.zone)
        return pa.zone > pb.zone;
    bool la = fit_leader(p) == (int)a, lb = fit_leader(p) == (int)b;
    if (la != lb)
        return lb;
    return fit_level(f, at[a], 0, 0) > fit_level(f, at[b], 0, 0);
}

static void remove_surplus(struct fit *f, uint32_t g)
{
    const struct plan_group *p = &f->v->groups[g];
    int worst = -1;
    for (uint32_t i = 0; i < p->desc->n_replicas; i++)
        if (may_remove(f, g, i) && (worst < 0 || rather(f, g, i, (uint32_t)worst)))
            worst = (int)i;
    char why[128];
    snprintf(why, sizeof why, "the group has %u replicas, %u are wanted", fit_voters(p),
             f->v->options.replicas);
    if (worst >= 0)
        propose_remove(f, g, (uint32_t)worst, why);
}

static void repair_group(struct fit *f, uint32_t g)
{
    const struct plan_group *p = &f->v->groups[g];
    uint32_t voters = fit_voters(p), wanted = f->v->options.replicas;
    for (uint32_t i = 0; i < p->desc->n_replicas; i++) {
        char why[128];
        bool voter = p->desc->replica[i].role == ROLE_VOTER;
        if (!voter) {
            snprintf(why, sizeof why, "a standby was left over when its operator was given up");
            propose_remove(f, g, i, why);
            return;
        }
        if (!fit_bad(f, g, i))
            continue;
        if (voters > wanted && may_remove(f, g, i)) {
            explain_bad(f, g, i, why, sizeof why);
            propose_remove(f, g, i, why);
        } else {
            replace(f, g, i);
        }
        return;
    }
    if (voters < wanted)
        add(f, g);
    else if (voters > wanted)
        remove_surplus(f, g);
}

static bool needs_repair(const struct fit *f, uint32_t g)
{
    const struct plan_group *p = &f->v->groups[g];
    if (p->desc->n_replicas != f->v->options.replicas)
        return true;
    for (uint32_t i = 0; i < p->desc->n_replicas; i++)
        if (fit_bad(f, g, i) || p->desc->replica[i].role != ROLE_VOTER)
            return true;
    return false;
}

void repair_propose(struct fit *f)
{
    for (uint32_t slack = 0; slack <= LIMIT_GROUP_MEMBERS / 2; slack++) {
        for (uint32_t g = 0; g < f->v->n_groups && fit_room(f, false); g++) {
            if (f->taken[g] || !needs_repair(f, g) || !fit_has_quorum(f, g))
                continue;
            uint32_t majority = fit_voters(&f->v->groups[g]) / 2 + 1;
            if (fit_healthy_voters(f, g) - majority == slack)
                repair_group(f, g);
        }
    }
}
