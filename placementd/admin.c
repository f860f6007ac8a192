#include "placementd/admin.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "placementd/admin_internal.h"

struct family {
    const char *method;
    enum err (*serve)(const struct admin_world *w, struct admin_call *c, struct admin_why why);
    void (*answer)(const struct admin_world *w, struct admin_call *c);
};

static const struct family families[] = {
    {"admin.node", admin_node, admin_node_answer},
    {"admin.group", admin_group, admin_group_answer},
    {"admin.rebalance", admin_rebalance, admin_rebalance_answer},
    {"admin.operator", admin_operator, admin_operator_answer},
    {"admin.why", admin_explain, NULL},
    {"admin.map", admin_map, admin_map_answer},
    {"admin.recover", admin_recover, admin_recover_answer},
    {"admin.member", admin_member, admin_member_answer},
};

static const struct family *find_family(struct slice method)
{
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
        if (slice_eq(method, slice_str(families[i].method)))
            return &families[i];
    return NULL;
}

bool admin_is_method(struct slice method)
{
    return find_family(method) != NULL;
}

/* ---- decoding ---- */

/* A node by name, or by its id as a number. */
static void get_name(struct mp_reader *r, char *out, size_t cap)
{
    if (mp_peek(r) == MP_UINT)
        snprintf(out, cap, "%llu", (unsigned long long)mp_get_uint(r));
    else
        mp_get_cstr(r, out, cap);
}

#define LOST_MAX 256u

static void get_lost(struct mp_reader *r, struct admin_args *a)
{
    char name[LIMIT_NAME + 1];
    uint32_t n = mp_get_array(r);
    if (n > LOST_MAX || a->n_lost)
        r->bad = true;
    for (uint32_t i = 0; i < n && !r->bad; i++) {
        get_name(r, name, sizeof(name));
        if (r->bad || !name[0]) {
            r->bad = true;
            return;
        }
        buf_append(&a->lost, name, strlen(name) + 1);
        a->n_lost++;
    }
}

static void get_field(struct mp_reader *r, struct slice name, struct admin_args *a)
{
    struct slice bytes;
    if (slice_eq(name, slice_str("action"))) {
        mp_get_cstr(r, a->action, sizeof(a->action));
    } else if (slice_eq(name, slice_str("node"))) {
        get_name(r, a->node, sizeof(a->node));
    } else if (slice_eq(name, slice_str("from"))) {
        get_name(r, a->from, sizeof(a->from));
    } else if (slice_eq(name, slice_str("to"))) {
        get_name(r, a->to, sizeof(a->to));
    } else if (slice_eq(name, slice_str("peer"))) {
        mp_get_cstr(r, a->peer, sizeof(a->peer));
    } else if (slice_eq(name, slice_str("group"))) {
        a->group = mp_get_uint(r);
        a->has_group = true;
    } else if (slice_eq(name, slice_str("into"))) {
        a->into = mp_get_uint(r);
    } else if (slice_eq(name, slice_str("slot"))) {
        a->slot = mp_get_u16(r);
        a->has_slot = true;
    } else if (slice_eq(name, slice_str("id")) || slice_eq(name, slice_str("operator"))) {
        a->id = mp_get_uint(r);
        a->has_id = true;
    } else if (slice_eq(name, slice_str("for_ms"))) {
        a->for_ms = mp_get_uint(r);
        a->has_for = true;
    } else if (slice_eq(name, slice_str("all"))) {
        a->all = mp_get_bool(r);
    } else if (slice_eq(name, slice_str("plan")) && mp_peek(r) == MP_BOOL) {
        a->plan = mp_get_bool(r);
    } else if (slice_eq(name, slice_str("plan"))) {
        mp_get_cstr(r, a->plan_id, sizeof(a->plan_id));
    } else if (slice_eq(name, slice_str("lost"))) {
        get_lost(r, a);
    } else if (slice_eq(name, slice_str("state"))) {
        bytes = mp_get_bytes(r);
        buf_clear(&a->state);
        buf_append(&a->state, bytes.p, bytes.n);
    } else {
        mp_skip(r);
    }
}

enum err admin_decode(struct slice method, struct slice params, struct admin_call *out)
{
    const struct family *f = find_family(method);
    struct mp_reader r = mp_reader_of(params);
    if (!f)
        return ERR_UNKNOWN_METHOD;
    memset(out, 0, sizeof(*out));
    out->args.method = slice_str(f->method);
    if (mp_get_array(&r) < 1)
        r.bad = true;
    for (uint32_t left = r.bad ? 0 : mp_get_map(&r); left > 0 && !r.bad; left--) {
        struct slice name = mp_get_str(&r);
        get_field(&r, name, &out->args);
    }
    if (!r.bad)
        return ERR_OK;
    admin_call_close(out);
    return ERR_BAD_REQUEST;
}

void admin_call_close(struct admin_call *c)
{
    buf_close(&c->args.state);
    buf_close(&c->args.lost);
    buf_close(&c->refused);
    buf_close(&c->result);
    free(c->pending);
    free(c->ids);
    c->pending = NULL;
    c->ids = NULL;
    c->n_pending = c->done = c->n_ids = 0;
}

