/* The driver against a model of nodes that carry out orders: every kind of operator, alone and
 * under lost reports, changes of placementd's leader, nodes that go away and come back, cancelling.
 *
 * The model checks each order as a node would (epoch, leadership) and, as no node can, that it is
 * safe: a listed replica is never destroyed, a range never has two owners, OWN only after all
 * copies are complete, and never after ABORT. */
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

static enum err on_propose(void *arg, const struct cluster_command *cmd, uint64_t *index,
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

static void propose_report(void *arg, const struct cluster_command *cmd)
{
    uint64_t index, term;
    ck_assert_int_eq(on_propose(arg, cmd, &index, &term), ERR_OK);
}

static struct driver_moment moment(const struct world *w)
{
    return (struct driver_moment){&w->c, &w->l, w->now, w->now / MS};
}

/* ---- what is true ---- */

static struct real_group *real(struct world *w, uint64_t id)
{
    for (uint32_t i = 0; i < w->n_groups; i++)
        if (w->group[i].desc.group == id)
            return &w->group[i];
    return NULL;
}

static struct real_replica *held_by(struct world *w, uint32_t node, uint64_t group)
{
    for (uint32_t i = 0; i < w->n_held; i++)
        if (w->held[i].node == node && w->held[i].group == group)
            return &w->held[i];
    return NULL;
}

static int listed(const struct real_group *g, uint64_t replica)
{
    for (uint32_t i = 0; i < g->desc.n_replicas; i++)
        if (g->desc.replica[i].replica == replica)
            return (int)i;
    return -1;
}

static void hold(struct world *w, uint32_t node, uint64_t group, uint64_t replica)
{
    ck_assert_uint_lt(w->n_held, HELD);
    w->held[w->n_held++] = (struct real_replica){.group = group, .replica = replica, .node = node};
}

/* One owner at most of every slot; the map has exactly one group for each. */
static void check_owners(struct world *w)
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

static unsigned voters_up(const struct world *w, const struct real_group *g, unsigned *voters)
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
static void elect(struct world *w)
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

static void do_create(struct world *w, uint32_t node, const struct msg_step *s)
{
    if (held_by(w, node, s->shard.group))
        return;
    bool twice = false;
    for (uint32_t i = 0; i < w->n_held; i++)
        twice = twice || w->held[i].replica == s->replica;
    ck_assert_msg(!twice, "replica %u made twice", (unsigned)s->replica);
    hold(w, node, s->shard.group, s->replica);
}

static void do_destroy(struct world *w, uint32_t node, const struct msg_step *s)
{
    struct real_replica *r = held_by(w, node, s->shard.group);
    struct real_group *g = real(w, s->shard.group);
    if (!r || r->replica != s->replica)
        return;
    ck_assert_msg(!g || g->gone || listed(g, s->replica) < 0, "a listed replica is destroyed");
    *r = w->held[--w->n_held];
}

static void do_add(struct world *w, struct real_group *g, const struct msg_step *s)
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

static void do_promote(struct world *w, struct real_group *g, const struct msg_step *s)
{
    int at = listed(g, s->replica);
    ck_assert_int_ge(at, 0);
    struct real_replica *r = held_by(w, g->desc.replica[at].node, g->desc.group);
    if (!r || r->filled < 100 || g->desc.replica[at].role == GROUP_VOTER)
        return;
    g->desc.replica[at].role = GROUP_VOTER;
    g->desc.epoch.members++;
}

static void do_remove(struct world *w, struct real_group *g, const struct msg_step *s)
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

static void do_split(struct world *w, struct real_group *g, const struct msg_step *s)
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

static void set_copies(struct world *w, const struct real_group *g, uint8_t copy)
{
    for (uint32_t i = 0; i < w->n_held; i++)
        if (w->held[i].group == g->desc.group)
            w->held[i].copy = copy;
}

static bool all_complete(struct world *w, const struct real_group *g)
{
    for (uint32_t i = 0; i < g->desc.n_replicas; i++) {
        struct real_replica *r = held_by(w, g->desc.replica[i].node, g->desc.group);
        if (!r || r->copy != MSG_COPY_COMPLETE)
            return false;
    }
    return true;
}

static void do_own(struct world *w, struct real_group *t, struct real_group *s, uint64_t op)
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

static void do_merge(struct world *w, struct real_group *g, const struct msg_step *s)
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

static void carry_out(struct world *w, uint32_t node, const struct msg_step *s)
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

/* ---- time ---- */

static void apply_log(struct world *w)
{
    for (; w->applied < w->n_log; w->applied++) {
        struct command *c = &w->log[w->applied];
        struct cluster_command cmd;
        struct cluster_result r;
        ck_assert_int_eq(cluster_command_decode(buf_slice(&c->bytes), &cmd), ERR_OK);
        cluster_apply(&w->c, &cmd, NULL, &r);
        cluster_command_close(&cmd);
        buf_close(&c->bytes);
        driver_applied(&w->d, c->index);
    }
    w->n_log = w->applied = 0;
}

static void fill_status(struct world *w, const struct real_replica *r, struct msg_group_status *s)
{
    const struct real_group *g = real(w, r->group);
    *s = (struct msg_group_status){.group = r->group, .replica = r->replica, .copy = r->copy};
    if (!g || listed(g, r->replica) < 0 || g->gone)
        return;
    s->role = g->desc.replica[listed(g, r->replica)].role;
    s->term = g->term;
    s->leader = g->desc.leader;
    s->epoch = g->desc.epoch;
    s->first_slot = g->desc.first_slot;
    s->last_slot = g->desc.last_slot;
    s->bytes = 1000;
    s->phase = g->phase;
    s->merge = g->merge;
    if (g->desc.leader != r->replica)
        return;
    s->state = MSG_REPLICA_LEADER;
    s->n_members = g->desc.n_replicas;
    for (uint32_t i = 0; i < s->n_members; i++) {
        const struct shard_replica *m = &g->desc.replica[i];
        const struct real_replica *held = held_by(w, m->node, r->group);
        s->member[i] =
            (struct msg_member_status){m->replica, m->node, m->role, held ? held->filled : 0};
    }
}

static void report(struct world *w, uint32_t node)
{
    static struct msg_step steps[HEARTBEAT_STEPS_MAX];
    struct msg_group_status s[HELD];
    struct msg_heartbeat h = {.node = node,
                              .incarnation = node,
                              .groups = s,
                              .disk_free = 900 * GIB,
                              .disk_size = 1000 * GIB};
    for (uint32_t i = 0; i < w->n_held; i++)
        if (w->held[i].node == node)
            fill_status(w, &w->held[i], &s[h.n_groups++]);
    struct driver_moment m = moment(w);
    liveness_report(&w->l, &w->c, &h, w->now, NULL, NULL);
    heartbeat_commands(&w->c, &h, propose_report, w);
    driver_report(&w->d, &m, &h);
    if (rng_below(&w->rng, 2))
        apply_log(w);
    uint32_t n = heartbeat_steps(&w->c, &w->l, &h, w->now, steps);
    if (rng_below(&w->rng, 100) < w->drop_percent)
        return; /* the answer is lost */
    for (uint32_t i = 0; i < n; i++) {
        if (rng_below(&w->rng, 100) >= w->late_percent)
            carry_out(w, node, &steps[i]);
        else if (w->n_late < 256)
            w->late[w->n_late++] =
                (struct late){node, w->now + rng_below(&w->rng, 4000) * MS, steps[i]};
    }
}

static void deliver_late(struct world *w)
{
    for (uint32_t i = 0; i < w->n_late;) {
        struct late late = w->late[i];
        if (late.when > w->now) {
            i++;
            continue;
        }
        w->late[i] = w->late[--w->n_late];
        if (!w->dead[late.node])
            carry_out(w, late.node, &late.step);
    }
}

static void get_on(struct world *w)
{
    for (uint32_t i = 0; i < w->n_held; i++) {
        struct real_replica *r = &w->held[i];
        const struct real_group *g = real(w, r->group);
        int at = g && !g->gone ? listed(g, r->replica) : -1;
        if (at >= 0 && r->filled < 100 && !w->no_catch_up && !w->dead[r->node])
            r->filled += 25;
        if (r->copy == MSG_COPY_RUNNING && !w->no_copy)
            r->copy = MSG_COPY_BULK;
        if (r->copy != MSG_COPY_BULK || !g)
            continue;
        for (uint32_t k = 0; k < w->n_groups; k++)
            if (w->group[k].phase == SHARD_PHASE_FROZEN && w->group[k].merge == g->merge)
                r->copy = MSG_COPY_COMPLETE;
    }
}

/* A tenth of a second. */
static void step_world(struct world *w)
{
    w->now += 100 * MS;
    elect(w);
    deliver_late(w);
    for (uint32_t node = 1; node <= NODES; node++)
        if (!w->dead[node] && rng_below(&w->rng, 100) >= w->drop_percent)
            report(w, node);
    struct driver_moment m = moment(w);
    driver_turn(&w->d, &m);
    apply_log(w);
    get_on(w);
    check_owners(w);
}

static void run_for(struct world *w, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i += 100)
        step_world(w);
}

