/* Links between two nodes over real sockets. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/net/peer.h"
#include "common/net/peer_hello.h"
#include "common/wire/frame.h"

struct node {
    struct peer_set *ps;
    struct io_listener *listener;
    struct io_addr addr;
    uint32_t id;
    unsigned messages, hellos;
    size_t bytes;
    uint64_t last_group;
    bool bad;
    struct peer_hello hello; /* the last one */
    bool detach;
    int handle;
    struct buf rest;
};

static struct io *io;
static struct conn_set *set;
static struct node node[3]; /* [0] unused */
static struct io_timer late;

static bool resolve(void *arg, uint32_t id, struct io_addr *out)
{
    (void)arg;
    if (id >= 3 || node[id].addr.port == 0)
        return false;
    *out = node[id].addr;
    return true;
}

static void on_message(void *arg, uint32_t from, uint64_t group, struct slice m)
{
    struct node *n = arg;
    n->bad = n->bad || from != 3 - n->id;
    for (size_t i = 0; i < m.n; i++)
        n->bad = n->bad || m.p[i] != (uint8_t)group;
    n->messages++;
    n->bytes += m.n;
    n->last_group = group;
}

static void on_detached(void *arg, int handle, struct slice rest)
{
    struct node *n = arg;
    n->handle = handle;
    buf_append(&n->rest, rest.p, rest.n);
}

static void on_hello(void *arg, struct conn *c, const struct peer_hello *hello)
{
    struct node *n = arg;
    n->hellos++;
    n->hello = *hello;
    if (n->detach)
        conn_detach(c, on_detached, n);
    else
        peer_take(n->ps, c, hello);
}

static void on_accept(void *arg, int handle, const struct io_addr *from)
{
    struct node *n = arg;
    (void)from;
    peer_accept(n->ps, handle);
}

static void hook(void *arg)
{
    (void)arg;
    for (int i = 1; i < 3; i++)
        if (node[i].ps != NULL)
            peer_flush(node[i].ps);
    conn_set_flush(set);
}

static void on_late(struct io_timer *t)
{
    (void)t;
    ck_abort_msg("nothing happens any more");
}

static void stop_now(struct io_timer *t)
{
    (void)t;
    io_stop(io);
}

static void run_for(uint64_t ns)
{
    struct io_timer t = {.fn = stop_now};
    io_timer_set(io, &t, io_now_exact(io) + ns);
    io_run(io);
}

static void open_node(uint32_t id, uint8_t cluster)
{
    struct node *n = &node[id];
    struct peer_set_options o = {
        .io = io,
        .conns = set,
        .self = {.cluster = {cluster}, .node = id, .incarnation = 77, .core = 4},
        .arg = n,
        .resolve = resolve,
        .on_message = on_message,
        .on_hello = on_hello,
    };
    n->id = id;
    n->ps = peer_set_create(&o);
}

static void setup(void)
{
    char msg[256];
    struct io_options o = {0};
    memset(node, 0, sizeof node);
    log_set_level(LOG_SILENT);
    ck_assert_int_eq(io_create(&o, &io, msg, sizeof msg), ERR_OK);
    set = conn_set_create(io);
    io_set_turn_hook(io, hook, NULL);
    for (uint32_t i = 1; i < 3; i++) {
        struct node *n = &node[i];
        open_node(i, 9);
        ck_assert_int_eq(io_addr_parse("127.0.0.1:0", &n->addr), ERR_OK);
        ck_assert_int_eq(io_listen(io, &n->addr, on_accept, n, &n->listener), ERR_OK);
        io_listener_addr(n->listener, &n->addr);
    }
    late = (struct io_timer){.fn = on_late};
    io_timer_set(io, &late, io_now(io) + 40 * NS_PER_S);
}

static void teardown(void)
{
    for (int i = 1; i < 3; i++) {
        peer_set_destroy(node[i].ps);
        if (node[i].listener != NULL)
            io_listener_close(node[i].listener);
        buf_close(&node[i].rest);
        ck_assert(!node[i].bad);
    }
    conn_set_destroy(set);
    io_timer_cancel(io, &late);
    io_destroy(io);
}

static void send_one(uint32_t from, uint8_t group, size_t n)
{
    uint8_t *p = mem_alloc(n + 1);
    memset(p, group, n + 1);
    struct slice parts[3] = {slice_of(p, n / 3), slice_of(p, n - n / 3), {0}};
    peer_send(node[from].ps, 3 - from, group, parts, 3);
    free(p);
}

