/* The loop on io_uring: timers, hook, mail, offload, files. */
#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/base/limits.h"
#include "common/io/fs.h"
#include "common/io/uring_impl.h"

static struct io *io;
static char tmp[512];

static struct io *make(bool dsync)
{
    struct io *made = NULL;
    char msg[256] = "";
    struct io_options o = {.dsync = dsync};
    enum err e = io_create(&o, &made, msg, sizeof msg);
    ck_assert_msg(e == ERR_OK, "%s", msg);
    return made;
}

static void setup(void)
{
    io = make(false);
    const char *t = getenv("TEST_TMP");
    if (t != NULL) {
        snprintf(tmp, sizeof tmp, "%s", t);
    } else {
        snprintf(tmp, sizeof tmp, "/tmp/test_uring_loop.XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(tmp));
    }
}

static void teardown(void)
{
    io_destroy(io);
    if (getenv("TEST_TMP") == NULL)
        ck_assert_int_eq(fs_rmdir_all(tmp), ERR_OK);
}

/* ---- timers ---- */

static char trace[64];
static struct io_timer timers[4];
static uint64_t turn_time;
static int turns;

static void note(struct io_timer *t)
{
    size_t n = strlen(trace);
    trace[n] = (char)('a' + (t - timers));
    if (t == &timers[3])
        io_stop(io);
}

static void count_turn(void *arg)
{
    (void)arg;
    ck_assert_uint_gt(io_now(io), turn_time);
    turn_time = io_now(io);
    turns++;
}

START_TEST(timers_fire_in_order)
{
    memset(trace, 0, sizeof trace);
    memset(timers, 0, sizeof timers);
    turn_time = 0;
    for (int i = 0; i < 4; i++)
        timers[i].fn = note;
    uint64_t now = io_now(io);
    io_timer_set(io, &timers[3], now + 30 * NS_PER_MS);
    io_timer_set(io, &timers[1], now + 20 * NS_PER_MS);
    io_timer_set(io, &timers[2], now + 5 * NS_PER_MS);
    io_timer_set(io, &timers[0], now + 20 * NS_PER_MS);
    io_timer_set(io, &timers[2], now + 20 * NS_PER_MS); /* re-armed: now the last of the three */
    io_set_turn_hook(io, count_turn, NULL);
    io_run(io);
    ck_assert_str_eq(trace, "bacd");
    ck_assert_uint_ge(io_now(io), now + 30 * NS_PER_MS);
    ck_assert(!io_timer_armed(&timers[0]));
}
END_TEST

static int chain;
static void set_again(struct io_timer *t)
{
    if (++chain == 1000)
        io_stop(io);
    else
        io_timer_set(io, t, io_now(io)); /* due at once: still one a turn */
}

START_TEST(due_timer_waits_for_the_next_turn)
{
    struct io_timer t = {.fn = set_again};
    chain = turns = 0;
    turn_time = 0;
    io_set_turn_hook(io, count_turn, NULL);
    io_timer_set(io, &t, 0);
    io_run(io);
    ck_assert_int_eq(turns, 1000);
}
END_TEST

static void stop_now(struct io_timer *t)
{
    (void)t;
    io_stop(io);
}

START_TEST(idle_loop_sleeps)
{
    struct io_timer t = {.fn = stop_now};
    struct timespec before, after;
    turns = 0;
    turn_time = 0;
    io_set_turn_hook(io, count_turn, NULL);
    io_timer_set(io, &t, io_now(io) + 300 * NS_PER_MS);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
    io_run(io);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
    long long ns = (after.tv_sec - before.tv_sec) * 1000000000LL + after.tv_nsec - before.tv_nsec;
    ck_assert_int_lt(turns, 10);
    ck_assert_int_lt(ns, 50 * (long long)NS_PER_MS);
}
END_TEST

static int agains;
static void ask_again(void *arg)
{
    (void)arg;
    if (++agains == 500)
        io_stop(io);
    io_again(io);
}

START_TEST(again_does_not_wait)
{
    agains = 0;
    io_set_turn_hook(io, ask_again, NULL);
    io_run(io);
    ck_assert_int_eq(agains, 500);
}
END_TEST

/* ---- mail and offload ---- */

#define MAILS 20000
#define SENDERS 3
struct letter {
    struct io_mail mail;
    int sender, number;
};
static int seen[SENDERS], received;

static void on_letter(struct io_mail *m, void *receiver)
{
    struct letter *l = CONTAINER_OF(m, struct letter, mail);
    ck_assert_ptr_eq(receiver, &received);
    ck_assert_int_eq(seen[l->sender]++, l->number);
    free(l);
    if (++received == MAILS * SENDERS)
        io_stop(io);
}

static void *sender_main(void *arg)
{
    int me = (int)(intptr_t)arg;
    for (int i = 0; i < MAILS; i++) {
        struct letter *l = mem_zalloc(sizeof *l);
        l->mail.deliver = on_letter;
        l->sender = me;
        l->number = i;
        io_post(io, &l->mail);
        if (i % 1000 == 0)
            usleep(300); /* lets the loop fall asleep */
    }
    return NULL;
}

START_TEST(mail_arrives_in_order)
{
    pthread_t threads[SENDERS];
    memset(seen, 0, sizeof seen);
    received = 0;
    io_set_mail_arg(io, &received);
    for (intptr_t i = 0; i < SENDERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, sender_main, (void *)i), 0);
    io_run(io);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_eq(received, MAILS * SENDERS);
}
END_TEST

