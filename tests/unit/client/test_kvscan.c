/* All pairs of a cluster, against two nodes of our own on loopback that redirect, hang up, are
 * busy, repeat themselves or say nothing. */
#include "client/kvscan.h"

#include <arpa/inet.h>
#include <check.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/limits.h"
#include "common/meta/slot.h"
#include "common/wire/msg_kv.h"
#include "common/wire/msg_map.h"
#include "common/wire/rpc.h"

#define NODES 2u
#define HALF (LIMIT_SLOTS / 2)
#define CONNS 256u

enum mood {
    PLAIN,
    STALE_MAP, /* the map says that node 1 leads all: it redirects */
    BUSY,
    HANGS_UP,
    NO_LEADER,
    SILENT,  /* node 1 */
    REPEATS, /* the cursor does not move */
    NONSENSE,
    OLD, /* does not know the method */
};

struct conn {
    int fd;
    unsigned node;
    struct buf in;
};

static struct {
    int listener[NODES];
    uint16_t port[NODES];
    pthread_t thread;
    atomic_bool stop, seek;   /* seek: no position is known */
    atomic_int mood, trouble; /* trouble: answers yet to come that are none */
    atomic_int scans, hellos;
    struct conn conn[CONNS];
    unsigned n;
} server;

/* Two groups of one replica each; `led` by the node of the second one. */
static void put_map(struct buf *b, unsigned second)
{
    struct shard_map m;
    shard_map_init(&m);
    m.version = 1;
    for (unsigned i = 0; i < NODES; i++) {
        struct shard_node n = {.node = i + 1, .cores = 4, .name = "n"};
        snprintf(n.client_addr, sizeof n.client_addr, "127.0.0.1:%u", server.port[i]);
        shard_map_put_node(&m, &n);
        struct shard_desc s = {.group = i + 1,
                               .first_slot = (uint16_t)(i * HALF),
                               .last_slot = (uint16_t)((i + 1) * HALF - 1),
                               .epoch = {1, 1},
                               .leader = (i == 0 ? 0 : second) + 10,
                               .n_replicas = 2};
        s.replica[0] = (struct shard_replica){10, 1, 1};
        s.replica[1] = (struct shard_replica){11, 2, 1};
        shard_map_put_shard(&m, &s);
    }
    msg_map_encode(b, &m);
    shard_map_close(&m);
}

static void put_error(struct buf *out, uint32_t msgid, enum err e, uint32_t leader)
{
    struct buf map = {0};
    struct rpc_error error = {.err = e, .leader = leader, .retry_ms = 1};
    if (leader) {
        put_map(&map, 1);
        error.map = buf_slice(&map);
    }
    rpc_put_error(out, msgid, &error);
    buf_close(&map);
}

/* One pair a page: "k0" in the first slot, "k1" in the second half. */
static void put_page(struct buf *out, uint32_t msgid, const struct msg_scan_request *q)
{
    struct buf items = {0};
    unsigned half = q->first_slot >= HALF;
    struct msg_scan_item item = {slice_str(half ? "k1" : "k0"), slice_str("v"), 1, 0};
    struct msg_scan_reply r = {.more = true, .group = half + 1, .position = 5};
    if (!q->has_after) {
        msg_scan_put_item(&items, &item);
        r.n = 1;
        r.next_slot = q->first_slot;
        r.has_after = true;
        r.after = item.key;
    } else {
        bool seek = atomic_load(&server.seek);
        ck_assert_uint_eq(q->position, seek ? 0 : 5);
        ck_assert_uint_eq(q->group, seek ? 0 : half + 1);
        r.more = !half;
        r.next_slot = HALF;
    }
    r.items = buf_slice(&items);
    msg_scan_put_reply(out, msgid, &r);
    buf_close(&items);
}

/* False: hang up. */
static bool scan(unsigned node, const struct rpc_message *m, struct buf *out)
{
    struct msg_scan_request q;
    int mood = atomic_load(&server.mood);
    ck_assert_int_eq(msg_scan_decode(m->params, &q), ERR_OK);
    atomic_fetch_add(&server.scans, 1);
    unsigned leader = q.first_slot >= HALF ? 2 : 1;
    bool trouble = atomic_load(&server.trouble) > 0 && mood != PLAIN && mood != STALE_MAP;
    if (mood == SILENT)
        return true;
    if (trouble)
        atomic_fetch_sub(&server.trouble, 1);
    if (trouble && mood == HANGS_UP)
        return false;
    if (trouble && mood == REPEATS && q.has_after) {
        struct msg_scan_reply r = {
            .more = true, .next_slot = q.first_slot, .has_after = true, .after = q.after};
        msg_scan_put_reply(out, m->msgid, &r);
    } else if (trouble && mood == NONSENSE) {
        rpc_put_result(out, m->msgid);
        mp_put_str(out, "nonsense");
    } else if (trouble && (mood == BUSY || mood == NO_LEADER || mood == OLD)) {
        put_error(out, m->msgid,
                  mood == BUSY  ? ERR_BUSY
                  : mood == OLD ? ERR_UNKNOWN_METHOD
                                : ERR_NO_LEADER,
                  0);
    } else if (node != leader) {
        put_error(out, m->msgid, ERR_NOT_LEADER, leader);
    } else {
        put_page(out, m->msgid, &q);
    }
    return true;
}

