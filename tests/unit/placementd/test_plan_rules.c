/* Each rule on small clusters: what one round proposes, and why. */
#include "tests/unit/placementd/plan_draw.h"

struct row {
    const char *cluster, *want;
    const char *why; /* part of the first operator's reason; NULL: not looked at */
};

static void run(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct drawing d;
        struct plan_list l;
        char got[4096];
        draw(&d, rows[i].cluster);
        plan_list_init(&l);
        plan_round(&d.v, &l);
        draw_list(&l, got, sizeof got);
        ck_assert_msg(strcmp(got, rows[i].want) == 0, "row %zu: got \"%s\", wanted \"%s\"\n%s", i,
                      got, rows[i].want, rows[i].cluster);
        for (uint32_t k = 0; k < l.n; k++)
            ck_assert_msg(l.op[k].why[0] != 0, "row %zu: no reason", i);
        if (rows[i].why)
            ck_assert_msg(l.n > 0 && strstr(l.op[0].why, rows[i].why), "row %zu: \"%s\"", i,
                          l.n ? l.op[0].why : "");
        plan_list_close(&l);
    }
}
#define RUN(rows) run(rows, sizeof(rows) / sizeof((rows)[0]))

#define N1 "n1 - h1 100G/10G up;"
#define N2 "n2 - h2 100G/10G up;"
#define N3 "n3 - h3 100G/10G up;"
#define N4 "n4 - h4 100G/10G up;"
#define N5 "n5 - h5 100G/10G up;"
#define D3 "n3 - h3 100G/10G dead downs=600;"

