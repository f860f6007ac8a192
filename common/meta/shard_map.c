/* Lookup is a binary search in arrays. A change goes one of two ways: news of a shard that keeps
 * its range (a new leader, a new replica: nearly all changes) are written in place; everything else
 * is painted: each of the 16384 slots takes the newer of its two candidates, and runs of slots with
 * one owner become the new array. Painting knows no special cases (split, merge, a piece that
 * lands in the middle of another), and costs some tens of microseconds. */
#include "common/meta/shard_map.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/map.h"
#include "common/base/mem.h"

void shard_map_init(struct shard_map *m)
{
    *m = (struct shard_map){0};
}

void shard_map_close(struct shard_map *m)
{
    free(m->shards);
    free(m->nodes);
    *m = (struct shard_map){0};
}

void shard_map_copy(struct shard_map *to, const struct shard_map *from)
{
    *to = *from;
    to->shards = NULL;
    to->nodes = NULL;
    if (from->n_shards)
        to->shards = mem_dup(from->shards, from->n_shards * sizeof(*from->shards));
    if (from->n_nodes)
        to->nodes = mem_dup(from->nodes, from->n_nodes * sizeof(*from->nodes));
}

/* Index of the last shard that begins at or before the slot; n_shards if there is none. */
static uint32_t shard_index(const struct shard_map *m, uint16_t slot)
{
    uint32_t lo = 0, hi = m->n_shards;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (m->shards[mid].first_slot <= slot)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo ? lo - 1 : m->n_shards;
}

const struct shard_desc *shard_map_find(const struct shard_map *m, uint16_t slot)
{
    uint32_t i = shard_index(m, slot);
    if (i == m->n_shards || slot > m->shards[i].last_slot)
        return NULL;
    return &m->shards[i];
}

const struct shard_desc *shard_map_find_group(const struct shard_map *m, uint64_t group)
{
    for (uint32_t i = 0; i < m->n_shards; i++)
        if (m->shards[i].group == group)
            return &m->shards[i];
    return NULL;
}

