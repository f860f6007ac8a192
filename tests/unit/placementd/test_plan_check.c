/* What is asked for by hand: blanks filled in, or refused with the reason. */
#include "tests/unit/placementd/plan_draw.h"

#define N1 "n1 - h1 100G/10G up;"
#define N2 "n2 - h2 100G/10G up;"
#define N3 "n3 - h3 100G/10G up;"
#define N4 "n4 - h4 100G/10G up;"
#define G1 "g1 n1* n2 n3 1G;"

struct row {
    const char *cluster;
    struct plan_op op;
    enum err want;
    const char *says; /* the operator as text, or part of the refusal */
};

static void run(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct drawing d;
        struct plan_op op = rows[i].op;
        char why[200] = "", got[200] = "";
        draw(&d, rows[i].cluster);
        enum err e = plan_check(&d.v, &op, why, sizeof why);
        draw_op(&op, got, sizeof got);
        ck_assert_msg(e == rows[i].want, "row %zu: %s \"%s\"", i, err_name(e), why);
        if (e == ERR_OK) {
            ck_assert_msg(strcmp(got, rows[i].says) == 0, "row %zu: \"%s\"", i, got);
            ck_assert_msg(op.why[0] != 0, "row %zu: no reason", i);
        } else {
            ck_assert_msg(strstr(why, rows[i].says), "row %zu: \"%s\"", i, why);
            ck_assert_msg(memcmp(&op, &rows[i].op, sizeof op) == 0, "row %zu: changed", i);
        }
    }
}
#define RUN(rows) run(rows, sizeof(rows) / sizeof((rows)[0]))
#define OP(k, ...)                                                                                 \
    {                                                                                              \
        .kind = k, .group = 1, __VA_ARGS__                                                         \
    }

