/* files.h: clients leave files to the logs and the databases. */
#include <check.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "common/io/files.h"

START_TEST(shares)
{
    ck_assert_uint_eq(files_for_clients(1024, 1, 16384), 512);
    ck_assert_uint_eq(files_for_clients(1024, 4, 16384), 128);
    ck_assert_uint_eq(files_for_clients(1048576, 4, 16384), 16384);
    ck_assert_uint_eq(files_for_clients(UINT64_MAX, 64, 16384), 16384);
    ck_assert_uint_eq(files_for_clients(0, 64, 16384), 8);
}
END_TEST

START_TEST(raised_to_the_hard_limit)
{
    struct rlimit r;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &r), 0);
    r.rlim_cur = 100;
    if (r.rlim_max > 500)
        r.rlim_max = 500;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &r), 0);
    ck_assert_uint_eq(files_raise(), r.rlim_max);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &r), 0);
    ck_assert_uint_eq(r.rlim_cur, r.rlim_max);
    ck_assert_uint_eq(files_raise(), r.rlim_max);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("files");
    TCase *t = tcase_create("all");
    tcase_add_test(t, shares);
    tcase_add_test(t, raised_to_the_hard_limit);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
