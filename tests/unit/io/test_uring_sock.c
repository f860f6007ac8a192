/* Sockets on io_uring, in each way of receiving that kernels offer. */
#include <check.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/io/uring_impl.h"

static const unsigned modes[] = {
    0,
    URING_WITHOUT_MULTISHOT,
    URING_WITHOUT_MULTISHOT | URING_WITHOUT_BUFFERS | URING_WITHOUT_DEFER,
};

static struct io *io;
static struct io_listener *listener;
static struct io_addr addr;
static struct io_timer late;

struct end {
    struct io_sock *s;
    struct buf in;
    int ends, sents, connects, detaches;
    enum err why;
    int handle;
    size_t want;       /* stop when so many bytes are there */
    bool close_inside; /* close in on_data */
    bool detach_inside;
    bool stop_at_end;
};
static struct end client, server;
static int accepted_handle;
static bool adopt_accepted;

static void on_detached(void *arg, int handle)
{
    struct end *e = arg;
    e->detaches++;
    e->handle = handle;
    e->s = NULL;
    io_stop(io);
}

static void on_data(void *arg, struct slice data)
{
    struct end *e = arg;
    buf_append(&e->in, data.p, data.n);
    if (e->close_inside && e->s != NULL) {
        io_sock_close(e->s);
        e->s = NULL;
        io_stop(io);
        return;
    }
    if (e->detach_inside) {
        e->detach_inside = false;
        io_sock_detach(e->s, on_detached);
        return;
    }
    if (e->want != 0 && e->in.n >= e->want)
        io_stop(io);
}

static void on_end(void *arg, enum err why)
{
    struct end *e = arg;
    e->ends++;
    e->why = why;
    if (e->stop_at_end)
        io_stop(io);
}

static void on_sent(void *arg)
{
    struct end *e = arg;
    e->sents++;
}

static void on_connected(void *arg)
{
    struct end *e = arg;
    e->connects++;
    if (server.s != NULL || accepted_handle >= 0)
        io_stop(io);
}

static const struct io_sock_ops ops = {on_data, on_end, on_sent, on_connected};

static void on_accept(void *arg, int handle, const struct io_addr *from)
{
    (void)arg;
    ck_assert(io_addr_is_loopback(from));
    if (adopt_accepted)
        ck_assert_int_eq(io_sock_adopt(io, handle, &ops, &server, &server.s), ERR_OK);
    else
        accepted_handle = handle;
    if (client.connects > 0)
        io_stop(io);
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
    io_timer_cancel(io, &t);
}

static void begin(unsigned mode)
{
    char msg[256];
    struct io_options o = {0};
    memset(&client, 0, sizeof client);
    memset(&server, 0, sizeof server);
    accepted_handle = -1;
    adopt_accepted = true;
    uring_without = mode;
    ck_assert_int_eq(io_create(&o, &io, msg, sizeof msg), ERR_OK);
    uring_without = 0;
    ck_assert_int_eq(io_addr_parse("127.0.0.1:0", &addr), ERR_OK);
    ck_assert_int_eq(io_listen(io, &addr, on_accept, NULL, &listener), ERR_OK);
    io_listener_addr(listener, &addr);
    ck_assert_uint_ne(addr.port, 0);
    late = (struct io_timer){.fn = on_late};
    io_timer_set(io, &late, io_now_exact(io) + 20 * NS_PER_S);
}

static void connect_pair(unsigned mode)
{
    begin(mode);
    client.s = io_sock_connect(io, &addr, &ops, &client);
    ck_assert_int_eq(client.connects, 0);
    io_run(io);
    ck_assert_int_eq(client.connects, 1);
}

static void finish(void)
{
    if (client.s != NULL)
        io_sock_close(client.s);
    if (server.s != NULL)
        io_sock_close(server.s);
    io_listener_close(listener);
    buf_close(&client.in);
    buf_close(&server.in);
    io_timer_cancel(io, &late);
    io_destroy(io);
}

static uint8_t *pattern(size_t n)
{
    uint8_t *p = mem_alloc(n);
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(i * 31 + (i >> 8));
    return p;
}

START_TEST(many_bytes_arrive_whole)
{
    size_t n = 9 * MIB + 123;
    uint8_t *bytes = pattern(n);
    connect_pair(modes[_i]);
    server.want = n;
    io_sock_send(client.s, slice_of(bytes, n));
    ck_assert(io_sock_sending(client.s));
    io_run(io);
    run_for(10 * NS_PER_MS);
    ck_assert_int_eq(client.sents, 1);
    ck_assert(!io_sock_sending(client.s));
    ck_assert_uint_eq(server.in.n, n);
    ck_assert_int_eq(memcmp(server.in.p, bytes, n), 0);
    client.want = 5;
    io_sock_send(server.s, slice_of("hello", 5));
    io_run(io);
    ck_assert(slice_eq(buf_slice(&client.in), slice_str("hello")));
    free(bytes);
    finish();
}
END_TEST

