#include "common/base/err.h"

#include <check.h>
#include <errno.h>
#include <string.h>

#define COUNT(name, number, cls, code, text) number,
static const int numbers[] = {ERR_TABLE(COUNT)};
#undef COUNT
#define N (sizeof(numbers) / sizeof(numbers[0]))

START_TEST(table_is_sound)
{
    for (size_t i = 0; i < N; i++) {
        enum err e = (enum err)numbers[i];
        ck_assert_int_eq(err_from_wire((unsigned long long)numbers[i]), e);
        ck_assert(strcmp(err_name(e), "UNKNOWN") != 0);
        ck_assert(strlen(err_text(e)) > 0);
        ck_assert_int_ge(err_exit_code(e), 0);
        ck_assert_int_le(err_exit_code(e), 6);
        ck_assert((err_exit_code(e) == 0) == (e == ERR_OK));
        for (size_t j = 0; j < i; j++)
            ck_assert_int_ne(numbers[i], numbers[j]);
    }
}
END_TEST

START_TEST(strangers)
{
    ck_assert_str_eq(err_name(ERR_NOT_FOUND), "NOT_FOUND");
    ck_assert_str_eq(err_name((enum err)999), "UNKNOWN");
    ck_assert_int_eq(err_class((enum err)999), ERR_CLASS_UNKNOWN);
    ck_assert_int_eq(err_from_wire(999), ERR_INTERNAL);
    ck_assert_int_eq(err_from_wire(~0ULL), ERR_INTERNAL);
    ck_assert_int_eq(err_from_wire((1ULL << 32) + ERR_NOT_FOUND), ERR_INTERNAL);
}
END_TEST

START_TEST(from_errno)
{
    static const struct {
        int error;
        enum err want;
    } rows[] = {
        {0, ERR_OK},
        {ENOSPC, ERR_NO_SPACE},
        {ENOENT, ERR_NOT_FOUND},
        {EEXIST, ERR_EXISTS},
        {EADDRINUSE, ERR_ADDRESS_IN_USE},
        {ECONNREFUSED, ERR_UNREACHABLE},
        {ECONNRESET, ERR_CLOSED},
        {ENOSYS, ERR_UNSUPPORTED},
        {EIO, ERR_IO},
        {123456, ERR_IO},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        ck_assert_int_eq(err_from_errno(rows[i].error), rows[i].want);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("err");
    TCase *t = tcase_create("err");
    tcase_add_test(t, table_is_sound);
    tcase_add_test(t, strangers);
    tcase_add_test(t, from_errno);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
