#include "common/base/mem.h"

#include <check.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/list.h"

START_TEST(nothing_is_something)
{
    free(memset(mem_alloc(0), 1, 1));
    free(mem_zalloc(0));
    free(mem_dup(NULL, 0));
    char *s = mem_strdup("abc");
    ck_assert_str_eq(s, "abc");
    s = mem_realloc(s, 100);
    ck_assert_str_eq(s, "abc");
    free(s);
}
END_TEST

START_TEST(alignment)
{
    for (size_t align = 1; align <= 8192; align *= 2) {
        void *p = mem_alloc_aligned(align, 10);
        ck_assert_uint_eq((uintptr_t)p % align, 0);
        free(p);
    }
}
END_TEST

START_TEST(check_aborts)
{
    CHECK(1 + 1 == 3);
}
END_TEST

struct item {
    int id;
    struct list link;
};

START_TEST(lists)
{
    struct list a, b;
    struct item items[4];
    list_init(&a);
    list_init(&b);
    ck_assert_ptr_null(list_pop_front(&a));
    for (int i = 0; i < 4; i++) {
        items[i].id = i;
        list_push_back(i < 2 ? &a : &b, &items[i].link);
    }
    list_splice(&a, &b);
    ck_assert(list_empty(&b));
    int next = 0;
    LIST_FOR_SAFE(l, &a)
    {
        struct item *item = CONTAINER_OF(l, struct item, link);
        ck_assert_int_eq(item->id, next++);
        if (item->id % 2) {
            list_remove(l);
            list_remove(l); /* twice does no harm */
        }
    }
    ck_assert_int_eq(next, 4);
    ck_assert_ptr_eq(list_pop_front(&a), &items[0].link);
    ck_assert_ptr_eq(list_pop_front(&a), &items[2].link);
    ck_assert(list_empty(&a));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mem");
    TCase *t = tcase_create("mem");
    tcase_add_test(t, nothing_is_something);
    tcase_add_test(t, alignment);
    tcase_add_test(t, lists);
    tcase_add_test_raise_signal(t, check_aborts, SIGABRT);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_FORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
