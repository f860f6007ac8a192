/* admin.rebalance: plan, apply, status, pause, resume, cancel.
 *
 * A plan is what the planner would do, played through to its end. The leader keeps the last few, so
 * that what was shown is what is applied; another leader does not know them, nor does anybody apply
 * one once the map has changed. */
#include <stdio.h>

#include "common/base/crc32c.h"
#include "common/base/mem.h"
#include "placementd/admin_internal.h"

/* ---- plans ---- */

static void name_plan(const struct admin_world *w, const struct plan_list *ops, char out[16])
{
    struct buf b = {0};
    mp_put_uint(&b, w->m.cluster->map_version);
    for (uint32_t i = 0; i < ops->n; i++)
        admin_put_op(&b, w, &ops->op[i]);
    snprintf(out, 16, "%08x", (unsigned)crc32c(0, b.p, b.n));
    buf_close(&b);
}

/* Takes the list. */
static void keep_plan(const struct admin_world *w, const char *id, struct plan_list *ops)
{
    struct admin_plan *p = &w->admin->plan[w->admin->next++ % ADMIN_PLANS_MAX];
    if (p->version)
        plan_list_close(&p->ops);
    p->version = w->m.cluster->map_version;
    snprintf(p->id, sizeof(p->id), "%s", id);
    p->ops = *ops;
    plan_list_init(ops);
}

static enum err make_plan(const struct admin_world *w, struct admin_call *c, struct admin_why why)
{
    struct plan_picture picture;
    struct plan_preview preview;
    struct buf *b = &c->result;
    char id[16];
    if (w->m.cluster->n_groups == 0)
        return admin_refuse(why, ERR_REFUSED, "not laid out yet: kvctl cluster init");
    admin_view(w, &picture);
    plan_preview_balance(&picture.view, w->rate, &preview);
    plan_view_close(&picture);
    name_plan(w, &preview.ops, id);
    mp_put_map(b, 2 + ADMIN_PREVIEW_KEYS);
    mp_put_pair_str(b, "plan", id);
    mp_put_pair(b, "version", w->m.cluster->map_version);
    admin_put_preview(b, w, &preview);
    keep_plan(w, id, &preview.ops);
    plan_preview_close(&preview);
    return ERR_OK;
}

static const struct admin_plan *find_plan(const struct admin *a, const char *id)
{
    for (uint32_t i = 0; i < ADMIN_PLANS_MAX; i++)
        if (a->plan[i].version && strcmp(a->plan[i].id, id) == 0)
            return &a->plan[i];
    return NULL;
}

/* A plan plays rounds through: what it wants of a group that an earlier operator of it still holds
 * can only follow later. */
static bool seen_before(const struct plan_list *l, uint32_t at)
{
    for (uint32_t i = 0; i < at; i++)
        if (l->op[i].group == l->op[at].group)
            return true;
    return false;
}

static enum err apply_one(const struct admin_world *w, struct admin_call *c,
                          const struct plan_picture *picture, const struct plan_op *planned)
{
    char text[200] = "", all[256];
    struct admin_why why = {text, sizeof(text)};
    struct plan_op op = *planned;
    enum err e = plan_check(&picture->view, &op, text, sizeof(text));
    if (e == ERR_OK)
        e = admin_add(w, c, &op, CLUSTER_ORIGIN_PLAN, why);
    if (e == ERR_OK || e == ERR_NOT_LEADER)
        return e;
    snprintf(all, sizeof(all), "g%llu: %s", (unsigned long long)op.group,
             text[0] ? text : err_text(e));
    admin_note_refused(c, all);
    return ERR_OK;
}

static enum err apply(const struct admin_world *w, struct admin_call *c, struct admin_why why)
{
    const struct admin_plan *p = find_plan(w->admin, c->args.plan_id);
    struct plan_picture picture;
    enum err e = ERR_OK;
    uint32_t later = 0;
    char text[160];
    if (!p)
        return admin_refuse(why, ERR_NOT_FOUND,
                            "there is no plan '%s': it is older than the last %u, or placementd "
                            "has another leader since. Run: kvctl rebalance plan",
                            c->args.plan_id, ADMIN_PLANS_MAX);
    if (p->version != w->m.cluster->map_version)
        return admin_refuse(why, ERR_REFUSED,
                            "the topology has changed since the plan was made (version %llu, now "
                            "%llu). Run: kvctl rebalance plan",
                            (unsigned long long)p->version,
                            (unsigned long long)w->m.cluster->map_version);
    c->many = true;
    admin_view(w, &picture);
    for (uint32_t i = 0; i < p->ops.n && e == ERR_OK; i++) {
        if (seen_before(&p->ops, i))
            later++;
        else
            e = apply_one(w, c, &picture, &p->ops.op[i]);
    }
    plan_view_close(&picture);
    if (later) {
        snprintf(
            text, sizeof(text),
            "%u of the plan can only follow once these are done: then plan again, or leave them to "
            "balancing",
            later);
        admin_note_refused(c, text);
    }
    if (e == ERR_OK && c->n_pending == 0)
        admin_rebalance_answer(w, c);
    return e;
}

