/* What is looked up often in the cluster's state: the groups of a node, the operator of a group,
 * the operators that wait for a node. A heartbeat costs what the node holds, not what the cluster
 * holds.
 *
 * Derived from the state, made anew when first asked for after a change; never encoded. Positions
 * are those in c->groups and c->operators and good until the next change of the state. Whoever
 * changes members of a group or a step under way in place says so (..._changed).
 *
 * Owner: struct cluster.  Thread: the loop.  Depends on: cluster. */
#ifndef PLACEMENTD_CLUSTER_INDEX_H
#define PLACEMENTD_CLUSTER_INDEX_H

#include "placementd/cluster.h"

struct cluster_index *cluster_index_create(void);
void cluster_index_destroy(struct cluster_index *x); /* takes NULL */
void cluster_index_groups_changed(struct cluster *c);
void cluster_index_operators_changed(struct cluster *c);

/* Positions of the groups that have a replica on the node, ascending. */
const uint32_t *cluster_groups_of(const struct cluster *c, uint32_t node, uint32_t *n);
/* How many replicas are listed on it. */
uint32_t cluster_replicas_on(const struct cluster *c, uint32_t node);
/* Positions of the operators under way (not queued) whose step names the node, ascending. */
const uint32_t *cluster_operators_at(const struct cluster *c, uint32_t node, uint32_t *n);

#endif
