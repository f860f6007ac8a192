/* A node that keeps failing is left alone, longer each time, and probed by one request. */
#include <check.h>
#include <stdlib.h>

#include "client/breaker.h"
#include "common/base/limits.h"

static struct breaker b;
static struct rng rng;

static void setup(void)
{
    b = (struct breaker){0};
    rng_seed(&rng, 7);
}

static void fail_times(unsigned n, uint64_t now)
{
    while (n--)
        (void)breaker_failed(&b, false, now, &rng);
}

START_TEST(opens_after_some_in_a_row)
{
    for (unsigned i = 1; i < BREAKER_FAILURES; i++)
        ck_assert(!breaker_failed(&b, false, 0, &rng));
    ck_assert(breaker_allows(&b, 0));
    breaker_answered(&b); /* one answer: from the beginning */
    for (unsigned i = 1; i < BREAKER_FAILURES; i++)
        ck_assert(!breaker_failed(&b, false, 0, &rng));
    ck_assert(breaker_failed(&b, false, 0, &rng));
    ck_assert(!breaker_allows(&b, 0));
    ck_assert(!breaker_allows(&b, BREAKER_OPEN_MIN_MS * NS_PER_MS / 2 - 1));
    ck_assert(breaker_allows(&b, BREAKER_OPEN_MIN_MS * NS_PER_MS));
}
END_TEST

START_TEST(one_probe_at_a_time)
{
    uint64_t now = NS_PER_S;
    fail_times(BREAKER_FAILURES, 0);
    ck_assert(breaker_allows(&b, now));
    breaker_take(&b, now);
    ck_assert(!breaker_allows(&b, now));
    ck_assert(breaker_allows(&b, now + BREAKER_PROBE_MS * NS_PER_MS)); /* it was lost */
    breaker_answered(&b);
    ck_assert(breaker_allows(&b, now));
    breaker_take(&b, now); /* closed: as many as there are */
    ck_assert(breaker_allows(&b, now));
}
END_TEST

START_TEST(longer_each_time)
{
    uint64_t now = 0, last = 0;
    fail_times(BREAKER_FAILURES, now);
    for (int i = 0; i < 12; i++) {
        uint64_t open = b.until - now;
        ck_assert_uint_le(open, BREAKER_OPEN_MAX_MS * NS_PER_MS);
        if (i < 3)
            ck_assert_uint_ge(open * 2, last);
        else if (i > 4)
            ck_assert_uint_ge(open, BREAKER_OPEN_MAX_MS * NS_PER_MS / 2);
        last = open;
        now = b.until;
        breaker_take(&b, now);
        ck_assert(breaker_failed(&b, false, now, &rng));
    }
    breaker_answered(&b);
    fail_times(BREAKER_FAILURES, now);
    ck_assert_uint_le(b.until - now, BREAKER_OPEN_MIN_MS * NS_PER_MS);
}
END_TEST

START_TEST(refusals_are_cheap)
{
    uint64_t now = 0;
    for (int i = 0; i < 30; i++) {
        (void)breaker_failed(&b, true, now, &rng);
        if (b.until > now) {
            ck_assert_uint_le(b.until - now, BREAKER_OPEN_CHEAP_MS * NS_PER_MS);
            now = b.until;
        }
    }
    ck_assert(breaker_failed(&b, false, now, &rng)); /* it does not answer any more: longer */
    ck_assert_uint_ge(b.until - now, BREAKER_OPEN_MIN_MS * NS_PER_MS);
    ck_assert_uint_le(b.until - now, 2 * BREAKER_OPEN_MIN_MS * NS_PER_MS);
}
END_TEST

START_TEST(a_hint_lets_one_through)
{
    fail_times(BREAKER_FAILURES, 0);
    breaker_hint(&b, 5);
    ck_assert(breaker_allows(&b, 5));
    breaker_take(&b, 5);
    ck_assert(!breaker_allows(&b, 6));
    ck_assert(breaker_failed(&b, false, 6, &rng));
    ck_assert(!breaker_allows(&b, 7));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("breaker");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, opens_after_some_in_a_row);
    tcase_add_test(t, one_probe_at_a_time);
    tcase_add_test(t, longer_each_time);
    tcase_add_test(t, refusals_are_cheap);
    tcase_add_test(t, a_hint_lets_one_through);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
