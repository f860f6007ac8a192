#include "client/kvadmin.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/kvadmin_decode.h"
#include "client/kvadmin_socket.h"
#include "client/result.h"
#include "client/url.h"
#include "common/base/limits.h"
#include "common/wire/mp.h"
#include "common/wire/msg_map.h"
#include "common/wire/msg_placement.h"
#include "common/wire/rpc.h"

#define HOPS_MAX 4      /* from one member to the leader it names */
#define ATTEMPT_MS 1500 /* one address may not use up the whole deadline */
#define PAUSE_MS 50     /* between rounds through the addresses */

/* Sends the request (msgid 1) to one address, which must be reached by `reach`; *m borrows from
 * `in`. *sent: it may have arrived. */
static enum err ask_one(const char *addr, struct slice request, uint64_t reach, uint64_t deadline,
                        struct buf *in, struct rpc_message *m, bool *sent)
{
    int fd = kvadmin_dial(addr, reach);
    *sent = fd >= 0;
    if (fd < 0)
        return ERR_UNREACHABLE;
    enum err e = kvadmin_send(fd, request, deadline) ? ERR_OK : ERR_UNREACHABLE;
    buf_clear(in);
    size_t n = 0;
    while (e == ERR_OK) {
        buf_consume(in, n); /* a notification before the answer */
        e = kvadmin_receive(fd, in, &n, deadline);
        if (e == ERR_OK)
            e = rpc_decode(slice_of(in->p, n), m);
        if (e == ERR_OK && m->type == RPC_RESPONSE && m->msgid == 1)
            break;
    }
    close(fd);
    return e;
}

/* What an answer means for the search. */
enum verdict {
    VERDICT_TAKE,  /* this is the answer */
    VERDICT_OTHER, /* ask others; this one is better than none */
    VERDICT_AGAIN, /* ask others */
};

struct call {
    struct slice request;
    /* Looks at a result. May put the address to ask next into `go` (64 bytes, else ""). */
    enum verdict (*take)(void *arg, struct slice result, char *go);
    void *arg;
    bool once; /* not to be sent again after an unknown outcome */
    bool slow; /* the answer may take as long as the deadline */
};

struct attempt {
    enum err err;
    char text[256];
};

static enum verdict try_address(const struct call *call, const char *addr, uint64_t deadline,
                                struct attempt *a, char *go)
{
    struct buf in = {0};
    struct rpc_message m;
    uint64_t limit = kvadmin_now_ms() + ATTEMPT_MS;
    enum verdict v = VERDICT_AGAIN;
    bool sent;
    go[0] = '\0';
    if (limit > deadline)
        limit = deadline;
    enum err e = ask_one(addr, call->request, limit, call->slow ? deadline : limit, &in, &m, &sent);
    if (call->once && sent && (e == ERR_CLOSED || e == ERR_UNREACHABLE))
        e = ERR_UNKNOWN_OUTCOME;
    if (e == ERR_OK && m.error.n) {
        struct rpc_error re;
        rpc_get_error(m.error, &re);
        a->err = re.err;
        snprintf(a->text, sizeof(a->text), "%.200s", re.text[0] ? re.text : err_text(re.err));
        msg_placement_leader_addr(m.error, go);
        enum err_class class = err_class(re.err);
        if ((class == ERR_CLASS_NEVER && re.err != ERR_UNKNOWN_METHOD) || class == ERR_CLASS_DONE)
            v = VERDICT_TAKE;
    } else if (e == ERR_OK) {
        a->err = ERR_OK;
        v = call->take(call->arg, m.result, go);
        if (v == VERDICT_AGAIN) {
            a->err = ERR_NOT_READY;
            snprintf(a->text, sizeof(a->text), "%s has no answer yet", addr);
        }
    } else if (a->err != ERR_UNKNOWN_METHOD && a->err != ERR_NOT_READY) {
        a->err = e == ERR_CLOSED ? ERR_UNREACHABLE : e;
        snprintf(a->text, sizeof(a->text), "%s: %s", addr, err_text(a->err));
    }
    buf_close(&in);
    return v;
}

