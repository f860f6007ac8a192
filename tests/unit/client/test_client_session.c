/* What is repeated, and as what; what reads ask for. Against a world of arrays. */
#include "tests/unit/client/core_world.h"

#define RETAIN 600000ULL

static void setup_sessions(void)
{
    setup();
    retain_ms = RETAIN;
}

/* ---- the fate of a write, by what happens to each request ---- */

enum event {
    END,          /* of the row */
    ANSWERED,     /* with version 77 */
    LOST,         /* the connection, after all was sent */
    UNSENT,       /* the connection, before all was sent */
    SILENT,       /* never answered */
    NOT_LEADER,   /* with the right leader */
    NOT_LEADER_M, /* and it may have been applied */
    BUSY,
    UNKNOWN,  /* UNKNOWN_OUTCOME: leadership was lost */
    INTERNAL, /* also of unknown outcome */
    TOO_LARGE,
    CONDITION, /* a definite answer */
    NONSENSE,
};

static const struct {
    const char *name;
    bool sessions;
    enum event events[4];
    enum err want;
    bool maybe;
    int requests;  /* that arrived whole */
    int same_from; /* the first request whose number all later ones have too */
} fates[] = {
    {"plain", true, {ANSWERED}, ERR_OK, false, 1, 0},
    {"lost after sending", true, {LOST, ANSWERED}, ERR_OK, false, 2, 0},
    {"lost twice", true, {LOST, LOST, ANSWERED}, ERR_OK, false, 3, 0},
    {"lost after sending, no sessions", false, {LOST}, ERR_UNKNOWN_OUTCOME, true, 1, 0},
    {"lost before sending", true, {UNSENT, ANSWERED}, ERR_OK, false, 1, 0},
    {"lost before sending, no sessions", false, {UNSENT, ANSWERED}, ERR_OK, false, 1, 0},
    {"silent, then another node", true, {SILENT, ANSWERED}, ERR_OK, false, 2, 0},
    {"silent, no sessions", false, {SILENT}, ERR_TIMEOUT, true, 1, 0},
    {"redirected", true, {NOT_LEADER, ANSWERED}, ERR_OK, false, 2, 1},
    {"redirected after loss", true, {LOST, NOT_LEADER, ANSWERED}, ERR_OK, false, 3, 0},
    {"maybe applied by a deposed leader", true, {NOT_LEADER_M, ANSWERED}, ERR_OK, false, 2, 0},
    {"the same, no sessions", false, {NOT_LEADER_M}, ERR_UNKNOWN_OUTCOME, true, 1, 0},
    {"busy", true, {BUSY, ANSWERED}, ERR_OK, false, 2, 1},
    {"unknown outcome", true, {UNKNOWN, ANSWERED}, ERR_OK, false, 2, 0},
    {"unknown outcome, no sessions", false, {UNKNOWN}, ERR_UNKNOWN_OUTCOME, true, 1, 0},
    {"internal error", true, {INTERNAL, ANSWERED}, ERR_OK, false, 2, 0},
    {"busy, then lost, then busy", true, {BUSY, LOST, BUSY, ANSWERED}, ERR_OK, false, 4, 1},
    {"refused", true, {TOO_LARGE}, ERR_VALUE_TOO_LARGE, false, 1, 0},
    {"refused after loss", true, {LOST, TOO_LARGE}, ERR_UNKNOWN_OUTCOME, true, 2, 0},
    {"a condition after loss", true, {LOST, CONDITION}, ERR_CONDITION_FAILED, false, 2, 0},
    {"nonsense, then an answer", true, {NONSENSE, ANSWERED}, ERR_OK, false, 2, 0},
    {"nonsense, no sessions", false, {NONSENSE}, ERR_UNKNOWN_OUTCOME, true, 1, 0},
};

