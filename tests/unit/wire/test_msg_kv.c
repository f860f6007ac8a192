#include "common/wire/msg_kv.h"

#include <check.h>
#include <stdlib.h>

#include "common/base/limits.h"
#include "common/base/rng.h"
#include "common/wire/mp.h"
#include "common/wire/rpc.h"
#include "tests/unit/wire/message.h"

START_TEST(requests_round_trip)
{
    static const char *const names[] = {"kv.get", "kv.put", "kv.delete"};
    for (int method = KV_METHOD_GET; method <= KV_METHOD_DELETE; method++) {
        for (unsigned options = 0; options < 16; options++) {
            struct msg_kv_request in = {.method = (enum kv_method)method,
                                        .key = slice_of("k\0y", 3),
                                        .deadline_ms = options & 1 ? 1500 : 0,
                                        .epoch_range = options & 2 ? 7 : 0,
                                        .epoch_members = options & 2 ? 70000 : 0,
                                        .has_if_version = options & 4,
                                        .if_version = options & 4 ? UINT64_MAX : 0,
                                        .if_absent = options & 8};
            struct msg_kv_request out;
            if (method == KV_METHOD_PUT)
                in.value = slice_str("");
            buf_clear(&b);
            msg_kv_encode(&b, 5, &in);
            struct rpc_message m = whole();
            ck_assert(slice_eq(m.method, slice_str(names[method])));
            ck_assert_uint_eq(m.msgid, 5);
            ck_assert_int_eq(msg_kv_decode(in.method, m.params, &out), ERR_OK);
            ck_assert(slice_eq(out.key, in.key));
            ck_assert(slice_eq(out.value, in.value));
            ck_assert_uint_eq(out.deadline_ms, in.deadline_ms);
            ck_assert_uint_eq(out.epoch_range, in.epoch_range);
            ck_assert_uint_eq(out.epoch_members, in.epoch_members);
            ck_assert_int_eq(out.has_if_version, in.has_if_version);
            ck_assert_uint_eq(out.if_version, in.if_version);
            ck_assert_int_eq(out.if_absent, in.if_absent);
        }
    }
}
END_TEST

START_TEST(other_peoples_requests)
{
    const struct {
        const char *name;
        enum kv_method method;
        struct slice params;
        enum err want;
    } rows[] = {
        {"key as str", KV_METHOD_GET, B("\x91\xa1k"), ERR_OK},
        {"nil for options", KV_METHOD_GET, B("\x92\xa1k\xc0"), ERR_OK},
        {"unknown option", KV_METHOD_GET, B("\x92\xa1k\x81\xa2zz\x91\x01"), ERR_OK},
        {"empty key: the caller's", KV_METHOD_GET, B("\x91\xa0"), ERR_OK},
        {"no params", KV_METHOD_GET, B("\x90"), ERR_BAD_REQUEST},
        {"put without value", KV_METHOD_PUT, B("\x91\xa1k"), ERR_BAD_REQUEST},
        {"put with options for value", KV_METHOD_PUT, B("\x92\xa1k\x80"), ERR_BAD_REQUEST},
        {"one too many", KV_METHOD_GET, B("\x93\xa1k\x80\x80"), ERR_BAD_REQUEST},
        {"number as key", KV_METHOD_GET, B("\x91\x01"), ERR_BAD_REQUEST},
        {"options as array", KV_METHOD_GET, B("\x92\xa1k\x90"), ERR_BAD_REQUEST},
        {"negative deadline", KV_METHOD_GET,
         B("\x92\xa1k\x81\xa2"
           "dl\xff"),
         ERR_BAD_REQUEST},
        {"epoch of three", KV_METHOD_GET,
         B("\x92\xa1k\x81\xa2"
           "ep\x93\x01\x01\x01"),
         ERR_BAD_REQUEST},
        {"ifa as number", KV_METHOD_PUT, B("\x93\xa1k\xa1v\x81\xa3ifa\x01"), ERR_BAD_REQUEST},
        {"option's name as bin", KV_METHOD_GET,
         B("\x92\xa1k\x81\xc4\x02"
           "dl\x01"),
         ERR_BAD_REQUEST},
        {"bytes after", KV_METHOD_GET, B("\x91\xa1k\x00"), ERR_BAD_REQUEST},
        {"map for params", KV_METHOD_GET, B("\x81\xa1k\x01"), ERR_BAD_REQUEST},
        {"nothing", KV_METHOD_GET, {0}, ERR_BAD_REQUEST},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct msg_kv_request q = {.deadline_ms = 77};
        enum err err = msg_kv_decode(rows[i].method, rows[i].params, &q);
        ck_assert_msg(err == rows[i].want, "%s: %s", rows[i].name, err_name(err));
        ck_assert_msg(err == ERR_OK || q.deadline_ms == 77, "%s: touched", rows[i].name);
    }
}
END_TEST

