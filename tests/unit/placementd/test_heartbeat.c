/* Reports: which orders and commands follow, what liveness keeps. */
#include <check.h>

#include "common/wire/msg_heartbeat.h"
#include "placementd/heartbeat.h"
#include "placementd/liveness.h"

#define S NS_PER_S

/* Nodes 1..4; group 1 on 1,2,3 (replicas 10,11,12); group 2 on 2,3,4 (20,21,22), epoch 1.3. */
static void fill(struct cluster *c)
{
    cluster_init(c);
    c->founded = true;
    c->map_version = 9;
    for (uint32_t i = 1; i <= 4; i++) {
        struct cluster_node n = {.id = i, .state = CLUSTER_NODE_IN, .incarnation = i, .name = "n"};
        cluster_add_node(c, &n);
    }
    struct shard_desc a = {.group = 1,
                           .last_slot = 99,
                           .epoch = {1, 1},
                           .n_replicas = 3,
                           .replica = {{10, 1, 1}, {11, 2, 1}, {12, 3, 1}}};
    struct shard_desc b = {.group = 2,
                           .first_slot = 100,
                           .last_slot = 16383,
                           .epoch = {1, 3},
                           .n_replicas = 3,
                           .replica = {{20, 2, 1}, {21, 3, 1}, {22, 4, 1}}};
    cluster_add_group(c, &a);
    cluster_add_group(c, &b);
    c->next_group = 3;
    c->next_replica = 23;
    c->next_node = 5;
}

static struct msg_group_status status(uint64_t group, uint64_t replica, uint32_t members)
{
    return (struct msg_group_status){.group = group,
                                     .replica = replica,
                                     .role = 1,
                                     .term = 3,
                                     .epoch = {1, members},
                                     .last_slot = 99};
}

/* All groups were heard long ago. */
static uint32_t orders(const struct cluster *c, const struct msg_heartbeat *h,
                       struct msg_step *steps)
{
    struct liveness l;
    liveness_init(&l, 0);
    for (uint32_t i = 0; i < c->n_groups; i++) {
        struct msg_group_status s = {.group = c->groups[i].desc.group};
        struct msg_heartbeat first = {.node = 99, .n_groups = 1, .groups = &s};
        liveness_report(&l, c, &first, 1 * S, NULL, NULL);
    }
    uint32_t n = heartbeat_steps(c, &l, h, 100 * S, steps);
    liveness_close(&l);
    return n;
}

START_TEST(test_steps)
{
    struct cluster c;
    struct msg_step steps[HEARTBEAT_STEPS_MAX];
    fill(&c);
    /* nothing there yet: the preferred leader campaigns */
    struct msg_heartbeat h = {.node = 1, .incarnation = 1};
    ck_assert_uint_eq(orders(&c, &h, steps), 1);
    ck_assert_int_eq(steps[0].kind, MSG_STEP_CREATE_REPLICA);
    ck_assert_uint_eq(steps[0].replica, 10);
    ck_assert(steps[0].campaign && !steps[0].join);
    /* two groups; the one whose members have changed is joined, not begun */
    h.node = 2;
    ck_assert_uint_eq(orders(&c, &h, steps), 2);
    ck_assert(!steps[0].campaign && !steps[0].join);
    ck_assert(!steps[1].campaign && steps[1].join);
    /* held: nothing to do */
    struct msg_group_status held[] = {status(1, 11, 1), status(2, 20, 3)};
    h.groups = held;
    h.n_groups = 2;
    ck_assert_uint_eq(orders(&c, &h, steps), 0);
    /* seen before and gone now: never made again under the same id */
    c.groups[0].created = 2;
    h.groups = &held[1];
    h.n_groups = 1;
    ck_assert_uint_eq(orders(&c, &h, steps), 0);
    cluster_close(&c);
}
END_TEST

START_TEST(test_destroy)
{
    struct cluster c;
    struct msg_step steps[HEARTBEAT_STEPS_MAX];
    static const struct {
        uint64_t group, replica;
        uint32_t members;
        bool want;
    } rows[] = {
        {2, 5, 2, true},   /* removed */
        {2, 5, 3, true},   /* removed by this very change */
        {2, 5, 4, false},  /* knows more than we do */
        {7, 5, 1, false},  /* a group that we have not heard of */
        {2, 0, 1, false},  /* broken, does not know its id */
        {2, 22, 1, false}, /* listed */
    };
    fill(&c);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct msg_group_status s = status(rows[i].group, rows[i].replica, rows[i].members);
        struct msg_heartbeat h = {.node = 4, .incarnation = 4, .n_groups = 1, .groups = &s};
        uint32_t n = orders(&c, &h, steps);
        bool got = n && steps[0].kind == MSG_STEP_DESTROY_REPLICA;
        ck_assert_msg(got == rows[i].want, "row %zu", i);
    }
    /* an operator has just put it there */
    struct cluster_operator o = {.id = 1,
                                 .kind = CLUSTER_OP_MOVE,
                                 .group = 2,
                                 .n_steps = 1,
                                 .step = {{CLUSTER_STEP_ADD_STANDBY, 4, 5}}};
    cluster_add_operator(&c, &o);
    struct msg_group_status s = status(2, 5, 1);
    struct msg_heartbeat h = {.node = 4, .incarnation = 4, .n_groups = 1, .groups = &s};
    ck_assert_uint_eq(orders(&c, &h, steps), 0);
    cluster_close(&c);
}
END_TEST