static void happen(enum event event, const struct asked *a)
{
    struct rpc_error e = {.err = ERR_OK};
    struct buf b = {0};
    switch (event) {
    case ANSWERED:
        reply_version(a, 77);
        return;
    case LOST:
        lose(a->conn);
        return;
    case NONSENSE:
        buf_append(&b, "\x94\x01\xc1HTTP", 7);
        feed(a->conn, &b);
        return;
    case NOT_LEADER:
    case NOT_LEADER_M:
        e.err = ERR_NOT_LEADER;
        e.leader = a->node % NODES + 1;
        e.maybe_applied = event == NOT_LEADER_M;
        break;
    case BUSY:
        e.err = ERR_BUSY;
        break;
    case UNKNOWN:
        e = (struct rpc_error){.err = ERR_UNKNOWN_OUTCOME, .maybe_applied = true};
        break;
    case INTERNAL:
        e.err = ERR_INTERNAL;
        break;
    case TOO_LARGE:
        e.err = ERR_VALUE_TOO_LARGE;
        break;
    case CONDITION:
        e = (struct rpc_error){.err = ERR_CONDITION_FAILED, .version = 55};
        break;
    case SILENT:
        wires[a->conn].mute = true;
        return;
    case UNSENT:
    case END:
        return;
    }
    reply_error(a, &e);
}

/* The kernel takes all but the end of what is sent, and the connection goes. */
static void lose_unsent(struct op *o)
{
    struct buf big = {0};
    unsigned c = conn_to("10.1.0.1:1");
    memset(buf_extend(&big, 4096), 'v', 4096);
    o->op.value = buf_slice(&big);
    send_limit = 200;
    accept_conn(c, 1);
    ck_assert_uint_eq(send_limit, 0);
    send_limit = SIZE_MAX;
    lose(c);
    o->op.value = slice_str("value");
    buf_close(&big);
}

START_TEST(fates_of_a_write)
{
    static struct op o;
    struct asked a;
    uint64_t number[4] = {0}, until[4] = {0};
    int requests = 0;
    retain_ms = fates[_i].sessions ? RETAIN : 0;
    submit(&o, KV_METHOD_PUT, "k", 5000);
    give_map(1);
    for (int i = 0; i < 4 && fates[_i].events[i] != END; i++) {
        enum event event = fates[_i].events[i];
        ck_assert_msg(o.answers == 0, "%s: answered before event %d", fates[_i].name, i);
        if (event == UNSENT) {
            lose_unsent(&o);
            continue;
        }
        ck_assert_msg(next_asked(3000, &a), "%s: no request %d", fates[_i].name, i);
        ck_assert_int_eq(a.q.session.id.n == 16, fates[_i].sessions);
        number[requests] = a.q.seq;
        until[requests++] = a.q.session.until_ms;
        happen(event, &a);
    }
    for (int i = 0; i < 100 && !o.answers; i++) {
        bool again = next_asked(60, &a);
        ck_assert_msg(!again, "%s: sent again", fates[_i].name);
    }
    ck_assert_msg(o.err == fates[_i].want, "%s: %s", fates[_i].name, err_name(o.err));
    ck_assert_msg(o.maybe == fates[_i].maybe, "%s: maybe %d", fates[_i].name, o.maybe);
    ck_assert_msg(o.answers == 1, "%s", fates[_i].name);
    ck_assert_msg(requests == fates[_i].requests, "%s: %d", fates[_i].name, requests);
    for (int i = fates[_i].same_from + 1; i < requests; i++) {
        ck_assert_msg(number[i] == number[i - 1], "%s: number of %d", fates[_i].name, i);
        ck_assert_msg(until[i] == until[i - 1], "%s: until of %d", fates[_i].name, i);
    }
    for (int i = 1; i <= fates[_i].same_from && i < requests; i++) /* was surely not applied */
        ck_assert_msg(number[i] > number[i - 1], "%s: old number", fates[_i].name);
    if (o.err == ERR_OK)
        ck_assert_uint_eq(o.version, 77);
    if (o.err == ERR_CONDITION_FAILED)
        ck_assert_uint_eq(o.version, 55);
}
END_TEST

