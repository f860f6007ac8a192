/* The client's core: routing, redirects, deadlines, lost connections, nonsense. */
#include "tests/unit/client/core_world.h"

/* ---- the tests ---- */

START_TEST(a_get)
{
    static struct op o;
    unsigned c = begin(&o, KV_METHOD_GET);
    answer_get(c, "x");
    ck_assert_int_eq(o.answers, 1);
    ck_assert_int_eq(o.err, ERR_OK);
    ck_assert_str_eq(o.value, "x");
    ck_assert_uint_eq(o.version, 5);
}
END_TEST

START_TEST(answers_byte_by_byte_and_out_of_order)
{
    static struct op a, b;
    struct rpc_message m;
    struct buf out = {0};
    unsigned c = begin(&a, KV_METHOD_GET);
    submit(&b, KV_METHOD_GET, "k2", 5000);
    ck_assert(next_request(c, &m));
    uint32_t first = m.msgid;
    ck_assert(next_request(c, &m));
    msg_kv_put_get_result(&out, m.msgid,
                          &(struct msg_kv_result){.value = slice_str("second"), .version = 2});
    msg_kv_put_get_result(&out, first,
                          &(struct msg_kv_result){.value = slice_str("first"), .version = 1});
    for (size_t i = 0; i < out.n; i++)
        client_core_on_data(core, c, slice_of(out.p + i, 1), now);
    buf_close(&out);
    ck_assert_str_eq(a.value, "first");
    ck_assert_str_eq(b.value, "second");
}
END_TEST

START_TEST(follows_a_redirect_at_once)
{
    static struct op o;
    unsigned c = begin(&o, KV_METHOD_PUT);
    answer_error(c, "kv.put", ERR_NOT_LEADER, 2, (struct slice){0});
    unsigned c2 = conn_to("10.1.0.2:1");
    ck_assert_uint_ne(c2, 0);
    accept_conn(c2, 2);
    struct rpc_message m;
    struct buf b = {0};
    ck_assert(next_request(c2, &m) && is_method(&m, "kv.put"));
    msg_kv_put_version(&b, m.msgid, 9);
    feed(c2, &b);
    ck_assert_int_eq(o.err, ERR_OK);
    ck_assert_uint_eq(o.version, 9);
    submit(&o, KV_METHOD_GET, "other", 5000); /* and remembers it */
    answer_get(c2, "y");
    ck_assert_str_eq(o.value, "y");
    struct client_core_stats stats;
    client_core_get_stats(core, &stats);
    ck_assert_uint_eq(stats.redirects, 1);
    ck_assert_uint_eq(stats.retries, 1);
    ck_assert_uint_eq(stats.retried, 1);
    ck_assert_uint_eq(stats.retries_max, 1);
}
END_TEST

START_TEST(takes_the_map_of_a_redirect)
{
    static struct op o;
    struct buf map = {0};
    unsigned c = begin(&o, KV_METHOD_GET);
    put_map(&map, 3, 2);
    answer_error(c, "kv.get", ERR_WRONG_SHARD, 0, buf_slice(&map));
    buf_close(&map);
    unsigned c3 = conn_to("10.1.0.3:1");
    ck_assert_uint_ne(c3, 0);
    accept_conn(c3, 3);
    answer_get(c3, "z");
    ck_assert_int_eq(o.err, ERR_OK);
}
END_TEST

