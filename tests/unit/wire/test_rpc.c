#include "common/wire/rpc.h"

#include <check.h>
#include <stdlib.h>

#include "common/base/limits.h"
#include "common/base/rng.h"
#include "common/wire/mp.h"
#include "tests/unit/wire/message.h"

static struct rpc_message decode(void)
{
    struct rpc_message m = whole(), same;
    ck_assert_int_eq(rpc_decode_split(buf_slice(&b), &same), ERR_OK);
    ck_assert(same.type == m.type && same.msgid == m.msgid && slice_eq(same.params, m.params) &&
              slice_eq(same.method, m.method) && slice_eq(same.result, m.result) &&
              slice_eq(same.error, m.error));
    return m;
}

START_TEST(request)
{
    rpc_put_request(&b, UINT32_MAX, "kv.get");
    mp_put_array(&b, 1);
    mp_put_str(&b, "k");
    struct rpc_message m = decode();
    ck_assert_uint_eq(m.type, RPC_REQUEST);
    ck_assert_uint_eq(m.msgid, UINT32_MAX);
    ck_assert(slice_eq(m.method, slice_str("kv.get")));
    ck_assert(slice_eq(m.params, slice_str("\x91\xa1k")));
    ck_assert_uint_eq(m.error.n + m.result.n, 0);
}
END_TEST

START_TEST(notification)
{
    rpc_put_notify(&b, "map.changed");
    mp_put_array(&b, 0);
    struct rpc_message m = decode();
    ck_assert_uint_eq(m.type, RPC_NOTIFY);
    ck_assert(slice_eq(m.method, slice_str("map.changed")));
    ck_assert_uint_eq(m.params.n, 1);
}
END_TEST

START_TEST(result)
{
    rpc_put_result(&b, 7);
    mp_put_nil(&b);
    struct rpc_message m = decode();
    ck_assert_uint_eq(m.type, RPC_RESPONSE);
    ck_assert_uint_eq(m.msgid, 7);
    ck_assert_uint_eq(m.error.n, 0);
    ck_assert(slice_eq(m.result, slice_str("\xc0")));
}
END_TEST

START_TEST(error_with_all_hints)
{
    struct rpc_error e = {.err = ERR_NOT_LEADER,
                          .maybe_applied = true,
                          .leader = 3,
                          .retry_ms = 50,
                          .epoch_range = 4,
                          .epoch_members = 5,
                          .time_ms = 1700000000000,
                          .map = slice_str("\x81\xa1x\x01")};
    struct rpc_error got;
    rpc_put_error(&b, 9, &e);
    struct rpc_message m = decode();
    ck_assert_uint_gt(m.error.n, 0);
    rpc_get_error(m.error, &got);
    ck_assert_int_eq(got.err, ERR_NOT_LEADER);
    ck_assert_str_eq(got.text, err_text(ERR_NOT_LEADER));
    ck_assert(got.maybe_applied);
    ck_assert_uint_eq(got.leader, 3);
    ck_assert_uint_eq(got.retry_ms, 50);
    ck_assert_uint_eq(got.epoch_range, 4);
    ck_assert_uint_eq(got.epoch_members, 5);
    ck_assert_uint_eq(got.time_ms, 1700000000000);
    ck_assert(slice_eq(got.map, e.map));
}
END_TEST

START_TEST(simple_errors)
{
    static const struct {
        enum err err;
        const char *text, *want;
        bool maybe;
    } rows[] = {
        {ERR_BUSY, NULL, "overloaded; try again later", false},
        {ERR_BUSY, "full", "full", false},
        {ERR_TIMEOUT, "a\nb", "a?b", true}, /* its class says: unknown outcome */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rpc_error got;
        buf_clear(&b);
        rpc_put_error_simple(&b, 1, rows[i].err, rows[i].text);
        rpc_get_error(decode().error, &got);
        ck_assert_int_eq(got.err, rows[i].err);
        ck_assert_str_eq(got.text, rows[i].want);
        ck_assert_int_eq(got.maybe_applied, rows[i].maybe);
        ck_assert_uint_eq(got.leader + got.retry_ms + got.map.n, 0);
    }
}
END_TEST

