/* The simulated disk: what a power loss may and may not take away. */
#include <check.h>
#include <stdlib.h>

#include "common/io/fs.h"
#include "tests/sim/sim.h"

static struct sim_host *host;

static void nothing(void *arg)
{
    (void)arg;
}

static void put(const char *path, const char *text, bool sync)
{
    struct fs_file *f;

    ck_assert_int_eq(fs_open(path, FS_WRITE | FS_CREATE, &f), ERR_OK);
    ck_assert_int_eq(fs_write(f, text, strlen(text), 0), ERR_OK);
    if (sync)
        ck_assert_int_eq(fs_sync(f), ERR_OK);
    fs_close(f);
}

static bool has(const char *path, const char *text)
{
    struct buf b = {0};
    bool is = fs_read_file(path, &b) == ERR_OK && slice_eq(buf_slice(&b), slice_str(text));

    buf_close(&b);
    return is;
}

static void begin(uint64_t seed)
{
    sim_begin(seed);
    host = sim_host_create(1);
    ck_assert(sim_host_start(host, nothing, NULL));
}

START_TEST(test_synced_survives)
{
    unsigned lost = 0, lost_old = 0;

    for (uint64_t seed = 1; seed <= 100; seed++) {
        begin(seed);
        ck_assert_int_eq(fs_mkdir("/n1/d"), ERR_OK);
        ck_assert_int_eq(fs_sync_dir("/n1"), ERR_OK);
        put("/n1/d/safe", "old", true);
        ck_assert_int_eq(fs_sync_dir("/n1/d"), ERR_OK);
        put("/n1/d/safe", "new", false);
        put("/n1/d/name", "text", true);
        sim_host_kill(host, SIM_POWER);
        ck_assert(has("/n1/d/safe", "old") || has("/n1/d/safe", "new"));
        lost_old += has("/n1/d/safe", "old");
        /* Synced data without a synced name: either there or not, never torn. */
        ck_assert(!fs_exists("/n1/d/name") || has("/n1/d/name", "text"));
        lost += !fs_exists("/n1/d/name");
    }
    ck_assert(lost > 10 && lost < 90);
    ck_assert(lost_old > 10 && lost_old < 90);
}
END_TEST

START_TEST(test_kill_keeps_everything)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        begin(seed);
        put("/n1/a", "text", false);
        sim_host_kill(host, SIM_KILL);
        ck_assert(has("/n1/a", "text"));
    }
}
END_TEST

START_TEST(test_write_file_is_atomic)
{
    unsigned olds = 0, news = 0;

    for (uint64_t seed = 1; seed <= 300; seed++) {
        begin(seed);
        ck_assert_int_eq(fs_write_file("/n1/stamp", slice_str("old")), ERR_OK);
        ck_assert(has("/n1/stamp", "old"));
        olds++;
        ck_assert_int_eq(fs_write_file("/n1/stamp", slice_str("new")), ERR_OK);
        sim_host_kill(host, SIM_POWER);
        ck_assert(has("/n1/stamp", "new"));
        news++;
    }
    ck_assert(olds == 300 && news == 300);
}
END_TEST

static void write_new(void *arg)
{
    (void)arg;
    ck_assert_int_eq(fs_write_file("/n1/stamp", slice_str("new")), ERR_OK);
}

/* What a node reads at its start it builds upon: it must not be taken back later. A plain read of a
 * name that a killed process left unsynced can be. */
START_TEST(test_read_durable_stays)
{
    unsigned kept[2] = {0, 0}, seen[2] = {0, 0};

    for (uint64_t seed = 1; seed <= 400; seed++) {
        bool durable = seed % 2;
        struct buf b = {0};
        begin(seed);
        ck_assert_int_eq(fs_write_file("/n1/stamp", slice_str("old")), ERR_OK);
        put("/n1/stamp.tmp", "new", true);
        ck_assert_int_eq(fs_rename("/n1/stamp.tmp", "/n1/stamp"), ERR_OK);
        sim_host_kill(host, SIM_KILL);
        ck_assert(sim_host_start(host, nothing, NULL));
        ck_assert_int_eq(durable ? fs_read_durable("/n1/stamp", &b) : fs_read_file("/n1/stamp", &b),
                         ERR_OK);
        ck_assert(slice_eq(buf_slice(&b), slice_str("new")));
        buf_close(&b);
        sim_host_kill(host, SIM_POWER);
        seen[durable]++;
        kept[durable] += has("/n1/stamp", "new");
    }
    ck_assert_uint_eq(kept[true], seen[true]);
    ck_assert_uint_lt(kept[false], seen[false]);
}
END_TEST

START_TEST(test_crash_at_each_operation)
{
    unsigned olds = 0, news = 0, cuts = 0;

    for (uint64_t seed = 1; seed <= 300; seed++) {
        begin(seed);
        ck_assert_int_eq(fs_write_file("/n1/stamp", slice_str("old")), ERR_OK);
        sim_host_crash_at_fs(host, 1 + (unsigned)(seed % 6));
        if (sim_host_call(host, write_new, NULL)) {
            ck_assert(has("/n1/stamp", "new"));
        } else {
            cuts++;
            ck_assert(!sim_host_up(host));
            ck_assert(has("/n1/stamp", "old") || has("/n1/stamp", "new"));
            olds += has("/n1/stamp", "old");
            news += has("/n1/stamp", "new");
        }
    }
    ck_assert(cuts >= 200);
    ck_assert(olds > 50);
    ck_assert(news > 5);
}
END_TEST

