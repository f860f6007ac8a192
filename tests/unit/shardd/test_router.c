/* Writes as they come in over a socket: sessions, incr, touch, expiry, batches; what is refused at
 * the door; sessions over a restart. */
#include "tests/unit/shardd/core_world.h"

#include "common/meta/slot.h"
#include "shardd/engine_key.h"

static struct world w;
static struct client c;

static void setup(void)
{
    world_serve(&w, &c);
}

static void teardown(void)
{
    world_end(&w, &c);
}

static void restart(void)
{
    world_restart(&w, &c, world_wait_leader);
}

static struct msg_kv_request incr_of(const char *key, int64_t delta)
{
    return (struct msg_kv_request){.method = KV_METHOD_INCR, .key = slice_str(key), .delta = delta};
}

static struct msg_kv_request touch_of(const char *key)
{
    return (struct msg_kv_request){.method = KV_METHOD_TOUCH, .key = slice_str(key)};
}

static struct msg_kv_request with_ttl(struct msg_kv_request m, uint64_t ms)
{
    m.has_ttl = true;
    m.ttl_ms = ms;
    return m;
}

/* ---- single writes ---- */

START_TEST(repeated_over_a_restart)
{
    struct msg_kv_request first = in_session(incr_of("n", 5), 1);
    struct answer_seen a = client_call(&c, first);
    ck_assert_int_eq(a.err, ERR_OK);
    ck_assert_int_eq(client_call(&c, in_session(incr_of("n", 1), 2)).number, 6);
    for (int again = 0; again < 2; again++) {
        struct answer_seen b = client_call(&c, first);
        ck_assert_uint_eq(b.version, a.version);
        ck_assert_int_eq(b.number, 5);
        restart();
    }
    ck_assert_str_eq(client_call(&c, get_of("n")).value, "6");
}
END_TEST

START_TEST(errors_of_writes)
{
    ck_assert_int_eq(client_call(&c, touch_of("k")).err, ERR_NOT_FOUND);
    uint64_t version = client_call(&c, put_of("k", "text")).version;
    ck_assert_int_eq(client_call(&c, incr_of("k", 1)).err, ERR_NOT_A_NUMBER);
    struct msg_kv_request cas = put_of("k", "other");
    cas.if_absent = true;
    struct answer_seen a = client_call(&c, cas);
    ck_assert_int_eq(a.err, ERR_CONDITION_FAILED);
    ck_assert_uint_eq(a.present, version);
    ck_assert_uint_gt(client_call(&c, touch_of("k")).version, version);
}
END_TEST

static void look_at_expiry(struct world *world, void *arg)
{
    struct engine_value v;
    struct engine_value_head head;
    struct slice body, key = slice_str("k");
    uint8_t raw[ENGINE_KEY_MAX];
    struct replica *r = core_find_replica(world->core, 1);
    ck_assert_int_eq(engine_get(r->db, engine_key_data(raw, slot_of_key(key), key), false, &v),
                     ERR_OK);
    ck_assert_int_eq(engine_value_decode(v.data, &head, &body), ERR_OK);
    *(uint64_t *)arg = head.has_expiry ? head.expiry_ms : 0;
    engine_value_close(&v);
}

static uint64_t expiry(void)
{
    uint64_t ms;
    world_call(&w, look_at_expiry, &ms);
    return ms;
}

START_TEST(leader_stamps_expiry)
{
    uint64_t now = (uint64_t)time(NULL) * 1000;
    client_call(&c, with_ttl(put_of("k", "1"), 60000));
    ck_assert(expiry() >= now + 60000 && expiry() < now + 90000);
    client_call(&c, incr_of("k", 1));
    ck_assert(expiry() >= now + 60000 && expiry() < now + 90000);
    client_call(&c, with_ttl(touch_of("k"), UINT64_MAX));
    ck_assert_uint_eq(expiry(), UINT64_MAX);
    client_call(&c, touch_of("k"));
    ck_assert_uint_eq(expiry(), 0);
    client_call(&c, with_ttl(put_of("k", "5"), 20));
    usleep(40000);
    ck_assert_int_eq(client_call(&c, touch_of("k")).err, ERR_NOT_FOUND);
    ck_assert_int_eq(client_call(&c, incr_of("k", 1)).number, 1);
}
END_TEST

static enum err session_err(uint64_t seq, uint64_t ack, int64_t ahead_ms)
{
    struct msg_kv_request m = in_session(put_of("k", "1"), seq);
    m.session.ack = ack;
    m.session.until_ms = (uint64_t)((int64_t)time(NULL) * 1000 + ahead_ms);
    struct answer_seen a = client_call(&c, m);
    ck_assert_int_eq(a.err == ERR_UNKNOWN_OUTCOME, a.time_ms != 0);
    if (a.time_ms) /* the log's: the clock of the wall, at the last write */
        ck_assert(a.time_ms > m.session.until_ms && a.time_ms <= m.session.until_ms + 30000);
    return a.err;
}