START_TEST(asks_the_others_without_a_hint)
{
    static struct op o;
    bool asked[NODES + 1] = {0};
    unsigned c = begin(&o, KV_METHOD_GET);
    answer_error(c, "kv.get", ERR_NOT_LEADER, 0, (struct slice){0});
    for (int i = 0; i < 600 && !o.answers; i++) {
        advance(10);
        for (uint32_t node = 1; node <= NODES; node++) {
            char addr[64];
            struct rpc_message m;
            struct buf b = {0};
            snprintf(addr, sizeof(addr), "10.1.0.%u:1", node);
            unsigned k = conn_to(addr);
            if (k && !wires[k].established)
                accept_conn(k, node);
            if (k && next_request(k, &m) && is_method(&m, "kv.get")) {
                asked[node] = true;
                rpc_put_error_simple(&b, m.msgid, ERR_NO_LEADER, NULL);
                feed(k, &b);
            }
        }
    }
    ck_assert(asked[1] && asked[2] && asked[3]);
    ck_assert_int_eq(o.answers, 1); /* at the deadline, with what it was told last */
    ck_assert_int_eq(o.err, ERR_NO_LEADER);
    ck_assert(!o.maybe);
}
END_TEST

START_TEST(a_lost_write_is_unknown_and_not_sent_again)
{
    static struct op o;
    struct rpc_message m;
    unsigned c = begin(&o, KV_METHOD_PUT);
    ck_assert(next_request(c, &m) && is_method(&m, "kv.put"));
    lose(c);
    ck_assert_int_eq(o.answers, 1);
    ck_assert_int_eq(o.err, ERR_UNKNOWN_OUTCOME);
    ck_assert(o.maybe);
}
END_TEST

START_TEST(a_write_that_never_left_is_tried_again)
{
    static struct op o;
    submit(&o, KV_METHOD_PUT, "k", 5000);
    give_map(1);
    unsigned c = conn_to("10.1.0.1:1");
    send_limit = 200; /* the hello passes, then all but the end of the put */
    struct buf big = {0};
    memset(buf_extend(&big, 4096), 'v', 4096);
    o.op.value = buf_slice(&big);
    accept_conn(c, 1);
    ck_assert_uint_eq(send_limit, 0);
    send_limit = SIZE_MAX;
    lose(c);
    ck_assert_int_eq(o.answers, 0);
    advance(600);
    for (uint32_t node = 1; node <= NODES; node++) {
        char addr[64];
        struct rpc_message m;
        snprintf(addr, sizeof(addr), "10.1.0.%u:1", node);
        unsigned k = conn_to(addr);
        if (!k)
            continue;
        accept_conn(k, node);
        ck_assert(next_request(k, &m) && is_method(&m, "kv.put"));
        struct buf b = {0};
        msg_kv_put_version(&b, m.msgid, 3);
        feed(k, &b);
        break;
    }
    ck_assert_int_eq(o.answers, 1);
    ck_assert_int_eq(o.err, ERR_OK);
    buf_close(&big);
}
END_TEST

START_TEST(a_lost_read_is_tried_again)
{
    static struct op o;
    struct rpc_message m;
    unsigned c = begin(&o, KV_METHOD_GET);
    ck_assert(next_request(c, &m));
    lose(c);
    ck_assert_int_eq(o.answers, 0);
    advance(600);
    ck_assert(conn_to("10.1.0.1:1") || conn_to("10.1.0.2:1") || conn_to("10.1.0.3:1"));
}
END_TEST

START_TEST(deadlines)
{
    static struct op put, get, late;
    struct rpc_message m;
    unsigned c = begin(&put, KV_METHOD_PUT);
    submit(&get, KV_METHOD_GET, "k", 300);
    ck_assert(next_request(c, &m));
    uint32_t id = m.msgid;
    advance(310);
    ck_assert_int_eq(get.answers, 1);
    ck_assert_int_eq(get.err, ERR_TIMEOUT);
    ck_assert(!get.maybe);
    advance(4000);
    /* silent for so long: it was pinged, and its connection was not given up yet */
    advance(800);
    ck_assert_int_eq(put.answers, 1);
    ck_assert(put.maybe);
    ck_assert(put.err == ERR_TIMEOUT || put.err == ERR_UNKNOWN_OUTCOME);
    if (wires[c].established && wires[c].open) { /* a late answer meets nobody */
        struct buf b = {0};
        msg_kv_put_version(&b, id, 1);
        feed(c, &b);
    }
    submit(&late, KV_METHOD_GET, "k", 100);
    ck_assert_int_eq(put.answers, 1);
    advance(300);
    ck_assert_int_eq(late.answers, 1);
}
END_TEST

