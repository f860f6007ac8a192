/* The file of placementd's addresses: kept over a restart; what is not one is no more than missing.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/io/fs.h"
#include "shardd/placements.h"

static struct io *io;
static char dir[512], path[600];
static struct placements p;

static void setup(void)
{
    struct io_options o = {0};
    char msg[256];
    const char *tmp = getenv("TEST_TMP");
    snprintf(dir, sizeof dir, "%s/placements.XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/placements", dir);
    ck_assert_int_eq(io_create(&o, &io, msg, sizeof msg), ERR_OK);
}

static void teardown(void)
{
    buf_close(&p.bytes);
    io_destroy(io);
    (void)!fs_rmdir_all(dir);
}

static void on_turn(void *arg)
{
    (void)arg;
    if (!p.saving)
        io_stop(io);
}

static struct io_addr addr_of(const char *text)
{
    struct io_addr a;
    ck_assert_int_eq(io_addr_parse(text, &a), ERR_OK);
    return a;
}

static void check_is(unsigned i, const char *expected)
{
    char text[64];
    io_addr_format(&p.addr[i], text);
    ck_assert_str_eq(text, expected);
}

START_TEST(they_are_kept)
{
    struct io_addr a[3] = {addr_of("127.0.0.1:7001"), addr_of("[::1]:7002"),
                           addr_of("10.1.2.3:65535")};
    placements_open(&p, io, dir);
    ck_assert_uint_eq(p.n, 0);
    io_set_turn_hook(io, on_turn, NULL);
    placements_set(&p, a, 1);
    placements_set(&p, a, 3); /* while the first is being written */
    io_run(io);
    buf_close(&p.bytes);
    placements_open(&p, io, dir);
    ck_assert_uint_eq(p.n, 3);
    check_is(0, "127.0.0.1:7001");
    check_is(1, "[::1]:7002");
    check_is(2, "10.1.2.3:65535");
}
END_TEST

START_TEST(what_is_damaged_is_left_alone)
{
    static const char *const bad[] = {"127.0.0.1:7001", "127.0.0.1:7001\nnobody\n", "\n",
                                      "127.0.0.1:7001\n\n", "\x01\x02\x03\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(fs_write_file(path, slice_str(bad[i])), ERR_OK);
        placements_open(&p, io, dir);
        ck_assert_uint_eq(p.n, 0);
    }
    struct buf many = {0};
    for (unsigned i = 0; i <= LIMIT_GROUP_MEMBERS; i++)
        buf_printf(&many, "127.0.0.1:%u\n", 7000 + i);
    ck_assert_int_eq(fs_write_file(path, buf_slice(&many)), ERR_OK);
    placements_open(&p, io, dir);
    ck_assert_uint_eq(p.n, 0);
    while (many.n < 100000)
        buf_u8(&many, 'x');
    ck_assert_int_eq(fs_write_file(path, buf_slice(&many)), ERR_OK);
    placements_open(&p, io, dir);
    ck_assert_uint_eq(p.n, 0);
    buf_close(&many);
}
END_TEST

int main(void)
{
    log_set_level(LOG_SILENT);
    Suite *s = suite_create("placements");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, they_are_kept);
    tcase_add_test(t, what_is_damaged_is_left_alone);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
