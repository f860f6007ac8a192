/* Store, server and fetch together over the real loop, on loopback and a temporary directory: a
 * sender of snapshots and its receivers in one process.
 *
 * Owner: the test.  Thread: the test's.  Depends on: snapshot_stream, peer. */
#ifndef UNIT_RAFT_SNAPSHOT_WORLD_H
#define UNIT_RAFT_SNAPSHOT_WORLD_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/io/fs.h"
#include "common/net/peer_hello.h"
#include "common/raft/snapshot_stream.h"
#include "common/wire/frame.h"

#define GROUP 9u

static char root[4096];
static unsigned serial;

static struct world {
    struct io *io;
    struct conn_set *conns, *server_conns;
    struct peer_set *peers;
    struct io_listener *listener;
    struct io_addr addr;
    struct snapshot_store *store;
    struct snapshot_server *server;
    struct snapshot_server_options server_options;
    struct io_timer deadline;
    bool timed_out;
    unsigned pending;                       /* things waited for */
    uint64_t interrupt_every, interrupt_at; /* bytes received after which connections are cut */
    struct snapshot_fetch *watched;
    struct snapshot_fetch_stats last; /* of the watched one */
    enum err made_result, fetched[4];
    char path[4200];
    struct buf manifest;
    uint64_t id, index;
} w;

static const uint64_t sizes[] = {0, 1, 4096, 256 * KIB, 256 * KIB + 1, 1 * MIB - 1, 3 * MIB + 77};
#define FILES (sizeof sizes / sizeof *sizes)

/* ---- the world ---- */

static inline void put_down(void *arg)
{
    (void)arg;
    w.pending--;
}

static inline void restart_server(void)
{
    w.pending++;
    snapshot_server_destroy(w.server, put_down, NULL);
    w.server = snapshot_server_create(&w.server_options);
}

static inline void turn(void *arg)
{
    (void)arg;
    if (w.watched) {
        snapshot_fetch_stats(w.watched, &w.last);
        if (w.interrupt_every && w.last.bytes_received >= w.interrupt_at) {
            w.interrupt_at = w.last.bytes_received + w.interrupt_every;
            restart_server();
        }
    }
    peer_flush(w.peers);
    conn_set_flush(w.conns);
    conn_set_flush(w.server_conns);
    if (w.pending == 0)
        io_stop(w.io);
}

static inline void on_deadline(struct io_timer *t)
{
    (void)t;
    w.timed_out = true;
    io_stop(w.io);
}

/* Runs the loop until all that was started is done. */
static inline void run_all(void)
{
    w.timed_out = false;
    io_timer_set(w.io, &w.deadline, io_now_exact(w.io) + 20 * NS_PER_S);
    io_again(w.io);
    io_run(w.io);
    io_timer_cancel(w.io, &w.deadline);
    ck_assert(!w.timed_out);
}

static inline void on_accept(void *arg, int handle, const struct io_addr *from)
{
    (void)arg;
    (void)from;
    peer_accept(w.peers, handle);
}

static inline bool no_address(void *arg, uint32_t node, struct io_addr *out)
{
    (void)arg;
    (void)node;
    (void)out;
    return false;
}

static inline void on_peer_message(void *arg, uint32_t from, uint64_t group, struct slice message)
{
    (void)arg;
    (void)from;
    (void)group;
    (void)message;
}

static inline void on_hello(void *arg, struct conn *c, const struct peer_hello *hello)
{
    (void)arg;
    ck_assert_int_eq(hello->purpose, PEER_SNAPSHOT);
    ck_assert_uint_eq(hello->core, 3);
    snapshot_serve(w.server, c);
}

static inline struct peer_hello hello_of(uint32_t node)
{
    return (struct peer_hello){.cluster = {1}, .node = node, .incarnation = node};
}

static inline void setup_with(unsigned max_live, uint64_t expire_ns, uint64_t unasked_ns)
{
    struct io_options io = {0};
    char msg[256] = "";

    w = (struct world){.deadline = {.fn = on_deadline}};
    serial++;
    enum err e = io_create(&io, &w.io, msg, sizeof msg);
    ck_assert_msg(e == ERR_OK, "%s", msg);
    io_set_turn_hook(w.io, turn, NULL);
    w.conns = conn_set_create(w.io);
    w.server_conns = conn_set_create(w.io);
    struct peer_set_options po = {.io = w.io,
                                  .conns = w.server_conns,
                                  .self = hello_of(1),
                                  .resolve = no_address,
                                  .on_message = on_peer_message,
                                  .on_hello = on_hello};
    w.peers = peer_set_create(&po);
    ck_assert_int_eq(io_addr_parse("127.0.0.1:0", &w.addr), ERR_OK);
    ck_assert_int_eq(io_listen(w.io, &w.addr, on_accept, NULL, &w.listener), ERR_OK);
    io_listener_addr(w.listener, &w.addr);
    struct snapshot_store_options so = {.io = w.io,
                                        .core = 3,
                                        .max_live = max_live,
                                        .expire_ns = expire_ns,
                                        .unasked_ns = unasked_ns};
    w.store = snapshot_store_create(&so);
    w.server_options =
        (struct snapshot_server_options){.io = w.io, .conns = w.server_conns, .store = w.store};
    w.server = snapshot_server_create(&w.server_options);
}

static inline void setup(void)
{
    setup_with(0, 0, 0);
}