/* Index of the node, or of where it would stand. */
static uint32_t node_index(const struct shard_map *m, uint32_t node)
{
    uint32_t lo = 0, hi = m->n_nodes;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (m->nodes[mid].node < node)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

const struct shard_node *shard_map_find_node(const struct shard_map *m, uint32_t node)
{
    uint32_t i = node_index(m, node);
    return i < m->n_nodes && m->nodes[i].node == node ? &m->nodes[i] : NULL;
}

static bool epoch_eq(struct shard_epoch a, struct shard_epoch b)
{
    return a.range == b.range && a.members == b.members;
}

/* Field by field: the structs have padding. */
static bool desc_eq(const struct shard_desc *a, const struct shard_desc *b)
{
    if (a->group != b->group || a->first_slot != b->first_slot || a->last_slot != b->last_slot ||
        !epoch_eq(a->epoch, b->epoch) || a->leader != b->leader || a->n_replicas != b->n_replicas)
        return false;
    for (uint32_t i = 0; i < a->n_replicas; i++)
        if (a->replica[i].replica != b->replica[i].replica ||
            a->replica[i].node != b->replica[i].node || a->replica[i].role != b->replica[i].role)
            return false;
    return true;
}

static bool node_eq(const struct shard_node *a, const struct shard_node *b)
{
    return a->node == b->node && a->cores == b->cores && strcmp(a->name, b->name) == 0 &&
           strcmp(a->zone, b->zone) == 0 && strcmp(a->host, b->host) == 0 &&
           strcmp(a->client_addr, b->client_addr) == 0 && strcmp(a->peer_addr, b->peer_addr) == 0;
}

static void desc_check(const struct shard_desc *s)
{
    CHECK(s->first_slot <= s->last_slot);
    CHECK(s->last_slot < LIMIT_SLOTS);
    CHECK(s->n_replicas <= LIMIT_GROUP_MEMBERS);
}

/* `s` with the leader of `old` where `s` knows none of the same epoch. */
static struct shard_desc desc_with_leader(const struct shard_desc *s, const struct shard_desc *old)
{
    struct shard_desc d = *s;
    if (d.leader == 0 && epoch_eq(d.epoch, old->epoch))
        d.leader = old->leader;
    return d;
}

/* The newest description of every group in both arrays; of equal ones the piece's. */
static void newest_by_group(struct map *by_group, const struct shard_map *m,
                            const struct shard_desc *piece, uint32_t n)
{
    map_init(by_group);
    for (uint32_t i = 0; i < m->n_shards; i++) {
        const struct shard_desc *old = map_find(by_group, m->shards[i].group);
        if (!old || shard_epoch_less(old->epoch, m->shards[i].epoch))
            map_set(by_group, m->shards[i].group, &m->shards[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct shard_desc *old = map_find(by_group, piece[i].group);
        if (!old || !shard_epoch_less(piece[i].epoch, old->epoch))
            map_set(by_group, piece[i].group, (void *)(uintptr_t)&piece[i]);
    }
}

/* Lets every shard of the array that is its group's newest claim its slots. */
static void paint(const struct shard_desc **owner, const struct map *by_group,
                  const struct shard_desc *shards, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct shard_desc *s = &shards[i];
        const struct shard_desc *newest = map_find(by_group, s->group);
        if (!epoch_eq(s->epoch, newest->epoch))
            continue;
        for (uint32_t slot = s->first_slot; slot <= s->last_slot; slot++)
            if (!owner[slot] || !shard_epoch_less(s->epoch, owner[slot]->epoch))
                owner[slot] = newest;
    }
}

/* Runs of slots with the same owner, as an array of shards with the runs' ranges. */
static struct shard_desc *gather_runs(const struct shard_desc **owner, uint32_t *n)
{
    uint32_t runs = 0;
    for (uint32_t slot = 0; slot < LIMIT_SLOTS; slot++)
        runs += owner[slot] && (slot == 0 || owner[slot - 1] != owner[slot]);
    struct shard_desc *out = mem_alloc(runs * sizeof(*out));
    uint32_t k = 0;
    for (uint32_t slot = 0; slot < LIMIT_SLOTS; slot++) {
        if (!owner[slot])
            continue;
        if (slot == 0 || owner[slot - 1] != owner[slot]) {
            out[k] = *owner[slot];
            out[k++].first_slot = (uint16_t)slot;
        }
        out[k - 1].last_slot = (uint16_t)slot;
    }
    CHECK(k == runs);
    *n = runs;
    return out;
}

/* An owner without a leader takes the leader the map knew for that group and epoch. */
static void keep_leaders(struct shard_desc *shards, uint32_t n, const struct shard_map *m)
{
    struct map known;
    map_init(&known);
    for (uint32_t i = 0; i < m->n_shards; i++)
        map_set(&known, m->shards[i].group, &m->shards[i]);
    for (uint32_t i = 0; i < n; i++) {
        const struct shard_desc *old = map_find(&known, shards[i].group);
        if (old)
            shards[i] = desc_with_leader(&shards[i], old);
    }
    map_close(&known);
}

static bool put_shards_painting(struct shard_map *m, const struct shard_desc *piece, uint32_t n)
{
    struct map by_group;
    newest_by_group(&by_group, m, piece, n);
    const struct shard_desc **owner = mem_zalloc(LIMIT_SLOTS * sizeof(*owner));
    paint(owner, &by_group, m->shards, m->n_shards);
    paint(owner, &by_group, piece, n);
    uint32_t n_new;
    struct shard_desc *shards = gather_runs(owner, &n_new);
    keep_leaders(shards, n_new, m);
    free(owner);
    map_close(&by_group);

    bool changed = n_new != m->n_shards;
    for (uint32_t i = 0; i < n_new && !changed; i++)
        changed = !desc_eq(&shards[i], &m->shards[i]);
    free(m->shards);
    m->shards = shards;
    m->n_shards = n_new;
    return changed;
}

bool shard_map_put_shard(struct shard_map *m, const struct shard_desc *s)
{
    desc_check(s);
    uint32_t i = shard_index(m, s->first_slot);
    if (i < m->n_shards) {
        struct shard_desc *old = &m->shards[i];
        if (old->group == s->group && old->epoch.range == s->epoch.range &&
            old->first_slot == s->first_slot && old->last_slot == s->last_slot) {
            if (shard_epoch_less(s->epoch, old->epoch))
                return false;
            struct shard_desc d = desc_with_leader(s, old);
            bool changed = !desc_eq(&d, old);
            *old = d;
            return changed;
        }
    }
    return put_shards_painting(m, s, 1);
}

bool shard_map_put_node(struct shard_map *m, const struct shard_node *n)
{
    uint32_t i = node_index(m, n->node);
    if (i < m->n_nodes && m->nodes[i].node == n->node) {
        if (node_eq(&m->nodes[i], n))
            return false;
        m->nodes[i] = *n;
        return true;
    }
    if (m->n_nodes == LIMIT_NODES) /* a client that merges whatever servers say stays bounded */
        return false;
    m->nodes = mem_realloc(m->nodes, (m->n_nodes + 1) * sizeof(*m->nodes));
    memmove(&m->nodes[i + 1], &m->nodes[i], (m->n_nodes - i) * sizeof(*m->nodes));
    m->nodes[i] = *n;
    m->n_nodes++;
    return true;
}

/* Takes the piece's cluster if the map has none yet. False: they are different clusters. */
static bool same_cluster(struct shard_map *m, const struct shard_map *piece)
{
    static const uint8_t none[sizeof(m->cluster)];
    if (memcmp(piece->cluster, none, sizeof(none)) == 0)
        return true;
    if (memcmp(m->cluster, none, sizeof(none)) == 0)
        memcpy(m->cluster, piece->cluster, sizeof(none));
    return memcmp(m->cluster, piece->cluster, sizeof(none)) == 0;
}

bool shard_map_merge(struct shard_map *m, const struct shard_map *piece)
{
    if (!same_cluster(m, piece))
        return false;
    bool changed = false;
    if (piece->n_shards == 1) {
        changed = shard_map_put_shard(m, &piece->shards[0]);
    } else if (piece->n_shards > 1) {
        for (uint32_t i = 0; i < piece->n_shards; i++)
            desc_check(&piece->shards[i]);
        changed = put_shards_painting(m, piece->shards, piece->n_shards);
    }
    for (uint32_t i = 0; i < piece->n_nodes; i++) {
        const struct shard_node *n = &piece->nodes[i];
        if (piece->version >= m->version || !shard_map_find_node(m, n->node))
            changed |= shard_map_put_node(m, n);
    }
    if (piece->version > m->version) {
        m->version = piece->version;
        changed = true;
    }
    return changed;
}

void shard_map_piece(const struct shard_map *m, const struct shard_desc *s, struct shard_map *out)
{
    desc_check(s);
    struct shard_map piece = {0};
    memcpy(piece.cluster, m->cluster, sizeof(piece.cluster));
    piece.shards = mem_dup(s, sizeof(*s));
    piece.n_shards = 1;
    for (uint32_t i = 0; i < s->n_replicas; i++) {
        const struct shard_node *n = shard_map_find_node(m, s->replica[i].node);
        if (n)
            shard_map_put_node(&piece, n);
    }
    *out = piece;
}