START_TEST(end_is_told_once)
{
    connect_pair(modes[_i]);
    server.stop_at_end = true;
    io_sock_close(client.s);
    client.s = NULL;
    io_run(io);
    run_for(5 * NS_PER_MS);
    ck_assert_int_eq(server.ends, 1);
    ck_assert_int_eq(server.why, ERR_CLOSED);
    ck_assert_int_eq(client.ends, 0);
    io_sock_send(server.s, slice_of("late", 4)); /* after the end: nothing comes of it */
    run_for(5 * NS_PER_MS);
    ck_assert_int_eq(server.sents, 0);
    finish();
}
END_TEST

START_TEST(close_inside_on_data)
{
    size_t n = 48 * MIB; /* more than the kernel's socket buffers take */
    uint8_t *bytes = pattern(n);
    connect_pair(modes[_i]);
    server.close_inside = true;
    client.stop_at_end = true;
    io_sock_send(client.s, slice_of(bytes, n));
    io_run(io);
    size_t got = server.in.n;
    io_run(io);
    run_for(5 * NS_PER_MS);
    ck_assert_uint_eq(server.in.n, got); /* not a byte after close */
    ck_assert_int_eq(server.ends, 0);
    ck_assert_int_eq(client.ends, 1); /* also with its send cut off */
    ck_assert_int_eq(client.sents, 0);
    free(bytes);
    finish();
}
END_TEST

/* The kernel may still read the bytes of a cut-off send: `owned` lives until it does not. */
START_TEST(close_during_a_send)
{
    size_t n = 32 * MIB;
    uint8_t *bytes = pattern(n);
    connect_pair(modes[_i]);
    io_sock_pause(server.s);
    io_sock_send(client.s, slice_of(bytes, n));
    run_for(20 * NS_PER_MS);
    ck_assert_int_eq(client.sents, 0);
    io_sock_close_with(client.s, bytes);
    client.s = NULL;
    io_sock_resume(server.s);
    server.stop_at_end = true;
    io_run(io);
    ck_assert_uint_lt(server.in.n, n);
    ck_assert_int_eq(client.ends, 0);
    finish();
}
END_TEST

START_TEST(pause_holds_back)
{
    size_t n = 4 * MIB;
    uint8_t *bytes = pattern(n);
    connect_pair(modes[_i]);
    io_sock_pause(server.s);
    run_for(5 * NS_PER_MS);
    server.want = n;
    io_sock_send(client.s, slice_of(bytes, n));
    run_for(30 * NS_PER_MS);
    ck_assert_uint_eq(server.in.n, 0);
    for (int i = 0; i < 5;
         i++) { /* on and off within one turn: the cancelled receive is taken up */
        io_sock_resume(server.s);
        io_sock_pause(server.s);
    }
    io_sock_resume(server.s);
    io_run(io);
    ck_assert_uint_eq(server.in.n, n);
    ck_assert_int_eq(memcmp(server.in.p, bytes, n), 0);
    free(bytes);
    finish();
}
END_TEST

/* Bytes sent right before and while the socket is handed over: each arrives once, in order, at the
 * old owner or through the handle. */
START_TEST(detach_loses_nothing)
{
    size_t n = 3 * MIB;
    uint8_t *bytes = pattern(n);
    connect_pair(modes[_i]);
    server.detach_inside = true;
    io_sock_send(client.s, slice_of(bytes, n));
    io_run(io);
    ck_assert_int_eq(server.detaches, 1);
    ck_assert_int_ge(server.handle, 0);
    ck_assert_uint_gt(server.in.n, 0);
    ck_assert_uint_lt(server.in.n, n);
    server.want = n;
    ck_assert_int_eq(io_sock_adopt(io, server.handle, &ops, &server, &server.s), ERR_OK);
    io_run(io);
    ck_assert_uint_eq(server.in.n, n);
    ck_assert_int_eq(memcmp(server.in.p, bytes, n), 0);
    free(bytes);
    finish();
}
END_TEST

START_TEST(detach_of_idle_paused_and_dead)
{
    for (int kind = 0; kind < 3; kind++) {
        connect_pair(modes[_i]);
        if (kind == 1) {
            io_sock_pause(server.s);
            run_for(5 * NS_PER_MS); /* no receive is with the kernel now */
        }
        if (kind == 2) {
            io_sock_close(client.s);
            client.s = NULL;
            server.stop_at_end = true;
            io_run(io);
        }
        io_sock_detach(server.s, on_detached);
        ck_assert_int_eq(server.detaches, 0);
        io_run(io);
        ck_assert_int_eq(server.detaches, 1);
        ck_assert_int_eq(server.handle >= 0, kind != 2);
        if (server.handle >= 0)
            io_handle_close(server.handle);
        finish();
    }
}
END_TEST

START_TEST(connect_refused)
{
    begin(modes[_i]);
    io_listener_close(listener);
    run_for(5 * NS_PER_MS);
    client.stop_at_end = true;
    client.s = io_sock_connect(io, &addr, &ops, &client);
    ck_assert_int_eq(client.ends, 0);
    io_run(io);
    ck_assert_int_eq(client.ends, 1);
    ck_assert_int_eq(client.why, ERR_UNREACHABLE);
    ck_assert_int_eq(io_listen(io, &addr, on_accept, NULL, &listener), ERR_OK);
    finish();
}
END_TEST