struct proposed {
    unsigned created, group;
    struct shard_desc desc;
};

static void on_propose(void *arg, const struct cluster_command *cmd)
{
    struct proposed *p = arg;
    if (cmd->kind == CLUSTER_CMD_CREATED) {
        p->created += cmd->n_created;
    } else {
        p->group++;
        p->desc = cmd->groups[0];
    }
}

/* Groups that are gone: their replicas go too, unless they may still come. */
START_TEST(test_gone)
{
    struct cluster c;
    struct msg_step steps[HEARTBEAT_STEPS_MAX];
    fill(&c);
    c.next_group = 50;
    c.groups[0].created = c.groups[1].created = 7;
    struct msg_group_status s = status(7, 99, 1);
    struct msg_heartbeat h = {.node = 1, .incarnation = 1, .n_groups = 1, .groups = &s};
    ck_assert_uint_eq(orders(&c, &h, steps), 1);
    ck_assert_int_eq(steps[0].kind, MSG_STEP_DESTROY_REPLICA);
    ck_assert_uint_eq(steps[0].shard.group, 7);
    s.replica = 0; /* broken, and does not know which it is */
    s.state = MSG_REPLICA_BROKEN;
    ck_assert_uint_eq(orders(&c, &h, steps), 0);
    s.replica = 99;
    c.unsure_from = 6; /* may be newer than an imported state */
    c.unsure_to = 9;
    ck_assert_uint_eq(orders(&c, &h, steps), 0);
    c.unsure_from = c.unsure_to = 0;
    struct cluster_operator o = {.id = 1,
                                 .kind = CLUSTER_OP_SPLIT,
                                 .group = 1,
                                 .child = 7,
                                 .n_steps = 1,
                                 .step = {{.kind = CLUSTER_STEP_SPLIT}}};
    cluster_add_operator(&c, &o);
    ck_assert_uint_eq(orders(&c, &h, steps), 0);
    cluster_close(&c);
}
END_TEST

/* A split's child is made by its nodes: one that was never reported is ordered after a while. */
START_TEST(test_child_waits)
{
    struct cluster c;
    struct liveness l;
    struct msg_step steps[HEARTBEAT_STEPS_MAX];
    fill(&c);
    c.groups[0].desc.epoch = (struct shard_epoch){2, 1};
    c.groups[0].created = 2;
    liveness_init(&l, 1 * S);
    struct msg_group_status s = status(1, 11, 1);
    struct msg_heartbeat from = {.node = 2, .incarnation = 2, .n_groups = 1, .groups = &s};
    struct msg_heartbeat h = {.node = 1, .incarnation = 1};
    ck_assert_uint_eq(heartbeat_steps(&c, &l, &h, 50 * S, steps), 0); /* nobody has it */
    liveness_report(&l, &c, &from, 50 * S, NULL, NULL);
    ck_assert_uint_eq(heartbeat_steps(&c, &l, &h, 59 * S, steps), 0);
    ck_assert_uint_eq(heartbeat_steps(&c, &l, &h, 60 * S, steps), 1);
    ck_assert(steps[0].join && !steps[0].campaign);
    liveness_close(&l);
    cluster_close(&c);
}
END_TEST

