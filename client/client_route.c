/* Which node an op goes to.
 *
 * Writes and linearizable reads go to the leader, or where none is known, to each voter in turn.
 * Weaker reads go to any replica: those in the caller's zone before others, and among these to one
 * of those that answer about as fast as the fastest: equal replicas share the load, taking turns of
 * a millisecond. Now and then another one is tried, since how fast it is changes. */
#include "client/client_core_int.h"

#define ROLE_VOTER 1
#define LATENCY_SLACK                                                                              \
    (200 * NS_PER_US) /* answers within 2x + this of the fastest count as equal                    \
                       */
#define EXPLORE_ONE_IN 64u
#define MOMENT_NS (1 * NS_PER_MS)
#define TOGETHER 16u /* reads under way on a connection before another one is as good */

struct candidate {
    struct route route;
    struct client_conn *conn;
    uint64_t latency;
};

static bool in_zone(const struct client_core *core, const struct shard_node *n,
                    const struct client_conn *c)
{
    const char *zone = n->zone[0] ? n->zone : c->zone;
    return core->zone[0] && strcmp(core->zone, zone) == 0;
}

/* The usable replicas: with the caller's zone, only those in it, if there are any. */
static unsigned candidates(struct client_core *core, const struct shard_desc *s, bool voters,
                           uint64_t now, struct candidate *out)
{
    unsigned n = 0;
    bool near = false;
    for (uint32_t i = 0; i < s->n_replicas; i++) {
        const struct shard_node *node = shard_map_find_node(&core->routes.map, s->replica[i].node);
        struct candidate *k = &out[n];
        if ((s->replica[i].role == ROLE_VOTER) != voters || !node ||
            !route_cache_replica(&core->routes, s, i, &k->route))
            continue;
        k->conn = client_conn_for(core, &k->route, now);
        if (!client_conn_usable(k->conn, now))
            continue;
        bool here = in_zone(core, node, k->conn);
        if (near && !here)
            continue;
        if (here && !near) { /* the first one near: the others are forgotten */
            out[0] = *k;
            k = &out[0];
            n = 0;
            near = true;
        }
        k->latency = k->conn->latency;
        n++;
    }
    return n;
}

/* Which of equal ones: the same for what a handle asks within a moment, so that it travels together
 * (system calls are most of what a small read costs), up to some; then another one, so that they
 * share the load. */
static const struct candidate *preferred(const struct client_core *core,
                                         const struct candidate *list, unsigned n, uint64_t now)
{
    const struct candidate *best = &list[0];
    uint64_t most = 0;
    uint32_t least = UINT32_MAX;
    for (unsigned i = 0; i < n; i++) {
        uint32_t busy = list[i].conn->n_inflight / TOGETHER;
        uint64_t h = core->taste + now / MOMENT_NS * 0x9e3779b97f4a7c15u;
        h = (h ^ (uint64_t)list[i].route.node) * 0xbf58476d1ce4e5b9u;
        h = (h ^ (h >> 31)) * 0x94d049bb133111ebu;
        h ^= h >> 29;
        if (busy < least || (busy == least && h >= most)) {
            least = busy;
            most = h;
            best = &list[i];
        }
    }
    return best;
}

static struct client_conn *nearest(struct client_core *core, const struct client_op *op,
                                   uint64_t now, struct route *r)
{
    struct candidate list[LIMIT_GROUP_MEMBERS];
    const struct shard_desc *s = shard_map_find(&core->routes.map, op->slot);
    if (!s)
        return NULL;
    unsigned n = candidates(core, s, true, now, list), fast = 0;
    if (n == 0)
        n = candidates(core, s, false, now, list);
    if (n == 0)
        return NULL;
    uint64_t best = UINT64_MAX;
    for (unsigned i = 0; i < n; i++)
        if (list[i].latency < best)
            best = list[i].latency;
    bool explore = rng_below(&core->rng, EXPLORE_ONE_IN) == 0;
    for (unsigned i = 0; i < n; i++)
        if (explore || list[i].latency <= 2 * best + LATENCY_SLACK)
            list[fast++] = list[i];
    const struct candidate *k = preferred(core, list, fast, now);
    *r = k->route;
    return k->conn;
}

struct client_conn *client_route_pick(struct client_core *core, const struct client_op *op,
                                      uint64_t now, struct route *r, enum err *e)
{
    *e = ERR_OK;
    if (op->level != KV_LEVEL_LINEARIZABLE && !op->to_leader) {
        struct client_conn *near = nearest(core, op, now, r);
        if (near)
            return near;
    }
    *e = route_cache_find(&core->routes, op->slot, 0, op->attempts, r);
    if (*e != ERR_OK)
        return NULL;
    struct client_conn *c = client_conn_for(core, r, now);
    if (client_conn_usable(c, now))
        return c;
    /* Somebody else may know more, or lead by now. */
    *e = route_cache_find(&core->routes, op->slot, r->node, op->attempts, r);
    c = *e == ERR_OK ? client_conn_for(core, r, now) : NULL;
    return c && client_conn_usable(c, now) ? c : NULL;
}
