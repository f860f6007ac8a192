/* One real node (replica 1) whose every message is caught; the test speaks for the others.
 *
 * Owner: the test.  Thread: the test's.  Depends on: world. */
#ifndef UNIT_RAFT_SCRIPTED_H
#define UNIT_RAFT_SCRIPTED_H

#include <check.h>

#include "tests/unit/raft/world.h"

static struct group_msg sent[256];
static unsigned n_sent;
static struct group_msg_entry none[GROUP_MSG_ENTRIES];
static struct node *X = &W.node[1];

static inline bool capture(const struct packet *p)
{
    CHECK(n_sent < 256);
    CHECK(group_msg_decode(buf_slice(&p->data), &sent[n_sent], none) == ERR_OK);
    n_sent++;
    return false;
}

/* The last message of a type, or NULL. */
static inline const struct group_msg *last_sent(uint8_t type, uint64_t to)
{
    for (unsigned i = n_sent; i > 0; i--)
        if (sent[i - 1].type == type && sent[i - 1].to == to)
            return &sent[i - 1];
    return NULL;
}

static inline unsigned count_sent(uint8_t type, uint64_t to)
{
    unsigned n = 0;
    for (unsigned i = 0; i < n_sent; i++)
        n += sent[i].type == type && sent[i].to == to;
    return n;
}

static inline void listen_to_one(unsigned off)
{
    world_init(1);
    group_test_guards_off = off;
    W.filter = capture;
    n_sent = 0;
}

/* Node 1 in a group of `voters`, with guards left out. */
static inline void begin(unsigned voters, unsigned off)
{
    listen_to_one(off);
    node_open(X);
    X->disk =
        (struct engine){.exists = true, .at = {.index = 1, .term = 1, .conf_index = 1}, .state = 1};
    X->disk.at.conf = world_conf(voters);
    ck_assert_int_eq(node_start_group(X, true, false), ERR_OK);
    world_run(5);
}

/* Node 1 without a log. */
static inline void begin_blank(unsigned off)
{
    listen_to_one(off);
    world_join(1);
    world_run(5);
}

/* Speaks as `from`; nothing but the turn that handles it happens. */
static inline void say_only(unsigned from, struct group_msg m,
                            const struct group_msg_entry *entries)
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
}

/* The same, and its disk gets time. */
static inline void say(unsigned from, struct group_msg m, const struct group_msg_entry *entries)
{
    say_only(from, m, entries);
    world_run(3);
}

static inline struct group_msg append(uint64_t term, uint64_t prev, uint64_t prev_term,
                                      uint64_t commit, uint32_t n)
{
    struct group_msg m = {.type = MSG_APPEND, .term = term};
    m.append.prev_index = prev;
    m.append.prev_term = prev_term;
    m.append.commit = commit;
    m.append.n = n;
    return m;
}

static inline const struct group_msg_entry *commands(uint64_t term)
{
    static struct group_msg_entry e[16];
    for (unsigned i = 0; i < 16; i++)
        e[i] = (struct group_msg_entry){term, LOG_KIND_COMMAND, slice_of("command", 7)};
    return e;
}

static inline struct group_msg result(uint64_t term, uint64_t rejected, uint64_t last)
{
    struct group_msg m = {.type = MSG_APPEND_RESULT, .term = term};
    m.append_result.term = term;
    m.append_result.rejected = rejected;
    m.append_result.last = last;
    return m;
}

static inline struct group_msg granted(uint64_t term, bool pre_vote)
{
    struct group_msg m = {.type = MSG_VOTE_RESULT, .term = term};
    m.vote_result.term = term;
    m.vote_result.granted = true;
    m.vote_result.pre_vote = pre_vote;
    return m;
}

static inline struct group_msg vote(uint64_t term, uint64_t last, uint64_t last_term, bool pre_vote)
{
    struct group_msg m = {.type = MSG_VOTE, .term = pre_vote ? term - 1 : term};
    m.vote.term = term;
    m.vote.last_index = last;
    m.vote.last_term = last_term;
    m.vote.pre_vote = pre_vote;
    return m;
}

static inline struct group_msg install(uint64_t term, uint64_t index, const struct group_conf *conf)
{
    static const uint64_t state = 77;
    struct group_msg m = {.type = MSG_INSTALL, .term = term};
    m.install.term = term;
    m.install.position =
        (struct group_position){.index = index, .term = 1, .conf_index = 1, .conf = *conf};
    m.install.manifest = slice_of(&state, sizeof state);
    return m;
}

static inline void elect(void)
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

#endif
