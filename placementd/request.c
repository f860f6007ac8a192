#include "placementd/request.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/wire/mp.h"
#include "common/wire/msg_heartbeat.h"
#include "common/wire/msg_placement.h"
#include "placementd/admin.h"
#include "placementd/heartbeat.h"
#include "placementd/plan/layout.h"
#include "placementd/server.h"

#define REQUESTS_MAX 16384u
#define REQUEST_NS (5 * NS_PER_S)

enum request_kind { REQUEST_REGISTER, REQUEST_HEARTBEAT, REQUEST_INIT, REQUEST_ADMIN };

struct request {
    struct list link;
    struct group_read read;
    struct server *server;
    struct session *session; /* NULL: gone */
    enum request_kind kind;
    uint32_t msgid;
    uint64_t began;
    bool reading;         /* waits for group_read */
    uint64_t index, term; /* of the command; 0: none yet */
    unsigned rounds;      /* a heartbeat's: commands that it gave rise to were waited for */
    union {
        struct msg_register reg;
        struct msg_heartbeat heartbeat;
        struct msg_init init;
        struct admin_call admin;
    };
};

/* ---- answers ---- */

static struct buf *out_of(struct request *r)
{
    return r->session ? conn_out(r->session->conn) : NULL;
}

/* Frees it; the answer is in the connection's buffer. */
static void finish(struct request *r)
{
    if (r->reading)
        group_read_cancel(&r->read);
    if (r->session)
        session_answered(r->session);
    if (r->kind == REQUEST_HEARTBEAT)
        msg_heartbeat_close(&r->heartbeat);
    if (r->kind == REQUEST_ADMIN)
        admin_call_close(&r->admin);
    list_remove(&r->link);
    r->server->n_requests--;
    free(r);
}

static void fail(struct request *r, enum err e, const char *text)
{
    struct buf *out = out_of(r);
    if (out)
        rpc_put_error_simple(out, r->msgid, e, text);
    finish(r);
}

static void redirect(struct server *s, struct buf *out, uint32_t msgid)
{
    uint32_t leader = server_leader(s);
    /* The member itself may be the leader that has not proven it yet. */
    if (leader == s->self->id)
        leader = 0;
    msg_placement_put_not_leader(out, msgid, leader, leader ? server_client_addr(s, leader) : "");
}

void request_redirect(struct session *session, uint32_t msgid)
{
    redirect(session->server, conn_out(session->conn), msgid);
}

static void fail_not_leader(struct request *r)
{
    struct buf *out = out_of(r);
    if (out)
        redirect(r->server, out, r->msgid);
    finish(r);
}

/* ---- proposing ---- */

static void propose(struct request *r, const struct cluster_command *cmd)
{
    enum err e = fsm_propose(&r->server->fsm, cmd, &r->index, &r->term);
    if (e == ERR_NOT_LEADER)
        fail_not_leader(r);
    else if (e != ERR_OK)
        fail(r, e, NULL);
}

/* ---- node.register ---- */

static void answer_register(struct request *r, uint32_t node)
{
    struct msg_register_reply reply = {.node = node, .version = r->server->fsm.cluster.map_version};
    struct buf *out = out_of(r);
    memcpy(reply.cluster, r->server->fsm.cluster.id, 16);
    if (out)
        msg_register_reply_encode(out, r->msgid, &reply);
    finish(r);
}

static bool same_node(const struct cluster_node *n, const struct msg_register *m)
{
    return n->incarnation == m->incarnation && n->cores == m->cores &&
           strcmp(n->zone, m->zone) == 0 && strcmp(n->host, m->host) == 0 &&
           strcmp(n->client_addr, m->client_addr) == 0 && strcmp(n->peer_addr, m->peer_addr) == 0;
}

/* Two processes with one name, or two copies of one data directory: only one may be in. The other
 * one is alive if it was heard of lately and speaks from another address. */
static bool name_in_use(const struct server *s, const struct cluster_node *n,
                        const struct msg_register *m)
{
    enum liveness_state state = liveness_state(&s->live, n->id, io_now(s->io));
    return state == LIVE_UP && strcmp(n->peer_addr, m->peer_addr) != 0;
}

