/* Many keys in one call, against a small model of a cluster whose map moves: three nodes, some
 * shards, writes known by their numbers, replies lost and connections too. */
#include "common/base/map.h"
#include "common/meta/slot.h"
#include "tests/unit/client/core_world.h"

#define SHARDS_MAX 16
#define KEYS 300
#define ITEMS_MAX 6000

static struct {
    unsigned n; /* shards */
    struct shard_desc shard[SHARDS_MAX];
    uint64_t version, next_group, next_version;
    bool tell;          /* changes are told by the map's connection, not only by redirects */
    unsigned trouble;   /* percent of requests that something happens to */
    uint64_t too_large; /* values of an mget beyond so many bytes; 0: no such bound */
    unsigned requests, largest;
    struct map done;            /* seq -> 1 + what it gave, of writes that were applied */
    uint64_t last_of_key[KEYS]; /* the last item that was applied to it, + 1 */
    unsigned applied[ITEMS_MAX];
    struct rng rng;
} w;

static char keys[KEYS][32];

static void setup_world(void)
{
    setup();
    memset(&w, 0, sizeof(w));
    map_init(&w.done);
    rng_seed(&w.rng, 1);
    retain_ms = 600000;
    w.next_group = 100;
    w.version = 1;
    for (unsigned i = 0; i < KEYS; i++)
        snprintf(keys[i], sizeof(keys[i]), "key%u", i);
}

static void teardown_world(void)
{
    teardown();
    map_close(&w.done);
}

static void make_shards(unsigned n)
{
    w.n = n;
    for (unsigned i = 0; i < n; i++) {
        struct shard_desc *s = &w.shard[i];
        *s = (struct shard_desc){.group = w.next_group++,
                                 .first_slot = (uint16_t)(i * LIMIT_SLOTS / n),
                                 .last_slot = (uint16_t)((i + 1) * LIMIT_SLOTS / n - 1),
                                 .epoch = {1, 1},
                                 .leader = 11 + i % NODES,
                                 .n_replicas = NODES};
        for (uint32_t k = 0; k < NODES; k++)
            s->replica[k] = (struct shard_replica){.replica = 11 + k, .node = k + 1, .role = 1};
    }
}

static void put_world(struct buf *b)
{
    struct shard_map m;
    shard_map_init(&m);
    m.version = w.version;
    for (uint32_t i = 1; i <= NODES; i++) {
        struct shard_node n = {.node = i, .cores = 1};
        snprintf(n.name, sizeof(n.name), "n%u", i);
        snprintf(n.client_addr, sizeof(n.client_addr), "10.1.0.%u:1", i);
        shard_map_put_node(&m, &n);
    }
    for (unsigned i = 0; i < w.n; i++)
        shard_map_put_shard(&m, &w.shard[i]);
    msg_map_encode(b, &m);
    shard_map_close(&m);
}

static void give_world(void)
{
    struct rpc_message m;
    struct buf b = {0};
    accept_conn(0, 99);
    ck_assert(next_request(0, &m) && is_method(&m, "map.watch"));
    rpc_put_result(&b, m.msgid);
    put_world(&b);
    feed(0, &b);
}

static void tell_world(void)
{
    struct buf b = {0};
    if (!w.tell || !wires[0].established)
        return;
    rpc_put_notify(&b, "map.changed");
    mp_put_array(&b, 1);
    put_world(&b);
    feed(0, &b);
}

/* Splits a shard or gives it another leader. */
static void move_something(void)
{
    struct shard_desc *s = &w.shard[rng_below(&w.rng, w.n)];
    w.version++;
    if (rng_below(&w.rng, 2) && w.n < SHARDS_MAX && s->last_slot - s->first_slot > 100) {
        struct shard_desc *right = &w.shard[w.n++];
        *right = *s;
        s->epoch.range++;
        right->epoch.range = s->epoch.range;
        s->last_slot = (uint16_t)((s->first_slot + s->last_slot) / 2);
        right->first_slot = (uint16_t)(s->last_slot + 1);
        right->group = w.next_group++;
        right->leader = 11 + rng_below(&w.rng, NODES);
    } else {
        s->epoch.members++;
        s->leader = 11 + rng_below(&w.rng, NODES);
    }
    tell_world();
}