static void *stopper_main(void *arg)
{
    usleep(20000);
    io_stop(arg);
    return NULL;
}

START_TEST(another_thread_stops_it)
{
    pthread_t t;
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(pthread_create(&t, NULL, stopper_main, io), 0);
        io_run(io);
        pthread_join(t, NULL);
    }
}
END_TEST

struct job {
    struct io_work work;
    int in, out;
    bool done;
};
static int jobs_done;

static void job_run(struct io_work *w)
{
    struct job *j = CONTAINER_OF(w, struct job, work);
    usleep(100);
    j->out = j->in * 2;
}

static void job_done(struct io_work *w)
{
    struct job *j = CONTAINER_OF(w, struct job, work);
    ck_assert_int_eq(j->out, j->in * 2);
    ck_assert(!j->done);
    j->done = true;
    if (++jobs_done == 200)
        io_stop(io);
}

START_TEST(offload_runs_and_reports)
{
    struct job jobs[200];
    memset(jobs, 0, sizeof jobs);
    jobs_done = 0;
    for (int i = 0; i < 200; i++) {
        jobs[i].in = i;
        jobs[i].work.run = job_run;
        jobs[i].work.done = job_done;
        io_offload(io, &jobs[i].work);
    }
    io_run(io);
    ck_assert_int_eq(jobs_done, 200);
}
END_TEST

/* ---- classes of work ---- */

static sem_t gate;
static unsigned passed[IO_WORK_LONG + 1];

static void gated_run(struct io_work *w)
{
    (void)w;
    while (sem_wait(&gate) != 0)
        ;
}

static void quick_run(struct io_work *w)
{
    (void)w;
}

static void class_done(struct io_work *w)
{
    passed[w->class]++;
    io_stop(io);
}

/* Two threads, and more long work than that: it leaves one to the rest; and when both are taken
 * urgent work still gets done. */
START_TEST(long_work_leaves_room)
{
    struct io_work longs[3], normal[3], urgent[2];
    memset(passed, 0, sizeof passed);
    ck_assert_int_eq(sem_init(&gate, 0, 0), 0);
    for (unsigned i = 0; i < 3; i++) {
        longs[i] = (struct io_work){.run = gated_run, .done = class_done, .class = IO_WORK_LONG};
        io_offload(io, &longs[i]);
    }
    normal[0] = (struct io_work){.run = quick_run, .done = class_done};
    io_offload(io, &normal[0]);
    io_run(io);
    ck_assert_uint_eq(passed[IO_WORK_NORMAL], 1);
    for (unsigned i = 1; i < 3; i++) {
        normal[i] = (struct io_work){.run = gated_run, .done = class_done};
        io_offload(io, &normal[i]);
    }
    for (unsigned i = 0; i < 2; i++) {
        urgent[i] = (struct io_work){.run = quick_run, .done = class_done, .class = IO_WORK_URGENT};
        io_offload(io, &urgent[i]);
    }
    while (passed[IO_WORK_URGENT] < 2)
        io_run(io);
    ck_assert_uint_eq(passed[IO_WORK_NORMAL], 1);
    ck_assert_uint_eq(passed[IO_WORK_LONG], 0);
    for (unsigned i = 0; i < 5; i++)
        sem_post(&gate);
    while (passed[IO_WORK_LONG] < 3 || passed[IO_WORK_NORMAL] < 3)
        io_run(io);
    sem_destroy(&gate);
}
END_TEST

