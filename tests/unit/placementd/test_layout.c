/* The first layout: slots covered, spread over nodes, hosts and zones, even, refused with reason.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "placementd/plan/layout.h"

static struct layout_node nodes[600];
static char labels[600][2][16];

/* Node i: host i / per_host, zone i / per_zone (0: no zones). */
static void make(uint32_t n, uint32_t per_host, uint32_t per_zone)
{
    for (uint32_t i = 0; i < n; i++) {
        snprintf(labels[i][0], 16, "h%u", i / per_host);
        snprintf(labels[i][1], 16, "%s%u", per_zone ? "z" : "", per_zone ? i / per_zone : 0);
        if (!per_zone)
            labels[i][1][0] = 0;
        nodes[i] = (struct layout_node){100 + i, labels[i][1], labels[i][0]};
    }
}

static struct layout_request request(uint32_t n, uint32_t groups, uint32_t replicas)
{
    return (struct layout_request){.n_nodes = n,
                                   .nodes = nodes,
                                   .groups = groups,
                                   .replicas = replicas,
                                   .first_group = 5,
                                   .first_replica = 50};
}

START_TEST(test_refusals)
{
    static const struct {
        uint32_t nodes, per_host, groups, replicas;
        bool same_host;
        enum err want;
        const char *says;
    } rows[] = {
        {3, 1, 8, 3, false, ERR_OK, ""},
        {2, 1, 8, 3, false, ERR_REFUSED, "replicas=1"},
        {0, 1, 8, 1, false, ERR_REFUSED, "register"},
        {2, 1, 8, 1, false, ERR_OK, ""},
        {3, 3, 8, 3, false, ERR_REFUSED, "allow_same_host"},
        {3, 3, 8, 3, true, ERR_OK, ""},
        {4, 2, 8, 3, false, ERR_REFUSED, "3 hosts"},
        {3, 1, 8, 2, false, ERR_BAD_REQUEST, "1, 3 or 5"},
        {3, 1, 0, 3, false, ERR_BAD_REQUEST, "16384"},
        {3, 1, 16385, 3, false, ERR_BAD_REQUEST, "16384"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char msg[256] = "";
        struct shard_desc *d = mem_zalloc((rows[i].groups + 1) * sizeof(*d));
        make(rows[i].nodes, rows[i].per_host, 0);
        struct layout_request q = request(rows[i].nodes, rows[i].groups, rows[i].replicas);
        q.allow_same_host = rows[i].same_host;
        ck_assert_msg(layout_plan(&q, d, msg, sizeof(msg)) == rows[i].want, "row %zu: %s", i, msg);
        ck_assert_msg(strstr(msg, rows[i].says) != NULL, "row %zu says: %s", i, msg);
        free(d);
    }
}
END_TEST

START_TEST(test_spread)
{
    static const struct {
        uint32_t nodes, per_host, per_zone, groups, replicas, slack;
    } rows[] = {
        {3, 1, 0, 8, 3, 1},      {3, 1, 0, 1, 3, 1},        {5, 1, 0, 16, 3, 1},
        {9, 1, 3, 64, 3, 1},     {6, 2, 0, 16, 3, 1},       {12, 1, 2, 100, 5, 1},
        {4, 1, 2, 16, 3, 1},     {1, 1, 0, 4, 1, 1},        {7, 1, 0, 16384, 3, 1},
        {100, 1, 0, 4096, 3, 2}, {500, 2, 50, 16384, 3, 2},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char msg[256] = "";
        uint32_t n = rows[i].nodes, groups = rows[i].groups;
        struct shard_desc *d = mem_zalloc(groups * sizeof(*d));
        uint32_t leaders[600] = {0}, replicas[600] = {0};
        make(n, rows[i].per_host, rows[i].per_zone);
        struct layout_request q = request(n, groups, rows[i].replicas);
        ck_assert_msg(layout_plan(&q, d, msg, sizeof(msg)) == ERR_OK, "row %zu: %s", i, msg);
        uint32_t slot = 0;
        uint64_t replica = 50;
        uint32_t zones = rows[i].per_zone ? (n + rows[i].per_zone - 1) / rows[i].per_zone : 1;
        for (uint32_t g = 0; g < groups; g++) {
            ck_assert_uint_eq(d[g].group, 5 + g);
            ck_assert_uint_eq(d[g].first_slot, slot);
            slot = d[g].last_slot + 1u;
            for (uint32_t j = 0; j < d[g].n_replicas; j++) {
                uint32_t a = d[g].replica[j].node - 100;
                ck_assert_uint_eq(d[g].replica[j].replica, replica++);
                replicas[a]++;
                leaders[a] += j == 0;
                for (uint32_t k = 0; k < j; k++) {
                    uint32_t b = d[g].replica[k].node - 100;
                    ck_assert_str_ne(nodes[a].host, nodes[b].host);
                    if (zones >= rows[i].replicas)
                        ck_assert_str_ne(nodes[a].zone, nodes[b].zone);
                }
            }
        }
        ck_assert_uint_eq(slot, LIMIT_SLOTS);
        uint32_t lo[2] = {UINT32_MAX, UINT32_MAX}, hi[2] = {0, 0};
        for (uint32_t a = 0; a < n; a++) {
            uint32_t v[2] = {leaders[a], replicas[a]};
            for (int k = 0; k < 2; k++) {
                lo[k] = v[k] < lo[k] ? v[k] : lo[k];
                hi[k] = v[k] > hi[k] ? v[k] : hi[k];
            }
        }
        ck_assert_msg(hi[0] - lo[0] <= rows[i].slack, "row %zu leaders %u..%u", i, lo[0], hi[0]);
        ck_assert_msg(hi[1] - lo[1] <= rows[i].slack, "row %zu replicas %u..%u", i, lo[1], hi[1]);
        free(d);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("layout");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, test_refusals);
    tcase_add_test(t, test_spread);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
