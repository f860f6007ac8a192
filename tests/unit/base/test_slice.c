#include "common/base/slice.h"

#include <check.h>
#include <stdlib.h>

START_TEST(buf_grows_and_consumes)
{
    struct buf b = {0};
    buf_append(&b, NULL, 0);
    ck_assert_ptr_null(b.p);
    ck_assert_ptr_nonnull(buf_extend(&b, 0));
    for (unsigned i = 0; i < 1000; i++)
        buf_u8(&b, (uint8_t)i);
    ck_assert_uint_eq(b.n, 1000);
    buf_consume(&b, 300);
    ck_assert_uint_eq(b.n, 700);
    ck_assert_uint_eq(b.p[0], (uint8_t)300);
    buf_consume(&b, 700);
    ck_assert_uint_eq(b.n, 0);
    buf_close(&b);
    ck_assert_ptr_null(b.p);
    buf_u8(&b, 7); /* usable after close */
    ck_assert(slice_eq(buf_slice(&b), slice_of("\7", 1)));
    buf_close(&b);
}
END_TEST

START_TEST(buf_prints_at_every_fill)
{
    /* The text meets every distance from the buffer's end. */
    for (size_t fill = 0; fill < 140; fill++) {
        struct buf b = {0};
        for (size_t i = 0; i < fill; i++)
            buf_u8(&b, 'x');
        buf_printf(&b, "%s-%d", "hello", 42);
        ck_assert_uint_eq(b.n, fill + 8);
        ck_assert_mem_eq(b.p + fill, "hello-42", 8);
        buf_close(&b);
    }
}
END_TEST

START_TEST(little_endian_round_trip)
{
    struct buf b = {0};
    buf_u8(&b, 0x12);
    buf_u16(&b, 0x3456);
    buf_u32(&b, 0x789abcdeu);
    buf_u64(&b, 0x0123456789abcdefULL);
    buf_append(&b, "tail", 4);
    ck_assert_mem_eq(b.p, "\x12\x56\x34\xde\xbc\x9a\x78\xef\xcd\xab\x89\x67\x45\x23\x01", 15);
    struct cursor c = cursor_of(buf_slice(&b));
    ck_assert_uint_eq(cursor_u8(&c), 0x12);
    ck_assert_uint_eq(cursor_u16(&c), 0x3456);
    ck_assert_uint_eq(cursor_u32(&c), 0x789abcdeu);
    ck_assert_uint_eq(cursor_u64(&c), 0x0123456789abcdefULL);
    ck_assert(slice_eq(cursor_bytes(&c, 4), slice_str("tail")));
    ck_assert(!c.bad);
    ck_assert_uint_eq(c.left.n, 0);
    buf_close(&b);
}
END_TEST

START_TEST(cursor_stays_bad)
{
    struct cursor c = cursor_of(slice_str("abc"));
    ck_assert_uint_eq(cursor_u32(&c), 0);
    ck_assert(c.bad);
    ck_assert_uint_eq(cursor_u8(&c), 0); /* there would be bytes, but it is bad */
    ck_assert_uint_eq(cursor_bytes(&c, 0).n, 0);
    c = cursor_of(slice_str("abc"));
    ck_assert_uint_eq(cursor_bytes(&c, SIZE_MAX).n, 0);
    ck_assert(c.bad);
    c = cursor_of((struct slice){0});
    ck_assert_uint_eq(cursor_bytes(&c, 0).n, 0);
    ck_assert(!c.bad);
    ck_assert_uint_eq(cursor_u8(&c), 0);
    ck_assert(c.bad);
}
END_TEST

START_TEST(equality)
{
    ck_assert(slice_eq((struct slice){0}, slice_str("")));
    ck_assert(slice_eq(slice_str("ab"), slice_of("ab", 2)));
    ck_assert(!slice_eq(slice_str("ab"), slice_str("abc")));
    ck_assert(!slice_eq(slice_str("ab"), slice_str("ac")));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("slice");
    TCase *t = tcase_create("slice");
    tcase_add_test(t, buf_grows_and_consumes);
    tcase_add_test(t, buf_prints_at_every_fill);
    tcase_add_test(t, little_endian_round_trip);
    tcase_add_test(t, cursor_stays_bad);
    tcase_add_test(t, equality);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
