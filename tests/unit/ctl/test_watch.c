/* The progress line. */
#include <check.h>
#include <stdlib.h>

#include "client/ctl/watch.h"

static const struct {
    struct watch_now now;
    const char *what;
    uint64_t rate;
    unsigned width;
    const char *line;
} table[] = {
    {{.done = 1, .total = 4, .unit = "move"}, "moving", 0, 0, "moving   25%  1 of 4 moves"},
    {{.done = 0, .total = 1, .unit = "move"}, "moving", 0, 0, "moving   0%  0 of 1 move"},
    {{.bytes = 512 << 20, .bytes_total = 2048ull << 20, .done = 1, .total = 3, .unit = "replica"},
     "draining n3",
     100 << 20,
     8,
     "draining n3  [##......] 25%  512MiB of 2.0GiB  100MiB/s  16s left  1 of 3 replicas"},
    /* Never 100 % before it is over, never more. */
    {{.bytes = 300, .bytes_total = 100}, "x", 10, 4, "x  [###.] 99%  300B of 100B  10B/s"},
    {{.bytes = 100, .bytes_total = 100, .over = true},
     "x",
     10,
     4,
     "x  [####] 100%  100B of 100B  10B/s"},
    {{.done = 2, .total = 2, .unit = "step", .note = "g7: catch-up"},
     "x",
     0,
     0,
     "x   99%  2 of 2 steps  g7: catch-up"},
};

START_TEST(test_line)
{
    char line[512];
    watch_line(&table[_i].now, table[_i].what, table[_i].rate, table[_i].width, line, sizeof(line));
    ck_assert_str_eq(line, table[_i].line);
}
END_TEST

/* A small buffer is filled, not overrun. */
START_TEST(test_line_cut)
{
    struct watch_now now = {.bytes = 1, .bytes_total = 2, .done = 1, .total = 2, .note = "note"};
    for (size_t n = 1; n < 120; n++) {
        char *line = malloc(n);
        watch_line(&now, "a long name of what goes on", 1, 24, line, n);
        ck_assert_uint_lt(strlen(line), n);
        free(line);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl/watch");
    TCase *t = tcase_create("line");
    tcase_add_loop_test(t, test_line, 0, sizeof(table) / sizeof(table[0]));
    tcase_add_test(t, test_line_cut);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