START_TEST(test_repair)
{
    static const struct row rows[] = {
        {N1 N2 N3 N4 "g1 n1* n2 n3 1G", "", NULL},
        {N1 N2 D3 N4 "g1 n1* n2 n3 1G", "replace g1 n3>n4", "n3 has been down for 10 min"},
        {N1 N2 "n3 - h3 100G/10G dead;" N4 "g1 n1* n2 n3 1G", "replace g1 n3>n4", "n3 is lost"},
        /* only down, or in maintenance: not yet */
        {N1 N2 "n3 - h3 100G/10G down;" N4 "g1 n1* n2 n3 1G", "", NULL},
        {N1 N2 "n3 - h3 100G/10G down maint;" N4 "g1 n1* n2 n3 1G", "", NULL},
        {N1 N2 N3 N4 "g1 n1* n2 n3! 1G", "replace g1 n3>n4", "wiped or is broken"},
        /* a node that is not known any more */
        {N1 N2 N4 "g1 n1* n2 n9 1G", "replace g1 n9>n4", "node 9 is gone"},
        /* no majority: by hand only */
        {N1 "n2 - h2 100G/10G dead;" D3 N4 N5 "g1 n1* n2 n3 1G", "", NULL},
        {N1 N2 D3 N4 "g1 n1* n2~ n3 1G", "", NULL},
        {N1 "n2 - h2 100G/10G suspect;" D3 N4 "g1 n1* n2 n3 1G", "", NULL},
        /* nowhere to go */
        {N1 N2 D3 "g1 n1* n2 n3 1G", "", NULL},
        {N1 N2 D3 "n4 - h4 100G/80G up;"
                  "g1 n1* n2 n3 1G",
         "", NULL},
        {N1 N2 D3 "n4 - h1 100G/10G up;"
                  "g1 n1* n2 n3 1G",
         "", NULL},
        {N1 N2 D3 "n4 - h4 0G/0G up;"
                  "g1 n1* n2 n3 1G",
         "", NULL},
        {N1 N2 D3 "n4 - h4 100G/10G draining;"
                  "g1 n1* n2 n3 1G",
         "", NULL},
        {N1 N2 D3 "n4 - h4 100G/10G maint;"
                  "g1 n1* n2 n3 1G",
         "", NULL},
        {N1 N2 D3 "n4 - h4 100G/10G suspect;"
                  "g1 n1* n2 n3 1G",
         "", NULL},
        {N1 N2 D3 "n4 - h4 100G/10G up in=2;"
                  "g1 n1* n2 n3 1G",
         "", NULL},
        /* on the lost node's own host: the same machine under a new id */
        {N1 N2 D3 "n4 - h3 100G/10G up;"
                  "g1 n1* n2 n3 1G",
         "replace g1 n3>n4", NULL},
        /* the zone that lost it rather than the emptier node */
        {"n1 za h1 100G/10G up; n2 zb h2 100G/10G up; n3 zc h3 100G/10G dead;"
         "n4 zc h4 100G/10G up; n5 za h5 100G/10G up;"
         "g1 n1* n2 n3 1G; g2 n1* n2 n4 20G",
         "replace g1 n3>n4", NULL},
        /* nearest to losing its majority first; one place left */
        {N1 N2 D3 "n4 - h4 100G/10G up in=1;" N5 "n6 - h6 100G/10G up;"
                  "g1 n1* n2 n3 n5 n6 1G; g2 n1* n2 n3 1G",
         "replace g2 n3>n4; remove g1 n3", NULL},
        /* an operator is under way */
        {N1 N2 D3 N4 "g1 n1* n2 n3 1G busy", "", NULL},
        /* too few, too many */
        {N1 N2 N3 "g1 n1* n2 1G", "add g1 >n3", "2 of 3"},
        {N1 N2 N3 N4 "g1 n1* n2 n3 n4 1G; g2 n2* n3 n4 9G; g3 n1* n3 n4 9G", "remove g1 n3",
         "4 replicas, 3 are wanted"},
        {N1 N2 N3 N4 "g1 n1* n2 n3 n4~ 1G", "remove g1 n4", NULL},
        {N1 N2 N3 N4 "g1 n1* n2 n3 n4? 1G", "remove g1 n4", "left over"},
        {N1 N2 N3 "opt replicas=1; g1 n1* n2 n3 1G", "", NULL},
        {N1 N2 "opt replicas=1; g1 n1* n2 1G", "remove g1 n2", NULL},
        /* ignores `balance`, and comes before a drain that wants the same place */
        {N1 "n2 - h2 100G/10G draining;" D3 "n4 - h4 100G/10G up in=1;"
            "g1 n1* n2 n4 1G; g2 n1* n2 n3 1G",
         "replace g2 n3>n4", NULL},
    };
    RUN(rows);
}
END_TEST

START_TEST(test_drain)
{
    static const struct row rows[] = {
        /* of two, none can be exchanged: it grows first, or shrinks */
        {N1 "n2 - h2 100G/10G draining;" N3 "g1 n1* n2 1G", "add g1 >n3", NULL},
        {N1 "n2 - h2 100G/10G draining;" N3 "opt replicas=1; g1 n1* n2 1G", "remove g1 n2", NULL},
        {N1 "n2 - h2 100G/10G draining;" N3 "opt replicas=1; g1 n2* 1G", "move g1 n2>n1", NULL},
        {N1 "n2 - h2 100G/10G draining;" N3 "opt replicas=2; g1 n1* n2 1G", "", NULL},
        {N1 N2 "n3 - h3 100G/10G draining;" N4 "g1 n1* n2 n3 1G", "move g1 n3>n4",
         "n3 is draining, 1 replica is left"},
        /* max_moves out; the leaders of what waits go at once */
        {N1 N2 "n3 - h3 100G/10G draining;" N4 N5
               "g1 n1* n2 n3 1G; g2 n1* n2 n3 1G; g3 n1* n2 n3 1G; g4 n1 n2 n3* 1G",
         "move g1 n3>n4; move g2 n3>n5; transfer g4 n3>n2", NULL},
        {N1 N2 "n3 - h3 100G/10G draining out=2;" N4 "g1 n1* n2 n3 1G", "", NULL},
        /* max_moves in */
        {N1 N2 "n3 - h3 100G/10G draining;"
               "n4 - h4 100G/10G up in=1;"
               "g1 n1* n2 n3 1G; g2 n1* n2 n3 1G",
         "move g1 n3>n4", NULL},
        /* one that is not heard of, or whose group has no majority, is left alone */
        {N1 N2 "n3 - h3 100G/10G down draining;" N4 "g1 n1* n2 n3 1G", "", NULL},
        {N1 "n2 - h2 100G/10G down;"
            "n3 - h3 100G/10G draining;" N4 "g1 n1* n2 n3~ 1G",
         "", NULL},
        {N1 N2 "n3 - h3 100G/10G draining;" N4 "opt max_operators=1; g1 n1* n2 n3 1G busy;"
               "g2 n1* n2 n3 1G",
         "", NULL},
        /* its bytes would fill the only one left */
        {N1 N2 "n3 - h3 100G/10G draining;"
               "n4 - h4 100G/75G up;"
               "g1 n1* n2 n3 6G",
         "", NULL},
        {N1 N2 "n3 - h3 100G/10G draining;"
               "n4 - h4 100G/70G up inb=6G;"
               "g1 n1* n2 n3 5G",
         "", NULL},
        /* this round's own proposals count */
        {N1 N2 "n3 - h3 100G/10G draining;"
               "n4 - h4 100G/70G up;"
               "g1 n1* n2 n3 6G; g2 n1* n2 n3 6G",
         "move g1 n3>n4", NULL},
    };
    RUN(rows);
}
END_TEST