static void more_urgent(struct io_work *w)
{
    passed[IO_WORK_URGENT]++;
    io_offload(io, w);
}

static void short_run(struct io_work *w)
{
    (void)w;
    usleep(1000);
}

/* Reads without end: the rest is not kept waiting by them. */
START_TEST(urgent_work_leaves_room)
{
    enum { MANY = 50 };
    struct io_work urgent[MANY], normal[5];
    memset(passed, 0, sizeof passed);
    for (unsigned i = 0; i < MANY; i++) {
        urgent[i] =
            (struct io_work){.run = short_run, .done = more_urgent, .class = IO_WORK_URGENT};
        io_offload(io, &urgent[i]);
    }
    for (unsigned i = 0; i < 5; i++) {
        normal[i] = (struct io_work){.run = short_run, .done = class_done};
        io_offload(io, &normal[i]);
    }
    while (passed[IO_WORK_NORMAL] < 5)
        io_run(io);
    ck_assert_uint_lt(passed[IO_WORK_URGENT], 3 * MANY);
    for (unsigned i = 0; i < MANY; i++)
        urgent[i].done = class_done;
    passed[IO_WORK_URGENT] = 0;
    while (passed[IO_WORK_URGENT] < MANY)
        io_run(io);
}
END_TEST

/* ---- files ---- */

struct file_op {
    struct io_op op;
    enum err result;
    int calls;
};

static void file_done(struct io_op *op, enum err result)
{
    struct file_op *f = CONTAINER_OF(op, struct file_op, op);
    f->result = result;
    f->calls++;
    io_stop(io);
}

static void write_and_read_back(unsigned flags)
{
    char path[600];
    struct fs_file *f;
    uint8_t *a = mem_alloc_aligned(4096, 8192), *b = mem_alloc_aligned(4096, 8192);
    struct file_op op = {.op.done = file_done};
    snprintf(path, sizeof path, "%s/data", tmp);
    ck_assert_int_eq(fs_open(path, FS_READ | FS_WRITE | FS_CREATE | flags, &f), ERR_OK);
    for (int i = 0; i < 8192; i++)
        a[i] = (uint8_t)(i * 7);
    io_write_durable(io, f, a, 8192, 4096, &op.op);
    io_run(io);
    ck_assert_int_eq(op.calls, 1);
    ck_assert_int_eq(op.result, ERR_OK);
    io_read(io, f, b, 8192, 4096, &op.op);
    io_run(io);
    ck_assert_int_eq(op.result, ERR_OK);
    ck_assert_int_eq(memcmp(a, b, 8192), 0);
    io_read(io, f, b, 8192, 8192, &op.op); /* half of it is past the end */
    io_run(io);
    ck_assert_int_eq(op.result, ERR_IO);
    ck_assert_int_eq(op.calls, 3);
    fs_close(f);
    free(a);
    free(b);
}

START_TEST(durable_write)
{
    write_and_read_back(0);
    write_and_read_back(FS_DIRECT);
}
END_TEST

START_TEST(durable_write_by_dsync)
{
    io_destroy(io);
    io = make(true);
    write_and_read_back(FS_DIRECT);
}
END_TEST

/* However the write fails, the operation fails, and exactly once. */
static void failing_writes(void)
{
    static uint8_t bytes[8192];
    char path[600];
    struct fs_file *f;
    struct file_op op = {.op.done = file_done};
    ck_assert_int_eq(fs_open("/dev/full", FS_WRITE, &f), ERR_OK);
    io_write_durable(io, f, bytes, 4096, 0, &op.op);
    io_run(io);
    ck_assert_int_eq(op.result, ERR_NO_SPACE);
    fs_close(f);
    ck_assert_int_eq(fs_open("/dev/null", FS_READ, &f), ERR_OK);
    io_write_durable(io, f, bytes, 4096, 0, &op.op);
    io_run(io);
    ck_assert_int_ne(op.result, ERR_OK);
    fs_close(f);
    /* A short write: the limit on the file's size lets half of it through. */
    struct rlimit before, small = {4096, RLIM_INFINITY};
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    snprintf(path, sizeof path, "%s/short", tmp);
    ck_assert_int_eq(fs_open(path, FS_WRITE | FS_CREATE | FS_TRUNCATE, &f), ERR_OK);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    io_write_durable(io, f, bytes, 8192, 0, &op.op);
    io_run(io);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    ck_assert_int_eq(op.result, ERR_IO);
    ck_assert_int_eq(op.calls, 3);
    fs_close(f);
    struct io_timer t = {.fn = stop_now}; /* no completion comes late */
    io_timer_set(io, &t, io_now(io) + 20 * NS_PER_MS);
    io_run(io);
    ck_assert_int_eq(op.calls, 3);
}