START_TEST(until_and_ack)
{
    static struct op o[3];
    struct asked a[3];
    for (int i = 0; i < 3; i++)
        submit(&o[i], KV_METHOD_PUT, "k", 5000);
    give_map(1);
    for (int i = 0; i < 3; i++) {
        ck_assert(next_asked(100, &a[i]));
        ck_assert_uint_eq(a[i].q.seq, (uint64_t)i + 1);
        ck_assert_uint_eq(a[i].q.session.ack, 1);
        ck_assert_uint_ge(a[i].q.session.until_ms, SERVER_TIME + RETAIN);
        ck_assert_uint_le(a[i].q.session.until_ms, SERVER_TIME + RETAIN + 200);
    }
    reply_version(&a[1], 1); /* out of order: the lowest stays */
    static struct op p;
    struct asked b;
    submit(&p, KV_METHOD_INCR, "k", 5000);
    ck_assert(next_asked(100, &b));
    ck_assert_uint_eq(b.q.session.ack, 1);
    reply_version(&a[0], 2);
    struct buf n = {0};
    msg_kv_put_number(&n, b.msgid, 3, -5);
    feed(b.conn, &n);
    ck_assert_int_eq(p.number, -5);
    submit(&p, KV_METHOD_PUT, "k", 5000);
    ck_assert(next_asked(100, &b));
    ck_assert_uint_eq(b.q.seq, 5);
    ck_assert_uint_eq(b.q.session.ack, 3);
    advance(1000);
    static struct op later;
    submit(&later, KV_METHOD_PUT, "k", 5000);
}
END_TEST

/* Past the time to which a repetition is known, the outcome is what it is. */
START_TEST(too_late_to_be_known)
{
    static struct op o;
    struct asked a;
    retain_ms = 1000;
    submit(&o, KV_METHOD_PUT, "k", 60000);
    give_map(1);
    struct rpc_error e = {.err = ERR_UNKNOWN_OUTCOME, .maybe_applied = true};
    uint64_t begin_at = now;
    while (!o.answers && next_asked(2000, &a))
        reply_error(&a, &e);
    ck_assert_int_eq(o.answers, 1);
    ck_assert_int_eq(o.err, ERR_UNKNOWN_OUTCOME);
    ck_assert(o.maybe);
    ck_assert_uint_lt(now - begin_at, 10 * NS_PER_S);
}
END_TEST

/* A repetition must not reach a server that would not know it as one. */
START_TEST(never_repeated_to_a_server_without_sessions)
{
    static struct op o;
    struct asked a;
    submit(&o, KV_METHOD_PUT, "k", 3000);
    a = first_asked();
    retain_ms = 0;
    lose(a.conn);
    ck_assert(!next_asked(4000, &a));
    ck_assert_int_eq(o.answers, 1);
    ck_assert_int_eq(o.err, ERR_UNKNOWN_OUTCOME);
    ck_assert(o.maybe);
}
END_TEST

START_TEST(without_a_session)
{
    static const char *const seeds[] = {"10.0.0.1:1"};
    static struct op o;
    struct asked a;
    client_core_destroy(core);
    for (unsigned i = 0; i < CONNS; i++)
        wires[i].open = false;
    struct client_core_options opts = {
        .seeds = seeds, .n_seeds = 1, .seed = 1, .now = now, .no_session = true};
    core = client_core_create(&opts, &ops, NULL);
    submit(&o, KV_METHOD_PUT, "k", 3000);
    a = first_asked();
    ck_assert_uint_eq(a.q.session.id.n, 0);
    ck_assert_uint_eq(a.q.seq, 0);
    lose(a.conn);
    ck_assert_int_eq(o.err, ERR_UNKNOWN_OUTCOME);
}
END_TEST

