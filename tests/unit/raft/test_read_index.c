/* ReadIndex bookkeeping: majorities of stamps, order, cancelling, failing, reads from done(). */
#include <check.h>

#include "common/base/mem.h"
#include "common/raft/read_index.h"

struct reader {
    struct group_read r;
    struct read_index *again; /* adds another read from done() */
    struct reader *next;
    struct reader *cancel;
    enum err result;
    unsigned done;
};

static void done(struct group_read *r, enum err e)
{
    struct reader *x = CONTAINER_OF(r, struct reader, r);
    x->done++;
    x->result = e;
    if (x->again)
        read_index_add(x->again, &x->next->r, 100, 100);
    if (x->cancel)
        group_read_cancel(&x->cancel->r);
}

START_TEST(majority)
{
    static const struct {
        unsigned n;
        uint64_t stamps[5], want;
    } cases[] = {
        {1, {9}, 9},          {2, {9, 3}, 3},          {3, {9, 3, 5}, 5},
        {4, {9, 3, 5, 7}, 5}, {5, {9, 1, 2, 7, 5}, 5}, {3, {UINT64_MAX, 0, 0}, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t stamps[5];
        memcpy(stamps, cases[i].stamps, sizeof stamps);
        ck_assert_uint_eq(read_index_majority(stamps, cases[i].n), cases[i].want);
    }
    ck_assert_uint_eq(read_index_majority(NULL, 0), 0);
}
END_TEST

START_TEST(order)
{
    struct read_index ri;
    struct reader r[4] = {0};
    read_index_init(&ri);
    for (unsigned i = 0; i < 4; i++)
        r[i].r.done = done;
    ck_assert(read_index_empty(&ri));
    read_index_add(&ri, &r[0].r, 10, 5);
    read_index_add(&ri, &r[1].r, 10, 5);
    read_index_add(&ri, &r[2].r, 20, 8);
    ck_assert_uint_eq(read_index_wanted(&ri, 10), 20);
    ck_assert_uint_eq(read_index_wanted(&ri, 20), 0);
    read_index_run(&ri, 10, 4); /* confirmed, not applied */
    ck_assert_uint_eq(r[0].done, 0);
    r[0].cancel = &r[1];
    r[0].again = &ri;
    r[0].next = &r[3];
    read_index_run(&ri, 10, 7);
    ck_assert_uint_eq(r[0].done, 1);
    ck_assert_int_eq(r[0].result, ERR_OK);
    ck_assert_uint_eq(r[1].done, 0); /* cancelled by the first */
    read_index_run(&ri, 20, 7);
    ck_assert_uint_eq(r[2].done, 0);
    read_index_fail(&ri, ERR_NOT_LEADER);
    ck_assert_uint_eq(r[2].done, 0); /* told at the end of the turn */
    read_index_run(&ri, 0, 0);
    ck_assert_int_eq(r[2].result, ERR_NOT_LEADER);
    ck_assert_int_eq(r[3].result, ERR_NOT_LEADER);
    ck_assert(read_index_empty(&ri));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("read_index");
    TCase *t = tcase_create("read_index");
    tcase_add_test(t, majority);
    tcase_add_test(t, order);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
