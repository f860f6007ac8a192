/* Messages out: libraft's and our own, held back while term or vote are not durable.
 *
 * AppendEntries. libraft names a range of entries, the driver fills them in. What fits one message
 * and is in memory goes at once. The rest becomes a stream: a range that is sent piece by piece as
 * the WAL gives payloads back. It ends when the term or the role changes, when the log was cut past
 * it, or when libraft goes back to an earlier index. While a stream runs libraft's later messages
 * only extend it, and its heartbeats go out "neutral" (from index 0, without claims): one that
 * names entries still in the stream would be refused and restart the replication.
 *
 * Everything may be lost; libraft repeats what it needs. */
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/raft/group_internal.h"

struct held_message {
    struct list link;
    uint64_t after; /* lsn that must be durable */
    uint32_t node;
    size_t n;
    uint8_t data[];
};

/* ---- holding back ---- */

static bool must_hold(const struct group *g)
{
    return g->hold >= wal_durable_lsn(g->set->wal) && !GROUP_BUG(BUG_VOTE_NOT_HELD) && g->hold != 0;
}

static void hold_message(struct group *g, uint32_t node, const struct slice *parts, unsigned n)
{
    size_t size = 0;
    for (unsigned i = 0; i < n; i++)
        size += parts[i].n;
    if (g->held_bytes + size > GROUP_HELD_BYTES)
        return; /* lost, as on a network */
    struct held_message *h = mem_alloc(sizeof *h + size);
    *h = (struct held_message){.after = g->hold, .node = node, .n = size};
    size_t at = 0;
    for (unsigned i = 0; i < n; i++) {
        if (parts[i].n)
            memcpy(h->data + at, parts[i].p, parts[i].n);
        at += parts[i].n;
    }
    list_push_back(&g->held, &h->link);
    g->held_bytes += size;
    if (list_empty(&g->holding))
        list_push_back(&g->set->holding, &g->holding);
}

static void pass_on(struct group *g, uint32_t node, const struct slice *parts, unsigned n)
{
    g->set->stats.messages_out++;
    g->set->o.send(g->set->o.arg, node, g->id, parts, n);
}

void group_release_held(struct group *g, uint64_t durable_lsn)
{
    struct list *item;
    while ((item = list_first(&g->held))) {
        struct held_message *h = CONTAINER_OF(item, struct held_message, link);
        if (h->after >= durable_lsn)
            return;
        struct slice message = slice_of(h->data, h->n);
        list_remove(item);
        g->held_bytes -= h->n;
        pass_on(g, h->node, &message, 1);
        free(h);
    }
    list_remove(&g->holding);
}

void group_drop_held(struct group *g)
{
    struct list *item;
    while ((item = list_pop_front(&g->held)))
        free(CONTAINER_OF(item, struct held_message, link));
    g->held_bytes = 0;
}

struct group_peer *group_peer_find(struct group *g, uint64_t replica)
{
    for (unsigned i = 0; i < g->peers; i++)
        if (g->peer[i].replica == replica)
            return &g->peer[i];
    return NULL;
}

void group_send(struct group *g, uint32_t node, struct group_msg *m,
                const struct group_msg_entry *entries)
{
    struct group_set *s = g->set;
    struct slice parts[GROUP_MSG_ENTRIES + 1];
    unsigned n = 1;
    m->from = g->replica;
    m->term = g->r.current_term;
    m->stamp = group_is_leader(g) ? io_now(s->io) : 0;
    m->echo = group_is_leader(g) ? 0 : g->echo;
    buf_clear(&s->scratch);
    group_msg_encode(m, entries, &s->scratch);
    parts[0] = buf_slice(&s->scratch);
    for (uint32_t i = 0; m->type == MSG_APPEND && i < m->append.n; i++)
        if (entries[i].payload.n)
            parts[n++] = entries[i].payload;
    struct group_peer *p = m->stamp ? group_peer_find(g, m->to) : NULL;
    if (p && (m->type == MSG_APPEND || m->type == MSG_PING))
        p->sent_stamp = m->stamp;
    if (must_hold(g))
        hold_message(g, node, parts, n);
    else
        pass_on(g, node, parts, n);
}

/* ---- AppendEntries ---- */

static void send_append(struct group *g, struct group_peer *p, const struct raft_append_entries *a,
                        const struct group_msg_entry *entries, unsigned n)
{
    struct group_msg m = {.type = MSG_APPEND, .to = p->replica};
    m.append.prev_index = a->prev_log_index;
    m.append.prev_term = a->prev_log_term;
    m.append.commit = a->leader_commit;
    m.append.n = n;
    uint64_t end = a->prev_log_index + n;
    uint64_t told = a->leader_commit < end ? a->leader_commit : end;
    if (told > p->told)
        p->told = told;
    p->sent_ms = now_ms(g->set);
    p->sent_prev = a->prev_log_index;
    group_send(g, p->node, &m, entries);
}