static const struct shard_desc *shard_at(uint16_t slot)
{
    for (unsigned i = 0; i < w.n; i++)
        if (slot >= w.shard[i].first_slot && slot <= w.shard[i].last_slot)
            return &w.shard[i];
    ck_abort_msg("no shard of slot %u", slot);
}

static bool leads(const struct shard_desc *s, uint32_t node)
{
    return s->leader == 10 + node;
}

/* ---- what a node does ---- */

static unsigned key_number(struct slice key)
{
    char text[32];
    snprintf(text, sizeof(text), "%.*s", (int)key.n, (const char *)key.p);
    return (unsigned)atoi(text + 3);
}

/* Every write of the tests is an incr with its item's index + 1 as the delta. */
static struct msg_kv_item apply(const struct msg_kv_request *op)
{
    struct msg_kv_item r = {.err = ERR_OK};
    uint64_t item = (uint64_t)op->delta;
    unsigned key = key_number(op->key);
    void *known = map_find(&w.done, op->seq);
    ck_assert_int_eq(op->method, KV_METHOD_INCR);
    ck_assert_uint_ge(op->seq, 1);
    if (!known) {
        ck_assert_msg(item > w.last_of_key[key], "item %u after %u", (unsigned)item,
                      (unsigned)w.last_of_key[key]);
        w.last_of_key[key] = item;
        w.applied[item - 1]++;
        known = (void *)(uintptr_t)(1 + ++w.next_version);
        map_set(&w.done, op->seq, known);
    }
    r.result.version = (uint64_t)(uintptr_t)known - 1;
    r.result.number = op->delta;
    return r;
}

static struct msg_kv_item read_key(struct slice key, uint64_t *bytes)
{
    struct msg_kv_item r = {.err = ERR_OK, .result = {.value = key, .version = 9}};
    if (key.n == 4) /* key0 to key9 are not there */
        r = (struct msg_kv_item){.err = ERR_NOT_FOUND};
    *bytes += r.result.value.n;
    if (w.too_large && *bytes > w.too_large)
        r = (struct msg_kv_item){.err = ERR_TOO_LARGE};
    return r;
}

static void serve_items(const struct asked *a, const struct shard_desc *s, struct buf *b)
{
    struct mp_reader items = mp_reader_of(a->q.items);
    uint64_t bytes = 0;
    uint64_t unlucky = w.trouble ? rng_below(&w.rng, 4 * a->q.n) : a->q.n;
    msg_kv_begin_items(b, a->msgid, a->q.n);
    for (uint32_t i = 0; i < a->q.n; i++) {
        struct msg_kv_request op = {0};
        struct msg_kv_item r;
        if (a->q.method == KV_METHOD_MGET)
            op.key = msg_kv_next_key(&items);
        else
            msg_kv_next_op(&items, &op);
        uint16_t slot = slot_of_key(op.key);
        if (slot < s->first_slot || slot > s->last_slot)
            r = (struct msg_kv_item){.err = ERR_WRONG_SHARD};
        else if (a->q.method == KV_METHOD_MGET && i == unlucky)
            r = (struct msg_kv_item){.err = ERR_BUSY};
        else if (a->q.method == KV_METHOD_MGET)
            r = read_key(op.key, &bytes);
        else
            r = apply(&op);
        if (a->q.method == KV_METHOD_BATCH && r.err == ERR_OK && i == unlucky)
            r = (struct msg_kv_item){.err = ERR_UNKNOWN_OUTCOME}; /* it was applied */
        msg_kv_put_item(b, a->q.method, &r);
    }
    msg_kv_end_items(b, (struct msg_kv_extra){.at = a->q.level ? 1000 : 0});
}

