/* Leaders under loads that come and go: nodes count requests as shardd does (averaged over 5 s, and
 * from nothing for a new leader), heartbeats bring them to liveness, the planner is asked each
 * second. No group's leadership goes back and forth; what is really uneven is still evened out. */
#include <check.h>
#include <stdlib.h>

#include "common/base/rng.h"
#include "common/raft/group.h"
#include "placementd/plan/planner.h"
#include "placementd/plan_view.h"

#define S NS_PER_S
#define NODES 3u
#define GROUPS 8u

struct model {
    struct cluster c;
    struct liveness l;
    struct rng rng;
    uint64_t now;
    unsigned leader[GROUPS]; /* index of the replica, which is that of its node */
    uint64_t term[GROUPS];
    double counted[GROUPS]; /* by the leader, smoothed */
    unsigned given[GROUPS]; /* transfers */
    uint64_t given_at[GROUPS];
    unsigned transfers;
};

static void open_model(struct model *m, uint64_t seed)
{
    memset(m, 0, sizeof(*m));
    m->now = 1000 * S;
    rng_seed(&m->rng, seed);
    cluster_init(&m->c);
    liveness_init(&m->l, m->now);
    m->c.founded = true;
    for (uint32_t i = 1; i <= NODES; i++) {
        struct cluster_node n = {.id = i, .state = CLUSTER_NODE_IN, .incarnation = i, .name = "n"};
        cluster_add_node(&m->c, &n);
    }
    for (uint32_t g = 0; g < GROUPS; g++) {
        struct shard_desc d = {.group = g + 1,
                               .first_slot = (uint16_t)(g * LIMIT_SLOTS / GROUPS),
                               .last_slot = (uint16_t)((g + 1) * LIMIT_SLOTS / GROUPS - 1),
                               .epoch = {1, 1},
                               .n_replicas = NODES};
        for (uint32_t i = 0; i < NODES; i++)
            d.replica[i] = (struct shard_replica){g * 10 + i + 1, i + 1, GROUP_VOTER};
        cluster_add_group(&m->c, &d);
        m->leader[g] = g % NODES;
        m->term[g] = 1;
    }
}

static void close_model(struct model *m)
{
    liveness_close(&m->l);
    cluster_close(&m->c);
}

static void report(struct model *m, uint32_t node)
{
    struct msg_group_status s[GROUPS];
    struct msg_heartbeat h = {.node = node + 1,
                              .incarnation = node + 1,
                              .disk_size = 100 * GIB,
                              .disk_free = 90 * GIB,
                              .n_groups = GROUPS,
                              .groups = s};
    for (uint32_t g = 0; g < GROUPS; g++) {
        const struct shard_desc *d = &m->c.groups[g].desc;
        bool leads = m->leader[g] == node;
        s[g] = (struct msg_group_status){.group = d->group,
                                         .replica = d->replica[node].replica,
                                         .role = GROUP_VOTER,
                                         .state = leads ? MSG_REPLICA_LEADER : 0,
                                         .term = m->term[g],
                                         .leader = d->replica[m->leader[g]].replica,
                                         .epoch = d->epoch,
                                         .first_slot = d->first_slot,
                                         .last_slot = d->last_slot};
        for (uint32_t i = 0; leads && i < NODES; i++)
            s[g].member[s[g].n_members++] = (struct msg_member_status){
                .replica = d->replica[i].replica, .role = GROUP_VOTER, .match = 10};
        if (leads)
            s[g].writes = (uint64_t)m->counted[g];
    }
    liveness_report(&m->l, &m->c, &h, m->now, NULL, NULL);
}