static bool serve(struct conn *c, const struct rpc_message *m, struct buf *out)
{
    if (slice_eq(m->method, slice_str("map.get"))) {
        rpc_put_result(out, m->msgid);
        put_map(out, atomic_load(&server.mood) == STALE_MAP ? 0 : 1);
        return true;
    }
    if (slice_eq(m->method, slice_str("sys.hello"))) {
        struct msg_hello h;
        struct msg_hello_reply reply = {.proto = 1, .node = c->node, .cores = 4};
        ck_assert_int_eq(msg_hello_decode(m->params, &h), ERR_OK);
        ck_assert(h.has_core && (h.core == 1 || h.core == 2)); /* that of the group */
        atomic_fetch_add(&server.hellos, 1);
        msg_hello_reply_encode(out, m->msgid, &reply);
        return true;
    }
    return scan(c->node, m, out);
}

static void hang_up(struct conn *c)
{
    close(c->fd);
    c->fd = -1;
    buf_close(&c->in);
}

static void on_input(struct conn *c)
{
    uint8_t bytes[4096];
    ssize_t got = recv(c->fd, bytes, sizeof bytes, 0);
    size_t n;
    bool ok = got > 0;
    if (ok)
        buf_append(&c->in, bytes, (size_t)got);
    while (ok && rpc_split(buf_slice(&c->in), LIMIT_FRAME, &n) == ERR_OK) {
        struct rpc_message m;
        struct buf out = {0};
        ck_assert_int_eq(rpc_decode(slice_of(c->in.p, n), &m), ERR_OK);
        ok = serve(c, &m, &out);
        if (out.n > 0)
            ck_assert_int_eq(send(c->fd, out.p, out.n, MSG_NOSIGNAL), (ssize_t)out.n);
        buf_close(&out);
        buf_consume(&c->in, n);
    }
    if (!ok)
        hang_up(c);
}

static void *run(void *arg)
{
    (void)arg;
    while (!atomic_load(&server.stop)) {
        struct pollfd p[NODES + CONNS];
        for (unsigned i = 0; i < NODES; i++)
            p[i] = (struct pollfd){.fd = server.listener[i], .events = POLLIN};
        for (unsigned i = 0; i < server.n; i++)
            p[NODES + i] = (struct pollfd){.fd = server.conn[i].fd, .events = POLLIN};
        unsigned n = server.n;
        poll(p, NODES + n, 10);
        for (unsigned i = 0; i < n; i++)
            if (p[NODES + i].revents && server.conn[i].fd >= 0)
                on_input(&server.conn[i]);
        for (unsigned i = 0; i < NODES; i++) {
            if (!(p[i].revents & POLLIN))
                continue;
            ck_assert_uint_lt(server.n, CONNS);
            server.conn[server.n++] =
                (struct conn){.fd = accept(server.listener[i], NULL, NULL), .node = i + 1};
        }
    }
    return NULL;
}

static void setup(void)
{
    memset(&server, 0, sizeof server);
    for (unsigned i = 0; i < NODES; i++) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t n = sizeof a;
        server.listener[i] = socket(AF_INET, SOCK_STREAM, 0);
        ck_assert_int_eq(bind(server.listener[i], (struct sockaddr *)&a, n), 0);
        ck_assert_int_eq(listen(server.listener[i], 8), 0);
        ck_assert_int_eq(getsockname(server.listener[i], (struct sockaddr *)&a, &n), 0);
        server.port[i] = ntohs(a.sin_port);
    }
    ck_assert_int_eq(pthread_create(&server.thread, NULL, run, NULL), 0);
}

static void teardown(void)
{
    atomic_store(&server.stop, true);
    pthread_join(server.thread, NULL);
    for (unsigned i = 0; i < server.n; i++)
        if (server.conn[i].fd >= 0)
            hang_up(&server.conn[i]);
    for (unsigned i = 0; i < NODES; i++)
        close(server.listener[i]);
}

