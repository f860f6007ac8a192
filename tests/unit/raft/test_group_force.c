/* A replica that makes itself the only member after a majority was lost for good. */
#include <check.h>

#include "tests/unit/raft/world.h"

static void begin(uint64_t seed, unsigned entries)
{
    world_init(seed);
    world_create(3, 1);
    world_run(150);
    ck_assert_ptr_nonnull(world_leader());
    for (unsigned i = 0; i < entries; i++) {
        ck_assert_int_eq(world_propose(&W.node[1], &i, sizeof i), ERR_OK);
        world_run(2);
    }
}

static void lose(unsigned id)
{
    node_crash(&W.node[id], true);
}

static void force(struct node *x)
{
    flush(x);
    ck_assert_int_eq(group_force(x->g, &x->disk.at), ERR_OK);
}

static void check_alone(struct node *x)
{
    for (unsigned i = 0; i < 10; i++) {
        ck_assert_int_eq(world_propose(x, &i, sizeof i), ERR_OK);
        world_run(20);
    }
    ck_assert_msg(!W.violation, "%s", W.violation);
    const struct group_position *p = group_applied(x->g);
    ck_assert_uint_eq(p->index, group_last_index(x->g));
    ck_assert_uint_eq(p->conf.n, 1);
    ck_assert_uint_eq(p->conf.member[0].replica, group_replica(x->g));
    ck_assert_uint_eq(p->conf.member[0].role, GROUP_VOTER);
}

START_TEST(the_last_one_goes_on)
{
    begin(1, 20);
    world_run(200);
    struct node *x = &W.node[3];
    uint64_t term = group_term(x->g), last = group_last_index(x->g);
    lose(1);
    lose(2);
    world_run(1500);
    ck_assert_int_ne(group_state_of(x->g), GROUP_LEADER);
    force(x);
    ck_assert_ptr_eq(world_wait_leader(2000), x);
    ck_assert_uint_gt(group_term(x->g), term);
    ck_assert_uint_gt(group_last_index(x->g), last); /* nothing of its log is lost */
    world_run(100);
    check_alone(x);
    ck_assert_int_eq(group_force(x->g, group_applied(x->g)), ERR_OK); /* done already */
    for (int keep = 0; keep < 2; keep++) {
        node_crash(x, keep);
        node_start(x);
        ck_assert_ptr_eq(world_wait_leader(3000), x);
        world_run(100);
        check_alone(x);
    }
    world_close();
}
END_TEST

/* The process ends right after: it is either forced or not, and can be forced again. */
START_TEST(a_crash_in_between)
{
    for (unsigned ms = 0; ms < 12; ms++) {
        begin(10 + ms, 5);
        world_run(200);
        struct node *x = &W.node[2];
        lose(1);
        lose(3);
        world_run(100);
        force(x);
        world_run(ms);
        node_crash(x, ms & 1);
        node_start(x);
        world_run(1000);
        if (group_state_of(x->g) != GROUP_LEADER)
            force(x);
        ck_assert_ptr_eq(world_wait_leader(3000), x);
        world_run(100);
        check_alone(x);
        world_close();
    }
}
END_TEST

/* The majority is lost in the middle of a change of the members. */
START_TEST(a_change_is_pending)
{
    begin(30, 20);
    world_run(200);
    struct node *l = &W.node[1], *x = &W.node[3];
    W.cut[2][1] = W.cut[3][1] = true; /* the leader hears nobody: nothing is committed */
    struct group_conf conf = world_conf(3);
    conf.member[conf.n++] = (struct group_member){.replica = 4, .node = 4, .role = GROUP_STANDBY};
    ck_assert_int_eq(group_change(l->g, &conf), ERR_OK);
    world_run(20);
    ck_assert(group_changing(x->g));
    uint64_t pending = group_last_index(x->g);
    lose(1);
    lose(2);
    world_run(300);
    force(x);
    ck_assert_ptr_eq(world_wait_leader(2000), x);
    world_run(100);
    world_run(300);
    ck_assert_uint_ge(group_applied(x->g)->index, pending + 1);
    check_alone(x);
    node_crash(x, false);
    node_start(x);
    ck_assert_ptr_eq(world_wait_leader(3000), x);
    world_run(100);
    check_alone(x);
    world_close();
}
END_TEST

/* It grows again as any group does. */
START_TEST(a_new_member_joins)
{
    begin(40, 20);
    world_run(200);
    struct node *x = &W.node[3];
    lose(1);
    lose(2);
    force(x);
    ck_assert_ptr_eq(world_wait_leader(2000), x);
    world_run(100);
    world_join(4);
    struct group_conf conf = group_applied(x->g)->conf;
    conf.member[conf.n++] = (struct group_member){.replica = 4, .node = 4, .role = GROUP_STANDBY};
    ck_assert_int_eq(group_change(x->g, &conf), ERR_OK);
    world_run(2000);
    ck_assert_uint_eq(group_applied(W.node[4].g)->index, group_applied(x->g)->index);
    ck_assert_uint_eq(W.node[4].state, x->state);
    ck_assert_msg(!W.violation, "%s", W.violation);
    world_close();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("group_force");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, the_last_one_goes_on);
    tcase_add_test(t, a_crash_in_between);
    tcase_add_test(t, a_change_is_pending);
    tcase_add_test(t, a_new_member_joins);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
