#include "common/meta/slot.h"

#include <check.h>
#include <stdlib.h>

#include "common/base/limits.h"

START_TEST(known_vectors)
{
    /* redis.io, cluster specification, appendix A */
    ck_assert_uint_eq(slot_crc16(slice_str("123456789")), 0x31c3);
    static const struct {
        const char *key;
        uint16_t slot;
    } rows[] = {
        /* CLUSTER KEYSLOT of Redis 7 */
        {"", 0},
        {"123456789", 12739},
        {"foo", 12182},
        {"bar", 5061},
        {"hello", 866},
        {"somekey", 11058},
        {"foo{hash_tag}", 2515},
        {"bar{hash_tag}", 2515},
        {"hash_tag", 2515},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        ck_assert_uint_eq(slot_of_key(slice_str(rows[i].key)), rows[i].slot);
}
END_TEST

START_TEST(tags)
{
    /* Which part of the key counts. */
    static const struct {
        const char *key, *part;
    } rows[] = {
        {"{user1000}.following", "user1000"},
        {"{user1000}.followers", "user1000"},
        {"foo{}{bar}", "foo{}{bar}"},
        {"foo{{bar}}zap", "{bar"},
        {"foo{bar}{zap}", "bar"},
        {"foo}bar{x", "foo}bar{x"},
        {"foo}{x}", "x"},
        {"{", "{"},
        {"{}", "{}"},
        {"}{", "}{"},
        {"a{b", "a{b"},
        {"{a", "{a"},
        {"{a}", "a"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        ck_assert_uint_eq(slot_of_key(slice_str(rows[i].key)),
                          slot_crc16(slice_str(rows[i].part)) % LIMIT_SLOTS);
}
END_TEST

START_TEST(bytes_are_bytes)
{
    ck_assert_uint_eq(slot_of_key((struct slice){0}), 0);
    ck_assert_uint_ne(slot_of_key(slice_of("a\0b", 3)), slot_of_key(slice_of("a\0c", 3)));
    ck_assert_uint_eq(slot_of_key(slice_of("{a\0b}x", 6)), slot_of_key(slice_of("a\0b", 3)));
}
END_TEST

START_TEST(spread_is_even)
{
    static unsigned count[16];
    for (unsigned i = 0; i < 160000; i++) {
        struct buf b = {0};
        buf_printf(&b, "key-%u", i);
        count[slot_of_key(buf_slice(&b)) / (LIMIT_SLOTS / 16)]++;
        buf_close(&b);
    }
    for (unsigned i = 0; i < 16; i++) {
        ck_assert_uint_gt(count[i], 9500);
        ck_assert_uint_lt(count[i], 10500);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("slot");
    TCase *t = tcase_create("slot");
    tcase_add_test(t, known_vectors);
    tcase_add_test(t, tags);
    tcase_add_test(t, bytes_are_bytes);
    tcase_add_test(t, spread_is_even);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
