/* conn.h over real sockets: u32 length (of the whole message) + bytes; length 0 is malformed. */
#include <arpa/inet.h>
#include <check.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/net/conn.h"

static struct io *io;
static struct conn_set *set;
static struct io_listener *listener;
static struct io_addr addr;
static struct io_timer late;

struct side {
    struct conn *c;
    unsigned messages, ends, connects, malformed, detaches;
    size_t bytes;
    unsigned want; /* stop after so many messages */
    bool echo, bad_order, close_on_first, abort_on_first, detach_on_first, pause_on_first;
    uint32_t next; /* number expected in the next message */
    enum err why;
    int handle;
    struct buf rest;
};
static struct side server, client;

static enum err split(void *arg, struct slice data, size_t *n)
{
    struct cursor c = cursor_of(data);
    uint32_t length = cursor_u32(&c);
    (void)arg;
    if (c.bad)
        return ERR_INCOMPLETE;
    if (length < 8)
        return ERR_BAD_REQUEST;
    *n = length;
    return data.n < length ? ERR_INCOMPLETE : ERR_OK;
}

static void put(struct buf *b, uint32_t number, size_t payload)
{
    buf_u32(b, (uint32_t)(8 + payload));
    buf_u32(b, number);
    memset(buf_extend(b, payload), (int)(number & 0xff), payload);
}

static void on_detached(void *arg, int handle, struct slice rest)
{
    struct side *s = arg;
    s->detaches++;
    s->handle = handle;
    buf_append(&s->rest, rest.p, rest.n);
    io_stop(io);
}

static void on_message(void *arg, struct slice m)
{
    struct side *s = arg;
    struct cursor c = cursor_of(m);
    (void)cursor_u32(&c);
    if (cursor_u32(&c) != s->next++)
        s->bad_order = true;
    for (size_t i = 8; i < m.n; i++)
        if (m.p[i] != (uint8_t)(s->next - 1))
            s->bad_order = true;
    s->messages++;
    s->bytes += m.n;
    if (s->echo)
        buf_append(conn_out(s->c), m.p, m.n);
    if (s->messages == 1 && s->close_on_first) {
        put(conn_out(s->c), 0, 5);
        conn_close(s->c);
    }
    if (s->messages == 1 && s->abort_on_first)
        conn_abort(s->c);
    if (s->messages == 1 && s->detach_on_first)
        conn_detach(s->c, on_detached, s);
    if (s->messages == 1 && s->pause_on_first)
        conn_pause(s->c);
    if (s->messages == s->want)
        io_stop(io);
}

static void on_malformed(void *arg, enum err why)
{
    struct side *s = arg;
    (void)why;
    s->malformed++;
    put(conn_out(s->c), 0, 9); /* last words */
}

static void on_end(void *arg, enum err why)
{
    struct side *s = arg;
    s->ends++;
    s->why = why;
    s->c = NULL;
    io_stop(io);
}

static void on_connected(void *arg)
{
    struct side *s = arg;
    s->connects++;
}

static const struct conn_ops ops = {split, on_message, on_malformed, on_end, on_connected};

static void on_accept(void *arg, int handle, const struct io_addr *from)
{
    (void)arg;
    (void)from;
    ck_assert_int_eq(conn_adopt(set, handle, &ops, &server, &server.c), ERR_OK);
}

static void hook(void *arg)
{
    (void)arg;
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
    uint64_t until = io_now_exact(io) + ns;
    io_timer_set(io, &t, until);
    while (io_timer_armed(&t))
        io_run(io);
}

static void setup(void)
{
    char msg[256];
    struct io_options o = {0};
    memset(&server, 0, sizeof server);
    memset(&client, 0, sizeof client);
    ck_assert_int_eq(io_create(&o, &io, msg, sizeof msg), ERR_OK);
    set = conn_set_create(io);
    io_set_turn_hook(io, hook, NULL);
    ck_assert_int_eq(io_addr_parse("127.0.0.1:0", &addr), ERR_OK);
    ck_assert_int_eq(io_listen(io, &addr, on_accept, NULL, &listener), ERR_OK);
    io_listener_addr(listener, &addr);
    client.c = conn_connect(set, &addr, &ops, &client);
    late = (struct io_timer){.fn = on_late};
    io_timer_set(io, &late, io_now(io) + 40 * NS_PER_S);
}

