#include "common/wire/mp.h"

#include <check.h>
#include <stdlib.h>

#include "common/base/rng.h"
#include "tests/unit/wire/message.h"

START_TEST(numbers_round_trip)
{
    for (unsigned shift = 0; shift < 64; shift++) {
        for (unsigned delta = 0; delta <= 2; delta++) {
            uint64_t v = (1ULL << shift) - 1 + delta;
            buf_clear(&b);
            mp_put_uint(&b, v);
            mp_put_int(&b, (int64_t)v);
            struct mp_reader r = mp_reader_of(buf_slice(&b));
            ck_assert_int_eq(mp_peek(&r), MP_UINT);
            ck_assert_uint_eq(mp_get_uint(&r), v);
            ck_assert_int_eq(mp_get_int(&r), (int64_t)v);
            ck_assert(!r.bad);
            buf_clear(&b);
            mp_put_int(&b, -(int64_t)(v >> 1));
            r = mp_reader_of(buf_slice(&b));
            ck_assert_int_eq(mp_get_int(&r), -(int64_t)(v >> 1));
            ck_assert(!r.bad);
            ck_assert_uint_eq(r.left.n, 0);
        }
    }
}
END_TEST

START_TEST(number_ranges)
{
    const struct {
        struct slice in;
        bool is_uint, is_int, is_u32, is_u16;
    } rows[] = {
        {B("\x00"), true, true, true, true},
        {B("\x7f"), true, true, true, true},
        {B("\xff"), false, true, false, false},                                /* -1 */
        {B("\xd0\x05"), true, true, true, true},                               /* int8 5 */
        {B("\xd0\x80"), false, true, false, false},                            /* -128 */
        {B("\xd3\x00\x00\x00\x00\x00\x01\x00\x00"), true, true, true, false},  /* 65536 */
        {B("\xce\xff\xff\xff\xff"), true, true, true, false},                  /* 2^32-1 */
        {B("\xcf\x00\x00\x00\x01\x00\x00\x00\x00"), true, true, false, false}, /* 2^32 */
        {B("\xcf\x80\x00\x00\x00\x00\x00\x00\x00"), true, false, false, false},
        {B("\xd3\x80\x00\x00\x00\x00\x00\x00\x00"), false, true, false, false},
        {B("\xca\x00\x00\x00\x00"), false, false, false, false}, /* floats are no numbers here */
        {B("\xa1"
           "1"),
         false, false, false, false},
        {B("\xc0"), false, false, false, false},
        {B("\xcd\x01"), false, false, false, false}, /* cut */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct mp_reader r = mp_reader_of(rows[i].in);
        mp_get_uint(&r);
        ck_assert_int_eq(!r.bad, rows[i].is_uint);
        r = mp_reader_of(rows[i].in);
        mp_get_int(&r);
        ck_assert_int_eq(!r.bad, rows[i].is_int);
        r = mp_reader_of(rows[i].in);
        mp_get_u32(&r);
        ck_assert_int_eq(!r.bad, rows[i].is_u32);
        r = mp_reader_of(rows[i].in);
        mp_get_u16(&r);
        ck_assert_int_eq(!r.bad, rows[i].is_u16);
    }
}
END_TEST

START_TEST(strings_of_all_heads)
{
    static const size_t sizes[] = {0, 1, 31, 32, 255, 256, 65535, 65536, 100000};
    static uint8_t data[100000];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct slice s = {data, sizes[i]};
        buf_clear(&b);
        mp_put_strn(&b, s);
        mp_put_bin(&b, s);
        mp_put_bin(&b, s);
        struct mp_reader r = mp_reader_of(buf_slice(&b));
        ck_assert_int_eq(mp_peek(&r), MP_STR);
        ck_assert(slice_eq(mp_get_bytes(&r), s)); /* bytes may come as str */
        ck_assert_int_eq(mp_peek(&r), MP_BIN);
        ck_assert(slice_eq(mp_get_bytes(&r), s));
        ck_assert(!r.bad);
        ck_assert_uint_eq(mp_get_str(&r).n, 0); /* but text not as bin */
        ck_assert(r.bad);
    }
}
END_TEST

START_TEST(containers_and_raw)
{
    mp_put_array(&b, 3);
    mp_put_map(&b, 1);
    mp_put_str(&b, "k");
    mp_put_array(&b, 2);
    mp_put_nil(&b);
    mp_put_bool(&b, true);
    mp_put_int(&b, -5);
    mp_put_bin(&b, slice_str("tail"));
    struct mp_reader r = mp_reader_of(buf_slice(&b));
    ck_assert_uint_eq(mp_get_array(&r), 3);
    struct slice raw = mp_get_raw(&r);
    ck_assert_uint_eq(raw.n, 6);
    ck_assert_int_eq(mp_get_int(&r), -5);
    mp_skip(&r);
    ck_assert(!r.bad);
    ck_assert_int_eq(mp_peek(&r), MP_END);

    r = mp_reader_of(raw);
    ck_assert_uint_eq(mp_get_map(&r), 1);
    char key[2];
    mp_get_cstr(&r, key, sizeof(key));
    ck_assert_str_eq(key, "k");
    ck_assert_uint_eq(mp_get_array(&r), 2);
    ck_assert(mp_get_nil(&r));
    ck_assert(!mp_get_nil(&r)); /* a bool: stays, and the reader is not bad */
    ck_assert(mp_get_bool(&r));
    ck_assert(!r.bad);
}
END_TEST

