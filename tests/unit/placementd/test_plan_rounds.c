/* The planner played through: it comes to rest, moves no replica twice, keeps its limits, and
 * leaves an even cluster behind; also where sizes, disks and zones are against it. */
#include <check.h>

#include "tests/unit/placementd/plan_play.h"

enum { ADD = 1, DRAIN = 2, KILL = 4 };

static void happen(struct played *p, int what)
{
    uint32_t nodes = p->n_nodes;
    if (what & ADD)
        play_add_nodes(p, nodes / 5);
    for (uint32_t i = 0; (what & DRAIN) && i < nodes / 25; i++)
        p->nodes[i * 25 + 3].draining = true;
    for (uint32_t i = 0; (what & KILL) && i < nodes / 50; i++)
        p->nodes[i * 50 + 17].state = PLAN_NODE_DEAD;
}

START_TEST(test_converges)
{
    static const struct {
        uint32_t nodes, groups, zones;
        uint64_t bytes;
        int what;
    } rows[] = {
        {100, 2000, 5, 20 * GIB, 0},
        {100, 2000, 5, 20 * GIB, ADD},
        {100, 2000, 5, 20 * GIB, DRAIN},
        {100, 2000, 5, 20 * GIB, KILL},
        {100, 2000, 5, 20 * GIB, ADD | DRAIN | KILL},
        {100, 2000, 3, 20 * GIB, ADD | DRAIN | KILL},
        {100, 2000, 5, 0, ADD | DRAIN | KILL}, /* empty: by count */
        {50, 3000, 10, 20 * MIB, ADD | DRAIN | KILL},
    };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        struct played p;
        unsigned lo, hi;
        play_open(&p, rows[r].nodes, rows[r].nodes / 5, rows[r].groups, rows[r].zones,
                  rows[r].bytes);
        ck_assert_msg(play_run(&p, 200, NULL), "row %zu: no rest at first", r);
        happen(&p, rows[r].what);
        bool rest = play_run(&p, 1000, NULL);
        play_levels(&p, false, &lo, &hi);
        printf("row %zu: %u rounds, %u moves, %u replaced, %u transfers, %u twice, bytes %u..%u%%",
               r, p.rounds, p.moves, p.replaced, p.transfers, p.twice, lo, hi);
        ck_assert_msg(rest, "row %zu: no rest after %u rounds", r, p.rounds);
        ck_assert_msg(p.twice == 0, "row %zu: %u replicas were moved twice", r, p.twice);
        ck_assert_msg(lo >= 90 && hi <= 110, "row %zu: bytes %u..%u%%", r, lo, hi);
        play_levels(&p, true, &lo, &hi);
        printf(", leaders %u..%u%%\n", lo, hi);
        ck_assert_msg(lo >= 85 && hi <= 115, "row %zu: leaders %u..%u%%", r, lo, hi);
        play_check_placed(&p);
        play_close(&p);
    }
}
END_TEST

/* As in earnest: an operator takes a few rounds, in which its group is busy and its nodes have
 * moves under way. Nothing is proposed for what is on its way already, and it ends as even. */
START_TEST(test_in_flight)
{
    enum { LASTS = 5 };
    static const uint64_t sizes[] = {0, 20 * GIB};
    for (size_t r = 0; r < sizeof sizes / sizeof sizes[0]; r++) {
        struct played p;
        struct plan_list under_way[LASTS];
        unsigned lo, hi, quiet = 0, round = 0;
        play_open(&p, 50, 10, 1000, 5, sizes[r]);
        ck_assert(play_run(&p, 200, NULL));
        happen(&p, ADD | DRAIN | KILL);
        play_begin(&p);
        for (int i = 0; i < LASTS; i++)
            plan_list_init(&under_way[i]);
        for (; quiet < LASTS + 1 && round < 3000; round++) {
            struct plan_list *l = &under_way[round % LASTS];
            for (uint32_t k = 0; k < l->n; k++) {
                play_mark(&p, &l->op[k], false);
                play_apply(&p, &l->op[k]);
            }
            l->n = 0;
            plan_round(&p.v, l);
            for (uint32_t k = 0; k < l->n; k++)
                play_mark(&p, &l->op[k], true);
            quiet = l->n ? 0 : quiet + 1;
        }
        for (int i = 0; i < LASTS; i++)
            plan_list_close(&under_way[i]);
        play_levels(&p, false, &lo, &hi);
        printf(
            "in flight %zu: %u rounds, %u moves, %u replaced, %u transfers, %u twice, %u..%u%%\n",
            r, round, p.moves, p.replaced, p.transfers, p.twice, lo, hi);
        ck_assert_msg(quiet > LASTS, "no rest");
        ck_assert_uint_eq(p.twice, 0);
        ck_assert_msg(lo >= 90 && hi <= 110, "%u..%u%%", lo, hi);
        play_check_placed(&p);
        play_close(&p);
    }
}
END_TEST