static void serve_register(struct request *r)
{
    struct server *s = r->server;
    const struct cluster *c = &s->fsm.cluster;
    const struct msg_register *m = &r->reg;
    char text[256];
    if (!c->founded) {
        fail(r, ERR_NOT_READY, "the cluster is being founded");
        return;
    }
    if (m->has_cluster && memcmp(m->cluster, c->id, 16) != 0) {
        recovery_knocks(&s->recovery, m, io_now(s->io));
        fail(r, ERR_FOREIGN,
             "the node's data directory belongs to another cluster: check cluster.placement, or "
             "give the node an empty data directory");
        return;
    }
    struct io_addr addr;
    if (io_addr_parse(m->client_addr, &addr) != ERR_OK ||
        io_addr_parse(m->peer_addr, &addr) != ERR_OK) {
        fail(r, ERR_BAD_REQUEST, "the node's addresses are not IP:PORT");
        return;
    }
    if (c->recovering && !m->has_cluster) {
        fail(r, ERR_NOT_READY, "the map is being recovered: new nodes have to wait");
        return;
    }
    const struct cluster_node *n = cluster_find_name(c, m->name);
    const struct cluster_node *same = m->has_cluster ? cluster_find_node(c, m->node) : NULL;
    if (same && (same->state == CLUSTER_NODE_LOST || same->state == CLUSTER_NODE_REMOVED)) {
        snprintf(text, sizeof(text),
                 "node %u was given up: its data counts no more. Empty the data directory to join "
                 "anew",
                 m->node);
        fail(r, ERR_REFUSED, text);
        return;
    }
    if (n && same_node(n, m)) {
        answer_register(r, n->id);
        return;
    }
    if (n && name_in_use(s, n, m)) {
        snprintf(text, sizeof(text),
                 "the name \"%s\" is in use by node %u at %s, which is alive: choose another "
                 "node.id, or stop that one and wait %u s",
                 m->name, n->id, n->peer_addr,
                 (unsigned)((s->live.suspect_ns + NS_PER_S - 1) / NS_PER_S));
        fail(r, ERR_EXISTS, text);
        return;
    }
    /* Not known, as the map was recovered or imported: it keeps the id that its replicas go by. */
    bool rejoins = m->has_cluster && m->node && !same;
    struct cluster_command cmd = {.kind = rejoins ? CLUSTER_CMD_REJOIN : CLUSTER_CMD_REGISTER};
    cmd.node.id = rejoins ? m->node : 0;
    cmd.node.incarnation = m->incarnation;
    cmd.node.cores = m->cores;
    memcpy(cmd.node.name, m->name, sizeof(m->name));
    memcpy(cmd.node.zone, m->zone, sizeof(m->zone));
    memcpy(cmd.node.host, m->host, sizeof(m->host));
    memcpy(cmd.node.client_addr, m->client_addr, sizeof(m->client_addr));
    memcpy(cmd.node.peer_addr, m->peer_addr, sizeof(m->peer_addr));
    propose(r, &cmd);
}

/* ---- node.heartbeat ---- */

static void on_leader_hint(void *arg, uint64_t group)
{
    struct server *s = arg;
    map_view_group(&s->view, group);
}

/* A report may prove a step, and the next one is found only once that is in the state: the answer
 * waits for the commands, so that an operator does a step a round trip and not one a report. */
#define HEARTBEAT_ROUNDS 4u

static void answer_heartbeat(struct request *r)
{
    struct server *s = r->server;
    const struct cluster *c = &s->fsm.cluster;
    struct msg_heartbeat_reply reply = {
        .version = c->map_version, .move_rate = s->settings->move_rate, .steps = s->steps};
    struct buf *out = out_of(r);
    if (out) {
        reply.n_steps = heartbeat_steps(c, &s->live, &r->heartbeat, io_now(s->io), s->steps);
        for (uint32_t i = 0; i < s->members.n && reply.n_members < LIMIT_GROUP_MEMBERS; i++) {
            const char *addr = server_client_addr(s, s->members.member[i].id);
            if (addr[0])
                snprintf(reply.member[reply.n_members++], sizeof(reply.member[0]), "%s", addr);
        }
        msg_heartbeat_reply_encode(out, r->msgid, &reply);
    }
    finish(r);
}

/* Refused: the next heartbeat gives rise to it again. */
static void propose_for_report(void *arg, const struct cluster_command *cmd)
{
    struct request *r = arg;
    uint64_t index, term;
    enum err e = fsm_propose(&r->server->fsm, cmd, &index, &term);
    if (e != ERR_OK) {
        log_debug("proposal_refused", "kind=%u error=%s", cmd->kind, err_name(e));
        return;
    }
    r->index = index;
    r->term = term;
}

static void go_on_heartbeat(struct request *r)
{
    struct server *s = r->server;
    struct driver_moment now = server_moment(s);
    uint64_t told = r->index;
    if (driver_report(&s->driver, &now, &r->heartbeat)) {
        r->index = s->driver.last_index;
        r->term = s->driver.last_term;
    }
    if (told == r->index && r->rounds > 0)
        r->index = 0;
    if (r->index == 0 || ++r->rounds > HEARTBEAT_ROUNDS)
        answer_heartbeat(r);
}