START_TEST(both_ways)
{
    size_t bytes = 0;
    for (int i = 0; i < 500; i++) {
        send_one(1, (uint8_t)i, (size_t)i * 3);
        send_one(2, (uint8_t)(i + 1), 10);
        bytes += (size_t)i * 3;
    }
    send_one(1, 5, 9 * MIB);
    run_for(100 * NS_PER_MS);
    ck_assert_uint_eq(node[2].messages, 501);
    ck_assert_uint_eq(node[2].bytes, bytes + 9 * MIB);
    ck_assert_uint_eq(node[1].messages, 500);
    ck_assert_uint_eq(node[2].hello.node, 1);
    ck_assert_uint_eq(node[2].hello.to, 2);
    ck_assert_uint_eq(node[2].hello.incarnation, 77);
    ck_assert_uint_eq(node[2].hello.core, 4);
    ck_assert_uint_eq(node[2].hello.purpose, PEER_RAFT);
    ck_assert_uint_eq(peer_stats(node[1].ps)->dropped, 0);
    ck_assert_uint_eq(peer_stats(node[2].ps)->frames_out, 1); /* one turn, one frame */
    ck_assert_uint_gt(peer_heard(node[2].ps, 1), 0);
    ck_assert_uint_eq(peer_heard(node[2].ps, 7), 0);
}
END_TEST

START_TEST(reconnects_after_the_other_is_back)
{
    send_one(1, 1, 10);
    run_for(20 * NS_PER_MS);
    ck_assert_uint_eq(node[2].messages, 1);
    peer_set_destroy(node[2].ps);
    node[2].ps = NULL;
    io_listener_close(node[2].listener);
    for (int i = 0; i < 20; i++) { /* nobody there: lost, without an attempt each time */
        send_one(1, 1, 10);
        run_for(10 * NS_PER_MS);
    }
    ck_assert_uint_ge(peer_stats(node[1].ps)->dropped, 5);
    ck_assert_uint_eq(node[2].messages, 1);
    open_node(2, 9);
    ck_assert_int_eq(io_listen(io, &node[2].addr, on_accept, &node[2], &node[2].listener), ERR_OK);
    for (int i = 0; i < 300 && node[2].messages == 1; i++) {
        send_one(1, 1, 10);
        run_for(10 * NS_PER_MS);
    }
    ck_assert_uint_gt(node[2].messages, 1);
    ck_assert_uint_eq(peer_stats(node[1].ps)->connects, 2);
}
END_TEST

START_TEST(forgotten_link_connects_anew)
{
    send_one(1, 1, 10);
    run_for(20 * NS_PER_MS);
    peer_forget(node[1].ps, 2);
    send_one(1, 2, 10);
    run_for(20 * NS_PER_MS);
    ck_assert_uint_eq(node[2].messages, 2);
    ck_assert_uint_eq(node[2].hellos, 2);
}
END_TEST

START_TEST(unknown_address)
{
    node[2].addr.port = 0;
    send_one(1, 1, 10);
    run_for(20 * NS_PER_MS);
    ck_assert_uint_eq(peer_stats(node[1].ps)->dropped, 1);
}
END_TEST

START_TEST(another_cluster_is_refused)
{
    peer_set_destroy(node[1].ps);
    open_node(1, 8);
    for (int i = 0; i < 10; i++) {
        send_one(1, 1, 10);
        run_for(20 * NS_PER_MS);
    }
    ck_assert_uint_eq(node[2].messages, 0);
    ck_assert_uint_eq(node[2].hellos, 0);
    ck_assert_uint_ge(peer_stats(node[2].ps)->refused, 1);
    ck_assert_uint_le(peer_stats(node[2].ps)->refused, 6); /* the back-off holds */
}
END_TEST

/* A node that takes nothing: the newest are dropped, memory stays bounded. */
START_TEST(stuck_node)
{
    node[2].detach = true;
    for (int i = 0; i < 100; i++)
        send_one(1, 3, MIB);
    run_for(50 * NS_PER_MS);
    ck_assert_int_ge(node[2].handle, 0);
    for (int i = 0; i < 100; i++) {
        send_one(1, 3, MIB);
        run_for(NS_PER_MS);
    }
    ck_assert_uint_gt(peer_stats(node[1].ps)->dropped, 100);
    /* Then it goes on, on "another core": whole frames only, and newer ones again. */
    peer_take_handle(node[2].ps, node[2].handle, &node[2].hello, buf_slice(&node[2].rest));
    run_for(200 * NS_PER_MS);
    send_one(1, 9, 4);
    run_for(50 * NS_PER_MS);
    ck_assert_uint_ge(node[2].messages, 30);
    ck_assert_uint_eq(node[2].last_group, 9);
    ck_assert_uint_eq(peer_stats(node[1].ps)->messages_out, node[2].messages);
}
END_TEST

/* ---- strangers ---- */

static int dial(const struct node *n)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(n->addr.port)};
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    return fd;
}

