/* Replicas go by bytes over capacity, and by count while there are hardly any bytes (fit.h, load).
 *
 * Only a node above the mean gives and, with one exception, none is filled above it; and one of the
 * two must be off by more than the hysteresis. So a node that has taken never has to give again and
 * no replica is moved twice. The exception: where replicas are so large or so few that none fits
 * below the mean, one may go to the lowest node there is, if that lowers the higher of the two by
 * enough (fit_gains()); that node may have to give again, but something smaller. */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "placementd/plan/fit.h"

struct ranked {
    double level;
    uint32_t node;
};

struct carried {
    uint64_t weight, replica;
    uint32_t at; /* index in fit.at */
    bool leads;
};

struct round {
    struct fit *f;
    struct ranked *to; /* open nodes, ascending level */
    uint32_t n_to;
    double waiting; /* lowest level of a node that can take more only later */
    struct carried *carried;
};

static int ascending(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->level < y->level || x->level > y->level)
        return x->level < y->level ? -1 : 1;
    return x->node < y->node ? -1 : x->node > y->node;
}

/* Followers first, as moving a leader costs its clients a pause. Then the oldest, as ids are
 * counted up: what a repair has just put here for want of a better place is not the next to go. */
static int worth_moving(const void *a, const void *b)
{
    const struct carried *x = a, *y = b;
    if (x->leads != y->leads)
        return x->leads ? 1 : -1;
    return x->replica < y->replica ? -1 : x->replica > y->replica;
}

static void rank_targets(struct round *r)
{
    r->n_to = 0;
    r->waiting = 1e18;
    for (uint32_t i = 0; i < r->f->v->n_nodes; i++) {
        enum fit_verdict verdict = fit_judge(r->f, NULL, NULL, -1, i, true);
        double level = fit_level(r->f, i, 0, 0);
        if (verdict == FIT_OK)
            r->to[r->n_to++] = (struct ranked){level, i};
        else if (verdict == FIT_LIMIT && level < r->waiting)
            r->waiting = level;
    }
    qsort(r->to, r->n_to, sizeof(*r->to), ascending);
}

/* The target at `k` has got one more: it sinks to its place, or out of the list. */
static void resettle(struct round *r, uint32_t k)
{
    struct ranked moved = {fit_level(r->f, r->to[k].node, 0, 0), r->to[k].node};
    bool full = r->f->node[moved.node].in >= r->f->v->options.max_moves;
    while (k + 1 < r->n_to && (full || ascending(&moved, &r->to[k + 1]) > 0)) {
        r->to[k] = r->to[k + 1];
        k++;
    }
    r->to[k] = moved;
    if (!full)
        return;
    r->n_to--;
    if (moved.level < r->waiting)
        r->waiting = moved.level;
}

enum worth { YES, NO, NEVER }; /* NEVER: nor for any node higher than this one */

/* `above`: the exception, for what fits nowhere below the mean. */
static enum worth worth(const struct round *r, uint32_t from, const struct ranked *to,
                        uint64_t weight, bool above)
{
    const struct fit *f = r->f;
    double h = f->v->options.hysteresis_percent / 100.0;
    double a = fit_level(f, from, 0, 0), b = to->level;
    double b_after = fit_level(f, to->node, weight, 0);
    if (b >= a || !(a > 1 + h || (a > 1 && b < 1 - h)))
        return NEVER;
    if (above ? a <= 1 + h || a - b <= h || b > r->waiting : b >= 1)
        return NEVER;
    /* A larger disk may still take it. */
    return fit_gains(a, b, b_after) && (above || b_after <= 1) ? YES : NO;
}

static bool zones_kept(const struct fit *f, uint32_t g, uint32_t i, uint32_t to)
{
    const struct plan_group *p = &f->v->groups[g];
    const uint32_t *at = fit_at(f, g);
    struct fit_pairs here = fit_pairs(f, p, at, (int)i, at[i]);
    struct fit_pairs there = fit_pairs(f, p, at, (int)i, to);
    return there.host <= here.host && there.zone <= here.zone;
}

