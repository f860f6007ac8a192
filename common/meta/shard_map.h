/* The shard map: which group owns which slots, where its replicas are, and the nodes' addresses.
 *
 * A hint for clients and a plan for nodes; ownership is decided by the shards' own replicated
 * state. Versions grow with each change; each shard has an epoch of its own. The
 * encoding is wire/msg_map.h.
 *
 * Owner: the holder.  Thread: none of its own.  Depends on: base. */
#ifndef META_SHARD_MAP_H
#define META_SHARD_MAP_H

#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/base/slice.h"

/* Epoch of a shard: range changes first, then membership changes. */
struct shard_epoch {
    uint32_t range, members;
};
static inline bool shard_epoch_less(struct shard_epoch a, struct shard_epoch b)
{
    return a.range != b.range ? a.range < b.range : a.members < b.members;
}

/* Where a shard stands in a merge. */
enum shard_phase {
    SHARD_PHASE_NONE = 0,
    SHARD_PHASE_TARGET = 1, /* takes in the range of another */
    SHARD_PHASE_SOURCE = 2, /* serves on, and marks what changes */
    SHARD_PHASE_FROZEN = 3, /* serves nothing any more */
};

struct shard_replica {
    uint64_t replica;
    uint32_t node;
    uint8_t role; /* enum group_role: 0 standby, 1 voter, 2 spare */
};

struct shard_desc {
    uint64_t group;
    uint16_t first_slot, last_slot; /* inclusive */
    struct shard_epoch epoch;
    uint64_t leader; /* replica id; 0: not known. A hint */
    uint32_t n_replicas;
    struct shard_replica replica[LIMIT_GROUP_MEMBERS];
};

struct shard_node {
    uint32_t node;
    char name[LIMIT_NAME + 1];
    char zone[LIMIT_NAME + 1];
    char host[LIMIT_NAME + 1];
    char client_addr[64]; /* "ip:port" */
    char peer_addr[64];
    uint16_t cores;
};

struct shard_map {
    uint8_t cluster[16];
    uint64_t version;
    uint32_t n_shards, n_nodes;
    struct shard_desc *shards; /* ascending first_slot, never overlapping */
    struct shard_node *nodes;  /* ascending node */
};

void shard_map_init(struct shard_map *m);
void shard_map_close(struct shard_map *m);
/* `to` holds nothing before: not initialised, or empty. */
void shard_map_copy(struct shard_map *to, const struct shard_map *from);
/* NULL if no shard owns the slot. O(log n). */
const struct shard_desc *shard_map_find(const struct shard_map *m, uint16_t slot);
const struct shard_desc *shard_map_find_group(const struct shard_map *m, uint64_t group);
const struct shard_node *shard_map_find_node(const struct shard_map *m, uint32_t node);
/* Inserts or replaces. Slot by slot the newer epoch wins, an equal one replaces; a shard that loses
 * part of its range stays with the rest of it, as a hint. Of one group only the newest epoch stays:
 * an older range of the same group goes altogether. `leader` 0 never replaces a known leader of the
 * same epoch. True if anything changed. O(1) + search for news of a known shard, else O(slots). */
bool shard_map_put_shard(struct shard_map *m, const struct shard_desc *s);
bool shard_map_put_node(struct shard_map *m, const struct shard_node *n);
/* Merges a newer piece (a redirect, a delta) by the rules above; the greater version stays. Nodes
 * that both know are replaced unless the piece's version is smaller. A piece of another cluster
 * is refused. True if anything changed. */
bool shard_map_merge(struct shard_map *m, const struct shard_map *piece);

/* A map holding one shard and the nodes of its replicas: what redirects carry. Its version is 0: it
 * must not make a client believe that it has seen all of m's version. *out holds nothing before. */
void shard_map_piece(const struct shard_map *m, const struct shard_desc *s, struct shard_map *out);

#endif
