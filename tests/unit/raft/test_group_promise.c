/* What is not libraft's fault but ours to keep, scripted: what was promised is on disk before it is
 * said and binds after a restart; what cannot be meant is refused. */
#include "tests/unit/raft/scripted.h"

START_TEST(vote_is_held)
{
    begin(3, 0);
    X->io.stalled = true;
    say(2, vote(2, 1, 1, false), none);
    world_run(50);
    ck_assert_ptr_null(last_sent(MSG_VOTE_RESULT, 2));
    X->io.stalled = false;
    world_run(5);
    ck_assert_ptr_nonnull(last_sent(MSG_VOTE_RESULT, 2));
    ck_assert(last_sent(MSG_VOTE_RESULT, 2)->vote_result.granted);
    world_close();
}
END_TEST

START_TEST(ack_waits_for_the_disk)
{
    begin(3, 0);
    say(2, append(2, 1, 1, 1, 0), none);
    n_sent = 0;
    X->io.stalled = true;
    say(2, append(2, 1, 1, 4, 3), commands(2));
    world_run(50);
    for (unsigned i = 0; i < n_sent; i++)
        ck_assert(sent[i].append_result.last <= 1);
    ck_assert_uint_eq(X->applies, 0); /* committed, but not on our disk */
    X->io.stalled = false;
    world_run(5);
    ck_assert_uint_eq(last_sent(MSG_APPEND_RESULT, 2)->append_result.last, 4);
    ck_assert_uint_eq(X->applies, 3);
    world_close();
}
END_TEST

START_TEST(ack_of_replaced_entries)
{
    begin(3, 0);
    X->io.stalled = true;
    say(2, append(2, 1, 1, 1, 3), commands(2)); /* 2 ... 4 in flight */
    say(3, append(3, 2, 2, 1, 1), commands(3)); /* replaces 3, cuts 4 */
    n_sent = 0;
    X->io.stalled = false;
    world_run(20);
    ck_assert_uint_eq(group_last_index(X->g), 3);
    for (unsigned i = 0; i < n_sent; i++)
        ck_assert(sent[i].type != MSG_APPEND_RESULT || sent[i].append_result.last <= 3);
    ck_assert_uint_eq(last_sent(MSG_APPEND_RESULT, 3)->append_result.last, 3);
    node_crash(X, true);
    node_start(X);
    ck_assert_uint_eq(group_last_index(X->g), 3);
    ck_assert_uint_eq(group_log_term_of(X->g->log, 3), 3);
    world_close();
}
END_TEST

START_TEST(old_log_stays_cut)
{
    /* log 2 ... 9 of term 1; a snapshot at 6 of another history; then 7 of term 3; restart */
    struct group_conf c = world_conf(3);
    for (int crash_before_cut = 0; crash_before_cut < 2; crash_before_cut++) {
        begin(3, 0);
        say(2, append(1, 1, 1, 1, 8), commands(1));
        struct group_msg m = install(3, 6, &c);
        m.install.position.term = 2;
        X->hold_install = true;
        say(3, m, none);
        ck_assert(group_installing(X->g));
        if (crash_before_cut) { /* the engine is swapped, the WAL does not know */
            X->disk = X->incoming;
            node_crash(X, false);
            X->hold_install = false;
            node_start(X);
        } else {
            X->hold_install = false;
            world_run(150);
        }
        ck_assert_uint_eq(group_last_index(X->g), 6);
        say(3, append(3, 6, 2, 6, 1), commands(3));
        ck_assert_uint_eq(last_sent(MSG_APPEND_RESULT, 3)->append_result.last, 7);
        node_crash(X, false);
        node_start(X);
        ck_assert_uint_eq(group_last_index(X->g), 7);
        ck_assert_uint_eq(group_log_term_of(X->g->log, 7), 3);
        ck_assert(!W.violation);
        world_close();
    }
}
END_TEST

START_TEST(holiday)
{
    for (int on = 0; on < 2; on++) {
        begin(3, 0);
        node_crash(X, true);
        W.vote_holiday = on;
        node_start(X);
        say(2, vote(2, 1, 1, false), none);
        ck_assert_int_eq(last_sent(MSG_VOTE_RESULT, 2) == NULL, on);
        world_run(200);
        say(2, vote(3, 1, 1, false), none);
        ck_assert_ptr_nonnull(last_sent(MSG_VOTE_RESULT, 2));
        world_close();
    }
}
END_TEST

/* Libraft has not heard of a leader of this term, but its stamp was echoed: others may count on it.
 */
