/* A model of nodes that carry out the driver's orders, in simulated time: reports and orders may be
 * lost or late, nodes dead, copies stuck.
 *
 * The model checks each order as a node would (epoch, leadership) and, as no node can, that it is
 * safe: a listed replica is never destroyed, a range never has two owners, OWN only after all
 * copies are complete, and never after ABORT.
 *
 * Owner: the test.  Thread: the test's.  Depends on: driver, heartbeat, operator. */
#ifndef UNIT_PLACEMENTD_DRIVER_MODEL_H
#define UNIT_PLACEMENTD_DRIVER_MODEL_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/raft/group.h"
#include "placementd/driver.h"
#include "placementd/heartbeat.h"
#include "placementd/operator.h"

#define NODES 7u
#define GROUPS 40u
#define HELD 400u
#define MS NS_PER_MS
#define BEGIN (1000 * NS_PER_S)

struct real_group {
    struct shard_desc desc; /* leader: the real one */
    bool gone;              /* merged away */
    uint64_t term;
    uint8_t phase;
    uint64_t merge;
    uint64_t last_op; /* the highest merge that it has ended */
};

struct real_replica {
    uint64_t group, replica;
    uint32_t node;
    bool standby_ready;
    unsigned filled; /* percent */
    uint8_t copy;
};

struct command {
    struct buf bytes;
    uint64_t index;
};

/* An answer that is still on its way. */
struct late {
    uint32_t node;
    uint64_t when;
    struct msg_step step;
};

struct world {
    struct cluster c;
    struct liveness l;
    struct driver d;
    struct rng rng;
    uint64_t now, index;
    struct real_group group[GROUPS];
    uint32_t n_groups;
    struct real_replica held[HELD];
    uint32_t n_held;
    bool dead[NODES + 1];
    struct command log[4096];
    uint32_t n_log, applied;
    unsigned drop_percent; /* of reports */
    unsigned late_percent; /* of orders */
    struct late late[256];
    uint32_t n_late;
    bool no_catch_up, no_copy, refuse_own;
};

static inline enum err on_propose(void *arg, const struct cluster_command *cmd, uint64_t *index,
                                  uint64_t *term)
{
    struct world *w = arg;
    ck_assert_uint_lt(w->n_log, 4096);
    struct command *c = &w->log[w->n_log++];
    cluster_command_encode(cmd, &c->bytes);
    *index = c->index = ++w->index;
    *term = 1;
    return ERR_OK;
}

static inline void propose_report(void *arg, const struct cluster_command *cmd)
{
    uint64_t index, term;
    ck_assert_int_eq(on_propose(arg, cmd, &index, &term), ERR_OK);
}

static inline struct driver_moment moment(const struct world *w)
{
    return (struct driver_moment){&w->c, &w->l, w->now, w->now / MS};
}

/* ---- what is true ---- */

static inline struct real_group *real(struct world *w, uint64_t id)
{
    for (uint32_t i = 0; i < w->n_groups; i++)
        if (w->group[i].desc.group == id)
            return &w->group[i];
    return NULL;
}

static inline struct real_replica *held_by(struct world *w, uint32_t node, uint64_t group)
{
    for (uint32_t i = 0; i < w->n_held; i++)
        if (w->held[i].node == node && w->held[i].group == group)
            return &w->held[i];
    return NULL;
}

static inline int listed(const struct real_group *g, uint64_t replica)
{
    for (uint32_t i = 0; i < g->desc.n_replicas; i++)
        if (g->desc.replica[i].replica == replica)
            return (int)i;
    return -1;
}

static inline void hold(struct world *w, uint32_t node, uint64_t group, uint64_t replica)
{
    ck_assert_uint_lt(w->n_held, HELD);
    w->held[w->n_held++] = (struct real_replica){.group = group, .replica = replica, .node = node};
}

/* One owner at most of every slot; the map has exactly one group for each. */
static inline void check_owners(struct world *w)
{
    static uint8_t owners[LIMIT_SLOTS + 1], mapped[LIMIT_SLOTS + 1];
    memset(owners, 0, sizeof(owners));
    memset(mapped, 0, sizeof(mapped));
    for (uint32_t i = 0; i < w->n_groups; i++) {
        const struct real_group *g = &w->group[i];
        for (uint32_t s = g->desc.first_slot; !g->gone && s <= g->desc.last_slot; s++)
            owners[s] = (uint8_t)(owners[s] + (g->phase != SHARD_PHASE_FROZEN));
    }
    for (uint32_t i = 0; i < w->c.n_groups; i++)
        for (uint32_t s = w->c.groups[i].desc.first_slot; s <= w->c.groups[i].desc.last_slot; s++)
            mapped[s]++;
    unsigned bad = LIMIT_SLOTS; /* an assertion a slot would take minutes */
    for (uint32_t s = 0; s < LIMIT_SLOTS; s++)
        if (owners[s] > 1 || mapped[s] != 1)
            bad = s;
    ck_assert_msg(bad == LIMIT_SLOTS, "slot %u: %u owners, %u times in the map", bad, owners[bad],
                  mapped[bad]);
}

