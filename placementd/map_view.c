#include "placementd/map_view.h"

#include "common/wire/msg_map.h"

void map_view_init(struct map_view *v)
{
    memset(v, 0, sizeof(*v));
}

void map_view_close(struct map_view *v)
{
    buf_close(&v->whole);
}

void map_view_group(struct map_view *v, uint64_t group)
{
    buf_clear(&v->whole);
    for (uint32_t i = 0; i < v->n_groups; i++)
        if (v->groups[i] == group)
            return;
    if (v->n_groups == MAP_VIEW_PIECE_MAX)
        v->all = true;
    else
        v->groups[v->n_groups++] = group;
}

void map_view_node(struct map_view *v, uint32_t node)
{
    buf_clear(&v->whole);
    for (uint32_t i = 0; i < v->n_nodes; i++)
        if (v->nodes[i] == node)
            return;
    if (v->n_nodes == MAP_VIEW_PIECE_MAX)
        v->all = true;
    else
        v->nodes[v->n_nodes++] = node;
}

void map_view_all(struct map_view *v)
{
    buf_clear(&v->whole);
    v->all = true;
}

bool map_view_changed(const struct map_view *v)
{
    return v->all || v->n_groups || v->n_nodes;
}

void map_view_forget(struct map_view *v)
{
    v->all = false;
    v->n_groups = v->n_nodes = 0;
}

static void hints(struct shard_map *m, const struct cluster *c, const struct liveness *l)
{
    for (uint32_t i = 0; l && i < m->n_shards; i++) {
        const struct cluster_group *g = cluster_find_group(c, m->shards[i].group);
        m->shards[i].leader = g ? liveness_leader(l, g) : 0;
    }
}

struct slice map_view_get(struct map_view *v, const struct cluster *c, const struct liveness *l)
{
    if (v->whole.n == 0) {
        struct shard_map m;
        cluster_map(c, &m);
        hints(&m, c, l);
        msg_map_encode(&v->whole, &m);
        shard_map_close(&m);
    }
    return buf_slice(&v->whole);
}

static void piece_node(struct shard_map *m, const struct cluster *c, uint32_t id)
{
    const struct cluster_node *n = cluster_find_node(c, id);
    struct shard_node node;
    if (!n || n->state == CLUSTER_NODE_REMOVED)
        return;
    cluster_map_node(n, &node);
    shard_map_put_node(m, &node);
}

void map_view_take_piece(struct map_view *v, const struct cluster *c, const struct liveness *l,
                         struct buf *out)
{
    if (v->all) {
        struct slice whole = map_view_get(v, c, l);
        buf_append(out, whole.p, whole.n);
        map_view_forget(v);
        return;
    }
    struct shard_map m;
    shard_map_init(&m);
    memcpy(m.cluster, c->id, 16);
    for (uint32_t i = 0; i < v->n_groups; i++) {
        const struct cluster_group *g = cluster_find_group(c, v->groups[i]);
        if (!g)
            continue;
        shard_map_put_shard(&m, &g->desc);
        for (uint32_t j = 0; j < g->desc.n_replicas; j++)
            piece_node(&m, c, g->desc.replica[j].node);
    }
    for (uint32_t i = 0; i < v->n_nodes; i++)
        piece_node(&m, c, v->nodes[i]);
    m.version = c->map_version;
    hints(&m, c, l);
    msg_map_encode(out, &m);
    shard_map_close(&m);
    map_view_forget(v);
}
