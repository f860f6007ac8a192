#include "placementd/server_members.h"

#include <stdio.h>

#include "common/base/crc32c.h"
#include "common/base/log.h"
#include "common/io/fs.h"
#include "placementd/member_apply.h"

#define HEARD_NS (2 * NS_PER_S)
#define NOTICE_NS (1 * NS_PER_S)

static const struct group_conf *conf_of(const struct server *s)
{
    return &group_applied(s->fsm.group)->conf;
}

/* ---- links ---- */

static bool on_resolve(void *arg, uint32_t node, struct io_addr *out)
{
    struct server *s = arg;
    const struct member *m = members_find_any(&s->members, node);
    const struct cluster_member *gone = m ? NULL : member_find_removed(&s->fsm.cluster, node);
    if (m && m->peer.port)
        *out = m->peer;
    return (m && m->peer.port) || (gone && io_addr_parse(gone->peer_addr, out) == ERR_OK);
}

void server_members_marker(const struct server *s, char *out, size_t n)
{
    snprintf(out, n, "%s/removed", s->dir->path);
}

/* Another cluster's word does not count, unless we have no state yet. */
static void on_verdict(struct server *s, uint32_t from, const struct members_verdict *v)
{
    const struct cluster *c = &s->fsm.cluster;
    char path[4096];
    bool ours = c->founded && memcmp(v->cluster, c->id, 16) == 0;
    if (s->removed || (v->wiped ? c->founded : conf_of(s)->n && !ours))
        return;
    log_error("removed", "member=%u from=%u text=\"%s; its data directory can be deleted\"",
              s->self->id, from,
              v->wiped
                  ? "the data directory of this member was wiped, and it may have voted before: "
                    "add a new one under a new id (kvctl cluster member add), then remove it"
                  : "this member was removed from placementd: do not start it again");
    s->removed = true;
    server_members_marker(s, path, sizeof(path));
    if (fs_write_file(path, slice_str(v->wiped ? "wiped\n" : "removed\n")) != ERR_OK)
        log_warn("removed_not_marked", "path=%s", path);
    server_stop(s);
}

/* At most one a second: it knocks often, and others tell it too. */
static void notice(struct server *s, uint32_t id, bool wiped)
{
    struct buf b = {0};
    if (s->noticed && io_now(s->io) - s->noticed < NOTICE_NS)
        return;
    s->noticed = io_now(s->io);
    members_notice(s->fsm.cluster.id, wiped, &b);
    struct slice part = buf_slice(&b);
    peer_send(s->peers, id, MEMBERS_ANNOUNCE_GROUP, &part, 1);
    buf_close(&b);
}

static void on_peer_message(void *arg, uint32_t from, uint64_t group, struct slice message)
{
    struct server *s = arg;
    const struct member *m = members_find_any(&s->members, from);
    struct members_verdict verdict = {0};
    enum err e = ERR_OK;
    if (s->leaving)
        return; /* the log has to come to rest */
    if (!m && member_find_removed(&s->fsm.cluster, from)) {
        notice(s, from, false); /* its link is older than its removal */
        return;
    }
    if (group == MEMBERS_ANNOUNCE_GROUP)
        e = members_take(&s->members, from, message, io_now(s->io), &verdict);
    else if (m && members_is_heard(m, conf_of(s), &s->fsm.cluster))
        e = group_set_receive(s->groups, from, group, message);
    if (e != ERR_OK && e != ERR_NOT_FOUND)
        log_warn("peer_message_refused", "from=%u error=%s", from, err_name(e));
    if (e == ERR_OK && verdict.out)
        on_verdict(s, from, &verdict);
}

static void refuse(struct server *s, struct conn *c, const struct peer_hello *hello,
                   const char *reason)
{
    struct member *m = members_find_any(&s->members, hello->node);
    if (!m || m->refused != hello->incarnation)
        log_warn("peer_refused", "member=%u reason=\"%s\"", hello->node, reason);
    if (m)
        m->refused = hello->incarnation; /* it will knock again and again */
    conn_abort(c);
}

