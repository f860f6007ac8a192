/* The map as clients get it: the state's map with the leader hints of liveness, encoded once and
 * handed to many; and the pieces that watchers get.
 *
 * On the leader of placementd the hints are those of the last reports. Followers have no reports
 * and give no hint: clients then start with the first replica, which the layout prefers as
 * leader, and follow redirects. A changed hint does not change the version: watchers get the
 * shard again with the same epoch.
 *
 * Owner: struct server.  Thread: the loop.  Depends on: cluster, liveness, wire/msg_map. */
#ifndef PLACEMENTD_MAP_VIEW_H
#define PLACEMENTD_MAP_VIEW_H

#include "placementd/cluster.h"
#include "placementd/liveness.h"

/* More changed shards than this, and the whole map is sent. */
#define MAP_VIEW_PIECE_MAX 64u

struct map_view {
    struct buf whole; /* msg_map_encode() of all; n == 0: to be made */
    bool all;         /* changes since the last piece are not listed: send all */
    uint32_t n_groups, n_nodes;
    uint64_t groups[MAP_VIEW_PIECE_MAX];
    uint32_t nodes[MAP_VIEW_PIECE_MAX];
};

void map_view_init(struct map_view *v);
void map_view_close(struct map_view *v);

void map_view_group(struct map_view *v, uint64_t group); /* it or its hint changed */
void map_view_node(struct map_view *v, uint32_t node);
void map_view_all(struct map_view *v);
bool map_view_changed(const struct map_view *v);

/* The encoded map; borrowed until the next change. `l` may be NULL: no hints. */
struct slice map_view_get(struct map_view *v, const struct cluster *c, const struct liveness *l);
/* Appends what changed since the last call as one map value, and forgets it. */
void map_view_take_piece(struct map_view *v, const struct cluster *c, const struct liveness *l,
                         struct buf *out);
void map_view_forget(struct map_view *v); /* the changes; nobody watches */

#endif
