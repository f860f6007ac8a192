#include "shardd/session.h"

#include <stdlib.h>
#include <stdio.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/wire/mp.h"
#include "common/wire/msg_map.h"
#include "common/wire/rpc.h"
#include "shardd/core.h"
#include "shardd/scan.h"

static void session_free(struct session *s)
{
    while (!list_empty(&s->requests)) {
        struct request *r = CONTAINER_OF(list_pop_front(&s->requests), struct request, in_session);
        r->session = NULL; /* goes on; its answer is dropped */
    }
    map_remove(&s->core->session_by_id, s->id);
    list_remove(&s->link);
    free(s);
}

static enum err on_split(void *arg, struct slice data, size_t *n)
{
    (void)arg;
    return rpc_split(data, LIMIT_FRAME, n);
}

static void on_malformed(void *arg, enum err why)
{
    struct session *s = arg;
    rpc_put_error_simple(conn_out(s->conn), 0, why,
                         why == ERR_TOO_LARGE ? "message over the size limit; closing"
                                              : "not MessagePack-RPC; closing");
}

static void on_end(void *arg, enum err why)
{
    (void)why;
    struct session *s = arg;
    s->conn = NULL;
    session_free(s);
}

/* A socket on its way to the core that its client asked for. */
struct handover {
    struct io_mail mail;
    struct session *session; /* until detached */
    uint32_t msgid;
    int handle;
    unsigned to;
    struct buf rest;
    char client[64];
};

static void handover_deliver(struct io_mail *mail, void *receiver)
{
    struct handover *h = CONTAINER_OF(mail, struct handover, mail);
    session_accept(receiver, h->handle, buf_slice(&h->rest), true, h->msgid, h->client);
    buf_close(&h->rest);
    free(h);
}

static void on_detached(void *arg, int handle, struct slice rest)
{
    struct handover *h = arg;
    struct core *core = h->session->core;
    session_free(h->session);
    h->session = NULL;
    if (handle < 0) {
        free(h);
        return;
    }
    h->handle = handle;
    buf_append(&h->rest, rest.p, rest.n);
    h->mail.deliver = handover_deliver;
    io_post(core->node->core[h->to]->io, &h->mail);
}

static void greet(struct session *s, uint32_t msgid)
{
    const struct core *c = s->core;
    struct msg_hello_reply reply = {.proto = RPC_PROTOCOL_VERSION,
                                    .node = c->node_id,
                                    .cores = c->node->options.cores,
                                    .core = c->number,
                                    .key_max = c->key_max,
                                    .value_max = c->value_max,
                                    .time_ms = io_wall_ms(c->io),
                                    .retain_ms = node_session_retention(c->node)};
    memcpy(reply.cluster, c->cluster, sizeof reply.cluster);
    snprintf(reply.name, sizeof reply.name, "%s", c->node->options.name);
    snprintf(reply.zone, sizeof reply.zone, "%s", c->node->options.zone);
    msg_hello_reply_encode(conn_out(s->conn), msgid, &reply);
}

static void handle_hello(struct session *s, const struct rpc_message *m)
{
    struct msg_hello hello;
    if (msg_hello_decode(m->params, &hello) != ERR_OK) {
        rpc_put_error_simple(conn_out(s->conn), m->msgid, ERR_BAD_REQUEST,
                             "sys.hello takes [{\"proto\":1}]");
        return;
    }
    if (hello.proto != RPC_PROTOCOL_VERSION) {
        rpc_put_error_simple(conn_out(s->conn), m->msgid, ERR_PROTOCOL_VERSION,
                             "this node speaks protocol version 1");
        return;
    }
    snprintf(s->client, sizeof s->client, "%s", hello.client);
    unsigned to = hello.has_core ? hello.core % s->core->node->options.cores : s->core->number;
    bool first = !s->greeted && s->n_requests == 0 && conn_unsent(s->conn) == 0;
    s->greeted = true;
    if (to == s->core->number || !first) {
        greet(s, m->msgid);
        return;
    }
    struct handover *h = mem_zalloc(sizeof *h);
    h->session = s;
    h->msgid = m->msgid;
    h->to = to;
    memcpy(h->client, s->client, sizeof h->client);
    conn_detach(s->conn, on_detached, h);
    s->conn = NULL; /* from now on nobody may write to it or close it */
}

/* The version that a map.get or map.watch caller has already. */
static uint64_t have_version(struct slice params)
{
    struct mp_reader r = mp_reader_of(params);
    uint64_t have = 0;
    if (mp_get_array(&r) < 1 || mp_peek(&r) != MP_MAP)
        return 0;
    for (uint32_t n = mp_get_map(&r); n > 0 && !r.bad; n--) {
        struct slice name = mp_get_str(&r);
        if (slice_eq(name, slice_str("have")))
            have = mp_get_uint(&r);
        else
            mp_skip(&r);
    }
    return r.bad ? 0 : have;
}

