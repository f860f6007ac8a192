/* The driver on a few nodes: start, propose, commit, apply, restart, reads, snapshots, transfer,
 * membership changes, memory budget. Guards: test_group_guard.c; random runs: test_group_sim.c. */
#include <check.h>

#include "tests/unit/raft/world.h"

static void ok(void)
{
    ck_assert_msg(!W.violation, "%s", W.violation ? W.violation : "");
}

START_TEST(three_nodes)
{
    world_init(1);
    world_create(3, 1);
    world_run(150);
    struct node *l = world_leader();
    ck_assert_ptr_nonnull(l);
    ck_assert_uint_eq(l->id, 1); /* campaign: long before an election timeout */
    for (unsigned i = 0; i < 50; i++) {
        ck_assert_int_eq(world_propose(l, &i, sizeof i), ERR_OK);
        world_run(2);
    }
    world_run(100);
    ck_assert(world_all_applied(group_last_index(l->g)));
    ck_assert_uint_eq(l->applies, 50);
    ck_assert_uint_eq(group_inflight_bytes(l->g), 0);
    ck_assert_ptr_nonnull(group_leader(W.node[2].g));
    ck_assert_uint_eq(group_leader(W.node[2].g)->node, 1);
    ok();
    /* everybody restarts, one with an engine that lags */
    flush(&W.node[2]);
    for (unsigned i = 1; i <= 3; i++)
        node_crash(&W.node[i], i & 1);
    uint64_t last = W.applied_max;
    for (unsigned i = 1; i <= 3; i++)
        node_start(&W.node[i]);
    l = world_wait_leader(3000);
    ok();
    ck_assert_ptr_nonnull(l);
    ck_assert_uint_gt(group_last_index(l->g), last);
    ck_assert_int_eq(world_propose(l, "x", 1), ERR_OK);
    world_run(300);
    ck_assert(world_all_applied(group_last_index(l->g)));
    ok();
    world_close();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("group");
    TCase *t = tcase_create("group");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, three_nodes);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