static void new_leader(struct world *w)
{
    liveness_reset(&w->l, w->now);
    driver_reset(&w->d, w->now);
}

static void open_world(struct world *w, uint64_t seed, uint32_t groups)
{
    memset(w, 0, sizeof(*w));
    rng_seed(&w->rng, seed);
    w->now = BEGIN;
    cluster_init(&w->c);
    liveness_init(&w->l, w->now);
    w->l.stall_ns = 20 * NS_PER_S;
    struct driver_options o = {.plan = {.replicas = 3,
                                        .max_moves = 2,
                                        .max_groups = GROUPS,
                                        .hysteresis_percent = 5,
                                        .disk_full_percent = 80},
                               .down_after_ns = 60 * NS_PER_S,
                               .stall_ms = 20000,
                               .arg = w,
                               .propose = on_propose};
    driver_init(&w->d, &o);
    driver_reset(&w->d, w->now);
    struct cluster_result r;
    struct cluster_command found = {.kind = CLUSTER_CMD_FOUND, .cluster = {1}};
    cluster_apply(&w->c, &found, NULL, &r);
    for (uint32_t i = 1; i <= NODES; i++) {
        struct cluster_command reg = {.kind = CLUSTER_CMD_REGISTER};
        reg.node.incarnation = i;
        snprintf(reg.node.name, sizeof(reg.node.name), "n%u", i);
        snprintf(reg.node.host, sizeof(reg.node.host), "h%u", i);
        cluster_apply(&w->c, &reg, NULL, &r);
    }
    struct shard_desc d[GROUPS];
    uint64_t replica = 1;
    for (uint32_t i = 0; i < groups; i++) {
        d[i] = (struct shard_desc){.group = i + 1,
                                   .first_slot = (uint16_t)(i * LIMIT_SLOTS / groups),
                                   .last_slot = (uint16_t)((i + 1) * LIMIT_SLOTS / groups - 1),
                                   .epoch = {1, 1},
                                   .n_replicas = 3};
        for (uint32_t k = 0; k < 3; k++)
            d[i].replica[k] = (struct shard_replica){replica++, (i + k) % NODES + 1, GROUP_VOTER};
        w->group[i] = (struct real_group){.desc = d[i], .term = 1};
        w->group[i].desc.leader = d[i].replica[0].replica;
        w->n_groups++;
    }
    struct cluster_command layout = {.kind = CLUSTER_CMD_LAYOUT, .n_groups = groups, .groups = d};
    cluster_apply(&w->c, &layout, NULL, &r);
    ck_assert_int_eq(r.err, ERR_OK);
    run_for(w, 1000);
    ck_assert_uint_eq(w->n_held, 3 * groups);
    for (uint32_t i = 0; i < w->n_held; i++)
        w->held[i].filled = 100;
}

