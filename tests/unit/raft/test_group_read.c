/* Reads of followers and the lease on a few nodes: a follower that lags, is cut off, whose leader
 * is deposed or paused; a lease across silence, transfer, restarts. The nodes' clocks run alike
 * here; the simulator has them apart. */
#include <check.h>

#include "tests/unit/raft/world.h"

struct reader {
    struct group_read r;
    struct node *node;
    enum err result;
    unsigned done;
    uint64_t seen;
};

static void read_done(struct group_read *r, enum err e)
{
    struct reader *x = CONTAINER_OF(r, struct reader, r);
    x->result = e;
    x->done++;
    x->seen = x->node->g ? group_applied(x->node->g)->index : 0;
}

static void ok(void)
{
    ck_assert_msg(!W.violation, "%s", W.violation ? W.violation : "");
}

static struct node *begin(bool lease)
{
    world_init(5);
    W.read_lease = lease;
    W.vote_holiday = lease;
    world_create(3, 1);
    world_run(150);
    ck_assert_uint_eq(world_leader()->id, 1);
    return world_leader();
}

static struct reader *start(struct node *x, uint64_t age_ms)
{
    static struct reader all[64];
    static unsigned n;
    struct reader *r = &all[n++ % 64];
    *r = (struct reader){.r.done = read_done, .node = x};
    x->io.now = W.now;
    group_follower_read(x->g, &r->r, age_ms * NS_PER_MS);
    group_set_turn(x->set);
    return r;
}

static bool fresh(struct node *x, uint64_t age_ms)
{
    x->io.now = W.now;
    return group_fresh(x->g, age_ms * NS_PER_MS);
}

static void cut(unsigned a, unsigned b, bool on)
{
    W.cut[a][b] = W.cut[b][a] = on;
}

static void put(struct node *l, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        ck_assert_int_eq(world_propose(l, &i, sizeof i), ERR_OK);
        world_run(2);
    }
}

START_TEST(follower)
{
    struct node *l = begin(false), *f = &W.node[2];
    put(l, 5);
    uint64_t index = group_commit_index(l->g);
    struct reader *a = start(f, 0), *b = start(f, 0);
    ck_assert_uint_eq(a->done, 0);
    world_run(10);
    ck_assert_int_eq(a->result, ERR_OK);
    ck_assert_uint_eq(a->done + b->done, 2);
    ck_assert_uint_ge(a->seen, index);
    /* within its age nothing is asked, beyond it is */
    uint64_t asked = group_set_stats(f->set)->questions;
    ck_assert(fresh(f, 100));
    ck_assert(!fresh(f, 5));
    world_run(75);
    ck_assert(!fresh(f, 100)); /* 85 ms by a clock that may be slow */
    ck_assert_uint_eq(group_set_stats(f->set)->questions, asked);
    a = start(f, 100);
    world_run(10);
    ck_assert_uint_eq(a->done, 1);
    ck_assert(fresh(f, 100));
    ck_assert(!fresh(l, 0)); /* nobody has answered to this very moment */
    ck_assert(fresh(l, 200));
    /* on the leader it is a read as any */
    a = start(l, 0);
    world_run(10);
    ck_assert_int_eq(a->result, ERR_OK);
    ok();
    world_close();
}
END_TEST

/* It has the answer, not the entries. */
START_TEST(lagging)
{
    struct node *l = begin(false), *f = &W.node[3];
    f->io.stalled = true; /* its disk: nothing becomes durable, so nothing is applied */
    put(l, 5);
    uint64_t index = group_commit_index(l->g);
    ck_assert_uint_lt(group_applied(f->g)->index, index);
    struct reader *a = start(f, 0);
    world_run(100);
    ck_assert_uint_eq(a->done, 0);
    ck_assert(!fresh(f, 400));
    f->io.stalled = false;
    world_run(50);
    ck_assert_int_eq(a->result, ERR_OK);
    ck_assert_uint_eq(a->done, 1);
    ck_assert_uint_ge(a->seen, index);
    f->io.stalled = true;
    put(l, 3);
    a = start(f, 0);
    world_run(300); /* too long: the leader is to be asked */
    ck_assert_uint_eq(a->done, 1);
    ck_assert_int_eq(a->result, ERR_NOT_LEADER);
    ok();
    world_close();
}
END_TEST

