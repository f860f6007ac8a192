/* admin.why: lines about a group, a node, an operator or a slot: what is, what is wanted, what it
 * waits for, what the planner says. */
#include <stdarg.h>
#include <stdio.h>

#include "common/raft/group.h"
#include "placementd/admin_internal.h"
#include "placementd/cluster_index.h"

#define LINES_MAX 64u
#define RECENT 5u

typedef unsigned long long ull;

struct lines {
    struct buf text; /* MessagePack strings */
    uint32_t n;
};

__attribute__((format(printf, 2, 3))) static void line(struct lines *l, const char *fmt, ...)
{
    char text[400];
    va_list args;
    if (l->n == LINES_MAX)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    mp_put_str(&l->text, text);
    l->n++;
}

/* ---- operators ---- */

static void about_operator(const struct admin_world *w, const struct cluster_operator *o,
                           struct lines *l)
{
    char waits[200], age[24], moved[24], bytes[24], a[24], b[24];
    uint32_t from, to;
    admin_ends(o, &from, &to);
    admin_waits_for(w, o, waits, sizeof(waits));
    line(l, "operator %llu: %s of g%llu%s%s%s%s, because: %s", (ull)o->id,
         operator_kind_name(o->kind), (ull)o->group, from ? " from " : "",
         admin_node_name(w, from, a), to ? " to " : "", admin_node_name(w, to, b),
         o->reason[0] ? o->reason : "-");
    if (o->queued)
        line(l, "  waits for %s", waits);
    else
        line(l, "  %sstep %u of %u (%s), %s old, %s of %s moved; waits for %s",
             o->cancelling ? "on its way back, " : "", o->at + 1u, o->n_steps,
             o->at < o->n_steps ? operator_step_name(o->step[o->at].kind) : "-",
             admin_time(w->m.wall_ms > o->created_ms ? w->m.wall_ms - o->created_ms : 0, age),
             admin_size(admin_moved(w, o), moved), admin_size(o->bytes, bytes), waits);
    if (o->cancelling)
        line(l, "  given up: %s", o->why);
}

static void about_finished(const struct admin_world *w, const struct cluster_finished *f,
                           struct lines *l)
{
    char age[24];
    uint64_t ago = w->m.wall_ms > f->ended_ms ? w->m.wall_ms - f->ended_ms : 0;
    line(l, "%s ago: operator %llu (%s of g%llu) %s%s%s; it was made because: %s",
         admin_time(ago, age), (ull)f->id, operator_kind_name(f->kind), (ull)f->group,
         f->outcome == ERR_OK              ? "was done"
         : f->outcome == ERR_SHUTTING_DOWN ? "was cancelled"
                                           : "failed",
         f->why[0] ? ": " : "", f->why, f->reason[0] ? f->reason : "-");
}

static void recent_of_group(const struct admin_world *w, uint64_t group, struct lines *l)
{
    const struct cluster *c = w->m.cluster;
    unsigned shown = 0;
    for (uint32_t i = c->n_finished; i > 0 && shown < RECENT; i--) {
        if (c->finished[i - 1].group != group)
            continue;
        about_finished(w, &c->finished[i - 1], l);
        shown++;
    }
}

static enum err why_operator(const struct admin_world *w, uint64_t id, struct lines *l,
                             struct admin_why why)
{
    const struct cluster *c = w->m.cluster;
    const struct cluster_operator *o = cluster_find_operator(c, id);
    if (o) {
        about_operator(w, o, l);
        return ERR_OK;
    }
    for (uint32_t i = 0; i < c->n_finished; i++) {
        if (c->finished[i].id == id) {
            about_finished(w, &c->finished[i], l);
            return ERR_OK;
        }
    }
    return admin_refuse(why, ERR_NOT_FOUND,
                        "there is no operator %llu, nor is it among the last %u that ended",
                        (ull)id, CLUSTER_FINISHED_MAX);
}

/* ---- what the planner says ---- */

/* The operations of one round that concern the group (0: any) and the node (0: any). */
static void planned(const struct admin_world *w, uint64_t group, uint32_t node, struct lines *l)
{
    struct plan_picture picture;
    struct plan_list ops;
    char why[160] = "", a[24], b[24];
    unsigned n = 0;
    admin_view(w, &picture);
    bool balances = driver_balances(w->driver, &w->m, why, sizeof(why));
    picture.view.options.balance = balances;
    plan_list_init(&ops);
    plan_round(&picture.view, &ops);
    for (uint32_t i = 0; i < ops.n && n < RECENT; i++) {
        const struct plan_op *op = &ops.op[i];
        if ((group && op->group != group) || (node && op->from != node && op->to != node))
            continue;
        n++;
        line(l, "the planner would: %s of g%llu%s%s%s%s, because: %s", operator_kind_name(op->kind),
             (ull)op->group, op->from ? " from " : "", admin_node_name(w, op->from, a),
             op->to ? " to " : "", admin_node_name(w, op->to, b), op->why);
    }
    if (!n)
        line(l, "the planner wants no change of it now");
    if (!balances)
        line(l, "nothing is balanced: %s", why);
    plan_list_close(&ops);
    plan_view_close(&picture);
}

