#include "client/kvadmin_decode.h"

#include <stdlib.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/wire/mp.h"

/* One named field of a map into its place. Texts too long are cut, not refused: they are only
 * shown. */
enum kind { U64, U32, UINT, BOOL, TEXT };
struct field {
    const char *name;
    enum kind kind;
    size_t at, size;
};
#define F(type, member, kind)                                                                      \
    {                                                                                              \
#member, kind, offsetof(struct type, member), sizeof(((struct type *)0)->member)           \
    }

static void get_text(struct mp_reader *r, char *out, size_t cap)
{
    struct slice s = mp_get_str(r);
    size_t n = s.n < cap - 1 ? s.n : cap - 1;
    for (size_t i = 0; i < n; i++) /* it goes to a terminal */
        out[i] = (char)(s.p[i] < 0x20 || s.p[i] == 0x7f ? '?' : s.p[i]);
    out[n] = '\0';
}

static void get_field(struct mp_reader *r, const struct field *f, void *obj)
{
    char *at = (char *)obj + f->at;
    uint64_t v;
    switch (f->kind) {
    case BOOL:
        *(bool *)at = mp_get_bool(r);
        return;
    case TEXT:
        get_text(r, at, f->size);
        return;
    case U64:
    case U32:
    case UINT:
        v = mp_get_uint(r);
        if (f->kind == U64)
            memcpy(at, &v, sizeof(v));
        else if (v > UINT32_MAX)
            r->bad = true;
        else
            memcpy(at, &(uint32_t){(uint32_t)v}, sizeof(uint32_t));
        return;
    }
}

/* Reads a map; what the table does not know goes to `other`, which must consume the value. */
static void get_object(struct mp_reader *r, const struct field *fields, size_t n, void *obj,
                       void (*other)(struct mp_reader *r, struct slice name, void *obj))
{
    for (uint32_t left = mp_get_map(r); left > 0 && !r->bad; left--) {
        struct slice name = mp_get_str(r);
        size_t i = 0;
        while (i < n && !slice_eq(name, slice_str(fields[i].name)))
            i++;
        if (i < n)
            get_field(r, &fields[i], obj);
        else if (other)
            other(r, name, obj);
        else
            mp_skip(r);
    }
}

static bool is(struct slice name, const char *text)
{
    return slice_eq(name, slice_str(text));
}

static void get_heard(struct mp_reader *r, bool *heard, uint64_t *ms)
{
    *heard = !mp_get_nil(r);
    if (*heard)
        *ms = mp_get_uint(r);
}

static const struct field node_fields[] = {
    F(kvadmin_node, id, U32),
    F(kvadmin_node, name, TEXT),
    F(kvadmin_node, zone, TEXT),
    F(kvadmin_node, host, TEXT),
    F(kvadmin_node, address, TEXT),
    F(kvadmin_node, peer, TEXT),
    F(kvadmin_node, state, TEXT),
    F(kvadmin_node, leaders, U64),
    F(kvadmin_node, replicas, U64),
    F(kvadmin_node, bytes, U64),
    F(kvadmin_node, disk_free, U64),
    F(kvadmin_node, disk_size, U64),
    F(kvadmin_node, cores, U64),
    F(kvadmin_node, draining, BOOL),
    F(kvadmin_node, maintenance_ms, U64),
};

static void node_other(struct mp_reader *r, struct slice name, void *obj)
{
    struct kvadmin_node *n = obj;
    if (is(name, "heard_ms"))
        get_heard(r, &n->heard, &n->heard_ms);
    else
        mp_skip(r);
}

static const struct field replica_fields[] = {
    F(kvadmin_replica, node, U32),     F(kvadmin_replica, id, U64),
    F(kvadmin_replica, match, U64),    F(kvadmin_replica, role, TEXT),
    F(kvadmin_replica, created, BOOL),
};
static const struct field group_fields[] = {
    F(kvadmin_group, id, U64),          F(kvadmin_group, term, U64),
    F(kvadmin_group, bytes, U64),       F(kvadmin_group, keys, U64),
    F(kvadmin_group, first_slot, UINT), F(kvadmin_group, last_slot, UINT),
    F(kvadmin_group, leader, U32),      F(kvadmin_group, reads, U64),
    F(kvadmin_group, writes, U64),
};

static void group_other(struct mp_reader *r, struct slice name, void *obj)
{
    struct kvadmin_group *g = obj;
    if (is(name, "epoch")) {
        if (mp_get_array(r) != 2)
            r->bad = true;
        g->epoch.range = (uint32_t)mp_get_uint(r);
        g->epoch.members = (uint32_t)mp_get_uint(r);
    } else if (is(name, "replicas")) {
        uint32_t n = mp_get_array(r);
        if (n > LIMIT_GROUP_MEMBERS)
            r->bad = true;
        for (uint32_t i = 0; i < n && !r->bad; i++)
            get_object(r, replica_fields, sizeof(replica_fields) / sizeof(replica_fields[0]),
                       &g->replica[i], NULL);
        g->n_replicas = r->bad ? 0 : n;
    } else {
        mp_skip(r);
    }
}

