/* What the rules of one round share: indexes over the view, the load of each node with everything
 * counted that is under way or proposed in this round, and the one judgement of whether a replica
 * fits on a node.
 *
 * Nodes and groups go by their index in the view. Load of a node: the weight of its replicas, which
 * is their bytes and FIT_REPLICA_WEIGHT each; so a cluster of empty shards is balanced by count and
 * one of large shards by bytes, with no point where it switches from one to the other. Loads are
 * compared per byte of disk and relative to the mean of the nodes that stay: 1.0 is the mean.
 *
 * Owner: the caller of fit_open().  Thread: any, pure.  Depends on: plan/view. */
#ifndef PLACEMENTD_PLAN_FIT_H
#define PLACEMENTD_PLAN_FIT_H

#include "placementd/plan/planner.h"

#define FIT_NONE UINT32_MAX
/* What a replica costs beside its data: its share of the log, of memory, of heartbeats. */
#define FIT_REPLICA_WEIGHT (64 * MIB)
/* What leading a group costs beside its requests, in operations a second. */
#define FIT_LEADER_WEIGHT 100u

struct fit_node {
    uint32_t host, zone; /* the same number: the same label */
    bool stays;          /* it counts in the mean: not dead, not draining, size known */
    bool leads;          /* it may be given leaders */
    int64_t load;        /* of its replicas */
    uint64_t coming;     /* bytes under way into it that its disk_free does not show yet */
    uint32_t in, out;    /* moves under way and proposed */
    uint64_t lead;       /* of the groups it leads */
    uint32_t leaders;
    uint32_t lead_in, lead_out; /* transfers proposed */
    uint32_t splits;            /* proposed for groups it leads */
    uint32_t first, n;          /* its replicas: by_node[first .. first + n) */
};

struct fit {
    const struct plan_view *v;
    struct plan_list *out; /* proposals; borrowed */
    struct fit_node *node; /* owned */
    uint32_t *at;          /* node of replica i of group g: at[g * LIMIT_GROUP_MEMBERS + i] */
    uint32_t *by_node;     /* owned: indexes into `at` */
    bool *taken;           /* groups that are busy or have got an operator in this round; owned */
    uint32_t n_hosts;      /* labels over all nodes */
    uint32_t n_zones;      /* over those that stay */
    uint32_t operators;    /* under way and proposed */
    uint32_t n_groups;     /* splits proposed counted */
    double mean;           /* load per byte of disk of the nodes that stay; 0: nothing known */
    double lead_mean;      /* leader load per node that may lead or leads */
};

/* Why a node may not take a replica. */
enum fit_verdict {
    FIT_OK,
    FIT_UNKNOWN_STATE, /* suspect, down, dead */
    FIT_DRAINING,
    FIT_MAINTENANCE,
    FIT_SIZE, /* its disk is not known yet */
    FIT_DISK,
    FIT_HAS,   /* it has a replica of the group */
    FIT_HOST,  /* its host has one */
    FIT_ZONE,  /* its zone has too many, though there are others */
    FIT_LIMIT, /* enough is under way into it */
};

/* How much a rule insists on zones: those that must act take the best there is. */
enum fit_zones {
    FIT_ZONES_PREFER, /* repair, drain: fewest replicas in the same zone */
    FIT_ZONES_KEEP,   /* balancers: no worse than before */
    FIT_ZONES_BETTER, /* spread: strictly better, in hosts or zones */
};

/* `out` may be NULL if nothing is proposed. */
void fit_open(struct fit *f, const struct plan_view *v, struct plan_list *out);
/* Labels and states of nodes only: enough for fit_judge() with limits off. */
void fit_open_nodes(struct fit *f, const struct plan_view *v);
void fit_close(struct fit *f);

/* Index of a node by id; FIT_NONE. */
uint32_t fit_find(const struct plan_view *v, uint32_t id);
static inline const uint32_t *fit_at(const struct fit *f, uint32_t g)
{
    return &f->at[(size_t)g * LIMIT_GROUP_MEMBERS];
}
uint64_t fit_weight(const struct plan_group *g);        /* of one replica */
uint64_t fit_leader_weight(const struct plan_group *g); /* of leading it */
/* Load relative to the mean, if `add` (or -`sub`) came on top. */
double fit_level(const struct fit *f, uint32_t node, uint64_t add, uint64_t sub);
double fit_lead_level(const struct fit *f, uint32_t node, uint64_t add, uint64_t sub);

