#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/io/fs.h"
#include "shardd/engine.h"
#include "shardd/engine_key.h"

static char root[4096];
static struct engine *engine;
static struct engine_batch *batch;
static struct engine_db *opened[4]; /* closed at the end of a test that failed half way */
static unsigned serial;

static const char *in_root(const char *name)
{
    static char path[2][4200];
    static unsigned which;
    char *p = path[which++ % 2];

    snprintf(p, sizeof path[0], "%s/%s-%u", root, name, serial);
    return p;
}

static void setup(void)
{
    struct engine_options o = {.block_cache = 8 * MIB};
    char msg[256];

    serial++;
    ck_assert_int_eq(engine_create(&o, &engine, msg, sizeof msg), ERR_OK);
    batch = engine_batch_create();
}

static void teardown(void)
{
    for (size_t i = 0; i < 4; i++) {
        engine_close(opened[i]);
        opened[i] = NULL;
    }
    engine_batch_destroy(batch);
    engine_destroy(engine);
}

static void close_db(struct engine_db *db)
{
    for (size_t i = 0; i < 4; i++) {
        if (opened[i] == db)
            opened[i] = NULL;
    }
    engine_close(db);
}

static struct engine_db *open_db(const char *name, bool create)
{
    struct engine_db *db = NULL;
    char msg[512] = "";
    enum err e = engine_open(engine, in_root(name), create, &db, msg, sizeof msg);

    ck_assert_msg(e == ERR_OK, "%s: %s", err_name(e), msg);
    for (size_t i = 0; i < 4; i++) {
        if (!opened[i]) {
            opened[i] = db;
            break;
        }
    }
    return db;
}

static void put(struct engine_db *db, const char *k, const char *v)
{
    engine_batch_clear(batch);
    engine_batch_put2(batch, slice_str(k), slice_of(v, strlen(v) / 2),
                      slice_str(v + strlen(v) / 2));
    ck_assert_uint_eq(engine_batch_count(batch), 1);
    ck_assert_int_eq(engine_write(db, batch), ERR_OK);
}

static void expect(struct engine_db *db, const char *k, const char *v)
{
    struct engine_value got;
    enum err e = engine_get(db, slice_str(k), false, &got);

    if (!v) {
        ck_assert_int_eq(e, ERR_NOT_FOUND);
        return;
    }
    ck_assert_int_eq(e, ERR_OK);
    ck_assert(slice_eq(got.data, slice_str(v)));
    engine_value_close(&got);
}

static void expect_durable(struct engine_db *db, const char *k, const char *v)
{
    struct buf b = {0};
    enum err e = engine_get_durable(db, slice_str(k), &b);

    ck_assert_int_eq(e, v ? ERR_OK : ERR_NOT_FOUND);
    if (v)
        ck_assert(slice_eq(buf_slice(&b), slice_str(v)));
    buf_close(&b);
}

START_TEST(batches_are_applied_in_order)
{
    struct engine_db *db = open_db("db", true);

    engine_batch_clear(batch);
    engine_batch_put(batch, slice_str("a"), slice_str("1"));
    engine_batch_put(batch, slice_str("b"), slice_str("2"));
    engine_batch_put(batch, slice_str("c"), slice_str("3"));
    engine_batch_delete(batch, slice_str("a"));
    engine_batch_delete_range(batch, slice_str("b"), slice_str("c"));
    engine_batch_put(batch, slice_str("bb"), slice_str(""));
    ck_assert_uint_eq(engine_batch_count(batch), 6);
    ck_assert_int_eq(engine_write(db, batch), ERR_OK);
    expect(db, "a", NULL);
    expect(db, "b", NULL);
    expect(db, "bb", "");
    expect(db, "c", "3");
    close_db(db);
}
END_TEST

struct scanned {
    struct engine_db *db;
    char text[128];
    unsigned most;
};

static bool on_pair(void *arg, struct slice key, struct slice value)
{
    struct scanned *s = arg;
    struct engine_value again;
    size_t n = strlen(s->text);

    ck_assert_int_eq(engine_get_stored(s->db, key, &again), ERR_OK);
    ck_assert(slice_eq(again.data, value));
    engine_value_close(&again);
    snprintf(s->text + n, sizeof s->text - n, "%.*s=%.*s ", (int)key.n, (const char *)key.p,
             (int)value.n, (const char *)value.p);
    return --s->most > 0;
}

