/* Writes to a shard whose log is ahead of all clocks: what is refused as too late is sent again
 * with a time that it takes, but never if it may have been applied. */
#include "common/meta/slot.h"
#include "tests/unit/client/core_world.h"

#define RETAIN 1000ULL
#define AHEAD (3600 * 1000ULL)

/* The log of the only shard: it stands still, or runs as the clock of a leader that is ahead. */
static uint64_t log_ms;
static bool running;
static unsigned n_refused;

static void setup_late(void)
{
    setup();
    retain_ms = RETAIN;
    log_ms = SERVER_TIME + AHEAD;
    running = false;
    n_refused = 0;
}

static uint64_t log_time(void)
{
    return log_ms + (running ? (now - BEGINNING) / NS_PER_MS : 0);
}

static void reply_items(const struct asked *a, enum err e, uint64_t time_ms)
{
    struct buf b = {0};
    msg_kv_begin_items(&b, a->msgid, a->q.n);
    for (uint32_t i = 0; i < a->q.n; i++)
        msg_kv_put_item(&b, KV_METHOD_BATCH,
                        &(struct msg_kv_item){.err = e, .result = {.version = i + 1}});
    msg_kv_end_items(&b, (struct msg_kv_extra){.time_ms = time_ms});
    feed(a->conn, &b);
}

/* As a server does: refused if it is too late, and never further ahead than servers take. */
static void serve(const struct asked *a)
{
    struct rpc_error late = {
        .err = ERR_UNKNOWN_OUTCOME, .maybe_applied = true, .time_ms = log_time()};
    bool refuse = log_time() > a->q.session.until_ms;
    ck_assert_uint_le(a->q.session.until_ms, log_time() + 2 * RETAIN);
    n_refused += refuse;
    if (a->q.method == KV_METHOD_BATCH)
        reply_items(a, refuse ? ERR_UNKNOWN_OUTCOME : ERR_OK, refuse ? log_time() : 0);
    else if (refuse)
        reply_error(a, &late);
    else
        reply_version(a, 77);
}

/* Puts, and serves all that comes of it. */
static void put(struct op *o)
{
    struct asked a;
    submit(o, KV_METHOD_PUT, "k", 2000);
    if (!wires[0].established)
        give_map(1);
    while (!o->answers && next_asked(2000, &a))
        serve(&a);
    ck_assert_int_eq(o->answers, 1);
}

START_TEST(refused_and_sent_anew)
{
    static struct op o;
    struct asked a;
    submit(&o, KV_METHOD_PUT, "k", 2000);
    a = first_asked();
    uint64_t seq = a.q.seq;
    serve(&a);
    ck_assert_uint_eq(n_refused, 1);
    ck_assert(next_asked(100, &a));
    ck_assert_uint_gt(a.q.seq, seq);
    ck_assert_uint_eq(a.q.session.ack, a.q.seq);
    ck_assert_uint_ge(a.q.session.until_ms, log_ms + RETAIN);
    serve(&a);
    ck_assert_int_eq(o.err, ERR_OK);
    put(&o);
    ck_assert_int_eq(o.err, ERR_OK);
    ck_assert_uint_eq(n_refused, 1); /* known from now on */
}
END_TEST

/* For many times the retention, whether the log's time stands still or runs. */
START_TEST(what_is_known_stays_good)
{
    static struct op o;
    unsigned writes = 0;
    running = _i;
    for (; writes < 100; writes++) {
        put(&o);
        ck_assert_int_eq(o.err, ERR_OK);
        advance(100);
    }
    ck_assert_uint_le(n_refused, running ? 10 : 1);
}
END_TEST

/* One that may have been applied stays unknown, at once. */
START_TEST(unsure_and_refused)
{
    static struct op o;
    struct asked a;
    submit(&o, KV_METHOD_PUT, "k", 60000);
    a = first_asked();
    lose(a.conn);
    ck_assert(next_asked(900, &a));
    serve(&a);
    ck_assert_int_eq(o.answers, 1);
    ck_assert_int_eq(o.err, ERR_UNKNOWN_OUTCOME);
    ck_assert(o.maybe);
    ck_assert(!next_asked(1000, &a));
}
END_TEST