/* Encoded is as good as sent: the kernel takes it when it can. */
START_TEST(what_is_encoded_may_be_applied)
{
    static struct op first, stuck, moved;
    struct asked a;
    submit(&first, KV_METHOD_PUT, "k", 5000);
    a = first_asked();
    send_limit = 0;
    submit(&stuck, KV_METHOD_PUT, "k", 100);
    submit(&moved, KV_METHOD_PUT, "k", 5000);
    advance(120);
    ck_assert_int_eq(stuck.answers, 1);
    ck_assert(stuck.maybe);
    wires[a.conn].mute = true; /* the node stalls: the others go elsewhere, with their numbers */
    uint64_t number[2];
    for (int i = 0; i < 100 && send_limit == 0; i++) {
        advance(10);
        if (conn_to("10.1.0.2:1") || conn_to("10.1.0.3:1"))
            send_limit = SIZE_MAX;
    }
    uint32_t stalled = a.node;
    for (int i = 0; i < 2; i++) {
        ck_assert(next_asked(3000, &a));
        ck_assert_uint_ne(a.node, stalled);
        number[i] = a.q.seq;
        reply_version(&a, 5);
    }
    ck_assert_uint_eq(number[0] + number[1], 1 + 3);
    ck_assert(first.err == ERR_OK && moved.err == ERR_OK);
}
END_TEST

/* ---- weaker reads ---- */

static void submit_read(struct op *o, const char *key, enum kv_read_level level)
{
    ck_assert(!o->op.done || o->answers == 1); /* not in flight */
    *o = (struct op){0};
    o->op.method = KV_METHOD_GET;
    o->op.key = slice_str(key);
    o->op.level = (uint8_t)level;
    o->op.staleness_ms = 500;
    o->op.deadline = now + 5 * NS_PER_S;
    o->op.done = on_done;
    client_core_submit(core, &o->op, now);
    client_core_flush(core, now);
}

static void reply_value(const struct asked *a, uint64_t version, uint64_t at)
{
    struct buf b = {0};
    struct msg_kv_result r = {.value = slice_str("v"), .version = version, .at = at};
    r.has_ttl = true;
    r.ttl_ms = 1234;
    msg_kv_put_get_result(&b, a->msgid, &r);
    feed(a->conn, &b);
}

START_TEST(reads_ask_for_what_was_seen)
{
    static struct op o;
    struct asked a;
    submit(&o, KV_METHOD_PUT, "k", 5000);
    a = first_asked();
    reply_version(&a, 40);
    submit_read(&o, "k", KV_LEVEL_SESSION);
    ck_assert(next_asked(100, &a));
    ck_assert_int_eq(a.q.level, KV_LEVEL_SESSION);
    ck_assert_uint_eq(a.q.token, 40);
    reply_value(&a, 40, 45);
    ck_assert(o.has_ttl && o.ttl_ms == 1234);
    submit_read(&o, "k", KV_LEVEL_ANY); /* what it sees counts, too */
    ck_assert(next_asked(100, &a));
    ck_assert_uint_eq(a.q.token, 0);
    struct rpc_error gone = {.err = ERR_NOT_FOUND, .at = 60};
    reply_error(&a, &gone);
    ck_assert_int_eq(o.err, ERR_NOT_FOUND);
    submit_read(&o, "k", KV_LEVEL_SESSION);
    ck_assert(next_asked(100, &a));
    ck_assert_uint_eq(a.q.token, 60);
    reply_value(&a, 1, 50); /* a server that breaks its word does not take it down again */
    submit(&o, KV_METHOD_PUT, "k", 5000);
    ck_assert(next_asked(100, &a));
    struct rpc_error failed = {.err = ERR_CONDITION_FAILED, .version = 70};
    reply_error(&a, &failed);
    submit_read(&o, "k", KV_LEVEL_SESSION);
    ck_assert(next_asked(100, &a));
    ck_assert_uint_eq(a.q.token, 70);
    reply_value(&a, 70, 70);
    submit_read(&o, "another slot", KV_LEVEL_SESSION);
    ck_assert(next_asked(100, &a));
    ck_assert_uint_eq(a.q.token, 0);
    reply_value(&a, 1, 1);
    submit_read(&o, "k", KV_LEVEL_BOUNDED);
    ck_assert(next_asked(100, &a));
    ck_assert_uint_eq(a.q.staleness_ms, 500);
}
END_TEST

