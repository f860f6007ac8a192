/* Leaders go by load: reads and writes a second, and a little for each group, so that idle groups
 * are spread by count. A transfer is proposed only if it gains (fit_gains()): the sum of the
 * squares of the loads falls with every one, so they end, and none is undone while loads stay as
 * they are. Loads are averages, and a group whose leader has just changed is left in peace,
 * whatever they say.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "placementd/plan/fit.h"

/* Transfers to or from one node in one round: each is a short pause for the group's clients. */
#define AT_ONCE 4u

int leaders_best(const struct fit *f, uint32_t g)
{
    const struct plan_group *p = &f->v->groups[g];
    int best = -1, leader = fit_leader(p);
    for (uint32_t i = 0; i < p->desc->n_replicas; i++) {
        uint32_t at = fit_at(f, g)[i];
        if ((int)i == leader || !fit_healthy(f, g, i) || !f->node[at].leads ||
            f->node[at].lead_in >= AT_ONCE)
            continue;
        if (best < 0 || f->node[at].lead < f->node[fit_at(f, g)[best]].lead)
            best = (int)i;
    }
    return best;
}

static struct plan_op transfer(const struct fit *f, uint32_t g, uint32_t from, int to)
{
    struct plan_op op = fit_op(f, PLAN_TRANSFER, g, to, fit_at(f, g)[to]);
    op.from = f->v->nodes[from].id;
    return op;
}

void leaders_leave(struct fit *f)
{
    for (uint32_t g = 0; g < f->v->n_groups && fit_room(f, false); g++) {
        int leader = fit_leader(&f->v->groups[g]);
        if (f->taken[g] || leader < 0 || !fit_has_quorum(f, g))
            continue;
        uint32_t at = fit_at(f, g)[leader];
        if (at == FIT_NONE ||
            !(f->v->nodes[at].draining || f->v->nodes[at].state == PLAN_NODE_SUSPECT))
            continue;
        int to = leaders_best(f, g);
        if (to < 0)
            continue;
        struct plan_op op = transfer(f, g, at, to);
        snprintf(op.why, sizeof op.why, "%s, which leads the group, is %s", fit_name(f, at),
                 f->v->nodes[at].draining ? "draining" : "not heard of for some seconds");
        fit_propose(f, g, &op);
    }
}

struct led {
    uint64_t weight;
    uint32_t group;
};

/* Descending weight. */
static int led_compare(const void *a, const void *b)
{
    const struct led *x = a, *y = b;
    if (x->weight != y->weight)
        return x->weight > y->weight ? -1 : 1;
    return x->group < y->group ? -1 : x->group > y->group;
}

/* Groups that the node leads and that may be led elsewhere, heaviest first. */
static uint32_t list_led(const struct fit *f, uint32_t node, struct led *out)
{
    uint32_t n = 0;
    for (uint32_t k = 0; k < f->node[node].n; k++) {
        uint32_t a = f->by_node[f->node[node].first + k];
        uint32_t g = a / LIMIT_GROUP_MEMBERS;
        if (fit_leader(&f->v->groups[g]) == (int)(a % LIMIT_GROUP_MEMBERS) && !f->taken[g] &&
            !f->v->groups[g].unsettled && fit_has_quorum(f, g))
            out[n++] = (struct led){fit_leader_weight(&f->v->groups[g]), g};
    }
    qsort(out, n, sizeof(*out), led_compare);
    return n;
}

static bool worth(const struct fit *f, uint32_t from, uint32_t to, uint64_t weight)
{
    double h = f->v->options.hysteresis_percent / 100.0;
    double a = fit_lead_level(f, from, 0, 0), b = fit_lead_level(f, to, 0, 0);
    double b_after = fit_lead_level(f, to, weight, 0);
    if (!fit_gains(a, b, b_after) || a - b <= h)
        return false;
    return a > 1 + h || b < 1 - h;
}

static void relieve(struct fit *f, uint32_t node, const struct led *led, uint32_t n)
{
    for (uint32_t k = 0; k < n && f->node[node].lead_out < AT_ONCE && fit_room(f, true); k++) {
        uint32_t g = led[k].group;
        int to = leaders_best(f, g);
        if (to < 0 || !worth(f, node, fit_at(f, g)[to], led[k].weight))
            continue;
        uint32_t at = fit_at(f, g)[to];
        double a = fit_lead_level(f, node, 0, 0), b = fit_lead_level(f, at, 0, 0);
        struct plan_op op = transfer(f, g, node, to);
        snprintf(op.why, sizeof op.why, "%s leads %.0f%% of the mean of requests, %s %.0f%%",
                 fit_name(f, node), a * 100, fit_name(f, at), b * 100);
        fit_propose(f, g, &op);
    }
}

void leaders_propose(struct fit *f)
{
    struct led *nodes = mem_alloc(f->v->n_nodes * sizeof(*nodes));
    struct led *led = mem_alloc(f->v->n_groups * sizeof(*led));
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->v->n_nodes; i++)
        if (f->node[i].leads)
            nodes[n++] = (struct led){f->node[i].lead, i};
    qsort(nodes, n, sizeof(*nodes), led_compare);
    for (uint32_t k = 0; k < n; k++)
        relieve(f, nodes[k].group, led, list_led(f, nodes[k].group, led));
    free(nodes);
    free(led);
}
