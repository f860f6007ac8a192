/* Messages in: what libraft may see, and in which form. README.md tells each guard's reason. */
#include <stdlib.h>

#include "common/base/check.h"
#include "common/raft/group_internal.h"

static int receive(struct group *g, uint32_t node, const struct group_msg *m,
                   struct raft_message *rm)
{
    char address[RAFT_ADDRESS_MAX];
    raft_address_format(node, m->from, address);
    rm->server_id = m->from;
    rm->server_address = address;
    struct raft_event ev = group_event(RAFT_RECEIVE);
    ev.receive.message = rm;
    int rv = group_step(g, &ev);
    if (rv != 0)
        group_fail(g, rv == RAFT_SHUTDOWN ? ERR_CORRUPT : ERR_INTERNAL,
                   rv == RAFT_SHUTDOWN ? "the log contradicts the leader's below the commit index"
                                       : "libraft failed at a message");
    return rv;
}

static struct raft_message message(int type)
{
    struct raft_message m;
    memset(&m, 0, sizeof m);
    m.type = (enum raft_message_type)type;
    return m;
}

/* STALE: libraft answers a leader of an older term with an uninitialised index, which may read as
 * an acknowledgement (N3). The term alone is what it has to learn. */
static void answer_stale(struct group *g, uint32_t node, const struct group_msg *m)
{
    struct group_msg out = {.type = MSG_APPEND_RESULT, .to = m->from};
    out.append_result.term = g->r.current_term;
    out.append_result.rejected = UINT64_MAX;
    group_send(g, node, &out, NULL);
}

/* True if the message of a leader is not for libraft: an older term's, or one that claims the term
 * which we lead ourselves. */
static bool not_our_leader(struct group *g, uint32_t node, const struct group_msg *m)
{
    if (m->term < g->r.current_term) {
        if (!GUARD(STALE))
            return false;
        answer_stale(g, node, m);
        return true;
    }
    g->heard_ms = now_ms(g->set);
    g->heard_term = m->term;
    return m->term == g->r.current_term && group_is_leader(g);
}

/* ---- AppendEntries ---- */

struct append {
    uint64_t prev, prev_term, commit;
    const struct group_msg_entry *entries;
    unsigned n;
};

/* Takes the first n entries of `a` to libraft. */
static int step_append(struct group *g, uint32_t node, const struct group_msg *m,
                       const struct append *a, unsigned n)
{
    struct raft_entry entries[GROUP_MSG_ENTRIES];
    struct raft_message rm = message(RAFT_APPEND_ENTRIES);
    size_t size = 0;
    for (unsigned i = 0; i < n; i++)
        size += (a->entries[i].payload.n + 8) & ~(size_t)7;
    uint8_t *batch = n ? raft_malloc(size) : NULL, *p = batch;
    CHECK(!n || batch);
    for (unsigned i = 0; i < n; i++) {
        struct slice payload = a->entries[i].payload;
        entries[i] = (struct raft_entry){.term = a->entries[i].term,
                                         .type = (enum raft_entry_type)a->entries[i].kind,
                                         .buf = {p, payload.n},
                                         .batch = batch};
        if (payload.n)
            memcpy(p, payload.p, payload.n);
        p += (payload.n + 8) & ~(size_t)7;
    }
    rm.append_entries.term = m->term;
    rm.append_entries.prev_log_index = a->prev;
    rm.append_entries.prev_log_term = a->prev_term;
    rm.append_entries.leader_commit = a->commit;
    rm.append_entries.entries = entries;
    rm.append_entries.n_entries = n;
    /* BACK: libraft would set the commit index back to the end of this message. */
    if (GUARD(BACK) && a->prev + n < g->r.commit_index)
        rm.append_entries.leader_commit = 0;
    return receive(g, node, m, &rm);
}

static void step_configuration(struct group *g)
{
    struct raft_event ev = group_event(RAFT_CONFIGURATION);
    ev.configuration.index = g->r.configuration_uncommitted_index;
    raft_conf_to(&g->conf, &ev.configuration.conf);
    if (group_step(g, &ev) != 0)
        group_fail(g, ERR_INTERNAL, "libraft refused a configuration");
}

/* CONF: libraft files an uncommitted configuration under the index of the message's first entry,
 * and keeps only one (N1, safety). So a change comes first in its step, one a step; and as there is
 * at most one uncommitted change in a leader's log, the one before it is committed. */
