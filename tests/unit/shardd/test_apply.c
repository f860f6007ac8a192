/* Applying commands: versions, conditions within and across commands, ranges, incr, touch, expiry,
 * runs, sessions. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "shardd/apply.h"
#include "shardd/engine_key.h"
#include "common/meta/slot.h"
#include "tests/unit/shardd/engine_world.h"

static struct shard shard;
static uint64_t now = 1000;

struct outcome {
    enum err err[16];
    uint64_t version[16];
    int64_t number[16];
    bool repeated[16];
    uint32_t n;
};

static void setup(void)
{
    engine_world_open("db");
    now = 1000;
    shard = (struct shard){.group = 1, .replica = 1, .first_slot = 0, .last_slot = 16383};
}

static void on_result(void *arg, uint32_t i, const struct apply_outcome *r)
{
    struct outcome *o = arg;
    ck_assert_uint_lt(i, 16);
    ck_assert_uint_eq(i, o->n); /* in order, each once */
    o->err[i] = r->err;
    o->version[i] = r->version;
    o->number[i] = r->number;
    o->repeated[i] = r->repeated;
    o->n = i + 1;
}

static struct outcome run(const struct command_op *ops, uint32_t n)
{
    struct buf b = {0};
    struct outcome o = {0};
    command_begin(&b);
    const uint8_t *last = NULL;
    for (uint32_t i = 0; i < n; i++) {
        command_put_op(&b, &ops[i], last);
        last = ops[i].sid ? ops[i].sid : last;
    }
    command_finish(&b, now, n);
    ck_assert_int_eq(apply_command(&shard, dedupe, buf_slice(&b), db, batch, on_result, &o),
                     ERR_OK);
    ck_assert_int_eq(engine_write(db, batch), ERR_OK);
    engine_batch_clear(batch);
    buf_close(&b);
    return o;
}

static struct command_op put(const char *key, const char *value, uint8_t flags, uint64_t version)
{
    return (struct command_op){.kind = COMMAND_PUT,
                               .flags = flags,
                               .if_version = version,
                               .key = slice_str(key),
                               .value = slice_str(value)};
}

static struct command_op del(const char *key)
{
    return (struct command_op){.kind = COMMAND_DELETE, .key = slice_str(key)};
}

START_TEST(versions_grow)
{
    struct command_op ops[] = {put("a", "1", 0, 0), put("b", "2", 0, 0), del("a"),
                               put("a", "3", 0, 0)};
    struct outcome o = run(ops, 4);
    for (uint32_t i = 0; i < 4; i++) {
        ck_assert_int_eq(o.err[i], ERR_OK);
        ck_assert_uint_eq(o.version[i], i + 1);
    }
    ck_assert_uint_eq(shard.time_ms, 1000);
}
END_TEST

START_TEST(conditions_see_earlier_commands)
{
    struct command_op first = put("a", "1", COMMAND_IF_ABSENT, 0);
    struct outcome o = run(&first, 1);
    ck_assert_int_eq(o.err[0], ERR_OK);
    uint64_t version = o.version[0];
    o = run(&first, 1);
    ck_assert_int_eq(o.err[0], ERR_CONDITION_FAILED);
    ck_assert_uint_eq(o.version[0], version);
    struct command_op cas = put("a", "2", COMMAND_IF_VERSION, version);
    o = run(&cas, 1);
    ck_assert_int_eq(o.err[0], ERR_OK);
    o = run(&cas, 1);
    ck_assert_int_eq(o.err[0], ERR_CONDITION_FAILED);
}
END_TEST

START_TEST(conditions_see_their_own_command)
{
    struct command_op ops[] = {put("x", "1", COMMAND_IF_ABSENT, 0),
                               put("x", "2", COMMAND_IF_ABSENT, 0), del("x"),
                               put("x", "3", COMMAND_IF_ABSENT, 0)};
    struct outcome o = run(ops, 4);
    ck_assert_int_eq(o.err[0], ERR_OK);
    ck_assert_int_eq(o.err[1], ERR_CONDITION_FAILED);
    ck_assert_int_eq(o.err[2], ERR_OK);
    ck_assert_int_eq(o.err[3], ERR_OK);
}
END_TEST