/* ---- nodes ---- */

static bool is_gone(const struct cluster_node *n)
{
    return n->state == CLUSTER_NODE_LOST || n->state == CLUSTER_NODE_REMOVED;
}

/* Up, or since when not and what comes of it. */
static void about_liveness(const struct admin_world *w, const struct cluster_node *n,
                           struct lines *l)
{
    char silent[24], left[24];
    const struct live_node *live = liveness_node(w->m.live, n->id);
    enum liveness_state state = liveness_state(w->m.live, n->id, w->m.now);
    uint64_t since = live ? live->heard : w->m.live->since;
    uint64_t ns = w->m.now > since ? w->m.now - since : 0;
    uint64_t dead = w->driver->options.down_after_ns;
    bool maintenance = n->maintenance_until_ms > w->m.wall_ms;
    if (state == LIVE_UP) {
        line(l, "%s is up%s", n->name, n->state == CLUSTER_NODE_DRAINING ? ", being drained" : "");
    } else {
        line(l, "%s is %s: not heard for %s%s", n->name, liveness_state_name(state),
             admin_time(ns / NS_PER_MS, silent),
             n->state == CLUSTER_NODE_DRAINING ? ", being drained" : "");
        if (maintenance)
            line(l, "its replicas are not replaced: it is in maintenance");
        else if (state != LIVE_UNKNOWN && ns < dead)
            line(l, "its replicas are replaced in %s if it does not come back",
                 admin_time((dead - ns) / NS_PER_MS, left));
        else if (state != LIVE_UNKNOWN && cluster_replicas_on(w->m.cluster, n->id))
            line(l, "its replicas are being replaced");
        else if (state != LIVE_UNKNOWN)
            line(l, "its replicas are replaced; if it is lost for good: kvctl node remove %s",
                 n->name);
    }
    if (maintenance)
        line(l, "in maintenance for another %s",
             admin_time(n->maintenance_until_ms - w->m.wall_ms, left));
}

static void drain_progress(const struct admin_world *w, const struct cluster_node *n,
                           const struct plan_view *view, struct lines *l)
{
    struct plan_preview preview;
    char why[200] = "", size[24], time[24];
    enum err e = plan_preview_drain(view, n->id, w->rate, &preview, why, sizeof(why));
    if (e != ERR_OK) {
        line(l, "it cannot be emptied now: %s", why);
        return;
    }
    line(l, "to be moved away yet: %u replicas, %s, about %s", preview.ops.n,
         admin_size(preview.bytes, size), admin_time(preview.seconds * 1000, time));
    plan_preview_close(&preview);
}

static void why_node(const struct admin_world *w, const struct cluster_node *n, struct lines *l)
{
    const struct cluster *c = w->m.cluster;
    struct plan_picture picture;
    char text[200] = "";
    uint32_t replicas = 0, leaders = 0, from, to, shown = 0;
    for (uint32_t i = 0; i < c->n_groups; i++) {
        uint64_t leader = liveness_leader(w->m.live, &c->groups[i]);
        for (uint32_t k = 0; k < c->groups[i].desc.n_replicas; k++) {
            const struct shard_replica *r = &c->groups[i].desc.replica[k];
            replicas += r->node == n->id;
            leaders += r->node == n->id && r->replica == leader;
        }
    }
    if (is_gone(n))
        line(l, "%s (node %u) is %s", n->name, n->id,
             n->state == CLUSTER_NODE_LOST ? "lost: the name came back with an empty disk"
                                           : "removed");
    else
        about_liveness(w, n, l);
    line(l, "%u replicas are on it, it leads %u groups", replicas, leaders);
    admin_view(w, &picture);
    const struct plan_node *p = plan_find_node(&picture.view, n->id);
    if (!is_gone(n) && p && plan_may_take(&picture.view, NULL, 0, p, text, sizeof(text)) != ERR_OK)
        line(l, "it takes no more replicas: %s", text);
    if (n->state == CLUSTER_NODE_DRAINING && replicas)
        drain_progress(w, n, &picture.view, l);
    else if (n->state == CLUSTER_NODE_DRAINING)
        line(l, "it is empty: kvctl node remove %s, or kvctl node undrain %s", n->name, n->name);
    plan_view_close(&picture);
    for (uint32_t i = 0; i < c->n_operators && shown < 20; i++) {
        admin_ends(&c->operators[i], &from, &to);
        if (from != n->id && to != n->id)
            continue;
        about_operator(w, &c->operators[i], l);
        shown++;
    }
    if (!shown && !is_gone(n))
        planned(w, 0, n->id, l);
}