START_TEST(errors_from_strangers)
{
    const struct {
        const char *name;
        struct slice raw;
        enum err err;
        bool maybe;
    } rows[] = {
        {"empty", {0}, ERR_INTERNAL, true},
        {"a string", B("\xa3oops"), ERR_INTERNAL, true},
        {"too short", B("\x91\x01"), ERR_INTERNAL, true},
        {"number zero", B("\x94\x00\xa1N\xa1t\x00"), ERR_INTERNAL, true},
        {"number unknown", B("\x94\xcd\x03\xe7\xa1N\xa1t\x00"), ERR_INTERNAL, false},
        {"no hints", B("\x94\x01\xa1N\xa1t\x00"), ERR_NOT_FOUND, false},
        {"unknown hints", B("\x95\x01\xa1N\xa1t\x01\x81\xa1z\x93\x01\x02\x03"), ERR_NOT_FOUND,
         true},
        {"trailing fields", B("\x96\x01\xa1N\xa1t\x00\x80\x07"), ERR_NOT_FOUND, false},
        {"bad hint", B("\x95\x01\xa1N\xa1t\x00\x81\xa6leader\xa1x"), ERR_INTERNAL, true},
        {"short epoch",
         B("\x95\x01\xa1N\xa1t\x00\x81\xa5"
           "epoch\x91\x01"),
         ERR_INTERNAL, true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rpc_error got;
        rpc_get_error(rows[i].raw, &got);
        ck_assert_msg(got.err == rows[i].err && got.maybe_applied == rows[i].maybe, "%s: %s",
                      rows[i].name, err_name(got.err));
        ck_assert(got.text[0] != '\0');
    }
}
END_TEST

START_TEST(long_text_is_cut)
{
    char text[1000];
    struct rpc_error got;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    mp_put_array(&b, 4);
    mp_put_uint(&b, ERR_BUSY);
    mp_put_str(&b, "BUSY");
    mp_put_str(&b, text);
    mp_put_uint(&b, 0);
    rpc_get_error(buf_slice(&b), &got);
    ck_assert_int_eq(got.err, ERR_BUSY);
    ck_assert_uint_eq(strlen(got.text), sizeof(got.text) - 1);
}
END_TEST

START_TEST(refusals)
{
    const struct {
        const char *name;
        struct slice in;
    } rows[] = {
        {"empty", {0}},
        {"not an array", B("\x01")},
        {"three for a request", B("\x93\x00\x01\xa1m")},
        {"four for a notification", B("\x94\x02\xa1m\x90\x90")},
        {"type three", B("\x94\x03\x01\xa1m\x90")},
        {"negative type", B("\x94\xff\x01\xa1m\x90")},
        {"id over 32 bits", B("\x94\x00\xcf\x00\x00\x00\x01\x00\x00\x00\x00\xa1m\x90")},
        {"negative id", B("\x94\x00\xff\xa1m\x90")},
        {"method as bin", B("\x94\x00\x01\xc4\x01m\x90")},
        {"params as map", B("\x94\x00\x01\xa1m\x80")},
        {"params nil", B("\x94\x00\x01\xa1m\xc0")},
        {"bytes after", B("\x94\x00\x01\xa1m\x90\x00")},
        {"nothing for params", B("\x94\x00\x01\xa1m")},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rpc_message m;
        ck_assert_msg(rpc_decode(rows[i].in, &m) == ERR_BAD_REQUEST, "%s", rows[i].name);
    }
    size_t n;
    static const char *const strangers[] = {"GET / HTTP/1.1", "\x16\x03\x01", "*1\r\n", "\x80"};
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(rpc_split(slice_str(strangers[i]), LIMIT_FRAME, &n), ERR_BAD_REQUEST);
    ck_assert_int_eq(rpc_split((struct slice){0}, LIMIT_FRAME, &n), ERR_INCOMPLETE);
}
END_TEST

START_TEST(long_forms_of_clients)
{
    /* the same request with array16, uint32 and str8 heads, as some packers write */
    struct rpc_message m;
    ck_assert_int_eq(
        rpc_decode(B("\xdc\x00\x04\xce\x00\x00\x00\x00\xcc\x05\xd9\x01m\xdc\x00\x00"), &m), ERR_OK);
    ck_assert_uint_eq(m.msgid, 5);
    ck_assert(slice_eq(m.method, slice_str("m")));
}
END_TEST

START_TEST(truncated_and_mutated)
{
    struct rng r;
    struct rpc_error e = {
        .err = ERR_WRONG_SHARD, .leader = 3, .retry_ms = 300, .epoch_range = 70000};
    struct rpc_message m;
    struct rpc_error got;
    size_t n;
    rng_seed(&r, 12);
    rpc_put_error(&b, 1000, &e);
    for (size_t cut = 0; cut < b.n; cut++) {
        uint8_t *copy = malloc(cut ? cut : 1);
        memcpy(copy, b.p, cut);
        ck_assert_int_eq(rpc_split(slice_of(copy, cut), LIMIT_FRAME, &n), ERR_INCOMPLETE);
        ck_assert_int_eq(rpc_decode(slice_of(copy, cut), &m), ERR_BAD_REQUEST);
        rpc_get_error(slice_of(copy, cut), &got);
        free(copy);
    }
    uint8_t *copy = malloc(b.n);
    for (int i = 0; i < 50000; i++) {
        memcpy(copy, b.p, b.n);
        for (uint64_t k = 1 + rng_below(&r, 3); k > 0; k--)
            copy[rng_below(&r, b.n)] = (uint8_t)rng_next(&r);
        if (rpc_split(slice_of(copy, b.n), LIMIT_FRAME, &n) != ERR_OK)
            continue;
        if (rpc_decode(slice_of(copy, n), &m) == ERR_OK && m.error.n)
            rpc_get_error(m.error, &got);
    }
    free(copy);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rpc");
    TCase *t = tcase_create("rpc");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, request);
    tcase_add_test(t, notification);
    tcase_add_test(t, result);
    tcase_add_test(t, error_with_all_hints);
    tcase_add_test(t, simple_errors);
    tcase_add_test(t, errors_from_strangers);
    tcase_add_test(t, long_text_is_cut);
    tcase_add_test(t, refusals);
    tcase_add_test(t, long_forms_of_clients);
    tcase_add_test(t, truncated_and_mutated);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