START_TEST(results)
{
    struct msg_kv_result v, in = {0};
    in.value = slice_str("val");
    in.version = 99;
    msg_kv_put_get_result(&b, 3, &in);
    ck_assert_int_eq(msg_kv_decode_result(KV_METHOD_GET, whole().result, &v), ERR_OK);
    ck_assert(slice_eq(v.value, slice_str("val")));
    ck_assert_uint_eq(v.version, 99);
    ck_assert_int_eq(msg_kv_decode_result(KV_METHOD_PUT, whole().result, &v), ERR_BAD_REQUEST);
    buf_clear(&b);
    msg_kv_put_version(&b, 3, UINT64_MAX);
    ck_assert_int_eq(msg_kv_decode_result(KV_METHOD_PUT, whole().result, &v), ERR_OK);
    ck_assert_uint_eq(v.version, UINT64_MAX);
    ck_assert_int_eq(msg_kv_decode_result(KV_METHOD_GET, whole().result, &v), ERR_BAD_REQUEST);
    /* a newer server's extra fields */
    ck_assert_int_eq(msg_kv_decode_result(KV_METHOD_DELETE, B("\x92\x05\x80"), &v), ERR_OK);
    ck_assert_uint_eq(v.version, 5);
    ck_assert_int_eq(msg_kv_decode_result(KV_METHOD_GET, B("\xc0"), &v), ERR_BAD_REQUEST);
}
END_TEST

START_TEST(hello)
{
    struct msg_hello in = {.proto = 1, .client = "tester"}, out;
    for (int with_core = 0; with_core < 2; with_core++) {
        in.has_core = with_core;
        in.core = with_core ? 3 : 0;
        buf_clear(&b);
        msg_hello_encode(&b, 1, &in);
        struct rpc_message m = whole();
        ck_assert(slice_eq(m.method, slice_str("sys.hello")));
        ck_assert_int_eq(msg_hello_decode(m.params, &out), ERR_OK);
        ck_assert_uint_eq(out.proto, 1);
        ck_assert_str_eq(out.client, "tester");
        ck_assert_int_eq(out.has_core, with_core);
        ck_assert_uint_eq(out.core, in.core);
    }
    ck_assert_int_eq(msg_hello_decode(B("\x91\x81\xa4"
                                        "core\xc0"),
                                      &out),
                     ERR_OK);
    ck_assert(!out.has_core);
    ck_assert_int_eq(msg_hello_decode(B("\x90"), &out), ERR_BAD_REQUEST);
    ck_assert_int_eq(msg_hello_decode(B("\x91\xc0"), &out), ERR_BAD_REQUEST);
    ck_assert_int_eq(msg_hello_decode(B("\x92\x80\x80"), &out), ERR_BAD_REQUEST);
    ck_assert_int_eq(msg_hello_decode(B("\x91\x81\xa5proto\xa1x"), &out), ERR_BAD_REQUEST);
}
END_TEST

START_TEST(hello_reply)
{
    struct msg_hello_reply in = {.proto = 1,
                                 .cluster = {1, 2, 3},
                                 .node = 4,
                                 .name = "n4",
                                 .cores = 8,
                                 .core = 2,
                                 .key_max = 4096,
                                 .value_max = 1 << 20};
    struct msg_hello_reply out;
    msg_hello_reply_encode(&b, 1, &in);
    ck_assert_int_eq(msg_hello_reply_decode(whole().result, &out), ERR_OK);
    ck_assert_mem_eq(out.cluster, in.cluster, 16);
    ck_assert_str_eq(out.name, "n4");
    ck_assert_uint_eq(out.proto, 1);
    ck_assert_uint_eq(out.node, 4);
    ck_assert_uint_eq(out.cores, 8);
    ck_assert_uint_eq(out.core, 2);
    ck_assert_uint_eq(out.key_max, 4096);
    ck_assert_uint_eq(out.value_max, 1 << 20);
    ck_assert_int_eq(msg_hello_reply_decode(B("\x81\xa7"
                                              "cluster\xc4\x02xx"),
                                            &out),
                     ERR_BAD_REQUEST);
}
END_TEST

