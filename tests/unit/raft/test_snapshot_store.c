/* snapshot_store.h: the engine is free as soon as the checkpoint is there; the files of one that is
 * dropped are not read on. What receivers see of the store: test_snapshot_places. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/limits.h"
#include "common/io/fs.h"
#include "common/raft/snapshot_store.h"

#define GROUP 7u

static struct io *io;
static struct snapshot_store *store;
static char dir[600];
static unsigned checkpointed, made;
static enum err result;
static bool gone;

static enum err checkpoint(void *arg, const char *path, uint64_t *index, struct buf *note)
{
    char file[900];
    (void)arg;
    (void)note;
    enum err e = fs_mkdir(path);
    snprintf(file, sizeof file, "%s/1.sst", path);
    *index = 10;
    return e == ERR_OK ? fs_write_file(file, slice_str("contents")) : e;
}

static void on_checkpointed(void *arg, uint64_t group)
{
    ck_assert_ptr_eq(arg, &store);
    ck_assert_uint_eq(group, GROUP);
    checkpointed++;
    io_stop(io);
}

static void on_made(void *arg, enum err e, const struct snapshot_manifest *m, struct slice encoded)
{
    (void)arg;
    (void)m;
    (void)encoded;
    result = e;
    made++;
    io_stop(io);
}

static void on_gone(void *arg)
{
    (void)arg;
    gone = true;
    io_stop(io);
}

static bool make(void)
{
    return snapshot_store_make(store, GROUP, dir, 0, checkpoint, on_made, NULL);
}

START_TEST(read_without_the_engine)
{
    const char *tmp = getenv("TEST_TMP");
    struct snapshot_store_stats s;
    struct io_options o = {0};
    char msg[256];
    snprintf(dir, sizeof dir, "%.400s/store.XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(io_create(&o, &io, msg, sizeof msg), ERR_OK);
    store = snapshot_store_create(&(struct snapshot_store_options){
        .io = io, .arg = (void *)&store, .checkpointed = on_checkpointed});
    ck_assert(make());
    io_run(io);
    ck_assert_uint_eq(checkpointed, 1);
    ck_assert_uint_eq(made, 0);
    snapshot_store_stats(store, &s);
    ck_assert_uint_eq(s.making, 1);
    ck_assert(!make()); /* joins it: its own checkpoint() will not run */
    snapshot_store_drop(store, GROUP, NULL, NULL);
    while (made < 2)
        io_run(io);
    ck_assert_int_eq(result, ERR_INTERRUPTED);
    ck_assert(make());
    while (made < 3)
        io_run(io);
    ck_assert_int_eq(result, ERR_OK);
    ck_assert_uint_eq(checkpointed, 2);
    ck_assert(!make()); /* the live one */
    while (made < 4)
        io_run(io);
    ck_assert_uint_eq(checkpointed, 2);
    snapshot_store_destroy(store, on_gone, NULL);
    while (!gone)
        io_run(io);
    io_destroy(io);
    ck_assert_int_eq(fs_rmdir_all(dir), ERR_OK);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("snapshot_store");
    TCase *t = tcase_create("all");
    tcase_add_test(t, read_without_the_engine);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
