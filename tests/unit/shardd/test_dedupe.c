/* The table of sessions' results: what is found, floors, times, bounds, rows and their loading,
 * splits and merges. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/limits.h"
#include "shardd/dedupe.h"
#include "shardd/engine_key.h"
#include "tests/unit/shardd/engine_world.h"

#define GROUP 7u

static const uint8_t sid_a[16] = "a-session-of-our", sid_b[16] = "b-session-of-our";

static void setup(void)
{
    engine_world_open("dedupe");
}

static struct command_op op_of(const uint8_t *sid, uint64_t seq, uint64_t ack, uint64_t until)
{
    return (struct command_op){.kind = COMMAND_PUT,
                               .flags = COMMAND_SESSION,
                               .sid = sid,
                               .seq = seq,
                               .ack = ack,
                               .until_ms = until};
}

static void record(const uint8_t *sid, uint64_t seq, uint64_t ack, uint64_t until, uint64_t now,
                   uint16_t slot)
{
    struct command_op op = op_of(sid, seq, ack, until);
    struct dedupe_result r = {ERR_OK, seq * 10, seq % 2 ? -(int64_t)seq : 0};
    dedupe_record(dedupe, &op, slot, now, &r);
}

static enum dedupe_found look(const uint8_t *sid, uint64_t seq, uint64_t until, uint64_t now)
{
    struct command_op op = op_of(sid, seq, 0, until);
    struct dedupe_result r = {ERR_INTERNAL, 0, 0};
    enum dedupe_found found = dedupe_find(dedupe, &op, now, &r);
    if (found == DEDUPE_KNOWN) {
        ck_assert_uint_eq(r.version, seq * 10);
        ck_assert_int_eq(r.number, seq % 2 ? -(int64_t)seq : 0);
    }
    return found;
}

static void write_batch(void)
{
    ck_assert_int_eq(engine_write(db, batch), ERR_OK);
    engine_batch_clear(batch);
    ck_assert_int_eq(engine_flush(db), ERR_OK);
}

static void store(void)
{
    dedupe_store(dedupe, GROUP, 100, batch);
    write_batch();
}

/* As after a restart. */
static void reload(uint64_t now)
{
    dedupe_destroy(dedupe);
    dedupe = dedupe_create();
    ck_assert_int_eq(dedupe_load(dedupe, db, GROUP, 100, now), ERR_OK);
}

START_TEST(test_found)
{
    record(sid_a, 1, 1, 1000, 10, 5);
    record(sid_a, 3, 1, 1000, 10, 6);
    ck_assert_int_eq(look(sid_a, 1, 1000, 10), DEDUPE_KNOWN);
    ck_assert_int_eq(look(sid_a, 2, 1000, 10), DEDUPE_NEW);
    ck_assert_int_eq(look(sid_a, 3, 1000, 10), DEDUPE_KNOWN);
    ck_assert_int_eq(look(sid_a, 4, 1000, 10), DEDUPE_NEW);
    ck_assert_int_eq(look(sid_b, 1, 1000, 10), DEDUPE_NEW);
    record(sid_a, 2, 1, 1000, 10, 5); /* one that was late on its way */
    ck_assert_int_eq(look(sid_a, 2, 1000, 10), DEDUPE_KNOWN);
    ck_assert_uint_eq(dedupe_results(dedupe), 3);
    ck_assert_uint_eq(dedupe_sessions(dedupe), 1);
}
END_TEST

/* What the client has confirmed is not kept, and not taken for new either. */
START_TEST(test_floor)
{
    for (uint64_t seq = 1; seq <= 10; seq++)
        record(sid_a, seq, 1, 1000, 10, 5);
    record(sid_a, 11, 8, 1000, 10, 6);
    ck_assert_int_eq(look(sid_a, 7, 1000, 10), DEDUPE_LATE);
    ck_assert_int_eq(look(sid_a, 8, 1000, 10), DEDUPE_KNOWN);
    ck_assert_uint_eq(dedupe_results(dedupe), 4);
    record(sid_a, 12, 3, 1000, 10, 6); /* an older one, that came late: floors never go back */
    ck_assert_int_eq(look(sid_a, 5, 1000, 10), DEDUPE_LATE);
}
END_TEST