static void split_append(struct group *g, uint32_t node, const struct group_msg *m,
                         struct append *a)
{
    struct raft *r = &g->r;
    for (;;) {
        unsigned k = 0;
        while (k < a->n && (k == 0 || a->entries[k].kind != LOG_KIND_CHANGE))
            k++;
        if (k && a->entries[0].kind == LOG_KIND_CHANGE && r->state == RAFT_FOLLOWER &&
            r->current_term == m->term && r->configuration_uncommitted_index &&
            r->configuration_uncommitted_index <= a->prev && r->follower_state.match >= a->prev)
            step_configuration(g);
        if (step_append(g, node, m, a, k) != 0 || k == a->n)
            return;
        a->prev += k;
        a->prev_term = a->entries[k - 1].term;
        a->entries += k;
        a->n -= k;
        if (r->state != RAFT_FOLLOWER || r->current_term != m->term ||
            r->follower_state.match < a->prev)
            return; /* refused, or not in a state to take more */
    }
}

static void on_append(struct group *g, uint32_t node, const struct group_msg *m,
                      const struct group_msg_entry *entries)
{
    struct raft *r = &g->r;
    if (not_our_leader(g, node, m))
        return;
    struct append a = {.prev = m->append.prev_index,
                       .prev_term = m->append.prev_term,
                       .commit = m->append.commit,
                       .entries = entries,
                       .n = m->append.n};
    uint64_t snapshot = r->trail.snapshot.index;
    /* TRIM: what our snapshot covers is committed; libraft knows no terms there and would refuse or
     * append it twice (N5). */
    if (GUARD(TRIM) && a.prev < snapshot && a.prev <= r->trail.offset) {
        unsigned k = snapshot - a.prev < a.n ? (unsigned)(snapshot - a.prev) : a.n;
        a.entries += k;
        a.n -= k;
        a.prev = snapshot;
        a.prev_term = r->trail.snapshot.term;
    }
    if (GUARD(CONF))
        split_append(g, node, m, &a);
    else
        (void)step_append(g, node, m, &a, a.n);
}

static void on_append_result(struct group *g, uint32_t node, const struct group_msg *m)
{
    struct raft_message rm = message(RAFT_APPEND_ENTRIES_RESULT);
    uint64_t rejected = m->append_result.rejected, last = m->append_result.last;
    raft_index match;
    /* REJ: late and duplicate refusals would set the next index at or below the match index, which
     * libraft takes to be impossible (N4). */
    if (GUARD(REJ) && rejected && m->append_result.term == g->r.current_term &&
        raft_match_index(&g->r, m->from, &match) == 0) {
        if (rejected <= match)
            return;
        if (last < match)
            last = match;
    }
    rm.append_entries_result.version = 2;
    rm.append_entries_result.term = m->append_result.term;
    rm.append_entries_result.rejected = rejected;
    rm.append_entries_result.last_log_index = last;
    (void)receive(g, node, m, &rm);
}

/* ---- votes ---- */

/* NVOTE: a replica that is no voter by its own log must vote all the same: the change that makes it
 * one may be committed without it being here yet, and its vote be needed (N7). A leader that was
 * heard of within an election timeout keeps it from doing so. */
static bool vote_as_non_voter(struct group *g, uint32_t node, const struct group_msg *m)
{
    struct raft *r = &g->r;
    uint64_t now = now_ms(g->set);
    if (!GUARD(NVOTE) || r->state != RAFT_FOLLOWER || raft_role(r) == RAFT_VOTER ||
        r->snapshot.installing || m->vote.term < r->current_term ||
        (g->heard_ms && now - g->heard_ms < r->election_timeout && !m->vote.disrupt))
        return false;
    uint64_t last = raft_last_index(r), last_term = group_log_term_of(g->log, last);
    bool granted = m->vote.last_term > last_term ||
                   (m->vote.last_term == last_term && m->vote.last_index >= last);
    if (!m->vote.pre_vote) {
        if (m->vote.term > r->current_term) {
            r->current_term = m->vote.term;
            r->voted_for = 0;
            r->follower_state.match = 0;
        }
        granted = granted && (r->voted_for == 0 || r->voted_for == m->from);
        if (granted)
            r->voted_for = m->from;
        group_save_vote(g);
        group_set_role(g);
        group_dirty(g);
    }
    struct group_msg out = {.type = MSG_VOTE_RESULT, .to = m->from};
    out.vote_result.term = m->vote.pre_vote && granted ? m->vote.term : r->current_term;
    out.vote_result.granted = granted;
    out.vote_result.pre_vote = m->vote.pre_vote;
    group_send(g, node, &out, NULL);
    return true;
}

/* PROMISE: libraft refuses while it knows a leader; the promise holds also when it has forgotten
 * it. */
static bool may_not_vote(const struct group *g, const struct group_msg *m)
{
    const struct raft *r = &g->r;
    bool refuses = r->state == RAFT_LEADER ||
                   (r->state == RAFT_FOLLOWER && r->follower_state.current_leader.id != 0 &&
                    raft_role((struct raft *)r) == RAFT_VOTER);
    return group_promised(g) && !m->vote.disrupt && !refuses && GUARD(PROMISE);
}