/* Goes through the addresses until one gives an answer to take or the time is over. */
static kv_err run(const char *url, unsigned timeout_ms, const struct call *call, char *msg,
                  size_t n)
{
    struct url u;
    struct attempt a = {.err = ERR_UNREACHABLE};
    uint64_t deadline = kvadmin_now_ms() + timeout_ms;
    bool some = false;
    kv_err e = url_resolve(url, &u, msg, n);
    if (e != KV_OK)
        return e;
    do {
        unsigned refused = 0;
        for (unsigned i = 0; i < u.n && kvadmin_now_ms() < deadline; i++) {
            char addr[64], go[64];
            snprintf(addr, sizeof(addr), "%s", u.addr[i]);
            for (int hop = 0; hop < HOPS_MAX && addr[0]; hop++) {
                enum verdict v = try_address(call, addr, deadline, &a, go);
                some = some || v == VERDICT_OTHER;
                if (v == VERDICT_TAKE || (call->once && err_class(a.err) == ERR_CLASS_UNKNOWN)) {
                    snprintf(msg, msg ? n : 0, "%s", a.text);
                    return result_err_of(a.err);
                }
                snprintf(addr, sizeof(addr), "%s", go);
            }
            refused += a.err == ERR_UNREACHABLE || a.err == ERR_UNKNOWN_METHOD;
        }
        if (some)
            return KV_OK;
        if (refused == u.n)
            break; /* nobody is there at all: waiting is the caller's decision */
        poll(NULL, 0, PAUSE_MS);
    } while (kvadmin_now_ms() < deadline);
    snprintf(msg, msg ? n : 0, "%s", a.text);
    return result_err_of(a.err == ERR_OK ? ERR_TIMEOUT : a.err);
}

/* ---- the calls ---- */

static enum verdict take_status(void *arg, struct slice result, char *go)
{
    struct kvadmin_status *out = arg, s;
    if (kvadmin_status_decode(result, &s) != ERR_OK)
        return VERDICT_AGAIN;
    kvadmin_status_close(out);
    *out = s;
    if (s.authoritative)
        return VERDICT_TAKE;
    if (s.leader != s.from)
        snprintf(go, 64, "%s", s.leader_addr);
    return VERDICT_OTHER;
}

kv_err kvadmin_status(const char *url, unsigned timeout_ms, struct kvadmin_status *out, char *msg,
                      size_t n)
{
    struct buf req = {0};
    struct kvadmin_status s = {0};
    rpc_put_request(&req, 1, "cluster.status");
    mp_put_array(&req, 0);
    struct call call = {.request = buf_slice(&req), .take = take_status, .arg = &s};
    kv_err e = run(url, timeout_ms, &call, msg, n);
    buf_close(&req);
    if (e == KV_OK)
        *out = s;
    else
        kvadmin_status_close(&s);
    return e;
}

static enum verdict take_map(void *arg, struct slice result, char *go)
{
    struct shard_map *out = arg, m;
    (void)go;
    if (msg_map_decode(result, &m) != ERR_OK)
        return VERDICT_AGAIN;
    shard_map_close(out);
    *out = m;
    return m.n_shards ? VERDICT_TAKE : VERDICT_OTHER;
}

kv_err kvadmin_map(const char *url, unsigned timeout_ms, struct shard_map *out, char *msg, size_t n)
{
    struct buf req = {0};
    struct shard_map m;
    shard_map_init(&m);
    msg_map_request_encode(&req, 1, "map.get", 0);
    struct call call = {.request = buf_slice(&req), .take = take_map, .arg = &m};
    kv_err e = run(url, timeout_ms, &call, msg, n);
    buf_close(&req);
    if (e == KV_OK)
        *out = m;
    else
        shard_map_close(&m);
    return e;
}

static enum verdict take_any(void *arg, struct slice result, char *go)
{
    (void)arg;
    (void)result;
    (void)go;
    return VERDICT_TAKE;
}

kv_err kvadmin_init(const char *url, unsigned timeout_ms, unsigned groups, unsigned replicas,
                    char *msg, size_t n)
{
    struct buf req = {0};
    struct msg_init init = {.groups = groups, .replicas = replicas};
    msg_init_encode(&req, 1, &init);
    struct call call = {.request = buf_slice(&req), .take = take_any, .once = true};
    kv_err e = run(url, timeout_ms, &call, msg, n);
    buf_close(&req);
    return e;
}

static enum verdict take_raw(void *arg, struct slice result, char *go)
{
    struct buf *out = arg;
    (void)go;
    buf_clear(out);
    buf_append(out, result.p, result.n);
    return VERDICT_TAKE;
}

kv_err kvadmin_call(const char *url, unsigned timeout_ms, const char *method, struct slice params,
                    bool changes, struct buf *out, char *msg, size_t n)
{
    struct buf req = {0}, answer = {0};
    rpc_put_request(&req, 1, method);
    mp_put_array(&req, 1);
    buf_append(&req, params.p, params.n);
    struct call call = {.request = buf_slice(&req),
                        .take = take_raw,
                        .arg = &answer,
                        .once = changes,
                        .slow = true};
    kv_err e = run(url, timeout_ms, &call, msg, n);
    buf_close(&req);
    if (e == KV_OK)
        *out = answer;
    else
        buf_close(&answer);
    return e;
}
