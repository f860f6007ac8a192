#include "placementd/cluster_command.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "placementd/cluster_index.h"
#include "placementd/member_apply.h"
#include "placementd/operator_apply.h"
#include "placementd/restore_apply.h"

struct apply {
    struct cluster *c;
    const struct cluster_command *cmd;
    const struct cluster_changes *changes;
    struct cluster_result *out;
};

void cluster_refuse(struct cluster_result *out, enum err e, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    out->err = e;
    vsnprintf(out->text, sizeof(out->text), fmt, args);
    va_end(args);
}

static void changed_node(struct apply *a, uint32_t node)
{
    a->out->map_changed = true;
    if (a->changes && a->changes->node)
        a->changes->node(a->changes->arg, node);
}

static void changed_group(struct apply *a, uint64_t group)
{
    a->out->map_changed = true;
    if (a->changes && a->changes->group)
        a->changes->group(a->changes->arg, group);
}

static void apply_found(struct apply *a)
{
    if (a->c->founded)
        return;
    a->c->founded = true;
    memcpy(a->c->id, a->cmd->cluster, 16);
    a->out->map_changed = true;
}

/* The same data directory again: takes over what may change. True if anything did. */
static bool update_node(struct cluster_node *n, const struct cluster_node *from)
{
    struct cluster_node now = *from;
    now.id = n->id;
    now.state = n->state;
    now.maintenance_until_ms = n->maintenance_until_ms;
    bool same = now.cores == n->cores && strcmp(now.zone, n->zone) == 0 &&
                strcmp(now.host, n->host) == 0 && strcmp(now.client_addr, n->client_addr) == 0 &&
                strcmp(now.peer_addr, n->peer_addr) == 0;
    *n = now;
    return !same;
}

static bool gone_before(struct apply *a, const struct cluster_node *n)
{
    for (uint32_t i = 0; i < a->c->n_nodes; i++) {
        const struct cluster_node *old = &a->c->nodes[i];
        if (old->incarnation != n->incarnation || strcmp(old->name, n->name) != 0 ||
            (old->state != CLUSTER_NODE_LOST && old->state != CLUSTER_NODE_REMOVED))
            continue;
        cluster_refuse(a->out, ERR_REFUSED,
                       "this data directory belongs to node %u, which is %s; empty it to join anew",
                       old->id,
                       old->state == CLUSTER_NODE_LOST
                           ? "lost (given up, or its name came back with another one)"
                           : "removed");
        return true;
    }
    return false;
}

static void apply_register(struct apply *a)
{
    const struct cluster_node *n = &a->cmd->node;
    struct cluster_node *known = cluster_find_name(a->c, n->name);
    if (!a->c->founded) {
        cluster_refuse(a->out, ERR_NOT_READY, "the cluster has no id yet");
        return;
    }
    if (known && known->incarnation == n->incarnation) {
        if (update_node(known, n))
            changed_node(a, known->id);
        a->out->value = known->id;
        return;
    }
    if (gone_before(a, n))
        return;
    if (a->c->n_nodes == LIMIT_NODES) {
        cluster_refuse(a->out, ERR_REFUSED, "there are %u nodes already, the most that can be",
                       a->c->n_nodes);
        return;
    }
    if (known) {
        known->state = CLUSTER_NODE_LOST;
        changed_node(a, known->id);
    }
    struct cluster_node new = *n;
    new.id = a->c->next_node++;
    new.state = CLUSTER_NODE_IN;
    cluster_add_node(a->c, &new);
    a->out->value = new.id;
    changed_node(a, new.id);
}

/* A layout is good if it covers all slots in order with ids that are the next ones and nodes that
 * take part. */
static bool layout_fits(struct apply *a)
{
    const struct cluster *c = a->c;
    uint64_t group = c->next_group, replica = c->next_replica;
    uint32_t slot = 0;
    for (uint32_t i = 0; i < a->cmd->n_groups; i++) {
        const struct shard_desc *d = &a->cmd->groups[i];
        if (d->group != group++ || d->first_slot != slot)
            return false;
        slot = d->last_slot + 1u;
        for (uint32_t j = 0; j < d->n_replicas; j++) {
            const struct cluster_node *n = cluster_find_node(c, d->replica[j].node);
            if (d->replica[j].replica != replica++ || !n || n->state != CLUSTER_NODE_IN)
                return false;
        }
    }
    return slot == LIMIT_SLOTS;
}

static void apply_layout(struct apply *a)
{
    struct cluster *c = a->c;
    if (c->n_groups) {
        cluster_refuse(a->out, ERR_EXISTS, "the cluster is laid out already: %u groups",
                       c->n_groups);
        return;
    }
    if (c->recovering) {
        cluster_refuse(a->out, ERR_REFUSED,
                       "the map is being recovered: finish it (kvctl cluster recover)");
        return;
    }
    if (!layout_fits(a)) {
        cluster_refuse(a->out, ERR_REFUSED, "the nodes have changed meanwhile; try again");
        return;
    }
    for (uint32_t i = 0; i < a->cmd->n_groups; i++) {
        const struct shard_desc *d = &a->cmd->groups[i];
        cluster_add_group(c, d);
        c->next_group = d->group + 1;
        c->next_replica += d->n_replicas;
        changed_group(a, d->group);
        c->replicas = d->n_replicas;
    }
}

