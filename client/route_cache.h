/* slot -> (node, core, address): the shard map with what redirects and failures taught.
 *
 * The map is a hint; what is wrong in it costs a redirect, never a wrong answer.
 *
 * Beside it, of groups that told: the time by their log, which is ahead of the nodes' clocks if a
 * leader's clock was once. It may stand still until they have caught up, or run.
 * Owner: client_core.  Thread: none of its own.  Depends on: meta, wire/msg_map. */
#ifndef CLIENT_ROUTE_CACHE_H
#define CLIENT_ROUTE_CACHE_H

#include "common/base/map.h"
#include "common/meta/shard_map.h"

struct route_cache {
    struct shard_map map;
    struct map times; /* group -> struct group_time, owned; at most ROUTE_TIMES_MAX */
};
#define ROUTE_TIMES_MAX 4096u

struct route {
    uint64_t group;
    uint32_t node;
    uint16_t core; /* which core of the node serves the group */
    struct shard_epoch epoch;
    const char *addr; /* borrowed until the cache changes */
    bool leader;      /* the node is thought to lead; otherwise it is one to ask */
};

void route_cache_init(struct route_cache *c);
void route_cache_close(struct route_cache *c);
/* Where to send a request for `slot`. Without a known leader, or with `avoid` set to that of the
 * leader, one of the other voters: `turn` picks it, so that tries in a row ask each.
 * ERR_NOT_READY: no shard of that slot is known; ERR_NO_LEADER: no usable replica. */
MUST_USE enum err route_cache_find(const struct route_cache *c, uint16_t slot, uint32_t avoid,
                                   unsigned turn, struct route *out);
/* The i-th replica of a shard of the map, whatever it does. False: its node has no address. */
bool route_cache_replica(const struct route_cache *c, const struct shard_desc *s, uint32_t i,
                         struct route *out);
/* `node` is said to lead the shard of `slot`. False if the map has no such replica. */
bool route_cache_learn_leader(struct route_cache *c, uint16_t slot, uint32_t node);
/* `node` does not lead the shard of `slot`, or cannot be reached. */
void route_cache_forget_leader(struct route_cache *c, uint16_t slot, uint32_t node);
/* `node` is lost: it leads nothing any more, as far as we know. O(shards). */
void route_cache_forget_node(struct route_cache *c, uint32_t node);
/* The log of the shard of `slot` is at this time. (An absurd one is ignored.) */
void route_cache_saw_time(struct route_cache *c, uint16_t slot, uint64_t time_ms, uint64_t now);
/* Where it may be by now: what it was, and the time that has passed since, but of that `most_ms` at
 * most. 0: it did not tell. */
uint64_t route_cache_time(const struct route_cache *c, uint16_t slot, uint64_t most_ms,
                          uint64_t now);
/* Takes a map or a piece of one off the wire (untrusted, skimmed). What it says of leaders counts
 * only where we know none, unless `redirect`: a node that we asked has sent it, and its word is
 * newer than placementd's, which hears of leaders by heartbeats. ERR_BAD_REQUEST; ERR_FOREIGN: it
 * is of another cluster. *changed may be NULL. */
MUST_USE enum err route_cache_merge(struct route_cache *c, struct slice raw, bool redirect,
                                    bool *changed);

#endif