static void expect_scan(struct engine_db *db, const char *from, const char *to, unsigned most,
                        const char *text)
{
    struct scanned s = {.db = db, .most = most};

    ck_assert_int_eq(engine_scan(db, slice_str(from), slice_str(to), on_pair, &s), ERR_OK);
    ck_assert_str_eq(s.text, text);
}

START_TEST(scan_shows_what_is_stored)
{
    struct engine_db *db = open_db("db", true);

    put(db, "b", "2");
    put(db, "a", "1");
    put(db, "d", "4");
    put(db, "c", "3");
    expect_scan(db, "a", "z", 99, ""); /* all in memory */
    ck_assert_int_eq(engine_flush(db), ERR_OK);
    expect_scan(db, "a", "z", 99, "a=1 b=2 c=3 d=4 ");
    expect_scan(db, "b", "d", 99, "b=2 c=3 ");
    expect_scan(db, "aa", "z", 2, "b=2 c=3 ");
    expect_scan(db, "e", "z", 2, "");
    engine_batch_clear(batch);
    engine_batch_delete_range(batch, slice_str("b"), slice_str("d"));
    engine_batch_put(batch, slice_str("bb"), slice_str("5"));
    engine_batch_delete(batch, slice_str("a"));
    ck_assert_int_eq(engine_write(db, batch), ERR_OK);
    expect_scan(db, "a", "z", 99, "a=1 b=2 c=3 d=4 ");
    ck_assert_int_eq(engine_flush(db), ERR_OK);
    expect_scan(db, "a", "z", 99, "bb=5 d=4 ");
    close_db(db);
}
END_TEST

START_TEST(open_says_what_is_wrong)
{
    struct engine_db *db = open_db("db", true), *other;
    char msg[512] = "";

    ck_assert_int_eq(engine_open(engine, in_root("db"), false, &other, msg, sizeof msg),
                     ERR_LOCKED);
    ck_assert_str_ne(msg, "");
    close_db(db);
    ck_assert_int_eq(engine_open(engine, in_root("db"), true, &other, msg, sizeof msg), ERR_EXISTS);
    ck_assert_int_eq(engine_open(engine, in_root("no"), false, &other, msg, sizeof msg),
                     ERR_NOT_FOUND);
    ck_assert_int_eq(engine_remove(engine, in_root("db")), ERR_OK);
    ck_assert(!fs_exists(in_root("db")));
    ck_assert_int_eq(engine_open(engine, in_root("db"), false, &other, msg, sizeof msg),
                     ERR_NOT_FOUND);
    close_db(open_db("db", true));
}
END_TEST

START_TEST(bad_options_are_refused)
{
    struct engine_options o = {.compression = "snappish"};
    struct engine *e;
    char msg[256] = "";

    ck_assert_int_eq(engine_create(&o, &e, msg, sizeof msg), ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(msg, "snappish"));
}
END_TEST

START_TEST(durable_tier_follows_flushes)
{
    struct engine_db *db = open_db("db", true);

    put(db, "k", "one");
    expect(db, "k", "one");
    expect_durable(db, "k", NULL);
    ck_assert_int_eq(engine_flush(db), ERR_OK);
    expect_durable(db, "k", "one");
    put(db, "k", "two");
    expect(db, "k", "two");
    expect_durable(db, "k", "one");
    close_db(db); /* does not flush */
    db = open_db("db", false);
    expect(db, "k", "one");
    close_db(db);
}
END_TEST

/* Freezes the memtable between any two batches. */
static atomic_uint flushes;
static void *flush_on(void *arg)
{
    for (;;) {
        if (engine_flush(arg) != ERR_OK)
            _exit(1);
        atomic_fetch_add(&flushes, 1);
    }
    return NULL;
}

