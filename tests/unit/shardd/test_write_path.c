/* The queue of proposed batches: which one an applied entry belongs to. */
#include <check.h>
#include <stdlib.h>

#include "shardd/write_path.h"

static struct write_path w;

static void setup(void)
{
    write_path_init(&w);
}

static void teardown(void)
{
    write_path_close(&w, ERR_SHUTTING_DOWN);
}

static struct write_batch *propose(uint64_t index, uint64_t term)
{
    struct write_batch *b = write_batch_create();
    b->index = index;
    b->term = term;
    write_path_queue(&w, b);
    return b;
}

static void take(uint64_t index, uint64_t term, struct write_batch *expected)
{
    struct write_batch *b = write_path_take(&w, index, term);
    ck_assert_ptr_eq(b, expected);
    if (b)
        write_batch_free(b);
}

START_TEST(test_in_order)
{
    struct write_batch *a = propose(5, 1), *b = propose(6, 1), *c = propose(8, 1);
    take(5, 1, a);
    take(6, 1, b);
    take(7, 1, NULL); /* another's */
    take(8, 1, c);
    take(9, 1, NULL);
}
END_TEST

START_TEST(test_other_term)
{
    (void)propose(5, 1);
    struct write_batch *b = propose(6, 1);
    take(5, 2, NULL);
    take(6, 1, b);
    ck_assert(list_empty(&w.pending));
}
END_TEST

/* Leadership lost with 10 and 11 under way, and won again with a log that ends at 9. */
START_TEST(test_led_twice)
{
    (void)propose(10, 5);
    (void)propose(11, 5);
    struct write_batch *a = propose(10, 7), *b = propose(11, 7), *c = propose(12, 7);
    take(10, 7, a);
    take(11, 7, b);
    take(12, 7, c);
    ck_assert(list_empty(&w.pending));
}
END_TEST

/* What was proposed first is committed after all, by a leader that had it. */
START_TEST(test_led_twice_old_wins)
{
    struct write_batch *a = propose(10, 5), *b = propose(11, 5);
    (void)propose(10, 7);
    take(10, 5, a);
    take(11, 5, b);
    ck_assert(list_empty(&w.pending));
}
END_TEST

START_TEST(test_skipped)
{
    (void)propose(10, 5);
    (void)propose(11, 5);
    struct write_batch *c = propose(12, 5);
    write_path_skipped(&w, 11);
    take(12, 5, c);
    ck_assert(list_empty(&w.pending));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("write_path");
    TCase *t = tcase_create("queue");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_in_order);
    tcase_add_test(t, test_other_term);
    tcase_add_test(t, test_led_twice);
    tcase_add_test(t, test_led_twice_old_wins);
    tcase_add_test(t, test_skipped);
    suite_add_tcase(s, t);
    SRunner *sr = srunner_create(s);
    srunner_set_fork_status(sr, CK_NOFORK);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? 1 : 0;
}
