/* Many connections at once: what they hold together is bounded, whether they do not read what they
 * asked for or do not end what they began. Messages: u32 length (of the whole), then bytes; the
 * answer to one of 8 bytes is a large one, to a longer one one of 8 bytes. */
#include <arpa/inet.h>
#include <check.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/limits.h"
#include "common/net/conn.h"

#define BOUND (4 * MIB)
#define LARGE (256 * KIB)
#define CLIENTS 64

static struct io *io;
static struct conn_set *set;
static struct io_listener *listener;
static struct io_addr addr;
static int fd[CLIENTS];
static size_t most;

struct side {
    struct conn *c;
};
static unsigned ends, timeouts, refused, answered;

static enum err split(void *arg, struct slice data, size_t *n)
{
    struct cursor c = cursor_of(data);
    uint32_t length = cursor_u32(&c);
    (void)arg;
    if (c.bad)
        return ERR_INCOMPLETE;
    *n = length;
    return length < 8 ? ERR_BAD_REQUEST : data.n < length ? ERR_INCOMPLETE : ERR_OK;
}

static void on_message(void *arg, struct slice m)
{
    struct side *s = arg;
    size_t n = m.n == 8 && !conn_full(s->c, LARGE) ? LARGE : 8;
    refused += m.n == 8 && n == 8;
    answered++;
    struct buf *out = conn_out(s->c);
    buf_u32(out, (uint32_t)n);
    memset(buf_extend(out, n - 4), 'x', n - 4);
    conn_count(s->c);
    most = conn_set_held(set) > most ? conn_set_held(set) : most;
}

static void on_end(void *arg, enum err why)
{
    ends++;
    timeouts += why == ERR_TIMEOUT;
    free(arg);
}

static const struct conn_ops ops = {.split = split, .on_message = on_message, .on_end = on_end};

static void on_accept(void *arg, int handle, const struct io_addr *from)
{
    struct side *s = calloc(1, sizeof *s);
    (void)arg;
    (void)from;
    ck_assert_int_eq(conn_adopt(set, handle, &ops, s, &s->c), ERR_OK);
}

static void hook(void *arg)
{
    (void)arg;
    conn_set_flush(set);
    most = conn_set_held(set) > most ? conn_set_held(set) : most;
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
    while (io_timer_armed(&t))
        io_run(io);
}

static int client(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons(addr.port)};
    int small = 4096, c = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_ge(c, 0);
    (void)setsockopt(c, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    ck_assert_int_eq(connect(c, (struct sockaddr *)&a, sizeof a), 0);
    return c;
}

static void setup(void)
{
    char msg[256];
    struct io_options o = {0};
    ends = timeouts = refused = answered = 0;
    most = 0;
    ck_assert_int_eq(io_create(&o, &io, msg, sizeof msg), ERR_OK);
    set = conn_set_create(io);
    io_set_turn_hook(io, hook, NULL);
    ck_assert_int_eq(io_addr_parse("127.0.0.1:0", &addr), ERR_OK);
    ck_assert_int_eq(io_listen(io, &addr, on_accept, NULL, &listener), ERR_OK);
    io_listener_addr(listener, &addr);
    for (unsigned i = 0; i < CLIENTS; i++)
        fd[i] = client();
    run_for(20 * NS_PER_MS);
    ck_assert_uint_eq(conn_set_count(set), CLIENTS);
}

static void teardown(void)
{
    conn_set_destroy(set);
    io_listener_close(listener);
    io_destroy(io);
    for (unsigned i = 0; i < CLIENTS; i++)
        close(fd[i]);
}

static void say(int c, uint32_t length, size_t n)
{
    static uint8_t bytes[LARGE];
    memcpy(bytes, &length, sizeof length);
    ck_assert_int_eq(send(c, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT), (ssize_t)n);
}

/* Each asks for much and reads nothing. Another one, that reads, is served all the while. */
START_TEST(nobody_reads)
{
    conn_set_bound(set, BOUND);
    for (unsigned i = 1; i < CLIENTS; i++) {
        for (unsigned k = 0; k < 200; k++)
            say(fd[i], 8, 8);
        run_for(NS_PER_MS);
    }
    ck_assert_uint_gt(refused, 0);
    ck_assert_uint_gt(most, BOUND);
    ck_assert_uint_le(most, 2 * BOUND + LARGE + 4096 * CLIENTS);
    for (unsigned k = 0; k < 10; k++) {
        char answer[8];
        say(fd[0], 9, 9);
        run_for(300 * NS_PER_MS);
        ck_assert_int_eq(recv(fd[0], answer, sizeof answer, MSG_DONTWAIT), 8);
    }
    ck_assert_uint_gt(timeouts, 0); /* the slowest were sent away */
    ck_assert_uint_le(conn_set_held(set), 2 * BOUND);
}
END_TEST

/* Each begins a large message and sends no more of it. */
START_TEST(nobody_ends)
{
    conn_set_bound(set, BOUND);
    for (unsigned i = 1; i < CLIENTS; i++) {
        say(fd[i], 8 * MIB, LARGE);
        run_for(2 * NS_PER_MS);
    }
    ck_assert_uint_gt(most, 2 * BOUND);
    run_for(2500 * NS_PER_MS);
    ck_assert_uint_gt(timeouts, 0);
    ck_assert_uint_le(conn_set_held(set), 2 * BOUND);
}
END_TEST

static size_t allocated(void)
{
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

/* What they needed once is not kept for the next time, if they are many. */
START_TEST(idle_ones_keep_little)
{
    enum { MANY = 400 };
    static int many[MANY];
    size_t before = allocated();
    for (unsigned i = 0; i < MANY; i++) {
        many[i] = client();
        say(many[i], LARGE + 40, LARGE);
        run_for(NS_PER_MS);
        say(many[i], 0, 40);
    }
    for (unsigned i = 0; i < 1000 && answered < MANY; i++)
        run_for(5 * NS_PER_MS);
    ck_assert_uint_eq(answered, MANY);
    ck_assert_uint_eq(conn_set_held(set), 0);
    ck_assert_uint_lt(allocated() - before, MANY * (LARGE / 2));
    for (unsigned i = 0; i < MANY; i++)
        close(many[i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("conn_crowd");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, nobody_reads);
    tcase_add_test(t, nobody_ends);
    tcase_add_test(t, idle_ones_keep_little);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
