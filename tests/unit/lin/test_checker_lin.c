/* The linearizability checker: known histories, and random ones with and without planted errors. */
#include <check.h>
#include <stdlib.h>

#include "common/base/rng.h"
#include "common/lin/history.h"

#define BUDGET 10000000u

/* One row an operation: client, kind, value, expected, call, return (0: unknown). Values: small
 * numbers, 0 is absent. */
struct row {
    enum lin_kind kind;
    uint32_t value, expected;
    bool failed;
    uint64_t call, ret;
};

static enum lin_verdict verdict(const struct row *rows, size_t n)
{
    struct lin_op ops[32];

    for (size_t i = 0; i < n; i++)
        ops[i] = (struct lin_op){(uint32_t)i,
                                 rows[i].kind,
                                 rows[i].value,
                                 rows[i].expected,
                                 rows[i].failed,
                                 rows[i].call,
                                 rows[i].ret ? rows[i].ret : LIN_FOREVER,
                                 i};
    return lin_check(ops, n, LIN_ABSENT, BUDGET);
}

#define EXPECT(want, ...)                                                                          \
    do {                                                                                           \
        const struct row rows[] = {__VA_ARGS__};                                                   \
        ck_assert_int_eq(verdict(rows, sizeof rows / sizeof *rows), want);                         \
    } while (0)

START_TEST(test_sequential)
{
    EXPECT(LIN_OK, {LIN_PUT, 1, 0, 0, 1, 2}, {LIN_GET, 1, 0, 0, 3, 4});
    EXPECT(LIN_OK, {LIN_GET, 0, 0, 0, 1, 2}, {LIN_PUT, 1, 0, 0, 3, 4});
    EXPECT(LIN_BAD, {LIN_PUT, 1, 0, 0, 1, 2}, {LIN_GET, 0, 0, 0, 3, 4});
    EXPECT(LIN_BAD, {LIN_PUT, 1, 0, 0, 1, 2}, {LIN_GET, 2, 0, 0, 3, 4});
    EXPECT(LIN_OK, {LIN_PUT, 1, 0, 0, 1, 2}, {LIN_DEL, 0, 0, 0, 3, 4}, {LIN_GET, 0, 0, 0, 5, 6});
    EXPECT(LIN_BAD, {LIN_PUT, 1, 0, 0, 1, 2}, {LIN_DEL, 0, 0, 0, 3, 4}, {LIN_GET, 1, 0, 0, 5, 6});
}
END_TEST

START_TEST(test_concurrent)
{
    /* A read during a write sees either value. */
    EXPECT(LIN_OK, {LIN_PUT, 1, 0, 0, 1, 9}, {LIN_GET, 0, 0, 0, 2, 3}, {LIN_GET, 1, 0, 0, 4, 5});
    /* But not the new one and then the old one. */
    EXPECT(LIN_BAD, {LIN_PUT, 1, 0, 0, 1, 9}, {LIN_GET, 1, 0, 0, 2, 3}, {LIN_GET, 0, 0, 0, 4, 5});
    /* Two readers that disagree on the order of two writes. */
    EXPECT(LIN_BAD, {LIN_PUT, 1, 0, 0, 1, 9}, {LIN_PUT, 2, 0, 0, 1, 9}, {LIN_GET, 1, 0, 0, 10, 11},
           {LIN_GET, 2, 0, 0, 12, 13}, {LIN_GET, 1, 0, 0, 14, 15});
    /* Touching intervals count as concurrent. */
    EXPECT(LIN_OK, {LIN_PUT, 1, 0, 0, 1, 5}, {LIN_GET, 0, 0, 0, 5, 6});
}
END_TEST

START_TEST(test_unknown)
{
    /* An unknown write may take effect late, or never. */
    EXPECT(LIN_OK, {LIN_PUT, 1, 0, 0, 1, 0}, {LIN_GET, 0, 0, 0, 5, 6}, {LIN_GET, 1, 0, 0, 7, 8});
    EXPECT(LIN_OK, {LIN_PUT, 1, 0, 0, 1, 0}, {LIN_GET, 0, 0, 0, 5, 6}, {LIN_GET, 0, 0, 0, 7, 8});
    /* But once. */
    EXPECT(LIN_BAD, {LIN_PUT, 1, 0, 0, 1, 0}, {LIN_GET, 1, 0, 0, 5, 6}, {LIN_PUT, 2, 0, 0, 7, 8},
           {LIN_GET, 1, 0, 0, 9, 10});
    /* And not before its call. */
    EXPECT(LIN_BAD, {LIN_GET, 1, 0, 0, 1, 2}, {LIN_PUT, 1, 0, 0, 3, 0});
}
END_TEST

