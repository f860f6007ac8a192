#include "client/kvadmin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client/kvadmin_decode.h"
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

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static bool wait_fd(int fd, short events, uint64_t deadline)
{
    uint64_t now = now_ms();
    struct pollfd p = {.fd = fd, .events = events};
    return now < deadline && poll(&p, 1, (int)(deadline - now)) == 1;
}

static int dial(const char *addr, uint64_t deadline)
{
    char host[64];
    const char *colon = strrchr(addr, ':');
    if (!colon || (size_t)(colon - addr) >= sizeof(host))
        return -1;
    snprintf(host, sizeof(host), "%.*s", (int)(colon - addr), addr);
    char *h = host;
    if (h[0] == '[') {
        h[strlen(h) - 1] = '\0';
        h++;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
    struct addrinfo *ai;
    if (getaddrinfo(h, colon + 1, &hints, &ai) != 0)
        return -1;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int rc = fd < 0 ? -1 : connect(fd, ai->ai_addr, ai->ai_addrlen);
    freeaddrinfo(ai);
    if (rc != 0 && fd >= 0) {
        int error = errno;
        socklen_t len = sizeof(error);
        if (error != EINPROGRESS || !wait_fd(fd, POLLOUT, deadline) ||
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0) {
            close(fd);
            return -1;
        }
    }
    return fd;
}

static bool send_all(int fd, struct slice data, uint64_t deadline)
{
    while (data.n) {
        ssize_t n = send(fd, data.p, data.n, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (n < 0 && !wait_fd(fd, POLLOUT, deadline))
            return false;
        if (n > 0)
            data = slice_of(data.p + n, data.n - (size_t)n);
    }
    return true;
}

/* One whole message into `in`; ERR_OK and its length. */
static enum err receive(int fd, struct buf *in, size_t *n, uint64_t deadline)
{
    for (;;) {
        enum err e = rpc_split(buf_slice(in), LIMIT_FRAME, n);
        if (e != ERR_INCOMPLETE)
            return e;
        buf_reserve(in, 64 * KIB);
        ssize_t got = recv(fd, in->p + in->n, in->cap - in->n, 0);
        if (got == 0)
            return ERR_CLOSED;
        if (got > 0)
            in->n += (size_t)got;
        else if (errno != EAGAIN && errno != EINTR)
            return ERR_UNREACHABLE;
        else if (!wait_fd(fd, POLLIN, deadline))
            return ERR_TIMEOUT;
    }
}

/* Sends the request (msgid 1) to one address, which must be reached by `reach`; *m borrows from
 * `in`. *sent: it may have arrived. */
static enum err ask_one(const char *addr, struct slice request, uint64_t reach, uint64_t deadline,
                        struct buf *in, struct rpc_message *m, bool *sent)
{
    int fd = dial(addr, reach);
    *sent = fd >= 0;
    if (fd < 0)
        return ERR_UNREACHABLE;
    enum err e = send_all(fd, request, deadline) ? ERR_OK : ERR_UNREACHABLE;
    buf_clear(in);
    size_t n = 0;
    while (e == ERR_OK) {
        buf_consume(in, n); /* a notification before the answer */
        e = receive(fd, in, &n, deadline);
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
    uint64_t limit = now_ms() + ATTEMPT_MS;
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
    uint64_t deadline = now_ms() + timeout_ms;
    bool some = false;
    kv_err e = url_resolve(url, &u, msg, n);
    if (e != KV_OK)
        return e;
    do {
        unsigned refused = 0;
        for (unsigned i = 0; i < u.n && now_ms() < deadline; i++) {
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
    } while (now_ms() < deadline);
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
