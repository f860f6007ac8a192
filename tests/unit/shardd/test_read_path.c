/* Reads of every level on three nodes in one process, over loopback: at the leader, at a follower,
 * at one whose leader is stopped; mget; what expires. */
#include "tests/unit/shardd/nodes_world.h"

#define NODES 3u
static struct client client[NODES + 1];
static unsigned leader, follower;

static void leads(struct world *w, void *arg)
{
    struct replica *r = core_find_replica(w->core, GROUP);
    *(bool *)arg = r && replica_is_leader(r);
}

static void find_leader(void)
{
    leader = 0;
    for (unsigned i = 0; i < 3000 && !leader; i++) {
        for (unsigned k = 1; k <= NODES; k++) {
            bool yes = false;
            world_call(&node[k], leads, &yes);
            leader = yes ? k : leader;
        }
        usleep(leader ? 0 : 2000);
    }
    ck_assert_uint_ne(leader, 0);
    follower = leader % NODES + 1;
}

static void setup(void)
{
    nodes_open(NODES, "read");
    find_leader();
    for (unsigned i = 1; i <= NODES; i++)
        world_connect(&node[i], &client[i]);
    for (unsigned i = 0; i < 1000; i++) { /* of its own term, and known to the others */
        bool all = client_call(&client[leader], put_of("first", "1")).err == ERR_OK;
        for (unsigned k = 1; k <= NODES; k++)
            all = all &&
                  (k == leader || client_call(&client[k], get_of("first")).err == ERR_NOT_LEADER);
        if (all)
            return;
        usleep(5000);
    }
    ck_abort_msg("the group does not get going");
}

static void teardown(void)
{
    for (unsigned i = 1; i <= NODES; i++)
        client_close(&client[i]);
    nodes_close(NODES);
}

static struct answer_seen put(const char *key, const char *value)
{
    struct answer_seen a = client_call(&client[leader], put_of(key, value));
    ck_assert_int_eq(a.err, ERR_OK);
    return a;
}

static struct msg_kv_request weak(const char *key, enum kv_read_level level)
{
    struct msg_kv_request m = get_of(key);
    m.level = (uint8_t)level;
    return m;
}

static struct answer_seen read_at(unsigned at, struct msg_kv_request m)
{
    return client_call(&client[at], m);
}

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

START_TEST(levels)
{
    for (unsigned i = 0; i < 30; i++) {
        char text[16];
        snprintf(text, sizeof text, "v%u", i);
        uint64_t version = put("k", text).version;
        struct msg_kv_request session = weak("k", KV_LEVEL_SESSION);
        session.token = version;
        for (unsigned at = 1; at <= NODES; at++) { /* each has just been written past */
            struct answer_seen a = read_at(at, session);
            ck_assert_int_eq(a.err, ERR_OK);
            ck_assert_str_eq(a.value, text);
            ck_assert_uint_ge(a.at, version);
        }
        struct msg_kv_request bounded =
            weak("k", KV_LEVEL_BOUNDED); /* 0 ms: as good as the leader */
        version = put("k", "new").version;
        ck_assert_str_eq(read_at(follower, bounded).value, "new");
        ck_assert_uint_ge(read_at(leader, bounded).at, version);
    }
    /* an absent key tells how new it is, at any level */
    struct answer_seen a = read_at(follower, weak("none", KV_LEVEL_SESSION));
    ck_assert_int_eq(a.err, ERR_NOT_FOUND);
    ck_assert_uint_gt(a.at, 0);
    a = read_at(leader, get_of("none"));
    ck_assert_int_eq(a.err, ERR_NOT_FOUND);
    ck_assert_uint_gt(a.at, 0);
    ck_assert_uint_eq(read_at(leader, get_of("k")).at, 0); /* not asked for */
    /* a token from nowhere is waited for no longer than the leader's word */
    struct msg_kv_request far = weak("k", KV_LEVEL_SESSION);
    far.token = UINT64_MAX / 2;
    ck_assert_str_eq(read_at(follower, far).value, "new");
    ck_assert_str_eq(read_at(leader, far).value, "new");
    a = read_at(follower, get_of("k"));
    ck_assert_int_eq(a.err, ERR_NOT_LEADER);
    ck_assert_uint_eq(a.leader, leader);
}
END_TEST

