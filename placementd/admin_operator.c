/* admin.operator: list, cancel; how an operator is shown, here and in the status. */
#include <stdio.h>

#include "placementd/admin_internal.h"

/* ---- one operator ---- */

void admin_ends(const struct cluster_operator *o, uint32_t *from, uint32_t *to)
{
    *from = *to = 0;
    for (uint32_t i = 0; i < o->n_steps; i++) {
        const struct cluster_step *s = &o->step[i];
        if (s->kind == CLUSTER_STEP_CREATE && !*to)
            *to = s->node;
        if (s->kind == CLUSTER_STEP_REMOVE && !*from)
            *from = s->node;
    }
}

/* A transfer names replicas, not nodes. */
void admin_ends_now(const struct admin_world *w, const struct cluster_operator *o, uint32_t *from,
                    uint32_t *to)
{
    const struct cluster_group *g = cluster_find_group(w->m.cluster, o->group);
    admin_ends(o, from, to);
    if (!g || o->kind != CLUSTER_OP_TRANSFER_LEADER || !o->n_steps)
        return;
    int at = cluster_replica_index(g, o->step[0].replica);
    int led = cluster_replica_index(g, liveness_leader(w->m.live, g));
    *to = at >= 0 ? g->desc.replica[at].node : 0;
    *from = led >= 0 ? g->desc.replica[led].node : 0;
}

/* The step that makes the data arrive, of the replica that is being made now. */
uint64_t admin_moved(const struct admin_world *w, const struct cluster_operator *o)
{
    uint64_t moved = 0;
    if (o->queued || o->cancelling)
        return 0;
    if (o->kind == CLUSTER_OP_MERGE)
        return o->at < o->n_steps && o->step[o->at].kind >= CLUSTER_STEP_MERGE_FREEZE ? o->bytes
                                                                                      : 0;
    for (uint32_t i = 0; i < o->n_steps; i++) {
        const struct cluster_step *s = &o->step[i];
        if (s->kind != CLUSTER_STEP_PROMOTE)
            continue;
        const struct live_replica *r = liveness_replica(w->m.live, s->node, o->group);
        if (i < o->at)
            moved = o->bytes;
        else if (r && r->replica == s->replica)
            moved = r->bytes;
    }
    return moved < o->bytes ? moved : o->bytes;
}

static void describe_step(const struct admin_world *w, const struct cluster_operator *o, char *out,
                          size_t n)
{
    const struct cluster_step *s = &o->step[o->at];
    char name[24];
    const char *node = admin_node_name(w, s->node, name);
    switch (s->kind) {
    case CLUSTER_STEP_CREATE:
        snprintf(out, n, "%s to make the replica", node);
        break;
    case CLUSTER_STEP_ADD_STANDBY:
        snprintf(out, n, "the group's leader to take %s in", node);
        break;
    case CLUSTER_STEP_PROMOTE:
        snprintf(out, n, "%s to catch up", node);
        break;
    case CLUSTER_STEP_TRANSFER_LEADER:
        snprintf(out, n, "the leadership to be handed over");
        break;
    case CLUSTER_STEP_REMOVE:
        snprintf(out, n, "the group to let %s go", node);
        break;
    case CLUSTER_STEP_DESTROY:
        snprintf(out, n, "%s to delete the data", node);
        break;
    case CLUSTER_STEP_SPLIT:
        snprintf(out, n, "the new group to have a leader");
        break;
    default:
        snprintf(out, n, "the groups' leaders");
    }
}

void admin_waits_for(const struct admin_world *w, const struct cluster_operator *o, char *out,
                     size_t n)
{
    const struct live_group *g = liveness_group(w->m.live, o->group);
    /* NULL: a merge's source leaves the map before its operator ends. */
    const struct cluster_group *group = cluster_find_group(w->m.cluster, o->group);
    out[0] = '\0';
    if (o->queued) {
        if (driver_may_begin(w->driver, w->m.cluster, o, out, n))
            snprintf(out, n, "its turn");
        return;
    }
    if (o->at >= o->n_steps)
        return;
    describe_step(w, o, out, n);
    /* Busy is what a leader says while it waits itself. */
    if (g && g->refused_op == o->id && g->refused_err && g->refused_err != ERR_BUSY)
        snprintf(out + strlen(out), n - strlen(out), " (not yet: %s)",
                 err_text((enum err)g->refused_err));
    else if (group && liveness_leader(w->m.live, group) == 0)
        snprintf(out + strlen(out), n - strlen(out), " (the group has no known leader)");
}

