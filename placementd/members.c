#include "placementd/members.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/config.h"

static enum err add(struct members *m, struct slice item, char *msg, size_t n)
{
    char text[96];
    if (item.n >= sizeof(text)) {
        snprintf(msg, n, "cluster.members: \"%.40s...\" is too long", (const char *)item.p);
        return ERR_CONFIG;
    }
    memcpy(text, item.p, item.n);
    text[item.n] = 0;
    char *end = NULL;
    unsigned long id = strtoul(text, &end, 10);
    struct member new = {.id = (uint32_t)id};
    if (end == text || *end != '=' || id == 0 || id > 0xffff ||
        io_addr_parse(end + 1, &new.peer) != ERR_OK || new.peer.port == 0) {
        snprintf(msg, n, "cluster.members: \"%s\" is not ID=IP:PORT", text);
        return ERR_CONFIG;
    }
    if (members_find(m, new.id)) {
        snprintf(msg, n, "cluster.members: member %u is given twice", new.id);
        return ERR_CONFIG;
    }
    if (m->n == CLUSTER_MEMBERS_MAX) {
        snprintf(msg, n, "cluster.members: at most %u members", (unsigned)CLUSTER_MEMBERS_MAX);
        return ERR_CONFIG;
    }
    uint32_t at = m->n++;
    for (; at > 0 && m->member[at - 1].id > new.id; at--)
        m->member[at] = m->member[at - 1];
    m->member[at] = new;
    return ERR_OK;
}

enum err members_parse(const char *list, struct members *out, char *msg, size_t n)
{
    struct members m = {0};
    struct slice item;
    size_t it = 0;
    while (config_list_next(list, &it, &item)) {
        enum err e = add(&m, item, msg, n);
        if (e != ERR_OK)
            return e;
    }
    if (m.n % 2 == 0) {
        snprintf(msg, n, "cluster.members: %u members given; it must be 1, 3 or 5", m.n);
        return ERR_CONFIG;
    }
    *out = m;
    return ERR_OK;
}

struct member *members_find(struct members *m, uint32_t id)
{
    for (uint32_t i = 0; i < m->n; i++)
        if (m->member[i].id == id)
            return &m->member[i];
    return NULL;
}

void members_conf(const struct members *m, struct group_conf *out)
{
    memset(out, 0, sizeof(*out));
    for (uint32_t i = 0; i < m->n; i++)
        out->member[out->n++] =
            (struct group_member){m->member[i].id, m->member[i].id, GROUP_VOTER};
}

void members_announce(const struct member *self, struct buf *out)
{
    buf_u8(out, 1);
    buf_u64(out, self->incarnation);
    cluster_put_text(out, self->client_addr);
}

enum err members_take(struct members *m, uint32_t from, struct slice in, uint64_t now)
{
    struct cursor c = cursor_of(in);
    struct member *member = members_find(m, from);
    char addr[64];
    uint8_t version = cursor_u8(&c);
    uint64_t incarnation = cursor_u64(&c);
    cluster_get_text(&c, addr, sizeof(addr));
    if (!member || c.bad || version != 1 || incarnation == 0)
        return ERR_BAD_REQUEST;
    member->incarnation = incarnation;
    memcpy(member->client_addr, addr, sizeof(addr));
    member->heard = now;
    return ERR_OK;
}
