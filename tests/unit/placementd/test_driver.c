/* The driver against a model of nodes (driver_model.h): every kind of operator, alone and under
 * lost reports, changes of placementd's leader, nodes that go away and come back, cancelling. */
#include "tests/unit/placementd/driver_world.h"

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