START_TEST(test_time)
{
    record(sid_a, 1, 1, 1000, 10, 5);
    record(sid_a, 2, 1, 1500, 20, 5);
    ck_assert_int_eq(look(sid_a, 1, 1000, 1000), DEDUPE_KNOWN);
    ck_assert_int_eq(look(sid_a, 1, 1000, 1001), DEDUPE_LATE);
    ck_assert_int_eq(look(sid_a, 2, 1500, 1500), DEDUPE_KNOWN);
    ck_assert_int_eq(look(sid_b, 1, 1500, 1501), DEDUPE_LATE); /* whatever it is */
    /* All of the session is over: as if it had never been, kept or not. */
    record(sid_b, 9, 9, 1700, 20, 5);
    ck_assert_int_eq(look(sid_b, 8, 1800, 1700), DEDUPE_LATE);
    ck_assert_int_eq(look(sid_b, 8, 1800, 1701), DEDUPE_NEW);
    record(sid_b, 8, 1, 1800, 1701, 5);
    ck_assert_int_eq(look(sid_b, 3, 1800, 1701), DEDUPE_NEW);
    dedupe_store(dedupe, GROUP, 100, batch);
    dedupe_sweep(dedupe, 1701);
    ck_assert_uint_eq(dedupe_sessions(dedupe), 1);
    ck_assert_uint_eq(dedupe_results(dedupe), 1);
}
END_TEST

/* The oldest go; their repetitions are refused, not applied. */
START_TEST(test_too_many_results)
{
    for (uint64_t seq = 1; seq <= LIMIT_SESSION_RESULTS; seq++)
        record(sid_a, seq, 1, 1000, 10, (uint16_t)seq);
    ck_assert_int_eq(look(sid_a, 1, 1000, 10), DEDUPE_KNOWN);
    record(sid_a, LIMIT_SESSION_RESULTS + 1, 1, 1000, 10, 7);
    ck_assert_int_eq(look(sid_a, 1, 1000, 10), DEDUPE_LATE);
    ck_assert_int_eq(look(sid_a, 2, 1000, 10), DEDUPE_KNOWN);
    ck_assert_uint_eq(dedupe_results(dedupe), LIMIT_SESSION_RESULTS);
    store();
    reload(10);
    ck_assert_int_eq(look(sid_a, 1, 1000, 10), DEDUPE_LATE);
    ck_assert_int_eq(look(sid_a, 2, 1000, 10), DEDUPE_KNOWN);
    ck_assert_int_eq(look(sid_a, LIMIT_SESSION_RESULTS + 1, 1000, 10), DEDUPE_KNOWN);
    ck_assert_uint_eq(dedupe_results(dedupe), LIMIT_SESSION_RESULTS);
}
END_TEST

/* What is over does not count: whether a replica still has it must make no difference. */
START_TEST(test_expired_results_do_not_push)
{
    for (uint64_t seq = 1; seq <= LIMIT_SESSION_RESULTS; seq++)
        record(sid_a, seq, 1, seq <= 10 ? 100 : 1000, 10, 7);
    record(sid_a, LIMIT_SESSION_RESULTS + 1, 1, 1000, 101, 7);
    ck_assert_int_eq(look(sid_a, 11, 1000, 101), DEDUPE_KNOWN);
    ck_assert_uint_eq(dedupe_results(dedupe), LIMIT_SESSION_RESULTS - 9);
}
END_TEST

static uint32_t rows;
static bool count_row(void *arg, struct slice key, struct slice value)
{
    (void)arg;
    (void)key;
    (void)value;
    rows++;
    return true;
}

static uint32_t count_rows(void)
{
    rows = 0;
    ck_assert_int_eq(engine_scan(db, slice_of("s", 1), slice_of("t", 1), count_row, NULL), ERR_OK);
    return rows;
}

/* A row for each session that has changed, whatever it did; the same one again and again. */
START_TEST(test_few_rows)
{
    for (uint64_t turn = 0; turn < 50; turn++) {
        for (uint64_t seq = turn * 10 + 1; seq <= turn * 10 + 10; seq++)
            record(sid_a, seq, seq, 1000, 10, (uint16_t)(seq * 17));
        if (turn == 30)
            record(sid_b, 1, 1, 1000, 10, 5);
        dedupe_store(dedupe, GROUP, 100, batch);
        ck_assert_uint_eq(engine_batch_count(batch), turn == 30 ? 2 : 1);
        write_batch();
    }
    dedupe_store(dedupe, GROUP, 100, batch);
    ck_assert_uint_eq(engine_batch_count(batch), 0);
    ck_assert_uint_eq(count_rows(), 2);
    reload(10);
    ck_assert_uint_eq(dedupe_results(dedupe), 2);
    ck_assert_int_eq(look(sid_a, 499, 1000, 10), DEDUPE_LATE);
    ck_assert_int_eq(look(sid_a, 500, 1000, 10), DEDUPE_KNOWN);
    ck_assert_int_eq(look(sid_b, 1, 1000, 10), DEDUPE_KNOWN);
}
END_TEST

