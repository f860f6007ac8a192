#include "placementd/cluster_command.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"

#define DESC_MIN 21u

/* ---- encoding ---- */

static void put_member(struct buf *b, const struct cluster_member *m)
{
    buf_u32(b, m->id);
    buf_u64(b, m->incarnation);
    cluster_put_text(b, m->client_addr);
}

static void put_node(struct buf *b, const struct cluster_node *n)
{
    buf_u64(b, n->incarnation);
    buf_u16(b, n->cores);
    cluster_put_text(b, n->name);
    cluster_put_text(b, n->zone);
    cluster_put_text(b, n->host);
    cluster_put_text(b, n->client_addr);
    cluster_put_text(b, n->peer_addr);
}

void cluster_command_encode(const struct cluster_command *c, struct buf *out)
{
    buf_u8(out, CLUSTER_COMMAND_VERSION);
    buf_u8(out, c->kind);
    switch (c->kind) {
    case CLUSTER_CMD_FOUND:
        buf_append(out, c->cluster, 16);
        break;
    case CLUSTER_CMD_MEMBER:
        put_member(out, &c->member);
        break;
    case CLUSTER_CMD_REGISTER:
        put_node(out, &c->node);
        break;
    case CLUSTER_CMD_LAYOUT:
    case CLUSTER_CMD_GROUP:
        buf_u32(out, c->n_groups);
        for (uint32_t i = 0; i < c->n_groups; i++)
            cluster_put_desc(out, &c->groups[i]);
        break;
    case CLUSTER_CMD_CREATED:
        buf_u32(out, c->n_created);
        for (uint32_t i = 0; i < c->n_created; i++) {
            buf_u64(out, c->created[i].group);
            buf_u64(out, c->created[i].replica);
        }
        break;
    case CLUSTER_CMD_NODE_STATE:
        buf_u32(out, c->node.id);
        buf_u8(out, c->node.state);
        break;
    case CLUSTER_CMD_OPERATOR_ADD:
        cluster_put_operator(out, &c->op);
        break;
    case CLUSTER_CMD_OPERATOR_STEP:
    case CLUSTER_CMD_OPERATOR_END:
        buf_u64(out, c->op.id);
        buf_u8(out, c->op.at);
        break;
    default:
        CHECK(!"known kind");
    }
}

static void get_node(struct cursor *c, struct cluster_node *n)
{
    n->incarnation = cursor_u64(c);
    n->cores = cursor_u16(c);
    cluster_get_text(c, n->name, sizeof(n->name));
    cluster_get_text(c, n->zone, sizeof(n->zone));
    cluster_get_text(c, n->host, sizeof(n->host));
    cluster_get_text(c, n->client_addr, sizeof(n->client_addr));
    cluster_get_text(c, n->peer_addr, sizeof(n->peer_addr));
    if (!n->name[0] || n->incarnation == 0)
        c->bad = true;
}

static void get_groups(struct cursor *c, struct cluster_command *out)
{
    uint32_t n = cursor_u32(c);
    if (n == 0 || n > CLUSTER_GROUPS_MAX || n > c->left.n / DESC_MIN)
        c->bad = true;
    if (c->bad)
        return;
    out->groups = mem_alloc(n * sizeof(*out->groups));
    for (uint32_t i = 0; i < n && !c->bad; i++)
        cluster_get_desc(c, &out->groups[i]);
    out->n_groups = n;
}

static void get_created(struct cursor *c, struct cluster_command *out)
{
    uint32_t n = cursor_u32(c);
    if (n == 0 || n > c->left.n / 16)
        c->bad = true;
    if (c->bad)
        return;
    out->created = mem_alloc(n * sizeof(*out->created));
    for (uint32_t i = 0; i < n; i++) {
        out->created[i].group = cursor_u64(c);
        out->created[i].replica = cursor_u64(c);
    }
    out->n_created = n;
}

