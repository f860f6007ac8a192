#include "placementd/liveness.h"

#include <stdlib.h>

#include "common/base/mem.h"

void liveness_init(struct liveness *l, uint64_t now)
{
    map_init(&l->nodes);
    map_init(&l->groups);
    l->since = now;
}

static void free_all(struct map *m)
{
    size_t it = 0;
    uint64_t key;
    void *value;
    while (map_next(m, &it, &key, &value))
        free(value);
    map_close(m);
}

void liveness_close(struct liveness *l)
{
    free_all(&l->nodes);
    free_all(&l->groups);
}

void liveness_reset(struct liveness *l, uint64_t now)
{
    liveness_close(l);
    liveness_init(l, now);
}

const struct live_node *liveness_node(const struct liveness *l, uint32_t node)
{
    return map_find(&l->nodes, node);
}

const struct live_group *liveness_group(const struct liveness *l, uint64_t group)
{
    return map_find(&l->groups, group);
}

static void *get(struct map *m, uint64_t key, size_t size)
{
    void *v = map_find(m, key);
    if (!v) {
        v = mem_zalloc(size);
        map_set(m, key, v);
    }
    return v;
}

/* A term has one leader, so the newest term with a known one decides. A later term whose leader the
 * reporter does not know yet changes nothing: taken down with the old leader's name, the new one of
 * the same term would never be believed. A leader's own word comes with the sizes. */
static bool take_status(struct live_group *g, const struct msg_group_status *s, uint64_t now)
{
    uint64_t before = g->leader;
    bool leads = s->state == MSG_REPLICA_LEADER;
    uint64_t leader = leads ? s->replica : s->leader;
    if (leader && (s->term > g->term || (s->term == g->term && (leads || g->leader == 0)))) {
        g->term = s->term;
        g->leader = leader;
    }
    if (leads && s->term == g->term) {
        g->heard = now;
        g->bytes = s->bytes;
        g->keys = s->keys;
        g->n_members = s->n_members;
        memcpy(g->member, s->member, sizeof(g->member));
    }
    return g->leader != before;
}

void liveness_report(struct liveness *l, const struct cluster *c, const struct msg_heartbeat *h,
                     uint64_t now, void (*on_leader)(void *arg, uint64_t group), void *arg)
{
    struct live_node *n = get(&l->nodes, h->node, sizeof(*n));
    n->heard = now;
    n->disk_free = h->disk_free;
    n->disk_size = h->disk_size;
    n->replicas = h->n_groups;
    n->bytes = 0;
    for (uint32_t i = 0; i < h->n_groups; i++) {
        const struct msg_group_status *s = &h->groups[i];
        const struct cluster_group *g = cluster_find_group(c, s->group);
        n->bytes += s->bytes;
        /* A replica that was removed may still think that it leads: not our source. */
        if (!g || cluster_replica_index(g, s->replica) < 0)
            continue;
        struct live_group *live = get(&l->groups, s->group, sizeof(*live));
        if (take_status(live, s, now) && on_leader)
            on_leader(arg, s->group);
    }
}

enum liveness_state liveness_state(const struct liveness *l, uint32_t node, uint64_t now)
{
    const struct live_node *n = liveness_node(l, node);
    uint64_t from = n ? n->heard : l->since;
    uint64_t age = now > from ? now - from : 0;
    if (age >= LIVENESS_DOWN_NS)
        return LIVE_DOWN;
    if (age >= LIVENESS_SUSPECT_NS)
        return LIVE_SUSPECT;
    return n ? LIVE_UP : LIVE_UNKNOWN;
}

const char *liveness_state_name(enum liveness_state s)
{
    static const char *const names[] = {"unknown", "up", "suspect", "down"};
    return names[s];
}

uint64_t liveness_leader(const struct liveness *l, const struct cluster_group *g)
{
    const struct live_group *live = liveness_group(l, g->desc.group);
    if (!live || cluster_replica_index(g, live->leader) < 0)
        return 0;
    return live->leader;
}

void liveness_tell(struct liveness *l, const struct cluster *c, uint64_t now,
                   void (*fn)(void *arg, const struct cluster_node *n, enum liveness_state was,
                              enum liveness_state is),
                   void *arg)
{
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        const struct cluster_node *n = &c->nodes[i];
        struct live_node *live = map_find(&l->nodes, n->id);
        enum liveness_state is = liveness_state(l, n->id, now);
        if (n->state == CLUSTER_NODE_LOST || n->state == CLUSTER_NODE_REMOVED || !live ||
            live->told == is)
            continue;
        enum liveness_state was = live->told;
        live->told = is;
        fn(arg, n, was, is);
    }
}