START_TEST(test_commands)
{
    struct cluster c;
    struct proposed p = {0};
    fill(&c);
    c.groups[1].created = 1;
    struct msg_group_status s[] = {status(1, 11, 1), status(2, 20, 4)};
    s[1].state = MSG_REPLICA_LEADER;
    s[1].n_members = 2;
    s[1].member[0] = (struct msg_member_status){20, 2, 1, 7};
    s[1].member[1] = (struct msg_member_status){21, 3, 1, 7};
    struct msg_heartbeat h = {.node = 2, .incarnation = 2, .n_groups = 2, .groups = s};
    heartbeat_commands(&c, &h, on_propose, &p);
    ck_assert_uint_eq(p.created, 1);
    ck_assert_uint_eq(p.group, 1);
    ck_assert_uint_eq(p.desc.n_replicas, 2);
    ck_assert_uint_eq(p.desc.epoch.members, 4);
    /* not its leader, or not newer, or another node's replica: nothing */
    memset(&p, 0, sizeof(p));
    s[1].state = MSG_REPLICA_FOLLOWER;
    h.node = 3;
    heartbeat_commands(&c, &h, on_propose, &p);
    s[1].state = MSG_REPLICA_LEADER;
    s[1].epoch.members = 3;
    heartbeat_commands(&c, &h, on_propose, &p);
    s[1].epoch.members = 4;
    s[1].member[1].node = 2; /* two replicas on one node: nonsense */
    heartbeat_commands(&c, &h, on_propose, &p);
    ck_assert_uint_eq(p.created, 0);
    ck_assert_uint_eq(p.group, 0);
    cluster_close(&c);
}
END_TEST

static void count(void *arg, uint64_t group)
{
    (void)group;
    ++*(unsigned *)arg;
}

START_TEST(test_liveness)
{
    struct cluster c;
    struct liveness l;
    unsigned hints = 0;
    fill(&c);
    liveness_init(&l, 100 * S);
    struct msg_group_status s = status(1, 11, 1);
    struct msg_heartbeat h = {.node = 2, .incarnation = 2, .n_groups = 1, .groups = &s};
    s.leader = 10;
    s.bytes = 5;
    liveness_report(&l, &c, &h, 101 * S, count, &hints);
    ck_assert_uint_eq(hints, 1);
    ck_assert_uint_eq(liveness_leader(&l, &c.groups[0]), 10);
    ck_assert_uint_eq(liveness_node(&l, 2)->bytes, 5);
    /* the same again: no news; an older term: not believed; a newer one: is */
    liveness_report(&l, &c, &h, 101 * S, count, &hints);
    s.term = 2;
    s.leader = 12;
    liveness_report(&l, &c, &h, 101 * S, count, &hints);
    ck_assert_uint_eq(hints, 1);
    s.term = 4;
    s.state = MSG_REPLICA_LEADER;
    s.leader = 11;
    s.keys = 77;
    liveness_report(&l, &c, &h, 102 * S, count, &hints);
    ck_assert_uint_eq(hints, 2);
    ck_assert_uint_eq(liveness_leader(&l, &c.groups[0]), 11);
    ck_assert_uint_eq(liveness_group(&l, 1)->keys, 77);
    /* an election: a later term without a leader yet, then its leader's own word in that term */
    s.term = 5;
    s.state = MSG_REPLICA_FOLLOWER;
    s.leader = 0;
    liveness_report(&l, &c, &h, 102 * S, count, &hints);
    ck_assert_uint_eq(hints, 2);
    s.replica = 12;
    s.state = MSG_REPLICA_LEADER;
    s.leader = 12;
    liveness_report(&l, &c, &h, 102 * S, count, &hints);
    ck_assert_uint_eq(hints, 3);
    ck_assert_uint_eq(liveness_leader(&l, &c.groups[0]), 12);
    /* a replica that is not listed is no source */
    s.replica = 5;
    s.term = 9;
    liveness_report(&l, &c, &h, 102 * S, count, &hints);
    ck_assert_uint_eq(hints, 3);
    static const struct {
        uint32_t node;
        uint64_t at;
        enum liveness_state want;
    } rows[] = {
        {2, 102 * S, LIVE_UP},      {2, 106 * S, LIVE_UP},   {2, 107 * S, LIVE_SUSPECT},
        {2, 121 * S, LIVE_SUSPECT}, {2, 122 * S, LIVE_DOWN}, {1, 104 * S, LIVE_UNKNOWN},
        {1, 105 * S, LIVE_SUSPECT}, {1, 120 * S, LIVE_DOWN},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        ck_assert_msg(liveness_state(&l, rows[i].node, rows[i].at) == rows[i].want, "row %zu", i);
    /* a group that is gone is forgotten: splits and merges make new ones for ever */
    liveness_forget(&l, &c);
    ck_assert_ptr_nonnull(liveness_group(&l, 1));
    cluster_remove_group(&c, 1);
    liveness_forget(&l, &c);
    ck_assert_ptr_null(liveness_group(&l, 1));
    ck_assert_uint_eq(l.groups.n, 0);
    liveness_close(&l);
    cluster_close(&c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("heartbeat");
    TCase *t = tcase_create("all");
    tcase_add_test(t, test_steps);
    tcase_add_test(t, test_destroy);
    tcase_add_test(t, test_gone);
    tcase_add_test(t, test_child_waits);
    tcase_add_test(t, test_commands);
    tcase_add_test(t, test_liveness);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
