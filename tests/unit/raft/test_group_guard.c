/* Each guard against a fault of libraft, scripted: with the guard, then without, so that the test
 * is known to be able to fail. */
#include "tests/unit/raft/scripted.h"

START_TEST(stale)
{
    for (int off = 0; off < 2; off++) {
        begin(3, off ? GUARD_STALE | GUARD_TRIM : 0); /* TRIM would lift the index off 0 */
        say(2, append(5, 1, 1, 1, 0), none);
        n_sent = 0;
        say(3, append(3, 0, 0, 0, 0), none);
        const struct group_msg *m = last_sent(MSG_APPEND_RESULT, 3);
        ck_assert_ptr_nonnull(m);
        ck_assert_uint_eq(m->append_result.term, 5);
        /* rejected 0 would be an acknowledgement up to an uninitialised index */
        ck_assert_int_eq(m->append_result.rejected == 0, off);
        world_close();
    }
}
END_TEST

START_TEST(rej)
{
    for (int off = 0; off < 2; off++) {
        begin(3, off ? GUARD_REJ : 0);
        say(2, append(1, 1, 1, 1, 3), commands(1)); /* log 1 ... 4 */
        elect();                                    /* barrier at 5 */
        say(2, result(2, 0, 5), none);
        ck_assert_uint_eq(group_match(X->g, 2), 5);
        for (int i = 0; i < 12; i++) { /* 2 is silent: it goes back to probing at match + 1 */
            world_run(40);
            say(3, result(2, 0, 5), none);
        }
        n_sent = 0;
        say(2, result(2, 5, 1), none); /* a late refusal of what it has acknowledged since */
        world_run(100);
        uint64_t least = UINT64_MAX;
        for (unsigned i = 0; i < n_sent; i++)
            if (sent[i].type == MSG_APPEND && sent[i].to == 2 && sent[i].append.prev_index < least)
                least = sent[i].append.prev_index;
        ck_assert_int_eq(least < 5, off);
        world_close();
    }
}
END_TEST

START_TEST(trim)
{
    struct group_conf conf = world_conf(3);
    for (int off = 0; off < 2; off++) {
        begin_blank(off ? GUARD_TRIM : 0);
        say(2, install(2, 10, &conf), none);
        world_run(200);
        ck_assert_uint_eq(group_applied(X->g)->index, 10);
        n_sent = 0;
        say(2, append(2, 5, 1, 10, 8), commands(1)); /* 6 ... 13, late */
        const struct group_msg *m = last_sent(MSG_APPEND_RESULT, 2);
        ck_assert_ptr_nonnull(m);
        ck_assert_int_eq(m->append_result.rejected != 0, off);
        ck_assert_uint_eq(group_last_index(X->g), off ? 10 : 13);
        world_close();
    }
}
END_TEST

START_TEST(rvr)
{
    for (int off = 0; off < 2; off++) {
        begin(3, off ? GUARD_RVR : 0);
        elect();
        say(3, granted(3, true), none); /* an answer to an older candidacy */
        ck_assert_int_eq(group_state_of(X->g) != GROUP_LEADER, off);
        world_close();
    }
}
END_TEST

START_TEST(pvterm)
{
    for (int off = 0; off < 2; off++) {
        begin(3, off ? GUARD_PVTERM : 0);
        say(2, append(9, 1, 1, 1, 3), commands(9));
        for (unsigned i = 0; i < 200 && group_state_of(X->g) != GROUP_CANDIDATE; i++)
            world_run(5);
        n_sent = 0;
        say(3, vote(6, 2, 5, true), none);
        const struct group_msg *m = last_sent(MSG_VOTE_RESULT, 3);
        ck_assert_ptr_nonnull(m);
        ck_assert(!m->vote_result.granted);
        ck_assert_uint_eq(m->vote_result.term, off ? 6 : 9);
        world_close();
    }
}
END_TEST

START_TEST(retry)
{
    for (int off = 0; off < 2; off++) {
        begin(3, off ? GUARD_RETRY : 0);
        for (unsigned i = 0; i < 200 && group_state_of(X->g) != GROUP_CANDIDATE; i++)
            world_run(5);
        say(2, granted(2, true), none); /* real votes are asked for now, and nobody answers */
        ck_assert_uint_eq(group_term(X->g), 2);
        n_sent = 0;
        world_run(450);
        const struct group_msg *m = last_sent(MSG_VOTE, 2);
        ck_assert_ptr_nonnull(m);
        ck_assert_int_eq(m->vote.pre_vote, !off);
        ck_assert_int_eq(group_term(X->g) > 2, off); /* disturbs whoever leads meanwhile */
        world_close();
    }
}
END_TEST

/* What libraft has allocated. */
static long allocated;
static void *count_malloc(void *data, size_t n)
{
    (void)data;
    allocated++;
    return malloc(n);
}
static void count_free(void *data, void *p)
{
    (void)data;
    allocated -= p != NULL;
    free(p);
}
static void *count_calloc(void *data, size_t n, size_t size)
{
    (void)data;
    allocated++;
    return calloc(n, size);
}
static void *count_realloc(void *data, void *p, size_t n)
{
    (void)data;
    allocated += p == NULL;
    return realloc(p, n);
}

