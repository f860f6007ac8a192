#include "common/base/log.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char last[4096];
static unsigned lines;

static void sink(void *arg, enum log_level level, const char *line)
{
    ck_assert_ptr_eq(arg, &lines);
    ck_assert_int_ge(level, LOG_INFO);
    snprintf(last, sizeof(last), "%s", line);
    lines++;
}

START_TEST(levels)
{
    enum log_level level;
    ck_assert(log_level_parse("warn", &level));
    ck_assert_int_eq(level, LOG_WARN);
    ck_assert(!log_level_parse("silent", &level));
    ck_assert(!log_level_parse("", &level));
}
END_TEST

START_TEST(sink_takes_whole_tame_lines)
{
    log_set_sink(sink, &lines);
    log_info("started", "node=%u path=\"%s\"", 3u, "a\nb");
    ck_assert_str_eq(last, "started node=3 path=\"a?b\"");
    log_debug("hidden", "x=%d", 1);
    log_warn("bare", "%s", "");
    ck_assert_str_eq(last, "bare");
    ck_assert_uint_eq(lines, 2);

    char big[3000];
    memset(big, 'y', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    log_error("big", "v=%s", big);
    ck_assert_uint_lt(strlen(last), 2048);
    ck_assert_str_eq(last + strlen(last) - 4, "y...");
    log_set_level(LOG_SILENT);
    log_error("silenced", "x=%d", 1);
    ck_assert_uint_eq(lines, 3);
    log_set_level(LOG_INFO);
    log_set_sink(NULL, NULL);
}
END_TEST

START_TEST(stderr_gets_one_line)
{
    int fds[2], saved = dup(STDERR_FILENO);
    char text[4096];
    ck_assert_int_eq(pipe(fds), 0);
    dup2(fds[1], STDERR_FILENO);
    log_info("started", "node=%u", 3u);
    dup2(saved, STDERR_FILENO);
    ssize_t n = read(fds[0], text, sizeof(text) - 1);
    ck_assert_int_gt(n, 0);
    text[n] = '\0';
    /* 2024-05-01T12:34:56.789Z info started node=3 */
    ck_assert_str_eq(text + 23, "Z info started node=3\n");
    ck_assert_int_eq(text[10], 'T');
    close(fds[0]);
    close(fds[1]);
    close(saved);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("log");
    TCase *t = tcase_create("log");
    tcase_add_test(t, levels);
    tcase_add_test(t, sink_takes_whole_tame_lines);
    tcase_add_test(t, stderr_gets_one_line);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