START_TEST(foreign_slots_are_refused)
{
    uint16_t slot = slot_of_key(slice_str("a"));
    shard.first_slot = (uint16_t)(slot + 1);
    struct command_op op = put("a", "1", 0, 0);
    struct outcome o = run(&op, 1);
    ck_assert_int_eq(o.err[0], ERR_WRONG_SHARD);
    struct engine_value v;
    uint8_t raw[ENGINE_KEY_MAX];
    ck_assert_int_eq(engine_get(db, engine_key_data(raw, slot, slice_str("a")), false, &v),
                     ERR_NOT_FOUND);
}
END_TEST

struct changes {
    uint64_t version[8];
    char key[8][8];
    unsigned n;
};

static bool on_change(void *arg, struct slice key, struct slice value)
{
    struct changes *c = arg;
    struct slice data, user;
    uint16_t slot;
    ck_assert_uint_eq(value.n, 0);
    ck_assert_int_eq(engine_key_change_split(key, &c->version[c->n], &data), ERR_OK);
    ck_assert_int_eq(engine_key_split(data, &slot, &user), ERR_OK);
    ck_assert_uint_eq(slot, slot_of_key(user));
    snprintf(c->key[c->n++], 8, "%.*s", (int)user.n, (const char *)user.p);
    return true;
}

static struct changes changes(void)
{
    struct changes c = {0};
    uint8_t raw[ENGINE_CHANGE_MAX];
    ck_assert_int_eq(engine_write(db, batch), ERR_OK);
    engine_batch_clear(batch);
    ck_assert_int_eq(engine_flush(db), ERR_OK);
    ck_assert_int_eq(engine_scan(db, engine_key_change(raw, 0, slice_of(NULL, 0)),
                                 engine_key_changes_end(), on_change, &c),
                     ERR_OK);
    return c;
}

/* In order of versions, puts and deletes that count, and nothing outside of a merge. */
START_TEST(a_source_marks_what_changes)
{
    struct command_op before = {.kind = COMMAND_PUT, .key = slice_str("a")};
    struct command_op ops[] = {
        {.kind = COMMAND_PUT, .key = slice_str("z"), .value = slice_str("1")},
        {.kind = COMMAND_DELETE, .key = slice_str("a")},
        {.kind = COMMAND_PUT, .flags = COMMAND_IF_VERSION, .key = slice_str("no"), .if_version = 9},
        {.kind = COMMAND_PUT, .key = slice_str("b"), .value = slice_str("2")},
    };
    shard.version = 254;
    run(&before, 1);
    ck_assert_uint_eq(changes().n, 0);
    shard.phase = SHARD_PHASE_SOURCE;
    run(ops, 4);
    struct changes c = changes();
    ck_assert_uint_eq(c.n, 3);
    ck_assert_str_eq(c.key[0], "z");
    ck_assert_str_eq(c.key[1], "a");
    ck_assert_str_eq(c.key[2], "b");
    ck_assert_uint_eq(c.version[0], 256);
    ck_assert_uint_eq(c.version[2], 258);
    shard.phase = SHARD_PHASE_FROZEN;
    struct outcome o = run(ops, 1);
    ck_assert_int_eq(o.err[0], ERR_WRONG_SHARD);
    ck_assert_uint_eq(changes().n, 3);
}
END_TEST

/* ---- incr, touch, expiry ---- */

static struct command_op incr(const char *key, int64_t delta)
{
    return (struct command_op){.kind = COMMAND_INCR, .key = slice_str(key), .delta = delta};
}

static struct command_op until(struct command_op op, uint64_t expiry_ms)
{
    op.flags |= COMMAND_EXPIRY;
    op.expiry_ms = expiry_ms;
    return op;
}

static struct command_op touch(const char *key)
{
    return (struct command_op){.kind = COMMAND_TOUCH, .key = slice_str(key)};
}