static void teardown(void)
{
    conn_set_destroy(set);
    io_listener_close(listener);
    io_timer_cancel(io, &late);
    io_destroy(io);
    buf_close(&server.rest);
    ck_assert_ptr_null(client.c);
    ck_assert_ptr_null(server.c);
    ck_assert_uint_le(client.ends, 1);
    ck_assert_uint_le(server.ends, 1);
}

START_TEST(messages_of_all_sizes)
{
    static const size_t sizes[] = {0,     1,           100, 4088, 16376,  16377,
                                   70000, 3 * MIB + 5, 3,   0,    8 * MIB};
    uint32_t number = 0;
    server.echo = true;
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            put(conn_out(client.c), number++, sizes[i]);
    for (int i = 0; i < 20000; i++)
        put(conn_out(client.c), number++, (size_t)(i * 7 % 300));
    client.want = number;
    io_run(io);
    ck_assert_uint_eq(client.messages, number);
    ck_assert_uint_eq(server.messages, number);
    ck_assert_uint_eq(client.connects, 1);
    ck_assert(!client.bad_order && !server.bad_order);
    run_for(5 * NS_PER_MS);
    ck_assert_uint_eq(conn_unsent(server.c) + conn_unsent(client.c), 0);
}
END_TEST

START_TEST(bytes_one_by_one)
{
    struct buf b = {0};
    for (uint32_t i = 0; i < 20; i++)
        put(&b, i, i);
    for (size_t i = 0; i < b.n; i++) {
        buf_append(conn_out(client.c), b.p + i, 1);
        run_for(100 * NS_PER_US);
    }
    run_for(5 * NS_PER_MS);
    ck_assert_uint_eq(server.messages, 20);
    ck_assert(!server.bad_order);
    buf_close(&b);
}
END_TEST

START_TEST(close_sends_first)
{
    server.close_on_first = true;
    client.want = 1;
    put(conn_out(client.c), 0, 3);
    put(conn_out(client.c), 1, 3);
    io_run(io);
    run_for(10 * NS_PER_MS);
    ck_assert_uint_eq(server.messages, 1); /* none after conn_close() */
    ck_assert_uint_eq(client.messages, 1);
    ck_assert_uint_eq(server.ends, 1);
    ck_assert_uint_eq(client.ends, 1);
    ck_assert_uint_eq(conn_set_count(set), 0);
}
END_TEST

START_TEST(abort_inside_a_message)
{
    server.abort_on_first = true;
    for (uint32_t i = 0; i < 100; i++)
        put(conn_out(client.c), i, 100);
    run_for(20 * NS_PER_MS);
    ck_assert_uint_eq(server.messages, 1);
    ck_assert_uint_eq(server.ends, 1);
    ck_assert_uint_eq(client.ends, 1);
}
END_TEST

START_TEST(garbage_gets_last_words)
{
    client.want = 1;
    buf_u32(conn_out(client.c), 0);
    buf_extend(conn_out(client.c), 300000);
    memset(conn_out(client.c)->p, 0, 300004);
    io_run(io);
    run_for(20 * NS_PER_MS);
    ck_assert_uint_eq(server.malformed, 1);
    ck_assert_uint_eq(server.messages, 0);
    ck_assert_int_eq(server.why, ERR_BAD_REQUEST);
    ck_assert_uint_eq(client.messages, 1);
    ck_assert_uint_eq(client.ends, 1);
}
END_TEST

START_TEST(paused_messages_wait)
{
    server.pause_on_first = true;
    uint32_t n = 3000;
    for (uint32_t i = 0; i < n; i++)
        put(conn_out(client.c), i, 1000); /* 3 MB: the socket is paused as well */
    run_for(50 * NS_PER_MS);
    ck_assert_uint_eq(server.messages, 1);
    conn_resume(server.c);
    ck_assert_uint_eq(server.messages, 1); /* not from inside */
    server.want = n;
    io_run(io);
    ck_assert_uint_eq(server.messages, n);
    ck_assert(!server.bad_order);
}
END_TEST

