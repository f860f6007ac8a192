/* One whole node core over the real io loop, disk and engine, with one group of a single voter.
 *
 * world_open() starts the core on a thread of its own; world_call() runs a function on that thread
 * and waits for it; a client is a blocking socket (world_connect). The data stays over
 * world_close(), so that world_open() is a restart.  Thread: the test's. */
#ifndef UNIT_CORE_WORLD_H
#define UNIT_CORE_WORLD_H

#include <arpa/inet.h>
#include <check.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/io/fs.h"
#include "common/wire/mp.h"
#include "common/wire/msg_kv.h"
#include "common/wire/msg_map.h"
#include "common/wire/rpc.h"
#include "shardd/core.h"
#include "shardd/core_stop.h"

struct world {
    unsigned id; /* of the node; 0 counts as 1 */
    char dir[512];
    struct node node;
    struct io *io;
    struct core *core;
    pthread_t thread;
    char msg[512];
};

static const uint8_t world_cluster[16] = {1};

static void world_fatal(void *arg, enum err why, const char *text)
{
    (void)arg;
    ck_abort_msg("fatal: %s %s", err_name(why), text);
}

static void *world_main(void *arg)
{
    struct world *w = arg;
    io_run(w->io);
    core_destroy(w->core);
    return NULL;
}

static void world_open(struct world *w)
{
    struct io_options io = {0};
    w->node = (struct node){.options = {.data_dir = w->dir,
                                        .name = "n1",
                                        .zone = "",
                                        .host = "h",
                                        .incarnation = w->id ? w->id : 1,
                                        .cores = 1,
                                        .key_max = LIMIT_KEY,
                                        .value_max = LIMIT_VALUE_DEFAULT,
                                        .wal_segment_size = 32 * MIB,
                                        .log_memory = 64 * MIB},
                            .on_fatal = world_fatal,
                            .arg = w};
    struct engine_options e = {0};
    ck_assert_int_eq(engine_create(&e, &w->node.engine, w->msg, sizeof w->msg), ERR_OK);
    ck_assert_msg(io_create(&io, &w->io, w->msg, sizeof w->msg) == ERR_OK, "%s", w->msg);
    ck_assert_msg(core_create(&w->node, 0, w->io, world_cluster, w->id ? w->id : 1,
                              &w->node.core[0], w->msg, sizeof w->msg) == ERR_OK,
                  "%s", w->msg);
    w->core = w->node.core[0];
    ck_assert_int_eq(pthread_create(&w->thread, NULL, world_main, w), 0);
}

/* A fresh directory. */
static inline void world_create(struct world *w)
{
    const char *tmp = getenv("TEST_TMP");
    *w = (struct world){0};
    snprintf(w->dir, sizeof w->dir, "%.400s/core.XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(w->dir));
    world_open(w);
}

struct world_call {
    struct world *w;
    void (*fn)(struct world *w, void *arg);
    void *arg;
    sem_t done;
};

static void world_run(struct core *c, void *arg)
{
    struct world_call *call = arg;
    (void)c;
    call->fn(call->w, call->arg);
    sem_post(&call->done);
}

static void world_call(struct world *w, void (*fn)(struct world *w, void *arg), void *arg)
{
    struct world_call call = {.w = w, .fn = fn, .arg = arg};
    sem_init(&call.done, 0, 0);
    core_post(w->core, world_run, &call);
    while (sem_wait(&call.done) != 0)
        ;
    sem_destroy(&call.done);
}

static void world_stopped(void *arg)
{
    io_stop(((struct world *)arg)->io);
}

static void world_begin_stop(struct world *w, void *arg)
{
    (void)arg;
    core_stop(w->core, 1000, world_stopped, w);
}

static void world_close(struct world *w)
{
    world_call(w, world_begin_stop, NULL);
    pthread_join(w->thread, NULL);
    io_destroy(w->io);
    engine_destroy(w->node.engine);
}

static inline void world_destroy(struct world *w)
{
    world_close(w);
    ck_assert_int_eq(fs_rmdir_all(w->dir), ERR_OK);
}

/* ---- the group ---- */

static inline void world_make_group(struct world *w, void *arg)
{
    (void)arg;
    struct shard_desc d = {.group = 1,
                           .first_slot = 0,
                           .last_slot = LIMIT_SLOTS - 1,
                           .epoch = {1, 1},
                           .n_replicas = 1};
    d.replica[0] = (struct shard_replica){.replica = 1, .node = 1, .role = GROUP_VOTER};
    replica_create(w->core, &d, 1, true);
}

static inline void world_leads(struct world *w, void *arg)
{
    struct replica *r = core_find_replica(w->core, 1);
    *(bool *)arg = r && replica_is_leader(r);
}

static inline void world_wait_leader(struct world *w)
{
    bool leads = false;
    for (unsigned i = 0; i < 1000 && !leads; i++) {
        world_call(w, world_leads, &leads);
        usleep(leads ? 0 : 10000);
    }
    ck_assert_msg(leads, "no leader within 10 s");
}

/* ---- a client ---- */

struct client {
    int fd;
    struct buf in, out;
    uint32_t next;
};

static void world_adopt(struct world *w, void *arg)
{
    core_accept_client(w->core, *(int *)arg);
}

static void world_connect(struct world *w, struct client *c)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int l = socket(AF_INET, SOCK_STREAM, 0);
    *c = (struct client){.fd = socket(AF_INET, SOCK_STREAM, 0)};
    ck_assert_int_eq(bind(l, (struct sockaddr *)&a, n), 0);
    ck_assert_int_eq(listen(l, 1), 0);
    ck_assert_int_eq(getsockname(l, (struct sockaddr *)&a, &n), 0);
    ck_assert_int_eq(connect(c->fd, (struct sockaddr *)&a, n), 0);
    int handle = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    ck_assert_int_ge(handle, 0);
    close(l);
    world_call(w, world_adopt, &handle);
}

