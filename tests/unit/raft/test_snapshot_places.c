/* The store's places, as receivers and those who ask for snapshots see them: reused, full, given
 * up, expired, cleaned. */
#include "tests/unit/raft/snapshot_world.h"

START_TEST(live_snapshots_are_reused_and_joined)
{
    struct snapshot_store_stats s;

    make();
    uint64_t first = w.id;
    make();
    ck_assert_uint_eq(w.id, first);
    w.pending += 2; /* newer than the live one: made once for both */
    snapshot_store_make(w.store, GROUP, dir_of("sender"), 1001, checkpoint, on_made, NULL);
    snapshot_store_make(w.store, GROUP, dir_of("sender"), 1001, checkpoint, on_made, NULL);
    run_all();
    ck_assert_int_eq(w.made_result, ERR_OK);
    ck_assert_uint_ne(w.id, first);
    snapshot_store_stats(w.store, &s);
    ck_assert_uint_eq(s.made, 2);
    ck_assert_uint_eq(s.reused, 1);
    ck_assert_uint_eq(s.live, 2);
}
END_TEST

static void wait_until(struct io_timer *t)
{
    (void)t;
    w.pending--;
}

static void run_for(uint64_t ns)
{
    struct io_timer t = {.fn = wait_until};

    w.pending++;
    io_timer_set(w.io, &t, io_now_exact(w.io) + ns);
    run_all();
}

START_TEST(the_store_is_bounded)
{
    struct snapshot_store_stats s;

    make();
    for (unsigned i = 1; i < 4; i++) {
        w.pending++;
        snapshot_store_make(w.store, GROUP, dir_of("sender"), 1000 + i, checkpoint, on_made, NULL);
        run_all();
        ck_assert_int_eq(w.made_result, ERR_OK);
    }
    w.pending++;
    snapshot_store_make(w.store, GROUP, dir_of("sender"), 1004, checkpoint, on_made, NULL);
    run_all();
    ck_assert_int_eq(w.made_result, ERR_BUSY);
    /* A receiver that has got all of the newest makes room. */
    ck_assert_int_eq(fetch(), ERR_OK);
    run_for(100 * NS_PER_MS); /* its last words arrive */
    w.pending++;
    snapshot_store_make(w.store, GROUP, dir_of("sender"), 1004, checkpoint, on_made, NULL);
    run_all();
    ck_assert_int_eq(w.made_result, ERR_OK);
    snapshot_store_stats(w.store, &s);
    ck_assert_uint_eq(s.evicted, 1);
}
END_TEST

static enum err ask_for(uint64_t index)
{
    w.pending++;
    snapshot_store_make(w.store, GROUP, dir_of("sender"), index, checkpoint, on_made, NULL);
    run_all();
    return w.made_result;
}

/* Members that are down are offered the same again and again: others wait for the places. */
START_TEST(what_nobody_fetches_gives_up_its_place)
{
    struct snapshot_store_stats s;

    teardown();
    setup_with(1, 0, 200 * NS_PER_MS);
    ck_assert_int_eq(ask_for(0), ERR_OK);
    ck_assert_int_eq(ask_for(1001), ERR_BUSY);
    run_for(150 * NS_PER_MS);
    ck_assert_int_eq(ask_for(0), ERR_OK); /* offered again */
    run_for(150 * NS_PER_MS);
    ck_assert_int_eq(ask_for(1001), ERR_OK);
    snapshot_store_stats(w.store, &s);
    ck_assert_uint_eq(s.reused, 1);
    ck_assert_uint_eq(s.evicted, 1);
    ck_assert_uint_eq(s.live, 1);
}
END_TEST

START_TEST(a_receiver_that_has_begun_may_be_silent_for_longer)
{
    teardown();
    setup_with(1, 0, 200 * NS_PER_MS);
    ck_assert_int_eq(ask_for(0), ERR_OK);
    snapshot_unpin(snapshot_store_pin(w.store, w.id)); /* a chunk is read */
    run_for(400 * NS_PER_MS);
    ck_assert_int_eq(ask_for(1001), ERR_BUSY);
    run_for(500 * NS_PER_MS);
    ck_assert_int_eq(ask_for(1001), ERR_OK);
}
END_TEST

