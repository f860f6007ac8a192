#include "common/wire/skim.h"

#include <check.h>
#include <stdlib.h>

#include "common/base/limits.h"
#include "common/base/rng.h"
#include "common/wire/mp.h"

#define MAX (1024 * 1024u)
#define B(s) slice_of(s, sizeof(s) - 1)

START_TEST(verdicts)
{
    const struct {
        const char *name;
        struct slice in;
        enum err want;
        size_t n;
    } rows[] = {
        {"nothing", {0}, ERR_INCOMPLETE, 1},
        {"fixint", B("\x07"), ERR_OK, 1},
        {"negative fixint", B("\xff"), ERR_OK, 1},
        {"nil and more", B("\xc0\xc0"), ERR_OK, 1},
        {"never used tag", B("\xc1"), ERR_BAD_REQUEST, 0},
        {"never used tag inside", B("\x92\x01\xc1"), ERR_BAD_REQUEST, 0},
        {"uint64", B("\xcf\0\0\0\0\0\0\0\1"), ERR_OK, 9},
        {"uint64 cut", B("\xcf\0\0\0"), ERR_INCOMPLETE, 9},
        {"float", B("\xca\0\0\0\0"), ERR_OK, 5},
        {"double", B("\xcb\0\0\0\0\0\0\0\0"), ERR_OK, 9},
        {"empty array", B("\x90"), ERR_OK, 1},
        {"empty map", B("\x80"), ERR_OK, 1},
        {"array of empty arrays", B("\x92\x90\x90"), ERR_OK, 3},
        {"array cut", B("\x93\x01"), ERR_INCOMPLETE, 4},
        {"map cut", B("\x82\x01\x02"), ERR_INCOMPLETE, 5},
        {"map", B("\x81\x01\x02"), ERR_OK, 3},
        {"str",
         B("\xa3"
           "abc"),
         ERR_OK, 4},
        {"str cut",
         B("\xa3"
           "a"),
         ERR_INCOMPLETE, 4},
        {"str32 head cut", B("\xdb\0"), ERR_INCOMPLETE, 5},
        {"bin8 in array",
         B("\x92\xc4\x02"
           "ab"),
         ERR_INCOMPLETE, 6},
        {"bin32 over max", B("\xc6\xff\xff\xff\xff"), ERR_TOO_LARGE, 0},
        {"array32 over max", B("\xdd\xff\xff\xff\xff"), ERR_TOO_LARGE, 0},
        {"map32 over max", B("\xdf\xff\xff\xff\xff"), ERR_BAD_REQUEST, 0},
        {"fixext1", B("\xd4\1\2"), ERR_OK, 3},
        {"fixext16 cut", B("\xd8"), ERR_INCOMPLETE, 2},
        {"fixext16",
         B("\xd8\1"
           "0123456789abcdef"),
         ERR_OK, 18},
        {"ext8",
         B("\xc7\3\1"
           "abc"),
         ERR_OK, 6},
        {"ext8 cut", B("\xc7\3"), ERR_INCOMPLETE, 3},
        {"ext32 over max", B("\xc9\xff\xff\xff\xff\1"), ERR_TOO_LARGE, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t n = 0;
        enum err got = skim(rows[i].in, MAX, &n);
        /* which of the two refusals a huge count gets is of no matter */
        if (rows[i].want == ERR_TOO_LARGE || rows[i].want == ERR_BAD_REQUEST)
            ck_assert_msg(got == ERR_TOO_LARGE || got == ERR_BAD_REQUEST, "%s", rows[i].name);
        else
            ck_assert_msg(got == rows[i].want && n == rows[i].n, "%s: %s %zu", rows[i].name,
                          err_name(got), n);
    }
}
END_TEST

/* The message that took 4 GB from msgpack-c 4.0.0. */
START_TEST(nested_array_heads)
{
    struct buf b = {0};
    for (int i = 0; i < 31; i++)
        buf_append(&b, "\xdd\x00\x10\x00\x00", 5);
    ck_assert_uint_eq(b.n, 155);
    size_t n;
    enum err err = skim(buf_slice(&b), LIMIT_FRAME, &n);
    ck_assert(err == ERR_BAD_REQUEST || err == ERR_TOO_LARGE);
    buf_close(&b);
}
END_TEST

START_TEST(depth_and_elements)
{
    struct buf b = {0};
    size_t n;
    for (int i = 0; i < LIMIT_MP_DEPTH; i++)
        buf_u8(&b, 0x91);
    buf_u8(&b, 0xc0);
    ck_assert_int_eq(skim(buf_slice(&b), MAX, &n), ERR_OK);
    ck_assert_uint_eq(n, LIMIT_MP_DEPTH + 1);
    b.p[b.n - 1] = 0x91;
    ck_assert_int_eq(skim(buf_slice(&b), MAX, &n), ERR_BAD_REQUEST);
    buf_clear(&b);
    mp_put_array(&b, LIMIT_MP_ELEMENTS); /* and itself */
    ck_assert_int_eq(skim(buf_slice(&b), LIMIT_FRAME, &n), ERR_BAD_REQUEST);
    buf_clear(&b);
    mp_put_array(&b, LIMIT_MP_ELEMENTS - 1);
    ck_assert_int_eq(skim(buf_slice(&b), LIMIT_FRAME, &n), ERR_INCOMPLETE);
    ck_assert_uint_eq(n, 5 + LIMIT_MP_ELEMENTS - 1);
    buf_close(&b);
}
END_TEST

START_TEST(max_is_inclusive)
{
    size_t n;
    ck_assert_int_eq(skim(B("\xa3"
                            "abc"),
                          4, &n),
                     ERR_OK);
    ck_assert_int_eq(skim(B("\xa3"
                            "abc"),
                          3, &n),
                     ERR_TOO_LARGE);
    ck_assert_int_eq(skim(B("\xa3"), 3, &n), ERR_TOO_LARGE);
    ck_assert_int_eq(skim(B("\x01"), 0, &n), ERR_TOO_LARGE);
}
END_TEST

static void put_random(struct buf *b, struct rng *r, unsigned depth)
{
    static const uint8_t text[300];
    uint64_t kind = rng_below(r, depth ? 9 : 7);
    uint64_t k = rng_below(r, 4);
    switch (kind) {
    case 0:
        mp_put_nil(b);
        break;
    case 1:
        mp_put_bool(b, k & 1);
        break;
    case 2:
        mp_put_uint(b, rng_next(r) >> rng_below(r, 64));
        break;
    case 3:
        mp_put_int(b, -(int64_t)(rng_next(r) >> (1 + rng_below(r, 63))));
        break;
    case 4:
        mp_put_strn(b, slice_of(text, rng_below(r, sizeof(text))));
        break;
    case 5:
        mp_put_bin(b, slice_of(text, rng_below(r, sizeof(text))));
        break;
    case 6:
        buf_append(b, "\xc7\x02\x05xy", 5); /* ext */
        break;
    case 7:
        mp_put_array(b, (uint32_t)k);
        for (; k > 0; k--)
            put_random(b, r, depth - 1);
        break;
    default:
        mp_put_map(b, (uint32_t)k);
        for (k *= 2; k > 0; k--)
            put_random(b, r, depth - 1);
    }
}

/* Every valid message is passed, every truncation of it is incomplete with a true lower bound, and
 * feeding by the lower bounds takes few calls. */
START_TEST(random_messages)
{
    struct rng r;
    rng_seed(&r, 4);
    for (int i = 0; i < 3000; i++) {
        struct buf b = {0};
        size_t n;
        put_random(&b, &r, 6);
        ck_assert_int_eq(skim(buf_slice(&b), MAX, &n), ERR_OK);
        ck_assert_uint_eq(n, b.n);
        for (size_t cut = 0; cut < b.n; cut += 1 + b.n / 64) {
            ck_assert_int_eq(skim(slice_of(b.p, cut), MAX, &n), ERR_INCOMPLETE);
            ck_assert_uint_gt(n, cut);
            ck_assert_uint_le(n, b.n);
        }
        size_t have = 0, calls = 0;
        while (skim(slice_of(b.p, have), MAX, &n) == ERR_INCOMPLETE) {
            have = n;
            calls++;
        }
        ck_assert_uint_eq(have, b.n);
        ck_assert_uint_lt(calls, 400);
        struct mp_reader m = mp_reader_of(buf_slice(&b));
        mp_skip(&m);
        ck_assert(!m.bad);
        ck_assert_uint_eq(m.left.n, 0);
        buf_close(&b);
    }
}
END_TEST

START_TEST(noise)
{
    struct rng r;
    rng_seed(&r, 5);
    for (int i = 0; i < 200000; i++) {
        uint8_t in[24];
        size_t len = rng_below(&r, sizeof(in) + 1), n = 0;
        for (size_t k = 0; k < len; k++)
            in[k] = (uint8_t)rng_next(&r);
        uint8_t *copy = malloc(len ? len : 1); /* exactly as long: asan sees a read past it */
        memcpy(copy, in, len);
        enum err err = skim(slice_of(copy, len), MAX, &n);
        ck_assert(err == ERR_OK || err == ERR_INCOMPLETE || err == ERR_TOO_LARGE ||
                  err == ERR_BAD_REQUEST);
        ck_assert(err != ERR_OK || (n > 0 && n <= len));
        ck_assert(err != ERR_INCOMPLETE || (n > len && n <= MAX));
        free(copy);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("skim");
    TCase *t = tcase_create("skim");
    tcase_add_test(t, verdicts);
    tcase_add_test(t, nested_array_heads);
    tcase_add_test(t, depth_and_elements);
    tcase_add_test(t, max_is_inclusive);
    tcase_add_test(t, random_messages);
    tcase_add_test(t, noise);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
