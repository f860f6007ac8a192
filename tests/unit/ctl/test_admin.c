/* Answers of placementd as JSON, names of groups, durations and sizes for people. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/admin.h"
#include "client/ctl/output.h"
#include "client/ctl/plan.h"
#include "common/wire/mp.h"

static char *text_of(json_t *v)
{
    char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(v);
    ck_assert_ptr_nonnull(text);
    return text;
}

static void put_sample(struct buf *b)
{
    mp_put_map(b, 8);
    mp_put_str(b, "id");
    mp_put_uint(b, UINT64_MAX);
    mp_put_str(b, "bytes");
    mp_put_uint(b, 12);
    mp_put_str(b, "paused");
    mp_put_bool(b, true);
    mp_put_str(b, "none");
    mp_put_nil(b);
    mp_put_str(b, "state");
    mp_put_bin(b, slice_str("\x01\x02\x03"));
    mp_put_str(b, "operators");
    mp_put_array(b, 2);
    mp_put_uint(b, 7);
    mp_put_map(b, 1);
    mp_put_str(b, "at");
    mp_put_uint(b, 3);
    mp_put_str(b, "why");
    mp_put_str(b, "a\033[31mb");
    mp_put_str(b, "less");
    mp_put_int(b, -5);
}

START_TEST(test_to_json)
{
    struct buf b = {0};
    put_sample(&b);
    char *text = text_of(admin_to_json(buf_slice(&b)));
    ck_assert_str_eq(text, "{\"id\":\"18446744073709551615\",\"bytes\":12,\"paused\":true,"
                           "\"none\":null,\"state\":\"AQID\",\"operators\":[\"7\",{\"at\":3}],"
                           "\"why\":\"a?[31mb\",\"less\":-5}");
    free(text);
    buf_close(&b);
}
END_TEST

/* Cut anywhere it is refused, never read past its end. */
START_TEST(test_to_json_cut)
{
    struct buf b = {0};
    put_sample(&b);
    for (size_t n = 0; n < b.n; n++) {
        char *exact = malloc(n ? n : 1);
        memcpy(exact, b.p, n);
        ck_assert_msg(admin_to_json(slice_of(exact, n)) == NULL, "cut at %zu", n);
        free(exact);
    }
    mp_put_nil(&b);
    ck_assert_ptr_null(admin_to_json(buf_slice(&b)));
    buf_clear(&b);
    for (int i = 0; i < 100; i++)
        mp_put_array(&b, 1);
    mp_put_nil(&b);
    ck_assert_ptr_null(admin_to_json(buf_slice(&b)));
    buf_close(&b);
}
END_TEST

START_TEST(test_from_json)
{
    struct buf b = {0};
    json_t *v = json_pack("{s:s,s:I,s:b,s:[s,i],s:n}", "action", "drain", "group",
                          (json_int_t)1 << 40, "plan", 1, "lost", "n1", 2, "nothing");
    admin_from_json(&b, v);
    json_decref(v);
    char *text = text_of(admin_to_json(buf_slice(&b)));
    ck_assert_str_eq(text, "{\"action\":\"drain\",\"group\":\"1099511627776\",\"plan\":true,"
                           "\"lost\":[\"n1\",2],\"nothing\":null}");
    free(text);
    buf_close(&b);
}
END_TEST

START_TEST(test_group_names)
{
    static const struct {
        const char *text;
        uint64_t id; /* 0: refused */
    } table[] = {{"g7", 7},  {"g07", 7}, {"7", 7},  {"G12", 12}, {"007", 7},
                 {"", 0},    {"g", 0},   {"g0", 0}, {"0", 0},    {"gg7", 0},
                 {"g7x", 0}, {"g-7", 0}, {"n7", 0}, {"g 7", 0},  {"+7", 0}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        uint64_t id = 0;
        ck_assert_msg(admin_group(table[i].text, &id) == (table[i].id != 0), "%s", table[i].text);
        ck_assert_uint_eq(id, table[i].id);
    }
}
END_TEST

START_TEST(test_seconds)
{
    static const struct {
        uint64_t s;
        const char *text;
    } table[] = {{0, "0s"},       {59, "59s"},      {60, "1m00s"},
                 {112, "1m52s"},  {3599, "59m59s"}, {3600, "1h00m"},
                 {7500, "2h05m"}, {400000, "4d"},   {UINT64_MAX, "213503982334601d"}};
    char buf[32];
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        ck_assert_str_eq(admin_seconds(table[i].s, buf), table[i].text);
}
END_TEST

START_TEST(test_base64)
{
    for (size_t n = 0; n < 100; n++) {
        unsigned char bytes[100];
        size_t back_n = 1000;
        for (size_t i = 0; i < n; i++)
            bytes[i] = (unsigned char)(i * 37 + n * 11);
        json_t *o = json_object();
        out_json_base64(o, "v", bytes, n);
        void *back = out_from_base64(admin_str(o, "v"), &back_n);
        ck_assert_ptr_nonnull(back);
        ck_assert_uint_eq(back_n, n);
        ck_assert_int_eq(memcmp(back, bytes, n), 0);
        free(back);
        json_decref(o);
    }
    size_t n;
    ck_assert_ptr_null(out_from_base64("AAA", &n));
    ck_assert_ptr_null(out_from_base64("AA=A", &n));
    ck_assert_ptr_null(out_from_base64("A\nAA", &n));
}
END_TEST

static json_t *sample_plan(const char *kind2)
{
    return json_pack("{s:s,s:s,s:[{s:s,s:s},{s:s,s:s}],s:I,s:I,s:I,s:I}", "plan", "7f3a", "version",
                     "118", "ops", "kind", "move", "group", "7", "kind", kind2, "group", "8",
                     "bytes", (json_int_t)2 << 30, "seconds", (json_int_t)112, "rate",
                     (json_int_t)200 << 20, "at_a_time", (json_int_t)2);
}

START_TEST(test_figures)
{
    char text[200];
    json_t *p = sample_plan("move");
    plan_figures(p, text, sizeof(text));
    ck_assert_str_eq(text, "2 moves, 2.0GiB, 2 at a time, cap 200MiB/s, about 1m52s");
    json_decref(p);
    p = sample_plan("transfer-leader");
    plan_figures(p, text, sizeof(text));
    ck_assert_str_eq(text,
                     "1 move, 1 leader transfer, 2.0GiB, 2 at a time, cap 200MiB/s, about 1m52s");
    json_decref(p);
}
END_TEST

/* What scripts get: other names than on the wire. */
START_TEST(test_plan_json)
{
    json_t *p = sample_plan("move"), *o = plan_json(p);
    ck_assert_str_eq(admin_str(o, "topology_version"), "118");
    ck_assert_uint_eq(json_array_size(json_object_get(o, "moves")), 2);
    ck_assert_ptr_null(json_object_get(o, "ops"));
    ck_assert_ptr_null(json_object_get(o, "version"));
    ck_assert_uint_eq(admin_u64(o, "seconds"), 112);
    json_decref(o);
    json_decref(p);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl/admin");
    TCase *t = tcase_create("admin");
    tcase_add_test(t, test_to_json);
    tcase_add_test(t, test_to_json_cut);
    tcase_add_test(t, test_from_json);
    tcase_add_test(t, test_group_names);
    tcase_add_test(t, test_seconds);
    tcase_add_test(t, test_base64);
    tcase_add_test(t, test_figures);
    tcase_add_test(t, test_plan_json);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
