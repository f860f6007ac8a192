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

struct reader {
    struct group_read r;
    enum err result;
    unsigned done;
};

static void read_done(struct group_read *r, enum err e)
{
    struct reader *x = CONTAINER_OF(r, struct reader, r);
    x->result = e;
    x->done++;
}

START_TEST(reads)
{
    struct reader r[100] = {0};
    world_init(2);
    world_create(3, 1);
    world_run(150);
    struct node *l = world_leader();
    ck_assert_ptr_nonnull(l);
    uint64_t rounds = group_set_stats(l->set)->read_rounds;
    for (unsigned i = 0; i < 100; i++) {
        r[i].r.done = read_done;
        group_read(l->g, &r[i].r);
    }
    group_set_turn(l->set);
    ck_assert_uint_eq(r[0].done, 0);
    world_run(10);
    for (unsigned i = 0; i < 100; i++) {
        ck_assert_uint_eq(r[i].done, 1);
        ck_assert_int_eq(r[i].result, ERR_OK);
    }
    ck_assert_uint_eq(group_set_stats(l->set)->read_rounds, rounds + 1); /* one for all */
    /* a message of the turn carries the stamp: no ping */
    struct reader two = {.r.done = read_done};
    uint64_t index, term;
    world_run(1);
    l->io.now = W.now += 1000;
    ck_assert_int_eq(group_propose(l->g, slice_of("x", 1), &index, &term), ERR_OK);
    group_read(l->g, &two.r);
    group_set_turn(l->set);
    world_run(20);
    ck_assert_uint_eq(two.done, 1);
    ck_assert_uint_eq(group_set_stats(l->set)->read_rounds, rounds + 1);
    /* cut off: nothing is answered until the leader notices, then refused */
    struct reader three = {.r.done = read_done}, gone = {.r.done = read_done};
    for (unsigned i = 2; i <= 3; i++)
        W.cut[1][i] = W.cut[i][1] = true;
    group_read(l->g, &three.r);
    group_read(l->g, &gone.r);
    group_read_cancel(&gone.r);
    group_set_turn(l->set);
    world_run(50);
    ck_assert_uint_eq(three.done, 0);
    world_run(1000);
    ck_assert_uint_eq(three.done, 1);
    ck_assert_int_eq(three.result, ERR_NOT_LEADER);
    ck_assert_uint_eq(gone.done, 0);
    /* a lost ping is repeated */
    memset(W.cut, 0, sizeof W.cut);
    l = world_wait_leader(3000);
    ck_assert_ptr_nonnull(l);
    struct reader four = {.r.done = read_done};
    W.drop = 1000;
    group_read(l->g, &four.r);
    group_set_turn(l->set);
    world_run(5);
    W.drop = 0;
    world_run(100);
    ck_assert_uint_eq(four.done, 1);
    ck_assert_int_eq(four.result, ERR_OK);
    /* stopping the group ends what is pending */
    struct reader five = {.r.done = read_done};
    group_read(l->g, &five.r);
    group_stop(l->g);
    l->g = NULL;
    ck_assert_int_eq(five.result, ERR_SHUTTING_DOWN);
    ok();
    world_close();
}
END_TEST

START_TEST(transfer)
{
    world_init(3);
    world_create(3, 1);
    world_run(150);
    struct node *l = world_leader();
    ck_assert_int_eq(group_transfer(W.node[2].g, 3), ERR_NOT_LEADER);
    ck_assert_int_eq(group_transfer(l->g, 9), ERR_REFUSED);
    for (unsigned i = 0; i < 20; i++)
        ck_assert_int_eq(world_propose(l, &i, sizeof i), ERR_OK);
    ck_assert_int_eq(group_transfer(l->g, 3), ERR_OK);
    ck_assert_int_eq(world_propose(l, "x", 1), ERR_BUSY);
    uint64_t from = W.now;
    while (world_leader() != &W.node[3] && W.now < from + NS_PER_S)
        world_run(1);
    ck_assert_uint_lt(W.now - from, 100 * NS_PER_MS);
    world_run(100);
    ck_assert_int_eq(world_propose(&W.node[3], "x", 1), ERR_OK);
    /* to one that cannot be reached: given up after an election timeout */
    W.cut[3][2] = W.cut[2][3] = true;
    world_run(20);
    ck_assert_int_eq(world_propose(&W.node[3], "y", 1), ERR_OK);
    ck_assert_int_eq(group_transfer(W.node[3].g, 2), ERR_OK);
    world_run(100);
    ck_assert_int_eq(world_propose(&W.node[3], "z", 1), ERR_BUSY);
    world_run(250);
    if (world_leader() == &W.node[3])
        ck_assert_int_eq(world_propose(&W.node[3], "z", 1), ERR_OK);
    ok();
    world_close();
}
END_TEST

