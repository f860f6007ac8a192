/* Where kvctl and kvbench look for a cluster that they were not told of. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/bench/options.h"
#include "client/ctl/playground_file.h"

#define USUAL "kv://127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103"

static char dir[256];

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    ck_assert_int_eq(fclose(f), 0);
}

static void setup(void)
{
    const char *tmp = getenv("TEST_TMP");
    snprintf(dir, sizeof dir, "%s/playground_file.XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(chdir(dir), 0);
    unsetenv("KV_URL");
}

static void teardown(void)
{
    (void)!unlink("run/playground.json");
    (void)!unlink("run/p2/removed");
    (void)!rmdir("run/p2");
    (void)!rmdir("run");
    (void)!chdir("/");
    ck_assert_int_eq(rmdir(dir), 0);
}

static void make_playground(void)
{
    ck_assert_int_eq(mkdir("run", 0700), 0);
    write_file("run/playground.json",
               "{\"schema\":1,\"base_port\":19000,\"nodes\":2,\"groups\":1,\"cores\":1,"
               "\"placements\":3,\"founders\":3,\"set\":[\"log.level=debug\"]}");
}

static void expect(const char *url, bool is_damaged)
{
    bool damaged;
    ck_assert_str_eq(playground_default_url(&damaged), url);
    ck_assert_int_eq(damaged, is_damaged);
    char *argv[] = {(char[]){"kvbench"}, NULL};
    struct bench_options o;
    bool exit_now;
    optind = 1;
    int code = bench_options_parse(1, argv, &o, &exit_now);
    ck_assert_int_eq(code, is_damaged ? 2 : 0);
    if (code == 0)
        ck_assert_str_eq(o.url, url);
}

START_TEST(test_nothing_there)
{
    expect(USUAL, false);
}
END_TEST

START_TEST(test_playground)
{
    make_playground();
    expect("kv://127.0.0.1:19101,127.0.0.1:19102,127.0.0.1:19103", false);
    ck_assert_int_eq(mkdir("run/p2", 0700), 0);
    write_file("run/p2/removed", "");
    expect("kv://127.0.0.1:19101,127.0.0.1:19103", false);
}
END_TEST

START_TEST(test_told)
{
    make_playground();
    setenv("KV_URL", "", 1);
    expect("kv://127.0.0.1:19101,127.0.0.1:19102,127.0.0.1:19103", false);
    setenv("KV_URL", "kv://10.0.0.1:1", 1);
    expect("kv://10.0.0.1:1", false);
    char *argv[] = {(char[]){"kvbench"}, (char[]){"--url=kv://10.0.0.2:2"}, NULL};
    struct bench_options o;
    bool exit_now;
    optind = 1;
    ck_assert_int_eq(bench_options_parse(2, argv, &o, &exit_now), 0);
    ck_assert_str_eq(o.url, "kv://10.0.0.2:2");
}
END_TEST

START_TEST(test_damaged)
{
    make_playground();
    write_file("run/playground.json", "{\"base_port\":19000");
    expect(USUAL, true);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("playground_file");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_nothing_there);
    tcase_add_test(t, test_playground);
    tcase_add_test(t, test_told);
    tcase_add_test(t, test_damaged);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