static inline unsigned voters_up(const struct world *w, const struct real_group *g,
                                 unsigned *voters)
{
    unsigned up = 0;
    *voters = 0;
    for (uint32_t i = 0; i < g->desc.n_replicas; i++) {
        if (g->desc.replica[i].role != GROUP_VOTER)
            continue;
        ++*voters;
        up += !w->dead[g->desc.replica[i].node];
    }
    return up;
}

/* A dead leader is replaced by the next voter that is up, if there is a majority. */
static inline void elect(struct world *w)
{
    for (uint32_t i = 0; i < w->n_groups; i++) {
        struct real_group *g = &w->group[i];
        int at = listed(g, g->desc.leader);
        unsigned voters, up = voters_up(w, g, &voters);
        if (g->gone || (at >= 0 && !w->dead[g->desc.replica[at].node]))
            continue;
        g->desc.leader = 0;
        for (uint32_t k = 0; k < g->desc.n_replicas && 2 * up > voters; k++)
            if (g->desc.replica[k].role == GROUP_VOTER && !w->dead[g->desc.replica[k].node]) {
                g->desc.leader = g->desc.replica[k].replica;
                g->term++;
                break;
            }
    }
}

/* ---- orders ---- */

static inline void do_create(struct world *w, uint32_t node, const struct msg_step *s)
{
    if (held_by(w, node, s->shard.group))
        return;
    bool twice = false;
    for (uint32_t i = 0; i < w->n_held; i++)
        twice = twice || w->held[i].replica == s->replica;
    ck_assert_msg(!twice, "replica %u made twice", (unsigned)s->replica);
    hold(w, node, s->shard.group, s->replica);
}

static inline void do_destroy(struct world *w, uint32_t node, const struct msg_step *s)
{
    struct real_replica *r = held_by(w, node, s->shard.group);
    struct real_group *g = real(w, s->shard.group);
    if (!r || r->replica != s->replica)
        return;
    ck_assert_msg(!g || g->gone || listed(g, s->replica) < 0, "a listed replica is destroyed");
    *r = w->held[--w->n_held];
}

static inline void do_add(struct world *w, struct real_group *g, const struct msg_step *s)
{
    struct real_replica *r = held_by(w, s->node, g->desc.group);
    if (listed(g, s->replica) >= 0)
        return;
    /* An answer that comes late may list a standby that was destroyed meanwhile. */
    ck_assert_msg(w->late_percent || (r && r->replica == s->replica), "a standby not there");
    ck_assert_uint_lt(g->desc.n_replicas, LIMIT_GROUP_MEMBERS);
    g->desc.replica[g->desc.n_replicas++] =
        (struct shard_replica){s->replica, s->node, GROUP_STANDBY};
    g->desc.epoch.members++;
}

static inline void do_promote(struct world *w, struct real_group *g, const struct msg_step *s)
{
    int at = listed(g, s->replica);
    ck_assert_int_ge(at, 0);
    struct real_replica *r = held_by(w, g->desc.replica[at].node, g->desc.group);
    if (!r || r->filled < 100 || g->desc.replica[at].role == GROUP_VOTER)
        return;
    g->desc.replica[at].role = GROUP_VOTER;
    g->desc.epoch.members++;
}

static inline void do_remove(struct world *w, struct real_group *g, const struct msg_step *s)
{
    int at = listed(g, s->replica);
    unsigned voters;
    if (at < 0)
        return;
    if (g->desc.leader == s->replica) {
        for (uint32_t i = 0; i < g->desc.n_replicas; i++)
            if (g->desc.replica[i].role == GROUP_VOTER && (int)i != at &&
                !w->dead[g->desc.replica[i].node])
                g->desc.leader = g->desc.replica[i].replica;
        g->term++;
        return; /* the new leader gets the order */
    }
    memmove(&g->desc.replica[at], &g->desc.replica[at + 1],
            (g->desc.n_replicas - (unsigned)at - 1) * sizeof(g->desc.replica[0]));
    g->desc.n_replicas--;
    g->desc.epoch.members++;
    voters_up(w, g, &voters);
    ck_assert_uint_ge(voters, 1);
}

static inline void do_split(struct world *w, struct real_group *g, const struct msg_step *s)
{
    if (g->phase != SHARD_PHASE_NONE || s->other.last_slot != g->desc.last_slot)
        return;
    ck_assert_uint_eq(s->other.n_replicas, g->desc.n_replicas);
    ck_assert_uint_eq(s->other.epoch.range, g->desc.epoch.range + 1);
    struct real_group *child = &w->group[w->n_groups++];
    ck_assert_uint_le(w->n_groups, GROUPS);
    *child = (struct real_group){.desc = s->other, .term = 1};
    for (uint32_t i = 0; i < s->other.n_replicas; i++) {
        ck_assert_uint_eq(s->other.replica[i].node, g->desc.replica[i].node);
        if (g->desc.replica[i].replica == g->desc.leader)
            child->desc.leader = s->other.replica[i].replica;
        hold(w, s->other.replica[i].node, s->other.group, s->other.replica[i].replica);
        w->held[w->n_held - 1].filled = 100;
    }
    g->desc.last_slot = (uint16_t)(s->other.first_slot - 1);
    g->desc.epoch.range++;
}