#ifdef __SANITIZE_ADDRESS__
#define INST_RUNS 1 /* without the guard it leaks, which is the point */
#else
#define INST_RUNS 2
#endif

START_TEST(inst)
{
    struct group_conf conf = world_conf(3);
    struct raft_heap heap = {.malloc = count_malloc,
                             .free = count_free,
                             .calloc = count_calloc,
                             .realloc = count_realloc};
    raft_heap_set(&heap);
    for (int off = 0; off < INST_RUNS; off++) {
        begin_blank(off ? GUARD_INST : 0);
        X->hold_install = true;
        say(2, install(2, 10, &conf), none);
        ck_assert(group_installing(X->g));
        say(2, install(2, 10, &conf), none);
        long before = allocated;
        say(2, install(2, 10, &conf), none);
        ck_assert_int_eq(allocated > before, off); /* leaked */
        ck_assert_uint_eq(X->installs, 1);
        world_close();
    }
    raft_heap_set_default();
}
END_TEST

START_TEST(conf)
{
    struct group_conf two = world_conf(3);
    two.member[2].role = GROUP_STANDBY;
    struct buf b = {0};
    raft_conf_encode(&two, &b);
    struct group_msg_entry e[3];
    memcpy(e, commands(1), sizeof e);
    e[2] = (struct group_msg_entry){1, LOG_KIND_CHANGE, buf_slice(&b)};
    for (int off = 0; off < 2; off++) {
        begin(3, off ? GUARD_CONF : 0);
        say(2, append(1, 1, 1, 1, 3), e); /* the change is entry 4 */
        ck_assert_uint_eq(X->g->r.configuration_uncommitted_index, off ? 2 : 4);
        ck_assert_uint_eq(X->g->conf.member[2].role, GROUP_STANDBY);
        /* another leader replaces entry 4 only: the old configuration must be back */
        say(3, append(2, 3, 1, 1, 1), commands(2));
        ck_assert_uint_eq(X->g->conf.member[2].role, off ? GROUP_STANDBY : GROUP_VOTER);
        world_close();
    }
    buf_close(&b);
}
END_TEST

START_TEST(gate)
{
    struct group_conf four = world_conf(4);
    four.member[3].role = GROUP_STANDBY;
    for (int off = 0; off < 2; off++) {
        begin(3, off ? GUARD_GATE : 0);
        say(2, append(1, 1, 1, 1, 2), commands(1));
        elect();
        ck_assert_int_eq(group_change(X->g, &four), off ? ERR_OK : ERR_BUSY);
        say(2, result(2, 0, 4), none); /* the barrier is committed */
        if (!off)
            ck_assert_int_eq(group_change(X->g, &four), ERR_OK);
        world_close();
    }
}
END_TEST

START_TEST(single)
{
    for (int off = 0; off < 2; off++) {
        begin(1, off ? GUARD_SINGLE : 0);
        uint64_t term = group_term(X->g);
        ck_assert_int_eq(group_state_of(X->g), GROUP_LEADER);
        ck_assert_uint_eq(term, off ? 1 : 2);
        node_crash(X, true);
        node_start(X);
        world_run(5);
        ck_assert_int_eq(group_state_of(X->g), GROUP_LEADER);
        ck_assert_uint_eq(group_term(X->g), off ? 1 : term + 1);
        world_close();
    }
    /* one that becomes the only voter while another leads */
    struct group_conf sole = world_conf(3);
    sole.member[1].role = sole.member[2].role = GROUP_STANDBY;
    struct buf b = {0};
    raft_conf_encode(&sole, &b);
    struct group_msg_entry e = {1, LOG_KIND_CHANGE, buf_slice(&b)};
    for (int off = 0; off < 2; off++) {
        begin(3, off ? GUARD_SINGLE : 0);
        say(2, append(1, 1, 1, 1, 1), &e);
        world_run(1000);
        ck_assert_int_eq(group_state_of(X->g), GROUP_LEADER);
        ck_assert_uint_eq(group_term(X->g), off ? 1 : 2); /* 2 led term 1 */
        world_close();
    }
    buf_close(&b);
}
END_TEST

START_TEST(spin)
{
    struct group_conf spare = world_conf(4);
    spare.member[3].role = GROUP_SPARE;
    unsigned turns[2];
    for (int off = 0; off < 2; off++) {
        begin(4, off ? GUARD_SPIN : 0);
        elect();
        for (unsigned i = 2; i <= 4; i++)
            say(i, result(2, 0, 2), none);
        ck_assert_int_eq(group_change(X->g, &spare), ERR_OK);
        world_run(3);
        say(2, result(2, 0, 3), none);
        say(3, result(2, 0, 3), none);
        turns[off] = 0;
        uint64_t last = 0;
        for (unsigned i = 0; i < 1000; i++) {
            world_run(1);
            turns[off] += X->g->ticked_ms != last;
            last = X->g->ticked_ms;
            if (i % 20 == 0) {
                n_sent = 0;
                say(2, result(2, 0, 3), none);
                say(3, result(2, 0, 3), none);
            }
        }
        world_close();
    }
    ck_assert_uint_le(turns[0], 70);  /* of 1.3 s */
    ck_assert_uint_ge(turns[1], 110); /* every tick; without ticks: for ever */
}
END_TEST