START_TEST(test_move)
{
    static const struct row rows[] = {
        {N1 N2 N3 N4 G1, OP(PLAN_MOVE, .from = 2, .to = 4), ERR_OK, "move g1 n2>n4"},
        {N1 N2 N3 N4 G1, OP(PLAN_MOVE, .from = 2), ERR_OK, "move g1 n2>n4"},
        {N1 N2 N3 N4 G1, OP(PLAN_MOVE, .replica = 13), ERR_OK, "move g1 n3>n4"},
        /* limits make it wait, they do not refuse it */
        {N1 N2 N3 "n4 - h4 100G/10G up in=2;" G1, OP(PLAN_MOVE, .from = 2, .to = 4), ERR_OK,
         "move g1 n2>n4"},
        {N1 N2 N3 N4 G1, OP(PLAN_MOVE, .to = 4), ERR_REFUSED, "name its node"},
        {N1 N2 N3 N4 G1, OP(PLAN_MOVE, .from = 4), ERR_NOT_FOUND, "group 1 has no replica on n4"},
        {N1 N2 N3 N4 G1, OP(PLAN_MOVE, .from = 9), ERR_NOT_FOUND, "there is no node 9"},
        {N1 N2 N3 N4 G1, OP(PLAN_MOVE, .from = 1, .to = 9), ERR_NOT_FOUND, "there is no node 9"},
        {N1 N2 N3 N4 G1, OP(PLAN_MOVE, .replica = 99), ERR_NOT_FOUND, "no replica 99"},
        {N1 N2 N3 N4 G1, OP(PLAN_MOVE, .from = 2, .to = 2), ERR_REFUSED, "on n2 already"},
        {N1 N2 N3 N4 G1, OP(PLAN_MOVE, .from = 2, .to = 3), ERR_REFUSED, "n3 has a replica"},
        {N1 N2 N3 G1, OP(PLAN_MOVE, .from = 2), ERR_REFUSED, "add a node"},
        {N1 N2 N3 "n4 - h4 100G/80G up;" G1, OP(PLAN_MOVE, .from = 2, .to = 4), ERR_REFUSED,
         "n4's disk would be 81% full, 80% is the limit"},
        {N1 N2 N3 "n4 - h4 100G/80G up;" G1, OP(PLAN_MOVE, .from = 2), ERR_REFUSED,
         "no node can take a replica of group 1; n4's disk"},
        {N1 N2 N3 "n4 - h3 100G/10G up;" G1, OP(PLAN_MOVE, .from = 2, .to = 4), ERR_REFUSED,
         "n4 is on host h3"},
        {N1 N2 N3 "n4 - h3 100G/10G up;" G1, OP(PLAN_MOVE, .from = 3, .to = 4), ERR_OK,
         "move g1 n3>n4"},
        {"n1 za h1 100G/10G up; n2 zb h2 100G/10G up; n3 zc h3 100G/10G up;"
         "n4 za h4 100G/10G up;" G1,
         OP(PLAN_MOVE, .from = 2, .to = 4), ERR_REFUSED, "n4 is in zone za"},
        {"n1 za h1 100G/10G up; n2 zb h2 100G/10G up; n3 zc h3 100G/10G up;"
         "n4 za h4 100G/10G up;" G1,
         OP(PLAN_MOVE, .from = 1, .to = 4), ERR_OK, "move g1 n1>n4"},
        {N1 N2 N3 "n4 - h4 100G/10G maint;" G1, OP(PLAN_MOVE, .from = 2, .to = 4), ERR_REFUSED,
         "n4 is in maintenance"},
        {N1 N2 N3 "n4 - h4 100G/10G draining;" G1, OP(PLAN_MOVE, .from = 2, .to = 4), ERR_REFUSED,
         "n4 is draining"},
        {N1 N2 N3 "n4 - h4 100G/10G down;" G1, OP(PLAN_MOVE, .from = 2, .to = 4), ERR_REFUSED,
         "n4 is down"},
        {N1 N2 N3 N4 "g1 n1* n2 n3 1G busy", OP(PLAN_MOVE, .from = 2), ERR_BUSY, "under way"},
        {N1 N2 N3 N4 "g2 n1* n2 n3 1G", OP(PLAN_MOVE, .from = 2), ERR_NOT_FOUND,
         "there is no group 1"},
        {N1 "n2 - h2 100G/10G down;"
            "n3 - h3 100G/10G down;" N4 G1,
         OP(PLAN_MOVE, .from = 2), ERR_REFUSED, "1 of 3 voters up and caught up"},
        /* one is down: two of three stay up to date on the way */
        {N1 N2 "n3 - h3 100G/10G down;" N4 G1, OP(PLAN_MOVE, .from = 2), ERR_OK, "move g1 n2>n4"},
    };
    RUN(rows);
}
END_TEST

