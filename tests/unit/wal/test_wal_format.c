/* The format: round trips, every bit of it covered, names. */
#include <check.h>
#include <stdlib.h>

#include "common/base/crc32c.h"
#include "common/wal/wal_format.h"

enum { LSN = 7 * 65536 + 8192, SEED = 99 };

/* A commit of two records, its unpadded length. */
static size_t make_commit(uint8_t out[WAL_BLOCK])
{
    static const struct wal_record a = {11, 12, 13, WAL_ENTRY, 1}, b = {21, 22, 23, WAL_STATE, 0};
    memset(out, 0, WAL_BLOCK);
    size_t at = WAL_COMMIT_HEADER;
    wal_record_encode(&a, slice_str("first one"), SEED, LSN + at, out + at);
    uint32_t sum = crc32c(0, out + at, 4);
    at += wal_record_size(9);
    wal_record_encode(&b, slice_str(""), SEED, LSN + at, out + at);
    sum = crc32c(sum, out + at, 4);
    at += wal_record_size(0);
    struct wal_commit_header h = {
        .sequence = 5, .oldest = 3, .length = (uint32_t)at, .count = 2, .records_crc = sum};
    wal_commit_encode(&h, SEED, LSN, out);
    return at;
}

START_TEST(a_commit_comes_back)
{
    uint8_t p[WAL_BLOCK];
    size_t n = make_commit(p);
    struct wal_commit_header h;
    ck_assert(wal_commit_verify(slice_of(p, sizeof p), SEED, LSN, &h));
    ck_assert_uint_eq(h.sequence, 5);
    ck_assert_uint_eq(h.oldest, 3);
    ck_assert_uint_eq(h.length, n);
    struct wal_record r;
    struct slice payload;
    wal_record_decode(slice_of(p + 48, n - 48), &r, &payload);
    ck_assert_uint_eq(r.group, 11);
    ck_assert_uint_eq(r.index, 12);
    ck_assert_uint_eq(r.term, 13);
    ck_assert_uint_eq(r.type, WAL_ENTRY);
    ck_assert_uint_eq(r.kind, 1);
    ck_assert(slice_eq(payload, slice_str("first one")));
}
END_TEST

START_TEST(every_bit_of_a_commit_is_covered)
{
    uint8_t p[WAL_BLOCK];
    size_t n = make_commit(p);
    struct wal_commit_header h;
    unsigned passed = 0;
    for (size_t bit = 0; bit < n * 8; bit++) {
        p[bit / 8] ^= (uint8_t)(1 << bit % 8);
        passed += wal_commit_verify(slice_of(p, sizeof p), SEED, LSN, &h);
        p[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    ck_assert_uint_eq(passed, 7 * 8); /* the zeros that pad the first record */
    for (size_t cut = 0; cut < n; cut++)
        ck_assert(!wal_commit_verify(slice_of(p, cut), SEED, LSN, &h));
    ck_assert(wal_commit_verify(slice_of(p, n), SEED, LSN, &h));
}
END_TEST

START_TEST(a_commit_passes_only_in_its_place)
{
    uint8_t p[WAL_BLOCK];
    (void)make_commit(p);
    struct wal_commit_header h;
    ck_assert(!wal_commit_verify(slice_of(p, sizeof p), SEED + 1, LSN, &h));
    ck_assert(!wal_commit_verify(slice_of(p, sizeof p), SEED, LSN + WAL_BLOCK, &h));
    ck_assert(!wal_record_verify(slice_of(p + 48, 100), SEED, LSN));
    ck_assert(wal_record_verify(slice_of(p + 48, 100), SEED, LSN + 48));
}
END_TEST

START_TEST(the_seed_depends_on_all_of_it)
{
    struct wal_segment_header h = {1, 65536, 3, 4};
    uint32_t seed = wal_segment_seed(&h);
    h.number++;
    ck_assert_uint_ne(wal_segment_seed(&h), seed);
    h.number--;
    h.log++;
    ck_assert_uint_ne(wal_segment_seed(&h), seed);
    h.log--;
    h.salt++;
    ck_assert_uint_ne(wal_segment_seed(&h), seed);
}
END_TEST

START_TEST(a_header_comes_back_and_every_bit_counts)
{
    uint8_t p[WAL_BLOCK];
    struct wal_segment_header h = {1, 65536, 3, 4}, back;
    const char *why;
    uint32_t version;
    wal_segment_header_encode(&h, p);
    ck_assert_int_eq(wal_segment_header_decode(slice_of(p, sizeof p), &back, &why, &version),
                     ERR_OK);
    ck_assert(back.number == 1 && back.size == 65536 && back.log == 3 && back.salt == 4);
    for (size_t bit = 0; bit < 52 * 8; bit++) {
        p[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_int_ne(wal_segment_header_decode(slice_of(p, sizeof p), &back, &why, &version),
                         ERR_OK);
        p[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    static const struct wal_segment_header bad[] = {
        {0, 65536, 3, 4}, {1, 4096, 3, 4}, {1, 65537, 3, 4}, {UINT64_MAX, 65536, 3, 4}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        wal_segment_header_encode(&bad[i], p);
        ck_assert_int_eq(wal_segment_header_decode(slice_of(p, sizeof p), &back, &why, &version),
                         ERR_CORRUPT);
    }
}
END_TEST

START_TEST(only_our_own_spelling_is_a_name)
{
    char name[WAL_NAME_MAX];
    uint64_t n = 0;
    wal_name_format(WAL_NAME_SEGMENT, 0xabc, name);
    ck_assert_str_eq(name, "wal-0000000000000abc.log");
    ck_assert_int_eq(wal_name_parse(name, &n), WAL_NAME_SEGMENT);
    ck_assert_uint_eq(n, 0xabc);
    ck_assert_int_eq(wal_name_parse("spare-0000000000000001.log", &n), WAL_NAME_SPARE);
    ck_assert_int_eq(wal_name_parse("new-0000000000000001.tmp", &n), WAL_NAME_NEW);
    static const char *const others[] = {"",
                                         "wal-",
                                         "wal-1.log",
                                         "wal-0000000000000ABC.log",
                                         "wal-0000000000000000.log",
                                         "wal-0000000000000abc.log~",
                                         "wal-0x00000000000abc.log",
                                         "wal-                1.log",
                                         "wal-0000000000000abc.tmp",
                                         "lost+found"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        ck_assert_int_eq(wal_name_parse(others[i], &n), WAL_NAME_OTHER);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("format");
    tcase_add_test(t, a_commit_comes_back);
    tcase_add_test(t, every_bit_of_a_commit_is_covered);
    tcase_add_test(t, a_commit_passes_only_in_its_place);
    tcase_add_test(t, the_seed_depends_on_all_of_it);
    tcase_add_test(t, a_header_comes_back_and_every_bit_counts);
    tcase_add_test(t, only_our_own_spelling_is_a_name);
    Suite *s = suite_create("wal_format");
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
