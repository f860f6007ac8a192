#include "placementd/restore_apply.h"

#include <stdio.h>

#include "placementd/cluster_index.h"
#include "placementd/operator_apply.h"

static void tell_node(const struct cluster_changes *changes, struct cluster_result *out,
                      uint32_t id)
{
    out->map_changed = true;
    if (changes && changes->node)
        changes->node(changes->arg, id);
}

/* ---- nodes given up ---- */

/* What was under way in a group that is forced may never be proven: it turns back now. */
static void turn_back(struct cluster *c, uint64_t group, const struct cluster_command *cmd)
{
    const struct cluster_operator *o = cluster_operator_of(c, group);
    struct cluster_command end = {.kind = CLUSTER_CMD_OPERATOR_END,
                                  .outcome = ERR_SHUTTING_DOWN,
                                  .now_ms = cmd->now_ms,
                                  .why = "the group lost its majority for good"};
    struct cluster_result ignored = {0};
    if (!o)
        return;
    end.op.id = o->id;
    operator_apply_end(c, &end, &ignored);
}

void restore_lost(struct cluster *c, const struct cluster_command *cmd,
                  const struct cluster_changes *changes, struct cluster_result *out)
{
    for (uint32_t i = 0; i < cmd->n_lost; i++)
        if (!cluster_find_node(c, cmd->lost[i]))
            cluster_refuse(out, ERR_NOT_FOUND, "there is no node %u", cmd->lost[i]);
    for (uint32_t i = 0; i < cmd->n_created; i++) {
        const struct cluster_group *g = cluster_find_group(c, cmd->created[i].group);
        if (!g || cluster_replica_index(g, cmd->created[i].replica) < 0)
            cluster_refuse(out, ERR_WRONG_EPOCH, "group %llu has changed meanwhile: try again",
                           (unsigned long long)cmd->created[i].group);
    }
    if (out->err != ERR_OK)
        return;
    for (uint32_t i = 0; i < cmd->n_lost; i++) {
        struct cluster_node *n = cluster_find_node(c, cmd->lost[i]);
        if (n->state == CLUSTER_NODE_REMOVED || n->state == CLUSTER_NODE_LOST)
            continue;
        n->state = CLUSTER_NODE_LOST;
        n->maintenance_until_ms = 0;
        tell_node(changes, out, n->id);
    }
    for (uint32_t i = 0; i < cmd->n_created; i++) {
        cluster_find_group(c, cmd->created[i].group)->force = cmd->created[i].replica;
        turn_back(c, cmd->created[i].group, cmd);
    }
}

/* ---- placementd lost whole ---- */

void restore_adopt(struct cluster *c, const struct cluster_command *cmd, struct cluster_result *out)
{
    if (c->recovering && memcmp(c->id, cmd->cluster, 16) == 0)
        return;
    if (c->n_groups || c->n_nodes || c->recovering) {
        cluster_refuse(out, ERR_EXISTS, "this placementd is in use already: %u groups, %u nodes",
                       c->n_groups, c->n_nodes);
        return;
    }
    c->founded = true;
    c->recovering = true;
    memcpy(c->id, cmd->cluster, 16);
    c->map_version += RESTORE_GAP;
    c->next_node += RESTORE_GAP;
    c->next_replica += RESTORE_GAP;
    c->next_group += RESTORE_GAP;
    c->next_operator += RESTORE_GAP;
    c->unsure_from = 1;
    c->unsure_to = c->next_group;
    out->map_changed = true;
}

void restore_rejoin(struct cluster *c, const struct cluster_command *cmd,
                    const struct cluster_changes *changes, struct cluster_result *out)
{
    const struct cluster_node *known = cluster_find_name(c, cmd->node.name);
    struct cluster_node node = cmd->node;
    if (c->recovering && node.id >= c->next_node && node.id < UINT32_MAX - RESTORE_GAP)
        c->next_node = node.id + 1; /* it was recovered before */
    if (cluster_find_node(c, node.id) || node.id >= c->next_node) {
        cluster_refuse(out, ERR_REFUSED, "the node id %u is another's", node.id);
        return;
    }
    if (known) {
        cluster_refuse(out, ERR_REFUSED, "the name %.60s is that of node %u by now", node.name,
                       known->id);
        return;
    }
    if (c->n_nodes == LIMIT_NODES) {
        cluster_refuse(out, ERR_REFUSED, "there are %u nodes already, the most that can be",
                       c->n_nodes);
        return;
    }
    node.state = CLUSTER_NODE_IN;
    node.maintenance_until_ms = 0;
    cluster_add_node(c, &node);
    out->value = node.id;
    tell_node(changes, out, node.id);
}

