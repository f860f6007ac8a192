/* Pages of a shard over a socket: all of it and in order, what is written meanwhile, what has
 * expired, who is refused. */
#include "tests/unit/shardd/core_world.h"

#include "common/base/mem.h"
#include "common/meta/slot.h"
#include "common/wire/msg_scan.h"
#include "shardd/engine_key.h"

#define KEYS 500u

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

/* The next message as it came; borrowed until the next call. */
static struct rpc_message take(struct buf *copy)
{
    struct rpc_message m;
    size_t n = 0;
    while (rpc_split(buf_slice(&c.in), LIMIT_FRAME, &n) == ERR_INCOMPLETE) {
        uint8_t bytes[65536];
        ssize_t got = recv(c.fd, bytes, sizeof bytes, 0);
        ck_assert_msg(got > 0, "the connection ended");
        buf_append(&c.in, bytes, (size_t)got);
    }
    buf_clear(copy);
    buf_append(copy, c.in.p, n);
    buf_consume(&c.in, n);
    ck_assert_int_eq(rpc_decode(buf_slice(copy), &m), ERR_OK);
    return m;
}

static enum err error_of(const struct rpc_message *m)
{
    struct rpc_error e = {.err = ERR_OK};
    if (m->error.n > 0)
        rpc_get_error(m->error, &e);
    return e.err;
}

static enum err ask(struct buf *copy, const struct msg_scan_request *q, struct msg_scan_reply *out)
{
    msg_scan_encode(&c.out, 7, q);
    client_send(&c);
    struct rpc_message m = take(copy);
    enum err e = error_of(&m);
    if (e == ERR_OK)
        ck_assert_int_eq(msg_scan_decode_reply(m.result, out), ERR_OK);
    return e;
}

static void put_all(const char *value)
{
    for (unsigned i = 0; i < KEYS; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%u", i);
        (void)client_add(&c, put_of(key, value));
        client_send(&c);
        ck_assert_int_eq(client_take(&c, KV_METHOD_PUT).err, ERR_OK);
    }
}

/* Goes through all pages; gives the number of pairs and of pages. */
static unsigned walk(struct msg_scan_request q, const char *value, unsigned *pages)
{
    struct buf copy = {0}, last = {0}, after = {0};
    struct msg_scan_reply a;
    unsigned found = 0;
    *pages = 0;
    for (bool more = true; more; more = a.more) {
        ck_assert_int_eq(ask(&copy, &q, &a), ERR_OK);
        struct mp_reader items = mp_reader_of(a.items);
        for (uint32_t i = 0; i < a.n; i++) {
            struct msg_scan_item item;
            uint8_t raw[ENGINE_KEY_MAX];
            msg_scan_next_item(&items, &item);
            struct slice data = engine_key_data(raw, slot_of_key(item.key), item.key);
            size_t n = data.n < last.n ? data.n : last.n;
            int order = n ? memcmp(data.p, last.p, n) : 1;
            ck_assert(order > 0 || (order == 0 && data.n > last.n));
            buf_clear(&last);
            buf_append(&last, data.p, data.n);
            ck_assert(slice_eq(item.value, slice_str(value)));
            ck_assert_uint_gt(item.version, 0);
            found++;
        }
        buf_clear(&after);
        buf_append(&after, a.after.p, a.after.n);
        q.first_slot = a.next_slot;
        q.has_after = a.has_after;
        q.after = buf_slice(&after);
        q.group = a.group;
        q.position = a.position;
        (*pages)++;
    }
    buf_close(&copy);
    buf_close(&last);
    buf_close(&after);
    return found;
}

static const struct msg_scan_request all = {.first_slot = 0, .last_slot = LIMIT_SLOTS - 1};

START_TEST(test_all)
{
    unsigned pages;
    struct msg_scan_request q = all;
    ck_assert_uint_eq(walk(q, "one", &pages), 0);
    ck_assert_uint_eq(pages, 1);
    put_all("one");
    ck_assert_uint_eq(walk(q, "one", &pages), KEYS);
    ck_assert_uint_eq(pages, 1);
    put_all("two"); /* a new walk sees what is only in memory */
    q.max_bytes = 100;
    ck_assert_uint_eq(walk(q, "two", &pages), KEYS);
    ck_assert_uint_gt(pages, KEYS / 20);
    q.max_bytes = 1;
    ck_assert_uint_eq(walk(q, "two", &pages), KEYS);
    q.last_slot = LIMIT_SLOTS / 2;
    unsigned half = walk(q, "two", &pages);
    ck_assert(half > KEYS / 4 && half < KEYS * 3 / 4);
    q.first_slot = LIMIT_SLOTS / 2 + 1;
    q.last_slot = LIMIT_SLOTS - 1;
    ck_assert_uint_eq(half + walk(q, "two", &pages), KEYS);
}
END_TEST