START_TEST(nobody_is_there)
{
    static struct op o;
    submit(&o, KV_METHOD_PUT, "k", 1000);
    bool asked[3] = {0};
    for (int i = 0; i < 110; i++) {
        if (wires[0].open) {
            asked[wires[0].addr[7] - '0'] = true;
            lose(0);
        }
        advance(10);
    }
    ck_assert(asked[1] && asked[2]);
    ck_assert_int_eq(o.err, ERR_UNREACHABLE);
    ck_assert(o.answers == 1 && !o.maybe);
}
END_TEST

START_TEST(a_silent_node_loses_its_reads)
{
    static struct op o;
    struct rpc_message m;
    unsigned c = begin(&o, KV_METHOD_GET);
    ck_assert(next_request(c, &m));
    advance(1800);
    unsigned c2 = conn_to("10.1.0.2:1") ? conn_to("10.1.0.2:1") : conn_to("10.1.0.3:1");
    ck_assert_uint_ne(c2, 0);
    accept_conn(c2, strcmp(wires[c2].addr, "10.1.0.2:1") == 0 ? 2 : 3);
    answer_get(c2, "elsewhere");
    ck_assert_int_eq(o.answers, 1);
    ck_assert_str_eq(o.value, "elsewhere");
}
END_TEST

START_TEST(a_definite_answer_passes)
{
    static struct op o;
    unsigned c = begin(&o, KV_METHOD_GET);
    answer_error(c, "kv.get", ERR_NOT_FOUND, 0, (struct slice){0});
    ck_assert_int_eq(o.err, ERR_NOT_FOUND);
    ck_assert_int_eq(o.answers, 1);
}
END_TEST

static void notify(uint32_t leader, uint32_t epoch)
{
    struct buf b = {0};
    rpc_put_notify(&b, "map.changed");
    mp_put_array(&b, 1);
    put_map(&b, leader, epoch);
    feed(0, &b);
}

START_TEST(watch_moves_the_route_where_no_leader_is_known)
{
    static struct op o;
    unsigned c = begin(&o, KV_METHOD_GET);
    answer_get(c, "x");
    notify(3, 2); /* node 1 has just answered as the leader: that is better known */
    submit(&o, KV_METHOD_GET, "k", 1000);
    answer_get(c, "y");
    lose(c);
    notify(3, 3);
    submit(&o, KV_METHOD_GET, "k", 1000);
    ck_assert_uint_ne(conn_to("10.1.0.3:1"), 0);
}
END_TEST

START_TEST(no_op_waits_for_a_suspect)
{
    static struct op o;
    struct rpc_message m;
    unsigned c = begin(&o, KV_METHOD_GET);
    ck_assert(next_request(c, &m));
    advance(6000); /* silent until its connection is closed, and the get is over */
    ck_assert_int_eq(o.answers, 1);
    for (unsigned k = 1; k < CONNS; k++) /* whatever was opened meanwhile says nothing either */
        if (wires[k].open)
            lose(k);
    advance(100);
    submit(&o, KV_METHOD_GET, "k", 4000);
    advance(1500);
    for (unsigned k = 1; k < CONNS; k++) {
        if (!wires[k].open || wires[k].established || strcmp(wires[k].addr, "10.1.0.1:1") == 0)
            continue;
        accept_conn(k, (uint32_t)(wires[k].addr[7] - '0'));
    }
    advance(600);
    unsigned c2 = conn_to("10.1.0.2:1"), c3 = conn_to("10.1.0.3:1");
    unsigned at = c2 && wires[c2].out.n ? c2 : c3;
    ck_assert_uint_ne(at, 0);
    answer_get(at, "from another");
    ck_assert_int_eq(o.answers, 1);
    ck_assert_int_eq(o.err, ERR_OK);
}
END_TEST