static void get_fields(struct cursor *c, struct cluster_command *out)
{
    struct slice id;
    switch (out->kind) {
    case CLUSTER_CMD_FOUND:
        id = cursor_bytes(c, 16);
        if (!c->bad)
            memcpy(out->cluster, id.p, 16);
        break;
    case CLUSTER_CMD_MEMBER:
        out->member.id = cursor_u32(c);
        out->member.incarnation = cursor_u64(c);
        cluster_get_text(c, out->member.client_addr, sizeof(out->member.client_addr));
        if (out->member.id == 0)
            c->bad = true;
        break;
    case CLUSTER_CMD_REGISTER:
        get_node(c, &out->node);
        break;
    case CLUSTER_CMD_LAYOUT:
    case CLUSTER_CMD_GROUP:
        get_groups(c, out);
        if (out->kind == CLUSTER_CMD_GROUP && out->n_groups != 1)
            c->bad = true;
        break;
    case CLUSTER_CMD_CREATED:
        get_created(c, out);
        break;
    case CLUSTER_CMD_NODE_STATE:
        out->node.id = cursor_u32(c);
        out->node.state = cursor_u8(c);
        break;
    case CLUSTER_CMD_OPERATOR_ADD:
        cluster_get_operator(c, &out->op);
        break;
    case CLUSTER_CMD_OPERATOR_STEP:
    case CLUSTER_CMD_OPERATOR_END:
        out->op.id = cursor_u64(c);
        out->op.at = cursor_u8(c);
        break;
    default:
        c->bad = true;
    }
}

enum err cluster_command_decode(struct slice in, struct cluster_command *out)
{
    struct cursor c = cursor_of(in);
    struct cluster_command cmd = {0};
    uint8_t version = cursor_u8(&c);
    if (!c.bad && version != CLUSTER_COMMAND_VERSION)
        return ERR_FORMAT;
    cmd.kind = cursor_u8(&c);
    get_fields(&c, &cmd);
    if (c.bad || c.left.n != 0) {
        cluster_command_close(&cmd);
        return ERR_CORRUPT;
    }
    *out = cmd;
    return ERR_OK;
}

void cluster_command_close(struct cluster_command *c)
{
    free(c->groups);
    free(c->created);
    c->groups = NULL;
    c->created = NULL;
    c->n_groups = c->n_created = 0;
}

/* ---- applying ---- */

struct apply {
    struct cluster *c;
    const struct cluster_command *cmd;
    const struct cluster_changes *changes;
    struct cluster_result *out;
};