static void check_value(const char *key, const char *value, uint64_t version, uint64_t expiry_ms)
{
    uint8_t raw[ENGINE_KEY_MAX];
    struct engine_value v;
    struct engine_value_head head;
    struct slice body;
    struct slice k = slice_str(key);
    enum err e = engine_get(db, engine_key_data(raw, slot_of_key(k), k), false, &v);
    ck_assert_int_eq(e, ERR_OK);
    ck_assert_int_eq(engine_value_decode(v.data, &head, &body), ERR_OK);
    ck_assert_msg(slice_eq(body, slice_str(value)), "%.*s", (int)body.n, (const char *)body.p);
    ck_assert_uint_eq(head.version, version);
    ck_assert_uint_eq(head.has_expiry ? head.expiry_ms : 0, expiry_ms);
    engine_value_close(&v);
}

static const struct {
    const char *value; /* NULL: absent */
    int64_t delta;
    enum err err;
    int64_t number;
    const char *after;
} sums[] = {
    {NULL, 5, ERR_OK, 5, "5"},
    {NULL, 0, ERR_OK, 0, "0"},
    {"41", 1, ERR_OK, 42, "42"},
    {"-41", 1, ERR_OK, -40, "-40"},
    {"007", 1, ERR_OK, 8, "8"},
    {"9223372036854775806", 1, ERR_OK, INT64_MAX, "9223372036854775807"},
    {"9223372036854775807", 1, ERR_NOT_A_NUMBER, 0, "9223372036854775807"},
    {"9223372036854775808", 1, ERR_NOT_A_NUMBER, 0, "9223372036854775808"},
    {"-9223372036854775808", 1, ERR_OK, -INT64_MAX, "-9223372036854775807"},
    {"-9223372036854775808", -1, ERR_NOT_A_NUMBER, 0, "-9223372036854775808"},
    {"-9223372036854775809", 1, ERR_NOT_A_NUMBER, 0, "-9223372036854775809"},
    {"", 1, ERR_NOT_A_NUMBER, 0, ""},
    {"-", 1, ERR_NOT_A_NUMBER, 0, "-"},
    {"+1", 1, ERR_NOT_A_NUMBER, 0, "+1"},
    {"1 ", 1, ERR_NOT_A_NUMBER, 0, "1 "},
    {"1.5", 1, ERR_NOT_A_NUMBER, 0, "1.5"},
    {"111111111111111111111111111111", 1, ERR_NOT_A_NUMBER, 0, "111111111111111111111111111111"},
};

START_TEST(incr_adds)
{
    for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++) {
        /* Both ways: what is there comes from the engine, and from the same command. */
        struct command_op ops[] = {sums[i].value ? put("n", sums[i].value, 0, 0) : del("n"),
                                   incr("n", sums[i].delta)};
        for (int together = 0; together < 2; together++) {
            struct outcome o = run(ops, together ? 2 : 1);
            uint32_t at = together ? 1 : 0;
            if (!together)
                o = run(ops + 1, 1);
            ck_assert_msg(o.err[at] == sums[i].err, "row %zu: %s", i, err_name(o.err[at]));
            ck_assert_int_eq(o.number[at], sums[i].number);
            ck_assert_uint_eq(o.version[at], shard.version);
            check_value("n", sums[i].after, shard.version, 0);
        }
    }
}
END_TEST

START_TEST(incr_sums_within_a_command)
{
    struct command_op ops[] = {incr("n", 1), incr("n", 2), del("n"), incr("n", 7), incr("n", -9)};
    struct outcome o = run(ops, 5);
    ck_assert(o.number[0] == 1 && o.number[1] == 3 && o.number[3] == 7 && o.number[4] == -2);
    check_value("n", "-2", 5, 0);
}
END_TEST

