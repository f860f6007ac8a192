/* The heap against a sorted array, over random histories. */
#include <check.h>
#include <string.h>

#include "common/base/rng.h"
#include "common/io/timer_heap.h"

#define N 200
static struct timer_heap heap;
static struct io_timer timers[N];
static uint64_t fired_at, fired_order;
static unsigned fired;

static void on_fire(struct io_timer *t)
{
    ck_assert(t->at > fired_at || (t->at == fired_at && t->order > fired_order));
    ck_assert(!io_timer_armed(t));
    fired_at = t->at;
    fired_order = t->order;
    fired++;
}

static unsigned count(uint64_t now)
{
    unsigned n = 0;
    for (int i = 0; i < N; i++)
        n += io_timer_armed(&timers[i]) && timers[i].at <= now;
    return n;
}

START_TEST(random_histories)
{
    struct rng r;
    rng_seed(&r, (uint64_t)_i);
    timer_heap_init(&heap);
    memset(timers, 0, sizeof timers);
    for (int i = 0; i < N; i++)
        timers[i].fn = on_fire;
    for (uint64_t now = 0; now < 2000; now++) {
        struct io_timer *t = &timers[rng_below(&r, N)];
        if (rng_below(&r, 3) > 0)
            timer_heap_set(&heap, t, now + rng_below(&r, 100));
        else
            timer_heap_cancel(&heap, t);
        if (rng_below(&r, 10) == 0) {
            unsigned due = count(now);
            fired = 0;
            fired_at = fired_order = 0;
            timer_heap_run(&heap, now);
            ck_assert_uint_eq(fired, due);
            ck_assert_uint_eq(count(now), 0);
        }
        ck_assert_uint_eq(heap.n, count(UINT64_MAX));
    }
    timer_heap_close(&heap);
    ck_assert_uint_eq(count(UINT64_MAX), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("timer_heap");
    TCase *t = tcase_create("all");
    tcase_add_loop_test(t, random_histories, 0, 50);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