/* One that goes while it is to be written is not written. */
START_TEST(test_swept_while_changed)
{
    uint8_t sid[16] = {0};
    for (uint8_t i = 0; i < 40; i++) {
        sid[0] = i;
        record(sid, 1, 1, i % 3 ? 100 : 1000, 10, 5);
    }
    dedupe_sweep(dedupe, 101);
    ck_assert_uint_eq(dedupe_sessions(dedupe), 14);
    dedupe_store(dedupe, GROUP, 100, batch);
    ck_assert_uint_eq(engine_batch_count(batch), 14);
    write_batch();
    reload(101);
    ck_assert_uint_eq(dedupe_sessions(dedupe), 14);
}
END_TEST

/* An earlier release dealt the results of a session out to several rows, and left old ones. */
START_TEST(test_rows_of_earlier_releases)
{
    for (uint64_t seq = 1; seq <= 3; seq++)
        record(sid_a, seq, 1, 1000, 10, 5);
    dedupe_store(dedupe, GROUP, 100, batch);
    write_batch();
    uint8_t key[ENGINE_SESSION_KEY];
    struct engine_value v;
    struct slice row = engine_key_session(key, 100, sid_a);
    ck_assert_int_eq(engine_get(db, row, false, &v), ERR_OK);
    key[ENGINE_SESSION_KEY - 1] = 1;
    engine_batch_put(batch, row, v.data);
    engine_value_close(&v);
    record(sid_a, 4, 3, 1000, 10, 5);
    dedupe_store(dedupe, GROUP, 100, batch);
    write_batch();
    reload(10);
    ck_assert_uint_eq(dedupe_results(dedupe), 2);
    ck_assert_int_eq(look(sid_a, 2, 1000, 10), DEDUPE_LATE);
    ck_assert_int_eq(look(sid_a, 3, 1000, 10), DEDUPE_KNOWN);
    ck_assert_int_eq(look(sid_a, 4, 1000, 10), DEDUPE_KNOWN);
}
END_TEST

/* Random lives; at any moment a table that is loaded tells the same as the one that wrote. */
START_TEST(test_reload_is_the_same)
{
    unsigned seed = 1;
    uint64_t next = 1, ack = 1, now = 1000;
    for (unsigned turn = 0; turn < 200; turn++) {
        for (unsigned k = 0; k < 1 + (unsigned)rand_r(&seed) % 80; k++, next++)
            if (rand_r(&seed) % 4)
                record(sid_a, next, ack, now + 300, now, (uint16_t)(next % 300));
        if (rand_r(&seed) % 3 == 0)
            ack += (uint64_t)rand_r(&seed) % (next - ack + 1);
        now += (uint64_t)rand_r(&seed) % 20;
        store();
        enum dedupe_found before[64];
        uint64_t from = next > 64 ? next - 64 : 1;
        for (uint64_t i = 0; i < 64; i++)
            before[i] = look(sid_a, from + i, now + 300, now);
        if (turn % 7 == 0)
            reload(now);
        for (uint64_t i = 0; i < 64; i++)
            ck_assert_int_eq(look(sid_a, from + i, now + 300, now), before[i]);
    }
    ck_assert_uint_eq(count_rows(), 1);
}
END_TEST

/* ---- what a replay makes of it ---- */

#define LIVES 8u
#define TURNS 40u
#define TURN_OPS 40u

/* A log of writes, of sessions that come, go on and end. */
struct writes {
    struct command_op op[TURNS * TURN_OPS];
    uint64_t now[TURNS * TURN_OPS];
    unsigned n, end_of[TURNS]; /* writes up to and with a turn */
};

static uint8_t life_sid[LIVES][16];