static void close_world(struct world *w)
{
    apply_log(w);
    driver_close(&w->d);
    liveness_close(&w->l);
    cluster_close(&w->c);
}

/* Nothing is under way, the map is the truth, nothing is left over, three voters everywhere. */
static void check_quiet(struct world *w, bool three)
{
    ck_assert_uint_eq(w->c.n_operators, 0);
    for (uint32_t i = 0; i < w->n_held; i++) {
        struct real_group *g = real(w, w->held[i].group);
        ck_assert_msg(w->dead[w->held[i].node] ||
                          (g && !g->gone && listed(g, w->held[i].replica) >= 0),
                      "replica %u of group %u is left over on node %u",
                      (unsigned)w->held[i].replica, (unsigned)w->held[i].group, w->held[i].node);
    }
    for (uint32_t i = 0; i < w->n_groups; i++) {
        const struct real_group *g = &w->group[i];
        const struct cluster_group *known = cluster_find_group(&w->c, g->desc.group);
        unsigned voters;
        ck_assert(g->gone == (known == NULL));
        if (!known)
            continue;
        voters_up(w, g, &voters);
        ck_assert(!shard_epoch_less(known->desc.epoch, g->desc.epoch));
        ck_assert_int_eq(g->phase, SHARD_PHASE_NONE);
        ck_assert_uint_eq(known->desc.n_replicas, g->desc.n_replicas);
        ck_assert_msg(voters == g->desc.n_replicas, "a standby is left over");
        ck_assert_msg(!three || (voters == 3 && g->desc.n_replicas == 3), "group %u has %u voters",
                      (unsigned)g->desc.group, voters);
    }
}

