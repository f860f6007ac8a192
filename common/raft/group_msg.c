#include "common/raft/group_msg.h"

#include "common/base/check.h"
#include "common/raft/raft_conf.h"

#define MSG_VERSION 1

static void encode_append(const struct group_msg *m, const struct group_msg_entry *entries,
                          struct buf *out)
{
    CHECK(m->append.n <= GROUP_MSG_ENTRIES);
    buf_u64(out, m->append.prev_index);
    buf_u64(out, m->append.prev_term);
    buf_u64(out, m->append.commit);
    buf_u32(out, m->append.n);
    for (uint32_t i = 0; i < m->append.n; i++) {
        buf_u64(out, entries[i].term);
        buf_u8(out, entries[i].kind);
        buf_u32(out, (uint32_t)entries[i].payload.n);
    }
}

static uint8_t flags_of(bool one, bool two)
{
    return (uint8_t)((one ? 1 : 0) | (two ? 2 : 0));
}

void group_msg_encode(const struct group_msg *m, const struct group_msg_entry *entries,
                      struct buf *out)
{
    buf_u8(out, MSG_VERSION);
    buf_u8(out, m->type);
    buf_u64(out, m->from);
    buf_u64(out, m->to);
    buf_u64(out, m->term);
    buf_u64(out, m->stamp);
    buf_u64(out, m->echo);
    switch (m->type) {
    case MSG_APPEND:
        encode_append(m, entries, out);
        break;
    case MSG_APPEND_RESULT:
        buf_u64(out, m->append_result.term);
        buf_u64(out, m->append_result.rejected);
        buf_u64(out, m->append_result.last);
        break;
    case MSG_VOTE:
        buf_u64(out, m->vote.term);
        buf_u64(out, m->vote.last_index);
        buf_u64(out, m->vote.last_term);
        buf_u8(out, flags_of(m->vote.disrupt, m->vote.pre_vote));
        break;
    case MSG_VOTE_RESULT:
        buf_u64(out, m->vote_result.term);
        buf_u8(out, flags_of(m->vote_result.granted, m->vote_result.pre_vote));
        break;
    case MSG_INSTALL:
        buf_u64(out, m->install.term);
        group_position_encode(&m->install.position, out);
        buf_u32(out, (uint32_t)m->install.manifest.n);
        buf_append(out, m->install.manifest.p, m->install.manifest.n);
        break;
    case MSG_TIMEOUT_NOW:
        buf_u64(out, m->timeout_now.term);
        buf_u64(out, m->timeout_now.last_index);
        buf_u64(out, m->timeout_now.last_term);
        break;
    case MSG_ASK:
        buf_u64(out, m->ask.question);
        break;
    case MSG_ANSWER:
        buf_u64(out, m->answer.question);
        buf_u64(out, m->answer.index);
        break;
    default:
        CHECK(m->type == MSG_PING || m->type == MSG_PONG);
    }
}

/* The entries' terms must not fall, from prev_term to the message's term. */
static bool decode_append(struct cursor *c, struct group_msg *m, struct group_msg_entry *entries)
{
    m->append.prev_index = cursor_u64(c);
    m->append.prev_term = cursor_u64(c);
    m->append.commit = cursor_u64(c);
    m->append.n = cursor_u32(c);
    if (c->bad || m->append.n > GROUP_MSG_ENTRIES ||
        (m->append.prev_index == 0) != (m->append.prev_term == 0) ||
        m->append.prev_index > UINT64_MAX / 2)
        return false;
    uint64_t term = m->append.prev_term;
    for (uint32_t i = 0; i < m->append.n; i++) {
        struct group_msg_entry *e = &entries[i];
        e->term = cursor_u64(c);
        e->kind = cursor_u8(c);
        e->payload.n = cursor_u32(c);
        if (c->bad || e->term == 0 || e->term < term || e->payload.n > LIMIT_ENTRY ||
            e->kind < LOG_KIND_COMMAND || e->kind > LOG_KIND_CHANGE)
            return false;
        term = e->term;
    }
    if (term > m->term)
        return false;
    for (uint32_t i = 0; i < m->append.n; i++) {
        struct group_msg_entry *e = &entries[i];
        struct group_conf conf;
        e->payload = cursor_bytes(c, e->payload.n);
        if (c->bad || (e->kind == LOG_KIND_CHANGE && !raft_conf_parse(e->payload, &conf)))
            return false;
    }
    return true;
}

static bool decode_install(struct cursor *c, struct group_msg *m)
{
    m->install.term = cursor_u64(c);
    if (group_position_decode(c, &m->install.position) != ERR_OK)
        return false;
    uint32_t n = cursor_u32(c);
    if (n > LIMIT_MANIFEST)
        return false;
    m->install.manifest = cursor_bytes(c, n);
    return m->install.position.index != 0 && m->install.position.term <= m->install.term &&
           m->install.term == m->term;
}

static bool decode_body(struct cursor *c, struct group_msg *m, struct group_msg_entry *entries)
{
    uint8_t flags;
    switch (m->type) {
    case MSG_APPEND:
        return decode_append(c, m, entries);
    case MSG_APPEND_RESULT:
        m->append_result.term = cursor_u64(c);
        m->append_result.rejected = cursor_u64(c);
        m->append_result.last = cursor_u64(c);
        return m->append_result.term != 0;
    case MSG_VOTE:
        m->vote.term = cursor_u64(c);
        m->vote.last_index = cursor_u64(c);
        m->vote.last_term = cursor_u64(c);
        flags = cursor_u8(c);
        m->vote.disrupt = flags & 1;
        m->vote.pre_vote = flags & 2;
        return m->vote.term != 0 && flags <= 3;
    case MSG_VOTE_RESULT:
        m->vote_result.term = cursor_u64(c);
        flags = cursor_u8(c);
        m->vote_result.granted = flags & 1;
        m->vote_result.pre_vote = flags & 2;
        return flags <= 3;
    case MSG_INSTALL:
        return decode_install(c, m);
    case MSG_TIMEOUT_NOW:
        m->timeout_now.term = cursor_u64(c);
        m->timeout_now.last_index = cursor_u64(c);
        m->timeout_now.last_term = cursor_u64(c);
        return true;
    case MSG_ASK:
        m->ask.question = cursor_u64(c);
        return m->ask.question != 0;
    case MSG_ANSWER:
        m->answer.question = cursor_u64(c);
        m->answer.index = cursor_u64(c);
        return m->answer.question != 0 && m->answer.index != 0;
    default:
        return m->type == MSG_PING || m->type == MSG_PONG;
    }
}

enum err group_msg_decode(struct slice message, struct group_msg *out,
                          struct group_msg_entry *entries)
{
    struct cursor c = cursor_of(message);
    struct group_msg m = {0};
    uint8_t version = cursor_u8(&c);
    m.type = cursor_u8(&c);
    m.from = cursor_u64(&c);
    m.to = cursor_u64(&c);
    m.term = cursor_u64(&c);
    m.stamp = cursor_u64(&c);
    m.echo = cursor_u64(&c);
    if (c.bad || version != MSG_VERSION || m.from == 0 || m.to == 0 || m.from == m.to ||
        m.term > UINT64_MAX / 2)
        return ERR_CORRUPT;
    if (!decode_body(&c, &m, entries) || c.bad || c.left.n != 0)
        return ERR_CORRUPT;
    *out = m;
    return ERR_OK;
}