START_TEST(sessions_that_are_refused)
{
    int64_t retention = SESSION_RETENTION_MS;
    ck_assert_int_eq(session_err(1, 1, retention), ERR_OK);
    ck_assert_int_eq(session_err(2, 0, 2 * retention - 5000), ERR_OK);
    ck_assert_int_eq(session_err(3, 1, 2 * retention + 5000), ERR_BAD_REQUEST);
    ck_assert_int_eq(session_err(4, 5, retention), ERR_BAD_REQUEST);
    ck_assert_int_eq(session_err(UINT64_MAX, 1, retention), ERR_BAD_REQUEST);
    ck_assert_int_eq(session_err(5, 1, -5000), ERR_UNKNOWN_OUTCOME);
}
END_TEST

static void fill_sessions(struct world *world, void *arg)
{
    struct replica *r = core_find_replica(world->core, 1);
    uint8_t sid[16] = {1};
    struct command_op op = {.flags = COMMAND_SESSION, .sid = sid, .seq = 1, .ack = 1};
    struct dedupe_result ok = {ERR_OK, 1, 0};
    op.until_ms = *(uint64_t *)arg;
    for (uint32_t i = 0; i < LIMIT_SHARD_SESSIONS; i++) {
        memcpy(sid + 4, &i, sizeof i);
        dedupe_record(r->dedupe, &op, 1, r->shard.time_ms, &ok);
    }
    struct engine_batch *b = engine_batch_create();
    dedupe_store(r->dedupe, 1, 0, b);
    engine_batch_destroy(b);
}

/* Full: refused before it is proposed; what is past its time makes room, though nothing is written
 * that could bring the log's time up. */
START_TEST(too_many_sessions)
{
    uint64_t until = (uint64_t)time(NULL) * 1000 + 3000;
    ck_assert_int_eq(client_call(&c, put_of("k", "1")).err, ERR_OK);
    world_call(&w, fill_sessions, &until);
    ck_assert_int_eq(client_call(&c, in_session(put_of("k", "2"), 1)).err, ERR_BUSY);
    ck_assert_int_eq(client_call(&c, put_of("k", "3")).err, ERR_OK); /* without one */
    struct answer_seen a = {.err = ERR_BUSY};
    for (unsigned i = 0; i < 100 && a.err == ERR_BUSY; i++) {
        usleep(100000);
        a = client_call(&c, in_session(put_of("k", "4"), 2));
    }
    ck_assert_int_eq(a.err, ERR_OK);
}
END_TEST

/* ---- batches ---- */

struct many {
    struct msg_kv_request request;
    struct buf items;
};

static void add(struct many *m, struct msg_kv_request op)
{
    msg_kv_put_op(&m->items, &op);
    m->request.n++;
}

/* Takes what `m` has gathered. */
static struct answer_seen run(struct many *m)
{
    m->request.method = KV_METHOD_BATCH;
    m->request.items = buf_slice(&m->items);
    struct answer_seen a = client_call(&c, m->request);
    buf_close(&m->items);
    *m = (struct many){0};
    return a;
}

static struct msg_kv_request numbered(struct msg_kv_request m, uint64_t seq)
{
    m.seq = seq;
    return m;
}

START_TEST(a_batch_has_a_result_for_each)
{
    struct many m = {0};
    struct msg_kv_request absent = put_of("b", "2"), empty = put_of("", "x");
    absent.if_absent = true;
    add(&m, put_of("a", "1"));
    add(&m, absent);
    add(&m, absent);
    add(&m, empty);
    add(&m, incr_of("a", 4));
    add(&m, touch_of("none"));
    struct answer_seen a = run(&m);
    static const enum err expected[] = {ERR_OK,        ERR_OK, ERR_CONDITION_FAILED,
                                        ERR_KEY_EMPTY, ERR_OK, ERR_NOT_FOUND};
    ck_assert_int_eq(a.err, ERR_OK);
    ck_assert_uint_eq(a.n_items, 6);
    for (unsigned i = 0; i < 6; i++)
        ck_assert_msg(a.item[i].err == expected[i], "%u: %s", i, err_name(a.item[i].err));
    ck_assert_uint_eq(a.item[2].result.version, a.item[1].result.version);
    ck_assert_int_eq(a.item[4].result.number, 5);
    ck_assert_str_eq(client_call(&c, get_of("a")).value, "5");
    add(&m, empty); /* nothing of it goes into an entry */
    ck_assert_int_eq(run(&m).item[0].err, ERR_KEY_EMPTY);
}
END_TEST

static void session_batch(struct many *m)
{
    m->request.session = in_session(put_of("", ""), 1).session;
    add(m, numbered(incr_of("{t}a", 1), 1));
    add(m, numbered(incr_of("{t}b", 1), 2));
}

