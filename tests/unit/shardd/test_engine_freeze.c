/* What a flush makes durable: what was frozen, oldest first; nothing more once one has failed. */
#include <check.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "tests/unit/shardd/engine_world.h"

static void setup(void)
{
    engine_world_open("freeze");
}

static void reopen(void)
{
    char msg[256];
    engine_close(db);
    ck_assert_int_eq(engine_open(engine, path, false, &db, msg, sizeof msg), ERR_OK);
}

static void put(const char *k, const char *v)
{
    engine_batch_put(batch, slice_str(k), slice_str(v));
    ck_assert_int_eq(engine_write(db, batch), ERR_OK);
    engine_batch_clear(batch);
}

/* v NULL: it is not there. */
static void expect(const char *k, const char *v)
{
    struct engine_value got;
    enum err e = engine_get(db, slice_str(k), false, &got);
    ck_assert_int_eq(e, v ? ERR_OK : ERR_NOT_FOUND);
    if (!v)
        return;
    ck_assert(slice_eq(got.data, slice_str(v)));
    engine_value_close(&got);
}

static void expect_durable(const char *k, const char *v)
{
    struct buf b = {0};
    enum err e = engine_get_durable(db, slice_str(k), &b);
    ck_assert_int_eq(e, v ? ERR_OK : ERR_NOT_FOUND);
    if (v)
        ck_assert(slice_eq(buf_slice(&b), slice_str(v)));
    buf_close(&b);
}

/* A flush makes durable what was there when it was frozen; all of it is seen all the time. */
START_TEST(what_is_frozen_is_flushed)
{
    put("a", "1");
    put("b", "1");
    engine_freeze(db);
    put("a", "2");
    engine_freeze(db); /* what was to flush the first one came to nothing */
    engine_freeze(db);
    put("a", "3");
    put("c", "3");
    put("d", "3");
    engine_freeze(db);
    engine_batch_delete(batch, slice_str("d")); /* what is flushed must not bring it back */
    ck_assert_int_eq(engine_write(db, batch), ERR_OK);
    engine_batch_clear(batch);
    for (int flushed = 0; flushed < 2; flushed++) {
        expect("a", "3");
        expect("b", "1");
        expect("c", "3");
        expect("d", NULL);
        ck_assert_int_eq(engine_flush_frozen(db), ERR_OK);
    }
    expect_durable("a", "3");
    expect_durable("d", "3");
    put("a", "4");
    expect_durable("a", "3");
    reopen();
    expect("a", "3");
    expect("b", "1");
}
END_TEST

/* ---- on a disk that is full for a while ---- */

static bool has_disk;

/* A small disk of our own, that goes with the test's process. Only root may have one. */
static void setup_disk(void)
{
    static char dir[512];
    const char *tmp = getenv("TEST_TMP");
    snprintf(dir, sizeof dir, "%.400s/small.XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    has_disk = unshare(CLONE_NEWNS) == 0 &&
               mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
               mount("tmpfs", dir, "tmpfs", 0, "size=8m") == 0;
    ck_assert_int_eq(setenv("TEST_TMP", dir, 1), 0);
    engine_world_open("freeze");
}

static void teardown_disk(void)
{
    const char *dir = getenv("TEST_TMP");
    engine_world_close();
    if (has_disk)
        (void)!umount(dir);
    (void)!rmdir(dir);
}

static void ballast(bool there)
{
    char file[600];
    snprintf(file, sizeof file, "%s/ballast", getenv("TEST_TMP"));
    if (!there) {
        ck_assert_int_eq(unlink(file), 0);
        return;
    }
    static char block[4096];
    FILE *f = fopen(file, "w");
    ck_assert_ptr_nonnull(f);
    setbuf(f, NULL);
    while (fwrite(block, 1, sizeof block, f) == sizeof block)
        ;
    fclose(f);
}

/* What was written after a flush that failed may lack what belongs to it: it must not become
 * durable, though the disk has room again, and RocksDB goes on by itself. */
START_TEST(a_failed_flush_is_not_tried_again)
{
    if (!has_disk)
        return;
    static char large[300000];
    memset(large, 'x', sizeof large - 1);
    put("position", "1");
    ck_assert_int_eq(engine_flush(db), ERR_OK);
    put("position", "2");
    put("large", large);
    engine_freeze(db);
    put("position", "3");
    ballast(true);
    ck_assert_int_eq(engine_flush_frozen(db), ERR_NO_SPACE);
    ballast(false);
    for (unsigned i = 0; i < 3; i++) {
        usleep(100000);
        engine_batch_put(batch, slice_str("late"), slice_str("row"));
        ck_assert_int_eq(engine_write(db, batch), ERR_NO_SPACE);
        engine_batch_clear(batch);
        engine_freeze(db);
        ck_assert_int_eq(engine_flush_frozen(db), ERR_NO_SPACE);
    }
    expect("position", "3");
    reopen();
    struct engine_value v;
    ck_assert_int_eq(engine_get(db, slice_str("position"), false, &v), ERR_OK);
    ck_assert(!slice_eq(v.data, slice_str("3")));
    engine_value_close(&v);
    put("position", "4");
    ck_assert_int_eq(engine_flush(db), ERR_OK);
    expect_durable("position", "4");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("engine_freeze");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, engine_world_close);
    tcase_add_test(t, what_is_frozen_is_flushed);
    suite_add_tcase(s, t);
    t = tcase_create("small disk");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup_disk, teardown_disk);
    tcase_add_test(t, a_failed_flush_is_not_tried_again);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