static inline void teardown(void)
{
    w.pending++;
    snapshot_server_destroy(w.server, put_down, NULL);
    run_all();
    w.pending++;
    snapshot_store_destroy(w.store, put_down, NULL);
    run_all();
    io_listener_close(w.listener);
    peer_set_destroy(w.peers);
    conn_set_destroy(w.conns);
    conn_set_destroy(w.server_conns);
    buf_close(&w.manifest);
    io_destroy(w.io);
}

static inline char *dir_of(const char *who)
{
    static char dirs[4][4160];
    static unsigned next;
    char *d = dirs[next++ % 4];

    snprintf(d, sizeof dirs[0], "%s/%s-%u", root, who, serial);
    ck_assert_int_eq(fs_mkdir(d), ERR_OK);
    return d;
}

/* ---- making ---- */

static inline enum err write_some(const char *path, uint64_t size, uint64_t seed)
{
    struct fs_file *f;
    struct rng rng;
    uint8_t *p = malloc(size + 8);

    ck_assert_ptr_nonnull(p);
    rng_seed(&rng, seed);
    for (uint64_t i = 0; i < size; i += 8) {
        uint64_t v = rng_next(&rng);
        memcpy(p + i, &v, 8);
    }
    enum err e = fs_open(path, FS_WRITE | FS_CREATE | FS_TRUNCATE, &f);
    if (e == ERR_OK) {
        e = fs_write(f, p, size, 0);
        fs_close(f);
    }
    free(p);
    return e;
}

static inline enum err checkpoint(void *arg, const char *path, uint64_t *index, struct buf *note)
{
    enum err e = fs_mkdir(path);

    (void)arg;
    for (size_t i = 0; i < FILES && e == ERR_OK; i++) {
        char file[4300];
        snprintf(file, sizeof file, "%s/%06zu.sst", path, i);
        e = write_some(file, sizes[i], i);
    }
    *index = 1000 + w.index++;
    buf_append(note, "note", 4);
    return e;
}

static inline void on_made(void *arg, enum err result, const struct snapshot_manifest *m,
                           struct slice encoded)
{
    (void)arg;
    w.pending--;
    w.made_result = result;
    if (result != ERR_OK)
        return;
    ck_assert_uint_eq(m->n, FILES);
    ck_assert_uint_eq(m->core, 3);
    ck_assert_uint_eq(m->group, GROUP);
    ck_assert(slice_eq(buf_slice(&m->note), slice_str("note")));
    w.id = m->id;
    buf_clear(&w.manifest);
    buf_append(&w.manifest, encoded.p, encoded.n);
}

static inline void make(void)
{
    w.pending++;
    snapshot_store_make(w.store, GROUP, dir_of("sender"), 0, checkpoint, on_made, NULL);
    run_all();
    ck_assert_int_eq(w.made_result, ERR_OK);
}

static inline void snap_file(char *out, size_t n, const char *who, const char *kind, size_t i)
{
    snprintf(out, n, "%s/%s-%016llx/%06zu.sst", dir_of(who), kind, (unsigned long long)w.id, i);
}

static inline void flip(const char *path, uint64_t at)
{
    struct fs_file *f;
    uint8_t byte;
    size_t got;

    ck_assert_int_eq(fs_open(path, FS_READ | FS_WRITE, &f), ERR_OK);
    ck_assert_int_eq(fs_read(f, &byte, 1, at, &got), ERR_OK);
    ck_assert_uint_eq(got, 1);
    byte ^= 0x10;
    ck_assert_int_eq(fs_write(f, &byte, 1, at), ERR_OK);
    fs_close(f);
}

/* ---- fetching ---- */

static inline bool resolve(void *arg, uint32_t node, struct io_addr *out)
{
    (void)arg;
    ck_assert_uint_eq(node, 1);
    *out = w.addr;
    return true;
}

static inline void on_fetched(void *arg, enum err result, const char *path)
{
    size_t which = (size_t)(uintptr_t)arg;

    w.pending--;
    w.fetched[which] = result;
    ck_assert((result == ERR_OK) == (path != NULL));
    if (which == 0 && w.watched) {
        snapshot_fetch_stats(w.watched, &w.last);
        w.watched = NULL;
    }
    if (path)
        snprintf(w.path, sizeof w.path, "%s", path);
}

static inline struct snapshot_fetch_options fetch_options(const char *who)
{
    return (struct snapshot_fetch_options){.io = w.io,
                                           .conns = w.conns,
                                           .self = hello_of(2),
                                           .from = 1,
                                           .dir = dir_of(who),
                                           .manifest = buf_slice(&w.manifest),
                                           .resolve = resolve,
                                           .done = on_fetched,
                                           .chunk = 64 * KIB,
                                           .timeout_ns = 500 * NS_PER_MS,
                                           .give_up_ns = 1500 * NS_PER_MS};
}

static inline void start_fetch(const struct snapshot_fetch_options *o)
{
    w.pending++;
    ck_assert_int_eq(snapshot_fetch(o, &w.watched), ERR_OK);
}

static inline enum err fetch(void)
{
    struct snapshot_fetch_options o = fetch_options("receiver");

    start_fetch(&o);
    run_all();
    return w.fetched[0];
}

/* Runs the tests of a suite that has been filled by `add`; the exit code. */
static inline int snapshot_world_main(const char *name, void (*add)(TCase *t))
{
    const char *tmp = getenv("TEST_TMP");
    char made[] = "/tmp/shardkv-snapshot.XXXXXX";

    snprintf(root, sizeof root, "%s", tmp ? tmp : mkdtemp(made));
    log_set_level(LOG_SILENT);
    Suite *s = suite_create(name);
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    add(t);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
