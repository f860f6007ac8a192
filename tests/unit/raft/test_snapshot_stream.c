/* Fetching a snapshot: what arrives, goes on after interruptions, is damaged, waits its turn. */
#include "tests/unit/raft/snapshot_world.h"

static unsigned names_seen;
static void count_name(void *arg, const char *name, bool is_dir)
{
    (void)arg;
    (void)name;
    (void)is_dir;
    names_seen++;
}

static void expect_files(void)
{
    names_seen = 0;
    ck_assert_int_eq(fs_list(w.path, count_name, NULL), ERR_OK);
    ck_assert_uint_eq(names_seen, FILES);
    for (size_t i = 0; i < FILES; i++) {
        char file[4300], want[4300];
        struct buf a = {0}, b = {0};
        snprintf(file, sizeof file, "%s/%06zu.sst", w.path, i);
        snprintf(want, sizeof want, "%s/want-%zu", root, i);
        ck_assert_int_eq(write_some(want, sizes[i], i), ERR_OK);
        ck_assert_int_eq(fs_read_file(file, &a), ERR_OK);
        ck_assert_int_eq(fs_read_file(want, &b), ERR_OK);
        ck_assert(slice_eq(buf_slice(&a), buf_slice(&b)));
        buf_close(&a);
        buf_close(&b);
    }
}

START_TEST(all_files_arrive)
{
    make();
    ck_assert_int_eq(fetch(), ERR_OK);
    expect_files();
    ck_assert_uint_eq(w.last.bytes_received, w.last.bytes_total);
    ck_assert_uint_eq(w.last.bytes_written, w.last.bytes_total);
    ck_assert_uint_eq(w.last.files_verified, FILES);
    ck_assert_uint_eq(w.last.tries, 1);
    struct snapshot_server_stats s;
    snapshot_server_stats(w.server, &s);
    ck_assert_uint_eq(s.bytes, w.last.bytes_total);
    /* Once more: all is there, only verified again, and needs no sender at all. */
    ck_assert_int_eq(fetch(), ERR_OK);
    ck_assert_uint_eq(w.last.bytes_received, 0);
    ck_assert_uint_eq(w.last.bytes_resumed, w.last.bytes_total);
    ck_assert_uint_eq(w.last.tries, 0);
    expect_files();
}
END_TEST

START_TEST(goes_on_after_lost_connections)
{
    make();
    w.interrupt_every = w.interrupt_at = 900 * KIB;
    ck_assert_int_eq(fetch(), ERR_OK);
    expect_files();
    ck_assert_uint_ge(w.last.tries, 4);
    /* Nothing that had arrived was asked for again. */
    ck_assert_uint_eq(w.last.bytes_received, w.last.bytes_total);
}
END_TEST

static void cancel_at(struct io_timer *t)
{
    if (w.last.bytes_written < 2 * MIB) {
        io_timer_set(w.io, t, io_now(w.io) + NS_PER_MS / 4);
        return;
    }
    snapshot_fetch_cancel(w.watched);
}

static void fetch_half(void)
{
    struct io_timer t = {.fn = cancel_at};
    struct snapshot_fetch_options o = fetch_options("receiver");

    start_fetch(&o);
    io_timer_set(w.io, &t, io_now_exact(w.io));
    run_all();
    ck_assert_int_eq(w.fetched[0], ERR_INTERRUPTED);
    w.last = (struct snapshot_fetch_stats){0};
}

START_TEST(a_new_fetch_resumes)
{
    char stray[4300];

    make();
    fetch_half();
    /* Things that do not belong there: gone in the end. */
    snprintf(stray, sizeof stray, "%s/incoming-%016llx/EVIL", dir_of("receiver"),
             (unsigned long long)w.id);
    ck_assert_int_eq(write_some(stray, 10, 1), ERR_OK);
    snprintf(stray, sizeof stray, "%s/incoming-%016llx/sub", dir_of("receiver"),
             (unsigned long long)w.id);
    ck_assert_int_eq(fs_mkdir(stray), ERR_OK);
    snprintf(stray, sizeof stray, "%s/incoming-0000000000000001", dir_of("receiver"));
    ck_assert_int_eq(fs_mkdir(stray), ERR_OK);
    ck_assert_int_eq(fetch(), ERR_OK);
    expect_files();
    ck_assert_uint_ge(w.last.bytes_resumed, 2 * MIB);
    ck_assert_uint_eq(w.last.bytes_received + w.last.bytes_resumed, w.last.bytes_total);
    ck_assert(!fs_exists(stray));
}
END_TEST

START_TEST(damage_on_our_side_is_fetched_again)
{
    char file[4300];

    make();
    fetch_half();
    snap_file(file, sizeof file, "receiver", "incoming", 4);
    flip(file, 100);
    snap_file(file, sizeof file, "receiver", "incoming", 1);
    ck_assert_int_eq(write_some(file, 5000, 1), ERR_OK); /* longer than it should be */
    ck_assert_int_eq(fetch(), ERR_OK);
    ck_assert_uint_eq(w.last.files_refetched, 1);
    expect_files();
}
END_TEST