START_TEST(promised)
{
    for (int on = 0; on < 2; on++) {
        begin(3, on ? 0 : GUARD_PROMISE);
        say(2, vote(2, 1, 1, false), none); /* its term, and no leader */
        struct group_msg ping = {.type = MSG_PING, .term = 2, .stamp = W.now};
        say(2, ping, none);
        ck_assert_uint_eq(last_sent(MSG_PONG, 2)->echo, ping.stamp);
        say(3, vote(3, 1, 1, false), none);
        ck_assert_int_eq(last_sent(MSG_VOTE_RESULT, 3) == NULL, on);
        struct group_msg disrupting = vote(3, 1, 1, false);
        disrupting.vote.disrupt = true;
        if (on) { /* the leader has handed over: it counts on nothing */
            say(3, disrupting, none);
            ck_assert(last_sent(MSG_VOTE_RESULT, 3)->vote_result.granted);
        }
        world_close();
    }
    /* nor does it stand itself, though its timer began earlier */
    for (int on = 0; on < 2; on++) {
        begin(3, on ? 0 : GUARD_PROMISE);
        say(2, append(2, 1, 1, 1, 0), none);
        for (unsigned i = 0; i < 50; i++) {
            struct group_msg ping = {.type = MSG_PING, .term = 2, .stamp = W.now};
            say(2, ping, none);
            world_run(20);
        }
        ck_assert_int_eq(last_sent(MSG_VOTE, 2) == NULL, on);
        world_run(500);
        ck_assert_ptr_nonnull(last_sent(MSG_VOTE, 2));
        world_close();
    }
}
END_TEST

START_TEST(nonsense)
{
    begin(3, 0);
    uint8_t bytes[200];
    for (unsigned i = 0; i < 20000; i++) {
        size_t n = rng_below(&W.rng, sizeof bytes);
        for (size_t k = 0; k < n; k++)
            bytes[k] = (uint8_t)rng_next(&W.rng);
        if (n > 26) { /* past the header, now and then */
            bytes[0] = 1;
            bytes[1] = (uint8_t)(1 + rng_below(&W.rng, 10));
        }
        struct group_msg m;
        (void)!group_msg_decode(slice_of(bytes, n), &m, none);
    }
    struct group_msg m = append(2, 1, 1, 1, 0);
    struct buf b = {0};
    m.from = 2;
    m.to = 1;
    group_msg_encode(&m, none, &b);
    for (size_t n = 0; n < b.n; n++)
        ck_assert_int_eq(group_set_receive(X->set, 2, GROUP, slice_of(b.p, n)), ERR_CORRUPT);
    buf_u8(&b, 0);
    ck_assert_int_eq(group_set_receive(X->set, 2, GROUP, buf_slice(&b)), ERR_CORRUPT);
    ck_assert_int_eq(group_set_receive(X->set, 2, GROUP + 1, buf_slice(&b)), ERR_NOT_FOUND);
    ck_assert_uint_eq(group_term(X->g), 1);
    buf_close(&b);
    world_close();
}
END_TEST

/* A term at the end of the numbers would be kept for ever, and the next election's be 0. */
START_TEST(terms_without_successor)
{
    struct group_conf three = world_conf(3);
    struct group_msg m[6] = {vote(2, 1, 1, false), vote(2, 1, 1, true), granted(2, true),
                             result(2, 0, 1), install(2, 10, &three)};
    m[5] = (struct group_msg){.type = MSG_TIMEOUT_NOW, .term = 2, .timeout_now = {2, 1, 1}};
    begin(3, 0);
    for (unsigned i = 0; i < 6; i++) {
        struct buf b = {0};
        m[i].from = 2;
        m[i].to = 1;
        m[i].term = 1;
        switch (m[i].type) {
        case MSG_VOTE:
            m[i].vote.term = UINT64_MAX;
            break;
        case MSG_VOTE_RESULT:
            m[i].vote_result.term = UINT64_MAX;
            break;
        case MSG_APPEND_RESULT:
            m[i].append_result.term = UINT64_MAX;
            break;
        case MSG_TIMEOUT_NOW:
            m[i].timeout_now.term = UINT64_MAX;
            break;
        default:
            m[i].term = m[i].install.term = 2;
            m[i].install.position.index = UINT64_MAX;
        }
        group_msg_encode(&m[i], none, &b);
        ck_assert_int_eq(group_set_receive(X->set, 2, GROUP, buf_slice(&b)), ERR_CORRUPT);
        buf_close(&b);
    }
    world_run(3000);
    ck_assert_uint_lt(group_term(X->g), 100);
    world_close();
}
END_TEST

/* Entries from index 1 on would be taken for the beginning of a log, by a replica that has not even
 * a configuration yet. */
START_TEST(entries_before_the_first)
{
    struct group_msg m = append(2, 0, 0, 1, 1);
    struct buf b = {0};
    begin_blank(0);
    m.from = 2;
    m.to = 1;
    group_msg_encode(&m, commands(1), &b);
    buf_append(&b, "command", 7);
    ck_assert_int_eq(group_set_receive(X->set, 2, GROUP, buf_slice(&b)), ERR_CORRUPT);
    world_run(100);
    ck_assert_uint_eq(group_applied(X->g)->index, 0);
    ck_assert_uint_eq(group_last_index(X->g), 0);
    buf_close(&b);
    world_close();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("group_promise");
    TCase *t = tcase_create("group_promise");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, vote_is_held);
    tcase_add_test(t, ack_waits_for_the_disk);
    tcase_add_test(t, ack_of_replaced_entries);
    tcase_add_test(t, old_log_stays_cut);
    tcase_add_test(t, holiday);
    tcase_add_test(t, promised);
    tcase_add_test(t, nonsense);
    tcase_add_test(t, terms_without_successor);
    tcase_add_test(t, entries_before_the_first);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
