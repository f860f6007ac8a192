/* Restarts of a replica, scripted: within the process and after a crash. What was promised before
 * still binds it, although its record is not durable yet or its segment is gone. */
#include "tests/unit/raft/scripted.h"

static struct group_msg ask_vote(uint64_t term, uint64_t last)
{
    struct group_msg m = {.type = MSG_VOTE, .term = term};
    m.vote.term = term;
    m.vote.last_index = last;
    m.vote.last_term = term - 1;
    m.vote.disrupt = true;
    return m;
}

static void restart_in_process(void)
{
    group_stop(X->g);
    X->g = NULL;
    ck_assert_int_eq(node_start_group(X, false, false), ERR_OK);
}

/* The oldest disk operation is done, the others still wait. */
static void one_operation(void)
{
    W.now += NS_PER_MS;
    X->io.now = W.now;
    fake_complete(CONTAINER_OF(list_first(&X->io.ops), struct fake_op, link));
    group_set_turn(X->set);
}

/* A replica votes, is stopped and started again before its vote is durable. Asked once more it may
 * not answer sooner than it would have: the process could die, and it could vote for another. */
START_TEST(a_vote_is_held_across_a_restart)
{
    begin(3, 0);
    X->io.stalled = true;
    say_only(2, ask_vote(2, 5), none);
    restart_in_process();
    say_only(2, ask_vote(2, 5), none);
    ck_assert_uint_eq(group_term(X->g), 2);
    ck_assert_uint_eq(count_sent(MSG_VOTE_RESULT, 2), 0);
    X->io.stalled = false;
    world_run(5);
    ck_assert_uint_ge(count_sent(MSG_VOTE_RESULT, 2), 1);
    ck_assert_msg(!W.violation, "%s", W.violation);
    world_close();
}
END_TEST

/* The same with an entry before the vote that is durable first. */
START_TEST(an_entry_does_not_release_a_later_vote)
{
    begin(3, 0);
    X->io.stalled = true;
    say_only(2, append(2, 1, 1, 1, 1), commands(2));
    say_only(3, ask_vote(3, 9), none);
    restart_in_process();
    say_only(3, ask_vote(3, 9), none);
    one_operation();
    ck_assert_uint_eq(group_log_durable(X->g->log, wal_durable_lsn(group_set_wal(X->set))), 2);
    say_only(3, ask_vote(3, 9), none);
    ck_assert_uint_eq(count_sent(MSG_VOTE_RESULT, 3), 0);
    X->io.stalled = false;
    world_run(5);
    ck_assert_uint_ge(count_sent(MSG_VOTE_RESULT, 3), 1);
    ck_assert_msg(!W.violation, "%s", W.violation);
    world_close();
}
END_TEST

/* While a snapshot comes in, an old entry that a laggard once wanted is found to be gone. */
START_TEST(an_old_entry_is_gone_during_an_install)
{
    begin(3, 0);
    say_only(2, append(2, 1, 1, 1, 8), commands(2));
    world_run(5);
    say_only(2, append(2, 9, 2, 9, 0), none);
    world_run(5);
    ck_assert_uint_eq(group_applied(X->g)->index, 9);
    flush(X);
    X->hold_install = true;
    struct group_msg m = {.type = MSG_INSTALL, .term = 2};
    m.install.term = 2;
    m.install.position = (struct group_position){.index = 50, .term = 2, .conf_index = 1};
    m.install.position.conf = world_conf(3);
    m.install.manifest = slice_of(&X->state, sizeof X->state);
    say_only(2, m, none);
    ck_assert(group_installing(X->g));
    group_on_loaded(X->g, ERR_NOT_FOUND, 3);
    group_set_turn(X->set);
    ck_assert_msg(!W.violation, "%s", W.violation);
    ck_assert_uint_eq(X->broken, 0);
    X->install_due = 0;
    group_install_failed(X->g, &X->disk.at);
    group_set_turn(X->set);
    say_only(2, append(2, 9, 2, 9, 2), commands(2));
    world_run(5);
    say_only(2, append(2, 11, 2, 11, 0), none);
    world_run(5);
    ck_assert_uint_eq(group_applied(X->g)->index, 11);
    ck_assert_msg(!W.violation, "%s", W.violation);
    world_close();
}
END_TEST

static void ignore_durable(void *arg, uint64_t lsn)
{
    (void)arg;
    (void)lsn;
}
static void ignore_rotate(void *arg)
{
    (void)arg;
}
static uint64_t need_nothing(void *arg)
{
    (void)arg;
    return UINT64_MAX;
}
static void ignore_fatal(void *arg, enum err why, const char *text)
{
    (void)arg;
    (void)why;
    (void)text;
}
static void ignore_record(void *arg, const struct wal_record *r, struct slice payload, uint64_t lsn)
{
    (void)arg;
    (void)r;
    (void)payload;
    (void)lsn;
}