START_TEST(failed_write_fails_once)
{
    failing_writes();
}
END_TEST

START_TEST(failed_write_fails_once_on_old_kernels)
{
    io_destroy(io);
    uring_without = URING_WITHOUT_MULTISHOT | URING_WITHOUT_BUFFERS | URING_WITHOUT_DEFER;
    io = make(false);
    uring_without = 0;
    failing_writes();
    write_and_read_back(FS_DIRECT);
}
END_TEST

#define MANY 300
static int many_left;
static void many_done(struct io_op *op, enum err result)
{
    (void)op;
    ck_assert_int_eq(result, ERR_OK);
    if (--many_left == 0)
        io_stop(io);
}

/* More than the submission queue holds: pairs must not be torn apart. */
START_TEST(many_writes_with_a_small_queue)
{
    static struct io_op ops[MANY];
    static uint8_t bytes[64];
    char path[600], msg[256];
    struct fs_file *f;
    struct io_options o = {.sq_entries = 7};
    io_destroy(io);
    ck_assert_int_eq(io_create(&o, &io, msg, sizeof msg), ERR_OK);
    snprintf(path, sizeof path, "%s/many", tmp);
    ck_assert_int_eq(fs_open(path, FS_WRITE | FS_CREATE, &f), ERR_OK);
    many_left = MANY;
    for (unsigned i = 0; i < MANY; i++) {
        ops[i].done = many_done;
        io_write_durable(io, f, bytes, sizeof bytes, i * 64, &ops[i]);
    }
    io_run(io);
    ck_assert_int_eq(many_left, 0);
    fs_close(f);
}
END_TEST

START_TEST(explains_what_is_missing)
{
    static const struct {
        int error;
        const char *word;
    } cases[] = {{EPERM, "io_uring_disabled"},
                 {ENOSYS, "seccomp"},
                 {ENOMEM, "RLIMIT_MEMLOCK"},
                 {EMFILE, "RLIMIT_NOFILE"},
                 {EINVAL, "Invalid argument"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char msg[256];
        uring_explain(cases[i].error, msg, sizeof msg);
        ck_assert_msg(strstr(msg, cases[i].word) != NULL, "%s", msg);
    }
}
END_TEST

START_TEST(no_handles_left)
{
    struct rlimit before, few = {4, 0};
    struct io *other = NULL;
    char msg[256] = "";
    struct io_options o = {0};
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    few.rlim_max = before.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    enum err e = io_create(&o, &other, msg, sizeof msg);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    ck_assert_int_ne(e, ERR_OK);
    ck_assert_ptr_nonnull(strstr(msg, "RLIMIT_NOFILE"));
    ck_assert_ptr_null(other);
}
END_TEST

static void *run_main(void *arg)
{
    io_run(arg);
    return NULL;
}

START_TEST(created_here_run_there_destroyed_here)
{
    pthread_t t;
    struct io_timer timer = {.fn = stop_now};
    io_timer_set(io, &timer, 0);
    ck_assert_int_eq(pthread_create(&t, NULL, run_main, io), 0);
    pthread_join(t, NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("uring_loop");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, timers_fire_in_order);
    tcase_add_test(t, due_timer_waits_for_the_next_turn);
    tcase_add_test(t, idle_loop_sleeps);
    tcase_add_test(t, again_does_not_wait);
    tcase_add_test(t, mail_arrives_in_order);
    tcase_add_test(t, another_thread_stops_it);
    tcase_add_test(t, offload_runs_and_reports);
    tcase_add_test(t, long_work_leaves_room);
    tcase_add_test(t, urgent_work_leaves_room);
    tcase_add_test(t, durable_write);
    tcase_add_test(t, durable_write_by_dsync);
    tcase_add_test(t, failed_write_fails_once);
    tcase_add_test(t, failed_write_fails_once_on_old_kernels);
    tcase_add_test(t, many_writes_with_a_small_queue);
    tcase_add_test(t, explains_what_is_missing);
    tcase_add_test(t, no_handles_left);
    tcase_add_test(t, created_here_run_there_destroyed_here);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
