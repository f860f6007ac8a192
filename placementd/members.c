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

struct member *members_find_any(struct members *m, uint32_t id)
{
    struct member *found = members_find(m, id);
    for (uint32_t i = 0; !found && i < m->n_strangers; i++)
        if (m->stranger[i].id == id)
            found = &m->stranger[i];
    return found;
}

struct member *members_stranger(struct members *m, uint32_t id)
{
    struct member *known = members_find_any(m, id);
    if (known)
        return known;
    if (m->n_strangers == MEMBERS_STRANGERS)
        memmove(m->stranger, m->stranger + 1, --m->n_strangers * sizeof(m->stranger[0]));
    known = &m->stranger[m->n_strangers++];
    *known = (struct member){.id = id};
    return known;
}

/* ---- following the state ---- */

static bool same_addr(const struct io_addr *a, const struct io_addr *b)
{
    char x[64], y[64];
    io_addr_format(a, x);
    io_addr_format(b, y);
    return strcmp(x, y) == 0;
}

static void put(struct members *m, const struct members *old, uint32_t id, const char *peer)
{
    struct member *before = members_find_any((struct members *)(uintptr_t)old, id),
                  new = {.id = id};
    struct io_addr addr;
    if (before)
        new = *before;
    /* What it said itself is newer than what the state has. */
    bool told = before && before->heard;
    if (!told && peer[0] && io_addr_parse(peer, &addr) == ERR_OK)
        new.peer = addr;
    else if (!before || new.peer.port == 0)
        return; /* no address of it is known: it will tell */
    if (members_find(m, id) || m->n == CLUSTER_MEMBERS_MAX)
        return;
    uint32_t at = m->n++;
    for (; at > 0 && m->member[at - 1].id > id; at--)
        m->member[at] = m->member[at - 1];
    m->member[at] = new;
}

bool members_follow(struct members *m, uint32_t self, const struct cluster *c,
                    const struct group_conf *conf)
{
    struct members now = {0};
    bool changed = false;
    put(&now, m, self, "");
    for (uint32_t i = 0; i < c->n_members; i++)
        if (c->member[i].id != self)
            put(&now, m, c->member[i].id, c->member[i].peer_addr);
    for (uint32_t i = 0; i < conf->n; i++)
        put(&now, m, conf->member[i].node, "");
    /* Without a state of our own the configuration is all that there is. */
    for (uint32_t i = 0; conf->n == 0 && i < m->n; i++)
        put(&now, m, m->member[i].id, "");
    for (uint32_t i = 0; i < m->n_strangers; i++)
        if (!members_find(&now, m->stranger[i].id))
            now.stranger[now.n_strangers++] = m->stranger[i];
    changed = now.n != m->n;
    for (uint32_t i = 0; !changed && i < now.n; i++)
        changed = now.member[i].id != m->member[i].id ||
                  !same_addr(&now.member[i].peer, &m->member[i].peer);
    *m = now;
    return changed;
}

/* ---- what members tell each other ---- */

enum { ANNOUNCE = 2, NOTICE = 3 }; /* 1 was an announcement without the cluster */
#define BLANK 1u

void members_announce(const struct member *self, const uint8_t cluster[16], bool blank,
                      struct buf *out)
{
    char peer[64];
    io_addr_format(&self->peer, peer);
    buf_u8(out, ANNOUNCE);
    buf_u64(out, self->incarnation);
    cluster_put_text(out, self->client_addr);
    cluster_put_text(out, peer);
    buf_append(out, cluster, 16);
    buf_u8(out, blank ? BLANK : 0);
}

void members_notice(const uint8_t cluster[16], bool wiped, struct buf *out)
{
    buf_u8(out, NOTICE);
    buf_append(out, cluster, 16);
    buf_u8(out, wiped);
}

static enum err take_announcement(struct member *m, struct cursor *c, uint64_t now)
{
    char client[64], peer[64];
    struct io_addr addr;
    uint64_t incarnation = cursor_u64(c);
    cluster_get_text(c, client, sizeof(client));
    cluster_get_text(c, peer, sizeof(peer));
    struct slice cluster = cursor_bytes(c, 16);
    uint8_t flags = cursor_u8(c);
    if (!m || c->bad || incarnation == 0 || io_addr_parse(peer, &addr) != ERR_OK || addr.port == 0)
        return ERR_BAD_REQUEST;
    m->incarnation = incarnation;
    m->peer = addr;
    m->heard = now;
    m->blank = flags & BLANK;
    memcpy(m->client_addr, client, sizeof(client));
    memcpy(m->cluster, cluster.p, 16);
    return ERR_OK;
}

enum err members_take(struct members *m, uint32_t from, struct slice in, uint64_t now,
                      struct members_verdict *verdict)
{
    struct cursor c = cursor_of(in);
    struct member *member = members_find_any(m, from);
    uint8_t kind = cursor_u8(&c);
    *verdict = (struct members_verdict){0};
    if (kind == ANNOUNCE)
        return take_announcement(member, &c, now);
    struct slice id = cursor_bytes(&c, 16);
    uint8_t wiped = cursor_u8(&c);
    if (kind != NOTICE || c.bad)
        return ERR_BAD_REQUEST;
    verdict->out = true;
    verdict->wiped = wiped;
    memcpy(verdict->cluster, id.p, 16);
    return ERR_OK;
}

bool members_is_heard(const struct member *m, const struct group_conf *conf,
                      const struct cluster *c)
{
    static const uint8_t none[16];
    bool theirs = memcmp(m->cluster, none, 16) != 0, ours = memcmp(c->id, none, 16) != 0;
    for (uint32_t i = 0; i < c->n_members; i++)
        if (c->member[i].id == m->id && c->member[i].incarnation && m->incarnation)
            return c->member[i].incarnation == m->incarnation;
    if (conf->n == 0 || group_conf_find(conf, m->id))
        return true;
    /* After a restart what the log has is not known to be committed yet: neither the id nor who was
     * added. */
    return theirs && (!ours || memcmp(m->cluster, c->id, 16) == 0);
}