/* A server that refuses whatever it gets. */
START_TEST(refused_to_the_end)
{
    static struct op o;
    struct asked a;
    struct rpc_error late = {.err = ERR_UNKNOWN_OUTCOME, .maybe_applied = true};
    unsigned requests = 0;
    submit(&o, KV_METHOD_PUT, "k", 1000);
    give_map(1);
    for (; next_asked(1100, &a) && !o.answers; requests++) {
        late.time_ms = requests % 2 ? UINT64_MAX : a.q.session.until_ms + 1;
        reply_error(&a, &late);
    }
    ck_assert_int_eq(o.err, ERR_TIMEOUT);
    ck_assert(!o.maybe); /* none of them was applied */
    ck_assert_uint_gt(requests, 3);
    ck_assert_uint_lt(requests, 50);
}
END_TEST

/* ---- batches ---- */

#define ITEMS 3

static struct client_many many;
static struct client_item items[ITEMS];
static struct client_result results[ITEMS];
static unsigned done;

static void on_item(struct client_many *m, uint32_t i, const struct client_result *r)
{
    (void)m;
    results[i] = *r;
}

static void on_many(struct client_many *m)
{
    (void)m;
    done++;
}

static void submit_batch(bool all)
{
    done = 0;
    memset(items, 0, sizeof(items));
    for (unsigned i = 0; i < ITEMS; i++)
        items[i] = (struct client_item){
            .method = KV_METHOD_PUT, .key = slice_str("k"), .value = slice_str("v")};
    many = (struct client_many){.method = KV_METHOD_BATCH,
                                .all = all,
                                .deadline = now + 60 * NS_PER_S,
                                .items = items,
                                .n = ITEMS,
                                .item_done = on_item,
                                .done = on_many};
    client_core_submit_many(core, &many, now);
    client_core_flush(core, now);
    give_map(1);
}

START_TEST(a_batch_is_sent_anew)
{
    struct asked a;
    submit_batch(_i);
    ck_assert(next_asked(100, &a));
    ck_assert_uint_eq(a.q.session.ack, 1);
    serve(&a);
    ck_assert_uint_eq(n_refused, 1);
    ck_assert(next_asked(100, &a));
    ck_assert_uint_eq(a.q.n, ITEMS);
    ck_assert_uint_eq(a.q.session.ack, 1 + ITEMS);
    serve(&a);
    ck_assert_uint_eq(done, 1);
    for (unsigned i = 0; i < ITEMS; i++)
        ck_assert_int_eq(results[i].err, ERR_OK);
}
END_TEST

START_TEST(a_batch_that_is_unsure)
{
    struct asked a;
    submit_batch(_i);
    ck_assert(next_asked(100, &a));
    uint64_t until = a.q.session.until_ms;
    lose(a.conn);
    ck_assert(next_asked(900, &a));
    ck_assert_uint_eq(a.q.session.until_ms, until);
    serve(&a);
    ck_assert_uint_eq(done, 1);
    for (unsigned i = 0; i < ITEMS; i++) {
        ck_assert_int_eq(results[i].err, ERR_UNKNOWN_OUTCOME);
        ck_assert(results[i].maybe_applied);
    }
    ck_assert(!next_asked(1000, &a));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client_late");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup_late, teardown);
    tcase_add_test(t, refused_and_sent_anew);
    tcase_add_loop_test(t, what_is_known_stays_good, 0, 2);
    tcase_add_test(t, unsure_and_refused);
    tcase_add_test(t, refused_to_the_end);
    tcase_add_loop_test(t, a_batch_is_sent_anew, 0, 2);
    tcase_add_loop_test(t, a_batch_that_is_unsure, 0, 2);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