/* In a process of its own: RocksDB's threads do not live through a fork. */
static int write_and_die(const char *path)
{
    struct engine_options o = {0};
    struct engine_db *db;
    char msg[256];
    uint8_t value[1000] = {1};

    if (engine_create(&o, &engine, msg, sizeof msg) != ERR_OK ||
        engine_open(engine, path, true, &db, msg, sizeof msg) != ERR_OK)
        _exit(1);
    batch = engine_batch_create();
    pthread_t flusher;
    if (pthread_create(&flusher, NULL, flush_on, db) != 0)
        _exit(1);
    for (unsigned i = 1; i <= 10000; i++) {
        char k[16], n[16];
        snprintf(k, sizeof k, "k%u", i);
        snprintf(n, sizeof n, "%u", i);
        engine_batch_clear(batch);
        engine_batch_put(batch, slice_str(k), slice_of(value, sizeof value));
        engine_batch_put(batch, slice_str("position"), slice_str(n));
        if (engine_write(db, batch) != ERR_OK)
            _exit(1);
        unsigned before = atomic_load(&flushes);
        while (i % 1000 == 0 && atomic_load(&flushes) < before + 2)
            sched_yield();
    }
    _exit(0); /* as by a kill: nothing is closed */
}

START_TEST(a_kill_loses_back_to_a_batch_boundary)
{
    pid_t child = fork();

    if (child == 0) {
        execl("/proc/self/exe", "test_engine_rocksdb", "write-and-die", in_root("db"), NULL);
        _exit(2);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    struct engine_db *db = open_db("db", false);
    struct buf b = {0};
    ck_assert_int_eq(engine_get_durable(db, slice_str("position"), &b), ERR_OK);
    buf_u8(&b, 0);
    unsigned position = (unsigned)atoi((const char *)b.p);
    buf_close(&b);
    ck_assert_uint_gt(position, 0); /* the flushes came between batches */
    for (unsigned i = position > 100 ? position - 100 : 1; i <= position + 100; i++) {
        char k[16];
        struct engine_value v;
        snprintf(k, sizeof k, "k%u", i);
        enum err e = engine_get(db, slice_str(k), false, &v);
        ck_assert_int_eq(e, i <= position ? ERR_OK : ERR_NOT_FOUND);
        if (e == ERR_OK)
            engine_value_close(&v);
    }
    close_db(db);
}
END_TEST

START_TEST(checkpoint_has_all_and_peek_leaves_it_alone)
{
    struct engine_db *db = open_db("db", true);
    struct buf b = {0};
    char at[4200];

    put(db, "mposition", "7"); /* only in the memtable: the checkpoint has to flush */
    engine_freeze(db);
    put(db, "mposition", "8");
    snprintf(at, sizeof at, "%s", in_root("snap"));
    ck_assert_int_eq(engine_checkpoint(db, at), ERR_OK);
    ck_assert_int_eq(engine_peek(engine, at, slice_str("mposition"), &b), ERR_OK);
    ck_assert(slice_eq(buf_slice(&b), slice_str("7")));
    ck_assert_int_eq(engine_peek(engine, at, slice_str("none"), &b), ERR_NOT_FOUND);
    buf_clear(&b);
    buf_printf(&b, "%s/LOG", at);
    buf_u8(&b, 0);
    ck_assert(!fs_exists((const char *)b.p));
    buf_close(&b);
    struct engine_db *copy = open_db("snap", false);
    expect(copy, "mposition", "7");
    close_db(copy);
    /* A checkpoint must not go into a directory that exists. */
    ck_assert_int_ne(engine_checkpoint(db, at), ERR_OK);
    close_db(db);
}
END_TEST

START_TEST(cached_reads_say_incomplete)
{
    struct engine_db *db = open_db("db", true);
    struct engine_value v;

    put(db, "k", "value");
    ck_assert_int_eq(engine_get(db, slice_str("k"), true, &v), ERR_OK);
    engine_value_close(&v);
    ck_assert_int_eq(engine_flush(db), ERR_OK);
    close_db(db);
    engine_destroy(engine);
    struct engine_options o = {.block_cache = 8 * MIB}; /* a fresh, empty cache */
    char msg[256];
    ck_assert_int_eq(engine_create(&o, &engine, msg, sizeof msg), ERR_OK);
    db = open_db("db", false);
    ck_assert_int_eq(engine_get(db, slice_str("k"), true, &v), ERR_INCOMPLETE);
    expect(db, "k", "value");
    ck_assert_int_eq(engine_get(db, slice_str("k"), true, &v), ERR_OK);
    engine_value_close(&v);
    close_db(db);
}
END_TEST

START_TEST(statistics_and_compaction)
{
    struct engine_db *db = open_db("db", true), *idle = open_db("idle", true);
    struct engine_db_stats s;
    uint64_t empty = engine_memtable_bytes(engine);
    uint8_t value[4000] = {1};

    for (unsigned i = 0; i < 500; i++) {
        uint8_t key[64];
        char user[16];
        snprintf(user, sizeof user, "%u", i);
        engine_batch_clear(batch);
        engine_batch_put(batch, engine_key_data(key, (uint16_t)(i % 10), slice_str(user)),
                         slice_of(value, sizeof value));
        ck_assert_int_eq(engine_write(db, batch), ERR_OK);
    }
    engine_db_stats(db, &s);
    ck_assert_uint_gt(s.memtable_bytes, 2000000);
    ck_assert_uint_ge(engine_memtable_bytes(engine), s.memtable_bytes);
    ck_assert(!s.stalled && !s.broken && !engine_stalled(db));
    ck_assert_int_eq(engine_flush(db), ERR_OK);
    engine_db_stats(db, &s);
    ck_assert_uint_gt(s.disk_bytes, 10000);
    ck_assert_uint_eq(s.keys, 500);
    ck_assert_uint_eq(engine_memtable_bytes(engine), empty);
    struct engine_key_range r;
    engine_key_slots(0, 9, &r);
    engine_batch_clear(batch);
    engine_batch_delete_range(batch, engine_key_from(&r), engine_key_to(&r));
    ck_assert_int_eq(engine_write(db, batch), ERR_OK);
    ck_assert_int_eq(engine_flush(db), ERR_OK);
    ck_assert_int_eq(engine_compact(db), ERR_OK);
    engine_db_stats(db, &s);
    ck_assert_uint_lt(s.disk_bytes, 10000);
    ck_assert_uint_eq(engine_memtable_budget(engine), 128 * MIB);
    close_db(db);
    close_db(idle);
}
END_TEST

/* Flips a bit in the middle of every table file of a closed database. */
static unsigned damaged;
static void damage(void *arg, const char *name, bool is_dir)
{
    char path[8400];
    struct fs_file *f;
    uint64_t size;
    uint8_t byte;
    size_t got;

    if (is_dir || !strstr(name, ".sst"))
        return;
    snprintf(path, sizeof path, "%s/%s", (const char *)arg, name);
    ck_assert_int_eq(fs_open(path, FS_READ | FS_WRITE, &f), ERR_OK);
    ck_assert_int_eq(fs_size(f, &size), ERR_OK);
    ck_assert_int_eq(fs_read(f, &byte, 1, size / 4, &got), ERR_OK);
    byte ^= 1;
    ck_assert_int_eq(fs_write(f, &byte, 1, size / 4), ERR_OK);
    fs_close(f);
    damaged++;
}

/* ---- expiry ---- */

static void put_until(struct engine_db *db, struct slice key, uint64_t expiry_ms)
{
    uint8_t head[ENGINE_VALUE_HEAD_MAX];
    struct engine_value_head h = {
        .version = 1, .has_expiry = expiry_ms > 0, .expiry_ms = expiry_ms};

    engine_batch_clear(batch);
    engine_batch_put2(batch, key, engine_value_encode(head, &h), slice_str("value"));
    ck_assert_int_eq(engine_write(db, batch), ERR_OK);
}

static bool is_stored(struct engine_db *db, struct slice key)
{
    struct engine_value v;
    enum err e = engine_get_stored(db, key, &v);

    ck_assert(e == ERR_OK || e == ERR_NOT_FOUND);
    if (e == ERR_OK)
        engine_value_close(&v);
    return e == ERR_OK;
}

static void compact(struct engine_db *db)
{
    ck_assert_int_eq(engine_flush(db), ERR_OK);
    ck_assert_int_eq(engine_compact(db), ERR_OK);
}

/* Data and sessions, at the durable time and before, never later ones, nor what has no expiry, nor
 * pairs of other kinds that look alike. */
START_TEST(compaction_drops_what_has_expired)
{
    struct engine_db *db = open_db("expiry", true), *fresh;
    static const uint8_t sid[16] = {9}, sid_late[16] = {10};
    uint8_t raw[6][64];
    struct slice soon = engine_key_data(raw[0], 5, slice_str("soon")),
                 late = engine_key_data(raw[1], 5, slice_str("late")),
                 never = engine_key_data(raw[2], 5, slice_str("never")),
                 session = engine_key_session(raw[3], 5, sid),
                 session_late = engine_key_session(raw[4], 5, sid_late),
                 meta = engine_key_meta(raw[5], "other");

    put_until(db, soon, 1000);
    put_until(db, session, 1000);
    put_until(db, meta, 1000);
    put_until(db, late, 1001);
    put_until(db, session_late, 1001);
    put_until(db, never, 0);
    compact(db);
    ck_assert(is_stored(db, soon)); /* nobody has said what is durable */
    engine_set_time(db, 999);
    compact(db);
    ck_assert(is_stored(db, soon) && is_stored(db, session));
    engine_set_time(db, 1000);
    engine_set_time(db, 10); /* it does not run back */
    compact(db);
    ck_assert(!is_stored(db, soon) && !is_stored(db, session));
    ck_assert(is_stored(db, late) && is_stored(db, session_late) && is_stored(db, never));
    ck_assert(is_stored(db, meta));
    /* Each database has a time of its own, and forgets it when it is closed. */
    fresh = open_db("expiry2", true);
    put_until(fresh, soon, 500);
    compact(fresh);
    ck_assert(is_stored(fresh, soon));
    close_db(db);
    db = open_db("expiry", false);
    compact(db);
    ck_assert(is_stored(db, late));
}
END_TEST

START_TEST(a_flipped_bit_is_never_served)
{
    struct engine_db *db = open_db("db", true);
    char path[4200], msg[256];

    for (unsigned i = 0; i < 2000; i++) {
        char k[32];
        snprintf(k, sizeof k, "key-%04u", i);
        put(db, k, k);
    }
    ck_assert_int_eq(engine_flush(db), ERR_OK);
    close_db(db);
    engine_destroy(engine);
    snprintf(path, sizeof path, "%s", in_root("db"));
    damaged = 0;
    ck_assert_int_eq(fs_list(path, damage, path), ERR_OK);
    ck_assert_uint_ge(damaged, 1);
    struct engine_options o = {.block_cache = 8 * MIB};
    ck_assert_int_eq(engine_create(&o, &engine, msg, sizeof msg), ERR_OK);
    unsigned corrupt = 0;
    if (engine_open(engine, path, false, &db, msg, sizeof msg) != ERR_OK)
        return; /* refused as a whole is right too */
    for (unsigned i = 0; i < 2000; i++) {
        char k[32];
        struct engine_value v;
        snprintf(k, sizeof k, "key-%04u", i);
        enum err e = engine_get(db, slice_str(k), false, &v);
        ck_assert(e == ERR_OK || e == ERR_CORRUPT);
        corrupt += e == ERR_CORRUPT;
        if (e != ERR_OK)
            continue;
        ck_assert(slice_eq(v.data, slice_str(k)));
        engine_value_close(&v);
    }
    ck_assert_uint_gt(corrupt, 0);
    close_db(db);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "write-and-die") == 0)
        return write_and_die(argv[2]);
    const char *tmp = getenv("TEST_TMP");
    char made[] = "/tmp/shardkv-engine.XXXXXX";

    snprintf(root, sizeof root, "%s", tmp ? tmp : mkdtemp(made));
    Suite *s = suite_create("engine_rocksdb");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, batches_are_applied_in_order);
    tcase_add_test(t, scan_shows_what_is_stored);
    tcase_add_test(t, open_says_what_is_wrong);
    tcase_add_test(t, bad_options_are_refused);
    tcase_add_test(t, durable_tier_follows_flushes);
    tcase_add_test(t, a_kill_loses_back_to_a_batch_boundary);
    tcase_add_test(t, checkpoint_has_all_and_peek_leaves_it_alone);
    tcase_add_test(t, cached_reads_say_incomplete);
    tcase_add_test(t, statistics_and_compaction);
    tcase_add_test(t, compaction_drops_what_has_expired);
    tcase_add_test(t, a_flipped_bit_is_never_served);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