START_TEST(counts_that_cannot_be)
{
    const struct slice rows[] = {B("\x91"), B("\xdc\x00\x02\x01"), B("\xdd\xff\xff\xff\xff"),
                                 B("\x81\x01"), B("\xdf\xff\xff\xff\xff\x01\x02")};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct mp_reader r = mp_reader_of(rows[i]);
        bool map = mp_peek(&r) == MP_MAP;
        ck_assert_uint_eq(map ? mp_get_map(&r) : mp_get_array(&r), 0);
        ck_assert(r.bad);
        r = mp_reader_of(rows[i]);
        ck_assert_uint_eq(mp_get_raw(&r).n, 0);
        ck_assert(r.bad);
    }
}
END_TEST

START_TEST(bad_stays_bad)
{
    struct mp_reader r = mp_reader_of(B("\x01\x02"));
    mp_get_str(&r);
    ck_assert(r.bad);
    ck_assert_int_eq(mp_peek(&r), MP_END);
    ck_assert_uint_eq(mp_get_uint(&r), 0);
    ck_assert(!mp_get_bool(&r));
    ck_assert(!mp_get_nil(&r));
    ck_assert_uint_eq(mp_get_bytes(&r).n, 0);
    ck_assert_uint_eq(mp_get_array(&r), 0);
    mp_skip(&r);
    ck_assert_uint_eq(r.left.n, 2);
}
END_TEST

START_TEST(cstr_limits)
{
    const struct {
        struct slice in;
        const char *want; /* NULL: bad */
    } rows[] = {
        {B("\xa0"), ""},
        {B("\xa3"
           "abc"),
         "abc"},
        {B("\xa4"
           "abcd"),
         NULL},
        {B("\xa2"
           "a\0"),
         NULL},
        {B("\xc4\x01"
           "a"),
         NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char out[4] = "zzz";
        struct mp_reader r = mp_reader_of(rows[i].in);
        mp_get_cstr(&r, out, sizeof(out));
        ck_assert_int_eq(r.bad, rows[i].want == NULL);
        ck_assert_str_eq(out, rows[i].want ? rows[i].want : "");
    }
}
END_TEST

/* A reader over noise never leaves its bytes; asan watches. */
START_TEST(noise)
{
    struct rng rng;
    rng_seed(&rng, 6);
    for (int i = 0; i < 100000; i++) {
        size_t n = rng_below(&rng, 20);
        uint8_t *in = malloc(n ? n : 1);
        for (size_t k = 0; k < n; k++)
            in[k] = (uint8_t)rng_next(&rng);
        struct mp_reader r = mp_reader_of(slice_of(in, n));
        for (int k = 0; k < 8; k++) {
            size_t before = r.left.n;
            char text[8];
            switch (rng_below(&rng, 10)) {
            case 0:
                mp_get_uint(&r);
                break;
            case 1:
                mp_get_int(&r);
                break;
            case 2:
                mp_get_str(&r);
                break;
            case 3:
                mp_get_bytes(&r);
                break;
            case 4:
                mp_get_array(&r);
                break;
            case 5:
                mp_get_map(&r);
                break;
            case 6:
                mp_get_raw(&r);
                break;
            case 7:
                mp_get_cstr(&r, text, sizeof(text));
                break;
            case 8:
                mp_get_nil(&r);
                break;
            default:
                mp_skip(&r);
            }
            ck_assert_uint_le(r.left.n, before);
            ck_assert(r.left.n == 0 || r.left.p + r.left.n == in + n);
        }
        free(in);
    }
}
END_TEST

/* Arrays that a later version has lengthened, numbers with a bound, ids. */
START_TEST(what_messages_are_made_of)
{
    static const uint8_t id[16] = {1, 2, 3};
    uint8_t got[16] = {0};
    mp_put_array(&b, 4);
    mp_put_pair(&b, "n", 7);
    mp_put_pair_bool(&b, "later", true);
    mp_put_bin(&b, slice_of(id, 16));
    mp_put_bin(&b, slice_of(id, 15));
    struct mp_reader r = mp_reader_of(buf_slice(&b)), again = r;
    uint32_t more = mp_get_tuple(&r, 2);
    ck_assert_uint_eq(more, 2);
    ck_assert(mp_key_is(mp_get_str(&r), "n"));
    ck_assert_uint_eq(mp_get_upto(&r, 7), 7);
    mp_skip_n(&r, more);
    mp_get_id(&r, got);
    ck_assert(!r.bad);
    ck_assert_mem_eq(got, id, 16);
    mp_get_id(&r, got); /* a byte short */
    ck_assert(r.bad);
    r = again;
    ck_assert_uint_eq(mp_get_tuple(&r, 5), 0);
    ck_assert(r.bad);
    r = again;
    mp_get_tuple(&r, 4);
    mp_skip(&r);
    ck_assert_uint_eq(mp_get_upto(&r, 6), 0);
    ck_assert(r.bad);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mp");
    TCase *t = tcase_create("mp");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, numbers_round_trip);
    tcase_add_test(t, number_ranges);
    tcase_add_test(t, strings_of_all_heads);
    tcase_add_test(t, containers_and_raw);
    tcase_add_test(t, counts_that_cannot_be);
    tcase_add_test(t, bad_stays_bad);
    tcase_add_test(t, cstr_limits);
    tcase_add_test(t, noise);
    tcase_add_test(t, what_messages_are_made_of);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
