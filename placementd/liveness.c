#include "placementd/liveness.h"

#include <stdlib.h>

#include "common/base/mem.h"

static void begin(struct liveness *l, uint64_t now)
{
    map_init(&l->nodes);
    map_init(&l->groups);
    l->since = now;
}

void liveness_init(struct liveness *l, uint64_t now)
{
    begin(l, now);
    l->suspect_ns = LIVENESS_SUSPECT_NS;
    l->down_ns = LIVENESS_DOWN_NS;
    l->stall_ns = LIVENESS_STALL_NS;
}

void liveness_close(struct liveness *l)
{
    size_t it = 0;
    void *value;
    while (map_next(&l->nodes, &it, NULL, &value)) {
        free(((struct live_node *)value)->replica);
        free(value);
    }
    it = 0;
    while (map_next(&l->groups, &it, NULL, &value))
        free(value);
    map_close(&l->nodes);
    map_close(&l->groups);
}

void liveness_reset(struct liveness *l, uint64_t now)
{
    liveness_close(l);
    begin(l, now);
}

const struct live_node *liveness_node(const struct liveness *l, uint32_t node)
{
    return map_find(&l->nodes, node);
}

const struct live_group *liveness_group(const struct liveness *l, uint64_t group)
{
    return map_find(&l->groups, group);
}

const struct live_replica *liveness_replica(const struct liveness *l, uint32_t node, uint64_t group)
{
    const struct live_node *n = liveness_node(l, node);
    for (uint32_t i = 0; n && i < n->replicas; i++)
        if (n->replica[i].group == group)
            return &n->replica[i];
    return NULL;
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

static bool within(uint64_t since, uint64_t span, uint64_t now)
{
    return since != 0 && now - since < span;
}

/* A new range has a load of its own, known when the nodes' counters have settled; under a new
 * leader the group has the load that it had. */
static void average(struct live_group *g, uint64_t reads, uint64_t writes, uint64_t now)
{
    uint64_t max = UINT64_MAX / 1000 / 4;
    uint64_t milli = ((reads < max ? reads : max) + (writes < max ? writes : max)) * 1000;
    bool fresh = g->load_at == 0 || within(g->range_since, LIVENESS_SETTLE_NS, now);
    uint64_t passed = now - g->load_at;
    g->load_at = now;
    if (fresh || passed >= LIVENESS_AVERAGE_NS) {
        g->load_milli = milli;
    } else if (!within(g->leader_since, LIVENESS_SETTLE_NS, now)) {
        double part = (double)passed / (double)LIVENESS_AVERAGE_NS;
        g->load_milli = (uint64_t)((double)g->load_milli * (1 - part) + (double)milli * part);
    }
}

static void take_leader(struct live_group *g, const struct msg_group_status *s, uint64_t now)
{
    uint64_t behind = 0;
    if (g->heard && s->epoch.range != g->epoch.range)
        g->range_since = now;
    average(g, s->reads, s->writes, now);
    g->heard = now;
    g->bytes = s->bytes;
    g->keys = s->keys;
    g->reads = s->reads;
    g->writes = s->writes;
    g->epoch = s->epoch;
    g->first_slot = s->first_slot;
    g->last_slot = s->last_slot;
    g->phase = s->phase;
    g->merge = s->merge;
    g->refused_op = s->refused_op;
    g->refused_err = s->refused_err;
    g->n_members = s->n_members;
    memcpy(g->member, s->member, s->n_members * sizeof(g->member[0]));
    for (uint32_t i = 0; i < s->n_members; i++)
        if (s->member[i].role == 0)
            behind += s->member[i].match;
    if (behind != g->behind)
        g->moved = now;
    g->behind = behind;
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
        if (before && leader != before)
            g->leader_since = now;
        g->term = s->term;
        g->leader = leader;
    }
    if (leads && s->term == g->term) {
        take_leader(g, s, now);
    }
    return g->leader != before;
}

/* A replica that is being filled, or a copy for a merge, got on since the last report. A copy's
 * target also grows by what clients write to it: that says nothing. */