/* A member that comes with another data directory than the one it had may have voted with the old
 * one: its voice does not count. One that was removed must not disturb; it is told. */
static void on_peer_hello(void *arg, struct conn *c, const struct peer_hello *hello)
{
    struct server *s = arg;
    const struct cluster *state = &s->fsm.cluster;
    const struct cluster_member *known = cluster_find_member(&s->fsm.cluster, hello->node);
    bool in_group = group_conf_find(conf_of(s), hello->node) != NULL;
    if (hello->purpose != PEER_RAFT) {
        refuse(s, c, hello, "no link of Raft");
    } else if (!known && member_find_removed(state, hello->node)) {
        conn_abort(c);
        notice(s, hello->node, false);
    } else if (known && known->incarnation && known->incarnation != hello->incarnation) {
        refuse(s, c, hello, "its data directory was wiped: add it under a new id");
        notice(s, hello->node, true);
    } else if (!known && !in_group && conf_of(s)->n && hello->node < state->next_member &&
               state->n_members) {
        refuse(s, c, hello, "it was removed");
    } else {
        if (!members_find(&s->members, hello->node))
            (void)members_stranger(&s->members, hello->node);
        peer_take(s->peers, c, hello);
    }
}

/* The peers' handshake carries 16 bytes that must agree. The cluster's real id is drawn by the
 * group itself, so the group goes by its configured name. */
static void peer_cluster(const char *name, uint8_t out[16])
{
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t crc = crc32c(i + 1, name, strlen(name));
        memcpy(out + 4 * i, &crc, 4);
    }
}

void server_members_open(struct server *s)
{
    struct peer_set_options o = {
        .io = s->io,
        .conns = s->conns,
        .self = {.node = s->self->id, .incarnation = s->dir->stamp.incarnation},
        .arg = s,
        .resolve = on_resolve,
        .on_message = on_peer_message,
        .on_hello = on_peer_hello,
    };
    peer_cluster(s->settings->cluster_name, o.self.cluster);
    s->peers = peer_set_create(&o);
}

static void announce(struct server *s)
{
    struct buf b = {0};
    members_announce(s->self, s->fsm.cluster.id, conf_of(s)->n == 0, &b);
    struct slice part = buf_slice(&b);
    for (uint32_t i = 0; i < s->members.n; i++)
        if (&s->members.member[i] != s->self)
            peer_send(s->peers, s->members.member[i].id, MEMBERS_ANNOUNCE_GROUP, &part, 1);
    /* One that waits to be added may know those that are there now by their knocking alone. */
    for (uint32_t i = 0; i < s->members.n_strangers; i++)
        if (s->members.stranger[i].peer.port)
            peer_send(s->peers, s->members.stranger[i].id, MEMBERS_ANNOUNCE_GROUP, &part, 1);
    buf_close(&b);
}

void server_members_follow(struct server *s)
{
    uint32_t self = s->self->id;
    struct members old = s->members;
    if (!members_follow(&s->members, self, &s->fsm.cluster, conf_of(s))) {
        s->self = members_find(&s->members, self);
        return;
    }
    s->self = members_find(&s->members, self);
    log_info("members", "count=%u", s->members.n);
    if (s->fsm.group)
        fsm_save_soon(&s->fsm);
    for (uint32_t i = 0; i < old.n; i++) {
        char was[64], is[64];
        const struct member *m = members_find(&s->members, old.member[i].id);
        if (!m || m == s->self)
            continue;
        io_addr_format(&old.member[i].peer, was);
        io_addr_format(&m->peer, is);
        if (strcmp(was, is) != 0)
            peer_forget(s->peers, m->id);
    }
}

/* ---- the leader ---- */