/* ---- status ---- */

/* Bytes a second that come in at all nodes. */
static uint64_t rate_now(const struct admin_world *w)
{
    uint64_t rate = 0;
    for (uint32_t i = 0; i < w->m.cluster->n_nodes; i++) {
        const struct live_node *n = liveness_node(w->m.live, w->m.cluster->nodes[i].id);
        if (n)
            rate += n->moving;
    }
    return rate / 2; /* each byte goes out of one and into another */
}

static void status(const struct admin_world *w, struct admin_call *c)
{
    const struct cluster *cl = w->m.cluster;
    struct buf *b = &c->result;
    uint64_t left = 0, rate = rate_now(w);
    uint32_t queued = 0;
    char why[160] = "";
    bool balances = driver_balances(w->driver, &w->m, why, sizeof(why));
    for (uint32_t i = 0; i < cl->n_operators; i++) {
        queued += cl->operators[i].queued;
        left += cl->operators[i].bytes - admin_moved(w, &cl->operators[i]);
    }
    mp_put_map(b, 10);
    mp_put_pair_bool(b, "paused", cl->paused);
    mp_put_pair_bool(b, "auto", w->driver->options.plan.balance);
    mp_put_pair_bool(b, "balances", balances);
    mp_put_pair_str(b, "why_not", balances ? "" : why);
    mp_put_pair(b, "running", cl->n_operators - queued);
    mp_put_pair(b, "queued", queued);
    mp_put_pair(b, "bytes_left", left);
    mp_put_pair(b, "rate", rate);
    mp_put_pair(b, "seconds_left", rate ? left / rate + (left > 0) : 0);
    mp_put_str(b, "operators");
    mp_put_array(b, cl->n_operators);
    for (uint32_t i = 0; i < cl->n_operators; i++)
        admin_put_operator(b, w, &cl->operators[i]);
}

/* ---- pause, resume, cancel ---- */

static enum err pause(const struct admin_world *w, struct admin_call *c, bool paused)
{
    struct cluster_command cmd = {.kind = CLUSTER_CMD_PAUSE, .paused = paused};
    return admin_propose(w, c, &cmd);
}

/* Repair and drains are not balancing, nor is what somebody has ordered one by one. */
static bool is_balancing(const struct admin_world *w, const struct cluster_operator *o)
{
    uint32_t from, to;
    admin_ends(o, &from, &to);
    const struct cluster_node *n = from ? cluster_find_node(w->m.cluster, from) : NULL;
    return o->origin != CLUSTER_ORIGIN_ADMIN && o->kind != CLUSTER_OP_REPLACE &&
           o->kind != CLUSTER_OP_ADD_REPLICA && o->kind != CLUSTER_OP_REMOVE_REPLICA &&
           !(n && n->state == CLUSTER_NODE_DRAINING);
}

void admin_rebalance_answer(const struct admin_world *w, struct admin_call *c)
{
    struct buf *b = &c->result;
    buf_clear(b);
    if (admin_action(c, "cancel")) {
        admin_operator_answer(w, c);
        return;
    }
    if (!admin_action(c, "apply")) {
        mp_put_map(b, 1);
        mp_put_pair_bool(b, "paused", w->m.cluster->paused);
        return;
    }
    mp_put_map(b, 2);
    mp_put_str(b, "operators");
    mp_put_array(b, c->n_ids);
    for (uint32_t i = 0; i < c->n_ids; i++)
        mp_put_uint(b, c->ids[i]);
    mp_put_str(b, "refused");
    mp_put_array(b, c->n_refused);
    buf_append(b, c->refused.p, c->refused.n);
}

enum err admin_rebalance(const struct admin_world *w, struct admin_call *c, struct admin_why why)
{
    if (admin_action(c, "plan"))
        return make_plan(w, c, why);
    if (admin_action(c, "apply"))
        return apply(w, c, why);
    if (admin_action(c, "pause") || admin_action(c, "resume"))
        return pause(w, c, admin_action(c, "pause"));
    if (admin_action(c, "cancel"))
        return admin_cancel_all(w, c, is_balancing, why);
    if (!admin_action(c, "status"))
        return admin_refuse(why, ERR_BAD_REQUEST, "admin.rebalance does not know '%s'",
                            c->args.action);
    status(w, c);
    return ERR_OK;
}