START_TEST(test_cas)
{
    EXPECT(LIN_OK, {LIN_CAS, 1, 0, 0, 1, 2}, {LIN_CAS, 2, 1, 0, 3, 4}, {LIN_GET, 2, 0, 0, 5, 6});
    EXPECT(LIN_BAD, {LIN_CAS, 1, 0, 0, 1, 2}, {LIN_CAS, 2, 0, 0, 3, 4});
    EXPECT(LIN_OK, {LIN_CAS, 1, 0, 0, 1, 2}, {LIN_CAS, 2, 0, 1, 3, 4});
    EXPECT(LIN_BAD, {LIN_PUT, 1, 0, 0, 1, 2}, {LIN_CAS, 2, 1, 1, 3, 4});
    /* The classic lost update: both succeed from the same value. */
    EXPECT(LIN_BAD, {LIN_PUT, 1, 0, 0, 1, 2}, {LIN_CAS, 2, 1, 0, 3, 9}, {LIN_CAS, 3, 1, 0, 4, 8});
    /* A refusal proves that an unknown write took effect, so it must not be forgotten. */
    EXPECT(LIN_OK, {LIN_PUT, 1, 0, 0, 1, 0}, {LIN_CAS, 2, 0, 1, 3, 4});
    EXPECT(LIN_BAD, {LIN_PUT, 1, 0, 0, 1, 0}, {LIN_CAS, 2, 0, 1, 3, 4}, {LIN_GET, 0, 0, 0, 5, 6});
}
END_TEST

/* Runs `n` random operations of 5 clients on a true register; every operation takes effect at a
 * random moment between call and return. */
static size_t generate(struct rng *r, struct lin_op *ops, size_t n)
{
    uint32_t value = LIN_ABSENT, next = 1;
    uint64_t now = 0, free_at[5] = {0}, effect = 0;

    for (size_t i = 0; i < n; i++) {
        size_t c = (size_t)rng_below(r, 5);
        struct lin_op *op = &ops[i];
        /* Effects in order of i; call before, return after; a client one at a time. */
        now = effect + 1 + rng_below(r, 10);
        if (free_at[c] >= now)
            now = free_at[c] + 1;
        effect = now;
        *op = (struct lin_op){.client = (uint32_t)c, .where = i};
        op->kind = (enum lin_kind)rng_below(r, 4);
        op->call = now - rng_below(r, now - free_at[c]);
        op->ret = now + rng_below(r, 40);
        free_at[c] = op->ret + 1;
        if (op->kind == LIN_PUT || op->kind == LIN_CAS)
            op->value = next++;
        if (op->kind == LIN_CAS) {
            op->expected = rng_below(r, 2) ? value : (uint32_t)rng_below(r, next);
            op->failed = op->expected != value;
        }
        if (op->kind == LIN_GET)
            op->value = value;
        else if (op->kind == LIN_DEL)
            value = LIN_ABSENT;
        else if (!op->failed)
            value = op->value;
        if (op->kind != LIN_GET && rng_below(r, 12) == 0) {
            op->ret = LIN_FOREVER;
            op->failed = false;
        }
    }
    return n;
}

START_TEST(test_random_good)
{
    struct rng r;
    struct lin_op ops[200];

    for (uint64_t seed = 1; seed <= 100; seed++) {
        rng_seed(&r, seed);
        size_t n = generate(&r, ops, 200);
        ck_assert_msg(lin_check(ops, n, LIN_ABSENT, BUDGET) == LIN_OK, "seed %d", (int)seed);
    }
}
END_TEST

START_TEST(test_random_planted)
{
    struct rng r;
    struct lin_op ops[80];
    unsigned caught = 0;

    for (uint64_t seed = 1; seed <= 60; seed++) {
        rng_seed(&r, seed);
        size_t n = generate(&r, ops, 80), reads = 0, m;
        /* A late read gives a value that was overwritten long before. */
        for (size_t i = n; i-- > 40 && reads == 0;)
            if (ops[i].kind == LIN_GET) {
                ops[i].value = ops[i].value == 1 ? 2 : 1;
                reads++;
            }
        if (reads == 0)
            continue;
        struct lin_op copy[80];
        memcpy(copy, ops, sizeof ops);
        if (lin_check(copy, n, LIN_ABSENT, BUDGET) != LIN_BAD)
            continue;
        caught++;
        m = lin_minimize(ops, n, LIN_ABSENT, BUDGET);
        ck_assert_uint_ge(m, 1);
        ck_assert_uint_lt(m, 120);
        ck_assert_int_eq(lin_check(ops, m, LIN_ABSENT, BUDGET), LIN_BAD);
    }
    /* Value 1 may never have been written for sure (unknown, refused): then it can be right. */
    ck_assert_uint_gt(caught, 25);
}
END_TEST

