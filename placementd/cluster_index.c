#include "placementd/cluster_index.h"

#include <stdlib.h>

#include "common/base/map.h"
#include "common/base/mem.h"

/* Positions by node: those of c->nodes[i] are item[start[i] .. start[i + 1]). */
struct by_node {
    uint32_t *start, *item;
};

struct cluster_index {
    bool groups_fresh, operators_fresh;
    struct by_node groups, operators;
    struct map operator_of; /* group -> position + 1 of its operator */
};

struct cluster_index *cluster_index_create(void)
{
    struct cluster_index *x = mem_zalloc(sizeof(*x));
    map_init(&x->operator_of);
    return x;
}

void cluster_index_destroy(struct cluster_index *x)
{
    if (!x)
        return;
    free(x->groups.start);
    free(x->groups.item);
    free(x->operators.start);
    free(x->operators.item);
    map_close(&x->operator_of);
    free(x);
}

void cluster_index_groups_changed(struct cluster *c)
{
    c->index->groups_fresh = false;
}

void cluster_index_operators_changed(struct cluster *c)
{
    c->index->operators_fresh = false;
}

/* ---- by node: a pair (node, position) each, counted, then put in place ---- */

struct pairs {
    struct by_node *to;
    const struct cluster *c;
    bool counting;
};

static void begin(struct pairs *p, const struct cluster *c, struct by_node *to)
{
    free(to->start);
    free(to->item);
    to->item = NULL;
    to->start = mem_zalloc((c->n_nodes + 2u) * sizeof(*to->start));
    *p = (struct pairs){to, c, true};
}

/* While counting, start[i + 2] holds how many node i has; afterwards start[i + 1] is where its next
 * one goes, so that in the end it is where it ends. */
static void pair(struct pairs *p, uint32_t node, uint32_t position)
{
    const struct cluster_node *n = cluster_find_node(p->c, node);
    size_t at = n ? (size_t)(n - p->c->nodes) : 0;
    if (!n)
        return;
    if (p->counting)
        p->to->start[at + 2]++;
    else
        p->to->item[p->to->start[at + 1]++] = position;
}

static void counted(struct pairs *p)
{
    for (uint32_t i = 2; i < p->c->n_nodes + 2u; i++)
        p->to->start[i] += p->to->start[i - 1];
    p->to->item = mem_alloc((p->to->start[p->c->n_nodes + 1] + 1u) * sizeof(*p->to->item));
    p->counting = false;
}

static const uint32_t *positions(const struct by_node *b, const struct cluster *c, uint32_t node,
                                 uint32_t *n)
{
    const struct cluster_node *known = cluster_find_node(c, node);
    size_t at = known ? (size_t)(known - c->nodes) : 0;
    *n = known ? b->start[at + 1] - b->start[at] : 0;
    return known ? b->item + b->start[at] : NULL;
}

static void pair_groups(struct pairs *p)
{
    for (uint32_t i = 0; i < p->c->n_groups; i++)
        for (uint32_t j = 0; j < p->c->groups[i].desc.n_replicas; j++)
            pair(p, p->c->groups[i].desc.replica[j].node, i);
}

const uint32_t *cluster_groups_of(const struct cluster *c, uint32_t node, uint32_t *n)
{
    struct cluster_index *x = c->index;
    if (!x->groups_fresh) {
        struct pairs p;
        begin(&p, c, &x->groups);
        pair_groups(&p);
        counted(&p);
        pair_groups(&p);
        x->groups_fresh = true;
    }
    return positions(&x->groups, c, node, n);
}

static void pair_operators(struct pairs *p)
{
    for (uint32_t i = 0; i < p->c->n_operators; i++) {
        const struct cluster_operator *o = &p->c->operators[i];
        if (!o->queued && o->step[o->at].node)
            pair(p, o->step[o->at].node, i);
    }
}

static void fresh_operators(const struct cluster *c)
{
    struct cluster_index *x = c->index;
    struct pairs p;
    if (x->operators_fresh)
        return;
    begin(&p, c, &x->operators);
    pair_operators(&p);
    counted(&p);
    pair_operators(&p);
    map_close(&x->operator_of);
    map_init(&x->operator_of);
    for (uint32_t i = 0; i < c->n_operators; i++) {
        void *position = (void *)(uintptr_t)(i + 1);
        map_set(&x->operator_of, c->operators[i].group, position);
        if (c->operators[i].peer)
            map_set(&x->operator_of, c->operators[i].peer, position);
    }
    x->operators_fresh = true;
}

const uint32_t *cluster_operators_at(const struct cluster *c, uint32_t node, uint32_t *n)
{
    fresh_operators(c);
    return positions(&c->index->operators, c, node, n);
}

struct cluster_operator *cluster_operator_of(const struct cluster *c, uint64_t group)
{
    if (c->n_operators == 0)
        return NULL;
    fresh_operators(c);
    uintptr_t position = (uintptr_t)map_find(&c->index->operator_of, group);
    return position ? &c->operators[position - 1] : NULL;
}

uint32_t cluster_replicas_on(const struct cluster *c, uint32_t node)
{
    uint32_t n;
    (void)cluster_groups_of(c, node, &n);
    return n;
}
