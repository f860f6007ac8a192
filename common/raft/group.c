/* The driver's heart: one step of libraft and the order of duty after it.
 *
 * After every step, in this order:
 *   1. a changed term or vote goes to the WAL; from then on the group's messages are held back
 * until that record is durable (no blocking fsync, and nobody hears of a vote that could be lost);
 *   2. entries go to the WAL and to the log in memory, asynchronously;
 *   3. messages go out: a leader sends before its own fsync, a follower's acknowledgement comes
 * only out of PERSISTED_ENTRIES, which is stepped when the WAL says durable;
 *   4. the rest (state, commit index, snapshot to install) is left to the end of the turn, where
 * the owner's callbacks are made.
 *
 * Which entries are durable is read off the log itself: an entry's lsn is that of its present
 * content, so an entry that replaced another in flight counts only once it is durable itself. */
#include "common/raft/group.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/raft/group_internal.h"

unsigned group_test_guards_off;
#ifdef SHARDKV_TEST_HOOKS
unsigned group_test_bugs;
#endif

struct raft_event group_event(int type)
{
    struct raft_event ev;
    memset(&ev, 0, sizeof ev);
    ev.type = (enum raft_event_type)type;
    return ev;
}

void group_fail(struct group *g, enum err why, const char *text)
{
    if (g->broken)
        return;
    g->broken = why;
    g->broken_text = text;
    read_index_fail(&g->reads, ERR_NOT_LEADER);
    follower_read_fail(&g->follower, ERR_NOT_LEADER);
    group_dirty(g);
}

/* ---- after a step ---- */

/* Duty 1. Compared by value, not by the update's flags: guards change the fields as well. */
void group_save_vote(struct group *g)
{
    struct group_log *l = g->log;
    if (l->term == g->r.current_term && l->vote == g->r.voted_for)
        return;
    CHECK(g->r.current_term >= l->term);
    l->term = g->r.current_term;
    l->vote = g->r.voted_for;
    g->hold = group_log_save(l);
}

/* Duty 2. The batch is one allocation, ours now. */
static void take_entries(struct group *g, const struct raft_update *u)
{
    struct group_log *l = g->log;
    CHECK(u->entries.n > 0 && u->entries.index <= group_log_last(l) + 1);
    group_log_truncate(l, u->entries.index);
    for (unsigned i = 0; i < u->entries.n; i++) {
        const struct raft_entry *e = &u->entries.batch[i];
        if (group_is_leader(g) && e->type == RAFT_COMMAND)
            g->inflight += e->buf.len;
        group_log_append(l, e->term, (uint8_t)e->type, slice_of(e->buf.base, e->buf.len));
    }
    if (group_is_leader(g) && g->term_first == 0)
        g->term_first = u->entries.index;
    raft_free(u->entries.batch[0].batch);
    if (list_empty(&g->unstored))
        list_push_back(&g->set->unstored, &g->unstored);
}

static void set_peers(struct group *g)
{
    struct group_peer old[LIMIT_GROUP_MEMBERS];
    unsigned n = g->peers;
    memcpy(old, g->peer, sizeof old);
    g->peers = 0;
    for (uint32_t i = 0; i < g->conf.n; i++) {
        const struct group_member *m = &g->conf.member[i];
        if (m->replica == g->replica)
            continue;
        struct group_peer *p = &g->peer[g->peers++];
        *p = (struct group_peer){.replica = m->replica};
        p->stream.next = 1; /* not active */
        for (unsigned k = 0; k < n; k++)
            if (old[k].replica == m->replica)
                *p = old[k];
        p->node = m->node;
        p->voter = m->role == GROUP_VOTER;
    }
}

/* What belongs to one term in one state starts afresh with the next. */
void group_set_role(struct group *g)
{
    if (g->role_term == g->r.current_term && g->role_state == g->r.state)
        return;
    bool new_term = g->role_term != g->r.current_term;
    if (g->r.state == RAFT_CANDIDATE && g->role_state == RAFT_FOLLOWER)
        g->set->stats.elections++;
    g->role_term = g->r.current_term;
    g->role_state = g->r.state;
    if (new_term) {
        g->echo = 0;
        g->lease_over = false;
    }
    if (g->next_echo_term == g->role_term)
        group_take_stamp(g, g->role_term, g->next_echo);
    g->peers = 0;
    g->term_first = 0;
    g->inflight = 0;
    g->ping_ms = 0;
    g->transfer = (struct group_transfer){0};
    if (!group_is_leader(g))
        read_index_fail(&g->reads, ERR_NOT_LEADER);
    set_peers(g);
}