/* Index of the first target that suits; FIT_NONE. */
static uint32_t choose(const struct round *r, uint32_t from, const struct carried *c, bool above)
{
    uint32_t g = c->at / LIMIT_GROUP_MEMBERS, i = c->at % LIMIT_GROUP_MEMBERS;
    for (uint32_t k = 0; k < r->n_to; k++) {
        enum worth w = worth(r, from, &r->to[k], c->weight, above);
        if (w == NEVER)
            return FIT_NONE;
        if (w == YES && zones_kept(r->f, g, i, r->to[k].node) &&
            fit_judge(r->f, &r->f->v->groups[g], fit_at(r->f, g), (int)i, r->to[k].node, true) ==
                FIT_OK)
            return k;
    }
    return FIT_NONE;
}

/* How far from the mean, in percent. */
static unsigned off_mean(double level)
{
    double off = (level < 1 ? 1 - level : level - 1) * 100 + 0.5;
    return off > 99999 ? 99999 : (unsigned)off;
}

static void propose(struct round *r, uint32_t from, const struct carried *c, uint32_t k)
{
    struct fit *f = r->f;
    uint32_t g = c->at / LIMIT_GROUP_MEMBERS, to = r->to[k].node;
    struct plan_op op = fit_op(f, PLAN_MOVE, g, (int)(c->at % LIMIT_GROUP_MEMBERS), to);
    double a = fit_level(f, from, 0, 0), b = fit_level(f, to, 0, 0);
    snprintf(op.why, sizeof op.why, "%.36s is %u%% %s the mean, %.36s %u%% %s", fit_name(f, from),
             off_mean(a), a < 1 ? "under" : "over", fit_name(f, to), off_mean(b),
             b < 1 ? "under" : "over");
    fit_propose(f, g, &op);
    resettle(r, k);
}

static void relieve(struct round *r, uint32_t node)
{
    struct fit *f = r->f;
    uint32_t n = 0;
    for (uint32_t k = 0; k < f->node[node].n; k++) {
        uint32_t a = f->by_node[f->node[node].first + k], g = a / LIMIT_GROUP_MEMBERS;
        const struct plan_group *p = &f->v->groups[g];
        uint32_t i = a % LIMIT_GROUP_MEMBERS;
        if (fit_calm(f, g) && fit_exchanges(p))
            r->carried[n++] = (struct carried){fit_weight(p), p->desc->replica[i].replica, a,
                                               fit_leader(p) == (int)i};
    }
    qsort(r->carried, n, sizeof(*r->carried), worth_moving);
    for (uint32_t k = 0; k < 2 * n && f->node[node].out < f->v->options.max_moves; k++) {
        const struct carried *c = &r->carried[k % n];
        if (!r->n_to || !fit_room(f, true))
            return;
        if (worth(r, node, &r->to[0], 0, k >= n) == NEVER) {
            k = k < n ? n - 1 : 2 * n; /* nothing more below the mean, or above it either */
            continue;
        }
        uint32_t g = c->at / LIMIT_GROUP_MEMBERS;
        uint32_t to = f->taken[g] ? FIT_NONE : choose(r, node, c, k >= n);
        if (to != FIT_NONE && !spread_wanted(f, g)) /* else it would be moved a second time */
            propose(r, node, c, to);
    }
}

void bytes_propose(struct fit *f)
{
    uint32_t n = 0, n_nodes = f->v->n_nodes;
    struct round r = {.f = f,
                      .to = mem_alloc(n_nodes * sizeof(*r.to)),
                      .carried = mem_alloc(f->v->n_groups * sizeof(*r.carried))};
    struct ranked *from = mem_alloc(n_nodes * sizeof(*from));
    rank_targets(&r);
    for (uint32_t i = 0; i < n_nodes; i++)
        if (f->node[i].stays && fit_level(f, i, 0, 0) > 1)
            from[n++] = (struct ranked){fit_level(f, i, 0, 0), i};
    qsort(from, n, sizeof(*from), ascending);
    while (n-- > 0)
        relieve(&r, from[n].node);
    free(from);
    free(r.to);
    free(r.carried);
}