/* ---- whole states ---- */

/* Ids from which on groups may exist that the import does not know. */
static uint64_t unsure_from(const struct cluster *c)
{
    uint64_t from = c->unsure_to ? c->unsure_from : c->next_group;
    for (uint32_t i = 0; i < c->n_operators; i++)
        if (c->operators[i].kind == CLUSTER_OP_SPLIT && c->operators[i].child < from)
            from = c->operators[i].child;
    return from;
}

/* A merge under way cannot be forgotten: its source may serve nothing until it is taken back. It
 * comes in turned; both logs know it by its id, so that what has happened meanwhile shows: nothing
 * to take back, or the target owns the range already. */
static bool turn_merge(struct cluster_operator *o)
{
    if (o->kind != CLUSTER_OP_MERGE || o->queued)
        return false;
    for (uint8_t i = 0; !o->cancelling && i < o->n_steps; i++) {
        if (o->step[i].kind != CLUSTER_STEP_MERGE_TARGET)
            continue;
        if (o->at < i)
            return false;
        o->turned = o->step[o->at].kind;
        o->cancelling = true;
        o->outcome = ERR_SHUTTING_DOWN;
        snprintf(o->why, sizeof(o->why), "the map was restored meanwhile");
        o->at = 0;
        o->n_steps = 2;
        o->step[0] = (struct cluster_step){.kind = CLUSTER_STEP_MERGE_ABORT};
        o->step[1] = (struct cluster_step){.kind = CLUSTER_STEP_MERGE_UNFREEZE};
        o->deadline_ms = 0;
    }
    return o->cancelling;
}

static void keep_merges(struct cluster *c)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < c->n_operators; i++)
        if (turn_merge(&c->operators[i]))
            c->operators[kept++] = c->operators[i];
    c->n_operators = kept;
    cluster_index_operators_changed(c);
}

bool restore_refuses(const struct cluster *from, struct cluster_result *out)
{
    if (!from->founded || from->n_groups == 0)
        cluster_refuse(out, ERR_BAD_REQUEST, "it is the state of a cluster without groups");
    else if (from->next_node > UINT32_MAX - RESTORE_GAP)
        cluster_refuse(out, ERR_BAD_REQUEST, "its ids are used up");
    return out->err != ERR_OK;
}

void restore_import(struct cluster *c, const struct cluster_command *cmd,
                    const struct cluster_changes *changes, struct cluster_result *out)
{
    struct cluster from = {0};
    if (c->n_groups) {
        cluster_refuse(out, ERR_EXISTS, "the cluster is laid out already: %u groups", c->n_groups);
        return;
    }
    if (cluster_decode(cmd->state, &from) != ERR_OK) {
        cluster_refuse(out, ERR_BAD_REQUEST, "this is not an exported state of a cluster");
        return;
    }
    if (restore_refuses(&from, out)) {
        cluster_close(&from);
        return;
    }
    from.recovering = false;
    from.unsure_from = unsure_from(&from);
    from.next_group += RESTORE_GAP;
    from.unsure_to = from.next_group;
    from.next_replica += RESTORE_GAP;
    from.next_operator += RESTORE_GAP;
    from.next_node += RESTORE_GAP;
    keep_merges(&from);
    from.map_version =
        (from.map_version > c->map_version ? from.map_version : c->map_version) + RESTORE_GAP;
    from.next_member = c->next_member;
    from.n_members = c->n_members;
    from.n_removed = c->n_removed;
    memcpy(from.member, c->member, sizeof(c->member));
    memcpy(from.removed, c->removed, sizeof(c->removed));
    cluster_close(c);
    *c = from;
    out->map_changed = true;
    for (uint32_t i = 0; changes && changes->group && i < c->n_groups; i++)
        changes->group(changes->arg, c->groups[i].desc.group);
    for (uint32_t i = 0; changes && changes->node && i < c->n_nodes; i++)
        changes->node(changes->arg, c->nodes[i].id);
}
