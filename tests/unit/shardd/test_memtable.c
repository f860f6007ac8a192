/* The memtable against a plain model: random writes, gets, ranges, and the order of a drain. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/rng.h"
#include "shardd/memtable.h"

#define KEYS 300u

/* State of one key: absent from the table, deleted, or its value's number. */
enum { ABSENT = 0, DELETED = 1 };
static unsigned model[KEYS];

static struct slice key_of(unsigned i, char out[16])
{
    snprintf(out, 16, "key%04u", i);
    return slice_str(out);
}

static struct slice value_of(unsigned v, char out[128])
{
    memset(out, 'v', 100);
    int n = snprintf(out, 128, "%u", v);
    return slice_of(out, v % 3 ? (size_t)n : 100); /* sizes differ: in place and not */
}

static void expect_same(struct memtable *t)
{
    for (unsigned i = 0; i < KEYS; i++) {
        char k[16], v[128];
        struct slice got;
        enum memtable_found found = memtable_get(t, key_of(i, k), &got);
        if (model[i] == ABSENT)
            ck_assert_int_eq(found, MEMTABLE_ABSENT);
        else if (model[i] == DELETED)
            ck_assert_int_eq(found, MEMTABLE_DELETED);
        else
            ck_assert(found == MEMTABLE_VALUE && slice_eq(got, value_of(model[i], v)));
    }
}

struct drained {
    unsigned state[KEYS];
    bool keys_seen;
    char last[16];
};

static void on_range(void *arg, struct slice from, struct slice to)
{
    struct drained *d = arg;
    ck_assert(!d->keys_seen);
    for (unsigned i = 0; i < KEYS; i++) {
        char k[16];
        struct slice key = key_of(i, k);
        if (memcmp(key.p, from.p, 7) >= 0 && memcmp(key.p, to.p, 7) < 0)
            d->state[i] = DELETED;
    }
}

static unsigned note_key(struct drained *d, struct slice key)
{
    d->keys_seen = true;
    ck_assert_uint_eq(key.n, 7);
    ck_assert_int_gt(memcmp(key.p, d->last, 7), 0); /* ascending, none twice */
    memcpy(d->last, key.p, 7);
    char digits[5] = "";
    memcpy(digits, key.p + 3, 4);
    return (unsigned)atoi(digits);
}

static void on_put(void *arg, struct slice key, struct slice value)
{
    char digits[16] = "";
    memcpy(digits, value.p, value.n < 15 ? value.n : 15);
    unsigned i = note_key(arg, key);
    ((struct drained *)arg)->state[i] = (unsigned)atoi(digits);
}

static void on_del(void *arg, struct slice key)
{
    ((struct drained *)arg)->state[note_key(arg, key)] = DELETED;
}

static void expect_drain(struct memtable *t)
{
    struct drained d = {0};
    struct memtable_sink sink = {&d, on_range, on_put, on_del};
    memtable_drain(t, &sink);
    for (unsigned i = 0; i < KEYS; i++)
        ck_assert_uint_eq(d.state[i], model[i]);
}

START_TEST(like_the_model)
{
    struct rng rng;
    rng_seed(&rng, (uint64_t)_i + 1);
    memset(model, 0, sizeof model);
    struct memtable *t = memtable_create(rng_next(&rng));
    ck_assert(memtable_empty(t));
    for (unsigned step = 0; step < 2000; step++) {
        char k[16], k2[16], v[128];
        unsigned i = (unsigned)rng_below(&rng, KEYS), kind = (unsigned)rng_below(&rng, 100);
        if (kind < 70) {
            model[i] = 2 + step;
            struct slice value = value_of(model[i], v);
            size_t split = rng_below(&rng, value.n + 1);
            memtable_put(t, key_of(i, k), slice_of(value.p, split),
                         slice_of(value.p + split, value.n - split));
        } else if (kind < 99) {
            model[i] = DELETED;
            memtable_delete(t, key_of(i, k));
        } else {
            unsigned to = i + (unsigned)rng_below(&rng, 40);
            memtable_delete_range(t, key_of(i, k), key_of(to, k2));
            for (unsigned j = i; j < to && j < KEYS; j++)
                model[j] = DELETED;
        }
        if (step % 97 == 0)
            expect_same(t);
    }
    expect_same(t);
    expect_drain(t);
    ck_assert(!memtable_empty(t));
    memtable_unref(t);
}
END_TEST

START_TEST(memory_is_counted)
{
    struct memtable *t = memtable_create(1);
    uint8_t *value = calloc(1, 1 << 20);
    ck_assert_uint_eq(memtable_bytes(t), 0);
    for (unsigned i = 0; i < 10; i++) {
        char k[16];
        memtable_put(t, key_of(i, k), slice_of("h", 1), slice_of(value, 1 << 20));
    }
    ck_assert_uint_ge(memtable_bytes(t), 10u << 20);
    ck_assert_uint_le(memtable_bytes(t), 11u << 20);
    uint64_t before = memtable_bytes(t);
    for (unsigned i = 0; i < 1000; i++) /* the same key and size again takes nothing */
        memtable_put(t, slice_str("key0001"), slice_of("h", 1), slice_of(value, 1 << 20));
    ck_assert_uint_eq(memtable_bytes(t), before);
    free(value);
    memtable_unref(t);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("memtable");
    TCase *t = tcase_create("all");
    tcase_add_loop_test(t, like_the_model, 0, 20);
    tcase_add_test(t, memory_is_counted);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
