/* Bookkeeping of a follower's reads: questions and who may use their answers, points that are
 * proven once applied, late ones, reads from done(). */
#include <check.h>

#include "common/base/mem.h"
#include "common/raft/follower_read.h"

#define MS NS_PER_MS

struct reader {
    struct group_read r;
    struct follower_read *again; /* adds another read from done() */
    struct reader *next;
    struct reader *cancel;
    enum err result;
    unsigned done;
};

static struct follower_read F;

static void done(struct group_read *r, enum err e)
{
    struct reader *x = CONTAINER_OF(r, struct reader, r);
    x->done++;
    x->result = e;
    if (x->again)
        follower_read_add(x->again, &x->next->r, 1, 10000);
    if (x->cancel)
        group_read_cancel(&x->cancel->r);
}

void group_read_cancel(struct group_read *r)
{
    list_remove(&r->link);
}

static void add(struct reader *x, uint64_t since_ms, uint64_t until_ms)
{
    *x = (struct reader){.r.done = done};
    follower_read_add(&F, &x->r, since_ms * MS, until_ms);
}

START_TEST(one_question)
{
    struct reader a, b, c;
    follower_read_init(&F, 7);
    ck_assert_uint_eq(follower_read_question(&F, 2, 10 * MS, 50), 0); /* nobody waits */
    add(&a, 10, 1000);
    ck_assert_uint_eq(follower_read_question(&F, 0, 10 * MS, 50), 0); /* no leader is known */
    uint64_t q = follower_read_question(&F, 2, 12 * MS, 50);
    ck_assert_uint_ne(q, 0);
    add(&b, 10, 1000); /* shares it */
    add(&c, 12, 1000); /* is too new for it: it was asked at 10 */
    ck_assert_uint_eq(follower_read_question(&F, 2, 40 * MS, 50), 0);
    ck_assert_uint_eq(follower_read_question(&F, 3, 41 * MS, 50), q); /* another leader */
    ck_assert_uint_eq(follower_read_question(&F, 3, 91 * MS, 50), q); /* again: lost */
    follower_read_answer(&F, q + 1, 1);                               /* not this question's */
    follower_read_answer(&F, q, 5);
    follower_read_answer(&F, q, 1); /* twice: the first counts */
    follower_read_run(&F, 4, 92);
    ck_assert_uint_eq(a.done + b.done + c.done, 0);
    ck_assert_uint_eq(F.proven, 0);
    follower_read_run(&F, 5, 93);
    ck_assert_uint_eq(a.done, 1);
    ck_assert_int_eq(a.result, ERR_OK);
    ck_assert_uint_eq(b.done, 1);
    ck_assert_uint_eq(c.done, 0);
    ck_assert_uint_eq(F.proven, 10 * MS);
    uint64_t second = follower_read_question(&F, 3, 94 * MS, 50);
    ck_assert(second != 0 && second != q);
    follower_read_answer(&F, q, 5); /* the old one's again */
    follower_read_run(&F, 5, 95);
    ck_assert_uint_eq(c.done, 0);
    follower_read_answer(&F, second, 5);
    follower_read_run(&F, 5, 95);
    ck_assert_uint_eq(c.done, 1);
    ck_assert_uint_eq(F.proven, 94 * MS);
    ck_assert(follower_read_empty(&F));
    ck_assert_uint_eq(follower_read_due_ms(&F, 50), UINT64_MAX);
}
END_TEST

/* Answers come faster than entries are applied: what was answered first is proven all the same. */
START_TEST(points)
{
    struct reader r[3];
    follower_read_init(&F, UINT64_MAX);
    for (unsigned i = 0; i < 3; i++) {
        add(&r[i], 10 * (i + 1), 1000);
        uint64_t q = follower_read_question(&F, 2, 10 * (i + 1) * MS, 50);
        ck_assert_uint_ne(q, 0);
        follower_read_answer(&F, q, 100 * (i + 1));
    }
    follower_read_run(&F, 100, 40);
    ck_assert_uint_eq(F.proven, 10 * MS);
    ck_assert_uint_eq(r[0].done, 1);
    follower_read_run(&F, 299, 40);
    ck_assert_uint_eq(r[1].done, 1);
    ck_assert_uint_eq(F.proven, 10 * MS); /* the second was given up for the third */
    follower_read_run(&F, 300, 40);
    ck_assert_uint_eq(F.proven, 30 * MS);
    follower_read_reset(&F);
    ck_assert_uint_eq(F.proven, 0);
}
END_TEST

START_TEST(ends)
{
    struct reader r[5], next = {.r.done = done};
    follower_read_init(&F, 1);
    add(&r[0], 1, 100);
    add(&r[1], 1, 200);
    uint64_t q = follower_read_question(&F, 2, 5 * MS, 50);
    ck_assert_uint_eq(follower_read_due_ms(&F, 50), 55);
    follower_read_answer(&F, q, 9);
    ck_assert_uint_eq(follower_read_due_ms(&F, 50), 100);
    add(&r[2], 6, 100);
    follower_read_run(&F, 8, 99);
    ck_assert_uint_eq(r[0].done + r[2].done, 0);
    follower_read_run(&F, 8, 100); /* answered and not: both are late */
    ck_assert_uint_eq(r[0].done + r[2].done, 2);
    ck_assert_int_eq(r[0].result, ERR_NOT_LEADER);
    ck_assert_int_eq(r[2].result, ERR_NOT_LEADER);
    add(&r[3], 1, 500);
    add(&r[4], 1, 500);
    r[1].again = &F;
    r[1].next = &next;
    r[1].cancel = &r[3];
    follower_read_run(&F, 9, 101);
    ck_assert_int_eq(r[1].result, ERR_OK);
    follower_read_fail(&F, ERR_SHUTTING_DOWN);
    ck_assert_uint_eq(r[4].done, 0); /* told at the turn's end */
    follower_read_run(&F, 0, 0);
    ck_assert_uint_eq(r[3].done, 0); /* cancelled by the second */
    ck_assert_int_eq(r[4].result, ERR_SHUTTING_DOWN);
    ck_assert_int_eq(next.result, ERR_SHUTTING_DOWN);
    ck_assert(follower_read_empty(&F));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("follower_read");
    TCase *t = tcase_create("follower_read");
    tcase_add_test(t, one_question);
    tcase_add_test(t, points);
    tcase_add_test(t, ends);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
