#include "placementd/cluster_command.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "placementd/cluster_index.h"
#include "placementd/operator_apply.h"

#define DESC_MIN 21u
#define AT_TURNED 0x80u /* STEP: the step is one of an operator that takes back */

#ifdef SHARDKV_TEST_HOOKS
bool cluster_test_any_epoch;
#endif

/* ---- encoding ---- */

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
        cluster_put_member(out, &c->member);
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
        buf_u64(out, c->node.maintenance_until_ms);
        break;
    case CLUSTER_CMD_OPERATOR_ADD:
        cluster_put_operator(out, &c->op);
        break;
    case CLUSTER_CMD_OPERATOR_STEP:
    case CLUSTER_CMD_OPERATOR_START:
        buf_u64(out, c->op.id);
        buf_u8(out, (uint8_t)(c->op.at | (c->op.cancelling ? AT_TURNED : 0)));
        buf_u64(out, c->op.deadline_ms);
        buf_u64(out, c->now_ms);
        break;
    case CLUSTER_CMD_OPERATOR_END:
        buf_u64(out, c->op.id);
        buf_u64(out, c->now_ms);
        buf_u8(out, c->outcome);
        cluster_put_text(out, c->why);
        break;
    case CLUSTER_CMD_PAUSE:
        buf_u8(out, c->paused);
        break;
    case CLUSTER_CMD_MEMBER_REMOVE:
        buf_u32(out, c->member.id);
        break;
    case CLUSTER_CMD_IMPORT:
        buf_u32(out, (uint32_t)c->state.n);
        buf_append(out, c->state.p, c->state.n);
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
        cluster_get_member(c, &out->member);
        break;
    case CLUSTER_CMD_MEMBER_REMOVE:
        out->member.id = cursor_u32(c);
        break;
    case CLUSTER_CMD_PAUSE:
        out->paused = cursor_u8(c) != 0;
        break;
    case CLUSTER_CMD_IMPORT:
        out->state = cursor_bytes(c, cursor_u32(c));
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
        out->node.maintenance_until_ms = cursor_u64(c);
        break;
    case CLUSTER_CMD_OPERATOR_ADD:
        cluster_get_operator(c, &out->op);
        break;
    case CLUSTER_CMD_OPERATOR_STEP:
    case CLUSTER_CMD_OPERATOR_START:
        out->op.id = cursor_u64(c);
        out->op.at = cursor_u8(c);
        out->op.cancelling = (out->op.at & AT_TURNED) != 0;
        out->op.at &= AT_TURNED - 1;
        out->op.deadline_ms = cursor_u64(c);
        out->now_ms = cursor_u64(c);
        break;
    case CLUSTER_CMD_OPERATOR_END:
        out->op.id = cursor_u64(c);
        out->now_ms = cursor_u64(c);
        out->outcome = cursor_u8(c);
        cluster_get_text(c, out->why, sizeof(out->why));
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

/* Fills in what was not known before; an incarnation, once known, stays. */
static void update_member(struct apply *a, struct cluster_member *known)
{
    const struct cluster_member *m = &a->cmd->member;
    if (known->incarnation && known->incarnation != m->incarnation) {
        cluster_refuse(a->out, ERR_FOREIGN, "member %u is known with another data directory",
                       m->id);
        return;
    }
    known->incarnation = m->incarnation;
    if (m->client_addr[0])
        memcpy(known->client_addr, m->client_addr, sizeof(m->client_addr));
    if (m->peer_addr[0])
        memcpy(known->peer_addr, m->peer_addr, sizeof(m->peer_addr));
}

static void apply_member(struct apply *a)
{
    const struct cluster_member *m = &a->cmd->member;
    struct cluster_member *known = cluster_find_member(a->c, m->id);
    if (known) {
        update_member(a, known);
        return;
    }
    if (a->c->n_members == CLUSTER_MEMBERS_MAX) {
        cluster_refuse(a->out, ERR_REFUSED, "there are %u members already", a->c->n_members);
        return;
    }
    uint32_t at = a->c->n_members++;
    for (; at > 0 && a->c->member[at - 1].id > m->id; at--)
        a->c->member[at] = a->c->member[at - 1];
    a->c->member[at] = *m;
}

static void apply_member_remove(struct apply *a)
{
    struct cluster *c = a->c;
    struct cluster_member *m = cluster_find_member(c, a->cmd->member.id);
    if (!m)
        return;
    size_t at = (size_t)(m - c->member);
    memmove(m, m + 1, (c->n_members - at - 1) * sizeof(*m));
    c->n_members--;
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
        cluster_refuse(
            a->out, ERR_REFUSED,
            "this data directory belongs to node %u, which is %s; empty it to join anew", old->id,
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
    bool unsure = d->group >= c->unsure_from && d->group < c->unsure_to;
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

/* ---- a whole state ---- */

/* So far above those of the export that what was given out after it is not given out again. */
#define IMPORT_GAP (1u << 20)

/* Ids from which on groups may exist that the import does not know. */
static uint64_t unsure_from(const struct cluster *c)
{
    uint64_t from = c->unsure_to ? c->unsure_from : c->next_group;
    for (uint32_t i = 0; i < c->n_operators; i++)
        if (c->operators[i].kind == CLUSTER_OP_SPLIT && c->operators[i].child < from)
            from = c->operators[i].child;
    return from;
}

static void apply_import(struct apply *a)
{
    struct cluster *c = a->c, from = {0};
    if (c->n_groups) {
        cluster_refuse(a->out, ERR_EXISTS, "the cluster is laid out already: %u groups",
                       c->n_groups);
        return;
    }
    if (cluster_decode(a->cmd->state, &from) != ERR_OK || !from.founded ||
        from.next_node > UINT32_MAX - IMPORT_GAP) {
        cluster_refuse(a->out, ERR_BAD_REQUEST, "this is not an exported state of a cluster");
        cluster_close(&from);
        return;
    }
    from.unsure_from = unsure_from(&from);
    from.next_group += IMPORT_GAP;
    from.unsure_to = from.next_group;
    from.next_replica += IMPORT_GAP;
    from.next_operator += IMPORT_GAP;
    from.next_node += IMPORT_GAP;
    from.n_operators = 0;
    cluster_index_operators_changed(&from);
    from.map_version =
        (from.map_version > c->map_version ? from.map_version : c->map_version) + IMPORT_GAP;
    from.n_members = c->n_members;
    memcpy(from.member, c->member, sizeof(c->member));
    cluster_close(c);
    *c = from;
    a->out->map_changed = true;
    for (uint32_t i = 0; i < c->n_groups; i++)
        changed_group(a, c->groups[i].desc.group);
    for (uint32_t i = 0; i < c->n_nodes; i++)
        changed_node(a, c->nodes[i].id);
}

static void apply_any(struct apply *a)
{
    switch (a->cmd->kind) {
    case CLUSTER_CMD_FOUND:
        apply_found(a);
        break;
    case CLUSTER_CMD_MEMBER:
        apply_member(a);
        break;
    case CLUSTER_CMD_MEMBER_REMOVE:
        apply_member_remove(a);
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
    case CLUSTER_CMD_IMPORT:
        apply_import(a);
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