static void serve_heartbeat(struct request *r)
{
    struct server *s = r->server;
    const struct cluster *c = &s->fsm.cluster;
    const struct msg_heartbeat *h = &r->heartbeat;
    const struct cluster_node *n = cluster_find_node(c, h->node);
    if (!n || n->incarnation != h->incarnation || n->state == CLUSTER_NODE_LOST ||
        n->state == CLUSTER_NODE_REMOVED) {
        fail(r, ERR_NOT_FOUND, "no such node takes part: register again");
        return;
    }
    s->heartbeats++;
    if (c->recovering)
        recovery_heard(&s->recovery, h, io_now(s->io));
    liveness_report(&s->live, c, h, io_now(s->io), on_leader_hint, s);
    heartbeat_commands(c, h, propose_for_report, r);
    go_on_heartbeat(r);
}

/* ---- cluster.init ---- */

static uint32_t gather_nodes(const struct server *s, struct layout_node *nodes)
{
    const struct cluster *c = &s->fsm.cluster;
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        const struct cluster_node *node = &c->nodes[i];
        if (node->state == CLUSTER_NODE_IN &&
            liveness_state(&s->live, node->id, io_now(s->io)) == LIVE_UP)
            nodes[n++] = (struct layout_node){node->id, node->zone, node->host};
    }
    return n;
}

static void serve_init(struct request *r)
{
    struct server *s = r->server;
    const struct cluster *c = &s->fsm.cluster;
    char text[256] = "";
    if (c->recovering) {
        fail(r, ERR_REFUSED,
             "the map is being recovered: finish it (kvctl cluster recover), or make an empty "
             "placementd for a new cluster");
        return;
    }
    if (c->n_groups) {
        snprintf(text, sizeof(text), "the cluster is laid out already: %u groups", c->n_groups);
        fail(r, ERR_EXISTS, text);
        return;
    }
    struct layout_node *nodes = mem_alloc((c->n_nodes + 1u) * sizeof(*nodes));
    struct layout_request q = {
        .nodes = nodes,
        .groups = r->init.groups ? r->init.groups : (uint32_t)s->settings->groups,
        .replicas = r->init.replicas ? r->init.replicas : (uint32_t)s->settings->replicas,
        .allow_same_host = r->init.allow_same_host,
        .first_group = c->next_group,
        .first_replica = c->next_replica,
    };
    q.n_nodes = gather_nodes(s, nodes);
    struct cluster_command cmd = {.kind = CLUSTER_CMD_LAYOUT};
    enum err e = ERR_BAD_REQUEST;
    snprintf(text, sizeof(text), "groups must be 1 to %u", LIMIT_SLOTS);
    if (q.groups && q.groups <= LIMIT_SLOTS) {
        cmd.groups = mem_alloc(q.groups * sizeof(*cmd.groups));
        cmd.n_groups = q.groups;
        e = layout_plan(&q, cmd.groups, text, sizeof(text));
    }
    if (e == ERR_OK)
        propose(r, &cmd);
    else
        fail(r, e, text);
    cluster_command_close(&cmd);
    free(nodes);
}

static void answer_init(struct request *r)
{
    struct buf *out = out_of(r);
    const struct cluster *c = &r->server->fsm.cluster;
    if (out) {
        rpc_put_result(out, r->msgid);
        mp_put_map(out, 2);
        mp_put_pair(out, "groups", c->n_groups);
        mp_put_pair(out, "version", c->map_version);
    }
    log_info("cluster_laid_out", "groups=%u", c->n_groups);
    finish(r);
}

/* ---- admin.* ---- */

/* Either all is known, or the next of its commands is waited for. */
static void go_on_admin(struct request *r, enum err e, const char *why)
{
    struct admin_call *c = &r->admin;
    struct buf *out = out_of(r);
    if (e == ERR_NOT_LEADER) {
        fail_not_leader(r);
    } else if (e != ERR_OK) {
        fail(r, e, why[0] ? why : NULL);
    } else if (c->done < c->n_pending) {
        r->index = c->pending[c->done].index;
        r->term = c->pending[c->done].term;
    } else {
        if (out) {
            rpc_put_result(out, r->msgid);
            buf_append(out, c->result.p, c->result.n);
        }
        finish(r);
    }
}

static void serve_admin(struct request *r)
{
    struct admin_world w = server_admin_world(r->server);
    char why[256];
    enum err e = admin_serve(&w, &r->admin, why, sizeof(why));
    go_on_admin(r, e, why);
}

static void settle_admin(struct request *r, const struct cluster_result *result)
{
    struct admin_world w = server_admin_world(r->server);
    char why[256];
    enum err e = admin_on_result(&w, &r->admin, result, why, sizeof(why));
    go_on_admin(r, e, why);
}