static enum err add(struct world *w, const struct plan_op *op)
{
    struct driver_moment m = moment(w);
    uint64_t index, term;
    char why[160] = "";
    return driver_add(&w->d, &m, op, CLUSTER_ORIGIN_ADMIN, &index, &term, why, sizeof(why));
}

static const struct cluster_finished *last_finished(const struct world *w)
{
    ck_assert_uint_gt(w->c.n_finished, 0);
    return &w->c.finished[w->c.n_finished - 1];
}

static struct world w;

START_TEST(test_kinds)
{
    static const struct {
        const char *what;
        struct plan_op op;
        bool three;
    } rows[] = {
        {"move", {.kind = PLAN_MOVE, .group = 1, .from = 1, .to = 5}, true},
        {"move of a follower", {.kind = PLAN_MOVE, .group = 1, .from = 2, .to = 5}, true},
        {"transfer", {.kind = PLAN_TRANSFER, .group = 2, .to = 4}, true},
        {"add", {.kind = PLAN_ADD, .group = 3, .to = 7}, false},
        {"remove", {.kind = PLAN_REMOVE, .group = 3, .from = 3}, false},
        {"split", {.kind = PLAN_SPLIT, .group = 2, .slot = 5000}, true},
        {"merge of groups apart", {.kind = PLAN_MERGE, .group = 1, .into = 2}, true},
        {"merge the other way", {.kind = PLAN_MERGE, .group = 4, .into = 3}, true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        open_world(&w, i + 1, 4);
        ck_assert_msg(add(&w, &rows[i].op) == ERR_OK, "%s", rows[i].what);
        w.d.plan_at = UINT64_MAX; /* no repair of what we asked for */
        run_for(&w, 9000);
        ck_assert_msg(w.c.n_finished == 1 && last_finished(&w)->outcome == ERR_OK, "%s: %s",
                      rows[i].what, w.c.n_finished ? last_finished(&w)->why : "not done");
        check_quiet(&w, rows[i].three);
        close_world(&w);
    }
}
END_TEST

START_TEST(test_results)
{
    open_world(&w, 5, 4);
    struct plan_op move = {.kind = PLAN_MOVE, .group = 1, .from = 1, .to = 5};
    struct plan_op split = {.kind = PLAN_SPLIT, .group = 2, .slot = 5000};
    struct plan_op merge = {.kind = PLAN_MERGE, .group = 3, .into = 4};
    struct plan_op transfer = {.kind = PLAN_TRANSFER, .group = 2, .to = 4};
    ck_assert_int_eq(add(&w, &move), ERR_OK);
    ck_assert_int_eq(add(&w, &merge), ERR_OK);
    ck_assert_int_eq(add(&w, &split), ERR_OK);
    apply_log(&w);
    struct plan_op again = {.kind = PLAN_SPLIT, .group = 4, .slot = 15000};
    ck_assert_int_eq(add(&w, &again), ERR_BUSY); /* it is a merge's target */
    run_for(&w, 9000);
    check_quiet(&w, true);
    ck_assert_uint_eq(w.c.n_finished, 3);
    ck_assert_ptr_null(cluster_find_group(&w.c, 3));
    const struct cluster_group *h = cluster_find_group(&w.c, 4);
    ck_assert_uint_eq(h->desc.first_slot, 8192);
    const struct cluster_group *child = cluster_find_group(&w.c, 5);
    ck_assert_uint_eq(child->desc.first_slot, 5000);
    ck_assert_uint_eq(child->desc.last_slot, 8191);
    ck_assert_uint_eq(child->created, 7);
    ck_assert_int_eq(add(&w, &transfer), ERR_OK);
    run_for(&w, 1000);
    ck_assert_uint_eq(liveness_leader(&w.l, cluster_find_group(&w.c, 2)), real(&w, 2)->desc.leader);
    close_world(&w);
}
END_TEST

/* What cannot be done is given up and leaves nothing behind. */
START_TEST(test_given_up)
{
    open_world(&w, 3, 4);
    struct plan_op move = {.kind = PLAN_MOVE, .group = 1, .from = 1, .to = 5};
    w.no_catch_up = true;
    ck_assert_int_eq(add(&w, &move), ERR_OK);
    run_for(&w, 15000);
    ck_assert_uint_eq(w.c.n_operators, 1);
    ck_assert_uint_eq(real(&w, 1)->desc.n_replicas, 4);
    run_for(&w, 30000);
    ck_assert_int_eq(last_finished(&w)->outcome, ERR_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(last_finished(&w)->why, "catch-up"));
    w.no_catch_up = false;
    run_for(&w, 5000);
    check_quiet(&w, true);
    /* a node that is not there */
    w.dead[6] = true;
    struct plan_op there = {.kind = PLAN_MOVE, .group = 2, .from = 2, .to = 6};
    ck_assert_int_eq(add(&w, &there), ERR_OK);
    run_for(&w, 30000);
    ck_assert_ptr_nonnull(strstr(last_finished(&w)->why, "node 6 is not heard"));
    close_world(&w);
    /* a merge whose copies do not get on, and one that is never owned */
    for (int i = 0; i < 2; i++) {
        struct plan_op merge = {.kind = PLAN_MERGE, .group = 3, .into = 4};
        open_world(&w, 9, 4);
        w.no_copy = i == 0;
        w.refuse_own = i == 1;
        ck_assert_int_eq(add(&w, &merge), ERR_OK);
        run_for(&w, 50000);
        ck_assert_int_eq(last_finished(&w)->outcome, ERR_TIMEOUT);
        check_quiet(&w, true);
        ck_assert_uint_eq(w.c.n_groups, 4);
        /* again, now that it can */
        w.no_copy = w.refuse_own = false;
        ck_assert_int_eq(add(&w, &merge), ERR_OK);
        run_for(&w, 9000);
        ck_assert_int_eq(last_finished(&w)->outcome, ERR_OK);
        check_quiet(&w, true);
        close_world(&w);
    }
}
END_TEST

/* Cancelled after any number of turns: done or undone, nothing between. */
START_TEST(test_cancel)
{
    static const struct plan_op ops[] = {
        {.kind = PLAN_MOVE, .group = 1, .from = 1, .to = 5},
        {.kind = PLAN_MERGE, .group = 3, .into = 4},
        {.kind = PLAN_REMOVE, .group = 2, .from = 2},
        {.kind = PLAN_SPLIT, .group = 2, .slot = 5000},
    };
    unsigned cancelled = 0;
    for (unsigned turns = 0; turns < 24; turns++) {
        for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
            uint64_t index, term;
            char why[160] = "";
            open_world(&w, turns, 4);
            ck_assert_int_eq(add(&w, &ops[i]), ERR_OK);
            run_for(&w, turns * 100);
            apply_log(&w);
            struct driver_moment m = moment(&w);
            enum err e = w.c.n_operators ? driver_cancel(&w.d, &m, w.c.operators[0].id, &index,
                                                         &term, why, sizeof(why))
                                         : ERR_NOT_FOUND;
            ck_assert(e == ERR_OK || w.c.n_operators == 0 || (e == ERR_REFUSED && why[0]));
            run_for(&w, 9000);
            ck_assert_uint_ge(w.c.n_finished, 1);
            cancelled += last_finished(&w)->outcome == ERR_SHUTTING_DOWN;
            check_quiet(&w, ops[i].kind != PLAN_REMOVE);
            close_world(&w);
        }
    }
    ck_assert_uint_gt(cancelled, 20);
}
END_TEST

