/* The line of a transfer under way. */
#include "client/ctl/progress.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    struct progress p;
    double seconds;
    const char *line;
} table[] = {
    {{.what = "export", .share = -1}, 0, "export  0 keys  0B"},
    {{.what = "import", .records = 10, .bytes = 4096, .share = -1},
     2,
     "import  10 keys  4.0KiB  2.0KiB/s"},
    {{.what = "export", .records = 9, .bytes = 3u << 20, .share = 0.25},
     3,
     "export  9 keys  3.0MiB  1.0MiB/s  25%  10s left"},
    /* What an earlier run did says nothing about this one's rate. */
    {{.what = "export", .records = 9, .bytes = 100, .share = 0.75, .share_from = 0.5},
     10,
     "export  9 keys  100B  10B/s  75%  11s left"},
    {{.what = "export", .records = 9, .bytes = 100, .share = 1},
     10,
     "export  9 keys  100B  10B/s  100%"},
};

START_TEST(test_line)
{
    char line[256];
    progress_line(&table[_i].p, table[_i].seconds, line, sizeof line);
    ck_assert_str_eq(line, table[_i].line);
    for (size_t n = 1; n < 60; n++) {
        char *small = malloc(n);
        progress_line(&table[_i].p, table[_i].seconds, small, n);
        ck_assert_uint_lt(strlen(small), n);
        free(small);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl/progress");
    TCase *t = tcase_create("line");
    tcase_add_loop_test(t, test_line, 0, sizeof(table) / sizeof(table[0]));
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