START_TEST(test_history_json)
{
    static const char good[] =
        "{\"c\":1,\"k\":\"a\",\"op\":\"put\",\"v\":\"x\",\"t0\":100,\"t1\":200,\"st\":\"ok\"}\n"
        "{\"c\":1,\"k\":\"a\",\"op\":\"get\",\"out\":\"x\",\"t0\":210,\"t1\":220,\"st\":\"ok\"}\n"
        "{\"c\":2,\"k\":\"b\",\"op\":\"get\",\"out\":null,\"t0\":210,\"t1\":220,\"st\":\"ok\"}\n"
        "{\"c\":2,\"k\":\"a\",\"op\":\"del\",\"t0\":230,\"t1\":300,\"st\":\"info\"}\n"
        "{\"c\":2,\"k\":\"a\",\"op\":\"cas\",\"exp\":\"x\",\"v\":\"z\",\"ok\":true,\"t0\":310,"
        "\"t1\":320}\n"
        "{\"c\":2,\"k\":\"a\",\"op\":\"put\",\"v\":\"q\",\"t0\":330,\"t1\":340,\"st\":\"fail\"}\n"
        "{\"c\":1,\"k\":\"a\",\"op\":\"get\",\"out\":\"z\",\"t0\":350,\"t1\":360,\"st\":\"ok\"}\n";
    char msg[200], *text = NULL;
    size_t size = 0;
    struct history h, again;
    FILE *f = fmemopen((void *)(uintptr_t)good, sizeof good - 1, "r");

    history_init(&h);
    ck_assert_int_eq(history_read(&h, f, msg, sizeof msg), ERR_OK);
    fclose(f);
    ck_assert_uint_eq(h.n, 7);
    ck_assert_int_eq(history_check(&h, BUDGET, NULL), LIN_OK);
    f = open_memstream(&text, &size);
    history_write(&h, f);
    fclose(f);
    history_init(&again);
    f = fmemopen(text, size, "r");
    ck_assert_int_eq(history_read(&again, f, msg, sizeof msg), ERR_OK);
    fclose(f);
    free(text);
    ck_assert_uint_eq(again.n, 7);
    ck_assert_uint_eq(history_count(&again, HISTORY_FAIL), 1);
    ck_assert_uint_eq(history_count(&again, HISTORY_INFO), 1);
    again.e[6].op.value = history_value(&again, slice_str("x"));
    f = open_memstream(&text, &size);
    ck_assert_int_eq(history_check(&again, BUDGET, f), LIN_BAD);
    fclose(f);
    ck_assert_ptr_nonnull(strstr(text, "key \"a\""));
    free(text);
    history_close(&again);
    history_close(&h);
}
END_TEST

START_TEST(test_history_malformed)
{
    static const char *const bad[] = {
        "{",
        "[]",
        "{\"op\":\"get\"}",
        "{\"c\":1,\"k\":\"a\",\"op\":\"nop\",\"t0\":1}",
        "{\"c\":1,\"k\":\"a\",\"op\":\"put\",\"t0\":1,\"t1\":2}",
        "{\"c\":1,\"k\":\"a\",\"op\":\"put\",\"v\":\"x\",\"t0\":5,\"t1\":2}",
        "{\"c\":1,\"k\":\"a\",\"op\":\"get\",\"out\":3,\"t0\":1,\"t1\":2}",
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char msg[200] = "";
        struct history h;
        FILE *f = fmemopen((void *)(uintptr_t)bad[i], strlen(bad[i]), "r");
        history_init(&h);
        ck_assert_int_eq(history_read(&h, f, msg, sizeof msg), ERR_CORRUPT);
        ck_assert_ptr_nonnull(strstr(msg, "line 1"));
        history_close(&h);
        fclose(f);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("checker_lin");
    TCase *t = tcase_create("all");
    SRunner *sr;
    int failed;

    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_sequential);
    tcase_add_test(t, test_concurrent);
    tcase_add_test(t, test_unknown);
    tcase_add_test(t, test_cas);
    tcase_add_test(t, test_random_good);
    tcase_add_test(t, test_random_planted);
    tcase_add_test(t, test_history_json);
    tcase_add_test(t, test_history_malformed);
    suite_add_tcase(s, t);
    sr = srunner_create(s);
    srunner_set_fork_status(sr, CK_NOFORK);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? 1 : 0;
}