/* A standby that an order listed after its operator had turned back. */
START_TEST(test_left_over)
{
    open_world(&w, 2, 4);
    struct real_group *g = real(&w, 2);
    hold(&w, 6, 2, w.c.next_replica);
    g->desc.replica[g->desc.n_replicas++] =
        (struct shard_replica){w.c.next_replica++, 6, GROUP_STANDBY};
    g->desc.epoch.members++;
    run_for(&w, 5000);
    check_quiet(&w, true);
    ck_assert_ptr_null(held_by(&w, 6, 2));
    close_world(&w);
}
END_TEST

START_TEST(test_limits)
{
    unsigned most = 0, running = 0;
    open_world(&w, 8, 7);
    for (uint64_t g = 1; g <= 7; g++) {
        for (uint32_t to = 1; to <= 1; to++) {
            struct plan_op move = {.kind = PLAN_MOVE,
                                   .group = g,
                                   .from = w.group[g - 1].desc.replica[1].node,
                                   .to = 7};
            if (g < 5)
                ck_assert_int_eq(add(&w, &move), ERR_OK);
        }
    }
    for (int i = 0; i < 120; i++) {
        step_world(&w);
        running = 0;
        for (uint32_t k = 0; k < w.c.n_operators; k++)
            running += !w.c.operators[k].queued && w.c.operators[k].kind == CLUSTER_OP_MOVE;
        most = running > most ? running : most;
    }
    ck_assert_uint_eq(most, 2);
    ck_assert_uint_eq(w.c.n_finished, 4);
    check_quiet(&w, true);
    close_world(&w);
}
END_TEST