START_TEST(another_node_at_the_address)
{
    static struct op o;
    submit(&o, KV_METHOD_GET, "k", 1000);
    give_map(1);
    unsigned c = conn_to("10.1.0.1:1");
    wires[c].established = true;
    client_core_on_connected(core, c, now);
    client_core_flush(core, now);
    struct buf b = {0};
    struct rpc_message m;
    struct msg_hello_reply r = {.proto = 1, .node = 2, .cores = 1};
    ck_assert(next_request(c, &m));
    msg_hello_reply_encode(&b, m.msgid, &r);
    feed(c, &b);
    ck_assert(!wires[c].open); /* it is not sent there */
}
END_TEST

/* Nothing that a server sends may crash us or leave an op unanswered. */
START_TEST(garbage)
{
    static struct op o;
    struct rng rng;
    struct rpc_message m;
    rng_seed(&rng, (uint64_t)_i + 1);
    unsigned c = begin(&o, _i % 2 ? KV_METHOD_PUT : KV_METHOD_GET);
    ck_assert(next_request(c, &m));
    struct buf good = {0};
    if (_i % 3 == 0)
        msg_kv_put_get_result(&good, m.msgid,
                              &(struct msg_kv_result){.value = slice_str("value"), .version = 7});
    else if (_i % 3 == 1) {
        struct buf map = {0};
        put_map(&map, 2, 2);
        struct rpc_error e = {.err = ERR_WRONG_SHARD, .leader = 2, .map = buf_slice(&map)};
        rpc_put_error(&good, m.msgid, &e);
        buf_close(&map);
    } else {
        rpc_put_notify(&good, "map.changed");
        mp_put_array(&good, 1);
        put_map(&good, 2, 2);
    }
    for (uint64_t flips = rng_below(&rng, 4) + 1; flips; flips--)
        good.p[rng_below(&rng, good.n)] = (uint8_t)rng_next(&rng);
    feed(_i % 3 == 2 ? 0 : c, &good);
    for (int i = 0; i < 60; i++) {
        for (unsigned k = 0; k < CONNS; k++)
            if (wires[k].open && !wires[k].established)
                lose(k);
        advance(100);
    }
    ck_assert_int_eq(o.answers, 1);
}
END_TEST

START_TEST(destroy_answers_everything)
{
    static struct op sent, waiting;
    struct rpc_message m;
    unsigned c = begin(&sent, KV_METHOD_PUT);
    ck_assert(next_request(c, &m));
    send_limit = 0;
    submit(&waiting, KV_METHOD_PUT, "k", 5000);
    client_core_fail_all(core, ERR_CLOSED);
    ck_assert(sent.answers == 1 && sent.err == ERR_CLOSED && sent.maybe);
    ck_assert(waiting.answers == 1 && waiting.err == ERR_CLOSED && !waiting.maybe);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client_core");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_get);
    tcase_add_test(t, answers_byte_by_byte_and_out_of_order);
    tcase_add_test(t, follows_a_redirect_at_once);
    tcase_add_test(t, takes_the_map_of_a_redirect);
    tcase_add_test(t, asks_the_others_without_a_hint);
    tcase_add_test(t, a_lost_write_is_unknown_and_not_sent_again);
    tcase_add_test(t, a_write_that_never_left_is_tried_again);
    tcase_add_test(t, a_lost_read_is_tried_again);
    tcase_add_test(t, deadlines);
    tcase_add_test(t, nobody_is_there);
    tcase_add_test(t, a_silent_node_loses_its_reads);
    tcase_add_test(t, a_definite_answer_passes);
    tcase_add_test(t, watch_moves_the_route_where_no_leader_is_known);
    tcase_add_test(t, no_op_waits_for_a_suspect);
    tcase_add_test(t, another_node_at_the_address);
    tcase_add_loop_test(t, garbage, 0, 600);
    tcase_add_test(t, destroy_answers_everything);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
