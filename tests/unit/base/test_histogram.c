#include "common/base/histogram.h"

#include <check.h>
#include <stdlib.h>

#include "common/base/rng.h"

static struct histogram h, other;

START_TEST(empty_is_zero)
{
    histogram_init(&h);
    ck_assert_uint_eq(histogram_quantile(&h, 0.5), 0);
    ck_assert_uint_eq(histogram_quantile(&h, 1.0), 0);
}
END_TEST

START_TEST(error_is_within_one_percent)
{
    struct rng r;
    rng_seed(&r, 3);
    for (int i = 0; i < 3000; i++) {
        uint64_t v = rng_next(&r) >> (24 + rng_below(&r, 40)); /* below 2^40 */
        if (v >= (1ULL << 40) - (1ULL << 32)) /* the last bucket is shared with all beyond */
            continue;
        histogram_init(&h);
        histogram_add(&h, v);
        histogram_add(&h, 1ULL << 50); /* so that max does not clip it */
        uint64_t q = histogram_quantile(&h, 0.5);
        ck_assert_uint_ge(q, v);
        ck_assert_uint_le(q - v, v / 100);
    }
}
END_TEST

START_TEST(quantiles_of_a_ramp)
{
    histogram_init(&h);
    for (uint64_t v = 1; v <= 100000; v++)
        histogram_add(&h, v);
    ck_assert_uint_eq(h.count, 100000);
    ck_assert_uint_eq(h.sum, 100000ULL * 100001 / 2);
    ck_assert_uint_eq(histogram_quantile(&h, 0.0), 1);
    ck_assert_uint_eq(histogram_quantile(&h, 1.0), 100000);
    static const double qs[] = {0.01, 0.5, 0.9, 0.99, 0.999};
    for (size_t i = 0; i < 5; i++) {
        double got = (double)histogram_quantile(&h, qs[i]), want = qs[i] * 100000;
        ck_assert(got >= want && got <= want * 1.01);
    }
}
END_TEST

START_TEST(too_large_and_merge)
{
    histogram_init(&h);
    histogram_init(&other);
    histogram_add(&h, UINT64_MAX);
    ck_assert_uint_eq(histogram_quantile(&h, 0.5), UINT64_MAX);
    histogram_add(&other, 5);
    histogram_add(&other, 6);
    histogram_merge(&h, &other);
    ck_assert_uint_eq(h.count, 3);
    ck_assert_uint_eq(h.max, UINT64_MAX);
    ck_assert_uint_eq(histogram_quantile(&h, 0.3), 5);
    ck_assert_uint_eq(histogram_quantile(&h, 0.6), 6);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("histogram");
    TCase *t = tcase_create("histogram");
    tcase_add_test(t, empty_is_zero);
    tcase_add_test(t, error_is_within_one_percent);
    tcase_add_test(t, quantiles_of_a_ramp);
    tcase_add_test(t, too_large_and_merge);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