START_TEST(close_while_connecting)
{
    begin(modes[_i]);
    client.s = io_sock_connect(io, &addr, &ops, &client);
    io_sock_close(client.s);
    client.s = NULL;
    run_for(10 * NS_PER_MS);
    ck_assert_int_eq(client.connects + client.ends, 0);
    finish();
}
END_TEST

START_TEST(port_in_use)
{
    struct io_listener *second = NULL;
    begin(modes[_i]);
    ck_assert_int_eq(io_listen(io, &addr, on_accept, NULL, &second), ERR_ADDRESS_IN_USE);
    io_listener_close(listener); /* and at once free again */
    ck_assert_int_eq(io_listen(io, &addr, on_accept, NULL, &listener), ERR_OK);
    finish();
}
END_TEST

/* More bytes at once than there are buffers: receives end in ENOBUFS and are taken up again. */
#define CROWD 24
static struct end crowd[CROWD], crowd_server[CROWD];
static unsigned crowd_accepted;
static size_t crowd_bytes;

static void crowd_data(void *arg, struct slice data)
{
    (void)arg;
    crowd_bytes += data.n;
    if (crowd_bytes == CROWD * MIB)
        io_stop(io);
}
static const struct io_sock_ops crowd_ops = {crowd_data, on_end, on_sent, NULL};
static uint8_t *crowd_payload;

static void crowd_connected(void *arg)
{
    struct end *e = arg;
    io_sock_send(e->s, slice_of(crowd_payload, MIB));
}
static const struct io_sock_ops crowd_client_ops = {on_data, on_end, on_sent, crowd_connected};

static void crowd_accept(void *arg, int handle, const struct io_addr *from)
{
    (void)arg;
    (void)from;
    struct end *e = &crowd_server[crowd_accepted++];
    ck_assert_int_eq(io_sock_adopt(io, handle, &crowd_ops, e, &e->s), ERR_OK);
}

START_TEST(more_bytes_than_buffers)
{
    begin(modes[_i]);
    io_listener_close(listener);
    ck_assert_int_eq(io_listen(io, &addr, crowd_accept, NULL, &listener), ERR_OK);
    crowd_payload = pattern(MIB);
    crowd_accepted = 0;
    crowd_bytes = 0;
    memset(crowd, 0, sizeof crowd);
    memset(crowd_server, 0, sizeof crowd_server);
    for (int i = 0; i < CROWD; i++)
        crowd[i].s = io_sock_connect(io, &addr, &crowd_client_ops, &crowd[i]);
    io_run(io);
    ck_assert_uint_eq(crowd_bytes, CROWD * MIB);
    for (int i = 0; i < CROWD; i++) {
        ck_assert_int_eq(crowd[i].ends + crowd_server[i].ends, 0);
        io_sock_close(crowd[i].s);
        io_sock_close(crowd_server[i].s);
    }
    free(crowd_payload);
    finish();
}
END_TEST

static int turns;
static void count_turn(void *arg)
{
    (void)arg;
    turns++;
}

/* Out of file handles: the connection waits in the backlog, the loop does not spin. */
START_TEST(accept_without_handles)
{
    struct rlimit before, few;
    struct sockaddr_in sa = {.sin_family = AF_INET};
    begin(modes[_i]);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    few.rlim_cur = (rlim_t)fd + 1;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    run_for(2 * NS_PER_MS); /* hands the accept, with the limit of now, to the kernel */
    sa.sin_port = htons(addr.port);
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    turns = 0;
    io_set_turn_hook(io, count_turn, NULL);
    run_for(350 * NS_PER_MS);
    ck_assert_int_lt(turns, 20);
    ck_assert_ptr_null(server.s);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    run_for(150 * NS_PER_MS);
    ck_assert_ptr_nonnull(server.s);
    close(fd);
    finish();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("uring_sock");
    TCase *t = tcase_create("all");
    int n = sizeof modes / sizeof *modes;
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, many_bytes_arrive_whole, 0, n);
    tcase_add_loop_test(t, end_is_told_once, 0, n);
    tcase_add_loop_test(t, close_inside_on_data, 0, n);
    tcase_add_loop_test(t, close_during_a_send, 0, n);
    tcase_add_loop_test(t, pause_holds_back, 0, n);
    tcase_add_loop_test(t, detach_loses_nothing, 0, n);
    tcase_add_loop_test(t, detach_of_idle_paused_and_dead, 0, n);
    tcase_add_loop_test(t, connect_refused, 0, n);
    tcase_add_loop_test(t, close_while_connecting, 0, n);
    tcase_add_loop_test(t, port_in_use, 0, n);
    tcase_add_loop_test(t, more_bytes_than_buffers, 0, n);
    tcase_add_loop_test(t, accept_without_handles, 0, n);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