START_TEST(detach_passes_on_the_rest)
{
    uint32_t n = 2000;
    server.detach_on_first = true;
    for (uint32_t i = 0; i < n; i++)
        put(conn_out(client.c), i, 777);
    io_run(io);
    ck_assert_uint_eq(server.detaches, 1);
    ck_assert_int_ge(server.handle, 0);
    ck_assert_uint_eq(server.ends, 0);
    ck_assert_uint_eq(server.messages, 1);
    server.detach_on_first = false;
    ck_assert_int_eq(conn_adopt(set, server.handle, &ops, &server, &server.c), ERR_OK);
    conn_feed(server.c, buf_slice(&server.rest));
    server.want = n;
    io_run(io);
    ck_assert_uint_eq(server.messages, n);
    ck_assert(!server.bad_order);
}
END_TEST

/* Little at a time: a client choked on its own output would not read either. */
static void ask_more(uint32_t *asked, uint32_t n)
{
    for (int i = 0; i < 40 && *asked < n && conn_unsent(client.c) < 8 * MIB; i++)
        put(conn_out(client.c), (*asked)++, 100 * KIB);
}

/* A client that asks and does not read: what is unsent stays within bounds, and all comes in the
 * end once it reads. */
START_TEST(slow_reader_is_held_back)
{
    uint32_t n = 1200, asked = 0; /* 117 MiB */
    size_t most = 0;
    server.echo = true;
    conn_pause(client.c);
    for (int i = 0; i < 60; i++) {
        ask_more(&asked, n);
        run_for(5 * NS_PER_MS);
        most = conn_unsent(server.c) > most ? conn_unsent(server.c) : most;
    }
    ck_assert_uint_gt(most, LIMIT_CONN_OUT / 2);
    ck_assert_uint_le(most, LIMIT_CONN_OUT + 101 * KIB);
    ck_assert_uint_lt(server.messages, n);
    conn_resume(client.c);
    while (client.messages < n) {
        ask_more(&asked, n);
        run_for(1 * NS_PER_MS);
    }
    ck_assert(!client.bad_order);
}
END_TEST

START_TEST(half_a_message_times_out)
{
    buf_u32(conn_out(client.c), 100);
    uint64_t start = io_now_exact(io);
    io_run(io);
    uint64_t took = io_now_exact(io) - start;
    ck_assert_int_eq(server.why, ERR_TIMEOUT);
    ck_assert_uint_eq(server.ends, 1);
    ck_assert_uint_ge(took, LIMIT_CONN_PARTIAL_NS);
    ck_assert_uint_lt(took, LIMIT_CONN_PARTIAL_NS + 2 * NS_PER_S);
    run_for(5 * NS_PER_MS);
}
END_TEST

START_TEST(refused)
{
    struct io_addr dead;
    struct side other = {0};
    run_for(5 * NS_PER_MS);
    ck_assert_int_eq(io_addr_parse("127.0.0.1:1", &dead), ERR_OK);
    other.c = conn_connect(set, &dead, &ops, &other);
    put(conn_out(other.c), 0, 10);
    io_run(io);
    ck_assert_uint_eq(other.ends, 1);
    ck_assert_int_eq(other.why, ERR_UNREACHABLE);
    ck_assert_uint_eq(other.connects, 0);
}
END_TEST

START_TEST(close_is_bounded)
{
    run_for(5 * NS_PER_MS);
    conn_pause(client.c);
    for (uint32_t i = 0; i < 30; i++)
        put(conn_out(server.c), i, MIB);
    run_for(20 * NS_PER_MS);
    ck_assert_uint_gt(conn_unsent(server.c), 0);
    conn_close(server.c);
    uint64_t start = io_now_exact(io);
    io_run(io);
    ck_assert_uint_eq(server.ends, 1);
    ck_assert_uint_lt(io_now_exact(io) - start, 2 * NS_PER_S);
    run_for(10 * NS_PER_MS);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("conn");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, messages_of_all_sizes);
    tcase_add_test(t, bytes_one_by_one);
    tcase_add_test(t, close_sends_first);
    tcase_add_test(t, abort_inside_a_message);
    tcase_add_test(t, garbage_gets_last_words);
    tcase_add_test(t, paused_messages_wait);
    tcase_add_test(t, detach_passes_on_the_rest);
    tcase_add_test(t, slow_reader_is_held_back);
    tcase_add_test(t, half_a_message_times_out);
    tcase_add_test(t, refused);
    tcase_add_test(t, close_is_bounded);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