/* Puts what members say of themselves into the state, so that all know it, also after restarts:
 * those that are listed, and those of the first configuration. */
static void record(struct server *s)
{
    for (uint32_t i = 0; i < s->members.n; i++) {
        const struct member *m = &s->members.member[i];
        const struct cluster_member *known = cluster_find_member(&s->fsm.cluster, m->id);
        struct cluster_command cmd = {.kind = CLUSTER_CMD_MEMBER};
        if (!known && !group_conf_find(conf_of(s), m->id))
            continue;
        if (known && known->incarnation && m->incarnation && known->incarnation != m->incarnation)
            continue;
        cmd.member.id = m->id;
        cmd.member.incarnation = m->incarnation;
        memcpy(cmd.member.client_addr, m->client_addr, sizeof(m->client_addr));
        io_addr_format(&m->peer, cmd.member.peer_addr);
        bool same = known && (m->incarnation == 0 || known->incarnation == m->incarnation) &&
                    (!m->client_addr[0] || strcmp(known->client_addr, m->client_addr) == 0) &&
                    strcmp(known->peer_addr, cmd.member.peer_addr) == 0;
        if (!same)
            server_propose(s, &cmd);
    }
}

const struct membership *server_membership(struct server *s)
{
    struct membership *v = &s->membership;
    uint64_t now = io_now(s->io);
    *v = (struct membership){.c = &s->fsm.cluster, .conf = conf_of(s), .self = s->self->id};
    v->changing = group_changing(s->fsm.group) ||
                  group_commit_index(s->fsm.group) > group_applied(s->fsm.group)->index;
    /* Those of earlier terms are known: the read before each request has applied them. */
    v->leave_due = s->leave_term == group_term(s->fsm.group) &&
                   s->leave_index > group_applied(s->fsm.group)->index;
    for (uint32_t i = 0; i < s->members.n; i++) {
        const struct member *m = &s->members.member[i];
        uint64_t match = group_match(s->fsm.group, m->id);
        v->seen[v->n++] = (struct membership_seen){
            .id = m->id,
            .heard = m == s->self || (m->heard && now - m->heard < HEARD_NS),
            .blank = m->blank,
            .caught =
                match && match + LIMIT_RAFT_INFLIGHT_ENTRIES >= group_last_index(s->fsm.group),
        };
    }
    return v;
}

static void bring_on(struct server *s)
{
    struct membership_step step;
    struct cluster_command cmd = {.kind = CLUSTER_CMD_MEMBER_REMOVE};
    enum err e = ERR_OK;
    if (group_transferring(s->fsm.group))
        return;
    membership_next(server_membership(s), &step);
    switch (step.kind) {
    case MEMBERSHIP_CHANGE:
        e = group_change(s->fsm.group, &step.conf);
        break;
    case MEMBERSHIP_HANDOVER:
        e = group_transfer(s->fsm.group, 0);
        break;
    case MEMBERSHIP_FORGET:
        cmd.member.id = step.id;
        server_propose(s, &cmd);
        break;
    case MEMBERSHIP_NOTHING:
        return;
    }
    if (e == ERR_OK)
        log_info("membership", "step=%d member=%u", (int)step.kind, step.id);
}

void server_members_turn(struct server *s)
{
    const struct group_position *p = group_applied(s->fsm.group);
    if (p->conf_index == s->conf_index)
        return;
    s->conf_index = p->conf_index;
    server_members_follow(s);
    fsm_save_soon(&s->fsm);
    if (fsm_leads(&s->fsm) && !s->stopping)
        bring_on(s);
}

void server_members_tick(struct server *s)
{
    server_members_follow(s);
    if (s->ticks < 20 || s->ticks % 5 == 0)
        announce(s);
    if (!fsm_leads(&s->fsm) || s->stopping)
        return;
    if (s->ticks % 5 == 0 && s->fsm.cluster.founded)
        record(s);
    bring_on(s);
}
