#include "placementd/cluster.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "placementd/cluster_index.h"

void cluster_init(struct cluster *c)
{
    memset(c, 0, sizeof(*c));
    c->next_node = c->next_member = 1;
    c->next_replica = c->next_group = c->next_operator = 1;
    c->index = cluster_index_create();
}

void cluster_close(struct cluster *c)
{
    free(c->nodes);
    free(c->groups);
    free(c->operators);
    free(c->finished);
    cluster_index_destroy(c->index);
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
    c->nodes = grow(c->nodes, c->n_nodes, sizeof(*c->nodes));
    uint32_t at = c->n_nodes;
    while (at > 0 && c->nodes[at - 1].id > n->id)
        at--;
    CHECK(at == 0 || c->nodes[at - 1].id < n->id);
    memmove(c->nodes + at + 1, c->nodes + at, (c->n_nodes - at) * sizeof(*c->nodes));
    c->nodes[at] = *n;
    c->n_nodes++;
    cluster_index_groups_changed(c);
    cluster_index_operators_changed(c);
    return &c->nodes[at];
}

struct cluster_group *cluster_add_group(struct cluster *c, const struct shard_desc *d)
{
    CHECK(c->n_groups < CLUSTER_GROUPS_MAX);
    CHECK(!cluster_find_group(c, d->group));
    c->groups = grow(c->groups, c->n_groups, sizeof(*c->groups));
    /* Nearly always the last one: a child's id is drawn some time before it comes. */
    uint32_t at = c->n_groups++;
    for (; at > 0 && c->groups[at - 1].desc.group > d->group; at--)
        c->groups[at] = c->groups[at - 1];
    c->groups[at] = (struct cluster_group){.desc = *d};
    c->groups[at].desc.leader = 0;
    cluster_index_groups_changed(c);
    return &c->groups[at];
}

void cluster_remove_group(struct cluster *c, uint64_t id)
{
    struct cluster_group *g = cluster_find_group(c, id);
    CHECK(g);
    size_t at = (size_t)(g - c->groups);
    memmove(g, g + 1, (c->n_groups - at - 1) * sizeof(*g));
    c->n_groups--;
    cluster_index_groups_changed(c);
}

struct cluster_operator *cluster_add_operator(struct cluster *c, const struct cluster_operator *o)
{
    CHECK(c->n_operators < CLUSTER_OPERATORS_MAX);
    CHECK(c->n_operators == 0 || c->operators[c->n_operators - 1].id < o->id);
    c->operators = grow(c->operators, c->n_operators, sizeof(*c->operators));
    c->operators[c->n_operators] = *o;
    cluster_index_operators_changed(c);
    return &c->operators[c->n_operators++];
}

void cluster_remove_operator(struct cluster *c, uint64_t id)
{
    struct cluster_operator *o = cluster_find_operator(c, id);
    CHECK(o);
    size_t at = (size_t)(o - c->operators);
    memmove(o, o + 1, (c->n_operators - at - 1) * sizeof(*o));
    c->n_operators--;
    cluster_index_operators_changed(c);
    /* grow() counts on a full array at powers of two: shrinking leaves room, never too little. */
}

void cluster_add_finished(struct cluster *c, const struct cluster_finished *f)
{
    if (!c->finished)
        c->finished = mem_alloc(CLUSTER_FINISHED_MAX * sizeof(*c->finished));
    if (c->n_finished == CLUSTER_FINISHED_MAX) {
        c->n_finished--;
        memmove(c->finished, c->finished + 1, c->n_finished * sizeof(*c->finished));
    }
    c->finished[c->n_finished++] = *f;
}

/* ---- questions about operators ---- */

bool cluster_group_is_gone(const struct cluster *c, uint64_t id)
{
    if (id == 0 || id >= c->next_group || (id >= c->unsure_from && id < c->unsure_to) ||
        cluster_find_group(c, id))
        return false;
    for (uint32_t i = 0; i < c->n_operators; i++)
        if (c->operators[i].kind == CLUSTER_OP_SPLIT && c->operators[i].child == id)
            return false;
    return true;
}

bool cluster_replica_is_coming(const struct cluster *c, uint64_t group, uint64_t replica)
{
    const struct cluster_operator *o = cluster_operator_of(c, group);
    for (uint32_t i = 0; o && !o->cancelling && i < o->n_steps; i++) {
        uint8_t kind = o->step[i].kind;
        if (o->step[i].replica == replica && i >= o->at &&
            (kind == CLUSTER_STEP_CREATE || kind == CLUSTER_STEP_ADD_STANDBY ||
             kind == CLUSTER_STEP_PROMOTE))
            return true;
    }
    return false;
}

bool cluster_split_child(const struct cluster *c, const struct cluster_operator *o,
                         struct shard_desc *out)
{
    const struct cluster_group *g = cluster_find_group(c, o->group);
    if (!g || o->slot <= g->desc.first_slot || o->slot > g->desc.last_slot)
        return false;
    *out = g->desc;
    out->group = o->child;
    out->first_slot = o->slot;
    out->epoch = (struct shard_epoch){g->desc.epoch.range + 1, 1};
    out->leader = 0;
    for (uint32_t i = 0; i < out->n_replicas; i++)
        out->replica[i].replica = o->child_replica + i;
    return true;
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