static void draw_writes(struct writes *w, unsigned *seed)
{
    uint64_t next[LIVES], ack[LIVES], now = 1000;
    w->n = 0;
    for (unsigned i = 0; i < LIVES; i++) {
        life_sid[i][0] = (uint8_t)i;
        next[i] = ack[i] = 1;
    }
    for (unsigned turn = 0; turn < TURNS; turn++) {
        for (unsigned k = 0; k < (unsigned)rand_r(seed) % TURN_OPS; k++) {
            unsigned i = (unsigned)rand_r(seed) % LIVES;
            uint64_t life = rand_r(seed) % 8 ? 300 : 20;
            w->op[w->n] = op_of(life_sid[i], next[i]++, ack[i], now + life);
            w->now[w->n++] = now;
            if (rand_r(seed) % 4 == 0)
                ack[i] += (uint64_t)rand_r(seed) % (next[i] - ack[i] + 1);
        }
        now += (uint64_t)rand_r(seed) % 60;
        w->end_of[turn] = w->n;
    }
}

static void replay(const struct writes *w, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        const struct command_op *op = &w->op[i];
        struct dedupe_result r;
        if (dedupe_find(dedupe, op, w->now[i], &r) == DEDUPE_NEW)
            record(op->sid, op->seq, op->ack, op->until_ms, w->now[i], (uint16_t)(op->seq % 300));
        dedupe_age(dedupe, w->now[i]);
    }
}

/* What becomes of each write if it is repeated now. */
static void repeat_all(const struct writes *w, unsigned n, enum dedupe_found *found, uint64_t now)
{
    for (unsigned i = 0; i < n; i++)
        found[i] = look(w->op[i].sid, w->op[i].seq, w->op[i].until_ms, now);
}

/* It is written now and then only: loaded as it was written last, the log's rest makes it what it
 * was. */
START_TEST(test_replay_makes_the_rest)
{
    static struct writes w;
    static enum dedupe_found before[TURNS * TURN_OPS], after[TURNS * TURN_OPS];
    unsigned seed = (unsigned)_i + 1;
    draw_writes(&w, &seed);
    unsigned stored = 0, done = 0;
    for (unsigned turn = 0; turn < TURNS; turn++) {
        replay(&w, done, w.end_of[turn]);
        done = w.end_of[turn];
        if (done == 0)
            continue;
        uint64_t now = w.now[done - 1];
        if (rand_r(&seed) % 5 == 0) {
            store();
            stored = done;
        }
        if (rand_r(&seed) % 3 != 0)
            continue;
        repeat_all(&w, done, before, now);
        reload(stored ? w.now[stored - 1] : 0);
        replay(&w, stored, done);
        repeat_all(&w, done, after, now);
        ck_assert(memcmp(before, after, done * sizeof *before) == 0);
    }
}
END_TEST

static void load_as(uint64_t group, uint16_t slot)
{
    dedupe_destroy(dedupe);
    dedupe = dedupe_create();
    ck_assert_int_eq(dedupe_load(dedupe, db, group, slot, 10), ERR_OK);
}

/* `head`: the child gets the lower slots, and so the place where the parent's rows were. */
static void split(bool head)
{
    uint16_t first = head ? 100 : 150, last = head ? 149 : 199;
    for (uint64_t seq = 1; seq <= 90; seq++)
        record(sid_a, seq, 1, 1000, 10, (uint16_t)(100 + seq)); /* 101 to 190 */
    record(sid_b, 20, 20, 1000, 10, 120);
    store();
    dedupe_leave(dedupe, 8, first, last, batch);
    dedupe_rewrite(dedupe, GROUP, head ? 150 : 100, head ? 199 : 149, batch);
    write_batch();
    for (int of_child = 0; of_child < 2; of_child++) {
        bool low = head == (of_child == 1);
        load_as(of_child ? 8 : GROUP, low ? 100 : 150);
        ck_assert_int_eq(look(sid_a, 20, 1000, 10), low ? DEDUPE_KNOWN : DEDUPE_NEW);
        ck_assert_int_eq(look(sid_a, 49, 1000, 10), low ? DEDUPE_KNOWN : DEDUPE_NEW);
        ck_assert_int_eq(look(sid_a, 50, 1000, 10), low ? DEDUPE_NEW : DEDUPE_KNOWN);
        ck_assert_int_eq(look(sid_b, 19, 1000, 10), DEDUPE_LATE); /* floors go to both */
    }
}