START_TEST(test_spread)
{
    static const struct row rows[] = {
        {"n1 za h1 100G/10G up; n2 za h2 100G/10G up; n3 zb h3 100G/10G up; n4 zc h4 100G/10G up;"
         "g1 n1* n2 n3 1G",
         "move g1 n2>n4", "2 replicas of the group in zone za"},
        /* two zones: 2 + 1 is the best there is; 3 + 0 is not */
        {"n1 za h1 100G/10G up; n2 za h2 100G/10G up; n3 zb h3 100G/10G up; n4 zb h4 100G/10G up;"
         "g1 n1* n2 n3 1G",
         "", NULL},
        {"n1 za h1 100G/10G up; n2 za h2 100G/10G up; n3 za h3 100G/10G up; n4 zb h4 100G/10G up;"
         "g1 n1* n2 n3 1G",
         "move g1 n2>n4", "3 replicas"},
        /* hosts */
        {"n1 - h1 100G/10G up; n2 - h1 100G/10G up; n3 - h3 100G/10G up; n4 - h4 100G/10G up;"
         "g1 n1* n2 n3 1G",
         "move g1 n2>n4", "2 replicas of the group on host h1"},
        /* everything on one host: nothing to keep apart */
        {"n1 - h1 100G/10G up; n2 - h1 100G/10G up; n3 - h1 100G/10G up; n4 - h1 100G/10G up;"
         "g1 n1* n2 n3 1G",
         "", NULL},
        /* no room in the better zone */
        {"n1 za h1 100G/10G up; n2 za h2 100G/10G up; n3 zb h3 100G/10G up; n4 zc h4 100G/85G up;"
         "g1 n1* n2 n3 1G",
         "", NULL},
        /* not without a majority */
        {"n1 za h1 100G/10G up; n2 za h2 100G/10G up; n3 zb h3 100G/10G down; n4 zc h4 100G/10G up;"
         "g1 n1* n2~ n3 1G",
         "", NULL},
        /* the leader only if a follower would not help */
        {"n1 za h1 100G/10G up; n2 za h2 100G/10G up; n3 zb h3 100G/10G up; n4 zc h4 100G/10G up;"
         "g1 n2* n1 n3 1G",
         "move g1 n1>n4", NULL},
    };
    RUN(rows);
}
END_TEST

