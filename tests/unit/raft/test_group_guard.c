/* Each guard against a fault of libraft, scripted: with the guard, then without, so that the test
 * is known to be able to fail. One real node (replica 1); the test speaks for the others. */
#include <check.h>

#include "tests/unit/raft/world.h"

static struct group_msg sent[256];
static unsigned n_sent;
static struct group_msg_entry none[GROUP_MSG_ENTRIES];

static bool capture(const struct packet *p)
{
    CHECK(n_sent < 256);
    CHECK(group_msg_decode(buf_slice(&p->data), &sent[n_sent], none) == ERR_OK);
    n_sent++;
    return false;
}

/* The last message of a type, or NULL. */
static const struct group_msg *last_sent(uint8_t type, uint64_t to)
{
    for (unsigned i = n_sent; i > 0; i--)
        if (sent[i - 1].type == type && sent[i - 1].to == to)
            return &sent[i - 1];
    return NULL;
}

static struct node *X = &W.node[1];

/* Node 1 in a group of `voters`, with guards left out. */
static void begin(unsigned voters, unsigned off)
{
    world_init(1);
    group_test_guards_off = off;
    W.filter = capture;
    n_sent = 0;
    node_open(X);
    X->disk =
        (struct engine){.exists = true, .at = {.index = 1, .term = 1, .conf_index = 1}, .state = 1};
    X->disk.at.conf = world_conf(voters);
    ck_assert_int_eq(node_start_group(X, true, false), ERR_OK);
    world_run(5);
}

static void begin_blank(unsigned off)
{
    world_init(1);
    group_test_guards_off = off;
    W.filter = capture;
    n_sent = 0;
    world_join(1);
    world_run(5);
}

static void end(void)
{
    world_close();
}

/* Speaks as `from`; the node handles it in a turn of its own and its disk gets time. */
static void say(unsigned from, struct group_msg m, const struct group_msg_entry *entries)
{
    struct buf b = {0};
    m.from = from;
    m.to = 1;
    group_msg_encode(&m, entries, &b);
    for (uint32_t i = 0; m.type == MSG_APPEND && i < m.append.n; i++)
        buf_append(&b, entries[i].payload.p, entries[i].payload.n);
    W.now += 1000;
    X->io.now = W.now;
    ck_assert_int_eq(group_set_receive(X->set, from, GROUP, buf_slice(&b)), ERR_OK);
    group_set_turn(X->set);
    buf_close(&b);
    world_run(3);
}

static struct group_msg append(uint64_t term, uint64_t prev, uint64_t prev_term, uint64_t commit,
                               uint32_t n)
{
    struct group_msg m = {.type = MSG_APPEND, .term = term};
    m.append.prev_index = prev;
    m.append.prev_term = prev_term;
    m.append.commit = commit;
    m.append.n = n;
    return m;
}

static const struct group_msg_entry *commands(uint64_t term)
{
    static struct group_msg_entry e[16];
    for (unsigned i = 0; i < 16; i++)
        e[i] = (struct group_msg_entry){term, LOG_KIND_COMMAND, slice_of("command", 7)};
    return e;
}

static struct group_msg result(uint64_t term, uint64_t rejected, uint64_t last)
{
    struct group_msg m = {.type = MSG_APPEND_RESULT, .term = term};
    m.append_result.term = term;
    m.append_result.rejected = rejected;
    m.append_result.last = last;
    return m;
}

static struct group_msg granted(uint64_t term, bool pre_vote)
{
    struct group_msg m = {.type = MSG_VOTE_RESULT, .term = term};
    m.vote_result.term = term;
    m.vote_result.granted = true;
    m.vote_result.pre_vote = pre_vote;
    return m;
}

static struct group_msg vote(uint64_t term, uint64_t last, uint64_t last_term, bool pre_vote)
{
    struct group_msg m = {.type = MSG_VOTE, .term = pre_vote ? term - 1 : term};
    m.vote.term = term;
    m.vote.last_index = last;
    m.vote.last_term = last_term;
    m.vote.pre_vote = pre_vote;
    return m;
}

static struct group_msg install(uint64_t term, uint64_t index, const struct group_conf *conf)
{
    static const uint64_t state = 77;
    struct group_msg m = {.type = MSG_INSTALL, .term = term};
    m.install.term = term;
    m.install.position =
        (struct group_position){.index = index, .term = 1, .conf_index = 1, .conf = *conf};
    m.install.manifest = slice_of(&state, sizeof state);
    return m;
}

static void elect(void)
{
    for (unsigned i = 0; i < 200 && group_state_of(X->g) != GROUP_CANDIDATE; i++)
        world_run(5);
    uint64_t term = group_term(X->g);
    say(2, granted(term + 1, true), none);
    say(3, granted(term + 1, true), none);
    say(2, granted(term + 1, false), none);
    say(3, granted(term + 1, false), none);
    ck_assert_int_eq(group_state_of(X->g), GROUP_LEADER);
    ck_assert_uint_eq(group_term(X->g), term + 1);
}

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
        end();
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
        end();
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
        end();
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
        end();
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
        end();
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
        end();
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
        end();
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
        end();
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
        end();
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
        end();
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
        end();
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
        end();
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
        end();
    }
}
END_TEST

START_TEST(barrier)
{
    for (int off = 0; off < 2; off++) {
        begin(3, off ? GUARD_BARRIER : 0);
        elect();
        ck_assert_uint_eq(group_last_index(X->g), off ? 1 : 2);
        end();
    }
}
END_TEST

START_TEST(blank)
{
    struct group_conf four = world_conf(4);
    four.member[3].role = GROUP_STANDBY;
    for (int off = 0; off < 2; off++) {
        begin(3, off ? GUARD_BLANK : 0);
        elect();
        say(2, result(2, 0, 2), none);
        ck_assert_int_eq(group_change(X->g, &four), ERR_OK);
        world_run(3);
        say(2, result(2, 0, 3), none);
        for (int i = 0; i < 30; i++) {
            say(4, result(2, 3, 0), none); /* its log is empty */
            say(4, result(2, 2, 0), none);
            say(4, result(2, 1, 0), none);
            say(4, result(2, 0, 0), none);
            say(2, result(2, 0, 3), none);
            world_run(40);
        }
        ck_assert_int_eq(X->wanted == 0, off);
        ck_assert_int_eq(last_sent(MSG_INSTALL, 4) == NULL, off);
        end();
    }
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
        end();
    }
}
END_TEST

/* ---- what is not libraft's fault but ours to keep ---- */

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
    end();
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
    end();
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
    end();
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
        end();
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
        end();
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
        end();
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
        end();
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
    end();
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
    tcase_add_test(t, back);
    tcase_add_test(t, vote_is_held);
    tcase_add_test(t, ack_waits_for_the_disk);
    tcase_add_test(t, ack_of_replaced_entries);
    tcase_add_test(t, old_log_stays_cut);
    tcase_add_test(t, holiday);
    tcase_add_test(t, promised);
    tcase_add_test(t, nonsense);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