/* By the log's time, and by nothing else. */
START_TEST(expired_is_absent)
{
    struct command_op first = until(put("a", "1", 0, 0), 2000);
    uint64_t version = run(&first, 1).version[0];
    struct command_op cas = put("a", "2", COMMAND_IF_VERSION, version);
    struct command_op absent = until(put("a", "3", COMMAND_IF_ABSENT, 0), 2000);
    now = 1999;
    ck_assert_int_eq(run(&absent, 1).err[0], ERR_CONDITION_FAILED);
    now = 2000;
    struct outcome o = run(&cas, 1);
    ck_assert_int_eq(o.err[0], ERR_CONDITION_FAILED);
    ck_assert_uint_eq(o.version[0], 0);
    struct command_op t = until(touch("a"), 9000);
    ck_assert_int_eq(run(&t, 1).err[0], ERR_NOT_FOUND);
    struct command_op add = incr("a", 5);
    o = run(&add, 1);
    ck_assert_int_eq(o.err[0], ERR_OK);
    ck_assert_int_eq(o.number[0], 5);
    check_value("a", "5", o.version[0], 0);
    ck_assert_uint_gt(o.version[0], version);
    /* Born past its time, in the same command too. */
    struct command_op ops[] = {until(put("b", "1", 0, 0), 1000),
                               put("b", "2", COMMAND_IF_ABSENT, 0)};
    ck_assert_int_eq(run(ops, 2).err[1], ERR_OK);
    now = 1000; /* a command of an older clock: time does not go back */
    ck_assert_int_eq(run(&absent, 1).err[0], ERR_CONDITION_FAILED);
    ck_assert_uint_eq(shard.time_ms, 2000);
}
END_TEST

START_TEST(expiry_of_incr_and_touch)
{
    struct command_op make = until(incr("n", 1), 5000), more = until(incr("n", 1), 7000);
    run(&make, 1);
    check_value("n", "1", 1, 5000);
    run(&more, 1); /* it has its expiry already */
    check_value("n", "2", 2, 5000);
    struct command_op longer = until(touch("n"), 9000), persist = touch("n");
    ck_assert_uint_eq(run(&longer, 1).version[0], 3);
    check_value("n", "2", 3, 9000);
    run(&persist, 1);
    check_value("n", "2", 4, 0);
    struct command_op ops[] = {until(touch("n"), 9000), incr("n", 1), touch("n"), touch("gone")};
    struct outcome o = run(ops, 4);
    ck_assert_int_eq(o.err[3], ERR_NOT_FOUND);
    check_value("n", "3", 7, 0);
    struct command_op plain = put("n", "x", 0, 0);
    run(&longer, 1);
    run(&plain, 1); /* a put without one has none */
    check_value("n", "x", 9, 0);
    struct command_op cas = touch("n");
    cas.flags = COMMAND_IF_VERSION;
    cas.if_version = 8;
    ck_assert_int_eq(run(&cas, 1).err[0], ERR_CONDITION_FAILED);
}
END_TEST

/* ---- runs ---- */

static struct command_op with_more(struct command_op op)
{
    op.flags |= COMMAND_MORE;
    return op;
}

START_TEST(a_run_is_all)
{
    struct command_op ops[] = {with_more(incr("{t}a", 1)), with_more(put("{t}b", "1", 0, 0)),
                               put("{t}b", "2", COMMAND_IF_VERSION, 2), incr("{t}a", 1)};
    struct outcome o = run(ops, 4);
    for (uint32_t i = 0; i < 4; i++) {
        ck_assert_int_eq(o.err[i], ERR_OK);
        ck_assert_uint_eq(o.version[i], i + 1);
    }
    check_value("{t}a", "2", 4, 0);
    check_value("{t}b", "2", 3, 0);
}
END_TEST

START_TEST(a_run_is_none)
{
    struct command_op before[] = {put("{t}a", "x", 0, 0), put("{t}b", "y", 0, 0)};
    run(before, 2);
    struct command_op ops[] = {
        with_more(put("{t}a", "1", 0, 0)),
        with_more(put("{t}b", "2", COMMAND_IF_VERSION, 9)), /* fails */
        with_more(put("{t}a", "3", COMMAND_IF_ABSENT, 0)), /* fails: of the version that is there */
        with_more(incr("{t}b", 1)),                        /* fails */
        del("{t}a"),
        put("{t}c", "z", COMMAND_IF_ABSENT, 0), /* another op */
        incr("{t}c", 1),
    };
    struct outcome o = run(ops, 7);
    static const enum err expected[] = {ERR_NOT_APPLIED,      ERR_CONDITION_FAILED,
                                        ERR_CONDITION_FAILED, ERR_NOT_A_NUMBER,
                                        ERR_NOT_APPLIED,      ERR_OK,
                                        ERR_NOT_A_NUMBER};
    for (uint32_t i = 0; i < 7; i++)
        ck_assert_msg(o.err[i] == expected[i], "op %u: %s", i, err_name(o.err[i]));
    ck_assert_uint_eq(o.version[1], 2);
    ck_assert_uint_eq(o.version[2], 1);
    ck_assert_uint_eq(o.version[5], 3);
    check_value("{t}a", "x", 1, 0);
    check_value("{t}b", "y", 2, 0);
    check_value("{t}c", "z", 3, 0);
}
END_TEST