START_TEST(nvote)
{
    for (int off = 0; off < 2; off++) {
        begin_blank(off ? GUARD_NVOTE : 0);
        say(2, vote(4, 20, 3, true), none);
        const struct group_msg *m = last_sent(MSG_VOTE_RESULT, 2);
        ck_assert_ptr_nonnull(m);
        ck_assert_int_eq(m->vote_result.granted, !off);
        say(2, vote(4, 20, 3, false), none);
        m = last_sent(MSG_VOTE_RESULT, 2);
        ck_assert_int_eq(m->vote_result.granted, !off);
        say(3, vote(4, 30, 3, false), none); /* once a term */
        m = last_sent(MSG_VOTE_RESULT, 3);
        ck_assert(!m->vote_result.granted);
        if (!off) { /* and for good */
            node_crash(X, false);
            node_start(X);
            ck_assert_uint_eq(group_term(X->g), 4);
            say(3, vote(4, 30, 3, false), none);
            ck_assert(!last_sent(MSG_VOTE_RESULT, 3)->vote_result.granted);
        }
        world_close();
    }
}
END_TEST

START_TEST(barrier)
{
    for (int off = 0; off < 2; off++) {
        begin(3, off ? GUARD_BARRIER : 0);
        elect();
        ck_assert_uint_eq(group_last_index(X->g), off ? 1 : 2);
        world_close();
    }
}
END_TEST

/* A leader and its fourth member, whose log is empty. */
static void add_blank(unsigned off)
{
    struct group_conf four = world_conf(4);
    four.member[3].role = GROUP_STANDBY;
    begin(3, off);
    elect();
    say(2, result(2, 0, 2), none);
    ck_assert_int_eq(group_change(X->g, &four), ERR_OK);
    world_run(3);
    say(2, result(2, 0, 3), none);
}

static struct group_msg echoing(struct group_msg m)
{
    m.echo = X->io.now;
    return m;
}

START_TEST(blank)
{
    for (int off = 0; off < 2; off++) {
        add_blank(off ? GUARD_BLANK : 0);
        for (int i = 0; i < 30; i++) {
            say(4, result(2, 3, 0), none); /* its log is empty */
            say(4, result(2, 2, 0), none);
            say(4, result(2, 1, 0), none);
            say(4, echoing(result(2, 0, 0)), none);
            say(2, result(2, 0, 3), none);
            world_run(40);
        }
        ck_assert_int_eq(X->wanted == 0, off);
        ck_assert_int_eq(last_sent(MSG_INSTALL, 4) == NULL, off);
        world_close();
    }
}
END_TEST

/* A member whose node has not made it yet: no checkpoint is made for it, over and over. */
START_TEST(a_snapshot_is_for_those_who_answer)
{
    add_blank(0);
    for (int last = 3; last >= 0; last--)
        say(4, result(2, (uint64_t)last, 0), none);
    unsigned before = 0;
    for (int i = 0; i < 40; i++) {
        if (i == 20)
            before = X->wanted;
        n_sent = 0;
        say(2, echoing(result(2, 0, 3)), none);
        world_run(100);
    }
    ck_assert_int_eq(group_state_of(X->g), GROUP_LEADER);
    ck_assert_uint_eq(X->wanted, before);
    n_sent = 0;
    say(4, echoing(result(2, 0, 0)), none);
    world_run(100);
    ck_assert_uint_gt(X->wanted, before);
    world_close();
}
END_TEST

START_TEST(back)
{
    for (int off = 0; off < 2; off++) {
        begin(3, off ? GUARD_BACK : 0);
        say(2, append(2, 1, 1, 6, 5), commands(2));
        ck_assert_uint_eq(group_commit_index(X->g), 6);
        say(2, append(2, 1, 1, 7, 2), commands(2)); /* late, or repeated */
        ck_assert_uint_eq(group_commit_index(X->g), off ? 3 : 6);
        world_close();
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("group_guard");
    TCase *t = tcase_create("group_guard");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, stale);
    tcase_add_test(t, rej);
    tcase_add_test(t, trim);
    tcase_add_test(t, rvr);
    tcase_add_test(t, pvterm);
    tcase_add_test(t, retry);
    tcase_add_test(t, inst);
    tcase_add_test(t, conf);
    tcase_add_test(t, gate);
    tcase_add_test(t, single);
    tcase_add_test(t, spin);
    tcase_add_test(t, nvote);
    tcase_add_test(t, barrier);
    tcase_add_test(t, blank);
    tcase_add_test(t, a_snapshot_is_for_those_who_answer);
    tcase_add_test(t, back);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