START_TEST(test_members)
{
    static const struct row rows[] = {
        {N1 N2 N3 N4 G1, OP(PLAN_ADD), ERR_OK, "add g1 >n4"},
        {N1 N2 N3 N4 G1, OP(PLAN_ADD, .to = 4), ERR_OK, "add g1 >n4"},
        {N1 N2 N3 N4 G1, OP(PLAN_ADD, .to = 3), ERR_REFUSED, "n3 has a replica"},
        {N1 N2 N3 N4 "n5 - h5 100G/10G up;"
                     "g1 n1* n2 n3 n4 1G",
         OP(PLAN_ADD), ERR_REFUSED, "4 replicas, 3 are wanted"},
        {N1 N2 N3 N4 G1, OP(PLAN_REMOVE, .from = 3), ERR_REFUSED, "left with 2 of 3"},
        {N1 N2 N3 N4 "g1 n1* n2 n3 n4 1G", OP(PLAN_REMOVE, .from = 3), ERR_OK, "remove g1 n3"},
        {N1 N2 N3 "n4 - h4 100G/10G down;"
                  "g1 n1* n2 n3 n4 1G",
         OP(PLAN_REMOVE, .from = 3), ERR_OK, "remove g1 n3"},
        {N1 N2 "n3 - h3 100G/10G down;" N4 "n5 - h5 100G/10G down;"
               "opt replicas=4;"
               "g1 n1* n2 n3 n4 n5 1G",
         OP(PLAN_REMOVE, .from = 1), ERR_REFUSED, "left with 2 of 4 voters up to date"},
        {N1 N2 N3 N4 "g1 n1* n2 n3 n4? 1G", OP(PLAN_REMOVE, .from = 4), ERR_OK, "remove g1 n4"},
        {N1 N2 N3 "opt replicas=1;" G1, OP(PLAN_REMOVE, .from = 3), ERR_REFUSED, "two voters"},
        {N1 N2 "opt replicas=1; g1 n1* 1G", OP(PLAN_ADD), ERR_REFUSED, "would have two voters"},
        {N1 N2 "opt replicas=1; g1 n1* 1G", OP(PLAN_MOVE, .from = 1), ERR_OK, "move g1 n1>n2"},
        {N1 N2 N3 "g1 n1* n2 1G", OP(PLAN_ADD), ERR_OK, "add g1 >n3"},
        {N1 N2 N3 "g1 n1* n2 1G", OP(PLAN_MOVE, .from = 2), ERR_REFUSED, "never become two"},
        {N1 "opt replicas=1; g1 n1* 1G", OP(PLAN_REMOVE, .from = 1), ERR_REFUSED, "left with 0"},
        {N1 N2 "n3 - h3 100G/10G dead;" N4 G1, OP(PLAN_REPLACE, .from = 3), ERR_OK,
         "replace g1 n3>n4"},
        {N1 N2 N3 N4 G1, OP(PLAN_REPLACE, .from = 3), ERR_REFUSED, "healthy"},
        {N1 N2 N3 N4 G1, OP(PLAN_TRANSFER, .to = 2), ERR_OK, "transfer g1 n1>n2"},
        {N1 N2 N3 N4 "g1 n1* n2~ n3 1G", OP(PLAN_TRANSFER), ERR_OK, "transfer g1 n1>n3"},
        {N1 N2 N3 N4 "g1 n1* n2~ n3 1G", OP(PLAN_TRANSFER, .to = 2), ERR_REFUSED, "not up to date"},
        {N1 N2 N3 N4 G1, OP(PLAN_TRANSFER, .to = 1), ERR_REFUSED, "n1 leads group 1 already"},
        {N1 N2 N3 N4 G1, OP(PLAN_TRANSFER, .to = 4), ERR_NOT_FOUND, "no replica on n4"},
        {N1 N2 N3 N4 "g1 n1 n2 n3 1G", OP(PLAN_TRANSFER, .to = 2), ERR_REFUSED, "not known"},
        {N1 "n2 - h2 100G/10G draining;" N3 G1, OP(PLAN_TRANSFER, .to = 2), ERR_REFUSED,
         "draining"},
    };
    RUN(rows);
}
END_TEST

START_TEST(test_ranges)
{
    static const struct row rows[] = {
        {N1 N2 N3 G1, OP(PLAN_SPLIT), ERR_OK, "split g1 @8192"},
        {N1 N2 N3 G1, OP(PLAN_SPLIT, .slot = 1), ERR_OK, "split g1 @1"},
        {N1 N2 N3 G1 "g2 n1* n2 n3 1G", OP(PLAN_SPLIT, .slot = 8192), ERR_REFUSED,
         "may be 1 to 8191"},
        {N1 N2 N3 "opt max_groups=1;" G1, OP(PLAN_SPLIT), ERR_REFUSED, "1 is the limit"},
        {N1 N2 N3 N4 "g1 n1* n2 n3 n4? 1G", OP(PLAN_SPLIT), ERR_BUSY, "not finished"},
        {N1 N2 N3 G1 "g2 n1* n2 n3 1G", OP(PLAN_MERGE, .into = 2), ERR_OK, "merge g1 into g2"},
        {N1 N2 N3 "g1 n1* n2 n3 1G; g2 n1* n2 n3 1G; g3 n1* n2 n3 1G", OP(PLAN_MERGE, .into = 3),
         ERR_REFUSED, "not neighbours"},
        {N1 N2 N3 "g1 n1* n2 n3 1G; g2 n1* n2 n3 1G; g3 n1* n2 n3 1G", OP(PLAN_MERGE), ERR_OK,
         "merge g1 into g2"},
        {N1 N2 N3 G1, OP(PLAN_MERGE), ERR_NOT_FOUND, "no neighbour"},
        {N1 N2 N3 G1, OP(PLAN_MERGE, .into = 1), ERR_REFUSED, "into itself"},
        {N1 N2 N3 G1, OP(PLAN_MERGE, .into = 7), ERR_NOT_FOUND, "there is no group 7"},
        {N1 N2 N3 G1 "g2 n1* n2 n3 1G busy", OP(PLAN_MERGE, .into = 2), ERR_BUSY, "group 2"},
        {N1 N2 N3 G1 "g2 n1* n2 n3~ 1G", OP(PLAN_MERGE, .into = 2), ERR_REFUSED, "all replicas"},
        {N1 N2 N3 "opt split_bytes=1.5G;" G1 "g2 n1* n2 n3 1G", OP(PLAN_MERGE, .into = 2),
         ERR_REFUSED, "2.0 GiB and would be split again at 1.5"},
        {N1 N2 N3 G1, {.kind = 99, .group = 1}, ERR_REFUSED, "no such kind"},
    };
    RUN(rows);
}
END_TEST