static void plan(struct model *m)
{
    static const struct plan_options o = {.replicas = NODES,
                                          .max_moves = 2,
                                          .max_groups = LIMIT_SLOTS,
                                          .hysteresis_percent = 5,
                                          .disk_full_percent = 80,
                                          .balance = true};
    struct plan_picture p;
    struct plan_list list;
    plan_list_init(&list);
    plan_view_build(&m->c, &m->l, &o, 900 * S, m->now, m->now / NS_PER_MS, &p);
    plan_round(&p.view, &list);
    for (uint32_t k = 0; k < list.n; k++) {
        ck_assert_int_eq(list.op[k].kind, PLAN_TRANSFER);
        uint32_t g = (uint32_t)list.op[k].group - 1;
        ck_assert_msg(m->given[g] == 0 || m->now - m->given_at[g] >= LIVENESS_CALM_NS,
                      "group %u was given away %u s ago", g + 1,
                      (unsigned)((m->now - m->given_at[g]) / S));
        m->leader[g] = list.op[k].to - 1;
        m->term[g]++;
        m->counted[g] = 0;
        m->given[g]++;
        m->given_at[g] = m->now;
        m->transfers++;
    }
    plan_view_close(&p);
    plan_list_close(&list);
}

/* `real`: requests a second of each group; drawn anew each second between none and twice that. */
static void run(struct model *m, const double *real, unsigned seconds)
{
    for (unsigned t = 0; t < seconds; t++) {
        m->now += S;
        for (uint32_t g = 0; g < GROUPS; g++) {
            double wave = (double)rng_below(&m->rng, 2001) / 1000;
            m->counted[g] += (real[g] * wave - m->counted[g]) / 5;
        }
        for (uint32_t node = 0; node < NODES; node++)
            report(m, node);
        if (t >= 5)
            plan(m);
    }
}

static double led(const struct model *m, const double *real, uint32_t node)
{
    double sum = 0;
    for (uint32_t g = 0; g < GROUPS; g++)
        sum += m->leader[g] == node ? real[g] : 0;
    return sum;
}

static struct model m;

START_TEST(test_noise)
{
    static const double real[GROUPS] = {800, 800, 800, 800, 800, 800, 800, 800};
    open_model(&m, (uint64_t)_i + 1);
    run(&m, real, 600);
    /* The noise of 30 s at most moves one now and then; it never comes back for it. */
    ck_assert_msg(m.transfers <= 2, "%u transfers in 10 minutes of even loads", m.transfers);
    close_model(&m);
}
END_TEST

/* All leaders on one node: one wave of transfers mends it. */
START_TEST(test_uneven)
{
    static const double real[GROUPS] = {800, 800, 800, 800, 800, 800, 800, 800};
    open_model(&m, (uint64_t)_i + 1);
    for (uint32_t g = 0; g < GROUPS; g++)
        m.leader[g] = 0;
    run(&m, real, 90);
    for (uint32_t node = 0; node < NODES; node++)
        ck_assert_msg(led(&m, real, node) >= 1600, "node %u leads %.0f", node + 1,
                      led(&m, real, node));
    unsigned before = m.transfers;
    ck_assert_uint_le(before, 7);
    run(&m, real, 600);
    ck_assert_msg(m.transfers - before <= 2, "%u more transfers", m.transfers - before);
    close_model(&m);
}
END_TEST

/* A load that moves to other groups is followed, at its own pace. */
START_TEST(test_followed)
{
    double real[GROUPS] = {800, 800, 800, 800, 800, 800, 800, 800};
    open_model(&m, (uint64_t)_i + 1);
    run(&m, real, 60);
    for (uint32_t g = 0; g < GROUPS; g++)
        real[g] = m.leader[g] == 0 ? 4000 : 100;
    run(&m, real, 240);
    double top = 0;
    for (uint32_t node = 0; node < NODES; node++)
        top = led(&m, real, node) > top ? led(&m, real, node) : top;
    ck_assert_msg(top <= 4600, "a node still leads %.0f requests a second", top);
    close_model(&m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("leader_balance");
    TCase *t = tcase_create("leader_balance");
    tcase_add_loop_test(t, test_noise, 0, 20);
    tcase_add_loop_test(t, test_uneven, 0, 20);
    tcase_add_loop_test(t, test_followed, 0, 20);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