/* ---- sessions ---- */

static const uint8_t sid[16] = {1}, other[16] = {2};

static struct command_op in_session(struct command_op op, const uint8_t *id, uint64_t seq,
                                    uint64_t ack)
{
    op.flags |= COMMAND_SESSION;
    op.sid = id;
    op.seq = seq;
    op.ack = ack;
    op.until_ms = 5000;
    return op;
}

static void check_repeated(const struct command_op *ops, const struct outcome *first, uint32_t n)
{
    uint64_t version = shard.version;
    struct outcome o = run(ops, n);
    for (uint32_t i = 0; i < n; i++) {
        ck_assert(o.repeated[i]);
        ck_assert_int_eq(o.err[i], first->err[i]);
        ck_assert_uint_eq(o.version[i], first->version[i]);
        ck_assert_int_eq(o.number[i], first->number[i]);
    }
    ck_assert_uint_eq(shard.version, version);
}

/* Every definite outcome, though things have changed since. */
START_TEST(repeated_is_known)
{
    struct command_op ops[] = {
        in_session(put("a", "1", COMMAND_IF_ABSENT, 0), sid, 1, 1),
        in_session(put("a", "2", COMMAND_IF_ABSENT, 0), sid, 2, 1),
        in_session(incr("n", 3), sid, 3, 1),
        in_session(incr("n", 3), other, 3, 1), /* another client's third */
        in_session(incr("a", 1), sid, 4, 1),
        in_session(incr("n", INT64_MAX), sid, 5, 1),
        in_session(touch("gone"), sid, 6, 1),
        in_session(del("a"), sid, 7, 1),
        in_session(with_more(put("{t}a", "1", COMMAND_IF_ABSENT, 0)), sid, 8, 1),
        in_session(put("{t}b", "1", COMMAND_IF_VERSION, 99), sid, 9, 1),
    };
    struct outcome o = run(ops, 10);
    static const enum err expected[] = {
        ERR_OK,           ERR_CONDITION_FAILED, ERR_OK, ERR_OK,          ERR_OK,
        ERR_NOT_A_NUMBER, ERR_NOT_FOUND,        ERR_OK, ERR_NOT_APPLIED, ERR_CONDITION_FAILED};
    for (uint32_t i = 0; i < 10; i++) {
        ck_assert_msg(o.err[i] == expected[i], "op %u: %s", i, err_name(o.err[i]));
        ck_assert(!o.repeated[i]);
    }
    ck_assert_int_eq(o.number[3], 6);
    struct command_op change[] = {put("gone", "x", 0, 0), put("n", "no", 0, 0)};
    run(change, 2);
    check_repeated(ops, &o, 10);
    check_value("n", "no", shard.version, 0);
    /* After a restart. */
    dedupe_store(dedupe, shard.group, shard.first_slot, batch);
    ck_assert_int_eq(engine_write(db, batch), ERR_OK);
    engine_batch_clear(batch);
    ck_assert_int_eq(engine_flush(db), ERR_OK);
    dedupe_clear(dedupe);
    ck_assert_int_eq(dedupe_load(dedupe, db, shard.group, shard.first_slot, shard.time_ms), ERR_OK);
    check_repeated(ops, &o, 10);
}
END_TEST

START_TEST(too_late_is_refused)
{
    struct command_op a = in_session(incr("n", 1), sid, 1, 1),
                      b = in_session(incr("n", 1), sid, 5, 4);
    run(&a, 1);
    run(&b, 1);
    struct outcome o = run(&a, 1); /* below the floor */
    ck_assert_int_eq(o.err[0], ERR_UNKNOWN_OUTCOME);
    now = 5000;
    ck_assert_int_eq(run(&b, 1).err[0], ERR_OK);
    now = 5001;
    ck_assert_int_eq(run(&b, 1).err[0], ERR_UNKNOWN_OUTCOME);
    check_value("n", "2", 2, 0);
}
END_TEST