void admin_close(struct admin *a)
{
    for (uint32_t i = 0; i < ADMIN_PLANS_MAX; i++)
        if (a->plan[i].version)
            plan_list_close(&a->plan[i].ops);
    memset(a, 0, sizeof(*a));
}

/* ---- texts and lookups ---- */

enum err admin_refuse(struct admin_why why, enum err e, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(why.text, why.n, fmt, args);
    va_end(args);
    return e;
}

const char *admin_size(uint64_t bytes, char buf[24])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double v = (double)bytes;
    unsigned u = 0;
    while (v >= 1024 && u < 5) {
        v /= 1024;
        u++;
    }
    snprintf(buf, 24, u ? "%.1f %s" : "%.0f %s", v, units[u]);
    return buf;
}

const char *admin_time(uint64_t ms, char buf[24])
{
    unsigned long long s = (unsigned long long)(ms / 1000) % 100000000;
    if (s < 60)
        snprintf(buf, 24, "%llus", s);
    else if (s < 3600)
        snprintf(buf, 24, "%llum%02llus", s / 60, s % 60);
    else
        snprintf(buf, 24, "%lluh%02llum", s / 3600, s / 60 % 60);
    return buf;
}

const char *admin_node_name(const struct admin_world *w, uint32_t node, char buf[24])
{
    const struct cluster_node *n = node ? cluster_find_node(w->m.cluster, node) : NULL;
    if (n)
        return n->name;
    snprintf(buf, 24, node ? "node %u" : "", node);
    return buf;
}

static const struct cluster_node *by_name(const struct cluster *c, const char *name)
{
    const struct cluster_node *n = cluster_find_name(c, name);
    for (uint32_t i = c->n_nodes; !n && i > 0; i--) /* the newest that is gone */
        if (strcmp(c->nodes[i - 1].name, name) == 0)
            n = &c->nodes[i - 1];
    if (n)
        return n;
    char *end;
    unsigned long id = strtoul(name, &end, 10);
    return name[0] && *end == '\0' && id && id <= UINT32_MAX ? cluster_find_node(c, (uint32_t)id)
                                                             : NULL;
}

/* As people count: n2 before n10. */
static int compare_names(const void *a, const void *b)
{
    return strverscmp(*(const char *const *)a, *(const char *const *)b);
}

static void list_names(const struct cluster *c, char *list, size_t n)
{
    const char **names = mem_alloc((c->n_nodes + 1u) * sizeof(*names));
    size_t count = 0;
    list[0] = '\0';
    for (uint32_t i = 0; i < c->n_nodes; i++)
        if (c->nodes[i].state != CLUSTER_NODE_LOST && c->nodes[i].state != CLUSTER_NODE_REMOVED)
            names[count++] = c->nodes[i].name;
    qsort(names, count, sizeof(*names), compare_names);
    for (size_t i = 0; i < count && strlen(list) + LIMIT_NAME + 8 < n; i++)
        snprintf(list + strlen(list), n - strlen(list), "%s%s", i ? ", " : "", names[i]);
    free(names);
}

enum err admin_find_node(const struct admin_world *w, const char *name,
                         const struct cluster_node **out, struct admin_why why)
{
    char list[160];
    *out = name[0] ? by_name(w->m.cluster, name) : NULL;
    if (*out)
        return ERR_OK;
    if (!name[0])
        return admin_refuse(why, ERR_BAD_REQUEST, "no node is named");
    list_names(w->m.cluster, list, sizeof(list));
    return admin_refuse(why, ERR_NOT_FOUND, "there is no node '%s'; there are: %s", name,
                        list[0] ? list : "none");
}

enum err admin_find_group(const struct admin_world *w, uint64_t id,
                          const struct cluster_group **out, struct admin_why why)
{
    const struct cluster *c = w->m.cluster;
    *out = cluster_find_group(c, id);
    if (*out)
        return ERR_OK;
    if (c->n_groups == 0)
        return admin_refuse(why, ERR_NOT_FOUND, "there is no group g%llu; there are none yet",
                            (unsigned long long)id);
    return admin_refuse(why, ERR_NOT_FOUND,
                        "there is no group g%llu; there are %u, from g%llu to "
                        "g%llu",
                        (unsigned long long)id, c->n_groups,
                        (unsigned long long)c->groups[0].desc.group,
                        (unsigned long long)c->groups[c->n_groups - 1].desc.group);
}

void admin_view(const struct admin_world *w, struct plan_picture *out)
{
    const struct driver_options *o = &w->driver->options;
    plan_view_build(w->m.cluster, w->m.live, &o->plan, o->down_after_ns, w->m.now, w->m.wall_ms,
                    out);
}

/* ---- pieces of answers ---- */

static const char *plan_kind_name(uint8_t kind)
{
    return operator_kind_name(kind); /* the numbers are the same */
}