START_TEST(test_leaders)
{
    static const struct row rows[] = {
        /* by load, not by number */
        {N1 N2 N3 "opt balance; g1 n1* n2 n3 1G r=3000; g2 n2* n1 n3 1G r=1000;"
                  "g3 n2* n1 n3 1G r=1000; g4 n2* n1 n3 1G r=1000; g5 n3* n1 n2 1G r=3000",
         "", NULL},
        {N1 N2 N3 "opt balance; g1 n1* n2 n3 1G r=2000; g2 n1* n2 n3 1G w=2000;"
                  "g3 n1* n2 n3 1G r=2000",
         "transfer g1 n1>n2; transfer g2 n1>n3", "n1 leads 300% of the mean"},
        /* whose leader has just changed is left in peace */
        {N1 N2 N3 "opt balance; g1 n1* n2 n3 1G r=2000 unsettled; g2 n1* n2 n3 1G w=2000;"
                  "g3 n1* n2 n3 1G r=2000 unsettled",
         "transfer g2 n1>n2", NULL},
        /* idle ones by number */
        {N1 N2 N3 "opt balance; g1 n1* n2 n3 1G; g2 n1* n2 n3 1G; g3 n3* n2 n1 1G",
         "transfer g1 n1>n2", NULL},
        /* it would only swap the roles */
        {N1 N2 N3 "opt balance; g1 n1* n2 n3 1G r=9000", "", NULL},
        /* within the hysteresis: 103 % and 97 % */
        {N1 N2 N3
         "opt balance; g1 n1* n2 n3 1G r=1030; g2 n2* n1 n3 1G r=970;"
         "g3 n3* n1 n2 1G r=1000; g4 n1* n2 n3 1G r=10; g5 n2* n1 n3 1G r=10; g6 n3* n1 n2 1G r=10",
         "", NULL},
        /* off draining and suspect nodes, without `balance` */
        {N1 N2 "n3 - h3 100G/10G suspect;"
               "g1 n3* n1 n2 1G",
         "transfer g1 n3>n1", "not heard of"},
        {N1 N2 "n3 - h3 100G/10G draining;"
               "g1 n3* n1 n2 1G",
         "transfer g1 n3>n1", "draining"},
        {"n1 - h1 100G/10G maint;" N2 "n3 - h3 100G/10G suspect;"
         "g1 n3* n1 n2 1G",
         "transfer g1 n3>n2", NULL},
        /* the leader is not known, none may lead, a lagging one may not */
        {N1 N2 "n3 - h3 100G/10G draining;"
               "g1 n3 n1 n2 1G",
         "", NULL},
        {N1 N2 "n3 - h3 100G/10G draining;"
               "g1 n3* n1~ n2 1G",
         "transfer g1 n3>n2", NULL},
        {N1 N2 N3 "g1 n1* n2 n3 1G r=100; g2 n1* n2 n3 1G r=100", "", NULL},
    };
    RUN(rows);
}
END_TEST

