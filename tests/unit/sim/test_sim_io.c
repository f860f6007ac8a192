/* The simulated loop and network: order, turns, partial data, cuts, crashes, repeatability. */
#include <check.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "tests/sim/sim.h"

/* A process that sends `total` bytes of a known pattern to another, which checks them. */
struct side {
    struct sim_host *host;
    struct io *io;
    struct io_listener *listener;
    struct io_sock *sock;
    uint64_t received, sent, total;
    unsigned pieces, turns;
    bool connected, ended, accepted;
    enum err why;
    uint8_t out[5000];
    struct io_timer timer;
    unsigned ticks;
    uint64_t last_now;
};

static struct side a, b;

static uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * 31 + at / 251);
}

static void send_more(struct side *s)
{
    size_t n = s->total - s->sent < sizeof s->out ? (size_t)(s->total - s->sent) : sizeof s->out;

    if (n == 0)
        return;
    for (size_t i = 0; i < n; i++)
        s->out[i] = pattern(s->sent + i);
    s->sent += n;
    io_sock_send(s->sock, slice_of(s->out, n));
}

static void on_data(void *arg, struct slice data)
{
    struct side *s = arg;
    size_t wrong = 0;

    /* Counted, not asserted one by one: Check keeps a record of each assertion passed, and takes
     * them out again in quadratic time. */
    for (size_t i = 0; i < data.n; i++)
        wrong += data.p[i] != pattern(s->received + i);
    ck_assert_uint_eq(wrong, 0);
    s->received += data.n;
    s->pieces++;
}

static void on_end(void *arg, enum err why)
{
    struct side *s = arg;

    ck_assert(!s->ended);
    s->ended = true;
    s->why = why;
    io_sock_close(s->sock);
    s->sock = NULL;
}

static void on_sent(void *arg)
{
    send_more(arg);
}

static void on_connected(void *arg)
{
    struct side *s = arg;

    s->connected = true;
    send_more(s);
}

static const struct io_sock_ops ops = {on_data, on_end, on_sent, on_connected};

static void on_accept(void *arg, int handle, const struct io_addr *from)
{
    struct side *s = arg;

    (void)from;
    s->accepted = true;
    ck_assert_int_eq(io_sock_adopt(s->io, handle, &ops, s, &s->sock), ERR_OK);
}

static void on_turn(void *arg)
{
    struct side *s = arg;

    s->turns++;
    ck_assert_uint_gt(io_now(s->io), s->last_now);
    s->last_now = io_now(s->io);
}

static void start(void *arg)
{
    struct side *s = arg;
    struct io_options o = {0};
    char msg[100];

    ck_assert_int_eq(io_create(&o, &s->io, msg, sizeof msg), ERR_OK);
    io_set_turn_hook(s->io, on_turn, s);
}

static void start_server(void *arg)
{
    struct side *s = arg;
    struct io_addr addr;

    start(arg);
    ck_assert_int_eq(io_addr_parse("127.0.0.2:7000", &addr), ERR_OK);
    ck_assert_int_eq(io_listen(s->io, &addr, on_accept, s, &s->listener), ERR_OK);
}

static void start_client(void *arg)
{
    struct side *s = arg;
    struct io_addr addr;

    start(arg);
    ck_assert_int_eq(io_addr_parse("127.0.0.2:7000", &addr), ERR_OK);
    s->sock = io_sock_connect(s->io, &addr, &ops, s);
}

static void begin(uint64_t seed, uint64_t total)
{
    sim_begin(seed);
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    a.host = sim_host_create(1);
    b.host = sim_host_create(2);
    a.total = total;
    ck_assert(sim_host_start(b.host, start_server, &b));
    ck_assert(sim_host_start(a.host, start_client, &a));
}

START_TEST(test_stream)
{
    uint64_t hash[2];

    for (int round = 0; round < 2; round++) {
        begin(7, 1000000);
        sim_run(30 * NS_PER_S);
        ck_assert(a.connected && b.accepted);
        ck_assert_uint_eq(b.received, 1000000);
        ck_assert_uint_gt(b.pieces, 20);
        hash[round] = sim_trace_hash();
    }
    ck_assert_uint_eq(hash[0], hash[1]);
    begin(8, 1000000);
    sim_run(30 * NS_PER_S);
    ck_assert_uint_ne(hash[0], sim_trace_hash());
}
END_TEST

START_TEST(test_cut_holds_and_heals)
{
    uint64_t before;

    begin(3, 10000000);
    sim_run(sim_now() + 5 * NS_PER_MS);
    sim_net_cut(1, 2, true);
    sim_run(sim_now() + NS_PER_MS);
    before = b.received;
    sim_run(sim_now() + 3 * NS_PER_S);
    ck_assert_uint_le(b.received, before + 1);
    ck_assert(!a.ended && !b.ended);
    sim_net_heal();
    sim_run(sim_now() + 30 * NS_PER_S);
    ck_assert_uint_eq(b.received, 10000000);
}
END_TEST

