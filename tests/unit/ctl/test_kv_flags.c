/* Flags of the commands on keys: what is taken, what is refused. */
#include "client/ctl/kv_flags.h"

#include <check.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *text;
    uint64_t ms; /* 0: refused */
} ttls[] = {
    {"30s", 30000},
    {"500ms", 500},
    {"1", 1000},
    {"2m", 120000},
    {"1.5h", 5400000},
    {"7d", 604800000},
    {"36525d", 3155760000000},
    {"36526d", 0},
    {"0", 0},
    {"0.5ms", 0},
    {"-1s", 0},
    {"", 0},
    {"s", 0},
    {"5y", 0},
    {"inf", 0},
    {"nan", 0},
};

START_TEST(test_ttl)
{
    uint64_t ms = 0;
    ck_assert_int_eq(kv_flags_ttl(ttls[_i].text, &ms), ttls[_i].ms > 0);
    ck_assert_uint_eq(ms, ttls[_i].ms);
}
END_TEST

static const struct {
    const char *text;
    int read; /* -1: refused */
    unsigned ms;
} reads[] = {
    {"linearizable", KV_READ_LINEARIZABLE, 0},
    {"session", KV_READ_SESSION, 0},
    {"any", KV_READ_ANY, 0},
    {"bounded:500ms", KV_READ_BOUNDED, 500},
    {"bounded:2s", KV_READ_BOUNDED, 2000},
    {"bounded:0", -1, 0},
    {"bounded:", -1, 0},
    {"bounded", -1, 0},
    {"", -1, 0},
};

START_TEST(test_read)
{
    kv_callopts o = KV_CALLOPTS_INIT;
    ck_assert_int_eq(kv_flags_read(reads[_i].text, &o), reads[_i].read >= 0);
    if (reads[_i].read < 0)
        return;
    ck_assert_int_eq((int)o.read, reads[_i].read);
    ck_assert_uint_eq(o.max_staleness_ms, reads[_i].ms);
}
END_TEST

START_TEST(test_number)
{
    int64_t v = 0;
    ck_assert(kv_flags_number("-9223372036854775808", &v) && v == INT64_MIN);
    ck_assert(kv_flags_number("9223372036854775807", &v) && v == INT64_MAX);
    ck_assert(kv_flags_number("+5", &v) && v == 5);
    ck_assert(!kv_flags_number("9223372036854775808", &v));
    ck_assert(!kv_flags_number("", &v));
    ck_assert(!kv_flags_number("-", &v));
    ck_assert(!kv_flags_number("1.5", &v));
    ck_assert(!kv_flags_number(" 1", &v));
}
END_TEST

static bool parse(unsigned allowed, struct kv_flags *f, int argc, ...)
{
    struct ctl ctl = {.output = CTL_PLAIN};
    static char words[8][32];
    char *argv[9] = {words[0]};
    va_list ap;
    va_start(ap, argc);
    snprintf(words[0], sizeof words[0], "put");
    for (int i = 1; i <= argc; i++) {
        snprintf(words[i], sizeof words[i], "%s", va_arg(ap, const char *));
        argv[i] = words[i];
    }
    va_end(ap);
    optind = 0;
    return kv_flags_parse(&ctl, "put", allowed, argc + 1, argv, f);
}

START_TEST(test_flags)
{
    struct kv_flags f;
    ck_assert(
        parse(FLAG_TTL | FLAG_IF_VERSION, &f, 6, "k", "--ttl", "1s", "--if-version", "7", "v"));
    ck_assert_uint_eq(f.opts.flags, KV_TTL | KV_IF_VERSION);
    ck_assert_uint_eq(f.opts.ttl_ms, 1000);
    ck_assert_uint_eq(f.opts.if_version, 7);
    ck_assert(parse(FLAG_IF_ABSENT | FLAG_RAW, &f, 2, "--if-absent", "--raw"));
    ck_assert(f.raw && f.opts.flags == KV_IF_ABSENT);
    ck_assert(!parse(FLAG_RAW, &f, 1, "--if-absent")); /* not of this command */
    ck_assert(!parse(FLAG_IF_VERSION | FLAG_IF_ABSENT, &f, 3, "--if-absent", "--if-version", "1"));
    ck_assert(!parse(FLAG_IF_VERSION, &f, 2, "--if-version", "x"));
    ck_assert(!parse(FLAG_TTL, &f, 2, "--ttl", "0"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl/kv_flags");
    TCase *t = tcase_create("all");
    tcase_add_loop_test(t, test_ttl, 0, sizeof(ttls) / sizeof(ttls[0]));
    tcase_add_loop_test(t, test_read, 0, sizeof(reads) / sizeof(reads[0]));
    tcase_add_test(t, test_number);
    tcase_add_test(t, test_flags);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
