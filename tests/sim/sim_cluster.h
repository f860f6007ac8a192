/* The operator's client at random, and what must hold of a cluster that placementd runs.
 *
 * The client picks a node, group or operator from what a placementd member knows at the moment and
 * asks for something, sensible or not: refusals are answers too.
 *
 * In peace: every slot has one group, in placementd's map and in the shards' own states alike; each
 * group has its voters on as many machines, all running, none in the middle of anything; no
 * operator is left; no node holds a replica, a directory, a copy or marks that the map does not
 * account for; no log is held by a group that is gone. At any moment no two replicas that lead may
 * serve a slot.
 *
 * Owner: full_world.c.  Depends on: sim_placement, sim_admin, sim_shardd. */
#ifndef SIM_SIM_CLUSTER_H
#define SIM_SIM_CLUSTER_H

#include "placementd/cluster.h"
#include "tests/sim/scenario.h"
#include "tests/sim/sim_admin.h"
#include "tests/sim/sim_shardd.h"

struct replica;
struct sim_host;

struct sim_cluster_ops {
    struct sim_shardd *(*shardd)(unsigned host); /* NULL: not up */
    void (*ask)(const struct sim_ask *q);
    void (*start)(struct sim_host *h);
};
void sim_cluster_init(const struct scenario *s, const struct sim_cluster_ops *ops);
/* Something at random. */
void sim_cluster_act(struct sim_admin *a);
/* Two neighbours, in place of what sim_merge.h does by hand. */
void sim_cluster_merge(void);
/* Every replica, often, and then every replica again: data goes only after the group has let the
 * replica go. */
void sim_cluster_watch(const struct replica *r);
void sim_cluster_check(struct replica *r);
/* The faults are over: all nodes take part again. */
void sim_cluster_settle(void);
/* Nothing new begins from here on, but repair. */
void sim_cluster_rest(void);
void sim_cluster_judge(void);
/* Operators that ended, by kind and enum cluster_end, as the members' states tell. */
unsigned sim_cluster_ended(unsigned kind, unsigned end);

#endif