static void on_vote(struct group *g, uint32_t node, const struct group_msg *m)
{
    struct raft_message rm = message(RAFT_REQUEST_VOTE);
    if (g->holiday_ms && now_ms(g->set) < g->holiday_ms) /* HOLIDAY */
        return;
    if (may_not_vote(g, m))
        return;
    if (vote_as_non_voter(g, node, m))
        return;
    rm.request_vote.version = 2;
    rm.request_vote.term = m->vote.term;
    rm.request_vote.candidate_id = m->from;
    rm.request_vote.last_log_index = m->vote.last_index;
    rm.request_vote.last_log_term = m->vote.last_term;
    rm.request_vote.disrupt_leader = m->vote.disrupt;
    rm.request_vote.pre_vote = m->vote.pre_vote;
    (void)receive(g, node, m, &rm);
}

static void on_vote_result(struct group *g, uint32_t node, const struct group_msg *m)
{
    struct raft_message rm = message(RAFT_REQUEST_VOTE_RESULT);
    /* RVR: in any other state libraft reads the pre-vote flag from another state's memory (N11). */
    if (GUARD(RVR) && g->r.state != RAFT_CANDIDATE)
        return;
    rm.request_vote_result.version = 2;
    rm.request_vote_result.term = m->vote_result.term;
    rm.request_vote_result.vote_granted = m->vote_result.granted;
    rm.request_vote_result.pre_vote = m->vote_result.pre_vote;
    (void)receive(g, node, m, &rm);
}

static void on_timeout_now(struct group *g, uint32_t node, const struct group_msg *m)
{
    struct raft_message rm = message(RAFT_TIMEOUT_NOW);
    rm.timeout_now.term = m->timeout_now.term;
    rm.timeout_now.last_log_index = m->timeout_now.last_index;
    rm.timeout_now.last_log_term = m->timeout_now.last_term;
    (void)receive(g, node, m, &rm);
}

/* ---- snapshots and pings ---- */

static void on_install(struct group *g, uint32_t node, const struct group_msg *m)
{
    const struct group_position *p = &m->install.position;
    /* INST: libraft forgets the second one's memory, and nothing could be done with it (N10). */
    if (not_our_leader(g, node, m) || (GUARD(INST) && g->r.snapshot.installing))
        return;
    struct raft_message rm = message(RAFT_INSTALL_SNAPSHOT);
    struct raft_install_snapshot *s = &rm.install_snapshot;
    s->term = m->install.term;
    s->last_index = p->index;
    s->last_term = p->term;
    s->conf_index = p->conf_index;
    raft_conf_to(&p->conf, &s->conf);
    s->data.len = m->install.manifest.n;
    s->data.base = raft_malloc(s->data.len ? s->data.len : 1);
    CHECK(s->data.base);
    if (s->data.len)
        memcpy(s->data.base, m->install.manifest.p, s->data.len);
    (void)receive(g, node, m, &rm);
}

/* Echoes the stamp if this is our term; a later term's leader has to convince libraft first. */
static void on_ping(struct group *g, uint32_t node, const struct group_msg *m)
{
    if (m->term < g->r.current_term) {
        answer_stale(g, node, m);
    } else if (m->term == g->r.current_term && !group_is_leader(g)) {
        struct group_msg out = {.type = MSG_PONG, .to = m->from};
        group_send(g, node, &out, NULL);
    }
}

/* Only the leader of a term stamps its messages. A later term's stamp counts once libraft has taken
 * that term: group_set_role() picks it up. */
static void note_stamps(struct group *g, const struct group_msg *m)
{
    if (m->stamp)
        group_take_stamp(g, m->term, m->stamp);
    if (m->echo && m->term == g->r.current_term && group_is_leader(g)) {
        struct group_peer *p = group_peer_find(g, m->from);
        if (p && m->echo > p->echo && m->echo <= io_now(g->set->io)) {
            p->echo = m->echo;
            if (!list_empty(&g->reads.pending))
                group_dirty(g);
        }
    }
}

void group_receive(struct group *g, uint32_t node, const struct group_msg *m,
                   const struct group_msg_entry *entries)
{
    if (g->broken)
        return;
    note_stamps(g, m);
    switch (m->type) {
    case MSG_APPEND:
        on_append(g, node, m, entries);
        break;
    case MSG_APPEND_RESULT:
        on_append_result(g, node, m);
        break;
    case MSG_VOTE:
        on_vote(g, node, m);
        break;
    case MSG_VOTE_RESULT:
        on_vote_result(g, node, m);
        break;
    case MSG_INSTALL:
        on_install(g, node, m);
        break;
    case MSG_TIMEOUT_NOW:
        on_timeout_now(g, node, m);
        break;
    case MSG_PING:
        on_ping(g, node, m);
        break;
    case MSG_ASK:
        group_on_ask(g, node, m);
        break;
    case MSG_ANSWER:
        group_on_answer(g, m);
        break;
    default: /* a pong: its echo was noted */
        break;
    }
}