static void serve_single(const struct asked *a, struct buf *b)
{
    uint64_t bytes = 0, too_large = w.too_large;
    struct msg_kv_item r;
    w.too_large = 0; /* alone, everything fits */
    if (a->q.method == KV_METHOD_GET) {
        r = read_key(a->q.key, &bytes);
        if (r.err == ERR_OK)
            msg_kv_put_get_result(b, a->msgid, &r.result);
        else
            rpc_put_error_simple(b, a->msgid, r.err, NULL);
    } else {
        r = apply(&a->q);
        msg_kv_put_number(b, a->msgid, r.result.version, r.result.number);
    }
    w.too_large = too_large;
}

static void refuse(const struct asked *a, struct buf *b)
{
    struct rpc_error e = {.err = ERR_WRONG_SHARD};
    struct buf map = {0};
    put_world(&map);
    e.map = buf_slice(&map);
    rpc_put_error(b, a->msgid, &e);
    buf_close(&map);
}

static void serve(const struct asked *a)
{
    struct buf b = {0};
    const struct shard_desc *s = shard_at(slot_of_key(a->q.key));
    bool trouble = rng_below(&w.rng, 100) < w.trouble;
    uint64_t kind = rng_below(&w.rng, 4);
    w.requests++;
    if (a->q.n > w.largest)
        w.largest = a->q.n;
    if (trouble && kind == 0)
        move_something();
    if (trouble && kind == 1) {
        lose(a->conn); /* before it was done */
        return;
    }
    if (!leads(s, a->node))
        refuse(a, &b);
    else if (trouble && kind == 2)
        rpc_put_error_simple(&b, a->msgid, ERR_BUSY, NULL);
    else if (a->q.n)
        serve_items(a, s, &b);
    else
        serve_single(a, &b);
    if (trouble && kind == 3)
        lose(a->conn); /* after it was done */
    else
        feed(a->conn, &b);
    buf_close(&b);
}

/* ---- a call ---- */

static struct {
    struct client_many many;
    struct client_item items[ITEMS_MAX];
    enum err err[ITEMS_MAX];
    bool maybe[ITEMS_MAX];
    int64_t number[ITEMS_MAX];
    char value[ITEMS_MAX][16];
    unsigned answers[ITEMS_MAX];
    unsigned done;
} call;

static void on_item(struct client_many *m, uint32_t i, const struct client_result *r)
{
    ck_assert_ptr_eq(m, &call.many);
    ck_assert_uint_eq(call.done, 0);
    call.answers[i]++;
    call.err[i] = r->err;
    call.maybe[i] = r->maybe_applied;
    call.number[i] = r->number;
    snprintf(call.value[i], sizeof(call.value[i]), "%.*s", (int)r->value.n,
             (const char *)r->value.p);
}

static void on_all(struct client_many *m)
{
    ck_assert_ptr_eq(m, &call.many);
    call.done++;
}

/* `n` items over the first `n_keys` keys. */
static void run_call(enum kv_method method, uint32_t n, unsigned n_keys, unsigned timeout_ms)
{
    memset(&call, 0, sizeof(call));
    call.many = (struct client_many){.method = method,
                                     .deadline = now + timeout_ms * NS_PER_MS,
                                     .bytes_max = 1000000,
                                     .items = call.items,
                                     .n = n,
                                     .item_done = on_item,
                                     .done = on_all};
    for (uint32_t i = 0; i < n; i++) {
        call.items[i].method = method == KV_METHOD_MGET ? KV_METHOD_GET : KV_METHOD_INCR;
        call.items[i].key = slice_str(keys[n_keys == n ? i : rng_below(&w.rng, n_keys)]);
        call.items[i].delta = i + 1;
    }
    client_core_submit_many(core, &call.many, now);
    ck_assert_uint_eq(call.done, 0);
    client_core_flush(core, now);
    if (!wires[0].established)
        give_world();
}