START_TEST(truncated_and_mutated)
{
    struct rng r;
    struct msg_kv_request q = {.method = KV_METHOD_PUT,
                               .key = slice_str("a key"),
                               .value = slice_str("a value"),
                               .deadline_ms = 1000,
                               .epoch_range = 3,
                               .has_if_version = true,
                               .if_version = 1ULL << 40};
    struct msg_kv_request out;
    struct msg_kv_result v;
    struct msg_hello h;
    struct msg_hello_reply hr;
    rng_seed(&r, 13);
    msg_kv_encode(&b, 1, &q);
    struct slice params = whole().params;
    for (size_t cut = 0; cut < params.n; cut++) {
        uint8_t *copy = malloc(cut ? cut : 1);
        memcpy(copy, params.p, cut);
        ck_assert_int_eq(msg_kv_decode(KV_METHOD_PUT, slice_of(copy, cut), &out), ERR_BAD_REQUEST);
        free(copy);
    }
    uint8_t *copy = malloc(params.n);
    for (int i = 0; i < 50000; i++) {
        memcpy(copy, params.p, params.n);
        for (uint64_t k = 1 + rng_below(&r, 3); k > 0; k--)
            copy[rng_below(&r, params.n)] = (uint8_t)rng_next(&r);
        struct slice s = slice_of(copy, params.n);
        if (msg_kv_decode(KV_METHOD_PUT, s, &out) == ERR_OK)
            ck_assert(out.key.n + out.value.n <= params.n);
        enum err ignored = msg_kv_decode_result(KV_METHOD_GET, s, &v);
        ignored = msg_hello_decode(s, &h);
        ignored = msg_hello_reply_decode(s, &hr);
        (void)ignored; /* not to read outside is all that is asked */
    }
    free(copy);
}
END_TEST

/* ---- sessions, levels, expiry, many keys ---- */

static void expect_same(const struct msg_kv_request *a, const struct msg_kv_request *z)
{
    ck_assert_int_eq(a->method, z->method);
    ck_assert(slice_eq(a->key, z->key));
    ck_assert(slice_eq(a->value, z->value));
    ck_assert_int_eq(a->delta, z->delta);
    ck_assert_int_eq(a->if_absent, z->if_absent);
    ck_assert_int_eq(a->has_if_version, z->has_if_version);
    ck_assert_uint_eq(a->if_version, z->if_version);
    ck_assert_int_eq(a->has_ttl, z->has_ttl);
    ck_assert_uint_eq(a->ttl_ms, z->ttl_ms);
    ck_assert(slice_eq(a->session.id, z->session.id));
    ck_assert_uint_eq(a->session.ack, z->session.ack);
    ck_assert_uint_eq(a->session.until_ms, z->session.until_ms);
    ck_assert_uint_eq(a->seq, z->seq);
    ck_assert_int_eq(a->level, z->level);
    ck_assert_uint_eq(a->token, z->token);
    ck_assert_uint_eq(a->staleness_ms, z->staleness_ms);
    ck_assert_int_eq(a->all, z->all);
    ck_assert_uint_eq(a->n, z->n);
}

static const struct slice sid = {(const uint8_t *)"0123456789abcdef", 16};

START_TEST(new_requests_round_trip)
{
    const struct msg_kv_request rows[] = {
        {.method = KV_METHOD_INCR, .delta = INT64_MIN},
        {.method = KV_METHOD_INCR, .delta = INT64_MAX, .has_ttl = true, .ttl_ms = UINT64_MAX},
        {.method = KV_METHOD_INCR, .delta = 200, .session = {sid, 7, 1700000000000}, .seq = 9},
        {.method = KV_METHOD_TOUCH},
        {.method = KV_METHOD_TOUCH, .has_ttl = true}, /* 0 ms is not the same as none */
        {.method = KV_METHOD_PUT,
         .value = slice_str("v"),
         .has_ttl = true,
         .ttl_ms = 1,
         .session = {sid, 1, 1},
         .seq = 1},
        {.method = KV_METHOD_DELETE, .session = {sid, 0, UINT64_MAX}, .seq = UINT64_MAX},
        {.method = KV_METHOD_GET, .level = KV_LEVEL_SESSION, .token = 1ULL << 60},
        {.method = KV_METHOD_GET, .level = KV_LEVEL_BOUNDED, .staleness_ms = 500},
        {.method = KV_METHOD_GET, .level = KV_LEVEL_ANY},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct msg_kv_request in = rows[i], out;
        in.key = slice_str("key");
        buf_clear(&b);
        msg_kv_encode(&b, 5, &in);
        struct rpc_message m = whole();
        ck_assert(slice_eq(m.method, slice_str(msg_kv_method_name(in.method))));
        ck_assert_int_eq(msg_kv_decode(in.method, m.params, &out), ERR_OK);
        expect_same(&in, &out);
    }
}
END_TEST

