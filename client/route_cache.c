#include "client/route_cache.h"

#include <stdlib.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/wire/msg_map.h"

#define ROLE_VOTER 1

struct group_time {
    uint64_t time_ms, at;
};

void route_cache_init(struct route_cache *c)
{
    shard_map_init(&c->map);
    map_init(&c->times);
}

static void forget_times(struct route_cache *c)
{
    void *t;
    for (size_t it = 0; map_next(&c->times, &it, NULL, &t);)
        free(t);
    map_close(&c->times);
    map_init(&c->times);
}

void route_cache_close(struct route_cache *c)
{
    shard_map_close(&c->map);
    forget_times(c);
}

void route_cache_saw_time(struct route_cache *c, uint16_t slot, uint64_t time_ms, uint64_t now)
{
    const struct shard_desc *s = shard_map_find(&c->map, slot);
    if (!s || time_ms >= UINT64_MAX / 4)
        return;
    struct group_time *t = map_find(&c->times, s->group);
    if (!t) {
        if (c->times.n >= ROUTE_TIMES_MAX) /* what is needed yet is told again */
            forget_times(c);
        t = mem_alloc(sizeof(*t));
        map_set(&c->times, s->group, t);
    }
    *t = (struct group_time){time_ms, now};
}

uint64_t route_cache_time(const struct route_cache *c, uint16_t slot, uint64_t most_ms,
                          uint64_t now)
{
    if (c->times.n == 0)
        return 0;
    const struct shard_desc *s = shard_map_find(&c->map, slot);
    const struct group_time *t = s ? map_find(&c->times, s->group) : NULL;
    if (!t)
        return 0;
    uint64_t passed = (now - t->at) / NS_PER_MS;
    return t->time_ms + (passed < most_ms ? passed : most_ms);
}

static bool fill(const struct route_cache *c, const struct shard_desc *s,
                 const struct shard_replica *r, struct route *out)
{
    const struct shard_node *n = shard_map_find_node(&c->map, r->node);
    if (!n || n->client_addr[0] == '\0')
        return false;
    out->group = s->group;
    out->node = r->node;
    out->core = (uint16_t)(n->cores > 1 ? s->group % n->cores : 0);
    out->epoch = s->epoch;
    out->addr = n->client_addr;
    out->leader = r->replica == s->leader;
    return true;
}

bool route_cache_replica(const struct route_cache *c, const struct shard_desc *s, uint32_t i,
                         struct route *out)
{
    return fill(c, s, &s->replica[i], out);
}

enum err route_cache_find(const struct route_cache *c, uint16_t slot, uint32_t avoid, unsigned turn,
                          struct route *out)
{
    const struct shard_desc *s = shard_map_find(&c->map, slot);
    if (!s)
        return ERR_NOT_READY;
    if (s->leader) {
        for (uint32_t i = 0; i < s->n_replicas; i++)
            if (s->replica[i].replica == s->leader && s->replica[i].node != avoid &&
                fill(c, s, &s->replica[i], out))
                return ERR_OK;
    }
    /* Two rounds: voters first, but a map in the middle of a change may show none. */
    for (int any = 0; any < 2; any++) {
        for (uint32_t i = 0; i < s->n_replicas; i++) {
            const struct shard_replica *r =
                &s->replica[(i + (uint64_t)turn + s->group) % s->n_replicas];
            if (r->node != avoid && (any || r->role == ROLE_VOTER) && fill(c, s, r, out))
                return ERR_OK;
        }
    }
    return ERR_NO_LEADER;
}

/* The map hands out const; the cache owns it and may write the leader hint. */
static struct shard_desc *shard_of(struct route_cache *c, uint16_t slot)
{
    const struct shard_desc *s = shard_map_find(&c->map, slot);
    return s ? &c->map.shards[s - c->map.shards] : NULL;
}

bool route_cache_learn_leader(struct route_cache *c, uint16_t slot, uint32_t node)
{
    struct shard_desc *s = shard_of(c, slot);
    for (uint32_t i = 0; s && i < s->n_replicas; i++) {
        if (s->replica[i].node == node) {
            s->leader = s->replica[i].replica;
            return true;
        }
    }
    return false;
}

void route_cache_forget_leader(struct route_cache *c, uint16_t slot, uint32_t node)
{
    struct shard_desc *s = shard_of(c, slot);
    for (uint32_t i = 0; s && i < s->n_replicas; i++)
        if (s->replica[i].node == node && s->replica[i].replica == s->leader)
            s->leader = 0;
}

void route_cache_forget_node(struct route_cache *c, uint32_t node)
{
    for (uint32_t i = 0; i < c->map.n_shards; i++)
        route_cache_forget_leader(c, c->map.shards[i].first_slot, node);
}

/* A leader that we know stays, if the piece still has that replica. */
static void keep_leaders(const struct route_cache *c, struct shard_map *piece)
{
    for (uint32_t i = 0; i < piece->n_shards; i++) {
        struct shard_desc *s = &piece->shards[i];
        const struct shard_desc *mine = shard_map_find(&c->map, s->first_slot);
        if (!mine || !mine->leader || mine->group != s->group)
            continue;
        for (uint32_t k = 0; k < s->n_replicas; k++)
            if (s->replica[k].replica == mine->leader)
                s->leader = mine->leader;
    }
}

enum err route_cache_merge(struct route_cache *c, struct slice raw, bool redirect, bool *changed)
{
    static const uint8_t none[16];
    struct shard_map piece;
    enum err e = msg_map_decode(raw, &piece);
    if (e != ERR_OK)
        return e;
    bool known = memcmp(c->map.cluster, none, 16) != 0;
    bool told = memcmp(piece.cluster, none, 16) != 0;
    if (known && told && memcmp(c->map.cluster, piece.cluster, 16) != 0) {
        shard_map_close(&piece);
        return ERR_FOREIGN;
    }
    if (!redirect)
        keep_leaders(c, &piece);
    bool any = shard_map_merge(&c->map, &piece);
    if (!known && told)
        memcpy(c->map.cluster, piece.cluster, 16);
    shard_map_close(&piece);
    if (changed)
        *changed = any;
    return ERR_OK;
}
