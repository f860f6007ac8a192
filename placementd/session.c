#include "placementd/session.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/wire/mp.h"
#include "common/wire/msg_kv.h"
#include "common/wire/msg_placement.h"
#include "common/wire/rpc.h"
#include "placementd/request.h"
#include "placementd/server.h"
#include "placementd/status.h"

static enum err on_split(void *arg, struct slice data, size_t *n)
{
    (void)arg;
    return rpc_split(data, LIMIT_FRAME, n);
}

static const struct liveness *hints(const struct server *s)
{
    return fsm_leads(&s->fsm) ? &s->live : NULL;
}

/* The fields of every server's hello (msg_kv.h), and what tells a member of placementd: "role",
 * "leader", "leader_addr", "members" [[id, client, peer]...]. */
static void answer_hello(struct session *session, const struct rpc_message *m, struct buf *out)
{
    struct server *s = session->server;
    struct msg_hello hello;
    if (msg_hello_decode(m->params, &hello) != ERR_OK) {
        rpc_put_error_simple(out, m->msgid, ERR_BAD_REQUEST, "hello wants [{\"proto\":1}]");
        return;
    }
    if (hello.proto != RPC_PROTOCOL_VERSION) {
        rpc_put_error_simple(out, m->msgid, ERR_PROTOCOL_VERSION, "this server speaks version 1");
        return;
    }
    uint32_t leader = server_leader(s);
    rpc_put_result(out, m->msgid);
    mp_put_map(out, 12);
    mp_put_pair(out, "proto", RPC_PROTOCOL_VERSION);
    mp_put_str(out, "cluster");
    mp_put_bin(out, slice_of(s->fsm.cluster.id, 16));
    mp_put_pair(out, "node", s->self->id);
    mp_put_pair_str(out, "name", s->dir->stamp.name);
    mp_put_pair(out, "cores", 1);
    mp_put_pair(out, "core", 0);
    mp_put_pair(out, "key_max", LIMIT_KEY);
    mp_put_pair(out, "value_max", LIMIT_VALUE_DEFAULT);
    mp_put_pair_str(out, "role", "placement");
    mp_put_pair(out, "leader", leader);
    mp_put_pair_str(out, "leader_addr", leader ? server_client_addr(s, leader) : "");
    mp_put_str(out, "members");
    mp_put_array(out, s->members.n);
    for (uint32_t i = 0; i < s->members.n; i++) {
        char peer[64];
        io_addr_format(&s->members.member[i].peer, peer);
        mp_put_array(out, 3);
        mp_put_uint(out, s->members.member[i].id);
        mp_put_str(out, server_client_addr(s, s->members.member[i].id));
        mp_put_str(out, peer);
    }
}

static void answer_map(struct session *session, const struct rpc_message *m, bool watch,
                       struct buf *out)
{
    struct server *s = session->server;
    uint64_t have;
    if (msg_map_request_decode(m->params, &have) != ERR_OK) {
        rpc_put_error_simple(out, m->msgid, ERR_BAD_REQUEST, "want [{\"have\":version}?]");
        return;
    }
    if (watch)
        session->watching = true;
    rpc_put_result(out, m->msgid);
    if (have && have >= s->fsm.cluster.map_version) {
        mp_put_nil(out);
        return;
    }
    struct slice map = map_view_get(&s->view, &s->fsm.cluster, hints(s));
    buf_append(out, map.p, map.n);
}

static void on_message(void *arg, struct slice message)
{
    struct session *session = arg;
    struct rpc_message m;
    if (rpc_decode(message, &m) != ERR_OK) {
        conn_close(session->conn);
        return;
    }
    if (m.type != RPC_REQUEST)
        return;
    struct buf *out = conn_out(session->conn);
    if (slice_eq(m.method, slice_str("sys.hello"))) {
        answer_hello(session, &m, out);
    } else if (slice_eq(m.method, slice_str("map.get"))) {
        answer_map(session, &m, false, out);
    } else if (slice_eq(m.method, slice_str("map.watch"))) {
        answer_map(session, &m, true, out);
    } else if (slice_eq(m.method, slice_str("cluster.status"))) {
        rpc_put_result(out, m.msgid);
        status_encode(session->server, out);
    } else if (!request_begin(session, &m)) {
        rpc_put_error_simple(out, m.msgid, ERR_UNKNOWN_METHOD, NULL);
    } else if (session->pending >= LIMIT_CONN_REQUESTS && !session->paused) {
        session->paused = true;
        conn_pause(session->conn);
    }
}

static void on_end(void *arg, enum err why)
{
    struct session *session = arg;
    (void)why;
    request_forget_session(session);
    list_remove(&session->link);
    session->server->n_sessions--;
    free(session);
}

static const struct conn_ops ops = {
    .split = on_split,
    .on_message = on_message,
    .on_end = on_end,
};

void session_accept(struct server *s, int handle)
{
    if (s->n_sessions >= s->sessions_max || s->stopping) {
        io_handle_close(handle);
        return;
    }
    struct session *session = mem_zalloc(sizeof(*session));
    session->server = s;
    enum err e = conn_adopt(s->conns, handle, &ops, session, &session->conn);
    if (e != ERR_OK) {
        log_warn("session_refused", "error=%s", err_name(e));
        free(session);
        return;
    }
    list_push_back(&s->sessions, &session->link);
    s->n_sessions++;
}

void session_answered(struct session *session)
{
    session->pending--;
    if (session->paused && session->pending < LIMIT_CONN_REQUESTS / 2) {
        session->paused = false;
        conn_resume(session->conn);
    }
}

/* A watcher that does not read its notifications is cut off: it comes back and gets a whole map. */
static void notify(struct session *session, struct slice message)
{
    if (conn_unsent(session->conn) > LIMIT_CONN_OUT / 2 || conn_full(session->conn, message.n))
        conn_abort(session->conn);
    else
        buf_append(conn_out(session->conn), message.p, message.n);
}

void session_notify(struct server *s)
{
    if (!map_view_changed(&s->view))
        return;
    struct buf message = {0};
    LIST_FOR(l, &s->sessions)
    {
        struct session *session = CONTAINER_OF(l, struct session, link);
        if (!session->watching)
            continue;
        if (message.n == 0) {
            rpc_put_notify(&message, "map.changed");
            mp_put_array(&message, 1);
            map_view_take_piece(&s->view, &s->fsm.cluster, hints(s), &message);
        }
        notify(session, buf_slice(&message));
    }
    map_view_forget(&s->view);
    buf_close(&message);
}
