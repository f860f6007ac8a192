/* Records of export and import: there and back in both formats, cut off, malformed. */
#include "client/ctl/records.h"

#include <check.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/rng.h"

static struct buf file;

static void setup(void)
{
    file = (struct buf){0};
}

static void teardown(void)
{
    buf_close(&file);
}

static struct records_reader reader(size_t n)
{
    struct records_reader r = {.in = n ? fmemopen(file.p, n, "r") : fopen("/dev/null", "r")};
    ck_assert_ptr_nonnull(r.in);
    return r;
}

static void done(struct records_reader *r)
{
    fclose(r->in);
    records_close(r);
}

#define BIG 700000u

/* Keys and values of all kinds and sizes. */
static void make(unsigned i, struct record *r, struct buf *memory)
{
    struct rng rng;
    rng_seed(&rng, i);
    size_t key = 1 + rng_below(&rng, 30), value = i % 50 == 7 ? BIG : rng_below(&rng, 200);
    buf_clear(memory);
    for (size_t k = 0; k < key + value; k++)
        buf_u8(memory, (uint8_t)(i % 2 ? 'a' + rng_below(&rng, 26) : rng_below(&rng, 256)));
    *r = (struct record){.key = slice_of(memory->p, key),
                         .value = slice_of(memory->p + key, value),
                         .version = rng_next(&rng),
                         .expires_ms = i % 3 ? 0 : 1 + rng_below(&rng, 1ull << 45)};
}

#define RECORDS 200u

START_TEST(test_there_and_back)
{
    enum records_format format = (enum records_format)_i;
    struct buf memory = {0};
    struct record want, got;
    for (unsigned i = 0; i < RECORDS; i++) {
        make(i, &want, &memory);
        record_encode(&file, format, &want);
    }
    struct records_reader r = reader(file.n);
    struct slice raw;
    for (unsigned i = 0; i < RECORDS; i++) {
        struct record_memory m;
        char msg[256] = "";
        make(i, &want, &memory);
        ck_assert_int_eq(records_read(&r, &raw), RECORDS_ONE);
        ck_assert_int_eq(r.format, format);
        ck_assert_msg(record_decode(format, raw, &got, &m, msg, sizeof msg), "%s", msg);
        ck_assert(slice_eq(got.key, want.key) && slice_eq(got.value, want.value));
        ck_assert_uint_eq(got.version, want.version);
        ck_assert_uint_eq(got.expires_ms, want.expires_ms);
        record_close(&m);
    }
    ck_assert_int_eq(records_read(&r, &raw), RECORDS_END);
    ck_assert_int_eq(records_read(&r, &raw), RECORDS_END);
    ck_assert_uint_eq(r.offset, file.n);
    done(&r);
    buf_close(&memory);
}
END_TEST

/* Cut anywhere: the whole records, and where they end. */
START_TEST(test_cut)
{
    enum records_format format = (enum records_format)_i;
    struct record a = {.key = slice_str("k1"), .value = slice_str("one"), .version = 3};
    struct record b = {.key = slice_str("k2"), .value = slice_str("zwei"), .version = 4};
    record_encode(&file, format, &a);
    size_t first = file.n;
    record_encode(&file, format, &b);
    for (size_t n = 1; n < file.n; n++) {
        struct records_reader r = reader(n);
        struct slice raw;
        enum records_next next = records_read(&r, &raw);
        if (n >= first) {
            ck_assert_int_eq(next, RECORDS_ONE);
            ck_assert_uint_eq(r.offset, first);
            next = records_read(&r, &raw);
        }
        ck_assert_int_eq(next, n == first ? RECORDS_END : RECORDS_CUT);
        done(&r);
    }
}
END_TEST

