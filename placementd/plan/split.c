/* Splits shards that are too large or too hot, at the middle slot. A split is final (merging is
 * by hand), so there is nothing that it could swing back to. */
#include <stdio.h>

#include "placementd/plan/fit.h"

uint16_t split_middle(const struct shard_desc *d)
{
    uint32_t n = (uint32_t)d->last_slot - d->first_slot + 1;
    return n < 2 ? 0 : (uint16_t)(d->first_slot + n / 2);
}

static bool too_large(const struct fit *f, const struct plan_group *g)
{
    return f->v->options.split_bytes && g->bytes > f->v->options.split_bytes;
}

/* One hot key stays in one half whatever is split: it is left alone. */
static bool too_hot(const struct fit *f, const struct plan_group *g)
{
    return f->v->options.split_ops && g->keys > 1 && g->reads + g->writes > f->v->options.split_ops;
}

static void explain(const struct fit *f, const struct plan_group *g, char *why, size_t n)
{
    if (too_large(f, g))
        snprintf(why, n, "%.1f GiB, more than %.1f GiB", (double)g->bytes / (double)GIB,
                 (double)f->v->options.split_bytes / (double)GIB);
    else
        snprintf(why, n, "%llu operations a second, more than %llu",
                 (unsigned long long)(g->reads + g->writes),
                 (unsigned long long)f->v->options.split_ops);
}

void split_propose(struct fit *f)
{
    uint32_t max = f->v->options.max_groups ? f->v->options.max_groups : LIMIT_SLOTS;
    for (uint32_t g = 0; g < f->v->n_groups && f->n_groups < max && fit_room(f, true); g++) {
        const struct plan_group *p = &f->v->groups[g];
        int leader = fit_leader(p);
        if (!(too_large(f, p) || too_hot(f, p)) || !fit_calm(f, g) || leader < 0 ||
            split_middle(p->desc) == 0)
            continue;
        struct fit_node *at = &f->node[fit_at(f, g)[leader]];
        if (at->splits >= f->v->options.max_moves)
            continue;
        struct plan_op op = fit_op(f, PLAN_SPLIT, g, -1, FIT_NONE);
        op.slot = split_middle(p->desc);
        explain(f, p, op.why, sizeof op.why);
        at->splits++;
        fit_propose(f, g, &op);
    }
}