/* Is it worth it to bring a node from level b to b_after by taking from one at level a? What is
 * gained at the top must be half of what is carried at least; so the sum of squares of the levels
 * falls with each move, and moves end. */
static inline bool fit_gains(double a, double b, double b_after)
{
    return a - b_after >= (b_after - b) / 2;
}

/* A replica that has to be replaced: dead or unknown node, wiped or broken. */
bool fit_bad(const struct fit *f, uint32_t g, uint32_t i);
/* A voter that can vote at once and knows everything: its node is up and it has caught up. */
bool fit_healthy(const struct fit *f, uint32_t g, uint32_t i);
uint32_t fit_voters(const struct plan_group *g);
uint32_t fit_healthy_voters(const struct fit *f, uint32_t g);
/* A voter may be exchanged for another: added first, for three never become two (libraft refuses),
 * so not one of two. */
bool fit_exchanges(const struct plan_group *g);
/* Healthy voters are a majority. */
bool fit_has_quorum(const struct fit *f, uint32_t g);
/* No operator of its own, a majority, and nothing but healthy voters: fit for balancing. */
bool fit_calm(const struct fit *f, uint32_t g);
/* Index of the leader's replica; -1: not known. */
int fit_leader(const struct plan_group *g);

/* Replicas of the group, but `leaving` (-1: none), on the same host or in the same zone as a node.
 */
struct fit_pairs {
    uint32_t host, zone;
};
struct fit_pairs fit_pairs(const struct fit *f, const struct plan_group *g, const uint32_t *at,
                           int leaving, uint32_t node);
/* May `node` take a replica of the group (NULL: any) in place of `leaving` (-1: of none)? `limits`:
 * the number under way counts too. */
enum fit_verdict fit_judge(const struct fit *f, const struct plan_group *g, const uint32_t *at,
                           int leaving, uint32_t node, bool limits);
/* The verdict in words; "" for FIT_OK. */
void fit_explain(const struct fit *f, enum fit_verdict verdict, const struct plan_group *g,
                 uint32_t node, char *why, size_t n);
/* The best node for a replica: hosts and zones first, then the lowest load. FIT_NONE. */
uint32_t fit_best(const struct fit *f, uint32_t g, int leaving, enum fit_zones zones, bool limits);
/* The best node for repair and drain: FIT_NONE also if a better zone has room but for what is under
 * way there. Better a little later than once more: where a zone lost a node, all that it held would
 * else go to other zones first, and back. */
uint32_t fit_best_soon(const struct fit *f, uint32_t g, int leaving);

bool fit_room(const struct fit *f, bool balancer); /* for one more operator at all */
/* Fills in an operator on replica i (-1: none) of group g going to `to` (FIT_NONE: nowhere). */
struct plan_op fit_op(const struct fit *f, uint8_t kind, uint32_t g, int i, uint32_t to);
/* Appends it and counts it. */
void fit_propose(struct fit *f, uint32_t g, const struct plan_op *op);
const char *fit_name(const struct fit *f, uint32_t node); /* "?" for FIT_NONE */

/* The rules, in the order of a round; each looks at what the earlier ones have proposed. */
void repair_propose(struct fit *f);
void drain_propose(struct fit *f);
void leaders_leave(struct fit *f); /* off draining and suspect nodes */
void spread_propose(struct fit *f);
/* The rule of spread would still move a replica of the group, sooner or later. */
bool spread_wanted(const struct fit *f, uint32_t g);
void leaders_propose(struct fit *f);
void bytes_propose(struct fit *f);
void split_propose(struct fit *f);
/* First slot of the upper half; 0: the range cannot be split. */
uint16_t split_middle(const struct shard_desc *d);
/* The node that should lead the group instead: the least loaded healthy voter's; its index in the
 * group or -1. */
int leaders_best(const struct fit *f, uint32_t g);

#endif