START_TEST(test_one_way_cut_closes_the_window)
{
    begin(3, 10000000);
    sim_run(sim_now() + 5 * NS_PER_MS);
    sim_net_cut(2, 1, true); /* the acknowledgements */
    sim_run(sim_now() + 3 * NS_PER_S);
    ck_assert_uint_lt(b.received, 5000000);
    sim_net_heal();
    sim_run(sim_now() + 30 * NS_PER_S);
    ck_assert_uint_eq(b.received, 10000000);
}
END_TEST

static void restart_server(void)
{
    memset(&b, 0, sizeof b);
    b.host = sim_host_find(2);
    ck_assert(sim_host_start(b.host, start_server, &b));
}

START_TEST(test_kill_resets_power_is_silent)
{
    begin(4, 100000000);
    sim_run(sim_now() + 20 * NS_PER_MS);
    sim_host_kill(b.host, SIM_KILL);
    ck_assert(!sim_host_up(b.host));
    sim_run(sim_now() + NS_PER_S);
    ck_assert(a.ended);
    ck_assert_int_eq(a.why, ERR_CLOSED);
    begin(4, 100000000);
    sim_run(sim_now() + 20 * NS_PER_MS);
    sim_host_kill(b.host, SIM_POWER);
    sim_run(sim_now() + 5 * NS_PER_S);
    ck_assert(!a.ended);
    restart_server();
    sim_run(sim_now() + 5 * NS_PER_S);
    ck_assert(a.ended);
    ck_assert_int_eq(a.why, ERR_CLOSED);
}
END_TEST

/* All that may be sent has arrived; nobody took it. */
START_TEST(test_power_lost_behind_a_full_window)
{
    begin(4, 100000000);
    sim_run(sim_now() + 5 * NS_PER_MS);
    sim_host_pause(b.host, 4 * NS_PER_S);
    sim_run(sim_now() + 3 * NS_PER_S);
    sim_host_kill(b.host, SIM_POWER);
    sim_run(sim_now() + NS_PER_S);
    ck_assert(!a.ended);
    restart_server();
    sim_run(sim_now() + 5 * NS_PER_S);
    ck_assert(a.ended);
    ck_assert_int_eq(a.why, ERR_CLOSED);
}
END_TEST

START_TEST(test_refused)
{
    sim_begin(5);
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    a.host = sim_host_create(1);
    b.host = sim_host_create(2);
    ck_assert(sim_host_start(b.host, start, &b));
    ck_assert(sim_host_start(a.host, start_client, &a));
    sim_run(sim_now() + 5 * NS_PER_S);
    ck_assert(a.ended && !a.connected);
}
END_TEST

static void on_tick(struct io_timer *t)
{
    a.ticks++;
    io_timer_set(a.io, t, io_now(a.io) + 10 * NS_PER_MS);
}

static void start_timer(void *arg)
{
    struct side *s = arg;

    start(arg);
    s->timer.fn = on_tick;
    io_timer_set(s->io, &s->timer, io_now(s->io) + 10 * NS_PER_MS);
}

START_TEST(test_timers_pause_and_rate)
{
    unsigned ticks;

    sim_begin(6);
    memset(&a, 0, sizeof a);
    a.host = sim_host_create(1);
    ck_assert(sim_host_start(a.host, start_timer, &a));
    sim_run(sim_now() + NS_PER_S);
    ck_assert(a.ticks > 90 && a.ticks <= 100);
    ticks = a.ticks;
    sim_host_pause(a.host, NS_PER_S);
    sim_run(sim_now() + NS_PER_S - 1);
    ck_assert_uint_eq(a.ticks, ticks);
    sim_run(sim_now() + NS_PER_S);
    ck_assert_uint_gt(a.ticks, ticks + 90);
    ticks = a.ticks;
    sim_host_clock(a.host, 2.0, 0);
    sim_run(sim_now() + NS_PER_S);
    ck_assert(a.ticks - ticks > 170 && a.ticks - ticks <= 201);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sim_io");
    TCase *t = tcase_create("all");
    SRunner *sr;
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_stream);
    tcase_add_test(t, test_cut_holds_and_heals);
    tcase_add_test(t, test_one_way_cut_closes_the_window);
    tcase_add_test(t, test_kill_resets_power_is_silent);
    tcase_add_test(t, test_power_lost_behind_a_full_window);
    tcase_add_test(t, test_refused);
    tcase_add_test(t, test_timers_pause_and_rate);
    suite_add_tcase(s, t);
    sr = srunner_create(s);
    srunner_set_fork_status(sr, CK_NOFORK);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? 1 : 0;
}