static void change_to(unsigned replica, uint8_t role)
{
    for (unsigned i = 0; i < 400; i++) {
        struct node *l = world_leader();
        if (l) {
            struct group_conf c = l->g->conf;
            struct group_member *m = (struct group_member *)(uintptr_t)group_conf_find(&c, replica);
            if (m)
                m->role = role;
            else
                c.member[c.n++] =
                    (struct group_member){.replica = replica, .node = replica, .role = role};
            enum err e = group_change(l->g, &c);
            group_set_turn(l->set);
            if (e == ERR_OK) {
                world_run(50);
                return;
            }
            ck_assert_int_eq(e, ERR_BUSY);
        }
        world_run(20);
    }
    ck_abort_msg("no change");
}

START_TEST(grow)
{
    world_init(4);
    world_create(1, 0);
    for (unsigned i = 2; i <= 3; i++)
        world_join(i);
    world_run(50);
    struct node *l = world_leader();
    ck_assert_ptr_eq(l, &W.node[1]); /* alone: at once */
    for (unsigned i = 0; i < 30; i++) {
        ck_assert_int_eq(world_propose(l, &i, sizeof i), ERR_OK);
        world_run(3);
    }
    change_to(2, GROUP_STANDBY);
    change_to(3, GROUP_STANDBY);
    world_run(1500);
    ck_assert_uint_eq(W.node[2].installs, 1); /* an empty replica gets a snapshot */
    change_to(2, GROUP_VOTER);
    change_to(3, GROUP_VOTER);
    world_run(200);
    ck_assert_uint_eq(raft_conf_voters(&group_applied(W.node[3].g)->conf), 3);
    /* what must not be */
    struct group_conf c = l->g->conf;
    c.member[0].role = GROUP_STANDBY;
    ck_assert_int_eq(group_change(l->g, &c), ERR_REFUSED); /* the leader itself */
    c = l->g->conf;
    c.member[1].role = GROUP_STANDBY;
    ck_assert_int_eq(group_change(l->g, &c), ERR_REFUSED); /* two voters of three */
    c = l->g->conf;
    c.member[c.n++] = (struct group_member){.replica = 4, .node = 4, .role = GROUP_VOTER};
    ck_assert_int_eq(group_change(l->g, &c), ERR_REFUSED); /* a voter from nowhere */
    ck_assert_int_eq(group_change(l->g, &l->g->conf), ERR_REFUSED);
    node_crash(l, true);
    ck_assert_ptr_nonnull(world_wait_leader(3000));
    node_start(l);
    world_run(500);
    ck_assert(world_all_applied(W.applied_max));
    ok();
    world_close();
}
END_TEST

START_TEST(read_back)
{
    /* memory for next to nothing: a laggard is served from the WAL, a restart applies from it */
    uint8_t data[2000];
    world_init(5);
    W.log_memory = 8000;
    world_create(3, 1);
    world_run(150);
    struct node *l = world_leader();
    node_crash(&W.node[3], true);
    for (unsigned i = 0; i < 300; i++) {
        memset(data, (int)i, sizeof data);
        while (world_propose(l, data, sizeof data) == ERR_BUSY)
            world_run(5);
        world_run(2);
    }
    world_run(100);
    ck_assert_uint_lt(group_set_stats(l->set)->log_bytes, 40000);
    node_start(&W.node[3]);
    world_run(2000);
    ck_assert_uint_eq(W.node[3].installs, 0);
    ck_assert(world_all_applied(W.applied_max));
    ck_assert_uint_gt(group_set_stats(l->set)->log_reads, 250);
    ok();
    for (unsigned i = 1; i <= 3; i++)
        node_crash(&W.node[i], false);
    for (unsigned i = 1; i <= 3; i++)
        node_start(&W.node[i]);
    ck_assert_uint_eq(group_applied(W.node[2].g)->index, 1);
    ck_assert_ptr_nonnull(world_wait_leader(3000));
    world_run(1000);
    ck_assert(world_all_applied(W.applied_max));
    ok();
    world_close();
}
END_TEST