static void apply_created(struct apply *a)
{
    for (uint32_t i = 0; i < a->cmd->n_created; i++) {
        struct cluster_group *g = cluster_find_group(a->c, a->cmd->created[i].group);
        int at = g ? cluster_replica_index(g, a->cmd->created[i].replica) : -1;
        if (at >= 0)
            g->created = (uint16_t)(g->created | 1u << at);
    }
}

/* Every replica was given out by us, to a node that we know. */
static bool members_known(struct apply *a, const struct shard_desc *d)
{
    for (uint32_t i = 0; i < d->n_replicas; i++) {
        if (d->replica[i].replica < a->c->next_replica &&
            cluster_find_node(a->c, d->replica[i].node))
            continue;
        cluster_refuse(a->out, ERR_REFUSED, "group %llu reports a replica that was never made",
                       (unsigned long long)d->group);
        return false;
    }
    return true;
}

/* What was seen of a replica stays known, also of one that an operator made before it was listed.
 */
static uint16_t created_of(const struct cluster *c, const struct cluster_group *g,
                           const struct shard_desc *d)
{
    const struct cluster_operator *o = cluster_operator_of(c, d->group);
    uint16_t created = 0;
    for (uint32_t i = 0; i < d->n_replicas; i++) {
        int at = cluster_replica_index(g, d->replica[i].replica);
        bool seen = at >= 0 && (g->created >> at & 1);
        for (uint32_t k = 0; o && k < o->at; k++)
            seen = seen || (o->step[k].kind == CLUSTER_STEP_CREATE &&
                            o->step[k].replica == d->replica[i].replica);
        if (seen)
            created = (uint16_t)(created | 1u << i);
    }
    return created;
}

/* A range grows only by a merge's OWN: the groups that lie in it now have been taken in. */
static void remove_swallowed(struct apply *a, const struct shard_desc *d)
{
    for (uint32_t i = a->c->n_groups; i-- > 0;) {
        const struct shard_desc *other = &a->c->groups[i].desc;
        uint64_t group = other->group;
        if (group == d->group || other->first_slot < d->first_slot ||
            other->last_slot > d->last_slot || other->epoch.range >= d->epoch.range)
            continue;
        cluster_remove_group(a->c, group);
        changed_group(a, group);
    }
}

/* A group that an imported state does not know, as it was made after the export. */
static void adopt(struct apply *a, const struct shard_desc *d)
{
    struct cluster *c = a->c;
    bool unsure = !c->recovering && d->group >= c->unsure_from && d->group < c->unsure_to;
    for (uint32_t i = 0; unsure && i < c->n_groups; i++)
        if (c->groups[i].desc.first_slot <= d->last_slot &&
            d->first_slot <= c->groups[i].desc.last_slot)
            unsure = false; /* the group that it came from is not known to have shrunk yet */
    if (!unsure || c->n_groups == CLUSTER_GROUPS_MAX) {
        cluster_refuse(a->out, ERR_NOT_FOUND, "there is no group %llu",
                       (unsigned long long)d->group);
        return;
    }
    if (!members_known(a, d))
        return;
    cluster_add_group(c, d);
    changed_group(a, d->group);
}

/* The parent's range has shrunk as its operator wants: the child is there now. In one command, so
 * that no slot is without an owner in the map. */
static bool splits(const struct cluster *c, const struct shard_desc *before,
                   const struct shard_desc *now, struct shard_desc *child)
{
    const struct cluster_operator *o = cluster_operator_of(c, now->group);
    return o && o->kind == CLUSTER_OP_SPLIT && !o->queued && !cluster_find_group(c, o->child) &&
           now->first_slot == before->first_slot && now->last_slot + 1u == o->slot &&
           c->n_groups < CLUSTER_GROUPS_MAX && cluster_split_child(c, o, child);
}

static void apply_group(struct apply *a)
{
    const struct shard_desc *d = &a->cmd->groups[0];
    struct cluster_group *g = cluster_find_group(a->c, d->group);
    struct shard_desc child;
    if (!g) {
        adopt(a, d);
        return;
    }
    if (!(shard_epoch_less(g->desc.epoch, d->epoch) || CLUSTER_TEST_ANY_EPOCH) ||
        !members_known(a, d))
        return;
    bool child_comes = splits(a->c, &g->desc, d, &child);
    bool grows = d->first_slot < g->desc.first_slot || d->last_slot > g->desc.last_slot;
    g->created = created_of(a->c, g, d);
    g->desc = *d;
    g->desc.leader = 0;
    g->force = 0;
    cluster_index_groups_changed(a->c);
    changed_group(a, d->group);
    if (child_comes) {
        cluster_add_group(a->c, &child);
        changed_group(a, child.group);
    }
    if (grows)
        remove_swallowed(a, d);
}