static void handle_map(struct session *s, const struct rpc_message *m, bool watch)
{
    struct buf *out = conn_out(s->conn);
    const struct shard_map *map = &s->core->map;
    if (map->version == 0) {
        rpc_put_error_simple(out, m->msgid, ERR_NOT_READY,
                             "this node has no shard map yet: is the cluster initialised?");
        return;
    }
    if (watch)
        s->watching = true;
    rpc_put_result(out, m->msgid);
    if (have_version(m->params) >= map->version)
        mp_put_nil(out);
    else
        msg_map_encode(out, map);
}

void session_map_changed(struct core *core)
{
    LIST_FOR(item, &core->sessions)
    {
        struct session *s = CONTAINER_OF(item, struct session, link);
        if (!s->watching || !s->conn || conn_unsent(s->conn) > LIMIT_CONN_OUT / 2)
            continue;
        struct buf *out = conn_out(s->conn);
        rpc_put_notify(out, "map.changed");
        mp_put_array(out, 1);
        msg_map_encode(out, &core->map);
    }
}

static const char *usage_of(enum kv_method method)
{
    switch (method) {
    case KV_METHOD_PUT:
        return "kv.put takes [key, value, {options}?]";
    case KV_METHOD_INCR:
        return "kv.incr takes [key, delta, {options}?]";
    case KV_METHOD_MGET:
        return "kv.mget takes [[key...], {options}?], 1 to 1024 keys";
    case KV_METHOD_BATCH:
        return "kv.batch takes [[op...], {options}?], 1 to 1024 ops";
    default:
        return "this takes [key, {options}?]";
    }
}

static void handle_kv(struct session *s, const struct rpc_message *m, enum kv_method method,
                      struct slice raw)
{
    struct msg_kv_request kv;
    if (msg_kv_decode(method, m->params, &kv) != ERR_OK) {
        rpc_put_error_simple(conn_out(s->conn), m->msgid, ERR_BAD_REQUEST, usage_of(method));
        return;
    }
    router_dispatch(s->core, s, 0, 0, m->msgid, &kv, raw);
    if (s->n_requests >= LIMIT_CONN_REQUESTS && !s->paused) {
        s->paused = true;
        conn_pause(s->conn);
    }
}

static bool is_method(struct slice method, const char *name, size_t n)
{
    return method.n == n && memcmp(method.p, name, n) == 0;
}
#define IS(m, name) is_method((m)->method, name, sizeof(name) - 1)

static void on_message(void *arg, struct slice message)
{
    struct session *s = arg;
    struct rpc_message m;
    if (rpc_decode_split(message, &m) != ERR_OK) {
        rpc_put_error_simple(conn_out(s->conn), 0, ERR_BAD_REQUEST, "not MessagePack-RPC; closing");
        conn_close(s->conn);
        return;
    }
    if (m.type != RPC_REQUEST)
        return; /* notifications that are not known are ignored */
    enum kv_method method;
    if (request_method(m.method, &method))
        handle_kv(s, &m, method, message);
    else if (IS(&m, "sys.hello"))
        handle_hello(s, &m);
    else if (IS(&m, "map.get"))
        handle_map(s, &m, false);
    else if (IS(&m, "map.watch"))
        handle_map(s, &m, true);
    else if (IS(&m, "admin.scan"))
        scan_handle(s, &m);
    else
        rpc_put_error_simple(conn_out(s->conn), m.msgid, ERR_UNKNOWN_METHOD, NULL);
}

static const struct conn_ops session_conn_ops = {
    .split = on_split,
    .on_message = on_message,
    .on_malformed = on_malformed,
    .on_end = on_end,
};

void session_accept(struct core *core, int handle, struct slice rest, bool greeted,
                    uint32_t hello_msgid, const char *client)
{
    if (conn_set_count(core->conns) >= LIMIT_CONNECTIONS || core->draining) {
        io_handle_close(handle);
        return;
    }
    struct session *s = mem_zalloc(sizeof *s);
    s->core = core;
    s->id = ++core->next_session;
    s->greeted = greeted;
    list_init(&s->requests);
    list_push_back(&core->sessions, &s->link);
    map_set(&core->session_by_id, s->id, s);
    snprintf(s->client, sizeof s->client, "%s", client ? client : "");
    if (conn_adopt(core->conns, handle, &session_conn_ops, s, &s->conn) != ERR_OK) {
        s->conn = NULL;
        session_free(s);
        return;
    }
    if (greeted)
        greet(s, hello_msgid);
    if (rest.n > 0)
        conn_feed(s->conn, rest);
}

void session_answered(struct session *s)
{
    CHECK(s->n_requests > 0);
    s->n_requests--;
    if (s->paused && s->conn && s->n_requests <= LIMIT_CONN_REQUESTS / 2) {
        s->paused = false;
        conn_resume(s->conn);
    }
}