static inline void set_copies(struct world *w, const struct real_group *g, uint8_t copy)
{
    for (uint32_t i = 0; i < w->n_held; i++)
        if (w->held[i].group == g->desc.group)
            w->held[i].copy = copy;
}

static inline bool all_complete(struct world *w, const struct real_group *g)
{
    for (uint32_t i = 0; i < g->desc.n_replicas; i++) {
        struct real_replica *r = held_by(w, g->desc.replica[i].node, g->desc.group);
        if (!r || r->copy != MSG_COPY_COMPLETE)
            return false;
    }
    return true;
}

static inline void do_own(struct world *w, struct real_group *t, struct real_group *s, uint64_t op)
{
    if (t->phase != SHARD_PHASE_TARGET || t->merge != op || w->refuse_own)
        return;
    ck_assert_msg(all_complete(w, t), "OWN before all copies are complete");
    ck_assert_int_eq(s->phase, SHARD_PHASE_FROZEN);
    t->desc.epoch.range =
        (t->desc.epoch.range > s->desc.epoch.range ? t->desc.epoch.range : s->desc.epoch.range) + 1;
    if (s->desc.first_slot < t->desc.first_slot)
        t->desc.first_slot = s->desc.first_slot;
    if (s->desc.last_slot > t->desc.last_slot)
        t->desc.last_slot = s->desc.last_slot;
    t->phase = SHARD_PHASE_NONE;
    t->last_op = op;
    s->gone = true;
}

static inline void do_merge(struct world *w, struct real_group *g, const struct msg_step *s)
{
    struct real_group *other = real(w, s->other.group);
    bool later = s->op > g->last_op && s->op >= g->merge;
    switch (s->kind) {
    case MSG_STEP_MERGE_TARGET:
        if (g->phase == SHARD_PHASE_NONE && later) {
            g->phase = SHARD_PHASE_TARGET;
            g->merge = s->op;
        }
        break;
    case MSG_STEP_MERGE_INTENT:
        if (g->phase == SHARD_PHASE_NONE && later) {
            ck_assert_int_eq(other->phase, SHARD_PHASE_TARGET);
            g->phase = SHARD_PHASE_SOURCE;
            g->merge = s->op;
            set_copies(w, other, MSG_COPY_RUNNING);
        }
        break;
    case MSG_STEP_MERGE_FREEZE:
        if (g->phase == SHARD_PHASE_SOURCE && g->merge == s->op) {
            g->phase = SHARD_PHASE_FROZEN;
            g->desc.epoch.range++;
        }
        break;
    case MSG_STEP_MERGE_OWN:
        do_own(w, g, other, s->op);
        break;
    case MSG_STEP_MERGE_ABORT:
        if (g->last_op < s->op) {
            g->phase = SHARD_PHASE_NONE;
            g->merge = g->last_op = s->op;
            set_copies(w, g, MSG_COPY_NONE);
        }
        break;
    case MSG_STEP_MERGE_UNFREEZE:
        ck_assert_msg(other->last_op >= s->op, "UNFREEZE before ABORT");
        if (g->last_op < s->op) {
            g->phase = SHARD_PHASE_NONE;
            g->merge = g->last_op = s->op;
            g->desc.epoch.range++;
        }
        break;
    }
}

static inline void carry_out(struct world *w, uint32_t node, const struct msg_step *s)
{
    if (s->kind == MSG_STEP_CREATE_REPLICA) {
        do_create(w, node, s);
        return;
    }
    if (s->kind == MSG_STEP_DESTROY_REPLICA) {
        do_destroy(w, node, s);
        return;
    }
    struct real_group *g = real(w, s->shard.group);
    struct real_replica *r = held_by(w, node, s->shard.group);
    if (!g || g->gone || !r || g->desc.leader != r->replica ||
        g->desc.epoch.range != s->shard.epoch.range ||
        g->desc.epoch.members != s->shard.epoch.members)
        return;
    if (s->kind == MSG_STEP_ADD_STANDBY)
        do_add(w, g, s);
    else if (s->kind == MSG_STEP_PROMOTE)
        do_promote(w, g, s);
    else if (s->kind == MSG_STEP_REMOVE)
        do_remove(w, g, s);
    else if (s->kind == MSG_STEP_TRANSFER && s->replica != g->desc.leader &&
             listed(g, s->replica) >= 0) {
        if (!w->dead[g->desc.replica[listed(g, s->replica)].node]) {
            g->desc.leader = s->replica;
            g->term++;
        }
    } else if (s->kind == MSG_STEP_SPLIT)
        do_split(w, g, s);
    else if (s->kind >= MSG_STEP_MERGE_TARGET)
        do_merge(w, g, s);
}

#endif
