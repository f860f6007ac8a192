/* Time for the driver and the nodes of driver_model.h: commands are applied, nodes report and get
 * their orders, leadership of placementd changes. A world begins with every group on three nodes.
 *
 * Owner: the test.  Thread: the test's.  Depends on: driver_model. */
#ifndef UNIT_PLACEMENTD_DRIVER_WORLD_H
#define UNIT_PLACEMENTD_DRIVER_WORLD_H

#include "tests/unit/placementd/driver_model.h"

/* ---- time ---- */

static inline void apply_log(struct world *w)
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

static inline void fill_status(struct world *w, const struct real_replica *r,
                               struct msg_group_status *s)
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

static inline void report(struct world *w, uint32_t node)
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

static inline void deliver_late(struct world *w)
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

static inline void get_on(struct world *w)
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
static inline void step_world(struct world *w)
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

static inline void run_for(struct world *w, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i += 100)
        step_world(w);
}

static inline void new_leader(struct world *w)
{
    liveness_reset(&w->l, w->now);
    driver_reset(&w->d, w->now);
}

static inline void open_world(struct world *w, uint64_t seed, uint32_t groups)
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

static inline void close_world(struct world *w)
{
    apply_log(w);
    driver_close(&w->d);
    liveness_close(&w->l);
    cluster_close(&w->c);
}

/* Nothing is under way, the map is the truth, nothing is left over, three voters everywhere. */
static inline void check_quiet(struct world *w, bool three)
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

static inline enum err add(struct world *w, const struct plan_op *op)
{
    struct driver_moment m = moment(w);
    uint64_t index, term;
    char why[160] = "";
    return driver_add(&w->d, &m, op, CLUSTER_ORIGIN_ADMIN, &index, &term, why, sizeof(why));
}

static inline const struct cluster_finished *last_finished(const struct world *w)
{
    ck_assert_uint_gt(w->c.n_finished, 0);
    return &w->c.finished[w->c.n_finished - 1];
}

#endif