/* One that is offered to a second receiver after the first has got it is that one's. */
START_TEST(the_next_receiver_has_its_time)
{
    teardown();
    setup_with(1, 0, 200 * NS_PER_MS);
    ck_assert_int_eq(ask_for(0), ERR_OK);
    ck_assert_int_eq(fetch(), ERR_OK);
    run_for(300 * NS_PER_MS);
    ck_assert_int_eq(ask_for(0), ERR_OK);
    ck_assert_int_eq(ask_for(1001), ERR_BUSY);
    run_for(250 * NS_PER_MS);
    ck_assert_int_eq(ask_for(1001), ERR_OK);
}
END_TEST

START_TEST(unused_snapshots_expire)
{
    struct snapshot_store_stats s;
    char file[4300];

    teardown();
    setup_with(2, 200 * NS_PER_MS, 0);
    make();
    snap_file(file, sizeof file, "sender", "snap", 3);
    ck_assert(fs_exists(file));
    run_for(500 * NS_PER_MS);
    snapshot_store_stats(w.store, &s);
    ck_assert_uint_eq(s.expired, 1);
    ck_assert_uint_eq(s.live, 0);
    ck_assert(!fs_exists(file));
    ck_assert_int_eq(fetch(), ERR_NOT_FOUND);
}
END_TEST

static enum err failing(void *arg, const char *path, uint64_t *index, struct buf *note)
{
    (void)checkpoint(arg, path, index, note);
    return ERR_NO_SPACE;
}

static unsigned names_like_snap;
static void count_snaps(void *arg, const char *name, bool is_dir)
{
    (void)arg;
    (void)is_dir;
    names_like_snap += strncmp(name, "snap-", 5) == 0;
}

START_TEST(failures_and_drops_leave_nothing_behind)
{
    char *dir = dir_of("sender");

    w.pending++;
    snapshot_store_make(w.store, GROUP, dir, 0, failing, on_made, NULL);
    run_all();
    ck_assert_int_eq(w.made_result, ERR_NO_SPACE);
    /* Dropped while it is being made. */
    w.pending += 2;
    snapshot_store_make(w.store, GROUP, dir, 0, checkpoint, on_made, NULL);
    snapshot_store_drop(w.store, GROUP, put_down, NULL);
    run_all();
    ck_assert_int_eq(w.made_result, ERR_INTERRUPTED);
    names_like_snap = 0;
    ck_assert_int_eq(fs_list(dir, count_snaps, NULL), ERR_OK);
    ck_assert_uint_eq(names_like_snap, 0);
    /* What a crash leaves is removed at the next start. */
    char left[4300];
    snprintf(left, sizeof left, "%s/snap-00000000000000aa.tmp", dir);
    ck_assert_int_eq(fs_mkdir(left), ERR_OK);
    snprintf(left, sizeof left, "%s/incoming-00000000000000aa", dir);
    ck_assert_int_eq(fs_mkdir(left), ERR_OK);
    ck_assert_int_eq(snapshot_store_clean(dir), ERR_OK);
    ck_assert_int_eq(fs_list(dir, count_snaps, NULL), ERR_OK);
    ck_assert_uint_eq(names_like_snap, 0);
    ck_assert(fs_exists(left));
    ck_assert_int_eq(snapshot_fetch_clean(dir), ERR_OK);
    ck_assert(!fs_exists(left));
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, live_snapshots_are_reused_and_joined);
    tcase_add_test(t, the_store_is_bounded);
    tcase_add_test(t, what_nobody_fetches_gives_up_its_place);
    tcase_add_test(t, a_receiver_that_has_begun_may_be_silent_for_longer);
    tcase_add_test(t, the_next_receiver_has_its_time);
    tcase_add_test(t, unused_snapshots_expire);
    tcase_add_test(t, failures_and_drops_leave_nothing_behind);
}

int main(void)
{
    return snapshot_world_main("snapshot_places", add_tests);
}
