/* A full disk and then the end of the process, at every operation: the log that waited for space
 * opens again and has lost nothing. */
#include "tests/unit/wal/fake_owner.h"

static struct rng rng;

static void setup(void)
{
    fake_owner_begin();
    o.max_payload = 30000;
    rng_seed(&rng, 7);
}

static void pass(unsigned turns)
{
    for (unsigned i = 0; i < turns && !fake.dead; i++) {
        wal_flush(o.wal);
        fake_turn(o.io);
        o.io->now += NS_PER_MS;
    }
}

static void append_many(unsigned n, unsigned per_turn)
{
    for (unsigned i = 0; i < n && !fake.dead; i++) {
        owner_append(&o);
        if (i % per_turn == per_turn - 1)
            pass(1);
    }
    pass(1);
}

/* The disk fills up; later old records are not needed any more, and segments are used again. False:
 * it came to its end before the k-th operation after that. */
static bool crash_at(unsigned k, enum fake_keep keep, unsigned seed)
{
    teardown();
    setup();
    rng_seed(&o.io->rng, seed);
    o.window = 1000000;
    owner_open(&o);
    append_many(10, 2);
    pass(20);
    fake.space = 6 * o.segment_size;
    append_many(60 + seed, 2);
    pass(600);
    ck_assert(wal_starved(o.wal));
    o.window = 5;
    fake.mutations = 0;
    fake.crash_at = k;
    for (unsigned i = 0; i < 20 && !fake.dead && o.acked < o.appended; i++)
        pass(500);
    bool crashed = fake.dead;
    if (!crashed)
        ck_assert_uint_eq(o.acked, o.appended);
    close_dead();
    fake_power_cut(keep, 0, &rng);
    fake.space = 0;
    owner_open(&o);
    append_many(10, 3);
    close_dead();
    owner_open(&o);
    close_dead();
    return crashed;
}

START_TEST(a_full_disk_and_a_crash)
{
    unsigned most = 0;
    for (unsigned seed = 0; seed < 8; seed++) {
        unsigned k = 1;
        while (k < 200 && crash_at(k, (enum fake_keep)_i, seed))
            k++;
        most = k > most ? k : most;
    }
    ck_assert_uint_gt(most, 10);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("wal_full");
    TCase *t = tcase_create("wal_full");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, a_full_disk_and_a_crash, KEEP_NONE, KEEP_RANDOM + 1);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