/* Keeps the follower loyal and says nothing about its log. */
static void send_neutral(struct group *g, struct group_peer *p)
{
    struct raft_append_entries a = {.prev_log_index = 0};
    send_append(g, p, &a, NULL, 0);
}

/* Else a follower would learn with the next entry, or heartbeat, that it may apply `index`. */
void group_tell_commit(struct group *g, struct group_peer *p, uint64_t index)
{
    uint64_t match = group_match(g, p->replica);
    uint64_t term = group_log_term_of(g->log, match);
    struct raft_append_entries a = {
        .prev_log_index = match, .prev_log_term = term, .leader_commit = g->r.commit_index};
    if (p->told < index && match >= index && term != 0)
        send_append(g, p, &a, NULL, 0);
}

static bool streaming(const struct group_peer *p)
{
    return p->stream.next <= p->stream.end;
}

/* Sends one message's worth from the stream; its bytes, 0 if nothing could be sent. */
static uint64_t send_piece(struct group *g, struct group_peer *p)
{
    struct group_msg_entry *entries = g->set->entries;
    struct group_stream *st = &p->stream;
    uint64_t bytes = 0;
    unsigned n = 0;
    uint64_t term = st->prev_term;
    for (uint64_t i = st->next; i <= st->end && n < GROUP_MSG_ENTRIES; i++) {
        const struct log_entry *e = group_log_find(g->log, i);
        struct slice payload;
        if (!e || !group_log_payload(g->log, i, &payload) ||
            (n && bytes + payload.n > LIMIT_APPEND_BYTES))
            break;
        entries[n++] = (struct group_msg_entry){e->term, e->kind, payload};
        bytes += payload.n + 64;
        term = e->term;
    }
    if (n == 0)
        return 0;
    struct raft_append_entries a = {.prev_log_index = st->next - 1,
                                    .prev_log_term = st->prev_term,
                                    .leader_commit = g->r.commit_index};
    st->next += n;
    st->prev_term = term;
    send_append(g, p, &a, entries, n);
    return bytes;
}

static void pump_peer(struct group *g, struct group_peer *p, uint64_t quota)
{
    struct group_stream *st = &p->stream;
    uint64_t sent = 0;
    while (streaming(p)) {
        if (st->next < group_log_first(g->log) || st->next > group_log_last(g->log)) {
            p->wants_snapshot = st->next < group_log_first(g->log);
            st->end = 0;
            group_dirty(g);
            return;
        }
        if (sent >= quota) {
            group_later(g);
            return;
        }
        uint64_t bytes = send_piece(g, p);
        if (bytes == 0) {
            if (!group_log_load(g->log, st->next, st->end))
                group_later(g);
            return;
        }
        sent += bytes;
    }
}

void group_pump(struct group *g)
{
    for (unsigned i = 0; group_is_leader(g) && i < g->peers; i++)
        if (streaming(&g->peer[i]))
            pump_peer(g, &g->peer[i], GROUP_STREAM_BYTES);
}

static void append_out(struct group *g, struct group_peer *p, const struct raft_append_entries *a)
{
    struct group_stream *st = &p->stream;
    uint64_t next = a->prev_log_index + 1;
    /* BLANK: libraft takes a follower without any log for one that lacks nothing while our log
     * begins right behind index 1, and never sends it a snapshot. */
    bool blank = a->prev_log_index == 0 && group_log_first(g->log) > 1 && GUARD(BLANK);
    if (blank || (a->n_entries && next < group_log_first(g->log))) {
        p->wants_snapshot = true;
        send_neutral(g, p);
        return;
    }
    if (a->n_entries == 0) {
        /* N13: a full window gives the same empty message at each submission: heartbeats are
         * enough. A probe is empty, too, but moves with each refusal. */
        bool again = a->prev_log_index == p->sent_prev && a->prev_log_index < group_last_index(g);
        if (again && p->sent_ms + g->set->o.heartbeat_ms / 2 > now_ms(g->set))
            return;
        if (streaming(p))
            send_neutral(g, p);
        else
            send_append(g, p, a, NULL, 0);
        return;
    }
    if (streaming(p) && next == st->end + 1) {
        st->end += a->n_entries;
        return; /* goes on in group_work() */
    }
    *st = (struct group_stream){
        .next = next, .end = a->prev_log_index + a->n_entries, .prev_term = a->prev_log_term};
    pump_peer(g, p, GROUP_STREAM_BYTES);
}

/* ---- the rest of libraft's messages ---- */