static void hello_of(struct buf *b, uint8_t cluster, uint32_t from, uint32_t to)
{
    struct peer_hello h = {{cluster}, from, to, 1, 0, PEER_RAFT};
    peer_hello_encode(b, &h);
}

static bool is_closed(int fd)
{
    char c;
    return recv(fd, &c, 1, MSG_DONTWAIT) == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

static void stranger(unsigned kind, struct buf *b)
{
    struct peer_hello h = {{9}, 1, 2, 1, 0, 3};
    switch (kind) {
    case 0: /* noise */
        for (int i = 0; i < 100; i++)
            buf_printf(b, "GET / HTTP/1.1\r\n");
        break;
    case 1: /* damaged */
        hello_of(b, 9, 1, 2);
        b->p[b->n - 1] ^= 1;
        break;
    case 2: /* meant for another */
        hello_of(b, 9, 1, 3);
        break;
    case 3: /* says it is us */
        hello_of(b, 9, 2, 2);
        break;
    case 4: /* nobody */
        hello_of(b, 9, 0, 2);
        break;
    case 5: /* unknown purpose */
        peer_hello_encode(b, &h);
        break;
    case 10: /* a core that no node can have: each would be a connection to keep */
        h.purpose = PEER_RAFT;
        h.core = LIMIT_CORES;
        peer_hello_encode(b, &h);
        break;
    case 6: { /* messages without a hello */
        size_t begin = frame_begin(b, FRAME_MESSAGES);
        frame_finish(b, begin);
        break;
    }
    case 7: /* version 2 */ {
        size_t begin = frame_begin(b, FRAME_HELLO);
        buf_u16(b, 2);
        buf_extend(b, 60);
        frame_finish(b, begin);
        break;
    }
    case 8: { /* a body that is cut off inside, behind a good hello */
        hello_of(b, 9, 1, 2);
        size_t begin = frame_begin(b, FRAME_MESSAGES);
        buf_u64(b, 7);
        buf_u32(b, 1000000);
        buf_u8(b, 7);
        frame_finish(b, begin);
        break;
    }
    default: { /* larger than any frame, behind a good hello */
        hello_of(b, 9, 1, 2);
        size_t at = b->n;
        size_t begin = frame_begin(b, FRAME_MESSAGES);
        frame_finish(b, begin);
        memset(b->p + at + 4, 0xff, 4);
    }
    }
}
#define STRANGERS 11

START_TEST(garbage_is_refused)
{
    for (unsigned kind = 0; kind < STRANGERS; kind++) {
        struct buf b = {0};
        uint64_t before = peer_stats(node[2].ps)->refused;
        int fd = dial(&node[2]);
        stranger(kind, &b);
        ck_assert_int_eq(send(fd, b.p, b.n, MSG_NOSIGNAL), (ssize_t)b.n);
        run_for(20 * NS_PER_MS);
        ck_assert_msg(is_closed(fd), "kind %u", kind);
        ck_assert_msg(peer_stats(node[2].ps)->refused == before + 1, "kind %u", kind);
        close(fd);
        buf_close(&b);
    }
    ck_assert_uint_eq(node[2].messages, 0);
    send_one(1, 1, 10); /* and a friend is still welcome */
    run_for(20 * NS_PER_MS);
    ck_assert_uint_eq(node[2].messages, 1);
}
END_TEST

START_TEST(newer_connection_ends_the_older)
{
    struct buf b = {0};
    hello_of(&b, 9, 1, 2);
    int old = dial(&node[2]);
    ck_assert_int_eq(send(old, b.p, b.n, 0), (ssize_t)b.n);
    run_for(10 * NS_PER_MS);
    ck_assert(!is_closed(old));
    int new = dial(&node[2]);
    ck_assert_int_eq(send(new, b.p, b.n, 0), (ssize_t)b.n);
    run_for(10 * NS_PER_MS);
    ck_assert(is_closed(old));
    ck_assert(!is_closed(new));
    close(old);
    close(new);
    buf_close(&b);
}
END_TEST

START_TEST(silent_stranger)
{
    int fd = dial(&node[2]);
    run_for(5500 * NS_PER_MS);
    ck_assert(is_closed(fd));
    ck_assert_uint_eq(peer_stats(node[2].ps)->refused, 1);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("peer");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, both_ways);
    tcase_add_test(t, reconnects_after_the_other_is_back);
    tcase_add_test(t, forgotten_link_connects_anew);
    tcase_add_test(t, unknown_address);
    tcase_add_test(t, another_cluster_is_refused);
    tcase_add_test(t, stuck_node);
    tcase_add_test(t, garbage_is_refused);
    tcase_add_test(t, newer_connection_ends_the_older);
    tcase_add_test(t, silent_stranger);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
