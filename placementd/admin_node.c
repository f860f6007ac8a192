/* admin.node: drain, undrain, remove, maintenance. */
#include <stdio.h>

#include "placementd/admin_internal.h"
#include "placementd/cluster_index.h"

#define MAINTENANCE_MAX_MS (7ULL * 24 * 3600 * 1000)

static const char *state_name(const struct cluster_node *n)
{
    switch (n->state) {
    case CLUSTER_NODE_LOST:
        return "lost";
    case CLUSTER_NODE_DRAINING:
        return "draining";
    case CLUSTER_NODE_REMOVED:
        return "removed";
    default:
        return "in";
    }
}

static void put_answer(const struct admin_world *w, struct admin_call *c,
                       const struct cluster_node *n, const char *state,
                       const struct plan_preview *p)
{
    struct buf *b = &c->result;
    static const struct plan_preview nothing = {0};
    buf_clear(b);
    mp_put_map(b, 3 + ADMIN_PREVIEW_KEYS);
    mp_put_pair_str(b, "node", n->name);
    mp_put_pair_str(b, "state", state);
    mp_put_pair(b, "version", w->m.cluster->map_version);
    admin_put_preview(b, w, p ? p : &nothing);
}

/* The answer was made before the proposal. */
void admin_node_answer(const struct admin_world *w, struct admin_call *c)
{
    (void)w;
    (void)c;
}

static enum err set_state(const struct admin_world *w, struct admin_call *c,
                          const struct cluster_node *n, uint8_t state, uint64_t maintenance)
{
    struct cluster_command cmd = {.kind = CLUSTER_CMD_NODE_STATE};
    if (c->args.plan)
        return ERR_OK;
    cmd.node = *n;
    cmd.node.state = state;
    cmd.node.maintenance_until_ms = maintenance;
    return admin_propose(w, c, &cmd);
}

static enum err refuse_gone(const struct cluster_node *n, struct admin_why why)
{
    return admin_refuse(why, ERR_REFUSED, "%s (node %u) is %s", n->name, n->id, state_name(n));
}

static bool is_gone(const struct cluster_node *n)
{
    return n->state == CLUSTER_NODE_LOST || n->state == CLUSTER_NODE_REMOVED;
}

static enum err drain(const struct admin_world *w, struct admin_call *c,
                      const struct cluster_node *n, struct admin_why why)
{
    struct plan_picture picture;
    struct plan_preview preview;
    if (is_gone(n))
        return refuse_gone(n, why);
    admin_view(w, &picture);
    enum err e = plan_preview_drain(&picture.view, n->id, w->rate, &preview, why.text, why.n);
    plan_view_close(&picture);
    bool already = n->state == CLUSTER_NODE_DRAINING;
    if (e != ERR_OK && !already)
        return e;
    put_answer(w, c, n, "draining", e == ERR_OK ? &preview : NULL);
    if (e == ERR_OK)
        plan_preview_close(&preview);
    return already ? ERR_OK : set_state(w, c, n, CLUSTER_NODE_DRAINING, n->maintenance_until_ms);
}

/* What the planner wanted to move away and has not begun goes back to sleep. */
static void cancel_waiting(const struct admin_world *w, uint32_t node)
{
    const struct cluster *c = w->m.cluster;
    uint64_t index, term;
    uint32_t from, to;
    char why[160];
    for (uint32_t i = 0; i < c->n_operators; i++) {
        const struct cluster_operator *o = &c->operators[i];
        admin_ends(o, &from, &to);
        if (o->queued && o->origin == CLUSTER_ORIGIN_PLANNER && from == node &&
            driver_cancel(w->driver, &w->m, o->id, &index, &term, why, sizeof(why)) != ERR_OK)
            return; /* it goes on: the balancer brings it back */
    }
}

static enum err undrain(const struct admin_world *w, struct admin_call *c,
                        const struct cluster_node *n, struct admin_why why)
{
    if (is_gone(n))
        return refuse_gone(n, why);
    put_answer(w, c, n, "in", NULL);
    if (n->state == CLUSTER_NODE_IN)
        return ERR_OK;
    if (!c->args.plan)
        cancel_waiting(w, n->id);
    return set_state(w, c, n, CLUSTER_NODE_IN, n->maintenance_until_ms);
}

static enum err remove_node(const struct admin_world *w, struct admin_call *c,
                            const struct cluster_node *n, struct admin_why why)
{
    const struct cluster *cl = w->m.cluster;
    uint32_t held = cluster_replicas_on(cl, n->id), from, to;
    if (n->state == CLUSTER_NODE_REMOVED)
        return admin_refuse(why, ERR_REFUSED, "%s (node %u) is removed already", n->name, n->id);
    if (held && n->state == CLUSTER_NODE_LOST)
        return admin_refuse(why, ERR_REFUSED,
                            "%s (node %u) is lost, but %u replicas are not replaced yet: wait, or "
                            "see kvctl why %s",
                            n->name, n->id, held, n->name);
    if (held && n->state == CLUSTER_NODE_DRAINING)
        return admin_refuse(why, ERR_REFUSED,
                            "%s still has %u replicas: wait until it is drained (kvctl node drain "
                            "%s shows how far it is)",
                            n->name, held, n->name);
    if (held)
        return admin_refuse(why, ERR_REFUSED,
                            "%s has %u replicas: drain it first (kvctl node "
                            "drain %s)",
                            n->name, held, n->name);
    for (uint32_t i = 0; i < cl->n_operators; i++) {
        admin_ends(&cl->operators[i], &from, &to);
        if (from != n->id && to != n->id)
            continue;
        return admin_refuse(why, ERR_REFUSED,
                            "operator %llu (%s of g%llu) concerns %s: wait for it, or drain the "
                            "node first",
                            (unsigned long long)cl->operators[i].id,
                            operator_kind_name(cl->operators[i].kind),
                            (unsigned long long)cl->operators[i].group, n->name);
    }
    put_answer(w, c, n, "removed", NULL);
    return set_state(w, c, n, CLUSTER_NODE_REMOVED, 0);
}

static enum err maintain(const struct admin_world *w, struct admin_call *c,
                         const struct cluster_node *n, struct admin_why why)
{
    if (is_gone(n))
        return refuse_gone(n, why);
    if (!c->args.has_for || c->args.for_ms > MAINTENANCE_MAX_MS)
        return admin_refuse(why, ERR_BAD_REQUEST,
                            "maintenance wants for_ms: up to a week, 0 ends it");
    put_answer(w, c, n, c->args.for_ms ? "maintenance" : state_name(n), NULL);
    return set_state(w, c, n, n->state, c->args.for_ms ? w->m.wall_ms + c->args.for_ms : 0);
}

enum err admin_node(const struct admin_world *w, struct admin_call *c, struct admin_why why)
{
    const struct cluster_node *n;
    enum err e = admin_find_node(w, c->args.node, &n, why);
    if (e != ERR_OK)
        return e;
    if (admin_action(c, "drain"))
        return drain(w, c, n, why);
    if (admin_action(c, "undrain"))
        return undrain(w, c, n, why);
    if (admin_action(c, "remove"))
        return remove_node(w, c, n, why);
    if (admin_action(c, "maintenance"))
        return maintain(w, c, n, why);
    return admin_refuse(why, ERR_BAD_REQUEST, "admin.node does not know '%s'", c->args.action);
}