START_TEST(test_torn_at_blocks)
{
    unsigned mixed = 0;

    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct fs_file *f;
        uint8_t a[4096], b[4096], got[4096];
        unsigned old_blocks = 0;
        size_t n;
        begin(seed);
        memset(a, 'a', sizeof a);
        memset(b, 'b', sizeof b);
        ck_assert_int_eq(fs_open("/n1/f", FS_WRITE | FS_CREATE, &f), ERR_OK);
        ck_assert_int_eq(fs_write(f, a, sizeof a, 0), ERR_OK);
        ck_assert_int_eq(fs_sync(f), ERR_OK);
        ck_assert_int_eq(fs_sync_dir("/n1"), ERR_OK);
        ck_assert_int_eq(fs_write(f, b, sizeof b, 0), ERR_OK);
        sim_host_kill(host, SIM_POWER);
        ck_assert_int_eq(fs_open("/n1/f", FS_READ, &f), ERR_OK);
        ck_assert_int_eq(fs_read(f, got, sizeof got, 0, &n), ERR_OK);
        fs_close(f);
        for (size_t i = 0; i < sizeof got; i += 512) {
            ck_assert(memcmp(got + i, a, 512) == 0 || memcmp(got + i, b, 512) == 0);
            old_blocks += got[i] == 'a';
        }
        mixed += old_blocks > 0 && old_blocks < 8;
    }
    ck_assert_uint_gt(mixed, 10);
}
END_TEST

START_TEST(test_names)
{
    struct fs_file *f, *g;

    begin(1);
    ck_assert_int_eq(fs_open("/n1/x/y", FS_READ, &f), ERR_NOT_FOUND);
    ck_assert_int_eq(fs_mkdir("/n1/x"), ERR_OK);
    ck_assert_int_eq(fs_mkdir("/n1/x"), ERR_OK);
    put("/n1/x/y", "1", true);
    ck_assert_int_eq(fs_open("/n1/x/y", FS_CREATE | FS_EXCLUSIVE | FS_WRITE, &f), ERR_EXISTS);
    ck_assert_int_eq(fs_rename("/n1/x", "/n1/z"), ERR_OK);
    ck_assert(has("/n1/z/y", "1"));
    ck_assert(!fs_exists("/n1/x"));
    ck_assert_int_eq(fs_rmdir_all("/n1/z"), ERR_OK);
    ck_assert(!fs_exists("/n1/z/y"));
    ck_assert_int_eq(fs_lock("/n1/lock", &f), ERR_OK);
    ck_assert_int_eq(fs_lock("/n1/lock", &g), ERR_LOCKED);
    sim_host_kill(host, SIM_KILL);
    ck_assert(sim_host_start(host, nothing, NULL));
    ck_assert_int_eq(fs_lock("/n1/lock", &g), ERR_OK);
    fs_close(g);
}
END_TEST

START_TEST(test_faults)
{
    struct fs_file *f;
    size_t n;
    char c;

    begin(1);
    ck_assert_int_eq(fs_open("/n1/f", FS_WRITE | FS_CREATE, &f), ERR_OK);
    sim_disk_capacity(host, 100);
    ck_assert_int_eq(fs_write(f, "abc", 3, 98), ERR_NO_SPACE);
    sim_disk_capacity(host, UINT64_MAX);
    ck_assert_int_eq(fs_write(f, "abc", 3, 98), ERR_OK);
    sim_disk_fail(host, 0, 2);
    ck_assert_int_eq(fs_read(f, &c, 1, 98, &n), ERR_OK);
    ck_assert_int_eq(fs_read(f, &c, 1, 98, &n), ERR_IO);
    ck_assert_int_eq(fs_read(f, &c, 1, 98, &n), ERR_OK);
    sim_disk_fail(host, 1, 0);
    ck_assert_int_eq(fs_sync(f), ERR_IO);
    ck_assert_int_eq(fs_sync(f), ERR_IO); /* fsyncgate: it does not get well */
    fs_close(f);
    ck_assert(!sim_disk_flip(host, "/none"));
    ck_assert(sim_disk_flip(host, "/f"));
    sim_host_kill(host, SIM_KILL);
    sim_disk_wipe(host);
    ck_assert(!fs_exists("/n1/f"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sim_fs");
    TCase *t = tcase_create("all");
    SRunner *sr;
    int failed;

    tcase_add_test(t, test_synced_survives);
    tcase_add_test(t, test_kill_keeps_everything);
    tcase_add_test(t, test_write_file_is_atomic);
    tcase_add_test(t, test_read_durable_stays);
    tcase_add_test(t, test_crash_at_each_operation);
    tcase_add_test(t, test_torn_at_blocks);
    tcase_add_test(t, test_names);
    tcase_add_test(t, test_faults);
    suite_add_tcase(s, t);
    sr = srunner_create(s);
    srunner_set_fork_status(sr, CK_NOFORK);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? 1 : 0;
}
