/* What is tried again, and what never. */
#include <check.h>
#include <stdlib.h>

#include "client/retry.h"
#include "common/base/limits.h"

static const struct {
    enum err err;
    bool repeatable, maybe, hinted;
    unsigned hops;
    enum retry_action want;
} cases[] = {
    {ERR_NOT_FOUND, true, false, false, 0, RETRY_NO},
    {ERR_CONDITION_FAILED, false, false, false, 0, RETRY_NO},
    {ERR_VALUE_TOO_LARGE, false, false, false, 0, RETRY_NO},
    {ERR_NOT_LEADER, false, false, true, 0, RETRY_NOW},
    {ERR_NOT_LEADER, false, false, true, 3, RETRY_LATER}, /* two nodes point at each other */
    {ERR_NOT_LEADER, false, false, false, 0, RETRY_LATER},
    {ERR_WRONG_SHARD, false, false, true, 0, RETRY_NOW},
    {ERR_WRONG_SHARD, false, true, true, 0, RETRY_NO}, /* the server says: maybe applied */
    {ERR_BUSY, false, false, false, 0, RETRY_LATER},
    {ERR_UNREACHABLE, false, false, false, 0, RETRY_LATER},
    {ERR_UNKNOWN_OUTCOME, false, true, false, 0, RETRY_NO}, /* outside of a session */
    {ERR_TIMEOUT, false, false, false, 0, RETRY_NO},
    {ERR_INTERNAL, false, false, false, 0, RETRY_NO},
    {ERR_UNKNOWN_OUTCOME, true, true, false, 0, RETRY_LATER},
    {ERR_TIMEOUT, true, false, false, 0, RETRY_LATER},
    {ERR_WRONG_SHARD, true, true, true, 0, RETRY_NOW},
    {ERR_SHUTTING_DOWN, true, true, false, 0, RETRY_LATER},
    {ERR_CLOSED, true, true, false, 0, RETRY_NO},
};

START_TEST(decisions)
{
    ck_assert_int_eq(retry_decide(cases[_i].err, cases[_i].repeatable, cases[_i].maybe,
                                  cases[_i].hinted, cases[_i].hops),
                     cases[_i].want);
}
END_TEST

START_TEST(delays)
{
    struct rng rng;
    rng_seed(&rng, 1);
    for (unsigned attempt = 0; attempt < 100; attempt++) {
        uint64_t d = retry_delay(&rng, attempt, 0);
        ck_assert_uint_ge(d, 2 * NS_PER_MS);
        ck_assert_uint_le(d, 256 * NS_PER_MS);
    }
    ck_assert_uint_ge(retry_delay(&rng, 0, 300), 300 * NS_PER_MS);
    ck_assert_uint_le(retry_delay(&rng, 0, UINT64_MAX), 1500 * NS_PER_MS);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("retry");
    TCase *t = tcase_create("all");
    tcase_add_loop_test(t, decisions, 0, sizeof(cases) / sizeof(cases[0]));
    tcase_add_test(t, delays);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
