#include "common/raft/raft_conf.h"

#include <raft.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"

/* ---- our own encoding of a position ---- */

static void conf_encode(const struct group_conf *c, struct buf *out)
{
    buf_u8(out, (uint8_t)c->n);
    for (uint32_t i = 0; i < c->n; i++) {
        buf_u64(out, c->member[i].replica);
        buf_u32(out, c->member[i].node);
        buf_u8(out, c->member[i].role);
    }
}

static bool conf_decode(struct cursor *c, struct group_conf *out)
{
    *out = (struct group_conf){.n = cursor_u8(c)};
    if (c->bad || out->n > LIMIT_GROUP_MEMBERS)
        return false;
    for (uint32_t i = 0; i < out->n; i++) {
        out->member[i].replica = cursor_u64(c);
        out->member[i].node = cursor_u32(c);
        out->member[i].role = cursor_u8(c);
    }
    return !c->bad && (out->n == 0 || raft_conf_valid(out));
}

void group_position_encode(const struct group_position *p, struct buf *out)
{
    buf_u64(out, p->index);
    buf_u64(out, p->term);
    buf_u64(out, p->conf_index);
    conf_encode(&p->conf, out);
}

enum err group_position_decode(struct cursor *c, struct group_position *out)
{
    struct group_position p = {0};
    p.index = cursor_u64(c);
    p.term = cursor_u64(c);
    p.conf_index = cursor_u64(c);
    if (!conf_decode(c, &p.conf) || p.conf_index > p.index || (p.index == 0) != (p.term == 0) ||
        (p.index == 0) != (p.conf.n == 0))
        return ERR_CORRUPT;
    *out = p;
    return ERR_OK;
}

bool group_conf_equal(const struct group_conf *a, const struct group_conf *b)
{
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++) {
        const struct group_member *x = &a->member[i], *y = &b->member[i];
        if (x->replica != y->replica || x->node != y->node || x->role != y->role)
            return false;
    }
    return true;
}

const struct group_member *group_conf_find(const struct group_conf *c, uint64_t replica)
{
    for (uint32_t i = 0; i < c->n; i++)
        if (c->member[i].replica == replica)
            return &c->member[i];
    return NULL;
}

/* ---- libraft's ---- */

void raft_address_format(uint32_t node, uint64_t replica, char out[RAFT_ADDRESS_MAX])
{
    snprintf(out, RAFT_ADDRESS_MAX, "%u.%llu", node, (unsigned long long)replica);
}

uint32_t raft_address_node(const char *address)
{
    unsigned long node = address ? strtoul(address, NULL, 10) : 0;
    return node <= UINT32_MAX ? (uint32_t)node : 0;
}

bool raft_conf_valid(const struct group_conf *c)
{
    if (c->n == 0 || c->n > LIMIT_GROUP_MEMBERS)
        return false;
    for (uint32_t i = 0; i < c->n; i++) {
        const struct group_member *m = &c->member[i];
        if (m->replica == 0 || m->role > GROUP_SPARE)
            return false;
        for (uint32_t k = 0; k < i; k++)
            if (c->member[k].replica == m->replica)
                return false;
    }
    return true;
}

/* The format of libraft: version 1, count, then {id, address with its NUL, role}; padded to 8. */
bool raft_conf_parse(struct slice payload, struct group_conf *out)
{
    struct cursor c = cursor_of(payload);
    struct group_conf conf = {0};
    if (cursor_u8(&c) != 1)
        return false;
    uint64_t n = cursor_u64(&c);
    if (c.bad || n == 0 || n > LIMIT_GROUP_MEMBERS)
        return false;
    conf.n = (uint32_t)n;
    for (uint32_t i = 0; i < conf.n; i++) {
        struct group_member *m = &conf.member[i];
        m->replica = cursor_u64(&c);
        const uint8_t *end = c.left.n ? memchr(c.left.p, 0, c.left.n) : NULL;
        if (c.bad || !end || end - c.left.p >= RAFT_ADDRESS_MAX)
            return false;
        char expected[RAFT_ADDRESS_MAX];
        const char *address = (const char *)c.left.p;
        m->node = raft_address_node(address);
        raft_address_format(m->node, m->replica, expected);
        if (strcmp(address, expected) != 0)
            return false;
        cursor_bytes(&c, (size_t)(end - c.left.p) + 1);
        m->role = cursor_u8(&c);
    }
    if (c.bad || !raft_conf_valid(&conf))
        return false;
    *out = conf;
    return true;
}

void raft_conf_to(const struct group_conf *c, struct raft_configuration *out)
{
    raft_configuration_init(out);
    for (uint32_t i = 0; i < c->n; i++) {
        const struct group_member *m = &c->member[i];
        char address[RAFT_ADDRESS_MAX];
        raft_address_format(m->node, m->replica, address);
        CHECK(raft_configuration_add(out, m->replica, address, m->role) == 0);
    }
}

void raft_conf_from(const struct raft_configuration *c, struct group_conf *out)
{
    CHECK(c->n <= LIMIT_GROUP_MEMBERS);
    *out = (struct group_conf){.n = c->n};
    for (unsigned i = 0; i < c->n; i++)
        out->member[i] = (struct group_member){.replica = c->servers[i].id,
                                               .node = raft_address_node(c->servers[i].address),
                                               .role = (uint8_t)c->servers[i].role};
}

void raft_conf_encode(const struct group_conf *c, struct buf *out)
{
    struct raft_configuration conf;
    struct raft_buffer b;
    raft_conf_to(c, &conf);
    CHECK(raft_configuration_encode(&conf, &b) == 0);
    buf_append(out, b.base, b.len);
    raft_free(b.base);
    raft_configuration_close(&conf);
}

unsigned raft_conf_voters(const struct group_conf *c)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < c->n; i++)
        n += c->member[i].role == GROUP_VOTER;
    return n;
}

/* Members present in both must keep their order: libraft's progress array follows it. */
static bool same_order(const struct group_conf *from, const struct group_conf *to)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < from->n; i++) {
        if (!group_conf_find(to, from->member[i].replica))
            continue;
        while (at < to->n && !group_conf_find(from, to->member[at].replica))
            at++;
        if (at == to->n || to->member[at].replica != from->member[i].replica)
            return false;
        at++;
    }
    return true;
}

enum err raft_conf_step(const struct group_conf *from, const struct group_conf *to, uint64_t leader)
{
    if (!raft_conf_valid(to) || !same_order(from, to))
        return ERR_REFUSED;
    unsigned changes = 0;
    for (uint32_t i = 0; i < from->n; i++) {
        const struct group_member *old = &from->member[i];
        const struct group_member *now = group_conf_find(to, old->replica);
        if (now && now->node != old->node)
            return ERR_REFUSED;
        bool changed = !now || now->role != old->role;
        if (changed && old->replica == leader)
            return ERR_REFUSED;
        /* A spare has no log: it must be a standby first. */
        if (now && changed && now->role == GROUP_VOTER && old->role != GROUP_STANDBY)
            return ERR_REFUSED;
        changes += changed;
    }
    for (uint32_t i = 0; i < to->n; i++) {
        if (group_conf_find(from, to->member[i].replica))
            continue;
        if (to->member[i].role == GROUP_VOTER)
            return ERR_REFUSED;
        changes++;
    }
    unsigned before = raft_conf_voters(from), after = raft_conf_voters(to);
    if (changes != 1 || after == 0 || (before == 3 && after == 2))
        return ERR_REFUSED;
    return ERR_OK;
}