START_TEST(a_batch_that_comes_too_late)
{
    struct many m = {0};
    uint64_t now = (uint64_t)time(NULL) * 1000;
    session_batch(&m);
    m.request.session.until_ms = now - 5000;
    struct answer_seen a = run(&m);
    ck_assert_int_eq(a.item[0].err, ERR_UNKNOWN_OUTCOME);
    ck_assert_int_eq(a.item[1].err, ERR_UNKNOWN_OUTCOME);
    ck_assert(a.time_ms >= now && a.time_ms <= now + 30000);
    session_batch(&m);
    a = run(&m);
    ck_assert(a.item[0].err == ERR_OK && a.item[0].result.number == 1); /* nothing was done */
    ck_assert_uint_eq(a.time_ms, 0);
}
END_TEST

START_TEST(all_or_nothing)
{
    struct many m = {0};
    struct msg_kv_request absent = put_of("{t}a", "2");
    absent.if_absent = true;
    m.request.all = true;
    session_batch(&m);
    ck_assert_int_eq(run(&m).err, ERR_OK);
    m.request.all = true;
    add(&m, incr_of("{t}b", 1));
    add(&m, absent);
    struct answer_seen a = run(&m);
    ck_assert_int_eq(a.item[0].err, ERR_NOT_APPLIED);
    ck_assert_int_eq(a.item[1].err, ERR_CONDITION_FAILED);
    ck_assert_str_eq(client_call(&c, get_of("{t}b")).value, "1");
    restart();
    m.request.all = true;
    session_batch(&m);
    a = run(&m);
    ck_assert(a.item[0].result.number == 1 && a.item[1].result.number == 1);
    ck_assert_str_eq(client_call(&c, get_of("{t}a")).value, "1");
    m.request.all = true;
    add(&m, incr_of("{t}b", 1));
    add(&m, incr_of("{u}b", 1));
    ck_assert_int_eq(run(&m).err, ERR_CROSS_SLOT);
    m.request.all = true;
    add(&m, incr_of("{t}b", 1));
    add(&m, put_of("", "1"));
    ck_assert_int_eq(run(&m).err, ERR_KEY_EMPTY);
    session_batch(&m);
    add(&m, incr_of("{t}b", 1)); /* in a session, but without a number */
    ck_assert_int_eq(run(&m).err, ERR_BAD_REQUEST);
    ck_assert_str_eq(client_call(&c, get_of("{t}b")).value, "1");
}
END_TEST

static void shrink(struct world *world, void *arg)
{
    core_find_replica(world->core, 1)->shard.last_slot = *(uint16_t *)arg;
}

/* Keys of other shards, as far as the leader knows when the batch comes. */
START_TEST(others_are_told)
{
    uint16_t a = slot_of_key(slice_str("a")), b = slot_of_key(slice_str("b"));
    const char *low = a < b ? "a" : "b", *high = a < b ? "b" : "a";
    uint16_t cut = a < b ? a : b;
    struct many m = {0};
    world_call(&w, shrink, &cut);
    add(&m, put_of(low, "1"));
    add(&m, put_of(high, "2"));
    add(&m, put_of(low, "3"));
    struct answer_seen seen = run(&m);
    ck_assert_int_eq(seen.item[0].err, ERR_OK);
    ck_assert_int_eq(seen.item[1].err, ERR_WRONG_SHARD);
    ck_assert_int_eq(seen.item[2].err, ERR_OK);
    add(&m, put_of(high, "2"));
    ck_assert_int_eq(run(&m).err, ERR_WRONG_SHARD); /* all of it goes elsewhere */
    cut = LIMIT_SLOTS - 1;
    world_call(&w, shrink, &cut);
    ck_assert_int_eq(client_call(&c, get_of(high)).err, ERR_NOT_FOUND);
}
END_TEST

/* As large as they may be, many at once: entries have a bound. */
START_TEST(large_batches)
{
    enum { VALUE = 1000000, OPS = 8, BATCHES = 3 };
    char *value = malloc(VALUE + 1);
    memset(value, 'v', VALUE);
    value[VALUE] = 0;
    for (unsigned k = 0; k < BATCHES; k++) {
        struct many m = {0};
        for (unsigned i = 0; i < OPS; i++)
            add(&m, put_of("{t}big", value));
        add(&m, incr_of("{t}n", 1));
        m.request.method = KV_METHOD_BATCH;
        m.request.all = k == 1;
        m.request.items = buf_slice(&m.items);
        client_add(&c, m.request);
        buf_close(&m.items);
    }
    client_send(&c);
    for (unsigned k = 0; k < BATCHES; k++) {
        struct answer_seen a = client_take(&c, KV_METHOD_BATCH);
        ck_assert_int_eq(a.err, ERR_OK);
        ck_assert_uint_eq(a.n_items, OPS + 1);
        ck_assert_int_eq(a.item[OPS].result.number, k + 1);
    }
    free(value);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("router");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, repeated_over_a_restart);
    tcase_add_test(t, errors_of_writes);
    tcase_add_test(t, leader_stamps_expiry);
    tcase_add_test(t, sessions_that_are_refused);
    tcase_add_test(t, too_many_sessions);
    tcase_add_test(t, a_batch_has_a_result_for_each);
    tcase_add_test(t, a_batch_that_comes_too_late);
    tcase_add_test(t, all_or_nothing);
    tcase_add_test(t, others_are_told);
    tcase_add_test(t, large_batches);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