static bool holds_replicas(const struct cluster *c, uint32_t node)
{
    uint32_t n;
    cluster_groups_of(c, node, &n);
    return n > 0;
}

/* An operator is about to put a replica there. */
static bool awaits_replicas(const struct cluster *c, uint32_t node)
{
    for (uint32_t i = 0; i < c->n_operators; i++)
        for (uint32_t k = 0; k < c->operators[i].n_steps; k++)
            if (c->operators[i].step[k].node == node &&
                c->operators[i].step[k].kind == CLUSTER_STEP_CREATE)
                return true;
    return false;
}

static bool state_fits(struct apply *a, const struct cluster_node *n, uint8_t to)
{
    bool ours = n->state == CLUSTER_NODE_IN || n->state == CLUSTER_NODE_DRAINING;
    if (to == CLUSTER_NODE_REMOVED && holds_replicas(a->c, n->id))
        cluster_refuse(a->out, ERR_REFUSED, "node %u still has replicas: drain it first", n->id);
    else if (to == CLUSTER_NODE_REMOVED && awaits_replicas(a->c, n->id))
        cluster_refuse(a->out, ERR_REFUSED, "node %u is about to get a replica: drain it first",
                       n->id);
    else if (to != CLUSTER_NODE_REMOVED &&
             !(ours && (to == CLUSTER_NODE_IN || to == CLUSTER_NODE_DRAINING)))
        cluster_refuse(a->out, ERR_REFUSED, "node %u is lost or removed", n->id);
    return a->out->err == ERR_OK;
}

static void apply_node_state(struct apply *a)
{
    uint8_t to = a->cmd->node.state;
    struct cluster_node *n = cluster_find_node(a->c, a->cmd->node.id);
    if (!n) {
        cluster_refuse(a->out, ERR_NOT_FOUND, "there is no node %u", a->cmd->node.id);
        return;
    }
    if (n->state != to && !state_fits(a, n, to))
        return;
    n->maintenance_until_ms = a->cmd->node.maintenance_until_ms;
    if (n->state == to)
        return;
    n->state = to;
    changed_node(a, n->id);
}

static void apply_any(struct apply *a)
{
    switch (a->cmd->kind) {
    case CLUSTER_CMD_FOUND:
        apply_found(a);
        break;
    case CLUSTER_CMD_MEMBER:
    case CLUSTER_CMD_MEMBER_ADD:
    case CLUSTER_CMD_MEMBER_LEAVE:
    case CLUSTER_CMD_MEMBER_REMOVE:
        member_apply(a->c, a->cmd, a->out);
        break;
    case CLUSTER_CMD_REGISTER:
        apply_register(a);
        break;
    case CLUSTER_CMD_LAYOUT:
        apply_layout(a);
        break;
    case CLUSTER_CMD_CREATED:
        apply_created(a);
        break;
    case CLUSTER_CMD_GROUP:
        apply_group(a);
        break;
    case CLUSTER_CMD_NODE_STATE:
        apply_node_state(a);
        break;
    case CLUSTER_CMD_OPERATOR_ADD:
        operator_apply_add(a->c, a->cmd, a->out);
        break;
    case CLUSTER_CMD_OPERATOR_STEP:
        operator_apply_step(a->c, a->cmd, a->out);
        break;
    case CLUSTER_CMD_OPERATOR_END:
        operator_apply_end(a->c, a->cmd, a->out);
        break;
    case CLUSTER_CMD_OPERATOR_START:
        operator_apply_start(a->c, a->cmd, a->out);
        break;
    case CLUSTER_CMD_PAUSE:
        a->c->paused = a->cmd->paused;
        break;
    case CLUSTER_CMD_LOST:
        restore_lost(a->c, a->cmd, a->changes, a->out);
        break;
    case CLUSTER_CMD_ADOPT:
        restore_adopt(a->c, a->cmd, a->out);
        break;
    case CLUSTER_CMD_REJOIN:
        restore_rejoin(a->c, a->cmd, a->changes, a->out);
        break;
    case CLUSTER_CMD_IMPORT:
        restore_import(a->c, a->cmd, a->changes, a->out);
        break;
    default:
        CHECK(!"decoded kind");
    }
}

void cluster_apply(struct cluster *c, const struct cluster_command *cmd,
                   const struct cluster_changes *changes, struct cluster_result *out)
{
    struct apply a = {c, cmd, changes, out};
    memset(out, 0, sizeof(*out));
    apply_any(&a);
    if (out->map_changed)
        c->map_version++;
}
