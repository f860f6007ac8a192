#include "common/base/rng.h"

#include <check.h>
#include <stdlib.h>

START_TEST(repeats_and_differs)
{
    struct rng a, b, c;
    rng_seed(&a, 42);
    rng_seed(&b, 42);
    rng_seed(&c, 43);
    unsigned same = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t v = rng_next(&a);
        ck_assert_uint_eq(v, rng_next(&b));
        same += v == rng_next(&c);
    }
    ck_assert_uint_eq(same, 0);
}
END_TEST

/* The sequence is written into failing simulations' command lines: it must never change. */
START_TEST(sequence_is_fixed)
{
    struct rng r = {{1, 2, 3, 4}};
    /* From the authors' reference implementation. */
    static const uint64_t want[] = {11520, 0, 1509978240, 1215971899390074240ULL};
    for (unsigned i = 0; i < 4; i++)
        ck_assert_uint_eq(rng_next(&r), want[i]);
}
END_TEST

START_TEST(below_is_even)
{
    struct rng r;
    unsigned count[10] = {0};
    rng_seed(&r, 7);
    for (int i = 0; i < 100000; i++)
        count[rng_below(&r, 10)]++;
    for (int i = 0; i < 10; i++) {
        ck_assert_uint_gt(count[i], 9500);
        ck_assert_uint_lt(count[i], 10500);
    }
    ck_assert_uint_eq(rng_below(&r, 0), 0);
    ck_assert_uint_eq(rng_below(&r, 1), 0);
    for (int i = 0; i < 100; i++)
        ck_assert_uint_lt(rng_below(&r, (1ULL << 63) + 1), (1ULL << 63) + 1);
}
END_TEST

START_TEST(double_in_range)
{
    struct rng r;
    double sum = 0;
    rng_seed(&r, 8);
    for (int i = 0; i < 10000; i++) {
        double d = rng_double(&r);
        ck_assert(d >= 0.0 && d < 1.0);
        sum += d;
    }
    ck_assert(sum > 4800 && sum < 5200);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rng");
    TCase *t = tcase_create("rng");
    tcase_add_test(t, repeats_and_differs);
    tcase_add_test(t, sequence_is_fixed);
    tcase_add_test(t, below_is_even);
    tcase_add_test(t, double_in_range);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