void admin_put_op(struct buf *b, const struct admin_world *w, const struct plan_op *op)
{
    char from[24], to[24];
    const struct cluster_group *g = cluster_find_group(w->m.cluster, op->group);
    mp_put_map(b, 11);
    mp_put_pair_str(b, "kind", plan_kind_name(op->kind));
    mp_put_pair(b, "group", op->group);
    mp_put_pair(b, "first_slot", g ? g->desc.first_slot : 0);
    mp_put_pair(b, "last_slot", g ? g->desc.last_slot : 0);
    mp_put_pair(b, "replica", op->replica);
    mp_put_pair_str(b, "from", admin_node_name(w, op->from, from));
    mp_put_pair_str(b, "to", admin_node_name(w, op->to, to));
    mp_put_pair(b, "slot", op->slot);
    mp_put_pair(b, "into", op->into);
    mp_put_pair(b, "bytes", op->bytes);
    mp_put_pair_str(b, "why", op->why);
}

void admin_put_ops(struct buf *b, const struct admin_world *w, const struct plan_list *ops)
{
    mp_put_str(b, "ops");
    mp_put_array(b, ops->n);
    for (uint32_t i = 0; i < ops->n; i++)
        admin_put_op(b, w, &ops->op[i]);
}

void admin_put_preview(struct buf *b, const struct admin_world *w, const struct plan_preview *p)
{
    char name[24];
    admin_put_ops(b, w, &p->ops);
    mp_put_pair(b, "bytes", p->bytes);
    mp_put_pair(b, "seconds", p->seconds);
    mp_put_pair(b, "rate", w->rate);
    mp_put_pair(b, "at_a_time", w->driver->options.plan.max_moves);
    mp_put_pair(b, "lowest_voters", p->lowest_voters);
    mp_put_str(b, "nodes");
    mp_put_array(b, p->n_nodes);
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        mp_put_map(b, 4);
        mp_put_pair_str(b, "node", admin_node_name(w, p->nodes[i].node, name));
        mp_put_pair(b, "before_percent", p->nodes[i].before_percent);
        mp_put_pair(b, "after_percent", p->nodes[i].after_percent);
        mp_put_pair(b, "peak_disk_percent", p->nodes[i].peak_disk_percent);
    }
}

/* ---- commands ---- */

static struct admin_pending *new_pending(struct admin_call *c)
{
    c->pending = mem_realloc(c->pending, (c->n_pending + 1u) * sizeof(*c->pending));
    struct admin_pending *p = &c->pending[c->n_pending++];
    memset(p, 0, sizeof(*p));
    return p;
}

enum err admin_await(struct admin_call *c, uint64_t index, uint64_t term)
{
    struct admin_pending *p = new_pending(c);
    p->index = index;
    p->term = term;
    return ERR_OK;
}

enum err admin_propose(const struct admin_world *w, struct admin_call *c,
                       const struct cluster_command *cmd)
{
    uint64_t index, term;
    enum err e = w->driver->options.propose(w->driver->options.arg, cmd, &index, &term);
    if (e != ERR_OK)
        return e;
    return admin_await(c, index, term);
}

enum err admin_add(const struct admin_world *w, struct admin_call *c, const struct plan_op *op,
                   uint8_t origin, struct admin_why why)
{
    uint64_t index, term;
    enum err e = driver_add(w->driver, &w->m, op, origin, &index, &term, why.text, why.n);
    if (e != ERR_OK)
        return e;
    struct admin_pending *p = new_pending(c);
    p->index = index;
    p->term = term;
    p->op = *op;
    return ERR_OK;
}

void admin_note_refused(struct admin_call *c, const char *text)
{
    mp_put_str(&c->refused, text);
    c->n_refused++;
}

/* What people get for "not now": busy would make clients try again until their deadline. */
static enum err shown(enum err e)
{
    return e == ERR_BUSY || e == ERR_WRONG_EPOCH ? ERR_REFUSED : e;
}

enum err admin_serve(const struct admin_world *w, struct admin_call *c, char *text, size_t n)
{
    struct admin_why why = {text, n};
    text[0] = '\0';
    if (!w->m.cluster->founded)
        return admin_refuse(why, ERR_NOT_READY, "the cluster is being founded");
    return shown(find_family(c->args.method)->serve(w, c, why));
}

enum err admin_on_result(const struct admin_world *w, struct admin_call *c,
                         const struct cluster_result *r, char *text, size_t n)
{
    const struct admin_pending *p = &c->pending[c->done++];
    struct admin_why why = {text, n};
    text[0] = '\0';
    if (r->err != ERR_OK && !c->many)
        return shown(admin_refuse(why, r->err, "%s", r->text));
    if (r->err != ERR_OK)
        admin_note_refused(c, r->text[0] ? r->text : err_text(r->err));
    else if (p->op.kind) {
        c->ids = mem_realloc(c->ids, (c->n_ids + 1u) * sizeof(*c->ids));
        c->ids[c->n_ids++] = r->value;
    }
    if (c->done == c->n_pending)
        find_family(c->args.method)->answer(w, c);
    return ERR_OK;
}
