#include "common/http/metric.h"

#include <check.h>

#include "common/http/mp_json.h"
#include "common/wire/mp.h"

static void expect(struct buf *b, const char *want)
{
    buf_u8(b, 0);
    ck_assert_str_eq((const char *)b->p, want);
    buf_close(b);
}

START_TEST(samples_and_labels)
{
    struct buf b = {0};
    metric_family(&b, METRIC_COUNTER, "x_total", "What it is.");
    metric_sample(&b, "x_total", 9007199254740992.0, "kind", "get", "result", "ok", NULL);
    metric_sample(&b, "x_total", 0, "kind", "a\"b\\c\nd", NULL);
    metric_one(&b, METRIC_GAUGE, "y", "Y.", -1.5);
    expect(&b, "# HELP x_total What it is.\n# TYPE x_total counter\n"
               "x_total{kind=\"get\",result=\"ok\"} 9007199254740992\n"
               "x_total{kind=\"a\\\"b\\\\c\\nd\"} 0\n"
               "# HELP y Y.\n# TYPE y gauge\ny -1.5\n");
}
END_TEST

START_TEST(histograms_accumulate)
{
    struct buf b = {0};
    struct latency l = {0};
    latency_add(&l, 40000);
    latency_add(&l, 2000000);
    latency_add(&l, 20000000000);
    metric_latency(&b, "t_seconds", &l, "kind", "read");
    buf_u8(&b, 0);
    const char *text = (const char *)b.p;
    ck_assert_ptr_nonnull(strstr(text, "t_seconds_bucket{kind=\"read\",le=\"5e-05\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(text, "t_seconds_bucket{kind=\"read\",le=\"0.001\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(text, "t_seconds_bucket{kind=\"read\",le=\"0.0025\"} 2\n"));
    ck_assert_ptr_nonnull(strstr(text, "t_seconds_bucket{kind=\"read\",le=\"10\"} 2\n"));
    ck_assert_ptr_nonnull(strstr(text, "t_seconds_bucket{kind=\"read\",le=\"+Inf\"} 3\n"));
    ck_assert_ptr_nonnull(strstr(text, "t_seconds_sum{kind=\"read\"} 20.00204\n"));
    ck_assert_ptr_nonnull(strstr(text, "t_seconds_count{kind=\"read\"} 3\n"));
    buf_close(&b);
}
END_TEST

static const struct mp_json_rule rules[] = {
    {"id", NULL, true, false}, {"leader", NULL, true, true}, {"client", "address", false, false}};

START_TEST(json_of_a_message)
{
    struct buf in = {0}, out = {0};
    mp_put_map(&in, 6);
    mp_put_str(&in, "id");
    mp_put_uint(&in, UINT64_MAX);
    mp_put_str(&in, "leader");
    mp_put_uint(&in, 0);
    mp_put_str(&in, "client");
    mp_put_str(&in, "1.2.3.4:5\n\"\xff\xc3\xa9");
    mp_put_str(&in, "list");
    mp_put_array(&in, 3);
    mp_put_bool(&in, true);
    mp_put_nil(&in);
    mp_put_int(&in, -3);
    mp_put_str(&in, "empty");
    mp_put_map(&in, 0);
    mp_put_str(&in, "n");
    mp_put_uint(&in, 7);
    ck_assert_int_eq(mp_json(buf_slice(&in), rules, 3, &out), ERR_OK);
    expect(&out, "{\"id\":\"18446744073709551615\",\"leader\":null,"
                 "\"address\":\"1.2.3.4:5\\u000a\\\"\xef\xbf\xbd\xc3\xa9\","
                 "\"list\":[true,null,-3],\"empty\":{},\"n\":7}");
    buf_close(&in);
}
END_TEST

/* Cut short anywhere, or too deep: refused, and the output is as it was. */
START_TEST(json_of_a_malformed_message)
{
    struct buf in = {0}, out = {0};
    mp_put_map(&in, 2);
    mp_put_str(&in, "a");
    mp_put_array(&in, 2);
    mp_put_uint(&in, 1000);
    mp_put_str(&in, "text");
    mp_put_str(&in, "b");
    mp_put_bool(&in, false);
    for (size_t n = 0; n < in.n; n++) {
        ck_assert_int_ne(mp_json(slice_of(in.p, n), NULL, 0, &out), ERR_OK);
        ck_assert_uint_eq(out.n, 0);
    }
    ck_assert_int_eq(mp_json(buf_slice(&in), NULL, 0, &out), ERR_OK);
    buf_clear(&in);
    for (unsigned i = 0; i < 40; i++)
        mp_put_array(&in, 1);
    mp_put_nil(&in);
    ck_assert_int_ne(mp_json(buf_slice(&in), NULL, 0, &out), ERR_OK);
    buf_close(&in);
    buf_close(&out);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("metric");
    TCase *t = tcase_create("metric");
    tcase_add_test(t, samples_and_labels);
    tcase_add_test(t, histograms_accumulate);
    tcase_add_test(t, json_of_a_message);
    tcase_add_test(t, json_of_a_malformed_message);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