static bool brings_conf(const struct raft_event *ev, const struct raft_update *u)
{
    if (ev->type == RAFT_START || ev->type == RAFT_PERSISTED_SNAPSHOT)
        return true;
    if (u->flags & (RAFT_UPDATE_ENTRIES))
        return true;
    return ev->type == RAFT_RECEIVE || ev->type == RAFT_CONFIGURATION;
}

static void mirror_conf(struct group *g)
{
    const struct raft_configuration *c = &g->r.configuration;
    bool same = c->n == g->conf.n;
    for (unsigned i = 0; same && i < c->n; i++)
        same = c->servers[i].id == g->conf.member[i].replica &&
               c->servers[i].role == g->conf.member[i].role;
    if (same)
        return;
    raft_conf_from(c, &g->conf);
    set_peers(g);
}

void group_schedule(struct group *g)
{
    uint64_t due = raft_timeout(&g->r);
    /* SPIN: for a leader with a spare that was served once it would stay due for ever (N9). */
    uint64_t spin = group_is_leader(g) ? g->set->o.heartbeat_ms / 2 : GROUP_SPIN_MS;
    if (GUARD(SPIN) && due < g->ticked_ms + spin)
        due = g->ticked_ms + spin;
    if (g->r.state == RAFT_FOLLOWER && due < g->promised_ms && GUARD(PROMISE))
        due = g->promised_ms;
    if (!list_empty(&g->reading) && g->ping_ms && g->ping_ms + GROUP_PING_MS < due)
        due = g->ping_ms + GROUP_PING_MS;
    if (!list_empty(&g->reading) && follower_read_due_ms(&g->follower, GROUP_PING_MS) < due)
        due = follower_read_due_ms(&g->follower, GROUP_PING_MS);
    g->due_ms = due;
    group_set_arm(g->set, due);
}

int group_step(struct group *g, struct raft_event *ev)
{
    struct raft_update u;
    memset(&u, 0, sizeof u);
    ev->time = now_ms(g->set);
    int rv = raft_step(&g->r, ev, &u);
    if (rv != 0)
        return rv;
    group_save_vote(g);
    group_set_role(g);
    if (brings_conf(ev, &u))
        mirror_conf(g);
    if (u.flags & (RAFT_UPDATE_ENTRIES))
        take_entries(g, &u);
    if (u.flags & (RAFT_UPDATE_SNAPSHOT))
        group_begin_install(g, &u);
    if (u.flags & (RAFT_UPDATE_MESSAGES))
        group_send_update(g, &u);
    if ((u.flags & (RAFT_UPDATE_ENTRIES)) && GROUP_BUG(BUG_ACK_EARLY))
        group_stored(g, UINT64_MAX);
    group_schedule(g);
    group_dirty(g);
    return 0;
}

void group_stored(struct group *g, uint64_t durable_lsn)
{
    uint64_t index = group_log_durable(g->log, durable_lsn);
    if (index == group_log_last(g->log)) {
        list_remove(&g->unstored);
        group_dirty(g); /* what a start took for stored may be applied now */
    }
    if (g->broken || g->install.active || index <= g->r.last_stored)
        return;
    struct raft_event ev = group_event(RAFT_PERSISTED_ENTRIES);
    ev.persisted_entries.index = index;
    if (group_step(g, &ev) != 0)
        group_fail(g, ERR_INTERNAL, "libraft refused persisted entries");
}

int group_submit(struct group *g, int kind, struct slice payload)
{
    struct raft_entry e = {.term = g->r.current_term, .type = (enum raft_entry_type)kind};
    e.buf.base = raft_malloc(payload.n ? payload.n : 1);
    CHECK(e.buf.base);
    e.buf.len = payload.n;
    if (payload.n)
        memcpy(e.buf.base, payload.p, payload.n);
    e.batch = e.buf.base;
    struct raft_event ev = group_event(RAFT_SUBMIT);
    ev.submit.entries = &e;
    ev.submit.n = 1;
    int rv = group_step(g, &ev);
    if (rv != 0)
        raft_free(e.buf.base);
    return rv;
}

/* ---- timers ---- */

/* SINGLE: libraft lets a sole voter lead without a new term, so after a restart, or a change that
 * made it the only voter, two leaders could share one (N2). A term of its own comes first. */