START_TEST(test_same_answer)
{
    struct played p;
    struct plan_list a, b;
    play_open(&p, 30, 6, 300, 3, GIB);
    happen(&p, ADD | DRAIN | KILL);
    plan_list_init(&a);
    plan_list_init(&b);
    plan_round(&p.v, &a);
    plan_round(&p.v, &b);
    ck_assert_uint_gt(a.n, 10);
    ck_assert_uint_eq(a.n, b.n);
    ck_assert_mem_eq(a.op, b.op, a.n * sizeof(*a.op));
    plan_list_close(&a);
    plan_list_close(&b);
    play_close(&p);
}
END_TEST

/* One shard is larger than all the others together. */
START_TEST(test_huge_shard)
{
    struct played p;
    play_open(&p, 6, 4, 60, 3, GIB);
    uint64_t more = 80 * GIB;
    p.groups[0].bytes += more;
    for (uint32_t i = 0; i < p.n_nodes; i++) {
        p.nodes[i].disk_size += 2 * more;
        p.nodes[i].disk_free += 2 * more;
    }
    p.disk += 2 * more;
    for (uint32_t i = 0; i < 3; i++)
        p.nodes[p.descs[0].replica[i].node - 1].disk_free -= more;
    play_add_nodes(&p, 4);
    ck_assert(play_run(&p, 200, NULL));
    ck_assert_uint_eq(p.twice, 0);
    /* what shared a node with it went elsewhere, it did not wander */
    ck_assert_int_eq(p.placed[0] + p.placed[1] + p.placed[2], 0);
    ck_assert_uint_gt(p.moves, 0);
    play_check_placed(&p);
    play_close(&p);
}
END_TEST

/* All disks full: nothing can move, nothing is proposed again and again. One new node: it is filled
 * to its limit and no further. */
START_TEST(test_full_disks)
{
    struct played p;
    play_open(&p, 9, 1, 90, 9, GIB);
    for (uint32_t i = 0; i < p.n_nodes; i++) {
        uint64_t used = p.nodes[i].disk_size - p.nodes[i].disk_free;
        p.nodes[i].disk_size = used * 100 / 85;
        p.nodes[i].disk_free = p.nodes[i].disk_size - used;
    }
    p.nodes[2].state = PLAN_NODE_DEAD;
    ck_assert(play_run(&p, 10, NULL));
    ck_assert_uint_eq(p.moves + p.replaced, 0);
    p.disk = 3 * GIB;
    play_add_nodes(&p, 1);
    ck_assert(play_run(&p, 100, NULL));
    ck_assert_uint_ge(p.replaced, 1);
    ck_assert_uint_eq(p.twice, 0);
    ck_assert(p.nodes[9].disk_free * 5 >= p.nodes[9].disk_size);
    play_close(&p);
}
END_TEST

/* All in one zone; then two more zones come: every group gets a replica in both. With large shards
 * of different sizes, a tenth of a node each, a last one or two are moved again to even them out.
 */
START_TEST(test_one_zone)
{
    for (int large = 0; large < 2; large++) {
        struct played p;
        play_open(&p, 6, 12, 60, 1, large ? GIB : 0);
        ck_assert(play_run(&p, 100, NULL));
        p.zones = 3;
        p.disk = large ? p.disk : 100 * GIB;
        play_add_nodes(&p, 12);
        for (uint32_t i = 0; i < 18; i++) {
            p.nodes[i].zone = i < 6 ? "a" : i % 2 ? "b" : "c";
            p.nodes[i].disk_size = p.disk;
        }
        ck_assert(play_run(&p, 200, NULL));
        ck_assert_uint_le(p.twice, large ? 3 : 0);
        ck_assert_uint_ge(p.moves, 120);
        play_check_placed(&p);
        play_close(&p);
    }
}
END_TEST

/* The playground: 3 nodes become 5, shards empty or not. */
START_TEST(test_playground)
{
    for (uint32_t groups = 1; groups <= 40; groups++) {
        struct played p;
        unsigned count[5] = {0}, lo = UINT32_MAX, hi = 0;
        play_open(&p, 3, 2, groups, 3, 0);
        p.disk = 100 * GIB;
        for (uint32_t i = 0; i < 3; i++) {
            p.nodes[i].disk_size = p.nodes[i].disk_free = p.disk;
            p.nodes[i].zone = "";
        }
        ck_assert(play_run(&p, 100, NULL));
        play_add_nodes(&p, 2);
        p.nodes[3].zone = p.nodes[4].zone = "";
        ck_assert(play_run(&p, 100, NULL));
        ck_assert_uint_eq(p.twice, 0);
        for (uint32_t g = 0; g < groups; g++)
            for (uint32_t i = 0; i < 3; i++)
                count[p.descs[g].replica[i].node - 1]++;
        for (uint32_t i = 0; i < 5; i++) {
            lo = count[i] < lo ? count[i] : lo;
            hi = count[i] > hi ? count[i] : hi;
        }
        unsigned slack = 1 + groups * 3 / 5 / 10; /* 10 %: twice the hysteresis */
        ck_assert_msg(hi - lo <= slack, "%u groups: %u..%u replicas", groups, lo, hi);
        play_close(&p);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plan_rounds");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_converges);
    tcase_add_test(t, test_in_flight);
    tcase_add_test(t, test_same_answer);
    tcase_add_test(t, test_huge_shard);
    tcase_add_test(t, test_full_disks);
    tcase_add_test(t, test_one_zone);
    tcase_add_test(t, test_playground);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