START_TEST(test_may_take)
{
    static const struct {
        const char *cluster, *says;
        uint32_t to;
        uint64_t leaving;
        bool any; /* no group in particular */
    } rows[] = {
        {N1 N2 N3 N4 G1, "", 4, 0, false},
        {N1 N2 N3 N4 G1, "n2 has a replica", 2, 0, false},
        {N1 N2 N3 N4 G1, "", 2, 0, true},
        {N1 N2 N3 "n4 - h2 100G/10G up;" G1, "on host h2", 4, 0, false},
        {N1 N2 N3 "n4 - h2 100G/10G up;" G1, "", 4, 12, false},
        {N1 N2 N3 "n4 - h4 100G/81G up;" G1, "81% full", 4, 0, true},
        {N1 N2 N3 "n4 - h4 100G/70G up inb=11G;" G1, "81% full", 4, 0, true},
        {N1 N2 N3 "n4 - h4 100G/10G suspect;" G1, "not heard of", 4, 0, true},
        {N1 N2 N3 "n4 - h4 0G/0G up;" G1, "how large", 4, 0, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct drawing d;
        char why[200] = "";
        draw(&d, rows[i].cluster);
        enum err e =
            plan_may_take(&d.v, rows[i].any ? NULL : plan_find_group(&d.v, 1), rows[i].leaving,
                          plan_find_node(&d.v, rows[i].to), why, sizeof why);
        ck_assert_msg(e == (rows[i].says[0] ? ERR_REFUSED : ERR_OK), "row %zu: %s", i, why);
        ck_assert_msg(strstr(why, rows[i].says), "row %zu: %s", i, why);
    }
}
END_TEST

START_TEST(test_preview_drain)
{
    static const struct {
        const char *cluster;
        uint32_t node;
        enum err want;
        const char *says; /* the operators, or part of the refusal */
        uint64_t bytes;
        unsigned lowest, peak; /* peak: of n4's disk */
    } rows[] = {
        {N1 N2 N3 N4 G1, 3, ERR_OK, "move g1 n3>n4", GIB, 3, 11},
        {N1 N2 N3 N4 "g1 n1 n2 n3* 1G; g2 n1* n2 n4 3G", 3, ERR_OK, "move g1 n3>n4", GIB, 3, 11},
        {N1 N2 N3 N4 "g1 n1* n2 n4 1G", 3, ERR_OK, "", 0, 3, 10},
        {N1 N2 N3 N4 G1, 9, ERR_NOT_FOUND, "no node 9", 0, 0, 0},
        {N1 N2 N3 G1, 3, ERR_REFUSED, "add a node first", 0, 0, 0},
        {N1 N2 N3 "n4 - h4 100G/79G up;"
                  "g1 n1* n2 n3 2G",
         3, ERR_REFUSED, "1 replica could not leave n3; group 1: n4's disk would be 81% full", 0, 0,
         0},
        /* each alone would fit */
        {N1 N2 N3 "n4 - h4 100G/75G up;"
                  "g1 n1* n2 n3 3G; g2 n1* n2 n3 3G; g3 n1* n2 n3 3G",
         3, ERR_REFUSED, "2 replicas could not leave", 0, 0, 0},
        {N1 N2 N3 "n4 - h1 100G/10G up;" G1, 3, ERR_REFUSED, "on host h1", 0, 0, 0},
        {N1 "n2 - h2 100G/10G down;" N3 N4 "g1 n1* n2 n3~ 1G", 3, ERR_REFUSED, "majority", 0, 0, 0},
        {N1 N2 "n3 - h3 100G/10G down;" N4 G1, 3, ERR_REFUSED, "not up", 0, 0, 0},
        /* zones: za has room but zc is full */
        {"n1 za h1 100G/10G up; n2 zb h2 100G/10G up; n3 zc h3 100G/10G up; n4 za h4 100G/10G up;"
         "n5 zc h5 100G/90G up;" G1,
         3, ERR_REFUSED, "2 replicas of group 1 would be in zone za", 0, 0, 0},
        /* what is under way does not hold it up */
        {N1 N2 N3 "n4 - h4 100G/10G up in=2;"
                  "g1 n1* n2 n3 1G busy",
         3, ERR_OK, "move g1 n3>n4", GIB, 3, 11},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct drawing d;
        struct plan_preview p;
        char why[300] = "", got[1024];
        draw(&d, rows[i].cluster);
        enum err e = plan_preview_drain(&d.v, rows[i].node, 0, &p, why, sizeof why);
        ck_assert_msg(e == rows[i].want, "row %zu: %s \"%s\"", i, err_name(e), why);
        if (e != ERR_OK) {
            ck_assert_msg(strstr(why, rows[i].says), "row %zu: \"%s\"", i, why);
            continue;
        }
        draw_list(&p.ops, got, sizeof got);
        ck_assert_msg(strcmp(got, rows[i].says) == 0, "row %zu: \"%s\"", i, got);
        ck_assert_uint_eq(p.bytes, rows[i].bytes);
        ck_assert_uint_eq(p.lowest_voters, rows[i].lowest);
        ck_assert_uint_eq(p.n_nodes, d.v.n_nodes);
        ck_assert_uint_eq(p.nodes[3].peak_disk_percent, rows[i].peak);
        plan_preview_close(&p);
    }
}
END_TEST

START_TEST(test_preview_balance)
{
    struct drawing d;
    struct plan_preview p;
    char got[1024];
    draw(&d, N1 N2 N3 N4 "g1 n1* n2 n3 10G; g2 n2* n1 n3 10G; g3 n3* n1 n2 10G; g4 n1* n2 n3 10G");
    plan_preview_balance(&d.v, 100 * MIB, &p);
    draw_list(&p.ops, got, sizeof got);
    ck_assert_msg(p.bytes == 30 * GIB, "%s", got);
    ck_assert_uint_eq(p.seconds, 30 * 1024 / 100 + 1);
    ck_assert_uint_eq(p.lowest_voters, 3);
    ck_assert_uint_eq(p.nodes[0].before_percent, 133);
    ck_assert_uint_eq(p.nodes[3].before_percent, 0);
    for (uint32_t i = 0; i < 4; i++)
        ck_assert_uint_eq(p.nodes[i].after_percent, 100);
    ck_assert_uint_eq(p.nodes[3].peak_disk_percent, 40);
    plan_preview_close(&p);
    /* splits are not part of it; the view is not changed */
    draw(&d, N1 N2 N3 "opt split_bytes=1G; g1 n1* n2 n3 10G");
    plan_preview_balance(&d.v, 0, &p);
    ck_assert_uint_eq(p.ops.n, 0);
    ck_assert_uint_eq(p.seconds, 0);
    ck_assert(!d.v.options.balance);
    plan_preview_close(&p);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plan_check");
    TCase *t = tcase_create("all");
    tcase_add_test(t, test_move);
    tcase_add_test(t, test_members);
    tcase_add_test(t, test_ranges);
    tcase_add_test(t, test_may_take);
    tcase_add_test(t, test_preview_drain);
    tcase_add_test(t, test_preview_balance);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
