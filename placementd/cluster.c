#include "placementd/cluster.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"

/* Smallest encodings of one item, to bound what a count in untrusted bytes may allocate. */
#define NODE_MIN 20u
#define GROUP_MIN 23u
#define OPERATOR_MIN 36u

void cluster_init(struct cluster *c)
{
    memset(c, 0, sizeof(*c));
    c->next_node = 1;
    c->next_replica = c->next_group = c->next_operator = 1;
}

void cluster_close(struct cluster *c)
{
    free(c->nodes);
    free(c->groups);
    free(c->operators);
    memset(c, 0, sizeof(*c));
}

/* ---- lookups: the arrays are in ascending id ---- */

struct cluster_node *cluster_find_node(const struct cluster *c, uint32_t id)
{
    size_t lo = 0, hi = c->n_nodes;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (c->nodes[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < c->n_nodes && c->nodes[lo].id == id ? &c->nodes[lo] : NULL;
}

struct cluster_node *cluster_find_name(const struct cluster *c, const char *name)
{
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        struct cluster_node *n = &c->nodes[i];
        if (n->state != CLUSTER_NODE_LOST && n->state != CLUSTER_NODE_REMOVED &&
            strcmp(n->name, name) == 0)
            return n;
    }
    return NULL;
}

struct cluster_group *cluster_find_group(const struct cluster *c, uint64_t id)
{
    size_t lo = 0, hi = c->n_groups;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (c->groups[mid].desc.group < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < c->n_groups && c->groups[lo].desc.group == id ? &c->groups[lo] : NULL;
}

struct cluster_member *cluster_find_member(struct cluster *c, uint32_t id)
{
    for (uint32_t i = 0; i < c->n_members; i++)
        if (c->member[i].id == id)
            return &c->member[i];
    return NULL;
}

struct cluster_operator *cluster_find_operator(const struct cluster *c, uint64_t id)
{
    for (uint32_t i = 0; i < c->n_operators; i++)
        if (c->operators[i].id == id)
            return &c->operators[i];
    return NULL;
}

struct cluster_operator *cluster_operator_of(const struct cluster *c, uint64_t group)
{
    for (uint32_t i = 0; i < c->n_operators; i++)
        if (c->operators[i].group == group)
            return &c->operators[i];
    return NULL;
}

int cluster_replica_index(const struct cluster_group *g, uint64_t replica)
{
    for (uint32_t i = 0; i < g->desc.n_replicas; i++)
        if (g->desc.replica[i].replica == replica)
            return (int)i;
    return -1;
}

/* ---- growing: capacities are powers of two, so they need no field ---- */

static void *grow(void *items, uint32_t n, size_t size)
{
    bool full = n == 0 || (n & (n - 1)) == 0;
    return full ? mem_realloc(items, (n ? (size_t)n * 2 : 1) * size) : items;
}

struct cluster_node *cluster_add_node(struct cluster *c, const struct cluster_node *n)
{
    CHECK(c->n_nodes < LIMIT_NODES);
    CHECK(c->n_nodes == 0 || c->nodes[c->n_nodes - 1].id < n->id);
    c->nodes = grow(c->nodes, c->n_nodes, sizeof(*c->nodes));
    c->nodes[c->n_nodes] = *n;
    return &c->nodes[c->n_nodes++];
}

struct cluster_group *cluster_add_group(struct cluster *c, const struct shard_desc *d)
{
    CHECK(c->n_groups < CLUSTER_GROUPS_MAX);
    CHECK(c->n_groups == 0 || c->groups[c->n_groups - 1].desc.group < d->group);
    c->groups = grow(c->groups, c->n_groups, sizeof(*c->groups));
    c->groups[c->n_groups] = (struct cluster_group){.desc = *d};
    c->groups[c->n_groups].desc.leader = 0;
    return &c->groups[c->n_groups++];
}

struct cluster_operator *cluster_add_operator(struct cluster *c, const struct cluster_operator *o)
{
    CHECK(c->n_operators < CLUSTER_OPERATORS_MAX);
    CHECK(c->n_operators == 0 || c->operators[c->n_operators - 1].id < o->id);
    c->operators = grow(c->operators, c->n_operators, sizeof(*c->operators));
    c->operators[c->n_operators] = *o;
    return &c->operators[c->n_operators++];
}

void cluster_remove_operator(struct cluster *c, uint64_t id)
{
    struct cluster_operator *o = cluster_find_operator(c, id);
    CHECK(o);
    size_t at = (size_t)(o - c->operators);
    memmove(o, o + 1, (c->n_operators - at - 1) * sizeof(*o));
    c->n_operators--;
    /* grow() counts on a full array at powers of two: shrinking leaves room, never too little. */
}

/* ---- parts of the encoding ---- */

void cluster_put_text(struct buf *b, const char *s)
{
    size_t n = strlen(s);
    CHECK(n < 256);
    buf_u8(b, (uint8_t)n);
    buf_append(b, s, n);
}

void cluster_get_text(struct cursor *c, char *out, size_t cap)
{
    struct slice s = cursor_bytes(c, cursor_u8(c));
    if (s.n >= cap || (s.n && memchr(s.p, 0, s.n)))
        c->bad = true;
    if (c->bad) {
        out[0] = 0;
        return;
    }
    if (s.n)
        memcpy(out, s.p, s.n);
    out[s.n] = 0;
}

void cluster_put_desc(struct buf *b, const struct shard_desc *d)
{
    buf_u64(b, d->group);
    buf_u16(b, d->first_slot);
    buf_u16(b, d->last_slot);
    buf_u32(b, d->epoch.range);
    buf_u32(b, d->epoch.members);
    buf_u8(b, (uint8_t)d->n_replicas);
    for (uint32_t i = 0; i < d->n_replicas; i++) {
        buf_u64(b, d->replica[i].replica);
        buf_u32(b, d->replica[i].node);
        buf_u8(b, d->replica[i].role);
    }
}

void cluster_get_desc(struct cursor *c, struct shard_desc *d)
{
    memset(d, 0, sizeof(*d));
    d->group = cursor_u64(c);
    d->first_slot = cursor_u16(c);
    d->last_slot = cursor_u16(c);
    d->epoch.range = cursor_u32(c);
    d->epoch.members = cursor_u32(c);
    uint32_t n = cursor_u8(c);
    if (d->group == 0 || d->first_slot > d->last_slot || d->last_slot >= LIMIT_SLOTS || n == 0 ||
        n > LIMIT_GROUP_MEMBERS)
        c->bad = true;
    for (uint32_t i = 0; i < n && !c->bad; i++) {
        struct shard_replica *r = &d->replica[i];
        r->replica = cursor_u64(c);
        r->node = cursor_u32(c);
        r->role = cursor_u8(c);
        if (r->replica == 0 || r->node == 0 || r->role > 2)
            c->bad = true;
        for (uint32_t j = 0; j < i; j++)
            if (d->replica[j].replica == r->replica || d->replica[j].node == r->node)
                c->bad = true;
        d->n_replicas = i + 1;
    }
}

void cluster_put_operator(struct buf *b, const struct cluster_operator *o)
{
    buf_u64(b, o->id);
    buf_u8(b, o->kind);
    buf_u64(b, o->group);
    buf_u32(b, o->epoch.range);
    buf_u32(b, o->epoch.members);
    buf_u64(b, o->deadline_ms);
    cluster_put_text(b, o->reason);
    buf_u8(b, o->at);
    buf_u8(b, o->n_steps);
    for (uint32_t i = 0; i < o->n_steps; i++) {
        buf_u8(b, o->step[i].kind);
        buf_u32(b, o->step[i].node);
        buf_u64(b, o->step[i].replica);
    }
}

void cluster_get_operator(struct cursor *c, struct cluster_operator *o)
{
    memset(o, 0, sizeof(*o));
    o->id = cursor_u64(c);
    o->kind = cursor_u8(c);
    o->group = cursor_u64(c);
    o->epoch.range = cursor_u32(c);
    o->epoch.members = cursor_u32(c);
    o->deadline_ms = cursor_u64(c);
    cluster_get_text(c, o->reason, sizeof(o->reason));
    o->at = cursor_u8(c);
    o->n_steps = cursor_u8(c);
    if (o->kind < CLUSTER_OP_MOVE || o->kind > CLUSTER_OP_MERGE || o->group == 0 ||
        o->n_steps == 0 || o->n_steps > CLUSTER_STEPS_MAX || o->at > o->n_steps) {
        c->bad = true;
        o->n_steps = 0;
    }
    for (uint32_t i = 0; i < o->n_steps && !c->bad; i++) {
        o->step[i].kind = cursor_u8(c);
        o->step[i].node = cursor_u32(c);
        o->step[i].replica = cursor_u64(c);
        if (o->step[i].kind < CLUSTER_STEP_CREATE || o->step[i].kind > CLUSTER_STEP_SPLIT)
            c->bad = true;
    }
}

static void put_node(struct buf *b, const struct cluster_node *n)
{
    buf_u32(b, n->id);
    buf_u8(b, n->state);
    buf_u64(b, n->incarnation);
    buf_u16(b, n->cores);
    cluster_put_text(b, n->name);
    cluster_put_text(b, n->zone);
    cluster_put_text(b, n->host);
    cluster_put_text(b, n->client_addr);
    cluster_put_text(b, n->peer_addr);
}

static void get_node(struct cursor *c, struct cluster_node *n)
{
    memset(n, 0, sizeof(*n));
    n->id = cursor_u32(c);
    n->state = cursor_u8(c);
    n->incarnation = cursor_u64(c);
    n->cores = cursor_u16(c);
    cluster_get_text(c, n->name, sizeof(n->name));
    cluster_get_text(c, n->zone, sizeof(n->zone));
    cluster_get_text(c, n->host, sizeof(n->host));
    cluster_get_text(c, n->client_addr, sizeof(n->client_addr));
    cluster_get_text(c, n->peer_addr, sizeof(n->peer_addr));
    if (n->state < CLUSTER_NODE_IN || n->state > CLUSTER_NODE_REMOVED || !n->name[0])
        c->bad = true;
}

/* ---- the whole ---- */

void cluster_encode(const struct cluster *c, struct buf *out)
{
    buf_u32(out, CLUSTER_FORMAT);
    buf_u8(out, c->founded);
    buf_append(out, c->id, 16);
    buf_u64(out, c->map_version);
    buf_u32(out, c->next_node);
    buf_u64(out, c->next_replica);
    buf_u64(out, c->next_group);
    buf_u64(out, c->next_operator);
    buf_u32(out, c->n_members);
    for (uint32_t i = 0; i < c->n_members; i++) {
        buf_u32(out, c->member[i].id);
        buf_u64(out, c->member[i].incarnation);
        cluster_put_text(out, c->member[i].client_addr);
    }
    buf_u32(out, c->n_nodes);
    for (uint32_t i = 0; i < c->n_nodes; i++)
        put_node(out, &c->nodes[i]);
    buf_u32(out, c->n_groups);
    for (uint32_t i = 0; i < c->n_groups; i++) {
        cluster_put_desc(out, &c->groups[i].desc);
        buf_u16(out, c->groups[i].created);
    }
    buf_u32(out, c->n_operators);
    for (uint32_t i = 0; i < c->n_operators; i++)
        cluster_put_operator(out, &c->operators[i]);
}

static uint32_t get_count(struct cursor *c, uint32_t max, size_t item)
{
    uint32_t n = cursor_u32(c);
    if (n > max || n > c->left.n / item)
        c->bad = true;
    return c->bad ? 0 : n;
}

static void get_members(struct cursor *in, struct cluster *c)
{
    uint32_t n = get_count(in, CLUSTER_MEMBERS_MAX, 13);
    for (uint32_t i = 0; i < n && !in->bad; i++) {
        c->member[i].id = cursor_u32(in);
        c->member[i].incarnation = cursor_u64(in);
        cluster_get_text(in, c->member[i].client_addr, sizeof(c->member[i].client_addr));
        if (c->member[i].id == 0 || (i && c->member[i].id <= c->member[i - 1].id))
            in->bad = true;
        c->n_members = i + 1;
    }
}

/* Ids must ascend and lie below the next one to be given: later changes count on it. */
static void get_lists(struct cursor *in, struct cluster *c)
{
    uint32_t n = get_count(in, LIMIT_NODES, NODE_MIN);
    for (uint32_t i = 0; i < n && !in->bad; i++) {
        struct cluster_node node;
        get_node(in, &node);
        if (node.id >= c->next_node || node.id <= (i ? c->nodes[i - 1].id : 0))
            in->bad = true;
        else
            cluster_add_node(c, &node);
    }
    n = get_count(in, CLUSTER_GROUPS_MAX, GROUP_MIN);
    for (uint32_t i = 0; i < n && !in->bad; i++) {
        struct shard_desc d;
        cluster_get_desc(in, &d);
        uint16_t created = cursor_u16(in);
        if (d.group >= c->next_group || d.group <= (i ? c->groups[i - 1].desc.group : 0))
            in->bad = true;
        else
            cluster_add_group(c, &d)->created = created;
    }
    n = get_count(in, CLUSTER_OPERATORS_MAX, OPERATOR_MIN);
    for (uint32_t i = 0; i < n && !in->bad; i++) {
        struct cluster_operator o;
        cluster_get_operator(in, &o);
        if (o.id >= c->next_operator || o.id <= (i ? c->operators[i - 1].id : 0))
            in->bad = true;
        else
            cluster_add_operator(c, &o);
    }
}

enum err cluster_decode(struct slice in, struct cluster *out)
{
    struct cursor cur = cursor_of(in);
    struct cluster c;
    uint32_t format = cursor_u32(&cur);
    if (!cur.bad && format != CLUSTER_FORMAT)
        return ERR_FORMAT;
    cluster_init(&c);
    uint8_t founded = cursor_u8(&cur);
    c.founded = founded == 1;
    struct slice id = cursor_bytes(&cur, 16);
    if (!cur.bad && founded <= 1)
        memcpy(c.id, id.p, 16);
    else
        cur.bad = true;
    c.map_version = cursor_u64(&cur);
    c.next_node = cursor_u32(&cur);
    c.next_replica = cursor_u64(&cur);
    c.next_group = cursor_u64(&cur);
    c.next_operator = cursor_u64(&cur);
    get_members(&cur, &c);
    get_lists(&cur, &c);
    if (cur.bad || cur.left.n != 0) {
        cluster_close(&c);
        return ERR_CORRUPT;
    }
    *out = c;
    return ERR_OK;
}

/* ---- the map ---- */

void cluster_map_node(const struct cluster_node *n, struct shard_node *out)
{
    memset(out, 0, sizeof(*out));
    out->node = n->id;
    memcpy(out->name, n->name, sizeof(out->name));
    memcpy(out->zone, n->zone, sizeof(out->zone));
    memcpy(out->host, n->host, sizeof(out->host));
    memcpy(out->client_addr, n->client_addr, sizeof(out->client_addr));
    memcpy(out->peer_addr, n->peer_addr, sizeof(out->peer_addr));
    out->cores = n->cores;
}

static int by_first_slot(const void *a, const void *b)
{
    const struct shard_desc *x = a, *y = b;
    return x->first_slot < y->first_slot ? -1 : x->first_slot > y->first_slot;
}

/* Built in one go, not by shard_map_put_shard(): that would cost a search and a move per shard. */
void cluster_map(const struct cluster *c, struct shard_map *out)
{
    shard_map_init(out);
    memcpy(out->cluster, c->id, 16);
    out->version = c->map_version;
    if (c->n_groups)
        out->shards = mem_alloc(c->n_groups * sizeof(*out->shards));
    for (uint32_t i = 0; i < c->n_groups; i++)
        out->shards[i] = c->groups[i].desc;
    out->n_shards = c->n_groups;
    if (c->n_groups)
        qsort(out->shards, out->n_shards, sizeof(*out->shards), by_first_slot);
    if (c->n_nodes)
        out->nodes = mem_alloc(c->n_nodes * sizeof(*out->nodes));
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        if (c->nodes[i].state == CLUSTER_NODE_REMOVED)
            continue;
        cluster_map_node(&c->nodes[i], &out->nodes[out->n_nodes++]);
    }
}
