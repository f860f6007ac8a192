/* Applying commands: versions, conditions within and across commands, ranges, shard encoding. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "shardd/apply.h"
#include "shardd/engine_key.h"
#include "common/meta/slot.h"

static struct engine *engine;
static struct engine_db *db;
static struct engine_batch *batch;
static struct shard shard;
static struct dedupe *dedupe;
static uint64_t now = 1000;
static char path[512];

struct outcome {
    enum err err[16];
    uint64_t version[16];
    int64_t number[16];
    bool repeated[16];
    uint32_t n;
};

static void setup(void)
{
    char msg[256];
    const char *tmp = getenv("TEST_TMP");
    snprintf(path, sizeof path, "%s/db", tmp ? tmp : "/tmp");
    struct engine_options o = {0};
    ck_assert_int_eq(engine_create(&o, &engine, msg, sizeof msg), ERR_OK);
    (void)!engine_remove(engine, path);
    ck_assert_int_eq(engine_open(engine, path, true, &db, msg, sizeof msg), ERR_OK);
    batch = engine_batch_create();
    dedupe = dedupe_create();
    now = 1000;
    shard = (struct shard){.group = 1, .replica = 1, .first_slot = 0, .last_slot = 16383};
}

static void teardown(void)
{
    engine_batch_destroy(batch);
    dedupe_destroy(dedupe);
    engine_close(db);
    (void)!engine_remove(engine, path);
    engine_destroy(engine);
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

START_TEST(shard_round_trip)
{
    struct buf b = {0};
    struct shard out, in = {.group = 7,
                            .replica = 9,
                            .first_slot = 100,
                            .last_slot = 200,
                            .epoch = {3, 4},
                            .version = 12345,
                            .time_ms = 99};
    shard_encode(&in, &b);
    struct cursor c = cursor_of(buf_slice(&b));
    ck_assert_int_eq(shard_decode(&c, &out), ERR_OK);
    ck_assert(out.group == 7 && out.replica == 9 && out.first_slot == 100 && out.last_slot == 200 &&
              out.epoch.range == 3 && out.epoch.members == 4 && out.version == 12345 &&
              out.time_ms == 99);
    for (size_t n = 0; n < b.n; n++) {
        c = cursor_of(slice_of(b.p, n));
        ck_assert_int_ne(shard_decode(&c, &out), ERR_OK);
    }
    buf_close(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("apply");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, versions_grow);
    tcase_add_test(t, conditions_see_earlier_commands);
    tcase_add_test(t, conditions_see_their_own_command);
    tcase_add_test(t, foreign_slots_are_refused);
    tcase_add_test(t, a_source_marks_what_changes);
    tcase_add_test(t, shard_round_trip);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