static bool gets_on(const struct live_replica *was, const struct msg_group_status *s)
{
    bool filling = s->state == MSG_REPLICA_INSTALLING;
    return was->copy != s->copy || was->phase != s->phase || was->state != s->state ||
           (s->copy == MSG_COPY_RUNNING && was->chunks != s->chunks) ||
           (filling && (was->bytes != s->bytes || was->applied != s->applied));
}

static const struct live_replica *last_of(const struct live_node *n, uint32_t at, uint64_t group)
{
    if (at < n->replicas && n->replica[at].group == group)
        return &n->replica[at]; /* reports keep their order nearly always */
    for (uint32_t i = 0; i < n->replicas; i++)
        if (n->replica[i].group == group)
            return &n->replica[i];
    return NULL;
}

static void keep_replicas(struct live_node *n, const struct msg_heartbeat *h)
{
    if (n->cap < h->n_groups) {
        n->cap = h->n_groups;
        n->replica = mem_realloc(n->replica, n->cap * sizeof(*n->replica));
    }
    n->bytes = 0;
    n->replicas = h->n_groups;
    for (uint32_t i = 0; i < h->n_groups; i++) {
        const struct msg_group_status *s = &h->groups[i];
        n->bytes += s->bytes;
        n->replica[i] = (struct live_replica){.group = s->group,
                                              .replica = s->replica,
                                              .role = s->role,
                                              .state = s->state,
                                              .phase = s->phase,
                                              .copy = s->copy,
                                              .merge = s->merge,
                                              .child = s->child,
                                              .applied = s->applied,
                                              .bytes = s->bytes,
                                              .chunks = s->chunks,
                                              .log_term = s->log_term,
                                              .log_index = s->log_index};
    }
}

void liveness_report(struct liveness *l, const struct cluster *c, const struct msg_heartbeat *h,
                     uint64_t now, void (*on_leader)(void *arg, uint64_t group), void *arg)
{
    struct live_node *n = get(&l->nodes, h->node, sizeof(*n));
    n->heard = now;
    n->disk_free = h->disk_free;
    n->disk_size = h->disk_size;
    n->write_p99_us = h->write_p99_us;
    n->moving = h->moving;
    memcpy(n->version, h->version, sizeof(n->version));
    for (uint32_t i = 0; i < h->n_groups; i++) {
        const struct msg_group_status *s = &h->groups[i];
        const struct cluster_group *g = cluster_find_group(c, s->group);
        if (!g)
            continue;
        struct live_group *live = get(&l->groups, s->group, sizeof(*live));
        const struct live_replica *was = last_of(n, i, s->group);
        if (live->first == 0)
            live->first = now;
        if (!was || gets_on(was, s))
            live->moved = now;
        /* A replica that was removed may still think that it leads: not our source. */
        if (cluster_replica_index(g, s->replica) >= 0 && take_status(live, s, now) && on_leader)
            on_leader(arg, s->group);
    }
    keep_replicas(n, h);
}

void liveness_forget(struct liveness *l, const struct cluster *c)
{
    size_t it = 0;
    uint64_t group;
    void *value;
    while (map_next(&l->groups, &it, &group, &value)) {
        if (cluster_find_group(c, group))
            continue;
        map_remove(&l->groups, group);
        free(value);
    }
}

enum liveness_state liveness_state(const struct liveness *l, uint32_t node, uint64_t now)
{
    const struct live_node *n = liveness_node(l, node);
    uint64_t from = n ? n->heard : l->since;
    uint64_t age = now > from ? now - from : 0;
    if (age >= l->down_ns)
        return LIVE_DOWN;
    if (age >= l->suspect_ns)
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

uint64_t liveness_load(const struct live_group *g)
{
    return (g->load_milli + 500) / 1000;
}

bool liveness_unsettled(const struct live_group *g, uint64_t now)
{
    return within(g->leader_since, LIVENESS_CALM_NS, now) ||
           within(g->range_since, LIVENESS_CALM_NS, now);
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