/* A record that this version does not understand, right behind the log of GROUP. */
static void write_nonsense(void)
{
    char msg[256];
    struct wal *w;
    struct wal_record r = {.group = GROUP, .index = 2, .term = 1, .type = 99};
    fake_io_init(&X->io, 1);
    X->io.now = W.now;
    struct wal_options o = {.io = &X->io,
                            .dir = X->dir,
                            .on_durable = ignore_durable,
                            .on_rotate = ignore_rotate,
                            .oldest_needed = need_nothing,
                            .on_fatal = ignore_fatal};
    ck_assert_int_eq(wal_open(&o, ignore_record, NULL, &w, msg, sizeof msg), ERR_OK);
    wal_append(w, &r, slice_of("x", 1), NULL);
    wal_flush(w);
    for (unsigned i = 0; i < 100 && !wal_idle(w); i++)
        fake_io_turn(&X->io, X->io.now + NS_PER_MS);
    ck_assert(wal_idle(w));
    W.now = X->io.now;
    wal_close(w);
}

static enum err try_start(void)
{
    X->g = NULL;
    enum err e = node_start_group(X, false, false);
    if (e != ERR_OK)
        X->g = NULL;
    return e;
}

/* Another group fills the log. */
static void fill_with_another(void)
{
    struct group_position p = {.index = 1, .term = 1, .conf_index = 1};
    p.conf.n = 1;
    p.conf.member[0] = (struct group_member){.replica = 1, .node = 1, .role = GROUP_VOTER};
    struct group_options o = {.group = GROUP + 1,
                              .replica = 1,
                              .durable = p,
                              .create = true,
                              .campaign = true,
                              .ops = &world_ops,
                              .arg = X};
    ck_assert_int_eq(group_start(X->set, &o, &X->g), ERR_OK);
    static uint8_t big[16 * KIB];
    X->state = 1;
    for (unsigned i = 0; i < 400; i++) {
        uint64_t index, term;
        (void)!group_propose(X->g, slice_of(big, sizeof big), &index, &term);
        group_set_turn(X->set);
        world_run(5);
        struct group_position at = *group_applied(X->g);
        group_compact(X->g, &at);
    }
}

/* A log found damaged is refused, and still refused when the damage's segment is long gone. */
START_TEST(damage_is_not_forgotten)
{
    begin(3, 0);
    W.segment = 64 * KIB;
    node_crash(X, true);
    write_nonsense();
    node_open(X);
    ck_assert(group_set_has_log(X->set, GROUP));
    ck_assert_int_eq(try_start(), ERR_CORRUPT);
    fill_with_another();
    ck_assert_uint_gt(wal_stats(group_set_wal(X->set))->rotations, 8);
    ck_assert_msg(!W.violation, "%s", W.violation);
    node_crash(X, true);
    node_open(X);
    ck_assert(group_set_has_log(X->set, GROUP));
    ck_assert_int_eq(try_start(), ERR_CORRUPT);
    world_close();
}
END_TEST

/* A replica that is broken for good: its log holds the WAL until it is given up, and is refused for
 * ever after. */
START_TEST(a_log_that_is_given_up)
{
    begin(3, 0);
    say_only(2, append(2, 1, 1, 1, 4), commands(2));
    world_run(50);
    W.segment = 64 * KIB;
    for (int given_up = 0; given_up < 2; given_up++) {
        unsigned segments;
        uint64_t bytes;
        node_crash(X, true);
        node_open(X);
        if (given_up)
            group_set_give_up_log(X->set, GROUP);
        if (group_set_has_log(X->set, GROUP + 1)) {
            group_set_drop_log(X->set, GROUP + 1);
            memset(W.log, 0, sizeof W.log); /* the checkers know one group only */
            memset(W.leader, 0, sizeof W.leader);
            W.applied_max = X->term_seen = 0;
        }
        fill_with_another();
        wal_usage(group_set_wal(X->set), &segments, &bytes);
        if (given_up)
            ck_assert_uint_lt(segments, 10);
        else
            ck_assert_uint_gt(segments, 20);
        ck_assert_msg(!W.violation, "%s", W.violation);
    }
    node_crash(X, true);
    node_open(X);
    ck_assert(group_set_has_log(X->set, GROUP));
    ck_assert_int_eq(try_start(), ERR_CORRUPT);
    world_close();
}
END_TEST

/* How much is kept for followers that lag goes by the segments that there are: they may be smaller
 * than configured, on a small disk, or as an earlier setting made them. */
START_TEST(kept_by_the_real_segments)
{
    unsigned segments;
    uint64_t bytes;
    begin(3, 0);
    node_crash(X, true);
    W.segment = 16 * MIB; /* they have 256 KiB */
    node_open(X);
    group_set_drop_log(X->set, GROUP);
    fill_with_another();
    ck_assert_uint_gt(wal_stats(group_set_wal(X->set))->rotations, 20);
    wal_usage(group_set_wal(X->set), &segments, &bytes);
    ck_assert_uint_lt(segments, 6);
    ck_assert_msg(!W.violation, "%s", W.violation);
    world_close();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("group_restart");
    TCase *t = tcase_create("group_restart");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_vote_is_held_across_a_restart);
    tcase_add_test(t, an_entry_does_not_release_a_later_vote);
    tcase_add_test(t, an_old_entry_is_gone_during_an_install);
    tcase_add_test(t, damage_is_not_forgotten);
    tcase_add_test(t, a_log_that_is_given_up);
    tcase_add_test(t, kept_by_the_real_segments);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