static const struct field member_fields[] = {
    F(kvadmin_member, id, U32),    F(kvadmin_member, client, TEXT), F(kvadmin_member, peer, TEXT),
    F(kvadmin_member, role, TEXT), F(kvadmin_member, leader, BOOL),
};

static void member_other(struct mp_reader *r, struct slice name, void *obj)
{
    struct kvadmin_member *m = obj;
    if (is(name, "heard_ms"))
        get_heard(r, &m->heard, &m->heard_ms);
    else
        mp_skip(r);
}

static const struct field operator_fields[] = {
    F(kvadmin_operator, id, U64),     F(kvadmin_operator, group, U64),
    F(kvadmin_operator, step, U64),   F(kvadmin_operator, steps, U64),
    F(kvadmin_operator, kind, TEXT),  F(kvadmin_operator, reason, TEXT),
    F(kvadmin_operator, bytes, U64),  F(kvadmin_operator, moved, U64),
    F(kvadmin_operator, age_ms, U64), F(kvadmin_operator, state, TEXT),
    F(kvadmin_operator, doing, TEXT), F(kvadmin_operator, from, TEXT),
    F(kvadmin_operator, to, TEXT),    F(kvadmin_operator, waits_for, TEXT),
};

static const struct field status_fields[] = {
    F(kvadmin_status, cluster, TEXT),       F(kvadmin_status, health, TEXT),
    F(kvadmin_status, leader_addr, TEXT),   F(kvadmin_status, version, U64),
    F(kvadmin_status, from, U32),           F(kvadmin_status, leader, U32),
    F(kvadmin_status, authoritative, BOOL), F(kvadmin_status, paused, BOOL),
};

/* The count is bounded by the bytes that are left: skim has proven as much. */
static void *get_array(struct mp_reader *r, size_t size, uint32_t max, unsigned *n)
{
    uint32_t count = mp_get_array(r);
    if (count > max || *n)
        r->bad = true;
    if (r->bad)
        return NULL;
    *n = count;
    return mem_zalloc((count ? count : 1) * size);
}

static void get_reasons(struct mp_reader *r, struct kvadmin_status *s)
{
    uint32_t n = mp_get_array(r);
    for (uint32_t i = 0; i < n && !r->bad; i++) {
        if (i < KVADMIN_REASONS)
            get_text(r, s->reason[s->n_reasons++], sizeof(s->reason[0]));
        else
            mp_skip(r);
    }
}

static void get_members(struct mp_reader *r, struct kvadmin_status *s)
{
    uint32_t n = mp_get_array(r);
    if (n > KVADMIN_MEMBERS)
        r->bad = true;
    for (uint32_t i = 0; i < n && !r->bad; i++)
        get_object(r, member_fields, sizeof(member_fields) / sizeof(member_fields[0]),
                   &s->member[i], member_other);
    s->n_members = r->bad ? 0 : n;
}

#define N_OF(a) (sizeof(a) / sizeof((a)[0]))

static void status_other(struct mp_reader *r, struct slice name, void *obj)
{
    struct kvadmin_status *s = obj;
    if (is(name, "reasons") && !s->n_reasons) {
        get_reasons(r, s);
    } else if (is(name, "members")) {
        get_members(r, s);
    } else if (is(name, "nodes") && !s->nodes) {
        s->nodes = get_array(r, sizeof(*s->nodes), LIMIT_NODES, &s->n_nodes);
        for (unsigned i = 0; i < s->n_nodes && !r->bad; i++)
            get_object(r, node_fields, N_OF(node_fields), &s->nodes[i], node_other);
    } else if (is(name, "groups") && !s->groups) {
        s->groups = get_array(r, sizeof(*s->groups), LIMIT_SLOTS, &s->n_groups);
        for (unsigned i = 0; i < s->n_groups && !r->bad; i++)
            get_object(r, group_fields, N_OF(group_fields), &s->groups[i], group_other);
    } else if (is(name, "operators") && !s->operators) {
        s->operators = get_array(r, sizeof(*s->operators), LIMIT_SLOTS, &s->n_operators);
        for (unsigned i = 0; i < s->n_operators && !r->bad; i++)
            get_object(r, operator_fields, N_OF(operator_fields), &s->operators[i], NULL);
    } else {
        mp_skip(r);
    }
}

enum err kvadmin_status_decode(struct slice raw, struct kvadmin_status *out)
{
    struct mp_reader r = mp_reader_of(raw);
    struct kvadmin_status *s = mem_zalloc(sizeof(*s));
    get_object(&r, status_fields, N_OF(status_fields), s, status_other);
    enum err e = r.bad || r.left.n ? ERR_BAD_REQUEST : ERR_OK;
    if (e == ERR_OK)
        *out = *s;
    else
        kvadmin_status_close(s);
    free(s);
    return e;
}

void kvadmin_status_close(struct kvadmin_status *s)
{
    free(s->nodes);
    free(s->groups);
    free(s->operators);
    *s = (struct kvadmin_status){0};
}