static void go_on(unsigned ms)
{
    struct asked a;
    for (uint64_t end = now + ms * NS_PER_MS; now < end && !call.done;) {
        if (wires[0].open && !wires[0].established)
            accept_conn(0, 99);
        struct rpc_message m;
        if (wires[0].open && next_request(0, &m)) {
            struct buf b = {0};
            rpc_put_result(&b, m.msgid);
            mp_put_nil(&b); /* placementd has heard of nothing */
            feed(0, &b);
        }
        if (next_asked(2, &a))
            serve(&a);
    }
}

static void check_all(uint32_t n, bool writes)
{
    ck_assert_uint_eq(call.done, 1);
    for (uint32_t i = 0; i < n; i++) {
        ck_assert_uint_eq(call.answers[i], 1);
        ck_assert_msg(call.err[i] == ERR_OK || (!writes && call.err[i] == ERR_NOT_FOUND),
                      "item %u: %s", i, err_name(call.err[i]));
        if (writes) {
            ck_assert_uint_eq(w.applied[i], 1);
            ck_assert_int_eq(call.number[i], i + 1);
        } else {
            ck_assert(slice_eq(slice_str(call.value[i]), call.items[i].key) ==
                      (call.items[i].key.n > 4));
        }
    }
}

START_TEST(mget_over_shards)
{
    make_shards(6);
    run_call(KV_METHOD_MGET, 100, 100, 5000);
    go_on(5000);
    check_all(100, false);
    ck_assert_uint_eq(w.requests, 6); /* one a shard */
}
END_TEST

START_TEST(one_key_goes_as_a_get)
{
    make_shards(3);
    run_call(KV_METHOD_MGET, 1, 300, 5000);
    go_on(5000);
    check_all(1, false);
    ck_assert_uint_eq(w.largest, 0);
}
END_TEST

START_TEST(too_large_ones_are_read_alone)
{
    make_shards(2);
    w.too_large = 200;
    run_call(KV_METHOD_MGET, 300, 300, 5000);
    go_on(5000);
    check_all(300, false);
    ck_assert_uint_gt(w.requests, 200);
}
END_TEST

START_TEST(a_bound_on_the_values)
{
    unsigned refused = 0;
    make_shards(2);
    run_call(KV_METHOD_MGET, 300, 300, 5000);
    call.many.bytes_max = 1000;
    go_on(5000);
    ck_assert_uint_eq(call.done, 1);
    for (unsigned i = 0; i < 300; i++)
        refused += call.err[i] == ERR_TOO_LARGE;
    ck_assert_uint_gt(refused, 50);
    ck_assert_uint_lt(refused, 200);
}
END_TEST

START_TEST(larger_than_a_request)
{
    make_shards(1);
    run_call(KV_METHOD_BATCH, 6000, KEYS, 10000); /* keys occur some twenty times */
    go_on(10000);
    check_all(6000, true);
    ck_assert_uint_eq(w.largest, LIMIT_BATCH);
    ck_assert_uint_lt(w.requests, 60);
}
END_TEST

/* Everything that can happen, with seeds. Effects are counted in apply(). */
START_TEST(trouble)
{
    bool writes = _i % 3 != 0;
    uint32_t n = _i % 10 == 9 ? 3000 : _i % 2 ? 400 : 40;
    rng_seed(&w.rng, (uint64_t)_i + 1);
    make_shards(_i % 10 == 9 ? 1 : 1 + (unsigned)_i % 5);
    w.trouble = 40;
    w.tell = _i % 4 < 2;
    w.too_large = _i % 7 == 0 ? 300 : 0;
    run_call(writes ? KV_METHOD_BATCH : KV_METHOD_MGET, n, KEYS, 60000);
    for (int i = 0; i < 20 && !call.done; i++) {
        go_on(20);
        if (i < 10)
            move_something();
    }
    go_on(60000);
    check_all(n, writes);
}
END_TEST