START_TEST(tokens_travel)
{
    static struct op o;
    struct asked a;
    struct buf token = {0}, again = {0};
    submit(&o, KV_METHOD_PUT, "k", 5000);
    a = first_asked();
    reply_version(&a, 40);
    client_core_export(core, &token);
    teardown();
    setup_sessions();
    ck_assert_int_eq(client_core_import(core, buf_slice(&token)), ERR_OK);
    client_core_export(core, &again);
    ck_assert(slice_eq(buf_slice(&token), buf_slice(&again)));
    submit_read(&o, "k", KV_LEVEL_SESSION);
    a = first_asked();
    ck_assert_uint_eq(a.q.token, 40);
    token.p[token.n / 2] ^= 1;
    ck_assert_int_eq(client_core_import(core, buf_slice(&token)), ERR_BAD_REQUEST);
    buf_close(&token);
    buf_close(&again);
}
END_TEST

/* All replicas take part; each answer comes after `ms[node]`. Counts who was asked. */
static void many_reads(unsigned n, const unsigned *ms, unsigned *count)
{
    static struct op o;
    struct asked a;
    for (unsigned i = 0; i < n; i++) {
        submit_read(&o, "k", KV_LEVEL_ANY);
        ck_assert(next_asked(1000, &a));
        count[a.node]++;
        advance(ms[a.node]);
        reply_value(&a, 5, 5);
        ck_assert_int_eq(o.answers, 1);
    }
}

/* Any replica will do; it is the first request. */
static void read_once(struct op *o)
{
    submit_read(o, "k", KV_LEVEL_ANY);
    struct asked a = first_asked();
    reply_value(&a, 5, 5);
}

START_TEST(equal_replicas_share_reads)
{
    static struct op o;
    unsigned ms[NODES + 1] = {0}, count[NODES + 1] = {0};
    read_once(&o);
    many_reads(300, ms, count); /* all within a moment: one of them, but for what is tried */
    unsigned most = 0;
    for (int node = 1; node <= NODES; node++)
        most = count[node] > most ? count[node] : most;
    ck_assert_uint_gt(most, 250);
    memset(count, 0, sizeof(count));
    for (int node = 1; node <= NODES; node++)
        ms[node] = 1;
    many_reads(300, ms, count);
    for (int node = 1; node <= NODES; node++)
        ck_assert_uint_gt(count[node], 50);
    struct client_core_stats stats;
    client_core_get_stats(core, &stats);
    ck_assert_uint_gt(stats.follower_reads, 100);
}
END_TEST

START_TEST(slow_replicas_are_left_out)
{
    static struct op o;
    unsigned ms[NODES + 1] = {0, 20, 0, 20}, count[NODES + 1] = {0};
    read_once(&o);
    many_reads(50, ms, count); /* to learn */
    memset(count, 0, sizeof(count));
    many_reads(300, ms, count);
    ck_assert_uint_gt(count[2], 250);
    unsigned now_2_is_slow[NODES + 1] = {0, 0, 40, 0};
    many_reads(200, now_2_is_slow, count); /* it is noticed */
    memset(count, 0, sizeof(count));
    many_reads(100, now_2_is_slow, count);
    ck_assert_uint_lt(count[2], 30);
}
END_TEST

START_TEST(a_replica_that_cannot_sends_it_to_the_leader)
{
    static struct op o;
    struct asked a;
    submit_read(&o, "k", KV_LEVEL_SESSION);
    give_map(0);
    ck_assert(next_asked(100, &a));
    uint32_t leader = a.node % NODES + 1;
    struct rpc_error e = {.err = ERR_NOT_LEADER, .leader = leader};
    reply_error(&a, &e);
    uint64_t before = now;
    ck_assert(next_asked(100, &a));
    ck_assert_uint_eq(a.node, leader);
    ck_assert_uint_lt(now - before, 3 * NS_PER_MS); /* at once */
    reply_value(&a, 1, 1);
    ck_assert_int_eq(o.err, ERR_OK);
}
END_TEST

