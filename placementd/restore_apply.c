#include "placementd/restore_apply.h"

#include <stdio.h>

#include "placementd/cluster_index.h"

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