/* A later page does not flush again; one that names another group, or a new walk, does. */
START_TEST(test_position)
{
    struct buf copy = {0};
    struct msg_scan_reply a;
    struct msg_scan_request q = all, next;
    put_all("one");
    ck_assert_int_eq(ask(&copy, &q, &a), ERR_OK);
    ck_assert_uint_eq(a.group, 1);
    ck_assert_uint_gt(a.position, 0);
    next = q;
    next.group = a.group;
    next.position = a.position;
    put_all("two");
    unsigned pages;
    ck_assert_uint_eq(walk(next, "one", &pages), KEYS);
    next.group = 2;
    ck_assert_uint_eq(walk(next, "two", &pages), KEYS);
    buf_close(&copy);
}
END_TEST

static void expire(struct world *world, void *arg)
{
    struct replica *r = core_find_replica(world->core, 1);
    struct engine_batch *b = engine_batch_create();
    struct slice key = slice_str(arg);
    uint8_t raw[ENGINE_KEY_MAX], head[ENGINE_VALUE_HEAD_MAX];
    struct engine_value_head h = {1, true, r->shard.time_ms + (key.p[0] == 'x' ? 0 : 5000)};
    engine_batch_put2(b, engine_key_data(raw, slot_of_key(key), key), engine_value_encode(head, &h),
                      slice_str("v"));
    ck_assert_int_eq(engine_write(r->db, b), ERR_OK);
    engine_batch_destroy(b);
}

START_TEST(test_expiry)
{
    char past[] = "x", future[] = "y";
    struct buf copy = {0};
    struct msg_scan_reply a;
    struct msg_scan_item item;
    ck_assert_int_eq(client_call(&c, put_of("z", "v")).err, ERR_OK); /* the log has a time */
    world_call(&w, expire, past);
    world_call(&w, expire, future);
    ck_assert_int_eq(ask(&copy, &all, &a), ERR_OK);
    ck_assert_uint_eq(a.n, 2);
    struct mp_reader items = mp_reader_of(a.items);
    bool seen = false;
    for (unsigned i = 0; i < 2; i++) {
        msg_scan_next_item(&items, &item);
        if (item.key.p[0] == 'y')
            seen = item.expiry_ms > 5000;
        else
            ck_assert_uint_eq(item.expiry_ms, 0);
    }
    ck_assert(seen);
    buf_close(&copy);
}
END_TEST

static void occupy(struct world *world, void *arg)
{
    core_find_replica(world->core, 1)->busy_offload = *(bool *)arg;
}

static void fill_up(struct world *world, void *arg)
{
    world->core->no_space = *(bool *)arg;
}

START_TEST(test_refused)
{
    struct buf copy = {0};
    struct msg_scan_reply a;
    bool yes = true, no = false;
    world_call(&w, occupy, &yes);
    ck_assert_int_eq(ask(&copy, &all, &a), ERR_BUSY);
    world_call(&w, occupy, &no);
    world_call(&w, fill_up, &yes);
    ck_assert_int_eq(ask(&copy, &all, &a), ERR_NO_SPACE);
    world_call(&w, fill_up, &no);
    ck_assert_int_eq(ask(&copy, &all, &a), ERR_OK);
    /* Two at once: one is served, the other one is to come again. */
    msg_scan_encode(&c.out, 1, &all);
    msg_scan_encode(&c.out, 2, &all);
    client_send(&c);
    unsigned served = 0, busy = 0;
    for (unsigned i = 0; i < 2; i++) {
        struct rpc_message m = take(&copy);
        served += error_of(&m) == ERR_OK;
        busy += error_of(&m) == ERR_BUSY;
    }
    ck_assert(served == 1 && busy == 1);
    buf_append(&c.out,
               "\x94\x00\x09\xaa"
               "admin.scan\x91\xc0",
               16);
    client_send(&c);
    struct rpc_message m = take(&copy);
    ck_assert_int_eq(error_of(&m), ERR_BAD_REQUEST);
    buf_close(&copy);
}
END_TEST

static void not_the_leader(struct world *world, void *arg)
{
    struct replica *r = core_find_replica(world->core, 1);
    (void)arg;
    replica_set_broken(r, ERR_IO, "a test");
}

/* One that breaks while the leader is proven, or before, answers; so does one that is closed. */
START_TEST(test_breaks)
{
    struct buf copy = {0};
    struct msg_scan_reply a;
    put_all("one");
    msg_scan_encode(&c.out, 1, &all);
    client_send(&c);
    world_call(&w, not_the_leader, NULL);
    struct rpc_message m = take(&copy);
    ck_assert(error_of(&m) == ERR_OK || error_of(&m) == ERR_NO_LEADER);
    world_wait_leader(&w);
    ck_assert_int_eq(ask(&copy, &all, &a), ERR_OK);
    ck_assert_uint_eq(a.n, KEYS);
    msg_scan_encode(&c.out, 1, &all);
    client_send(&c);
    client_close(&c); /* its answer has nowhere to go */
    world_connect(&w, &c);
    buf_close(&copy);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("scan");
    TCase *t = tcase_create("scan");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_all);
    tcase_add_test(t, test_position);
    tcase_add_test(t, test_expiry);
    tcase_add_test(t, test_refused);
    tcase_add_test(t, test_breaks);
    suite_add_tcase(s, t);
    SRunner *sr = srunner_create(s);
    srunner_set_fork_status(sr, CK_NOFORK);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? 1 : 0;
}
