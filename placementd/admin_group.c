/* admin.group: split, merge, transfer-leader, move-replica, add-replica, remove-replica. */
#include <stdio.h>

#include "placementd/admin_internal.h"

static const struct action {
    const char *name;
    uint8_t kind; /* enum plan_kind */
} actions[] = {
    {"split", PLAN_SPLIT},       {"merge", PLAN_MERGE},
    {"move-replica", PLAN_MOVE}, {"transfer-leader", PLAN_TRANSFER},
    {"add-replica", PLAN_ADD},   {"remove-replica", PLAN_REMOVE},
};

static void put_answer(const struct admin_world *w, struct admin_call *c, const struct plan_op *op)
{
    struct buf *b = &c->result;
    struct plan_list one = {.n = 1, .cap = 1};
    struct plan_op copy = *op;
    one.op = &copy;
    buf_clear(b);
    mp_put_map(b, 2);
    mp_put_str(b, "operators");
    mp_put_array(b, c->n_ids);
    for (uint32_t i = 0; i < c->n_ids; i++)
        mp_put_uint(b, c->ids[i]);
    admin_put_ops(b, w, &one);
}

void admin_group_answer(const struct admin_world *w, struct admin_call *c)
{
    put_answer(w, c, &c->pending[0].op);
}

static enum err refuse_busy(const struct admin_world *w, uint64_t group, struct admin_why why)
{
    const struct cluster_operator *o = cluster_operator_of(w->m.cluster, group);
    if (!o)
        return ERR_OK;
    return admin_refuse(why, ERR_REFUSED,
                        "g%llu has operator %llu (%s) under way: wait for it (kvctl rebalance "
                        "watch), or kvctl operator cancel %llu",
                        (unsigned long long)group, (unsigned long long)o->id,
                        operator_kind_name(o->kind), (unsigned long long)o->id);
}

static enum err node_arg(const struct admin_world *w, const char *name, uint32_t *out,
                         struct admin_why why)
{
    const struct cluster_node *n;
    if (!name[0])
        return ERR_OK;
    enum err e = admin_find_node(w, name, &n, why);
    if (e == ERR_OK)
        *out = n->id;
    return e;
}

/* Names to ids; what is missing altogether plan_check() says. */
static enum err fill_op(const struct admin_world *w, const struct admin_args *a, struct plan_op *op,
                        struct admin_why why)
{
    const struct cluster_group *g;
    enum err e = admin_find_group(w, a->group, &g, why);
    op->group = a->group;
    if (e == ERR_OK)
        e = node_arg(w, a->from, &op->from, why);
    if (e == ERR_OK)
        e = node_arg(w, a->to, &op->to, why);
    if (e == ERR_OK && a->into) {
        op->into = a->into;
        e = admin_find_group(w, a->into, &g, why);
    }
    if (e == ERR_OK && a->has_slot && a->slot == 0)
        return admin_refuse(why, ERR_REFUSED,
                            "slot 0 begins the first group: it cannot begin a new one");
    op->slot = a->slot;
    if (e == ERR_OK)
        e = refuse_busy(w, op->group, why);
    if (e == ERR_OK && op->into)
        e = refuse_busy(w, op->into, why);
    return e;
}

enum err admin_group(const struct admin_world *w, struct admin_call *c, struct admin_why why)
{
    struct plan_op op = {0};
    struct plan_picture picture;
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
        if (admin_action(c, actions[i].name))
            op.kind = actions[i].kind;
    if (!op.kind)
        return admin_refuse(why, ERR_BAD_REQUEST, "admin.group does not know '%s'", c->args.action);
    if (!c->args.has_group)
        return admin_refuse(why, ERR_BAD_REQUEST, "no group is named");
    enum err e = fill_op(w, &c->args, &op, why);
    if (e != ERR_OK)
        return e;
    admin_view(w, &picture);
    e = plan_check(&picture.view, &op, why.text, why.n);
    plan_view_close(&picture);
    if (e != ERR_OK)
        return e;
    if (c->args.plan) {
        put_answer(w, c, &op);
        return ERR_OK;
    }
    return admin_add(w, c, &op, CLUSTER_ORIGIN_ADMIN, why);
}