static void client_close(struct client *c)
{
    close(c->fd);
    buf_close(&c->in);
    buf_close(&c->out);
}

/* Adds a request to what client_send() sends; gives its number. */
static uint32_t client_add(struct client *c, struct msg_kv_request m)
{
    msg_kv_encode(&c->out, ++c->next, &m);
    return c->next;
}

static void client_send(struct client *c)
{
    for (size_t at = 0; at < c->out.n;) {
        ssize_t n = send(c->fd, c->out.p + at, c->out.n - at, MSG_NOSIGNAL);
        ck_assert_int_gt(n, 0);
        at += (size_t)n;
    }
    buf_clear(&c->out);
}

struct answer_seen {
    uint32_t msgid;
    enum err err;
    uint32_t leader; /* node, of a redirect */
    uint64_t version;
    int64_t number;
    uint64_t present; /* of a failed condition */
    uint64_t at;      /* of a read */
    uint64_t time_ms; /* of a write that came too late */
    bool has_ttl;
    uint64_t ttl_ms;
    uint32_t n_items; /* batch, mget: the first 16; their values are gone but for the size */
    struct msg_kv_item item[16];
    size_t value_size;
    char value[64];
    uint64_t hint; /* group that an error's piece of the map names; 0: none */
};

static struct answer_seen client_take(struct client *c, enum kv_method method)
{
    size_t n = 0;
    while (rpc_split(buf_slice(&c->in), LIMIT_FRAME, &n) == ERR_INCOMPLETE) {
        uint8_t bytes[65536];
        ssize_t got = recv(c->fd, bytes, sizeof bytes, 0);
        ck_assert_msg(got > 0, "the connection ended");
        buf_append(&c->in, bytes, (size_t)got);
    }
    struct rpc_message m;
    struct answer_seen a = {0};
    ck_assert_int_eq(rpc_decode(slice_of(c->in.p, n), &m), ERR_OK);
    a.msgid = m.msgid;
    if (m.error.n > 0) {
        struct rpc_error e;
        rpc_get_error(m.error, &e);
        a.err = e.err;
        a.leader = e.leader;
        struct shard_map piece;
        if (e.map.n > 0 && msg_map_decode(e.map, &piece) == ERR_OK) {
            a.hint = piece.n_shards ? piece.shards[0].group : 0;
            shard_map_close(&piece);
        }
        a.present = e.version;
        a.at = e.at;
        a.time_ms = e.time_ms;
    } else if (method == KV_METHOD_BATCH || method == KV_METHOD_MGET) {
        struct mp_reader items = mp_reader_of(m.result), raw;
        struct msg_kv_extra extra;
        mp_get_array(&items);
        a.n_items = mp_get_array(&items);
        ck_assert_int_eq(msg_kv_decode_items(method, m.result, a.n_items, &raw, &extra), ERR_OK);
        a.at = extra.at;
        a.time_ms = extra.time_ms;
        for (uint32_t i = 0; i < a.n_items && i < 16; i++)
            msg_kv_next_item(method, &raw, &a.item[i]);
    } else {
        struct msg_kv_result r;
        ck_assert_int_eq(msg_kv_decode_result(method, m.result, &r), ERR_OK);
        a.version = r.version;
        a.number = r.number;
        a.at = r.at;
        a.has_ttl = r.has_ttl;
        a.ttl_ms = r.ttl_ms;
        a.value_size = r.value.n;
        if (r.value.n > 0)
            memcpy(a.value, r.value.p, r.value.n < 63 ? r.value.n : 63);
    }
    buf_consume(&c->in, n);
    return a;
}

static inline struct answer_seen client_call(struct client *c, struct msg_kv_request m)
{
    uint32_t id = client_add(c, m);
    client_send(c);
    struct answer_seen a = client_take(c, m.method);
    ck_assert_uint_eq(a.msgid, id);
    return a;
}

static inline struct msg_kv_request put_of(const char *key, const char *value)
{
    return (struct msg_kv_request){
        .method = KV_METHOD_PUT, .key = slice_str(key), .value = slice_str(value)};
}

/* The same as number `seq` of a session of which no answer is ever confirmed. */
static inline struct msg_kv_request in_session(struct msg_kv_request m, uint64_t seq)
{
    static const uint8_t sid[MSG_KV_SESSION_ID] = {7};
    static uint64_t until; /* for all of a test: the clock of the wall, and that */
    if (until == 0)
        until = (uint64_t)time(NULL) * 1000 + 300000;
    m.session = (struct msg_kv_session){slice_of(sid, sizeof sid), 1, until};
    m.seq = seq;
    return m;
}

static inline struct msg_kv_request get_of(const char *key)
{
    return (struct msg_kv_request){.method = KV_METHOD_GET, .key = slice_str(key)};
}

/* ---- what most tests begin and end with ---- */

/* A fresh world whose group has a leader. */
static inline void world_begin(struct world *w)
{
    world_create(w);
    world_call(w, world_make_group, NULL);
    world_wait_leader(w);
}

/* The same, and a client of it. */
static inline void world_serve(struct world *w, struct client *c)
{
    world_begin(w);
    world_connect(w, c);
}

static inline void world_end(struct world *w, struct client *c)
{
    client_close(c);
    world_destroy(w);
}

/* The client connects anew, once `wait` has seen the groups led. */
static inline void world_restart(struct world *w, struct client *c, void (*wait)(struct world *w))
{
    client_close(c);
    world_close(w);
    world_open(w);
    wait(w);
    world_connect(w, c);
}

#endif