/* ---- life ---- */

static void on_read(struct group_read *read, enum err result)
{
    struct request *r = CONTAINER_OF(read, struct request, read);
    r->reading = false;
    if (result == ERR_NOT_LEADER) {
        fail_not_leader(r);
        return;
    }
    if (result != ERR_OK) {
        fail(r, result, NULL);
        return;
    }
    switch (r->kind) {
    case REQUEST_REGISTER:
        serve_register(r);
        break;
    case REQUEST_HEARTBEAT:
        serve_heartbeat(r);
        break;
    case REQUEST_INIT:
        serve_init(r);
        break;
    case REQUEST_ADMIN:
        serve_admin(r);
        break;
    }
}

static enum err decode(struct request *r, const struct rpc_message *m)
{
    switch (r->kind) {
    case REQUEST_REGISTER:
        return msg_register_decode(m->params, &r->reg);
    case REQUEST_HEARTBEAT:
        return msg_heartbeat_decode(m->params, &r->heartbeat);
    case REQUEST_INIT:
        return msg_init_decode(m->params, &r->init);
    case REQUEST_ADMIN:
        return admin_decode(m->method, m->params, &r->admin);
    }
    return ERR_INTERNAL;
}

static bool find_method(struct slice method, enum request_kind *out)
{
    static const char *const names[] = {
        [REQUEST_REGISTER] = "node.register",
        [REQUEST_HEARTBEAT] = "node.heartbeat",
        [REQUEST_INIT] = "cluster.init",
    };
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (slice_eq(method, slice_str(names[i]))) {
            *out = (enum request_kind)i;
            return true;
        }
    }
    *out = REQUEST_ADMIN;
    return admin_is_method(method);
}

bool request_begin(struct session *session, const struct rpc_message *m)
{
    struct server *s = session->server;
    enum request_kind kind;
    struct buf *out = conn_out(session->conn);
    if (!find_method(m->method, &kind))
        return false;
    if (!fsm_leads(&s->fsm)) {
        request_redirect(session, m->msgid);
        return true;
    }
    if (s->n_requests >= REQUESTS_MAX) {
        rpc_put_error_simple(out, m->msgid, ERR_BUSY, NULL);
        return true;
    }
    struct request *r = mem_zalloc(sizeof(*r));
    r->kind = kind;
    if (decode(r, m) != ERR_OK) {
        rpc_put_error_simple(out, m->msgid, ERR_BAD_REQUEST, NULL);
        free(r);
        return true;
    }
    r->server = s;
    r->session = session;
    r->msgid = m->msgid;
    r->began = io_now(s->io);
    r->read.done = on_read;
    r->reading = true;
    session->pending++;
    list_push_back(&s->requests, &r->link);
    s->n_requests++;
    group_read(s->fsm.group, &r->read);
    return true;
}

void request_forget_session(struct session *session)
{
    LIST_FOR(l, &session->server->requests)
    {
        struct request *r = CONTAINER_OF(l, struct request, link);
        if (r->session == session)
            r->session = NULL;
    }
}

static void settle(struct request *r, const struct cluster_result *result)
{
    if (r->kind == REQUEST_HEARTBEAT)
        go_on_heartbeat(r);
    else if (r->kind == REQUEST_ADMIN)
        settle_admin(r, result);
    else if (result->err != ERR_OK)
        fail(r, result->err, result->text[0] ? result->text : NULL);
    else if (r->kind == REQUEST_REGISTER)
        answer_register(r, (uint32_t)result->value);
    else
        answer_init(r);
}

void request_on_result(struct server *s, uint64_t index, uint64_t term,
                       const struct cluster_result *result)
{
    LIST_FOR_SAFE(l, &s->requests)
    {
        struct request *r = CONTAINER_OF(l, struct request, link);
        if (r->index != index)
            continue;
        if (r->term == term)
            settle(r, result);
        else
            fail_not_leader(r); /* another leader's entry took its place: surely not applied */
        return;
    }
}

void request_expire(struct server *s)
{
    uint64_t now = io_now(s->io);
    LIST_FOR_SAFE(l, &s->requests)
    {
        struct request *r = CONTAINER_OF(l, struct request, link);
        if (now - r->began < REQUEST_NS)
            continue;
        if (r->index)
            fail(r, ERR_UNKNOWN_OUTCOME, NULL);
        else
            fail_not_leader(r);
    }
}

void request_drop_all(struct server *s)
{
    LIST_FOR_SAFE(l, &s->requests)
    {
        struct request *r = CONTAINER_OF(l, struct request, link);
        r->reading = false;
        r->session = NULL;
        finish(r);
    }
}