static void vote_result_out(struct group *g, const struct raft_request_vote_result *v,
                            struct group_msg *m)
{
    m->type = MSG_VOTE_RESULT;
    m->vote_result.term = v->term;
    m->vote_result.granted = v->vote_granted;
    m->vote_result.pre_vote = v->pre_vote;
    /* PVTERM: libraft hides our higher term behind the candidate's, which then asks for ever. */
    if (GUARD(PVTERM) && v->pre_vote && !v->vote_granted && v->term < g->r.current_term)
        m->vote_result.term = g->r.current_term;
}

static void message_out(struct group *g, const struct raft_message *rm)
{
    struct group_msg m = {.to = rm->server_id};
    struct group_peer *p = group_peer_find(g, rm->server_id);
    switch (rm->type) {
    case RAFT_APPEND_ENTRIES:
        if (p)
            append_out(g, p, &rm->append_entries);
        return;
    case RAFT_INSTALL_SNAPSHOT:
        if (p)
            p->wants_snapshot = true; /* the owner makes one, then group_offer_snapshot() */
        return;
    case RAFT_APPEND_ENTRIES_RESULT:
        m.type = MSG_APPEND_RESULT;
        m.append_result.term = rm->append_entries_result.term;
        m.append_result.rejected = rm->append_entries_result.rejected;
        m.append_result.last = rm->append_entries_result.last_log_index;
        break;
    case RAFT_REQUEST_VOTE:
        m.type = MSG_VOTE;
        m.vote.term = rm->request_vote.term;
        m.vote.last_index = rm->request_vote.last_log_index;
        m.vote.last_term = rm->request_vote.last_log_term;
        m.vote.disrupt = rm->request_vote.disrupt_leader;
        m.vote.pre_vote = rm->request_vote.pre_vote;
        break;
    case RAFT_REQUEST_VOTE_RESULT:
        vote_result_out(g, &rm->request_vote_result, &m);
        break;
    case RAFT_TIMEOUT_NOW:
        m.type = MSG_TIMEOUT_NOW;
        m.timeout_now.term = rm->timeout_now.term;
        m.timeout_now.last_index = rm->timeout_now.last_log_index;
        m.timeout_now.last_term = rm->timeout_now.last_log_term;
        break;
    default:
        return;
    }
    group_send(g, raft_address_node(rm->server_address), &m, NULL);
}

void group_send_update(struct group *g, const struct raft_update *u)
{
    for (unsigned i = 0; i < u->messages.n; i++)
        message_out(g, &u->messages.batch[i]);
}

/* ---- read-backs ---- */

void group_on_loaded(void *arg, enum err result, uint64_t index)
{
    struct group *g = arg;
    group_dirty(g);
    if (result == ERR_OK || g->broken)
        return;
    /* Entries kept for laggards only may go with their segment. */
    if (result == ERR_NOT_FOUND && index <= g->durable.index)
        group_log_drop(g->log, index);
    else
        group_fail(g, result, "an entry could not be read back from the WAL");
}

/* ---- ReadIndex rounds ---- */

uint64_t group_confirmed(struct group *g)
{
    uint64_t stamps[LIMIT_GROUP_MEMBERS];
    unsigned n = 0;
    const struct group_member *self = group_conf_find(&g->conf, g->replica);
    if (GROUP_BUG(BUG_READ_LOCAL))
        return UINT64_MAX;
    if (!group_is_leader(g))
        return 0;
    if (self && self->role == GROUP_VOTER)
        stamps[n++] = UINT64_MAX;
    for (unsigned i = 0; i < g->peers; i++)
        if (g->peer[i].voter)
            stamps[n++] = g->peer[i].echo;
    return read_index_majority(stamps, n);
}

void group_ping(struct group *g)
{
    uint64_t wanted = read_index_wanted(&g->reads, group_confirmed(g));
    uint64_t now = now_ms(g->set);
    if (!follower_read_empty(&g->follower))
        group_ask(g);
    if (list_empty(&g->reads.pending)) {
        if (follower_read_empty(&g->follower))
            list_remove(&g->reading);
        g->ping_ms = 0;
        return;
    }
    if (wanted == 0)
        return; /* confirmed, not applied yet */
    bool again = g->ping_ms && now >= g->ping_ms + GROUP_PING_MS, sent = false;
    for (unsigned i = 0; i < g->peers; i++) {
        struct group_peer *p = &g->peer[i];
        if (!p->voter || p->echo >= wanted || (p->sent_stamp >= wanted && !again))
            continue;
        struct group_msg m = {.type = MSG_PING, .to = p->replica};
        group_send(g, p->node, &m, NULL);
        sent = true;
    }
    if (sent)
        g->set->stats.read_rounds++;
    if (sent || g->ping_ms == 0) {
        g->ping_ms = now;
        group_schedule(g);
    }
}