static void stop(struct world *w, void *arg)
{
    (void)w;
    usleep(*(unsigned *)arg * 1000);
}

static void *stop_leader(void *arg)
{
    world_call(&node[leader], stop, arg);
    return NULL;
}

/* The leader's thread is stopped for less than an election timeout. */
START_TEST(leader_is_paused)
{
    unsigned ms = 420;
    pthread_t thread;
    put("k", "v");
    struct msg_kv_request loose = weak("k", KV_LEVEL_BOUNDED), strict = loose,
                          session = weak("k", KV_LEVEL_SESSION);
    loose.staleness_ms = 5000;
    strict.staleness_ms = 1;
    session.token = UINT64_MAX / 2;
    ck_assert_str_eq(read_at(follower, loose).value, "v"); /* now it knows */
    ck_assert_int_eq(pthread_create(&thread, NULL, stop_leader, &ms), 0);
    usleep(20000);
    uint64_t began = now_ms();
    ck_assert_str_eq(read_at(follower, weak("k", KV_LEVEL_ANY)).value, "v");
    ck_assert_str_eq(read_at(follower, loose).value, "v");
    ck_assert_uint_lt(now_ms() - began, 150); /* at once */
    uint32_t first = client_add(&client[follower], strict);
    client_add(&client[follower], session);
    client_send(&client[follower]);
    for (unsigned i = 0; i < 2; i++) { /* sent to the leader, after a while */
        struct answer_seen a = client_take(&client[follower], KV_METHOD_GET);
        ck_assert(a.msgid == first || a.msgid == first + 1);
        ck_assert(a.err == ERR_NOT_LEADER || a.err == ERR_NO_LEADER);
    }
    ck_assert_uint_ge(now_ms() - began, 200);
    ck_assert_uint_lt(now_ms() - began, 1000);
    pthread_join(thread, NULL);
}
END_TEST

static struct msg_kv_request mget(struct buf *items, unsigned n)
{
    return (struct msg_kv_request){.method = KV_METHOD_MGET, .n = n, .items = buf_slice(items)};
}

START_TEST(many)
{
    struct buf items = {0};
    uint64_t last = 0;
    for (unsigned i = 0; i < 10; i++) {
        char key[16];
        snprintf(key, sizeof key, "m%u", i);
        if (i % 3)
            last = put(key, "value").version;
        msg_kv_put_key(&items, slice_str(key));
    }
    struct msg_kv_request m = mget(&items, 10);
    for (unsigned round = 0; round < 2; round++) {
        unsigned at = round ? follower : leader;
        m.level = round ? KV_LEVEL_SESSION : KV_LEVEL_LINEARIZABLE;
        m.token = last;
        struct answer_seen a = client_call(&client[at], m);
        ck_assert_int_eq(a.err, ERR_OK);
        ck_assert_uint_eq(a.n_items, 10);
        ck_assert_uint_ge(a.at, last);
        for (unsigned i = 0; i < 10; i++) {
            ck_assert_int_eq(a.item[i].err, i % 3 ? ERR_OK : ERR_NOT_FOUND);
            ck_assert_uint_eq(a.item[i].result.value.n, i % 3 ? 5 : 0);
        }
    }
    m.level = KV_LEVEL_LINEARIZABLE;
    ck_assert_int_eq(client_call(&client[follower], m).err, ERR_NOT_LEADER);
    /* a key that is none, and one that is too long */
    msg_kv_put_key(&items, slice_of(NULL, 0));
    ck_assert_int_eq(client_call(&client[leader], mget(&items, 11)).err, ERR_KEY_EMPTY);
    /* values beyond what fits an answer are to be read alone */
    static uint8_t large[LIMIT_VALUE_DEFAULT];
    buf_clear(&items);
    for (unsigned i = 0; i < 9; i++) {
        char key[16];
        snprintf(key, sizeof key, "large%u", i);
        struct msg_kv_request p = put_of(key, "");
        p.value = slice_of(large, sizeof large);
        ck_assert_int_eq(client_call(&client[leader], p).err, ERR_OK);
        msg_kv_put_key(&items, slice_str(key));
    }
    struct answer_seen a = client_call(&client[leader], mget(&items, 9));
    for (unsigned i = 0; i < 9; i++)
        ck_assert_int_eq(a.item[i].err, i < 7 ? ERR_OK : ERR_TOO_LARGE); /* 8 MiB and heads */
    buf_close(&items);
}
END_TEST