/* ---- groups ---- */

static void about_replicas(const struct admin_world *w, const struct cluster_group *g,
                           struct lines *l)
{
    const struct live_group *live = liveness_group(w->m.live, g->desc.group);
    char name[24];
    for (uint32_t i = 0; i < g->desc.n_replicas; i++) {
        const struct shard_replica *r = &g->desc.replica[i];
        const struct cluster_node *n = cluster_find_node(w->m.cluster, r->node);
        enum liveness_state state = liveness_state(w->m.live, r->node, w->m.now);
        const struct live_replica *has = liveness_replica(w->m.live, r->node, g->desc.group);
        const char *node = admin_node_name(w, r->node, name);
        if (n && is_gone(n))
            line(l, "its replica on %s (node %u) is gone with the node", node, n->id);
        else if (state != LIVE_UP)
            line(l, "its replica is on %s, which is %s", node, liveness_state_name(state));
        else if (!has)
            line(l, "%s has no replica of it yet", node);
        else if (has->state == MSG_REPLICA_BROKEN)
            line(l, "its replica on %s is broken: it is replaced", node);
        else if (has->state == MSG_REPLICA_INSTALLING)
            line(l, "its replica on %s is being seeded", node);
        else if (r->role != GROUP_VOTER)
            line(l, "its replica on %s does not vote yet", node);
    }
    if (live && live->refused_op && live->refused_err)
        line(l, "its leader could not carry out operator %llu lately: %s", (ull)live->refused_op,
             err_text((enum err)live->refused_err));
}

static void why_group(const struct admin_world *w, const struct cluster_group *g, struct lines *l)
{
    const struct shard_desc *d = &g->desc;
    const struct live_group *live = liveness_group(w->m.live, d->group);
    char nodes[160] = "", name[24], size[24];
    int at = cluster_replica_index(g, liveness_leader(w->m.live, g));
    for (uint32_t i = 0; i < d->n_replicas && strlen(nodes) + LIMIT_NAME + 8 < sizeof(nodes); i++)
        snprintf(nodes + strlen(nodes), sizeof(nodes) - strlen(nodes), "%s%s", i ? ", " : "",
                 admin_node_name(w, d->replica[i].node, name));
    line(l, "g%llu has slots %u-%u (epoch %u.%u), %s, on %s; %s%s", (ull)d->group, d->first_slot,
         d->last_slot, d->epoch.range, d->epoch.members, admin_size(live ? live->bytes : 0, size),
         nodes, at >= 0 ? "led by " : "no leader is known",
         at >= 0 ? admin_node_name(w, d->replica[at].node, name) : "");
    about_replicas(w, g, l);
    const struct cluster_operator *o = cluster_operator_of(w->m.cluster, d->group);
    if (o)
        about_operator(w, o, l);
    else
        planned(w, d->group, 0, l);
    recent_of_group(w, d->group, l);
}

static enum err why_slot(const struct admin_world *w, uint16_t slot, struct lines *l,
                         struct admin_why why)
{
    const struct cluster *c = w->m.cluster;
    for (uint32_t i = 0; i < c->n_groups; i++) {
        if (c->groups[i].desc.first_slot > slot || c->groups[i].desc.last_slot < slot)
            continue;
        line(l, "slot %u belongs to g%llu", slot, (ull)c->groups[i].desc.group);
        why_group(w, &c->groups[i], l);
        return ERR_OK;
    }
    return admin_refuse(why, ERR_NOT_FOUND, "no group owns slot %u%s", slot,
                        c->n_groups ? "" : ": not laid out yet, kvctl cluster init");
}

enum err admin_explain(const struct admin_world *w, struct admin_call *c, struct admin_why why)
{
    const struct cluster_group *g;
    const struct cluster_node *n;
    struct lines l = {0};
    enum err e = ERR_OK;
    if (c->args.has_group) {
        e = admin_find_group(w, c->args.group, &g, why);
        if (e == ERR_OK)
            why_group(w, g, &l);
        else if (cluster_group_is_gone(w->m.cluster, c->args.group)) {
            recent_of_group(w, c->args.group, &l);
            e = l.n ? ERR_OK : e;
        }
    } else if (c->args.has_id) {
        e = why_operator(w, c->args.id, &l, why);
    } else if (c->args.has_slot) {
        e = why_slot(w, c->args.slot, &l, why);
    } else {
        e = admin_find_node(w, c->args.node, &n, why);
        if (e == ERR_OK)
            why_node(w, n, &l);
    }
    if (e == ERR_OK) {
        mp_put_map(&c->result, 1);
        mp_put_str(&c->result, "lines");
        mp_put_array(&c->result, l.n);
        buf_append(&c->result, l.text.p, l.text.n);
    }
    buf_close(&l.text);
    return e;
}
