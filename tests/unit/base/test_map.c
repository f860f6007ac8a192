#include "common/base/map.h"

#include <check.h>
#include <stdlib.h>

#include "common/base/rng.h"

#define KEYS 512u

static void *value_of(uint64_t v)
{
    return (void *)(uintptr_t)(v + 1);
}

START_TEST(empty_map)
{
    struct map m;
    size_t it = 0;
    uint64_t key;
    void *value;
    map_init(&m);
    ck_assert_ptr_null(map_find(&m, 0));
    ck_assert_ptr_null(map_remove(&m, 0));
    ck_assert(!map_next(&m, &it, &key, &value));
    map_close(&m);
}
END_TEST

/* Against an array as the model, long enough for tombstones to force rebuilds. */
START_TEST(behaves_like_an_array)
{
    struct rng rng;
    struct map m;
    void *model[KEYS] = {0};
    size_t n = 0;
    rng_seed(&rng, 1);
    map_init(&m);
    for (unsigned i = 0; i < 200000; i++) {
        uint64_t key = rng_below(&rng, KEYS);
        switch (rng_below(&rng, 3)) {
        case 0:
            n += model[key] == NULL;
            model[key] = value_of(i);
            map_set(&m, key * 0x100000001ULL, model[key]);
            break;
        case 1:
            n -= model[key] != NULL;
            ck_assert_ptr_eq(map_remove(&m, key * 0x100000001ULL), model[key]);
            model[key] = NULL;
            break;
        default:
            ck_assert_ptr_eq(map_find(&m, key * 0x100000001ULL), model[key]);
        }
        ck_assert_uint_eq(m.n, n);
    }
    ck_assert_uint_le(m.cap, 4 * KEYS); /* removals do not make it grow */
    map_close(&m);
}
END_TEST

START_TEST(walk_sees_all_and_may_remove)
{
    struct map m;
    map_init(&m);
    for (uint64_t k = 0; k < 1000; k++)
        map_set(&m, k, value_of(k));
    size_t it = 0;
    uint64_t key;
    void *value;
    bool seen[1000] = {false};
    unsigned count = 0;
    while (map_next(&m, &it, &key, &value)) {
        ck_assert_ptr_eq(value, value_of(key));
        ck_assert(!seen[key]);
        seen[key] = true;
        count++;
        if (key % 2)
            map_remove(&m, key);
    }
    ck_assert_uint_eq(count, 1000);
    ck_assert_uint_eq(m.n, 500);
    map_close(&m);
}
END_TEST

START_TEST(order_repeats)
{
    struct map a, b;
    map_init(&a);
    map_init(&b);
    for (uint64_t k = 0; k < 300; k++) {
        map_set(&a, k * 7919, value_of(k));
        map_set(&b, k * 7919, value_of(k));
    }
    size_t ia = 0, ib = 0;
    uint64_t ka = 0, kb = 1;
    void *va, *vb;
    while (map_next(&a, &ia, &ka, &va)) {
        ck_assert(map_next(&b, &ib, &kb, &vb));
        ck_assert_uint_eq(ka, kb);
    }
    map_close(&a);
    map_close(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("map");
    TCase *t = tcase_create("map");
    tcase_add_test(t, empty_map);
    tcase_add_test(t, behaves_like_an_array);
    tcase_add_test(t, walk_sees_all_and_may_remove);
    tcase_add_test(t, order_repeats);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