START_TEST(test_bytes)
{
    static const struct row rows[] = {
        /* empty shards, a new node: by number; 9 replicas on 4 nodes */
        {N1 N2 N3 N4 "opt balance; g1 n1* n2 n3 0; g2 n2* n1 n3 0; g3 n3* n1 n2 0",
         "move g1 n3>n4; move g3 n2>n4", "n3 is 33% over the mean, n4 100% under"},
        /* off without `balance` */
        {N1 N2 N3 N4 "g1 n1* n2 n3 0; g2 n2* n1 n3 0; g3 n3* n1 n2 0", "", NULL},
        /* bytes decide, not numbers */
        {N1 N2 "opt balance replicas=1; g1 n1* 20G; g2 n2* 1G; g3 n2* 1G; g4 n2* 1G", "", NULL},
        {N1 N2 "opt balance replicas=1; g1 n1* 9G; g2 n1* 9G; g3 n2* 1G; g4 n2* 1G; g5 n2* 1G",
         "move g1 n1>n2", "n1 is 70% over the mean, n2 70% under"},
        /* one on each: nothing is better by being elsewhere */
        {N1 N2 N3 N4 "opt balance; g1 n1* n2 n3 30G", "", NULL},
        /* twice the disk takes twice the bytes */
        {N1 N2 "n3 - h3 200G/10G up;"
               "opt balance replicas=1; g1 n1* 10G; g2 n2* 10G; g3 n3* 10G;"
               "g4 n3* 10G",
         "", NULL},
        /* what is on its way counts */
        {N1 N2 N3 "n4 - h4 100G/10G up in=2;"
                  "opt balance; g1 n1* n2 n3 0; g2 n2* n1 n3 0; g3 n3* n1 n2 0",
         "", NULL},
        {N1 N2 N3 "n4 - h4 100G/10G up in=1 inb=20G;"
                  "opt balance; g1 n1* n2 n3 10G; g2 n2* n1 n3 10G; g3 n3* n1 n2 10G",
         "", NULL},
        /* not into a nearly full one, though it is the emptiest of ours */
        {N1 N2 N3 "n4 - h4 100G/81G up;"
                  "opt balance; g1 n1* n2 n3 1G; g2 n2* n1 n3 1G;"
                  "g3 n3* n1 n2 1G",
         "", NULL},
        /* zones are kept */
        {"n1 za h1 100G/10G up; n2 zb h2 100G/10G up; n3 zc h3 100G/10G up; n4 zc h4 100G/10G up;"
         "opt balance; g1 n1* n2 n3 1G; g2 n2* n1 n3 1G; g3 n3 n1* n2 1G; g4 n3* n1 n2 1G;"
         "g5 n2* n1 n3 1G; g6 n3* n1 n2 1G",
         "move g1 n3>n4; move g2 n3>n4", NULL},
        /* a group with a voter that lags is not moved about */
        {N1 N2 N3 N4 "opt balance; g1 n1* n2~ n3 0; g2 n2* n1~ n3 0; g3 n3* n1 n2~ 0", "", NULL},
    };
    RUN(rows);
}
END_TEST

START_TEST(test_split)
{
    static const struct row rows[] = {
        {N1 N2 N3 "opt balance split_bytes=10G; g1 n1* n2 n3 11G", "split g1 @8192",
         "11.0 GiB, more than 10.0 GiB"},
        {N1 N2 N3 "opt balance split_bytes=10G; g1 n1* n2 n3 10G", "", NULL},
        {N1 N2 N3 "opt balance split_ops=1000; g1 n1* n2 n3 1G r=600 w=600", "split g1 @8192",
         "1200 operations a second, more than 1000"},
        {N1 N2 N3 "opt balance split_ops=1000; g1 n1* n2 n3 1G r=600 w=600 keys=1", "", NULL},
        {N1 N2 N3 "opt split_bytes=10G; g1 n1* n2 n3 11G", "", NULL},
        {N1 N2 N3 "opt balance; g1 n1* n2 n3 500G", "", NULL},
        {N1 N2 N3 "opt balance split_bytes=10G max_groups=2; g1 n1* n2 n3 11G; g2 n2* n1 n3 11G;",
         "", NULL},
        {N1 N2 N3 "opt balance split_bytes=10G max_groups=3; g1 n1* n2 n3 11G; g2 n2* n1 n3 11G;",
         "split g1 @4096", NULL},
        {N1 N2 N3 "opt balance split_bytes=10G; g1 n1 n2 n3 11G", "", NULL},
        {N1 N2 "n3 - h3 100G/10G down;"
               "opt balance split_bytes=10G; g1 n1* n2 n3 11G",
         "", NULL},
        {N1 N2 N3 "opt balance split_bytes=10G; g1 n1* n2 n3 11G busy", "", NULL},
    };
    RUN(rows);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plan_rules");
    TCase *t = tcase_create("all");
    tcase_add_test(t, test_repair);
    tcase_add_test(t, test_drain);
    tcase_add_test(t, test_spread);
    tcase_add_test(t, test_leaders);
    tcase_add_test(t, test_bytes);
    tcase_add_test(t, test_split);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