START_TEST(damage_on_their_side_fails)
{
    char file[4300];

    make();
    snap_file(file, sizeof file, "sender", "snap", 5);
    flip(file, 500000);
    ck_assert_int_eq(fetch(), ERR_CORRUPT);
    ck_assert_uint_eq(w.last.files_refetched, 1);
    /* A file that is gone altogether: another snapshot is needed. */
    ck_assert_int_eq(fs_unlink(file), ERR_OK);
    ck_assert_int_eq(fetch(), ERR_NOT_FOUND);
}
END_TEST

START_TEST(a_snapshot_that_is_gone_is_said_so)
{
    make();
    w.pending++;
    snapshot_store_drop(w.store, GROUP, put_down, NULL);
    run_all();
    ck_assert_int_eq(fetch(), ERR_NOT_FOUND);
    ck_assert_uint_eq(w.last.tries, 1);
}
END_TEST

START_TEST(no_sender_no_end_without_an_answer)
{
    make();
    io_listener_close(w.listener);
    uint64_t begun = io_now_exact(w.io);
    enum err e = fetch();
    ck_assert_msg(e == ERR_UNREACHABLE || e == ERR_CLOSED || e == ERR_IO, "%s", err_name(e));
    ck_assert_uint_ge(io_now_exact(w.io) - begun, 1500 * NS_PER_MS);
    ck_assert_uint_ge(w.last.tries, 3);
    ck_assert_int_eq(io_listen(w.io, &w.addr, on_accept, NULL, &w.listener), ERR_OK);
}
END_TEST

START_TEST(more_than_may_be_served_take_turns)
{
    make();
    w.server_options.max_serves = 1;
    restart_server();
    for (size_t i = 0; i < 3; i++) {
        static const char *const who[] = {"r0", "r1", "r2"};
        struct snapshot_fetch_options o = fetch_options(who[i]);
        struct snapshot_fetch *f;
        o.arg = (void *)(uintptr_t)i;
        o.give_up_ns = 10 * NS_PER_S;
        w.pending++;
        ck_assert_int_eq(snapshot_fetch(&o, &f), ERR_OK);
    }
    run_all();
    for (size_t i = 0; i < 3; i++)
        ck_assert_msg(w.fetched[i] == ERR_OK, "%s", err_name(w.fetched[i]));
    struct snapshot_server_stats s;
    snapshot_server_stats(w.server, &s);
    ck_assert_uint_gt(s.refused, 0);
}
END_TEST

static uint64_t timed_fetch(const char *who, struct snapshot_rate *rate)
{
    struct snapshot_fetch_options o = fetch_options(who);

    o.rate = rate;
    uint64_t begun = io_now_exact(w.io);
    start_fetch(&o);
    run_all();
    ck_assert_int_eq(w.fetched[0], ERR_OK);
    return (io_now_exact(w.io) - begun) / NS_PER_MS;
}

START_TEST(rates_hold_on_both_ends)
{
    struct snapshot_rate rate;

    make();
    snapshot_rate_init(&rate, 8 * MIB); /* 4.5 MiB, of which 2 at once */
    uint64_t ms = timed_fetch("r1", &rate);
    ck_assert_msg(ms >= 250 && ms < 2000, "%llu ms", (unsigned long long)ms);
    w.server_options.bytes_per_s = 8 * MIB;
    restart_server();
    ms = timed_fetch("r2", NULL);
    ck_assert_msg(ms >= 250 && ms < 2000, "%llu ms", (unsigned long long)ms);
}
END_TEST

START_TEST(hostile_manifests_start_nothing)
{
    struct snapshot_fetch_options o;
    struct snapshot_fetch *f;

    make();
    w.manifest.p[60] ^= 1;
    o = fetch_options("receiver");
    ck_assert_int_eq(snapshot_fetch(&o, &f), ERR_CORRUPT);
    o.manifest = slice_str("");
    ck_assert_int_eq(snapshot_fetch(&o, &f), ERR_CORRUPT);
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, all_files_arrive);
    tcase_add_test(t, goes_on_after_lost_connections);
    tcase_add_test(t, a_new_fetch_resumes);
    tcase_add_test(t, damage_on_our_side_is_fetched_again);
    tcase_add_test(t, damage_on_their_side_fails);
    tcase_add_test(t, a_snapshot_that_is_gone_is_said_so);
    tcase_add_test(t, no_sender_no_end_without_an_answer);
    tcase_add_test(t, more_than_may_be_served_take_turns);
    tcase_add_test(t, rates_hold_on_both_ends);
    tcase_add_test(t, hostile_manifests_start_nothing);
}

int main(void)
{
    return snapshot_world_main("snapshot_stream", add_tests);
}