static const struct {
    const char *line;
    const char *why; /* NULL: it is taken */
} lines[] = {
    {"{\"key\":\"k\",\"value\":\"v\"}", NULL},
    {"{\"key\":\"k\",\"value\":\"v\",\"ttl_ms\":50,\"more\":[]}", NULL},
    {"{\"key_base64\":\"AAE=\",\"value\":\"v\\u0000\"}", NULL},
    {"{\"key\":\"k\",\"value\":\"v\",\"version\":null}", NULL},
    {"{\"key\":\"k\"}", "value"},
    {"{\"key\":\"k\",\"key_base64\":\"AAE=\",\"value\":\"v\"}", "key"},
    {"{\"key_base64\":\"!\",\"value\":\"v\"}", "key"},
    {"{\"key\":1,\"value\":\"v\"}", "key"},
    {"{\"key\":\"k\",\"value\":\"v\",\"version\":-1}", "whole"},
    {"{\"key\":\"k\",\"value\":\"v\",\"expires_ms\":\"soon\"}", "whole"},
    {"[1]", "object"},
    {"{", ""},
};

START_TEST(test_lines)
{
    struct record r;
    struct record_memory m;
    char msg[256] = "";
    bool ok = record_decode(RECORDS_JSON, slice_str(lines[_i].line), &r, &m, msg, sizeof msg);
    ck_assert_int_eq(ok, lines[_i].why == NULL);
    if (ok)
        record_close(&m);
    else
        ck_assert_ptr_nonnull(strstr(msg, lines[_i].why));
}
END_TEST

START_TEST(test_raw)
{
    struct record r;
    struct record_memory m;
    char msg[256] = "";
    /* A short array and str are taken: other programs write them so. */
    ck_assert(record_decode(RECORDS_MSGPACK, slice_of("\x92\xa1k\xa1v", 5), &r, &m, msg, 256));
    ck_assert(slice_eq(r.key, slice_str("k")) && slice_eq(r.value, slice_str("v")));
    ck_assert(!record_decode(RECORDS_MSGPACK, slice_of("\x91\xa1k", 3), &r, &m, msg, 256));
    ck_assert(!record_decode(RECORDS_MSGPACK, slice_of("\x92\xa1k\x07", 4), &r, &m, msg, 256));
    ck_assert(!record_decode(RECORDS_MSGPACK, slice_of("\xc0", 1), &r, &m, msg, 256));
    buf_append(&file, "\xc1", 1); /* never valid */
    struct records_reader reading = reader(1);
    struct slice raw;
    ck_assert_int_eq(records_read(&reading, &raw), RECORDS_BAD);
    done(&reading);
}
END_TEST

START_TEST(test_formats)
{
    enum records_format f = RECORDS_JSON;
    ck_assert(records_format_of("msgpack", &f) && f == RECORDS_MSGPACK);
    ck_assert(records_format_of("json", &f) && f == RECORDS_JSON);
    ck_assert(!records_format_of("xml", &f));
    ck_assert_int_eq(records_format_by_name("a.mp"), RECORDS_MSGPACK);
    ck_assert_int_eq(records_format_by_name("a.b.msgpack"), RECORDS_MSGPACK);
    ck_assert_int_eq(records_format_by_name("a.mp.jsonl"), RECORDS_JSON);
    ck_assert_int_eq(records_format_by_name("-"), RECORDS_JSON);
    struct records_reader r = reader(0);
    struct slice raw;
    ck_assert_int_eq(records_read(&r, &raw), RECORDS_END);
    done(&r);
    buf_append(&file, "\n\r\n{}\n\n", 7);
    r = reader(7);
    ck_assert_int_eq(records_read(&r, &raw), RECORDS_ONE); /* empty lines do not count */
    ck_assert(slice_eq(raw, slice_str("{}")));
    ck_assert_int_eq(records_read(&r, &raw), RECORDS_END);
    done(&r);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl/records");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    tcase_add_loop_test(t, test_there_and_back, 0, 2);
    tcase_add_loop_test(t, test_cut, 0, 2);
    tcase_add_loop_test(t, test_lines, 0, sizeof(lines) / sizeof(lines[0]));
    tcase_add_test(t, test_raw);
    tcase_add_test(t, test_formats);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