static struct kvscan *open_scan(unsigned timeout_ms)
{
    char url[64], msg[256] = "";
    struct kvscan *s;
    snprintf(url, sizeof url, "kv://127.0.0.1:%u,127.0.0.1:%u", server.port[0], server.port[1]);
    ck_assert_msg(kvscan_open(url, timeout_ms, &s, msg, sizeof msg) == KV_OK, "%s", msg);
    return s;
}

/* All keys, joined; or the error. */
static kv_err walk(struct kvscan *s, char *keys, char *msg, size_t n)
{
    struct kvscan_page page = {.more = true};
    keys[0] = '\0';
    while (page.more) {
        kv_err e = kvscan_next(s, &page, msg, n);
        if (e != KV_OK)
            return e;
        for (uint32_t i = 0; i < page.n; i++) {
            struct msg_scan_item item;
            msg_scan_next_item(&page.items, &item);
            strncat(keys, (const char *)item.key.p, item.key.n);
        }
    }
    ck_assert_uint_eq(page.slot, LIMIT_SLOTS);
    return KV_OK;
}

static const struct {
    enum mood mood;
    int trouble;
    int scans; /* 0: does not matter */
} fine[] = {
    {PLAIN, 0, 4},     {STALE_MAP, 0, 5}, {BUSY, 3, 7},     {HANGS_UP, 2, 0},
    {NO_LEADER, 3, 0}, {NONSENSE, 1, 0},  {HANGS_UP, 7, 0},
};

START_TEST(test_walk)
{
    char keys[64], msg[256] = "";
    atomic_store(&server.mood, fine[_i].mood);
    atomic_store(&server.trouble, fine[_i].trouble);
    struct kvscan *s = open_scan(5000);
    ck_assert_msg(walk(s, keys, msg, sizeof msg) == KV_OK, "%s", msg);
    ck_assert_str_eq(keys, "k0k1");
    if (fine[_i].scans)
        ck_assert_int_eq(atomic_load(&server.scans), fine[_i].scans);
    if (fine[_i].mood == PLAIN) /* one connection a group's core */
        ck_assert_int_eq(atomic_load(&server.hellos), 2);
    kvscan_close(s);
}
END_TEST

/* It begins behind the key, and what it asks for carries no position of an earlier page. */
START_TEST(test_seek)
{
    char keys[64], msg[256] = "", key[16] = "";
    for (unsigned i = 0; slot_of_key(slice_str(key)) < HALF; i++)
        snprintf(key, sizeof key, "s%u", i);
    struct kvscan *s = open_scan(5000);
    struct kvscan_page page;
    ck_assert_int_eq(kvscan_next(s, &page, msg, sizeof msg), KV_OK);
    kvscan_seek(s, slice_str(key));
    atomic_store(&server.seek, true);
    ck_assert_msg(walk(s, keys, msg, sizeof msg) == KV_OK, "%s", msg);
    ck_assert_str_eq(keys, "");
    kvscan_close(s);
}
END_TEST

START_TEST(test_old_server)
{
    char keys[64], msg[256] = "";
    struct kvscan *s = open_scan(5000);
    atomic_store(&server.trouble, 1);
    atomic_store(&server.mood, OLD);
    ck_assert_int_eq(walk(s, keys, msg, sizeof msg), KV_UNKNOWN_METHOD);
    ck_assert_ptr_nonnull(strstr(msg, "older than this kvctl"));
    kvscan_close(s);
}
END_TEST

static const struct {
    enum mood mood;
    kv_err err;
    const char *text;
} bad[] = {
    {REPEATS, KV_INTERNAL, "repeats itself"},
    {SILENT, KV_TIMEOUT, "127.0.0.1"},
    {BUSY, KV_BUSY, "slot 0"},
    {NO_LEADER, KV_NO_LEADER, "no leader"},
};

START_TEST(test_fails)
{
    char keys[64], msg[256] = "";
    struct kvscan *s = open_scan(400);
    atomic_store(&server.mood, bad[_i].mood);
    atomic_store(&server.trouble, 1 << 30);
    ck_assert_int_eq(walk(s, keys, msg, sizeof msg), bad[_i].err);
    ck_assert_msg(strstr(msg, bad[_i].text) != NULL, "%s", msg);
    kvscan_close(s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("kvscan");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    tcase_add_loop_test(t, test_walk, 0, sizeof(fine) / sizeof(fine[0]));
    tcase_add_test(t, test_seek);
    tcase_add_test(t, test_old_server);
    tcase_add_loop_test(t, test_fails, 0, sizeof(bad) / sizeof(bad[0]));
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
