#include <check.h>
#include <stdlib.h>

#include "shardd/engine_key.h"

START_TEST(data_key_keeps_slot_order)
{
    uint8_t a[64], b[64];
    struct slice lo = engine_key_data(a, 255, slice_str("zzz"));
    struct slice hi = engine_key_data(b, 256, slice_str("aaa"));

    ck_assert_uint_eq(lo.n, ENGINE_KEY_PREFIX + 3);
    ck_assert_int_lt(memcmp(lo.p, hi.p, lo.n), 0);
    uint16_t slot;
    struct slice key;
    ck_assert_int_eq(engine_key_split(hi, &slot, &key), ERR_OK);
    ck_assert_uint_eq(slot, 256);
    ck_assert(slice_eq(key, slice_str("aaa")));
}
END_TEST

START_TEST(split_refuses_what_is_no_data_key)
{
    uint16_t slot;
    struct slice key;
    uint8_t m[32];

    ck_assert_int_eq(engine_key_split(slice_str(""), &slot, &key), ERR_CORRUPT);
    ck_assert_int_eq(engine_key_split(slice_str("d"), &slot, &key), ERR_CORRUPT);
    ck_assert_int_eq(engine_key_split(slice_str("d1"), &slot, &key), ERR_CORRUPT);
    ck_assert_int_eq(engine_key_split(engine_key_meta(m, ENGINE_META_POSITION), &slot, &key),
                     ERR_CORRUPT);
}
END_TEST

static bool in_range(const struct engine_key_range *r, struct slice k)
{
    struct slice from = engine_key_from(r), to = engine_key_to(r);
    size_t nf = k.n < from.n ? k.n : from.n, nt = k.n < to.n ? k.n : to.n;
    int f = memcmp(k.p, from.p, nf), t = memcmp(k.p, to.p, nt);

    return (f > 0 || (f == 0 && k.n >= from.n)) && (t < 0 || (t == 0 && k.n < to.n));
}

START_TEST(ranges_hold_their_slots_and_no_others)
{
    static const uint16_t cases[][2] = {{0, 0},     {0, 255},   {255, 256},    {100, 16383},
                                        {0, 16383}, {0, 65535}, {65535, 65535}};
    static const uint32_t slots[] = {0, 1, 99, 100, 254, 255, 256, 257, 16383, 16384, 65535};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct engine_key_range r;
        engine_key_slots(cases[i][0], cases[i][1], &r);
        for (size_t k = 0; k < sizeof slots / sizeof *slots; k++) {
            uint8_t lo[64], hi[64];
            bool want = slots[k] >= cases[i][0] && slots[k] <= cases[i][1];
            struct slice a = engine_key_data(lo, (uint16_t)slots[k], slice_str(""));
            struct slice b = engine_key_data(hi, (uint16_t)slots[k], slice_str("\xff\xff\xff\xff"));
            ck_assert_int_eq(in_range(&r, a), want);
            ck_assert_int_eq(in_range(&r, b), want);
        }
        uint8_t m[32];
        ck_assert(!in_range(&r, engine_key_meta(m, ENGINE_META_SHARD)));
    }
}
END_TEST

START_TEST(session_keys)
{
    static const uint8_t sid[16] = "0123456789abcdef";
    uint8_t raw[ENGINE_SESSION_KEY], data[16];
    struct engine_key_range r;
    const uint8_t *id;
    struct slice key = engine_key_session(raw, 300, sid);

    ck_assert_int_eq(engine_key_session_split(key, &id), ERR_OK);
    ck_assert_int_eq(memcmp(id, sid, 16), 0);
    engine_key_session_slots(300, 300, &r);
    ck_assert(in_range(&r, key));
    ck_assert(!in_range(&r, engine_key_data(data, 300, slice_str("k"))));
    engine_key_session_slots(0, 299, &r);
    ck_assert(!in_range(&r, key));
    engine_key_session_slots(301, UINT16_MAX, &r);
    ck_assert(!in_range(&r, key));
    for (size_t n = 0; n < key.n; n++)
        ck_assert_int_eq(engine_key_session_split(slice_of(raw, n), &id), ERR_CORRUPT);
    raw[19] = 2; /* a row of an earlier release */
    ck_assert_int_eq(engine_key_session_split(key, &id), ERR_OK);
    raw[19] = 0xff; /* one that cannot be */
    ck_assert_int_eq(engine_key_session_split(key, &id), ERR_CORRUPT);
}
END_TEST

START_TEST(value_round_trip)
{
    struct engine_value_head heads[] = {
        {.version = 1}, {.version = UINT64_MAX, .has_expiry = true, .expiry_ms = 7}};

    for (size_t i = 0; i < 2; i++) {
        uint8_t raw[64];
        struct engine_value_head h;
        struct slice body, head = engine_value_encode(raw, &heads[i]);
        memcpy(raw + head.n, "body", 4);
        ck_assert_int_eq(engine_value_decode(slice_of(raw, head.n + 4), &h, &body), ERR_OK);
        ck_assert_uint_eq(h.version, heads[i].version);
        ck_assert_int_eq(h.has_expiry, heads[i].has_expiry);
        ck_assert_uint_eq(h.expiry_ms, heads[i].expiry_ms);
        ck_assert(slice_eq(body, slice_str("body")));
        for (size_t n = 0; n < head.n; n++)
            ck_assert_int_eq(engine_value_decode(slice_of(raw, n), &h, &body), ERR_CORRUPT);
        ck_assert_int_eq(engine_value_decode(slice_of(raw, head.n), &h, &body), ERR_OK);
        ck_assert_uint_eq(body.n, 0);
    }
}
END_TEST

START_TEST(value_of_another_format_is_refused)
{
    uint8_t raw[ENGINE_VALUE_HEAD_MAX];
    struct engine_value_head h = {.version = 1};
    struct slice body, s = engine_value_encode(raw, &h);

    raw[0] = 2;
    ck_assert_int_eq(engine_value_decode(s, &h, &body), ERR_FORMAT);
    raw[0] = ENGINE_VALUE_FORMAT;
    raw[1] = 2;
    ck_assert_int_eq(engine_value_decode(s, &h, &body), ERR_FORMAT);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("engine_key");
    TCase *t = tcase_create("all");

    tcase_add_test(t, session_keys);
    tcase_add_test(t, data_key_keeps_slot_order);
    tcase_add_test(t, split_refuses_what_is_no_data_key);
    tcase_add_test(t, ranges_hold_their_slots_and_no_others);
    tcase_add_test(t, value_round_trip);
    tcase_add_test(t, value_of_another_format_is_refused);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