static void single_voter_term(struct group *g)
{
    struct raft *r = &g->r;
    if (!GUARD(SINGLE) || r->state != RAFT_FOLLOWER || raft_conf_voters(&g->conf) != 1 ||
        raft_role(r) != RAFT_VOTER || now_ms(g->set) < raft_timeout(r) || r->snapshot.installing ||
        r->last_stored < raft_last_index(r))
        return;
    r->current_term++;
    r->voted_for = r->id;
    group_save_vote(g);
}

void group_tick(struct group *g)
{
    struct raft *r = &g->r;
    if (g->broken)
        return;
    uint64_t now = now_ms(g->set);
    group_dirty(g);
    bool promised = r->state == RAFT_FOLLOWER && group_promised(g) && GUARD(PROMISE);
    if (now < raft_timeout(r) || promised) { /* woken for a ping */
        group_schedule(g);
        return;
    }
    g->ticked_ms = now;
    if (GUARD(RETRY) && r->state == RAFT_CANDIDATE) {
        r->candidate_state.in_pre_vote = r->pre_vote;
        r->candidate_state.disrupt_leader = false;
    }
    single_voter_term(g);
    struct raft_event ev = group_event(RAFT_TIMEOUT);
    if (group_step(g, &ev) != 0) {
        group_fail(g, ERR_INTERNAL, "libraft failed at a timeout");
        return;
    }
    if (r->state == RAFT_CANDIDATE && g->campaign > 0) {
        g->campaign--;
        /* The others may be milliseconds behind, or seconds. */
        unsigned wait = g->campaign > GROUP_CAMPAIGN_TRIES - GROUP_CAMPAIGN_HASTY ? 10 : 50;
        r->candidate_state.randomized_election_timeout =
            wait + (unsigned)(io_random(g->set->io) % wait);
        group_schedule(g);
    }
}

/* ---- the turn ---- */

static enum group_state state_of(const struct group *g)
{
    switch (g->r.state) {
    case RAFT_LEADER:
        return GROUP_LEADER;
    case RAFT_CANDIDATE:
        return GROUP_CANDIDATE;
    default:
        return GROUP_FOLLOWER;
    }
}

/* Sets g->leader; its replica is 0 if none is known. */
static void find_leader(struct group *g)
{
    struct raft *r = &g->r;
    uint64_t id = 0;
    const char *address = NULL;
    if (group_is_leader(g)) {
        id = g->replica;
        address = g->address;
    } else if (r->state == RAFT_FOLLOWER && g->heard_term == r->current_term) {
        id = r->follower_state.current_leader.id;
        address = r->follower_state.current_leader.address;
    }
    if (g->leader.replica == id)
        return;
    const struct group_member *m = id ? group_conf_find(&g->conf, id) : NULL;
    if (m)
        g->leader = *m;
    else /* its address tells the node even if our configuration is too old to have it */
        g->leader = (struct group_member){
            .replica = id, .node = raft_address_node(address), .role = GROUP_VOTER};
}

static void report_state(struct group *g)
{
    find_leader(g);
    enum group_state state = state_of(g);
    if (state == g->told_state && g->told_term == g->r.current_term &&
        g->told_leader == g->leader.replica)
        return;
    g->told_state = state;
    g->told_term = g->r.current_term;
    g->told_leader = g->leader.replica;
    if (g->leader.replica)
        g->campaign = 0;
    struct group_member leader = g->leader;
    if (g->ops->on_state)
        g->ops->on_state(g->arg, state, g->told_term, leader.replica ? &leader : NULL);
}

/* libraft appends a barrier on election only if entries are uncommitted; reads and membership
 * changes need an entry of the own term in any case. */
static void own_term_entry(struct group *g)
{
    if (GUARD(BARRIER) && group_is_leader(g) && g->term_first == 0 && !raft_transferee(&g->r))
        (void)group_submit(g, RAFT_BARRIER, slice_of("\0\0\0\0\0\0\0\0", 8));
}

/* TRANSFER only once the target has everything and proposals are paused: libraft sends one
 * TimeoutNow, and a target that lags ignores it. */
