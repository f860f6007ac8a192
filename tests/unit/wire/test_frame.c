#include "common/wire/frame.h"
#include "tests/unit/wire/message.h"

#include <check.h>
#include <stdlib.h>

#define MAX 4096u

static void put(uint8_t type, struct slice body)
{
    size_t begin = frame_begin(&b, type);
    buf_append(&b, body.p, body.n);
    frame_finish(&b, begin);
}

START_TEST(layout)
{
    put(FRAME_MESSAGES, slice_str("abc"));
    ck_assert_uint_eq(b.n, FRAME_HEADER + 3);
    ck_assert_mem_eq(b.p, "SKVF\3\0\0\0\1\2\0\0", 12);
}
END_TEST

START_TEST(round_trip)
{
    static uint8_t data[MAX];
    static const size_t sizes[] = {0, 1, 17, MAX};
    size_t at = 0;
    for (size_t i = 0; i < 4; i++)
        put((uint8_t)(16 + i), slice_of(data, sizes[i]));
    for (size_t i = 0; i < 4; i++) {
        size_t n;
        uint8_t type;
        struct slice body;
        ck_assert_int_eq(frame_split(slice_of(b.p + at, b.n - at), MAX, &n), ERR_OK);
        ck_assert_uint_eq(n, FRAME_HEADER + sizes[i]);
        ck_assert_int_eq(frame_decode(slice_of(b.p + at, n), &type, &body), ERR_OK);
        ck_assert_uint_eq(type, 16 + i);
        ck_assert(slice_eq(body, slice_of(data, sizes[i])));
        at += n;
    }
    ck_assert_uint_eq(at, b.n);
}
END_TEST

START_TEST(refusals)
{
    static const struct {
        size_t at;
        uint8_t value;
        enum err want;
    } rows[] = {
        {0, 'X', ERR_BAD_REQUEST}, {3, 'f', ERR_BAD_REQUEST}, {8, 2, ERR_BAD_REQUEST},
        {10, 1, ERR_BAD_REQUEST},  {11, 1, ERR_BAD_REQUEST},  {7, 1, ERR_TOO_LARGE},
        {5, 0x11, ERR_TOO_LARGE},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t n;
        buf_clear(&b);
        put(FRAME_HELLO, slice_str("hello"));
        b.p[rows[i].at] = rows[i].value;
        ck_assert_int_eq(frame_split(buf_slice(&b), MAX, &n), rows[i].want);
    }
    size_t n;
    ck_assert_int_eq(frame_split(slice_str("G"), MAX, &n), ERR_BAD_REQUEST);
}
END_TEST

START_TEST(truncations)
{
    uint8_t type;
    struct slice body;
    size_t n;
    put(FRAME_HELLO, slice_str("hello"));
    for (size_t cut = 0; cut < b.n; cut++) {
        ck_assert_int_eq(frame_split(slice_of(b.p, cut), MAX, &n), ERR_INCOMPLETE);
        ck_assert_uint_gt(n, cut);
        ck_assert_uint_le(n, b.n);
        ck_assert_int_eq(frame_decode(slice_of(b.p, cut), &type, &body), ERR_BAD_REQUEST);
    }
    buf_u8(&b, 0);
    ck_assert_int_eq(frame_decode(buf_slice(&b), &type, &body), ERR_BAD_REQUEST);
}
END_TEST

START_TEST(every_flipped_bit_is_seen)
{
    uint8_t type;
    struct slice body;
    put(FRAME_MESSAGES, slice_str("some body of a frame"));
    for (size_t bit = 0; bit < b.n * 8; bit++) {
        b.p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        ck_assert_int_ne(frame_decode(buf_slice(&b), &type, &body), ERR_OK);
        b.p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    ck_assert_int_eq(frame_decode(buf_slice(&b), &type, &body), ERR_OK);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("frame");
    TCase *t = tcase_create("frame");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, layout);
    tcase_add_test(t, round_trip);
    tcase_add_test(t, refusals);
    tcase_add_test(t, truncations);
    tcase_add_test(t, every_flipped_bit_is_seen);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
