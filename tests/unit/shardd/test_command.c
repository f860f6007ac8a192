/* Packed commands: round trip, every truncation, mutations. */
#include <check.h>
#include <stdlib.h>

#include "common/base/rng.h"
#include "shardd/command.h"

static void pack(struct buf *b)
{
    struct command_op ops[] = {
        {.kind = COMMAND_PUT, .key = slice_str("k1"), .value = slice_str("value")},
        {.kind = COMMAND_DELETE, .key = slice_str("k2")},
        {.kind = COMMAND_PUT,
         .flags = COMMAND_IF_VERSION,
         .if_version = 77,
         .key = slice_str("k3"),
         .value = slice_of("", 0)},
    };
    command_begin(b);
    for (unsigned i = 0; i < 3; i++)
        command_put_op(b, &ops[i], NULL);
    command_finish(b, 123456, 3);
}

static enum err walk(struct slice payload)
{
    struct command_reader r;
    struct command_op op;
    enum err e = command_open(payload, &r);
    while (e == ERR_OK && r.left > 0)
        e = command_next(&r, &op);
    return e;
}

START_TEST(round_trip)
{
    struct buf b = {0};
    struct command_reader r;
    struct command_op op;
    pack(&b);
    ck_assert_int_eq(command_open(buf_slice(&b), &r), ERR_OK);
    ck_assert_uint_eq(r.time_ms, 123456);
    ck_assert_uint_eq(r.left, 3);
    ck_assert_int_eq(command_next(&r, &op), ERR_OK);
    ck_assert(slice_eq(op.key, slice_str("k1")) && slice_eq(op.value, slice_str("value")));
    ck_assert_int_eq(command_next(&r, &op), ERR_OK);
    ck_assert_int_eq(op.kind, COMMAND_DELETE);
    ck_assert_int_eq(command_next(&r, &op), ERR_OK);
    ck_assert_uint_eq(op.if_version, 77);
    ck_assert_uint_eq(op.value.n, 0);
    ck_assert_uint_eq(r.left, 0);
    buf_close(&b);
}
END_TEST

START_TEST(truncations_are_refused)
{
    struct buf b = {0};
    pack(&b);
    for (size_t n = 0; n < b.n; n++)
        ck_assert_int_eq(walk(slice_of(b.p, n)), ERR_CORRUPT);
    b.p[0] = 9;
    ck_assert_int_eq(walk(buf_slice(&b)), ERR_FORMAT);
    buf_close(&b);
}
END_TEST

START_TEST(mutations_do_no_harm)
{
    struct rng rng;
    rng_seed(&rng, 1);
    for (unsigned i = 0; i < 20000; i++) {
        struct buf b = {0};
        pack(&b);
        for (unsigned k = 0; k < 3; k++)
            b.p[rng_below(&rng, b.n)] = (uint8_t)rng_next(&rng);
        (void)walk(buf_slice(&b)); /* any answer, no crash */
        buf_close(&b);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("command");
    TCase *t = tcase_create("all");
    tcase_add_test(t, round_trip);
    tcase_add_test(t, truncations_are_refused);
    tcase_add_test(t, mutations_do_no_harm);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