/* Answers stop: what was done is told, the rest fails in time. */
START_TEST(deadline_and_close)
{
    struct asked a;
    unsigned ok = 0, unknown = 0;
    make_shards(4);
    run_call(KV_METHOD_BATCH, 200, 200, 1000);
    ck_assert(next_asked(10, &a));
    serve(&a);
    for (int i = 0; i < 3; i++) /* the others are taken, and not answered */
        ck_assert(next_asked(10, &a));
    if (_i == 0)
        advance(1100);
    else
        client_core_fail_all(core, ERR_CLOSED);
    ck_assert_uint_eq(call.done, 1);
    for (unsigned i = 0; i < 200; i++) {
        ck_assert_uint_eq(call.answers[i], 1);
        ok += call.err[i] == ERR_OK;
        unknown += call.maybe[i];
        ck_assert(call.err[i] == ERR_OK || call.maybe[i] || !w.applied[i]);
    }
    ck_assert_uint_gt(ok, 20);
    ck_assert_uint_gt(unknown, 20);
}
END_TEST

/* Items that wait for others of their key end with them. */
START_TEST(close_with_items_waiting)
{
    make_shards(1);
    run_call(KV_METHOD_BATCH, 5000, 10, 1000);
    struct asked a;
    ck_assert(next_asked(10, &a));
    client_core_fail_all(core, ERR_CLOSED);
    ck_assert_uint_eq(call.done, 1);
    for (unsigned i = 0; i < 5000; i++)
        ck_assert_uint_eq(call.answers[i], 1);
}
END_TEST

START_TEST(all_or_nothing_stays_together)
{
    struct asked a;
    struct buf b = {0};
    make_shards(3);
    run_call(KV_METHOD_BATCH, 20, 1, 5000);
    call.many.all = true; /* was routed already: as one part, for it has one key */
    for (int round = 0; round < 2; round++) {
        ck_assert(next_asked(2000, &a));
        ck_assert_uint_eq(a.q.n, 20);
        if (round == 0)
            lose(a.conn);
    }
    ck_assert(a.q.all);
    msg_kv_begin_items(&b, a.msgid, 20);
    for (int i = 0; i < 20; i++) {
        struct msg_kv_item r = {.err = i == 7 ? ERR_CONDITION_FAILED : ERR_NOT_APPLIED};
        msg_kv_put_item(&b, KV_METHOD_BATCH, &r);
    }
    msg_kv_end_items(&b, (struct msg_kv_extra){0});
    feed(a.conn, &b);
    ck_assert_uint_eq(call.done, 1);
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(call.err[i], i == 7 ? ERR_CONDITION_FAILED : ERR_NOT_APPLIED);
}
END_TEST

START_TEST(malformed_answers)
{
    struct asked a;
    struct buf b = {0};
    make_shards(1);
    run_call(_i ? KV_METHOD_BATCH : KV_METHOD_MGET, 20, 20, 5000);
    ck_assert(next_asked(2000, &a));
    msg_kv_begin_items(&b, a.msgid, 19);
    for (int i = 0; i < 19; i++)
        msg_kv_put_item(&b, a.q.method, &(struct msg_kv_item){.err = ERR_NOT_FOUND});
    msg_kv_end_items(&b, (struct msg_kv_extra){0});
    feed(a.conn, &b);
    ck_assert_uint_eq(call.done, 1);
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(call.err[i], ERR_INTERNAL);
        ck_assert_int_eq(call.maybe[i], _i);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client_many");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup_world, teardown_world);
    tcase_add_test(t, mget_over_shards);
    tcase_add_test(t, one_key_goes_as_a_get);
    tcase_add_test(t, too_large_ones_are_read_alone);
    tcase_add_test(t, a_bound_on_the_values);
    tcase_add_test(t, larger_than_a_request);
    tcase_add_loop_test(t, trouble, 0, 100);
    tcase_add_loop_test(t, deadline_and_close, 0, 2);
    tcase_add_test(t, close_with_items_waiting);
    tcase_add_test(t, all_or_nothing_stays_together);
    tcase_add_loop_test(t, malformed_answers, 0, 2);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
