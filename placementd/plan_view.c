#include "placementd/plan_view.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/raft/group.h"

/* A voter that is so many entries behind its leader has not caught up. */
#define LAG_ENTRIES 10000u

/* ---- what is under way ---- */

void plan_view_add_flow(const struct cluster *c, const struct cluster_operator *o,
                        struct plan_flow *flow)
{
    bool leaves = o->kind == CLUSTER_OP_MOVE || o->kind == CLUSTER_OP_MERGE;
    for (uint32_t i = 0; i < o->n_steps; i++) {
        const struct cluster_step *s = &o->step[i];
        const struct cluster_node *n = s->node ? cluster_find_node(c, s->node) : NULL;
        if (!n || o->cancelling)
            continue;
        if (s->kind == CLUSTER_STEP_CREATE) {
            flow[n - c->nodes].in++;
            flow[n - c->nodes].in_bytes += o->bytes;
        }
        flow[n - c->nodes].out += leaves && s->kind == CLUSTER_STEP_REMOVE;
    }
}

struct plan_flow *plan_view_flows(const struct cluster *c, bool with_queued)
{
    struct plan_flow *flow = mem_zalloc((c->n_nodes + 1u) * sizeof(*flow));
    for (uint32_t i = 0; i < c->n_operators; i++)
        if (with_queued || !c->operators[i].queued)
            plan_view_add_flow(c, &c->operators[i], flow);
    return flow;
}

/* ---- nodes ---- */

struct builder {
    const struct cluster *c;
    const struct liveness *l;
    uint64_t down_after_ns, now, wall_ms;
};

static uint8_t node_state(const struct builder *b, const struct cluster_node *n, bool maintenance,
                          uint64_t silent)
{
    if (n->state == CLUSTER_NODE_LOST)
        return PLAN_NODE_DEAD;
    switch (liveness_state(b->l, n->id, b->now)) {
    case LIVE_UP:
        return PLAN_NODE_UP;
    case LIVE_DOWN:
        return silent >= b->down_after_ns && !maintenance ? PLAN_NODE_DEAD : PLAN_NODE_DOWN;
    default:
        return PLAN_NODE_SUSPECT;
    }
}

static void build_node(const struct builder *b, const struct cluster_node *n,
                       const struct plan_flow *flow, struct plan_node *out)
{
    const struct live_node *live = liveness_node(b->l, n->id);
    uint64_t heard = live ? live->heard : b->l->since;
    uint64_t silent = b->now > heard ? b->now - heard : 0;
    *out = (struct plan_node){.id = n->id,
                              .name = n->name,
                              .zone = n->zone,
                              .host = n->host,
                              .draining = n->state == CLUSTER_NODE_DRAINING,
                              .maintenance = n->maintenance_until_ms > b->wall_ms,
                              .incoming = flow->in,
                              .outgoing = flow->out,
                              .incoming_bytes = flow->in_bytes};
    out->state = node_state(b, n, out->maintenance, silent);
    if (out->state == PLAN_NODE_DOWN || out->state == PLAN_NODE_DEAD)
        out->down_ms = silent / NS_PER_MS;
    if (n->state == CLUSTER_NODE_LOST)
        out->down_ms = 0;
    if (live) {
        out->disk_free = live->disk_free;
        out->disk_size = live->disk_size;
    }
}

/* ---- groups ---- */

static const struct msg_member_status *member_of(const struct live_group *live, uint64_t replica)
{
    for (uint32_t i = 0; live && i < live->n_members; i++)
        if (live->member[i].replica == replica)
            return &live->member[i];
    return NULL;
}

static bool lags(const struct live_group *live, const struct shard_replica *r)
{
    const struct msg_member_status *m = member_of(live, r->replica);
    const struct msg_member_status *leader = live ? member_of(live, live->leader) : NULL;
    if (!m || !leader || r->replica == live->leader)
        return false;
    return r->role != GROUP_VOTER || m->match + LAG_ENTRIES < leader->match;
}

static void build_group(const struct builder *b, const struct cluster_group *g,
                        struct plan_group *out, struct shard_desc *desc)
{
    const struct live_group *live = liveness_group(b->l, g->desc.group);
    *desc = g->desc;
    desc->leader = liveness_leader(b->l, g);
    const struct cluster_operator *o = cluster_operator_of(b->c, g->desc.group);
    *out = (struct plan_group){.desc = desc, .busy = o != NULL};
    if (o && o->kind == CLUSTER_OP_TRANSFER_LEADER)
        out->next_leader = o->step[0].replica;
    if (live) {
        out->bytes = live->bytes;
        out->keys = live->keys;
        out->reads = live->reads;
        out->writes = live->writes;
        out->requests = liveness_load(live);
        out->unsettled = liveness_unsettled(live, b->now);
    }
    for (uint32_t i = 0; i < desc->n_replicas; i++) {
        const struct shard_replica *r = &desc->replica[i];
        const struct cluster_node *n = cluster_find_node(b->c, r->node);
        const struct live_replica *held = liveness_replica(b->l, r->node, desc->group);
        bool broken = held && held->state == MSG_REPLICA_BROKEN &&
                      (held->replica == 0 || held->replica == r->replica);
        bool filling = held && held->state == MSG_REPLICA_INSTALLING;
        unsigned bit = 1u << i;
        if (broken || !n || n->state == CLUSTER_NODE_LOST)
            out->missing = (uint16_t)(out->missing | bit);
        if (broken || filling || lags(live, r))
            out->lagging = (uint16_t)(out->lagging | bit);
    }
}

void plan_view_build(const struct cluster *c, const struct liveness *l,
                     const struct plan_options *o, uint64_t down_after_ns, uint64_t now,
                     uint64_t now_wall_ms, struct plan_picture *out)
{
    struct builder b = {c, l, down_after_ns, now, now_wall_ms};
    struct plan_flow *flow = plan_view_flows(c, true);
    *out = (struct plan_picture){
        .nodes = mem_alloc((c->n_nodes + 1u) * sizeof(*out->nodes)),
        .groups = mem_alloc((c->n_groups + 1u) * sizeof(*out->groups)),
        .descs = mem_alloc((c->n_groups + 1u) * sizeof(*out->descs)),
    };
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_nodes; i++)
        if (c->nodes[i].state != CLUSTER_NODE_REMOVED)
            build_node(&b, &c->nodes[i], &flow[i], &out->nodes[n++]);
    for (uint32_t i = 0; i < c->n_groups; i++)
        build_group(&b, &c->groups[i], &out->groups[i], &out->descs[i]);
    out->view = (struct plan_view){.n_nodes = n,
                                   .n_groups = c->n_groups,
                                   .nodes = out->nodes,
                                   .groups = out->groups,
                                   .options = *o};
    out->view.options.replicas = cluster_replicas(c, o->replicas);
    free(flow);
}

void plan_view_close(struct plan_picture *p)
{
    free(p->nodes);
    free(p->groups);
    free(p->descs);
    memset(p, 0, sizeof(*p));
}