static void count_log(void *arg, uint64_t group)
{
    ck_assert_uint_eq(group, GROUP);
    ++*(unsigned *)arg;
}

START_TEST(life)
{
    world_init(6);
    world_create(1, 0);
    world_run(50);
    struct node *x = &W.node[1];
    unsigned n = 0;
    uint64_t it = 0;
    ck_assert_ptr_eq(group_set_next(x->set, &it), x->g);
    ck_assert_ptr_null(group_set_next(x->set, &it));
    ck_assert_uint_eq(group_set_leaders(x->set), 1);
    ck_assert_int_eq(world_propose(x, "one", 3), ERR_OK);
    group_stop(x->g); /* its entry is not durable yet */
    x->g = NULL;
    ck_assert(group_set_has_log(x->set, GROUP));
    ck_assert_int_eq(node_start_group(x, true, false), ERR_EXISTS);
    unsigned applies = x->applies;
    ck_assert_int_eq(node_start_group(x, false, false), ERR_OK);
    ck_assert_uint_eq(x->applies, applies); /* not before it is durable */
    world_run(20);
    ck_assert_uint_eq(x->applies, applies + 1);
    group_stop(x->g);
    x->g = NULL;
    group_set_each_log(x->set, count_log, &n);
    ck_assert_uint_eq(n, 1);
    group_set_drop_log(x->set, GROUP);
    ck_assert(!group_set_has_log(x->set, GROUP));
    world_run(20);
    group_set_turn(x->set);
    world_run(20);
    node_crash(x, false);
    node_open(x);
    ck_assert(!group_set_has_log(x->set, GROUP)); /* it does not come back */
    ck_assert_int_eq(node_start_group(x, false, false), ERR_CORRUPT);
    ok();
    world_close();
}
END_TEST

START_TEST(idle)
{
    world_init(7);
    world_create(3, 1);
    world_run(500);
    uint64_t out = group_set_stats(W.node[1].set)->messages_out;
    world_run(10000);
    out = group_set_stats(W.node[1].set)->messages_out - out;
    ck_assert_uint_le(out, 2 * 10000 / 40); /* a heartbeat to each follower, no more */
    ck_assert_uint_ge(out, 2 * 10000 / 60);
    ck_assert_uint_eq(W.elections, 1);
    ok();
    world_close();
}
END_TEST

/* Followers apply right after the leader, not with its next heartbeat, at one more message each. */
START_TEST(told_of_commits)
{
    world_init(8);
    W.tell_commits = true;
    world_create(3, 1);
    world_run(500);
    struct node *l = world_leader();
    for (unsigned i = 0; i < 20; i++) {
        ck_assert_int_eq(world_propose(l, &i, sizeof i), ERR_OK);
        world_run(10);
        ck_assert_msg(world_all_applied(group_last_index(l->g)), "proposal %u", i);
        world_run(3);
    }
    uint64_t out = group_set_stats(W.node[1].set)->messages_out;
    world_run(10000);
    out = group_set_stats(W.node[1].set)->messages_out - out;
    ck_assert_uint_le(out, 2 * 10000 / 40);
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
    tcase_add_test(t, reads);
    tcase_add_test(t, transfer);
    tcase_add_test(t, grow);
    tcase_add_test(t, read_back);
    tcase_add_test(t, life);
    tcase_add_test(t, idle);
    tcase_add_test(t, told_of_commits);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
