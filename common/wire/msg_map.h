/* The shard map on the wire: results of map.get, notifications of map.watch, pieces in redirects.
 *
 *   map.get    [{"have":version}?]  -> map, or nil if `have` is the newest
 *   map.watch  [{"have":version}?]  -> map (or nil); then a notification [2,"map.changed",[piece]]
 *                                      on this connection for every change
 *   map        {"cluster":bin16, "version":n, "shards":[[group, first, last, [range, members],
 *               leader, [[replica, node, role]...]]...], "nodes":[[node, name, zone, host, client,
 *               peer, cores]...]}
 * Trailing elements of the inner arrays that a reader does not know are skipped.
 * Thread: any, pure.  Depends on: meta/shard_map, mp. */
#ifndef WIRE_MSG_MAP_H
#define WIRE_MSG_MAP_H

#include "common/meta/shard_map.h"
#include "common/wire/mp.h"

/* Appends one MessagePack value. */
void msg_map_encode(struct buf *b, const struct shard_map *m);
/* Untrusted, skimmed: exactly one value. ERR_BAD_REQUEST on anything malformed, out of range or
 * overlapping. Initialises *out on success only. */
MUST_USE enum err msg_map_decode(struct slice raw, struct shard_map *out);

/* Its parts, as other messages have them, too: an epoch, a shard. */
void msg_map_put_epoch(struct buf *b, struct shard_epoch e);
void msg_map_get_epoch(struct mp_reader *r, struct shard_epoch *e);
void msg_map_put_shard(struct buf *b, const struct shard_desc *s);
void msg_map_get_shard(struct mp_reader *r, struct shard_desc *s);

#endif
