/* A small server of our own on loopback, for tests of the library as an application sees it: one
 * thread, one node that leads everything. One a test program. */
#ifndef TESTS_UNIT_CLIENT_FAKE_SERVER_H
#define TESTS_UNIT_CLIENT_FAKE_SERVER_H

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/kvclient.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/wire/mp.h"
#include "common/wire/msg_kv.h"
#include "common/wire/msg_map.h"
#include "common/wire/rpc.h"

enum mood { ANSWERS, SILENT, NONSENSE, HANGS_UP };

#define SERVER_CONNS 64

static struct {
    int listener;
    uint16_t port;
    pthread_t thread;
    atomic_bool stop;
    atomic_int mood; /* what it does with kv. calls */
    atomic_int calls;
    atomic_int hang_ups; /* ANSWERS: hangs up on so many writes first, after "applying" them */
    atomic_uint_fast64_t retain; /* of sessions; 0: it has none */
    atomic_uint_fast64_t last_seq;
    int fds[SERVER_CONNS];
    struct buf in[SERVER_CONNS];
} server;

static inline void put_map(struct buf *b)
{
    struct shard_map m;
    shard_map_init(&m);
    m.version = 1;
    struct shard_desc s = {
        .group = 1, .last_slot = LIMIT_SLOTS - 1, .epoch = {1, 1}, .leader = 5, .n_replicas = 1};
    s.replica[0] = (struct shard_replica){.replica = 5, .node = 1, .role = 1};
    struct shard_node n = {.node = 1, .cores = 1, .name = "n1"};
    snprintf(n.client_addr, sizeof(n.client_addr), "127.0.0.1:%u", server.port);
    shard_map_put_node(&m, &n);
    shard_map_put_shard(&m, &s);
    msg_map_encode(b, &m);
    shard_map_close(&m);
}

static inline void serve_items(uint32_t msgid, const struct msg_kv_request *q, struct buf *out)
{
    struct mp_reader r = mp_reader_of(q->items);
    msg_kv_begin_items(out, msgid, q->n);
    for (uint32_t i = 0; i < q->n; i++) {
        struct msg_kv_request op = {0};
        struct msg_kv_item item = {.err = ERR_OK, .result = {.version = i + 1}};
        if (q->method == KV_METHOD_MGET)
            op.key = msg_kv_next_key(&r);
        else
            msg_kv_next_op(&r, &op);
        item.result.value = op.key;
        item.result.number = op.delta;
        if (op.key.p[0] == '-')
            item = (struct msg_kv_item){
                .err = q->n && q->method == KV_METHOD_MGET ? ERR_NOT_FOUND : ERR_CONDITION_FAILED};
        msg_kv_put_item(out, q->method, &item);
    }
    msg_kv_end_items(out, (struct msg_kv_extra){0});
}

/* Knows every key but those that begin with '-': the value is the key, its time to live 5 s. False:
 * hang up. */
static inline bool serve_keys(const struct rpc_message *m, struct buf *out)
{
    struct msg_kv_request q = {0};
    int method = 0;
    while (method < (int)KV_METHODS &&
           !slice_eq(m->method, slice_str(msg_kv_method_name((enum kv_method)method))))
        method++;
    if (method == KV_METHODS || msg_kv_decode((enum kv_method)method, m->params, &q) != ERR_OK) {
        rpc_put_error_simple(out, m->msgid, ERR_BAD_REQUEST, NULL);
        return true;
    }
    atomic_store(&server.last_seq, q.seq);
    if (!msg_kv_is_read(q.method) && atomic_load(&server.hang_ups) > 0) {
        atomic_fetch_sub(&server.hang_ups, 1);
        return false;
    }
    if (q.n)
        serve_items(m->msgid, &q, out);
    else if (q.key.p[0] == '-')
        rpc_put_error_simple(out, m->msgid, ERR_NOT_FOUND, NULL);
    else if (q.method == KV_METHOD_GET)
        msg_kv_put_get_result(out, m->msgid,
                              &(struct msg_kv_result){.value = q.key,
                                                      .version = 42,
                                                      .has_ttl = q.level != 0,
                                                      .ttl_ms = 5000,
                                                      .at = q.level ? 50 + q.token : 0});
    else if (q.method == KV_METHOD_INCR)
        msg_kv_put_number(out, m->msgid, 43, q.delta);
    else
        msg_kv_put_version(out, m->msgid, q.has_ttl ? q.ttl_ms : 43);
    return true;
}

