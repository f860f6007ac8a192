/* A batch as bytes: what was put in comes out in order, in one piece; copies by range. */
#include "shardd/engine_batch.h"

#include <check.h>
#include <stdlib.h>

#include "common/base/limits.h"

static struct engine_batch *batch;

static void setup(void)
{
    batch = engine_batch_create();
}

static void teardown(void)
{
    engine_batch_destroy(batch);
}

static void expect(struct cursor *c, uint8_t kind, const char *key, const char *value)
{
    struct engine_op op = engine_op_next(c);
    ck_assert(!c->bad);
    ck_assert_uint_eq(op.kind, kind);
    ck_assert(slice_eq(op.key, slice_str(key)));
    ck_assert(slice_eq(op.value, slice_str(value)));
}

START_TEST(there_and_back)
{
    engine_batch_put(batch, slice_str("a"), slice_str("one"));
    engine_batch_put2(batch, slice_str("b"), slice_str("head "), slice_str("body"));
    engine_batch_delete(batch, slice_str("c"));
    engine_batch_delete_range(batch, slice_str("d"), slice_str("e"));
    engine_batch_put(batch, slice_str(""), slice_str(""));
    ck_assert_uint_eq(engine_batch_count(batch), 5);
    struct cursor c = cursor_of(buf_slice(&batch->ops));
    expect(&c, ENGINE_OP_PUT, "a", "one");
    expect(&c, ENGINE_OP_PUT, "b", "head body");
    expect(&c, ENGINE_OP_DELETE, "c", "");
    expect(&c, ENGINE_OP_DELETE_RANGE, "d", "e");
    expect(&c, ENGINE_OP_PUT, "", "");
    ck_assert_uint_eq(c.left.n, 0);
}
END_TEST

/* The end is not in it, nor is a deleted range; bytewise, a longer key comes after its beginning.
 */
START_TEST(copies_by_range)
{
    static const char *const keys[] = {"a", "b", "b\xff", "ba", "c", "bz"};
    struct engine_batch *to = engine_batch_create();
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        engine_batch_put(batch, slice_str(keys[i]), slice_str("v"));
    engine_batch_delete(batch, slice_str("b"));
    engine_batch_delete_range(batch, slice_str("b"), slice_str("bb"));
    engine_batch_put(to, slice_str("before"), slice_str(""));
    size_t before = to->ops.n;
    uint64_t bytes = engine_batch_copy(batch, slice_str("b"), slice_str("c"), to);
    ck_assert_uint_eq(bytes, to->ops.n - before);
    ck_assert_uint_eq(engine_batch_count(to), 6);
    struct cursor c = cursor_of(buf_slice(&to->ops));
    expect(&c, ENGINE_OP_PUT, "before", "");
    expect(&c, ENGINE_OP_PUT, "b", "v");
    expect(&c, ENGINE_OP_PUT, "b\xff", "v");
    expect(&c, ENGINE_OP_PUT, "ba", "v");
    expect(&c, ENGINE_OP_PUT, "bz", "v");
    expect(&c, ENGINE_OP_DELETE, "b", "");
    ck_assert_uint_eq(c.left.n, 0);
    engine_batch_destroy(to);
}
END_TEST

/* It is used again and again: a little memory is kept, much is given back. */
START_TEST(cleared)
{
    static uint8_t large[2 * MIB];
    engine_batch_put(batch, slice_str("k"), slice_str("v"));
    engine_batch_clear(batch);
    ck_assert_uint_eq(engine_batch_count(batch), 0);
    ck_assert_uint_eq(batch->ops.n, 0);
    ck_assert_uint_gt(batch->ops.cap, 0);
    engine_batch_put(batch, slice_str("k"), slice_of(large, sizeof large));
    engine_batch_clear(batch);
    ck_assert_uint_eq(batch->ops.cap, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("engine_batch");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, there_and_back);
    tcase_add_test(t, copies_by_range);
    tcase_add_test(t, cleared);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