static void index_of(struct world *w, void *arg)
{
    *(uint64_t *)arg = core_find_replica(w->core, GROUP)->applied.index;
}

/* Nothing is written meanwhile: the log's time stands still until a read moves it. */
START_TEST(expiry)
{
    struct msg_kv_request p = put_of("k", "v");
    p.has_ttl = true;
    p.ttl_ms = 300;
    struct msg_kv_request far = weak("k", KV_LEVEL_SESSION), any = weak("k", KV_LEVEL_ANY);
    far.token = client_call(&client[leader], p).version;
    struct answer_seen a = read_at(leader, get_of("k"));
    ck_assert(a.has_ttl && a.ttl_ms > 0 && a.ttl_ms <= 300);
    a = read_at(follower, far);
    ck_assert_str_eq(a.value, "v");
    ck_assert(a.has_ttl && a.ttl_ms <= 300);
    usleep(350000);
    uint64_t before, after;
    world_call(&node[leader], index_of, &before);
    ck_assert_int_eq(read_at(follower, far).err, ERR_NOT_LEADER); /* not for it to say */
    ck_assert_int_eq(read_at(follower, any).err, ERR_NOT_LEADER);
    for (unsigned i = 0; i < 20; i++)
        client_add(&client[leader], i % 2 ? get_of("k") : far);
    client_send(&client[leader]);
    for (unsigned i = 0; i < 20; i++)
        ck_assert_int_eq(client_take(&client[leader], KV_METHOD_GET).err, ERR_NOT_FOUND);
    world_call(&node[leader], index_of, &after);
    ck_assert_uint_gt(after, before);
    ck_assert_uint_le(after, before + 3); /* one entry for all that came together */
    for (unsigned i = 0; i < 100 && read_at(follower, far).err != ERR_NOT_FOUND; i++)
        usleep(5000); /* until its log has come so far */
    ck_assert_int_eq(read_at(follower, far).err, ERR_NOT_FOUND);
    /* many at once: one that is past hides itself only */
    struct buf items = {0};
    put("stays", "v");
    ck_assert_int_eq(client_call(&client[leader], p).err, ERR_OK);
    msg_kv_put_key(&items, slice_str("k"));
    msg_kv_put_key(&items, slice_str("stays"));
    a = client_call(&client[leader], mget(&items, 2));
    ck_assert(a.item[0].err == ERR_OK && a.item[0].result.has_ttl);
    ck_assert(a.item[1].err == ERR_OK && !a.item[1].result.has_ttl);
    usleep(350000);
    a = client_call(&client[leader], mget(&items, 2));
    ck_assert_int_eq(a.item[0].err, ERR_NOT_FOUND);
    ck_assert_int_eq(a.item[1].err, ERR_OK);
    buf_close(&items);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("read_path");
    TCase *t = tcase_create("read_path");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, levels);
    tcase_add_test(t, leader_is_paused);
    tcase_add_test(t, many);
    tcase_add_test(t, expiry);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