static void run_transfer(struct group *g)
{
    struct group_transfer *t = &g->transfer;
    raft_index match = 0;
    if (t->target == 0)
        return;
    bool over = !group_is_leader(g) || (t->started && raft_transferee(&g->r) == 0) ||
                (!t->started && now_ms(g->set) >= t->deadline_ms);
    if (!over && raft_match_index(&g->r, t->target, &match) != 0)
        over = true;
    if (over) {
        *t = (struct group_transfer){0};
        return;
    }
    if (t->started || match < group_last_index(g))
        return;
    g->lease_over = !GROUP_BUG(BUG_LEASE_TRANSFER);
    struct raft_event ev = group_event(RAFT_TRANSFER);
    ev.transfer.server_id = t->target;
    if (group_step(g, &ev) != 0)
        *t = (struct group_transfer){0};
    else
        t->started = true;
}

static void ask_snapshots(struct group *g)
{
    for (unsigned i = 0; group_is_leader(g) && i < g->peers; i++) {
        struct group_peer *p = &g->peer[i];
        if (!p->wants_snapshot)
            continue;
        /* One is on its way: what libraft asked for meanwhile is looked at again later. */
        if (p->offered_ms && now_ms(g->set) < p->offered_ms + GROUP_OFFER_MS)
            continue;
        p->wants_snapshot = false;
        if (group_match(g, p->replica) >= group_log_first(g->log))
            continue; /* it has arrived */
        const struct group_member *m = group_conf_find(&g->conf, p->replica);
        if (m && g->ops->snapshot_wanted) {
            struct group_member to = *m;
            g->ops->snapshot_wanted(g->arg, &to);
        }
    }
}

void group_work(struct group *g)
{
    if (g->broken) {
        read_index_run(&g->reads, 0, 0);
        group_run_follower(g);
        if (!g->broken_told) {
            g->broken_told = true;
            if (g->ops->on_broken)
                g->ops->on_broken(g->arg, g->broken, g->broken_text);
        }
        return;
    }
    report_state(g);
    own_term_entry(g);
    group_run_install(g);
    group_apply(g);
    group_run_compact(g);
    run_transfer(g);
    ask_snapshots(g);
    group_pump(g);
    group_run_follower(g);
    read_index_run(&g->reads, group_confirmed(g), g->applied.index);
    bool waits = !list_empty(&g->reads.pending) || !follower_read_empty(&g->follower);
    if (waits && list_empty(&g->reading))
        list_push_back(&g->set->reading, &g->reading);
}

/* ---- proposals ---- */

enum err group_propose(struct group *g, struct slice payload, uint64_t *index, uint64_t *term)
{
    if (g->broken || !group_is_leader(g))
        return ERR_NOT_LEADER;
    if (payload.n > LIMIT_ENTRY || payload.n > wal_record_max(g->set->wal))
        return ERR_TOO_LARGE;
    /* N13: past the window libraft answers each submission with empty messages. */
    if (g->transfer.target || raft_transferee(&g->r) ||
        group_last_index(g) - g->r.commit_index >= LIMIT_RAFT_INFLIGHT_ENTRIES ||
        (g->inflight && g->inflight + payload.n > LIMIT_GROUP_INFLIGHT_BYTES))
        return ERR_BUSY;
    if (group_submit(g, RAFT_COMMAND, payload) != 0)
        return ERR_NOT_LEADER;
    g->set->stats.proposals++;
    *index = group_last_index(g);
    *term = g->r.current_term;
    return ERR_OK;
}

/* ---- inspection ---- */

uint64_t group_id(const struct group *g)
{
    return g->id;
}
uint64_t group_replica(const struct group *g)
{
    return g->replica;
}
enum group_state group_state_of(const struct group *g)
{
    return g->broken ? GROUP_FOLLOWER : state_of(g);
}
uint64_t group_term(const struct group *g)
{
    return g->r.current_term;
}
const struct group_member *group_leader(const struct group *g)
{
    find_leader((struct group *)g); /* a cache */
    return g->leader.replica && !g->broken ? &g->leader : NULL;
}
const struct group_position *group_applied(const struct group *g)
{
    return &g->applied;
}
uint64_t group_commit_index(const struct group *g)
{
    return g->r.commit_index;
}
uint64_t group_last_index(const struct group *g)
{
    return raft_last_index((struct raft *)&g->r);
}
bool group_installing(const struct group *g)
{
    return g->install.active;
}
uint64_t group_inflight_bytes(const struct group *g)
{
    return g->inflight;
}
uint64_t group_match(const struct group *g, uint64_t replica)
{
    raft_index match = 0;
    return raft_match_index(&g->r, replica, &match) == 0 ? match : 0;
}
