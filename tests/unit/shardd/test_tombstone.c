/* The file of tombstones: what is saved comes back, what is damaged is refused, what is bounded. */
#include "shardd/tombstone.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/io/fs.h"
#include "common/io/io.h"

static char dir[512], msg[512];
static struct io *io;
static struct tombstones t;

static void on_saved(void *arg)
{
    (void)arg;
    io_stop(io);
}

static void open_all(void)
{
    struct io_options o = {0};
    ck_assert_int_eq(io_create(&o, &io, msg, sizeof msg), ERR_OK);
    ck_assert_int_eq(tombstones_open(&t, io, dir, 3, msg, sizeof msg), ERR_OK);
    t.on_saved = on_saved;
}

static void close_all(void)
{
    tombstones_close(&t);
    io_destroy(io);
}

static void setup(void)
{
    const char *tmp = getenv("TEST_TMP");
    snprintf(dir, sizeof dir, "%.400s/tombstone.XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    open_all();
}

static void teardown(void)
{
    close_all();
    ck_assert_int_eq(fs_rmdir_all(dir), ERR_OK);
}

static void save(void)
{
    tombstones_save(&t);
    io_run(io);
    ck_assert_uint_eq(t.saved, t.version);
}

START_TEST(saved_and_read)
{
    ck_assert(!tombstones_has(&t, 7, 1));
    uint64_t first = tombstones_add(&t, 7, 20);
    ck_assert_uint_gt(first, t.saved);
    ck_assert_uint_eq(tombstones_add(&t, 7, 20), first); /* nothing new */
    ck_assert_uint_eq(tombstones_add(&t, 7, 19), first);
    tombstones_add(&t, 8, 5);
    save();
    close_all();
    open_all();
    ck_assert(tombstones_has(&t, 7, 20) && tombstones_has(&t, 7, 3));
    ck_assert(!tombstones_has(&t, 7, 21));
    ck_assert(tombstones_has(&t, 8, 5) && !tombstones_has(&t, 8, 6));
    ck_assert(!tombstones_has(&t, 9, 1));
}
END_TEST

START_TEST(damage_is_refused)
{
    char path[600];
    struct buf file = {0};
    struct tombstones other;
    tombstones_add(&t, 7, 20);
    save();
    snprintf(path, sizeof path, "%s/tombstones-3", dir);
    ck_assert_int_eq(fs_read_file(path, &file), ERR_OK);
    for (size_t i = 0; i < file.n; i++) {
        file.p[i] ^= 0x10;
        ck_assert_int_eq(fs_write_file(path, buf_slice(&file)), ERR_OK);
        enum err e = tombstones_open(&other, io, dir, 3, msg, sizeof msg);
        ck_assert(e == ERR_CORRUPT || e == ERR_FORMAT);
        ck_assert_ptr_nonnull(strstr(msg, "tombstones-3"));
        tombstones_close(&other);
        file.p[i] ^= 0x10;
    }
    ck_assert_int_eq(fs_write_file(path, slice_of(file.p, file.n - 1)), ERR_OK);
    ck_assert_int_eq(tombstones_open(&other, io, dir, 3, msg, sizeof msg), ERR_CORRUPT);
    tombstones_close(&other);
    buf_close(&file);
}
END_TEST

START_TEST(the_oldest_groups_go)
{
    for (uint64_t g = 1; g <= TOMBSTONES_MAX; g++)
        tombstones_add(&t, g, 1);
    ck_assert(tombstones_has(&t, 1, 1));
    tombstones_add(&t, TOMBSTONES_MAX + 1, 1);
    ck_assert(!tombstones_has(&t, 1, 1) && tombstones_has(&t, 2, 1));
    ck_assert(tombstones_has(&t, TOMBSTONES_MAX + 1, 1));
    save();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tombstone");
    TCase *c = tcase_create("all");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, saved_and_read);
    tcase_add_test(c, damage_is_refused);
    tcase_add_test(c, the_oldest_groups_go);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