/* In one command: the repetition came while the first one was still on its way. */
START_TEST(repeated_within_a_command)
{
    struct command_op ops[] = {in_session(incr("n", 1), sid, 1, 1),
                               in_session(incr("n", 1), sid, 1, 1)};
    struct outcome o = run(ops, 2);
    ck_assert(!o.repeated[0] && o.repeated[1]);
    ck_assert_uint_eq(o.version[1], o.version[0]);
    check_value("n", "1", 1, 0);
}
END_TEST

START_TEST(wrong_shard_is_not_remembered)
{
    struct command_op op = in_session(incr("n", 1), sid, 1, 1);
    struct command_op batch2[] = {in_session(with_more(incr("n", 1)), sid, 2, 1),
                                  in_session(incr("n", 1), sid, 3, 1)};
    shard.first_slot = (uint16_t)(slot_of_key(slice_str("n")) + 1);
    ck_assert_int_eq(run(&op, 1).err[0], ERR_WRONG_SHARD);
    ck_assert_int_eq(run(batch2, 2).err[0], ERR_WRONG_SHARD);
    ck_assert_uint_eq(dedupe_results(dedupe), 0);
    shard.first_slot = 0;
    ck_assert_int_eq(run(&op, 1).err[0], ERR_OK);
    ck_assert_int_eq(run(batch2, 2).number[1], 3);
}
END_TEST

/* What is known of it is told; what is not may have been a part of the same: it is not done. */
START_TEST(half_known_run)
{
    struct command_op one = in_session(incr("{t}n", 1), sid, 1, 1);
    run(&one, 1);
    struct command_op ops[] = {in_session(with_more(incr("{t}n", 1)), sid, 1, 1),
                               in_session(incr("{t}n", 1), sid, 2, 1)};
    struct outcome o = run(ops, 2);
    ck_assert_int_eq(o.err[0], ERR_OK);
    ck_assert_int_eq(o.err[1], ERR_UNKNOWN_OUTCOME);
    check_value("{t}n", "1", 1, 0);
}
END_TEST

/* Entries of format 1 are in logs of an older release. */
START_TEST(old_format)
{
    static const uint8_t old[] = {1, 232, 3, 0, 0, 0, 0, 0, 0,   1,  0, 0, 0, /* head */
                                  1, 2,   1, 0, 1, 0, 0, 0, 'a', '1'};        /* put if absent */
    struct buf b = {0};
    struct outcome o = {0};
    buf_append(&b, old, sizeof old);
    ck_assert_int_eq(apply_command(&shard, dedupe, buf_slice(&b), db, batch, on_result, &o),
                     ERR_OK);
    ck_assert_int_eq(o.err[0], ERR_OK);
    buf_close(&b);
}
END_TEST

START_TEST(a_clock)
{
    now = 7777;
    run(NULL, 0);
    ck_assert_uint_eq(shard.time_ms, 7777);
    ck_assert_uint_eq(shard.version, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("apply");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, engine_world_close);
    tcase_add_test(t, versions_grow);
    tcase_add_test(t, conditions_see_earlier_commands);
    tcase_add_test(t, conditions_see_their_own_command);
    tcase_add_test(t, foreign_slots_are_refused);
    tcase_add_test(t, a_source_marks_what_changes);
    tcase_add_test(t, incr_adds);
    tcase_add_test(t, incr_sums_within_a_command);
    tcase_add_test(t, expired_is_absent);
    tcase_add_test(t, expiry_of_incr_and_touch);
    tcase_add_test(t, a_run_is_all);
    tcase_add_test(t, a_run_is_none);
    tcase_add_test(t, repeated_is_known);
    tcase_add_test(t, too_late_is_refused);
    tcase_add_test(t, repeated_within_a_command);
    tcase_add_test(t, wrong_shard_is_not_remembered);
    tcase_add_test(t, half_known_run);
    tcase_add_test(t, old_format);
    tcase_add_test(t, a_clock);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