START_TEST(test_split_tail)
{
    split(false);
}
END_TEST

START_TEST(test_split_head)
{
    split(true);
}
END_TEST

/* Target 7 at 100, source 8 at 150; its rows are in the target's database as the copy left them. */
START_TEST(test_merge)
{
    record(sid_a, 5, 1, 1000, 10, 160);
    record(sid_a, 6, 1, 1000, 10, 160);
    record(sid_b, 3, 3, 2000, 10, 160);
    dedupe_store(dedupe, 8, 150, batch);
    write_batch();
    dedupe_clear(dedupe);
    record(sid_a, 7, 6, 1000, 10, 110);
    store();
    ck_assert_int_eq(dedupe_load(dedupe, db, 8, 150, 10), ERR_OK);
    dedupe_rewrite(dedupe, GROUP, 100, 199, batch);
    write_batch();
    for (int loaded = 0; loaded < 2; loaded++) {
        ck_assert_int_eq(look(sid_a, 5, 1000, 10), DEDUPE_LATE); /* the target's floor is 6 */
        ck_assert_int_eq(look(sid_a, 6, 1000, 10), DEDUPE_KNOWN);
        ck_assert_int_eq(look(sid_a, 7, 1000, 10), DEDUPE_KNOWN);
        ck_assert_int_eq(look(sid_b, 3, 2000, 10), DEDUPE_KNOWN);
        ck_assert_int_eq(look(sid_b, 2, 2000, 10), DEDUPE_LATE);
        reload(10);
    }
    load_as(8, 150);
    ck_assert_uint_eq(dedupe_sessions(dedupe), 0);
}
END_TEST

START_TEST(test_full)
{
    uint8_t sid[16] = {0};
    for (uint32_t i = 0; i < LIMIT_SHARD_SESSIONS; i++) {
        memcpy(sid, &i, sizeof i);
        ck_assert(!dedupe_full(dedupe, sid));
        record(sid, 1, 1, 1000, 10, 5);
    }
    ck_assert(!dedupe_full(dedupe, sid)); /* one that is there goes on */
    ck_assert(dedupe_full(dedupe, sid_a));
    dedupe_store(dedupe, GROUP, 100, batch);
    dedupe_sweep(dedupe, 1001);
    ck_assert(!dedupe_full(dedupe, sid_a));
    ck_assert_uint_eq(dedupe_results(dedupe), 0);
}
END_TEST

START_TEST(test_damaged_rows)
{
    uint8_t key[ENGINE_SESSION_KEY], raw[ENGINE_VALUE_HEAD_MAX];
    struct engine_value_head h = {.version = GROUP, .has_expiry = true, .expiry_ms = 1000};
    struct slice head = engine_value_encode(raw, &h);
    record(sid_a, 1, 1, 1000, 10, 5);
    store();
    for (size_t n = 1; n < 31; n++) {
        if (n == 8)
            continue; /* a floor alone is a row */
        engine_batch_put2(batch, engine_key_session(key, 100, sid_a), head,
                          slice_of("0123456789012345678901234567890", n));
        write_batch();
        dedupe_clear(dedupe);
        enum err e = dedupe_load(dedupe, db, GROUP, 100, 10);
        ck_assert_int_eq(e, ERR_CORRUPT);
    }
    engine_batch_put(batch, slice_of("s\0\144short", 8), slice_of("", 0));
    write_batch();
    ck_assert_int_eq(dedupe_load(dedupe, db, GROUP, 100, 10), ERR_CORRUPT);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dedupe");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, engine_world_close);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_found);
    tcase_add_test(t, test_floor);
    tcase_add_test(t, test_time);
    tcase_add_test(t, test_too_many_results);
    tcase_add_test(t, test_expired_results_do_not_push);
    tcase_add_test(t, test_few_rows);
    tcase_add_test(t, test_swept_while_changed);
    tcase_add_test(t, test_rows_of_earlier_releases);
    tcase_add_test(t, test_reload_is_the_same);
    tcase_add_loop_test(t, test_replay_makes_the_rest, 0, 60);
    tcase_add_test(t, test_split_tail);
    tcase_add_test(t, test_split_head);
    tcase_add_test(t, test_merge);
    tcase_add_test(t, test_full);
    tcase_add_test(t, test_damaged_rows);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
