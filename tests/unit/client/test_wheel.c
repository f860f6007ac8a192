/* The timer wheel against a plain sorted array. */
#include <check.h>
#include <stdlib.h>

#include "client/wheel.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/rng.h"

#define N 500

START_TEST(never_early_never_lost)
{
    static struct wheel w;
    static struct wheel_node nodes[N];
    bool fired[N] = {0};
    struct rng rng;
    uint64_t now = 12345 * NS_PER_MS;
    rng_seed(&rng, (uint64_t)_i);
    wheel_init(&w, now);
    unsigned left = N;
    for (unsigned i = 0; i < N; i++) {
        wheel_node_init(&nodes[i], 0);
        wheel_set(&w, &nodes[i], now + rng_below(&rng, 10 * NS_PER_S));
    }
    for (unsigned i = 0; i < N; i += 7) { /* some are cancelled, some set anew */
        wheel_cancel(&nodes[i]);
        if (i % 2)
            wheel_set(&w, &nodes[i], now + rng_below(&rng, NS_PER_S));
        else
            left--;
    }
    while (left) {
        uint64_t next = wheel_next(&w);
        ck_assert_uint_ne(next, UINT64_MAX);
        /* sometimes late, by more than a turn of the wheel */
        now = (next > now ? next : now) + rng_below(&rng, 5) / 4 * 3 * NS_PER_S;
        for (struct wheel_node *n; (n = wheel_pop(&w, now));) {
            unsigned i = (unsigned)(n - nodes);
            ck_assert(!fired[i] && n->at <= now);
            fired[i] = true;
            left--;
        }
        for (unsigned i = 0; i < N; i++)
            ck_assert(fired[i] || list_empty(&nodes[i].link) || nodes[i].at + WHEEL_TICK_NS > now);
    }
    ck_assert_ptr_null(wheel_pop_any(&w));
}
END_TEST

START_TEST(in_the_past_fires_in_the_next_tick)
{
    static struct wheel w;
    struct wheel_node n;
    wheel_init(&w, NS_PER_S);
    wheel_node_init(&n, 3);
    wheel_set(&w, &n, 5);
    ck_assert_uint_le(wheel_next(&w), NS_PER_S + WHEEL_TICK_NS);
    ck_assert_ptr_eq(wheel_pop(&w, NS_PER_S + WHEEL_TICK_NS), &n);
    ck_assert_uint_eq(wheel_next(&w), UINT64_MAX);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("wheel");
    TCase *t = tcase_create("all");
    tcase_add_loop_test(t, never_early_never_lost, 0, 50);
    tcase_add_test(t, in_the_past_fires_in_the_next_tick);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
