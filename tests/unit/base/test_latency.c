#include "common/base/latency.h"

#include <check.h>

START_TEST(every_value_has_its_bucket)
{
    struct latency l = {0};
    for (unsigned i = 0; i < LATENCY_BOUNDS; i++) {
        latency_add(&l, latency_bound_ns[i]);     /* at most the bound: in it */
        latency_add(&l, latency_bound_ns[i] + 1); /* in the next */
        if (i > 0)
            ck_assert_uint_gt(latency_bound_ns[i], latency_bound_ns[i - 1]);
    }
    ck_assert_uint_eq(l.count, 2 * LATENCY_BOUNDS);
    ck_assert_uint_eq(l.bucket[0], 1);
    for (unsigned i = 1; i < LATENCY_BOUNDS; i++)
        ck_assert_uint_eq(l.bucket[i], 2);
    ck_assert_uint_eq(l.bucket[LATENCY_BOUNDS], 1);
}
END_TEST

START_TEST(merge_adds)
{
    struct latency a = {0}, b = {0};
    latency_add(&a, 1000);
    latency_add(&b, 3000000);
    latency_add(&b, UINT64_MAX / 4);
    latency_merge(&a, &b);
    ck_assert_uint_eq(a.count, 3);
    ck_assert_uint_eq(a.sum_ns, 3001000 + UINT64_MAX / 4);
    ck_assert_uint_eq(a.bucket[0], 1);
    ck_assert_uint_eq(a.bucket[6], 1);
    ck_assert_uint_eq(a.bucket[LATENCY_BOUNDS], 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("latency");
    TCase *t = tcase_create("latency");
    tcase_add_test(t, every_value_has_its_bucket);
    tcase_add_test(t, merge_adds);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