START_TEST(new_options_are_checked)
{
    const struct {
        const char *name;
        enum kv_method method;
        struct slice params;
        enum err want;
    } rows[] = {
        {"incr", KV_METHOD_INCR, B("\x92\xa1k\xff"), ERR_OK},
        {"incr by a string", KV_METHOD_INCR, B("\x92\xa1k\xa1z"), ERR_BAD_REQUEST},
        {"incr beyond int64", KV_METHOD_INCR, B("\x92\xa1k\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
         ERR_BAD_REQUEST},
        {"incr without delta", KV_METHOD_INCR, B("\x91\xa1k"), ERR_BAD_REQUEST},
        {"an unknown level", KV_METHOD_GET, B("\x92\xa1k\x81\xa2rd\x04"), ERR_BAD_REQUEST},
        {"a negative ttl", KV_METHOD_TOUCH, B("\x92\xa1k\x81\xa3ttl\xff"), ERR_BAD_REQUEST},
        {"a short session", KV_METHOD_DELETE,
         B("\x92\xa1k\x83\xa3sid\xc4\x02xx\xa3seq\x01\xa3unt\x01"), ERR_BAD_REQUEST},
        {"a session without number", KV_METHOD_DELETE,
         B("\x92\xa1k\x82\xa3sid\xc4\x10"
           "0123456789abcdef\xa3unt\x01"),
         ERR_BAD_REQUEST},
        {"a session without until", KV_METHOD_DELETE,
         B("\x92\xa1k\x82\xa3sid\xc4\x10"
           "0123456789abcdef\xa3seq\x01"),
         ERR_BAD_REQUEST},
        {"a session", KV_METHOD_DELETE,
         B("\x92\xa1k\x83\xa3sid\xc4\x10"
           "0123456789abcdef\xa3seq\x01\xa3unt\x01"),
         ERR_OK},
        {"mget", KV_METHOD_MGET,
         B("\x91\x92\xa1"
           "a\xc4\x01"
           "b"),
         ERR_OK},
        {"mget of nothing", KV_METHOD_MGET, B("\x91\x90"), ERR_BAD_REQUEST},
        {"mget of a number", KV_METHOD_MGET,
         B("\x91\x92\xa1"
           "a\x01"),
         ERR_BAD_REQUEST},
        {"mget of a key", KV_METHOD_MGET, B("\x91\xa1k"), ERR_BAD_REQUEST},
        {"batch", KV_METHOD_BATCH,
         B("\x91\x92\x93\xa3put\xa1k\xa1v\x92\xa6"
           "delete\xa1k"),
         ERR_OK},
        {"batch with options", KV_METHOD_BATCH,
         B("\x92\x91\x92\xa5touch\xa1k\x81\xa3"
           "all\xc3"),
         ERR_OK},
        {"batch of a get", KV_METHOD_BATCH, B("\x91\x91\x92\xa3get\xa1k"), ERR_BAD_REQUEST},
        {"an op without a key", KV_METHOD_BATCH, B("\x91\x91\x91\xa3put"), ERR_BAD_REQUEST},
        {"an op that is empty", KV_METHOD_BATCH, B("\x91\x91\x90"), ERR_BAD_REQUEST},
        {"an op with a value too many", KV_METHOD_BATCH,
         B("\x91\x91\x94\xa6"
           "delete\xa1k\xc0\xc0"),
         ERR_BAD_REQUEST},
        {"batch of three parameters", KV_METHOD_BATCH, B("\x93\x90\x80\x80"), ERR_BAD_REQUEST},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct msg_kv_request q = {.deadline_ms = 77};
        enum err err = msg_kv_decode(rows[i].method, rows[i].params, &q);
        ck_assert_msg(err == rows[i].want, "%s: %s", rows[i].name, err_name(err));
        ck_assert_msg(err == ERR_OK || q.deadline_ms == 77, "%s: touched", rows[i].name);
    }
}
END_TEST

START_TEST(many_keys_round_trip)
{
    struct buf items = {0};
    struct msg_kv_request in = {.method = KV_METHOD_BATCH,
                                .n = 4,
                                .all = true,
                                .deadline_ms = 9,
                                .session = {sid, 3, 99}},
                          out, op;
    struct msg_kv_request ops[] = {
        {.method = KV_METHOD_PUT, .value = slice_str("v"), .if_absent = true, .seq = 4},
        {.method = KV_METHOD_DELETE, .has_if_version = true, .if_version = 7, .seq = 5},
        {.method = KV_METHOD_INCR, .delta = -300, .has_ttl = true, .ttl_ms = 5, .seq = 6},
        {.method = KV_METHOD_TOUCH, .seq = 7},
    };
    for (int i = 0; i < 4; i++) {
        ops[i].key = slice_str("key");
        msg_kv_put_op(&items, &ops[i]);
    }
    in.items = buf_slice(&items);
    msg_kv_encode(&b, 5, &in);
    ck_assert_int_eq(msg_kv_decode(KV_METHOD_BATCH, whole().params, &out), ERR_OK);
    ck_assert(slice_eq(out.key, slice_str("key")));
    ck_assert(slice_eq(out.items, in.items));
    in.key = out.key;
    expect_same(&in, &out);
    struct mp_reader r = mp_reader_of(out.items);
    for (int i = 0; i < 4; i++) {
        msg_kv_next_op(&r, &op);
        expect_same(&ops[i], &op);
    }
    ck_assert(!r.bad && r.left.n == 0);

    buf_clear(&items);
    buf_clear(&b);
    in = (struct msg_kv_request){.method = KV_METHOD_MGET, .n = LIMIT_BATCH, .level = 3};
    for (unsigned i = 0; i < LIMIT_BATCH; i++)
        msg_kv_put_key(&items, slice_str(i ? "more" : "first"));
    in.items = buf_slice(&items);
    msg_kv_encode(&b, 5, &in);
    ck_assert_int_eq(msg_kv_decode(KV_METHOD_MGET, whole().params, &out), ERR_OK);
    ck_assert(slice_eq(out.key, slice_str("first")));
    ck_assert_uint_eq(out.n, LIMIT_BATCH);
    r = mp_reader_of(out.items);
    ck_assert(slice_eq(msg_kv_next_key(&r), slice_str("first")));
    ck_assert(slice_eq(msg_kv_next_key(&r), slice_str("more")));
    msg_kv_put_key(&items, slice_str("one too many"));
    in.items = buf_slice(&items);
    in.n++;
    buf_clear(&b);
    msg_kv_encode(&b, 5, &in);
    ck_assert_int_eq(msg_kv_decode(KV_METHOD_MGET, whole().params, &out), ERR_BAD_REQUEST);
    buf_close(&items);
}
END_TEST

START_TEST(new_results)
{
    struct msg_kv_result in = {.value = slice_str("v"), .version = 5, .has_ttl = true, .at = 12}, v;
    msg_kv_put_get_result(&b, 1, &in);
    ck_assert_int_eq(msg_kv_decode_result(KV_METHOD_GET, whole().result, &v), ERR_OK);
    ck_assert(v.has_ttl && v.ttl_ms == 0);
    ck_assert_uint_eq(v.at, 12);
    buf_clear(&b);
    msg_kv_put_number(&b, 1, 8, -200);
    ck_assert_int_eq(msg_kv_decode_result(KV_METHOD_INCR, whole().result, &v), ERR_OK);
    ck_assert_int_eq(v.number, -200);
    ck_assert_uint_eq(v.version, 8);
    ck_assert_int_eq(msg_kv_decode_result(KV_METHOD_INCR, B("\x91\x01"), &v), ERR_BAD_REQUEST);
    ck_assert_int_eq(msg_kv_decode_result(KV_METHOD_GET, B("\x93\xa1v\x01\xc0"), &v),
                     ERR_BAD_REQUEST);
}
END_TEST

START_TEST(items_round_trip)
{
    const struct msg_kv_item got[] = {
        {ERR_OK, {.value = slice_str(""), .version = 3}},
        {ERR_NOT_FOUND, {.version = 0}},
        {ERR_OK, {.value = slice_str("x"), .version = 4, .has_ttl = true, .ttl_ms = 77}},
        {ERR_TOO_LARGE, {.version = 0}},
    };
    const struct msg_kv_item done[] = {
        {ERR_OK, {.version = 3, .number = INT64_MIN}},
        {ERR_CONDITION_FAILED, {.version = 9}},
        {ERR_WRONG_SHARD, {.version = 0}},
        {ERR_OK, {.version = 4, .number = 1000}},
    };
    for (int many = KV_METHOD_MGET; many <= KV_METHOD_BATCH; many++) {
        enum kv_method method = (enum kv_method)many;
        const struct msg_kv_item *in = many == KV_METHOD_MGET ? got : done;
        struct mp_reader r;
        struct msg_kv_extra extra;
        buf_clear(&b);
        msg_kv_begin_items(&b, 1, 4);
        for (int i = 0; i < 4; i++)
            msg_kv_put_item(&b, method, &in[i]);
        msg_kv_end_items(&b, many == KV_METHOD_MGET ? (struct msg_kv_extra){.at = 55}
                                                    : (struct msg_kv_extra){.time_ms = 66});
        struct slice raw = whole().result;
        ck_assert_int_eq(msg_kv_decode_items(method, raw, 3, &r, &extra), ERR_BAD_REQUEST);
        ck_assert_int_eq(msg_kv_decode_items(method, raw, 5, &r, &extra), ERR_BAD_REQUEST);
        ck_assert_int_eq(msg_kv_decode_items(method, raw, 4, &r, &extra), ERR_OK);
        ck_assert_uint_eq(extra.at, many == KV_METHOD_MGET ? 55 : 0);
        ck_assert_uint_eq(extra.time_ms, many == KV_METHOD_BATCH ? 66 : 0);
        for (int i = 0; i < 4; i++) {
            struct msg_kv_item item;
            msg_kv_next_item(method, &r, &item);
            ck_assert_int_eq(item.err, in[i].err);
            ck_assert(slice_eq(item.result.value, in[i].result.value));
            ck_assert_uint_eq(item.result.version, in[i].result.version);
            ck_assert_int_eq(item.result.number, in[i].result.number);
            ck_assert_int_eq(item.result.has_ttl, in[i].result.has_ttl);
            ck_assert_uint_eq(item.result.ttl_ms, in[i].result.ttl_ms);
        }
        for (size_t cut = 0; cut < raw.n; cut++)
            ck_assert_int_eq(msg_kv_decode_items(method, slice_of(raw.p, cut), 4, &r, &extra),
                             ERR_BAD_REQUEST);
    }
}
END_TEST

START_TEST(hello_reply_of_sessions)
{
    struct msg_hello_reply in = {
        .proto = 1, .time_ms = 1700000000000, .retain_ms = 600000, .zone = "z1"};
    struct msg_hello_reply out;
    msg_hello_reply_encode(&b, 1, &in);
    ck_assert_int_eq(msg_hello_reply_decode(whole().result, &out), ERR_OK);
    ck_assert_uint_eq(out.time_ms, in.time_ms);
    ck_assert_uint_eq(out.retain_ms, in.retain_ms);
    ck_assert_str_eq(out.zone, "z1");
    ck_assert_int_eq(msg_hello_reply_decode(B("\x81\xa5proto\x01"), &out), ERR_OK);
    ck_assert_uint_eq(out.retain_ms, 0); /* an older server has no sessions */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("msg_kv");
    TCase *t = tcase_create("msg_kv");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, requests_round_trip);
    tcase_add_test(t, other_peoples_requests);
    tcase_add_test(t, results);
    tcase_add_test(t, hello);
    tcase_add_test(t, hello_reply);
    tcase_add_test(t, truncated_and_mutated);
    tcase_add_test(t, new_requests_round_trip);
    tcase_add_test(t, new_options_are_checked);
    tcase_add_test(t, many_keys_round_trip);
    tcase_add_test(t, new_results);
    tcase_add_test(t, items_round_trip);
    tcase_add_test(t, hello_reply_of_sessions);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
