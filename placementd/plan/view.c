#include "placementd/plan/view.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

void plan_list_init(struct plan_list *l)
{
    memset(l, 0, sizeof(*l));
}

void plan_list_close(struct plan_list *l)
{
    free(l->op);
    memset(l, 0, sizeof(*l));
}

void plan_list_add(struct plan_list *l, const struct plan_op *op)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 16;
        l->op = mem_realloc(l->op, l->cap * sizeof(*l->op));
    }
    l->op[l->n++] = *op;
}

const struct plan_node *plan_find_node(const struct plan_view *v, uint32_t id)
{
    uint32_t lo = 0, hi = v->n_nodes;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (v->nodes[mid].id == id)
            return &v->nodes[mid];
        if (v->nodes[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

const struct plan_group *plan_find_group(const struct plan_view *v, uint64_t id)
{
    uint32_t lo = 0, hi = v->n_groups;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (v->groups[mid].desc->group == id)
            return &v->groups[mid];
        if (v->groups[mid].desc->group < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}