__attribute__((format(printf, 3, 4))) static void refuse(struct apply *a, enum err e,
                                                         const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    a->out->err = e;
    vsnprintf(a->out->text, sizeof(a->out->text), fmt, args);
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

static void apply_member(struct apply *a)
{
    const struct cluster_member *m = &a->cmd->member;
    struct cluster_member *known = cluster_find_member(a->c, m->id);
    if (known) {
        if (known->incarnation != m->incarnation)
            refuse(a, ERR_FOREIGN, "member %u is known with another data directory", m->id);
        else
            *known = *m;
        return;
    }
    if (a->c->n_members == CLUSTER_MEMBERS_MAX) {
        refuse(a, ERR_REFUSED, "there are %u members already", a->c->n_members);
        return;
    }
    uint32_t at = a->c->n_members++;
    for (; at > 0 && a->c->member[at - 1].id > m->id; at--)
        a->c->member[at] = a->c->member[at - 1];
    a->c->member[at] = *m;
}

/* The same data directory again: takes over what may change. True if anything did. */
static bool update_node(struct cluster_node *n, const struct cluster_node *from)
{
    struct cluster_node now = *from;
    now.id = n->id;
    now.state = n->state;
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
        refuse(a, ERR_REFUSED,
               "this data directory belongs to node %u, which is %s; empty it to join anew",
               old->id,
               old->state == CLUSTER_NODE_LOST ? "lost (the name came back with another one)"
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
        refuse(a, ERR_NOT_READY, "the cluster has no id yet");
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
        refuse(a, ERR_REFUSED, "there are %u nodes already, the most that can be", a->c->n_nodes);
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
        refuse(a, ERR_EXISTS, "the cluster is laid out already: %u groups", c->n_groups);
        return;
    }
    if (!layout_fits(a)) {
        refuse(a, ERR_REFUSED, "the nodes have changed meanwhile; try again");
        return;
    }
    for (uint32_t i = 0; i < a->cmd->n_groups; i++) {
        const struct shard_desc *d = &a->cmd->groups[i];
        cluster_add_group(c, d);
        c->next_group = d->group + 1;
        c->next_replica += d->n_replicas;
        changed_group(a, d->group);
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

static void apply_group(struct apply *a)
{
    const struct shard_desc *d = &a->cmd->groups[0];
    struct cluster_group *g = cluster_find_group(a->c, d->group);
    if (!g) {
        refuse(a, ERR_NOT_FOUND, "there is no group %llu", (unsigned long long)d->group);
        return;
    }
    if (!shard_epoch_less(g->desc.epoch, d->epoch))
        return;
    for (uint32_t i = 0; i < d->n_replicas; i++) {
        if (d->replica[i].replica >= a->c->next_replica ||
            !cluster_find_node(a->c, d->replica[i].node)) {
            refuse(a, ERR_REFUSED, "group %llu reports a replica that was never made",
                   (unsigned long long)d->group);
            return;
        }
    }
    uint16_t created = 0;
    for (uint32_t i = 0; i < d->n_replicas; i++) {
        int at = cluster_replica_index(g, d->replica[i].replica);
        if (at >= 0 && (g->created & 1u << at))
            created = (uint16_t)(created | 1u << i);
    }
    g->desc = *d;
    g->desc.leader = 0;
    g->created = created;
    changed_group(a, d->group);
}

static bool holds_replicas(const struct cluster *c, uint32_t node)
{
    for (uint32_t i = 0; i < c->n_groups; i++)
        for (uint32_t j = 0; j < c->groups[i].desc.n_replicas; j++)
            if (c->groups[i].desc.replica[j].node == node)
                return true;
    return false;
}

static void apply_node_state(struct apply *a)
{
    uint8_t to = a->cmd->node.state;
    struct cluster_node *n = cluster_find_node(a->c, a->cmd->node.id);
    if (!n) {
        refuse(a, ERR_NOT_FOUND, "there is no node %u", a->cmd->node.id);
        return;
    }
    if (n->state == to)
        return;
    bool ours = n->state == CLUSTER_NODE_IN || n->state == CLUSTER_NODE_DRAINING;
    if (to == CLUSTER_NODE_REMOVED && holds_replicas(a->c, n->id)) {
        refuse(a, ERR_REFUSED, "node %u still has replicas: drain it first", n->id);
        return;
    }
    if (to != CLUSTER_NODE_REMOVED &&
        !(ours && (to == CLUSTER_NODE_IN || to == CLUSTER_NODE_DRAINING))) {
        refuse(a, ERR_REFUSED, "node %u is lost or removed", n->id);
        return;
    }
    n->state = to;
    changed_node(a, n->id);
}

static void apply_operator_add(struct apply *a)
{
    const struct cluster_operator *o = &a->cmd->op;
    const struct cluster_group *g = cluster_find_group(a->c, o->group);
    if (!g) {
        refuse(a, ERR_NOT_FOUND, "there is no group %llu", (unsigned long long)o->group);
    } else if (g->desc.epoch.range != o->epoch.range || g->desc.epoch.members != o->epoch.members) {
        refuse(a, ERR_WRONG_EPOCH, "group %llu has changed meanwhile",
               (unsigned long long)o->group);
    } else if (cluster_operator_of(a->c, o->group)) {
        refuse(a, ERR_BUSY, "group %llu has an operator under way", (unsigned long long)o->group);
    } else if (a->c->n_operators == CLUSTER_OPERATORS_MAX) {
        refuse(a, ERR_BUSY, "%u operators are under way", a->c->n_operators);
    } else {
        struct cluster_operator new = *o;
        new.id = a->c->next_operator++;
        new.at = 0;
        cluster_add_operator(a->c, &new);
        a->out->value = new.id;
    }
}

static void apply_operator_step(struct apply *a)
{
    struct cluster_operator *o = cluster_find_operator(a->c, a->cmd->op.id);
    if (!o || o->at != a->cmd->op.at)
        return; /* proven already, or given up */
    if (++o->at == o->n_steps)
        cluster_remove_operator(a->c, o->id);
}

void cluster_apply(struct cluster *c, const struct cluster_command *cmd,
                   const struct cluster_changes *changes, struct cluster_result *out)
{
    struct apply a = {c, cmd, changes, out};
    memset(out, 0, sizeof(*out));
    switch (cmd->kind) {
    case CLUSTER_CMD_FOUND:
        apply_found(&a);
        break;
    case CLUSTER_CMD_MEMBER:
        apply_member(&a);
        break;
    case CLUSTER_CMD_REGISTER:
        apply_register(&a);
        break;
    case CLUSTER_CMD_LAYOUT:
        apply_layout(&a);
        break;
    case CLUSTER_CMD_CREATED:
        apply_created(&a);
        break;
    case CLUSTER_CMD_GROUP:
        apply_group(&a);
        break;
    case CLUSTER_CMD_NODE_STATE:
        apply_node_state(&a);
        break;
    case CLUSTER_CMD_OPERATOR_ADD:
        apply_operator_add(&a);
        break;
    case CLUSTER_CMD_OPERATOR_STEP:
        apply_operator_step(&a);
        break;
    case CLUSTER_CMD_OPERATOR_END:
        if (cluster_find_operator(c, cmd->op.id))
            cluster_remove_operator(c, cmd->op.id);
        break;
    default:
        CHECK(!"decoded kind");
    }
    if (out->map_changed)
        c->map_version++;
}
