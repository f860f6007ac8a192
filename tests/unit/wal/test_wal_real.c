/* The WAL on the real disk and loop: a fresh log opens quickly, large entries and rotation work,
 * and a process that is killed again and again loses nothing that it had acknowledged. */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/wal/owner.h"

static struct owner o;
static char dir[512];
static unsigned round_count;
static uint64_t target; /* the loop stops once so many entries are acknowledged; 0: when idle */
static uint64_t per_turn;
static volatile uint64_t *shared; /* [0]: acknowledged, for the parent of a process to be killed */

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void hook(void *arg)
{
    (void)arg;
    if (o.fatals) {
        fprintf(stderr, "the log failed: %s\n", err_name(o.fatal_why));
        abort();
    }
    if (shared)
        shared[0] = o.acked;
    for (uint64_t i = 0; i < per_turn && (o.appended < target || shared); i++) {
        /* One at a time in a process to be killed: its lives are to be many and short. */
        if (o.appended - o.acked < (shared ? 2 : 200))
            owner_append(&o);
    }
    wal_flush(o.wal);
    if (o.acked >= target && wal_idle(o.wal) && !shared)
        io_stop(o.io);
    else if (o.appended - o.acked < (shared ? 1 : 100))
        io_again(o.io);
}

static void setup(void)
{
    const char *tmp = getenv("TEST_TMP");
    char made[] = "/tmp/shardkv-wal.XXXXXX";
    if (!tmp)
        tmp = mkdtemp(made);
    snprintf(dir, sizeof dir, "%s/wal%u", tmp, round_count++);
    memset(&o, 0, sizeof o);
    o.dir = dir;
    o.segment_size = 1 << 20;
    o.max_payload = 20000;
    o.window = 500;
    target = per_turn = 0;
    shared = NULL;
}

static void start_io(void)
{
    char msg[512];
    struct io_options options = {0};
    enum err e = io_create(&options, &o.io, msg, sizeof msg);
    ck_assert_msg(e == ERR_OK, "%s", msg);
    io_set_turn_hook(o.io, hook, NULL);
}

static void append_to(uint64_t entries, uint64_t a_turn)
{
    target = entries;
    per_turn = a_turn;
    io_again(o.io);
    io_run(o.io);
}

static void life(uint64_t entries, uint64_t a_turn)
{
    start_io();
    owner_open(&o);
    append_to(entries, a_turn);
    ck_assert_uint_eq(o.acked, entries);
    wal_close(o.wal);
    io_destroy(o.io);
}

START_TEST(a_fresh_log_opens_quickly)
{
    o.segment_size = 0;
    start_io();
    uint64_t begin = now_ns();
    owner_open(&o);
    uint64_t ns = now_ns() - begin;
    ck_assert_msg(ns < 300 * NS_PER_MS, "%llu us", (unsigned long long)(ns / 1000));
    append_to(100, 10);
    wal_close(o.wal);
    io_destroy(o.io);
    life(200, 5);
}
END_TEST

START_TEST(lives_follow_each_other)
{
    life(1000, 3);
    life(2500, 30);
    life(2600, 1);
    ck_assert_uint_gt(o.rotations, 5);
}
END_TEST

static void one_that_gets_killed(void)
{
    char msg[512];
    struct io_options options = {0};
    if (io_create(&options, &o.io, msg, sizeof msg) != ERR_OK || owner_try_open(&o) != ERR_OK ||
        owner_judge(&o))
        _exit(1);
    shared[1] = o.replayed;
    io_set_turn_hook(o.io, hook, NULL);
    per_turn = 1;
    io_again(o.io);
    io_run(o.io);
    _exit(1);
}

START_TEST(killed_again_and_again)
{
    volatile uint64_t *map =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne((void *)map, MAP_FAILED);
    shared = map;
    uint64_t most = 0;
    unsigned lives = 0;
    for (unsigned i = 0; i < 25; i++) {
        shared[0] = shared[1] = 0;
        pid_t pid = fork();
        ck_assert_int_ge(pid, 0);
        if (pid == 0) {
            /* The child cannot know its predecessor's lsns: contents are checked, places not. */
            memset(o.lsn, 0xff, sizeof o.lsn);
            o.acked = most;
            o.appended = OWNER_RECORDS;
            o.any_lsn = true;
            one_that_gets_killed();
        }
        struct timespec t = {0, (long)((20 + 4 * i) * NS_PER_MS)};
        nanosleep(&t, NULL);
        kill(pid, SIGKILL);
        int status;
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
                      "life %u: the log was refused or wrong", i);
        if (shared[0] > most)
            most = shared[0];
        lives += shared[0] > shared[1]; /* it did get something acknowledged */
        if (most > OWNER_RECORDS - 20000)
            break;
    }
    ck_assert_msg(lives >= 8, "%u lives, %llu records", lives, (unsigned long long)most);
    shared = NULL;
    o.any_lsn = true;
    o.acked = most;
    o.appended = OWNER_RECORDS;
    start_io();
    owner_open(&o);
    wal_close(o.wal);
    io_destroy(o.io);
}
END_TEST

static struct wal_read reads[64];
static unsigned read_good;

static void on_read_done(struct wal_read *r, enum err e)
{
    read_good += e == ERR_OK && owner_matches(&o, r->record.index, &r->record, r->payload);
}

START_TEST(records_are_read_back)
{
    o.window = 0;
    start_io();
    owner_open(&o);
    append_to(400, 10);
    memset(reads, 0, sizeof reads);
    for (unsigned i = 0; i < 64; i++) {
        reads[i].lsn = o.lsn[1 + i * 6];
        reads[i].done = on_read_done;
        wal_read(o.wal, &reads[i]);
    }
    for (unsigned i = 0; i < 50 && read_good < 64; i++) {
        append_to(o.acked + 1, 1);
    }
    ck_assert_uint_eq(read_good, 64);
    wal_close(o.wal);
    io_destroy(o.io);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("real");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_set_timeout(t, 240);
    tcase_add_test(t, a_fresh_log_opens_quickly);
    tcase_add_test(t, lives_follow_each_other);
    tcase_add_test(t, killed_again_and_again);
    tcase_add_test(t, records_are_read_back);
    Suite *s = suite_create("wal_real");
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
