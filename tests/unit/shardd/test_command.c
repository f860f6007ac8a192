/* Packed commands: round trip, every truncation, mutations. */
#include <check.h>
#include <stdlib.h>

#include "common/base/rng.h"
#include "shardd/command.h"

#define OPS 6u

static const uint8_t sid[2][16] = {{1}, {2}};

static void pack(struct buf *b)
{
    const uint8_t *last = NULL;
    struct command_op ops[] = {
        {.kind = COMMAND_PUT, .key = slice_str("k1"), .value = slice_str("value")},
        {.kind = COMMAND_DELETE, .key = slice_str("k2")},
        {.kind = COMMAND_PUT,
         .flags = COMMAND_IF_VERSION,
         .if_version = 77,
         .key = slice_str("k3"),
         .value = slice_of("", 0)},
        {.kind = COMMAND_INCR,
         .flags = COMMAND_SESSION | COMMAND_EXPIRY,
         .key = slice_str("k4"),
         .delta = -5,
         .expiry_ms = 99,
         .sid = sid[0],
         .seq = 10,
         .ack = 7,
         .until_ms = 1111},
        {.kind = COMMAND_TOUCH,
         .flags = COMMAND_SESSION | COMMAND_MORE,
         .key = slice_str("k5"),
         .sid = sid[0],
         .seq = 11,
         .ack = 11,
         .until_ms = 1112},
        {.kind = COMMAND_DELETE,
         .flags = COMMAND_SESSION,
         .key = slice_str("k6"),
         .sid = sid[1],
         .seq = 1,
         .ack = 0,
         .until_ms = 1113},
    };
    command_begin(b);
    for (unsigned i = 0; i < OPS; i++) {
        size_t before = b->n;
        command_put_op(b, &ops[i], last);
        ck_assert_uint_le(b->n - before, command_op_size(&ops[i]));
        last = ops[i].sid ? ops[i].sid : last;
    }
    command_finish(b, 123456, OPS);
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
    ck_assert_uint_eq(r.left, OPS);
    ck_assert_int_eq(command_next(&r, &op), ERR_OK);
    ck_assert(slice_eq(op.key, slice_str("k1")) && slice_eq(op.value, slice_str("value")));
    ck_assert_int_eq(command_next(&r, &op), ERR_OK);
    ck_assert_int_eq(op.kind, COMMAND_DELETE);
    ck_assert_int_eq(command_next(&r, &op), ERR_OK);
    ck_assert_uint_eq(op.if_version, 77);
    ck_assert_uint_eq(op.value.n, 0);
    ck_assert_int_eq(command_next(&r, &op), ERR_OK);
    ck_assert(op.kind == COMMAND_INCR && op.delta == -5 && op.expiry_ms == 99);
    ck_assert(op.seq == 10 && op.ack == 7 && op.until_ms == 1111 && op.sid[0] == 1);
    ck_assert_int_eq(command_next(&r, &op), ERR_OK);
    ck_assert(op.kind == COMMAND_TOUCH && op.flags == (COMMAND_SESSION | COMMAND_MORE));
    ck_assert(op.seq == 11 && op.ack == 11 && op.until_ms == 1112 && op.sid[0] == 1);
    ck_assert_int_eq(command_next(&r, &op), ERR_OK);
    ck_assert(op.seq == 1 && op.ack == 0 && op.sid[0] == 2);
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

/* The head says that no op depends on anything. */
START_TEST(head_must_fit)
{
    struct buf b = {0};
    pack(&b);
    ck_assert_int_eq(walk(buf_slice(&b)), ERR_OK);
    b.p[13] = 0;
    ck_assert_int_eq(walk(buf_slice(&b)), ERR_CORRUPT);
    b.p[13] = 2;
    ck_assert_int_eq(walk(buf_slice(&b)), ERR_CORRUPT);
    buf_close(&b);
}
END_TEST

static enum err walk_one(uint8_t kind, uint8_t flags)
{
    struct buf b = {0};
    struct command_op op = {.kind = COMMAND_PUT, .key = slice_str("k")};
    command_begin(&b);
    command_put_op(&b, &op, NULL);
    command_finish(&b, 1, 1);
    b.p[13] = 1; /* it may depend */
    b.p[14] = kind;
    b.p[15] = flags;
    enum err e = walk(buf_slice(&b));
    buf_close(&b);
    return e;
}

/* What a newer release may mean is not guessed; what makes no sense is damage. */
START_TEST(unknown_is_refused)
{
    ck_assert_int_eq(walk_one(COMMAND_PUT, 0), ERR_OK);
    ck_assert_int_eq(walk_one(COMMAND_TOUCH + 1, 0), ERR_FORMAT);
    ck_assert_int_eq(walk_one(0, 0), ERR_FORMAT);
    ck_assert_int_eq(walk_one(COMMAND_PUT, 0x40), ERR_FORMAT);
    ck_assert_int_eq(walk_one(COMMAND_PUT, COMMAND_MORE), ERR_CORRUPT); /* it is the last */
    ck_assert_int_eq(walk_one(COMMAND_PUT, COMMAND_SAME), ERR_CORRUPT);
    ck_assert_int_eq(walk_one(COMMAND_PUT, COMMAND_SESSION | COMMAND_SAME), ERR_CORRUPT);
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
    tcase_add_test(t, head_must_fit);
    tcase_add_test(t, unknown_is_refused);
    tcase_add_test(t, mutations_do_no_harm);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
