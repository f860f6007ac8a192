/* Builds the planner's view from the replicated state and what the leader has heard.
 *
 * A group's descriptor is copied, as the leader hint goes into it; names are borrowed from the
 * cluster. Node states: a lost node is DEAD; one that is down is DEAD after down_after_ns, unless
 * it is in maintenance. Costs O(nodes + groups).
 *
 * Owner: the caller.  Thread: the loop.  Depends on: cluster, liveness, plan/view. */
#ifndef PLACEMENTD_PLAN_VIEW_STORE_H
#define PLACEMENTD_PLAN_VIEW_STORE_H

#include "placementd/cluster.h"
#include "placementd/liveness.h"
#include "placementd/plan/view.h"

struct plan_picture {
    struct plan_view view; /* points into what follows and into the cluster */
    struct plan_node *nodes;
    struct plan_group *groups;
    struct shard_desc *descs;
};

/* *out is initialised here; good until the cluster changes. */
void plan_view_build(const struct cluster *c, const struct liveness *l,
                     const struct plan_options *o, uint64_t down_after_ns, uint64_t now,
                     uint64_t now_wall_ms, struct plan_picture *out);
void plan_view_close(struct plan_picture *p);

/* Moves of an operator: a replica comes to a node, or leaves it while it serves. */
struct plan_flow {
    uint32_t in, out;
    uint64_t in_bytes;
};
/* Adds the operator's moves to flow[], one for each node in the order of c->nodes. */
void plan_view_add_flow(const struct cluster *c, const struct cluster_operator *o,
                        struct plan_flow *flow);
/* Those under way; with_queued: also those that wait. Owned by the caller: free(). */
struct plan_flow *plan_view_flows(const struct cluster *c, bool with_queued);

#endif
