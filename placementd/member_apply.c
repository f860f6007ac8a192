#include "placementd/member_apply.h"

const struct cluster_member *member_find_removed(const struct cluster *c, uint32_t id)
{
    for (uint32_t i = 0; i < c->n_removed; i++)
        if (c->removed[i].id == id)
            return &c->removed[i];
    return NULL;
}

static void insert(struct cluster *c, const struct cluster_member *m)
{
    uint32_t at = c->n_members++;
    for (; at > 0 && c->member[at - 1].id > m->id; at--)
        c->member[at] = c->member[at - 1];
    c->member[at] = *m;
    if (c->next_member <= m->id)
        c->next_member = m->id + 1;
}

/* Fills in what was not known before; an incarnation, once known, stays. */
static void update(struct cluster_member *known, const struct cluster_member *m,
                   struct cluster_result *out)
{
    if (known->incarnation && m->incarnation && known->incarnation != m->incarnation) {
        cluster_refuse(out, ERR_FOREIGN, "member %u is known with another data directory", m->id);
        return;
    }
    if (m->incarnation)
        known->incarnation = m->incarnation;
    if (m->client_addr[0])
        memcpy(known->client_addr, m->client_addr, sizeof(m->client_addr));
    if (m->peer_addr[0])
        memcpy(known->peer_addr, m->peer_addr, sizeof(m->peer_addr));
}

/* What members say of themselves. Those of the first configuration come into the list by it. */
static void told(struct cluster *c, const struct cluster_member *m, struct cluster_result *out)
{
    struct cluster_member *known = cluster_find_member(c, m->id);
    struct cluster_member new = *m;
    if (known) {
        update(known, m, out);
    } else if (member_find_removed(c, m->id)) {
        cluster_refuse(out, ERR_REFUSED, "member %u was removed", m->id);
    } else if (c->n_members == CLUSTER_MEMBERS_MAX) {
        cluster_refuse(out, ERR_REFUSED, "there are %u members already", c->n_members);
    } else {
        new.leaving = false;
        insert(c, &new);
    }
}

static void add(struct cluster *c, const struct cluster_member *m, struct cluster_result *out)
{
    uint32_t staying = 0;
    for (uint32_t i = 0; i < c->n_members; i++) {
        staying += !c->member[i].leaving;
        if (strcmp(c->member[i].peer_addr, m->peer_addr) == 0)
            cluster_refuse(out, ERR_REFUSED, "the address %s is that of member %u", m->peer_addr,
                           c->member[i].id);
    }
    if (out->err != ERR_OK)
        return;
    if (m->id < c->next_member) {
        cluster_refuse(
            out, ERR_REFUSED,
            "the id %u was used before, and a member that comes back with an older state "
            "would vote with it: ids are used once, the next free one is %u",
            m->id, c->next_member);
    } else if (staying >= CLUSTER_MEMBERS_WANTED || c->n_members == CLUSTER_MEMBERS_MAX) {
        cluster_refuse(out, ERR_REFUSED, "there are %u members already: remove one first", staying);
    } else {
        struct cluster_member new = {.id = m->id};
        memcpy(new.peer_addr, m->peer_addr, sizeof(new.peer_addr));
        insert(c, &new);
    }
}

static void leave(struct cluster *c, uint32_t id, struct cluster_result *out)
{
    struct cluster_member *m = cluster_find_member(c, id);
    if (m)
        m->leaving = true;
    else
        cluster_refuse(out, ERR_NOT_FOUND, "there is no member %u", id);
}

static void forget(struct cluster *c, uint32_t id)
{
    struct cluster_member *m = cluster_find_member(c, id);
    if (!m)
        return;
    if (c->n_removed == CLUSTER_REMOVED_MAX)
        memmove(c->removed, c->removed + 1, --c->n_removed * sizeof(*c->removed));
    c->removed[c->n_removed++] = *m;
    memmove(m, m + 1, (c->n_members - (size_t)(m - c->member) - 1) * sizeof(*m));
    c->n_members--;
}

void member_apply(struct cluster *c, const struct cluster_command *cmd, struct cluster_result *out)
{
    switch (cmd->kind) {
    case CLUSTER_CMD_MEMBER:
        told(c, &cmd->member, out);
        break;
    case CLUSTER_CMD_MEMBER_ADD:
        add(c, &cmd->member, out);
        break;
    case CLUSTER_CMD_MEMBER_LEAVE:
        leave(c, cmd->member.id, out);
        break;
    default:
        forget(c, cmd->member.id);
        break;
    }
}