/* A dead node's replicas are replaced once, after down-after; it comes back and is emptied. */
START_TEST(test_replaced)
{
    open_world(&w, 4, 7);
    run_for(&w, 2000);
    w.dead[2] = true;
    run_for(&w, 55000);
    ck_assert_uint_eq(w.c.n_operators + w.c.n_finished, 0);
    run_for(&w, 8000);
    ck_assert_uint_gt(w.c.n_operators + w.c.n_finished, 0);
    run_for(&w, 40000);
    check_quiet(&w, true);
    for (uint32_t i = 0; i < w.n_groups; i++)
        for (uint32_t k = 0; k < 3; k++)
            ck_assert_uint_ne(w.group[i].desc.replica[k].node, 2);
    w.dead[2] = false;
    run_for(&w, 5000);
    check_quiet(&w, true);
    for (uint32_t i = 0; i < w.n_held; i++)
        ck_assert_uint_ne(w.held[i].node, 2);
    close_world(&w);
}
END_TEST

static void trouble(uint64_t seed)
{
    open_world(&w, seed, 6);
    w.drop_percent = (unsigned)rng_below(&w.rng, 40);
    w.late_percent = (unsigned)rng_below(&w.rng, 40);
    for (int i = 0; i < 60; i++) {
        struct plan_op op = {.kind = (uint8_t)(1 + rng_below(&w.rng, 7)),
                             .group = 1 + rng_below(&w.rng, 9),
                             .from = (uint32_t)(1 + rng_below(&w.rng, NODES)),
                             .to = (uint32_t)(1 + rng_below(&w.rng, NODES)),
                             .slot = (uint16_t)rng_below(&w.rng, LIMIT_SLOTS),
                             .into = 1 + rng_below(&w.rng, 9)};
        uint32_t node = (uint32_t)(1 + rng_below(&w.rng, NODES));
        uint64_t index, term;
        char why[160];
        if (op.kind != PLAN_REPLACE && op.kind != PLAN_REMOVE && w.n_groups < GROUPS - 4)
            (void)!add(&w, &op);
        if (rng_below(&w.rng, 8) == 0)
            new_leader(&w);
        if (rng_below(&w.rng, 10) == 0) {
            bool any = false;
            for (uint32_t k = 1; k <= NODES; k++)
                any = any || w.dead[k];
            w.dead[node] = !any;
        }
        for (uint32_t k = 1; k <= NODES; k++)
            if (w.dead[k] && rng_below(&w.rng, 6) == 0)
                w.dead[k] = false;
        if (w.c.n_operators && rng_below(&w.rng, 5) == 0) {
            struct driver_moment m = moment(&w);
            (void)!driver_cancel(&w.d, &m, w.c.operators[0].id, &index, &term, why, sizeof(why));
        }
        run_for(&w, 100 * (1 + rng_below(&w.rng, 30)));
    }
    memset(w.dead, 0, sizeof(w.dead));
    w.drop_percent = w.late_percent = 0;
    run_for(&w, 60000);
    check_quiet(&w, false);
    close_world(&w);
}

START_TEST(test_trouble)
{
    const char *one = getenv("SEED");
    for (uint64_t seed = one ? strtoull(one, NULL, 10) : 1;
         seed <= (getenv("SEEDS") ? strtoull(getenv("SEEDS"), NULL, 10) : 40); seed++) {
        if (one || getenv("VERBOSE"))
            fprintf(stderr, "SEED=%u\n", (unsigned)seed);
        trouble(seed);
        if (one)
            break;
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("driver");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_kinds);
    tcase_add_test(t, test_results);
    tcase_add_test(t, test_given_up);
    tcase_add_test(t, test_cancel);
    tcase_add_test(t, test_left_over);
    tcase_add_test(t, test_limits);
    tcase_add_test(t, test_replaced);
    tcase_add_test(t, test_trouble);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