/* False: hang up. */
static inline bool serve(const struct rpc_message *m, struct buf *out)
{
    int mood = atomic_load(&server.mood);
    if (slice_eq(m->method, slice_str("sys.hello"))) {
        struct msg_hello_reply r = {.proto = 1, .node = 1, .cores = 1};
        r.time_ms = 1700000000000;
        r.retain_ms = atomic_load(&server.retain);
        msg_hello_reply_encode(out, m->msgid, &r);
        return true;
    }
    if (slice_eq(m->method, slice_str("map.watch")) || slice_eq(m->method, slice_str("map.get"))) {
        rpc_put_result(out, m->msgid);
        put_map(out);
        return true;
    }
    atomic_fetch_add(&server.calls, 1);
    if (mood == NONSENSE)
        buf_append(out, "\x94\x01\xc1\xff\xffHTTP/1.1 400", 17);
    if (mood != ANSWERS)
        return mood != HANGS_UP;
    return serve_keys(m, out);
}

static inline void drop(int i)
{
    close(server.fds[i]);
    buf_close(&server.in[i]);
    server.fds[i] = -1;
}

static inline void on_readable(int i)
{
    struct buf *in = &server.in[i], out = {0};
    bool go_on = true;
    size_t n;
    buf_reserve(in, 65536);
    ssize_t got = recv(server.fds[i], in->p + in->n, in->cap - in->n, 0);
    if (got <= 0) {
        drop(i);
        return;
    }
    in->n += (size_t)got;
    while (go_on && in->n && rpc_split(buf_slice(in), LIMIT_FRAME, &n) == ERR_OK) {
        struct rpc_message m;
        go_on = rpc_decode(slice_of(in->p, n), &m) == ERR_OK && serve(&m, &out);
        buf_consume(in, n);
    }
    if (out.n)
        (void)!send(server.fds[i], out.p, out.n, MSG_NOSIGNAL);
    buf_close(&out);
    if (!go_on)
        drop(i);
}

static inline void *run_server(void *arg)
{
    (void)arg;
    while (!atomic_load(&server.stop)) {
        struct pollfd p[SERVER_CONNS + 1];
        p[SERVER_CONNS] = (struct pollfd){.fd = server.listener, .events = POLLIN};
        for (int i = 0; i < SERVER_CONNS; i++)
            p[i] = (struct pollfd){.fd = server.fds[i], .events = POLLIN};
        poll(p, SERVER_CONNS + 1, 10);
        for (int i = 0; i < SERVER_CONNS; i++)
            if (server.fds[i] >= 0 && p[i].revents)
                on_readable(i);
        if (p[SERVER_CONNS].revents) {
            int fd = accept(server.listener, NULL, NULL), i = 0;
            while (i < SERVER_CONNS && server.fds[i] >= 0)
                i++;
            if (i < SERVER_CONNS)
                server.fds[i] = fd;
            else
                close(fd);
        }
    }
    return NULL;
}

static bool with_sessions;
static char url[64];
static kv_client *kv;

static inline void setup(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof(a);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(server.listener, (struct sockaddr *)&a, sizeof(a)), 0);
    ck_assert_int_eq(listen(server.listener, 64), 0);
    getsockname(server.listener, (struct sockaddr *)&a, &len);
    server.port = ntohs(a.sin_port);
    for (int i = 0; i < SERVER_CONNS; i++)
        server.fds[i] = -1;
    atomic_store(&server.stop, false);
    atomic_store(&server.mood, ANSWERS);
    atomic_store(&server.calls, 0);
    atomic_store(&server.hang_ups, 0);
    atomic_store(&server.retain, with_sessions ? 600000 : 0);
    ck_assert_int_eq(pthread_create(&server.thread, NULL, run_server, NULL), 0);
    snprintf(url, sizeof(url), "kv://localhost:%u", server.port);
    char msg[256];
    ck_assert_int_eq(kv_open(url, NULL, &kv, msg, sizeof(msg)), KV_OK);
}

static inline void teardown(void)
{
    if (kv)
        kv_close(kv, 0);
    kv = NULL;
    atomic_store(&server.stop, true);
    pthread_join(server.thread, NULL);
    for (int i = 0; i < SERVER_CONNS; i++)
        if (server.fds[i] >= 0)
            drop(i);
    close(server.listener);
}

static inline double seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

#endif