/* A replica that is not there yet answers fast, and is near: it must not be asked for ever. */
START_TEST(a_replica_that_is_not_ready)
{
    static const enum err errors[] = {ERR_NOT_READY, ERR_BUSY, ERR_INTERNAL, ERR_TIMEOUT};
    static struct op o;
    struct asked a;
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        submit_read(&o, "k", KV_LEVEL_ANY);
        if (i == 0)
            give_map(1);
        int asked = 0;
        while (!o.answers) {
            struct rpc_error e = {.err = errors[i]};
            ck_assert(next_asked(1000, &a));
            asked++;
            if (a.node == 1) /* the leader */
                reply_value(&a, 1, 1);
            else
                reply_error(&a, &e);
        }
        ck_assert_int_le(asked, 2);
        ck_assert_int_eq(o.err, ERR_OK);
    }
}
END_TEST

static void give_zones(uint32_t near)
{
    struct shard_map m;
    struct buf b = {0};
    shard_map_init(&m);
    m.version = 2;
    for (uint32_t i = 1; i <= NODES; i++) {
        struct shard_node n = {.node = i, .cores = 1};
        snprintf(n.name, sizeof(n.name), "n%u", i);
        snprintf(n.client_addr, sizeof(n.client_addr), "10.1.0.%u:1", i);
        snprintf(n.zone, sizeof(n.zone), "%s", i == near ? "here" : "there");
        shard_map_put_node(&m, &n);
    }
    rpc_put_notify(&b, "map.changed");
    mp_put_array(&b, 1);
    msg_map_encode(&b, &m);
    feed(0, &b);
    shard_map_close(&m);
}

START_TEST(the_own_zone_first)
{
    static struct op o;
    unsigned ms[NODES + 1] = {0, 0, 10, 0}, count[NODES + 1] = {0};
    struct asked a;
    read_once(&o);
    give_zones(2);
    many_reads(50, ms, count);
    ck_assert_uint_eq(count[2], 50); /* also if it is slower */
    unsigned c = conn_to("10.1.0.2:1");
    lose(c);
    submit_read(&o, "k", KV_LEVEL_ANY); /* not there at the moment: another */
    ck_assert(next_asked(1, &a));
    ck_assert_uint_ne(a.node, 2);
}
END_TEST

/* ---- a node that keeps failing ---- */

START_TEST(a_failing_node_is_left_alone)
{
    static struct op o;
    struct asked a;
    struct client_core_stats stats;
    unsigned to[NODES + 1] = {0};
    submit_read(&o, "k", KV_LEVEL_ANY);
    give_map(1);
    for (int i = 0; i < 400; i++) {
        if (o.answers)
            submit_read(&o, "k", KV_LEVEL_ANY);
        ck_assert(next_asked(3000, &a));
        if (i >= 200)
            to[a.node]++;
        struct rpc_error e = {.err = ERR_TIMEOUT};
        if (a.node == 2)
            reply_error(&a, &e);
        else
            reply_value(&a, 1, 1);
        advance(2);
    }
    client_core_get_stats(core, &stats);
    ck_assert_uint_ge(stats.breaker_opens, 1);
    ck_assert_uint_le(to[2], 10); /* probes */
    ck_assert_uint_gt(to[1] + to[3], 150);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client_session");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup_sessions, teardown);
    tcase_add_loop_test(t, fates_of_a_write, 0, sizeof(fates) / sizeof(fates[0]));
    tcase_add_test(t, until_and_ack);
    tcase_add_test(t, too_late_to_be_known);
    tcase_add_test(t, never_repeated_to_a_server_without_sessions);
    tcase_add_test(t, without_a_session);
    tcase_add_test(t, what_is_encoded_may_be_applied);
    tcase_add_test(t, reads_ask_for_what_was_seen);
    tcase_add_test(t, tokens_travel);
    tcase_add_test(t, equal_replicas_share_reads);
    tcase_add_test(t, slow_replicas_are_left_out);
    tcase_add_test(t, a_replica_that_cannot_sends_it_to_the_leader);
    tcase_add_test(t, a_replica_that_is_not_ready);
    tcase_add_test(t, the_own_zone_first);
    tcase_add_test(t, a_failing_node_is_left_alone);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