/* A leader that the majority has left answers nobody. */
START_TEST(deposed)
{
    struct node *l = begin(false);
    put(l, 3);
    /* 1 and 2 on one side, with the old leader; a majority elsewhere (3 ... 5) */
    world_close();
    world_init(6);
    world_create(5, 1);
    world_run(150);
    l = &W.node[1];
    put(l, 3);
    for (unsigned i = 3; i <= 5; i++) {
        cut(1, i, true);
        cut(2, i, true);
    }
    struct reader *a = start(&W.node[2], 0);
    world_run(60);
    ck_assert_uint_eq(a->done, 0);
    /* the others go on meanwhile, and write */
    world_run(1000);
    ck_assert_uint_eq(a->done, 1);
    ck_assert_int_eq(a->result, ERR_NOT_LEADER);
    struct node *n = world_leader();
    ck_assert(n && n->id >= 3);
    put(n, 3);
    uint64_t index = group_commit_index(n->g);
    a = start(&W.node[2], 0);
    world_run(20);
    memset(W.cut, 0, sizeof W.cut);
    world_run(200); /* the question goes to whoever leads now */
    ck_assert_uint_eq(a->done, 1);
    if (a->result == ERR_OK)
        ck_assert_uint_ge(a->seen, index);
    /* lost messages: asked again */
    world_run(500);
    W.drop = 1000;
    a = start(&W.node[2], 0);
    world_run(5);
    W.drop = 0;
    world_run(100);
    ck_assert_int_eq(a->result, ERR_OK);
    ck_assert_uint_ge(a->seen, index);
    ok();
    world_close();
}
END_TEST

/* What it waits for may become its own to give; and the end of the group ends it. */
START_TEST(changes_role)
{
    struct node *l = begin(false), *f = &W.node[2];
    put(l, 3);
    W.drop = 1000;
    struct reader *a = start(f, 0);
    world_run(1);
    W.drop = 0;
    W.cut[2][1] = true; /* its questions */
    ck_assert_int_eq(group_transfer(l->g, 3), ERR_OK);
    group_set_turn(l->set);
    world_run(200);
    ck_assert_uint_eq(world_leader()->id, 3);
    ck_assert_int_eq(a->result, ERR_OK);
    memset(W.cut, 0, sizeof W.cut);
    W.cut[2][3] = true;
    a = start(f, 0);
    group_stop(f->g);
    f->g = NULL;
    ck_assert_uint_eq(a->done, 1);
    ck_assert_int_eq(a->result, ERR_SHUTTING_DOWN);
    ok();
    world_close();
}
END_TEST

/* ---- the lease: 200 ms of election timeout give 110 ms ---- */

static bool at_once(struct node *l)
{
    struct reader r = {.r.done = read_done, .node = l};
    l->io.now = W.now;
    group_read(l->g, &r.r);
    group_set_turn(l->set);
    if (r.done == 0)
        group_read_cancel(&r.r);
    return r.done == 1 && r.result == ERR_OK;
}

START_TEST(lease)
{
    struct node *l = begin(true);
    put(l, 3);
    uint64_t rounds = group_set_stats(l->set)->read_rounds;
    for (unsigned i = 0; i < 20; i++) { /* heartbeats keep it */
        ck_assert(at_once(l));
        world_run(25);
    }
    ck_assert_uint_eq(group_set_stats(l->set)->read_rounds, rounds);
    cut(1, 2, true);
    world_run(100);
    ck_assert(at_once(l)); /* a majority is left */
    cut(1, 3, true);
    world_run(160);
    ck_assert(!at_once(l));
    ck_assert_int_eq(group_state_of(l->g), GROUP_LEADER); /* it does not know yet */
    memset(W.cut, 0, sizeof W.cut);
    l = world_wait_leader(2000);
    world_run(100);
    ck_assert(at_once(l));
    /* a pause: its clock has gone on */
    W.now += 150 * NS_PER_MS;
    ck_assert(!at_once(l));
    ok();
    world_close();
    l = begin(false);
    put(l, 3);
    ck_assert(!at_once(l)); /* off */
    ok();
    world_close();
}
END_TEST

static bool no_timeout_now(const struct packet *p)
{
    static struct group_msg_entry entries[GROUP_MSG_ENTRIES];
    struct group_msg m;
    CHECK(group_msg_decode(buf_slice(&p->data), &m, entries) == ERR_OK);
    return m.type != MSG_TIMEOUT_NOW;
}

/* Its message may arrive late: then a vote is given though the promise stands. */
START_TEST(lease_ends_at_transfer)
{
    struct node *l = begin(true);
    put(l, 3);
    ck_assert(at_once(l));
    W.filter = no_timeout_now;
    ck_assert_int_eq(group_transfer(l->g, 2), ERR_OK);
    group_set_turn(l->set);
    world_run(1500);
    ck_assert_int_eq(group_state_of(l->g), GROUP_LEADER);
    ck_assert(!group_transferring(l->g));
    ck_assert(!at_once(l)); /* for the rest of the term */
    W.filter = NULL;
    ck_assert_int_eq(group_transfer(l->g, 2), ERR_OK);
    group_set_turn(l->set);
    world_run(300);
    ck_assert_uint_eq(world_leader()->id, 2);
    ck_assert(at_once(world_leader()));
    ok();
    world_close();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("group_read");
    TCase *t = tcase_create("group_read");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, follower);
    tcase_add_test(t, lagging);
    tcase_add_test(t, deposed);
    tcase_add_test(t, changes_role);
    tcase_add_test(t, lease);
    tcase_add_test(t, lease_ends_at_transfer);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