void admin_put_operator(struct buf *b, const struct admin_world *w,
                        const struct cluster_operator *o)
{
    static const char *const origins[] = {"?", "planner", "admin", "plan"};
    char from_name[24], to_name[24], waits[200];
    uint32_t from, to;
    admin_ends_now(w, o, &from, &to);
    admin_waits_for(w, o, waits, sizeof(waits));
    mp_put_map(b, 15);
    mp_put_pair(b, "id", o->id);
    mp_put_pair_str(b, "kind", operator_kind_name(o->kind));
    mp_put_pair(b, "group", o->group);
    mp_put_pair_str(b, "state", o->queued ? "queued" : o->cancelling ? "cancelling" : "running");
    mp_put_pair_str(b, "step", o->at < o->n_steps ? operator_step_name(o->step[o->at].kind) : "");
    mp_put_pair(b, "at", o->at);
    mp_put_pair(b, "steps", o->n_steps);
    mp_put_pair_str(b, "from", admin_node_name(w, from, from_name));
    mp_put_pair_str(b, "to", admin_node_name(w, to, to_name));
    mp_put_pair(b, "bytes", o->bytes);
    mp_put_pair(b, "moved", admin_moved(w, o));
    mp_put_pair_str(b, "reason", o->reason);
    mp_put_pair_str(b, "origin", o->origin <= CLUSTER_ORIGIN_PLAN ? origins[o->origin] : "?");
    mp_put_pair(b, "age_ms", w->m.wall_ms > o->created_ms ? w->m.wall_ms - o->created_ms : 0);
    mp_put_pair_str(b, "waits_for", waits);
}

static const char *outcome_name(uint8_t outcome)
{
    return outcome == ERR_OK ? "done" : outcome == ERR_SHUTTING_DOWN ? "cancelled" : "failed";
}

static void put_finished(struct buf *b, const struct cluster_finished *f)
{
    mp_put_map(b, 7);
    mp_put_pair(b, "id", f->id);
    mp_put_pair_str(b, "kind", operator_kind_name(f->kind));
    mp_put_pair(b, "group", f->group);
    mp_put_pair_str(b, "outcome", outcome_name(f->outcome));
    mp_put_pair_str(b, "why", f->why);
    mp_put_pair_str(b, "reason", f->reason);
    mp_put_pair(b, "ended_ms", f->ended_ms);
}

/* ---- the method ---- */

static void list(const struct admin_world *w, struct admin_call *c)
{
    const struct cluster *cl = w->m.cluster;
    struct buf *b = &c->result;
    mp_put_map(b, 2);
    mp_put_str(b, "operators");
    mp_put_array(b, cl->n_operators);
    for (uint32_t i = 0; i < cl->n_operators; i++)
        admin_put_operator(b, w, &cl->operators[i]);
    mp_put_str(b, "finished");
    mp_put_array(b, cl->n_finished);
    for (uint32_t i = cl->n_finished; i > 0; i--) /* the newest first */
        put_finished(b, &cl->finished[i - 1]);
}

enum err admin_cancel_one(const struct admin_world *w, struct admin_call *c, uint64_t id,
                          struct admin_why why)
{
    uint64_t index, term;
    enum err e = driver_cancel(w->driver, &w->m, id, &index, &term, why.text, why.n);
    if (e != ERR_OK)
        return e;
    return admin_await(c, index, term);
}

void admin_operator_answer(const struct admin_world *w, struct admin_call *c)
{
    char why[160];
    struct buf *b = &c->result;
    buf_clear(b);
    mp_put_map(b, 3);
    mp_put_pair(b, "cancelled", c->n_pending - c->n_refused);
    mp_put_pair(b, "kept", c->kept + c->n_refused);
    mp_put_pair_bool(b, "balances", driver_balances(w->driver, &w->m, why, sizeof(why)));
}

enum err admin_cancel_all(const struct admin_world *w, struct admin_call *c,
                          admin_operator_fn wanted, struct admin_why why)
{
    const struct cluster *cl = w->m.cluster;
    c->many = true;
    for (uint32_t i = 0; i < cl->n_operators; i++) {
        if (wanted && !wanted(w, &cl->operators[i]))
            continue;
        enum err e = admin_cancel_one(w, c, cl->operators[i].id, why);
        if (e == ERR_REFUSED || e == ERR_NOT_FOUND)
            c->kept++;
        else if (e != ERR_OK)
            return e;
    }
    if (c->n_pending == 0)
        admin_operator_answer(w, c);
    return ERR_OK;
}

enum err admin_operator(const struct admin_world *w, struct admin_call *c, struct admin_why why)
{
    if (admin_action(c, "list")) {
        list(w, c);
        return ERR_OK;
    }
    if (!admin_action(c, "cancel"))
        return admin_refuse(why, ERR_BAD_REQUEST, "admin.operator does not know '%s'",
                            c->args.action);
    if (c->args.all)
        return admin_cancel_all(w, c, NULL, why);
    if (!c->args.has_id)
        return admin_refuse(why, ERR_BAD_REQUEST, "no operator is named");
    if (!cluster_find_operator(w->m.cluster, c->args.id))
        return admin_refuse(why, ERR_NOT_FOUND,
                            "operator %llu is not under way: kvctl operator list",
                            (unsigned long long)c->args.id);
    return admin_cancel_one(w, c, c->args.id, why);
}
