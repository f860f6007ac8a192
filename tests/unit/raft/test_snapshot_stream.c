/* Store, server and fetch together over the real loop, on loopback and a temporary directory. */
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

static void put_down(void *arg)
{
    (void)arg;
    w.pending--;
}

static void restart_server(void)
{
    w.pending++;
    snapshot_server_destroy(w.server, put_down, NULL);
    w.server = snapshot_server_create(&w.server_options);
}

static void turn(void *arg)
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

static void on_deadline(struct io_timer *t)
{
    (void)t;
    w.timed_out = true;
    io_stop(w.io);
}

/* Runs the loop until all that was started is done. */
static void run_all(void)
{
    w.timed_out = false;
    io_timer_set(w.io, &w.deadline, io_now_exact(w.io) + 20 * NS_PER_S);
    io_again(w.io);
    io_run(w.io);
    io_timer_cancel(w.io, &w.deadline);
    ck_assert(!w.timed_out);
}

static void on_accept(void *arg, int handle, const struct io_addr *from)
{
    (void)arg;
    (void)from;
    peer_accept(w.peers, handle);
}

static bool no_address(void *arg, uint32_t node, struct io_addr *out)
{
    (void)arg;
    (void)node;
    (void)out;
    return false;
}

static void on_peer_message(void *arg, uint32_t from, uint64_t group, struct slice message)
{
    (void)arg;
    (void)from;
    (void)group;
    (void)message;
}

static void on_hello(void *arg, struct conn *c, const struct peer_hello *hello)
{
    (void)arg;
    ck_assert_int_eq(hello->purpose, PEER_SNAPSHOT);
    ck_assert_uint_eq(hello->core, 3);
    snapshot_serve(w.server, c);
}

static struct peer_hello hello_of(uint32_t node)
{
    return (struct peer_hello){.cluster = {1}, .node = node, .incarnation = node};
}

static void setup_with(unsigned max_live, uint64_t expire_ns, uint64_t unasked_ns)
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

static void setup(void)
{
    setup_with(0, 0, 0);
}

static void teardown(void)
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

static char *dir_of(const char *who)
{
    static char dirs[4][4160];
    static unsigned next;
    char *d = dirs[next++ % 4];

    snprintf(d, sizeof dirs[0], "%s/%s-%u", root, who, serial);
    ck_assert_int_eq(fs_mkdir(d), ERR_OK);
    return d;
}

/* ---- making ---- */

static enum err write_some(const char *path, uint64_t size, uint64_t seed)
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

static enum err checkpoint(void *arg, const char *path, uint64_t *index, struct buf *note)
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

static void on_made(void *arg, enum err result, const struct snapshot_manifest *m,
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

static void make(void)
{
    w.pending++;
    snapshot_store_make(w.store, GROUP, dir_of("sender"), 0, checkpoint, on_made, NULL);
    run_all();
    ck_assert_int_eq(w.made_result, ERR_OK);
}

static void snap_file(char *out, size_t n, const char *who, const char *kind, size_t i)
{
    snprintf(out, n, "%s/%s-%016llx/%06zu.sst", dir_of(who), kind, (unsigned long long)w.id, i);
}

static void flip(const char *path, uint64_t at)
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

static bool resolve(void *arg, uint32_t node, struct io_addr *out)
{
    (void)arg;
    ck_assert_uint_eq(node, 1);
    *out = w.addr;
    return true;
}

static void on_fetched(void *arg, enum err result, const char *path)
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

static struct snapshot_fetch_options fetch_options(const char *who)
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

static void start_fetch(const struct snapshot_fetch_options *o)
{
    w.pending++;
    ck_assert_int_eq(snapshot_fetch(o, &w.watched), ERR_OK);
}

static enum err fetch(void)
{
    struct snapshot_fetch_options o = fetch_options("receiver");

    start_fetch(&o);
    run_all();
    return w.fetched[0];
}

static unsigned names_seen;
static void count_name(void *arg, const char *name, bool is_dir)
{
    (void)arg;
    (void)name;
    (void)is_dir;
    names_seen++;
}

static void expect_files(void)
{
    names_seen = 0;
    ck_assert_int_eq(fs_list(w.path, count_name, NULL), ERR_OK);
    ck_assert_uint_eq(names_seen, FILES);
    for (size_t i = 0; i < FILES; i++) {
        char file[4300], want[4300];
        struct buf a = {0}, b = {0};
        snprintf(file, sizeof file, "%s/%06zu.sst", w.path, i);
        snprintf(want, sizeof want, "%s/want-%zu", root, i);
        ck_assert_int_eq(write_some(want, sizes[i], i), ERR_OK);
        ck_assert_int_eq(fs_read_file(file, &a), ERR_OK);
        ck_assert_int_eq(fs_read_file(want, &b), ERR_OK);
        ck_assert(slice_eq(buf_slice(&a), buf_slice(&b)));
        buf_close(&a);
        buf_close(&b);
    }
}

START_TEST(all_files_arrive)
{
    make();
    ck_assert_int_eq(fetch(), ERR_OK);
    expect_files();
    ck_assert_uint_eq(w.last.bytes_received, w.last.bytes_total);
    ck_assert_uint_eq(w.last.bytes_written, w.last.bytes_total);
    ck_assert_uint_eq(w.last.files_verified, FILES);
    ck_assert_uint_eq(w.last.tries, 1);
    struct snapshot_server_stats s;
    snapshot_server_stats(w.server, &s);
    ck_assert_uint_eq(s.bytes, w.last.bytes_total);
    /* Once more: all is there, only verified again, and needs no sender at all. */
    ck_assert_int_eq(fetch(), ERR_OK);
    ck_assert_uint_eq(w.last.bytes_received, 0);
    ck_assert_uint_eq(w.last.bytes_resumed, w.last.bytes_total);
    ck_assert_uint_eq(w.last.tries, 0);
    expect_files();
}
END_TEST

START_TEST(goes_on_after_lost_connections)
{
    make();
    w.interrupt_every = w.interrupt_at = 900 * KIB;
    ck_assert_int_eq(fetch(), ERR_OK);
    expect_files();
    ck_assert_uint_ge(w.last.tries, 4);
    /* Nothing that had arrived was asked for again. */
    ck_assert_uint_eq(w.last.bytes_received, w.last.bytes_total);
}
END_TEST

static void cancel_at(struct io_timer *t)
{
    if (w.last.bytes_written < 2 * MIB) {
        io_timer_set(w.io, t, io_now(w.io) + NS_PER_MS / 4);
        return;
    }
    snapshot_fetch_cancel(w.watched);
}

static void fetch_half(void)
{
    struct io_timer t = {.fn = cancel_at};
    struct snapshot_fetch_options o = fetch_options("receiver");

    start_fetch(&o);
    io_timer_set(w.io, &t, io_now_exact(w.io));
    run_all();
    ck_assert_int_eq(w.fetched[0], ERR_INTERRUPTED);
    w.last = (struct snapshot_fetch_stats){0};
}

START_TEST(a_new_fetch_resumes)
{
    char stray[4300];

    make();
    fetch_half();
    /* Things that do not belong there: gone in the end. */
    snprintf(stray, sizeof stray, "%s/incoming-%016llx/EVIL", dir_of("receiver"),
             (unsigned long long)w.id);
    ck_assert_int_eq(write_some(stray, 10, 1), ERR_OK);
    snprintf(stray, sizeof stray, "%s/incoming-%016llx/sub", dir_of("receiver"),
             (unsigned long long)w.id);
    ck_assert_int_eq(fs_mkdir(stray), ERR_OK);
    snprintf(stray, sizeof stray, "%s/incoming-0000000000000001", dir_of("receiver"));
    ck_assert_int_eq(fs_mkdir(stray), ERR_OK);
    ck_assert_int_eq(fetch(), ERR_OK);
    expect_files();
    ck_assert_uint_ge(w.last.bytes_resumed, 2 * MIB);
    ck_assert_uint_eq(w.last.bytes_received + w.last.bytes_resumed, w.last.bytes_total);
    ck_assert(!fs_exists(stray));
}
END_TEST

START_TEST(damage_on_our_side_is_fetched_again)
{
    char file[4300];

    make();
    fetch_half();
    snap_file(file, sizeof file, "receiver", "incoming", 4);
    flip(file, 100);
    snap_file(file, sizeof file, "receiver", "incoming", 1);
    ck_assert_int_eq(write_some(file, 5000, 1), ERR_OK); /* longer than it should be */
    ck_assert_int_eq(fetch(), ERR_OK);
    ck_assert_uint_eq(w.last.files_refetched, 1);
    expect_files();
}
END_TEST

START_TEST(damage_on_their_side_fails)
{
    char file[4300];

    make();
    snap_file(file, sizeof file, "sender", "snap", 5);
    flip(file, 500000);
    ck_assert_int_eq(fetch(), ERR_CORRUPT);
    ck_assert_uint_eq(w.last.files_refetched, 1);
    /* A file that is gone altogether: another snapshot is needed. */
    ck_assert_int_eq(fs_unlink(file), ERR_OK);
    ck_assert_int_eq(fetch(), ERR_NOT_FOUND);
}
END_TEST

START_TEST(a_snapshot_that_is_gone_is_said_so)
{
    make();
    w.pending++;
    snapshot_store_drop(w.store, GROUP, put_down, NULL);
    run_all();
    ck_assert_int_eq(fetch(), ERR_NOT_FOUND);
    ck_assert_uint_eq(w.last.tries, 1);
}
END_TEST

START_TEST(no_sender_no_end_without_an_answer)
{
    make();
    io_listener_close(w.listener);
    uint64_t begun = io_now_exact(w.io);
    enum err e = fetch();
    ck_assert_msg(e == ERR_UNREACHABLE || e == ERR_CLOSED || e == ERR_IO, "%s", err_name(e));
    ck_assert_uint_ge(io_now_exact(w.io) - begun, 1500 * NS_PER_MS);
    ck_assert_uint_ge(w.last.tries, 3);
    ck_assert_int_eq(io_listen(w.io, &w.addr, on_accept, NULL, &w.listener), ERR_OK);
}
END_TEST

START_TEST(more_than_may_be_served_take_turns)
{
    make();
    w.server_options.max_serves = 1;
    restart_server();
    for (size_t i = 0; i < 3; i++) {
        static const char *const who[] = {"r0", "r1", "r2"};
        struct snapshot_fetch_options o = fetch_options(who[i]);
        struct snapshot_fetch *f;
        o.arg = (void *)(uintptr_t)i;
        o.give_up_ns = 10 * NS_PER_S;
        w.pending++;
        ck_assert_int_eq(snapshot_fetch(&o, &f), ERR_OK);
    }
    run_all();
    for (size_t i = 0; i < 3; i++)
        ck_assert_msg(w.fetched[i] == ERR_OK, "%s", err_name(w.fetched[i]));
    struct snapshot_server_stats s;
    snapshot_server_stats(w.server, &s);
    ck_assert_uint_gt(s.refused, 0);
}
END_TEST

static uint64_t timed_fetch(const char *who, struct snapshot_rate *rate)
{
    struct snapshot_fetch_options o = fetch_options(who);

    o.rate = rate;
    uint64_t begun = io_now_exact(w.io);
    start_fetch(&o);
    run_all();
    ck_assert_int_eq(w.fetched[0], ERR_OK);
    return (io_now_exact(w.io) - begun) / NS_PER_MS;
}

START_TEST(rates_hold_on_both_ends)
{
    struct snapshot_rate rate;

    make();
    snapshot_rate_init(&rate, 8 * MIB); /* 4.5 MiB, of which 2 at once */
    uint64_t ms = timed_fetch("r1", &rate);
    ck_assert_msg(ms >= 250 && ms < 2000, "%llu ms", (unsigned long long)ms);
    w.server_options.bytes_per_s = 8 * MIB;
    restart_server();
    ms = timed_fetch("r2", NULL);
    ck_assert_msg(ms >= 250 && ms < 2000, "%llu ms", (unsigned long long)ms);
}
END_TEST

START_TEST(hostile_manifests_start_nothing)
{
    struct snapshot_fetch_options o;
    struct snapshot_fetch *f;

    make();
    w.manifest.p[60] ^= 1;
    o = fetch_options("receiver");
    ck_assert_int_eq(snapshot_fetch(&o, &f), ERR_CORRUPT);
    o.manifest = slice_str("");
    ck_assert_int_eq(snapshot_fetch(&o, &f), ERR_CORRUPT);
}
END_TEST

/* ---- the other end misbehaves ---- */

struct raw {
    struct conn *c;
    struct buf got; /* bodies of DATA and END are only counted */
    unsigned data, end;
    enum err end_err;
    bool reading;
};

static enum err raw_split(void *arg, struct slice data, size_t *n)
{
    (void)arg;
    return frame_split(data, SNAPSHOT_FRAME_MAX, n);
}

static void raw_message(void *arg, struct slice message)
{
    struct raw *r = arg;
    struct slice body;
    struct snapshot_end e;
    uint8_t type;

    ck_assert_int_eq(frame_decode(message, &type, &body), ERR_OK);
    r->data += type == FRAME_SNAPSHOT_DATA;
    if (type == FRAME_SNAPSHOT_END) {
        ck_assert_int_eq(snapshot_end_decode(body, &e), ERR_OK);
        r->end++;
        r->end_err = e.err;
    }
}

static void raw_end(void *arg, enum err why)
{
    (void)arg;
    (void)why;
    w.pending--;
}

static const struct conn_ops raw_ops = {
    .split = raw_split, .on_message = raw_message, .on_end = raw_end};

/* Sends the frames behind a good HELLO and waits for the end of the connection. */
static struct raw talk(struct slice frames)
{
    struct raw r = {0};
    struct peer_hello h = hello_of(2);

    h.to = 1;
    h.core = 3;
    h.purpose = PEER_SNAPSHOT;
    r.c = conn_connect(w.conns, &w.addr, &raw_ops, &r);
    peer_hello_encode(conn_out(r.c), &h);
    buf_append(conn_out(r.c), frames.p, frames.n);
    w.pending++;
    run_all();
    return r;
}

START_TEST(hostile_requests_are_refused)
{
    struct buf b = {0};
    struct raw r;
    struct snapshot_server_stats s;

    make();
    struct snapshot_get bad[] = {
        {.id = w.id, .file = FILES, .offset = 0, .length = 1},
        {.id = w.id, .file = UINT32_MAX, .offset = 0, .length = 1},
        {.id = w.id, .file = 6, .offset = sizes[6], .length = 1},
        {.id = w.id, .file = 6, .offset = UINT64_MAX, .length = 2},
        {.id = w.id, .file = 6, .offset = sizes[6] - 1, .length = 2},
        {.id = w.id, .file = 0, .offset = 0, .length = 1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        buf_clear(&b);
        snapshot_put_get(&b, &bad[i]);
        r = talk(buf_slice(&b));
        ck_assert_uint_eq(r.data, 0);
        ck_assert_uint_eq(r.end, 1);
        ck_assert_int_eq(r.end_err, ERR_BAD_REQUEST);
    }
    struct snapshot_get none = {.id = w.id + 1, .file = 0, .offset = 0, .length = 1};
    buf_clear(&b);
    snapshot_put_get(&b, &none);
    ck_assert_int_eq(talk(buf_slice(&b)).end_err, ERR_NOT_FOUND);
    /* A length over the limit, a wrong frame, damage, too many at once: cut off. */
    struct snapshot_get large = {.id = w.id, .file = 6, .length = SNAPSHOT_CHUNK_MAX + 1};
    buf_clear(&b);
    snapshot_put_get(&b, &large);
    ck_assert_uint_eq(talk(buf_slice(&b)).end, 0);
    buf_clear(&b);
    frame_finish(&b, frame_begin(&b, FRAME_MESSAGES));
    ck_assert_uint_eq(talk(buf_slice(&b)).end, 0);
    struct snapshot_get good = {.id = w.id, .file = 6, .offset = 0, .length = 4096};
    buf_clear(&b);
    snapshot_put_get(&b, &good);
    b.p[b.n - 1] ^= 1;
    ck_assert_uint_eq(talk(buf_slice(&b)).end, 0);
    buf_clear(&b);
    for (unsigned i = 0; i < 2 * SNAPSHOT_WINDOW; i++)
        snapshot_put_get(&b, &good);
    r = talk(buf_slice(&b));
    ck_assert_uint_lt(r.data, 2 * SNAPSHOT_WINDOW);
    snapshot_server_stats(w.server, &s);
    ck_assert_uint_eq(s.violations, 4);
    buf_close(&b);
}
END_TEST

START_TEST(an_idle_receiver_is_shown_out)
{
    make();
    w.server_options.idle_ns = 100 * NS_PER_MS;
    restart_server();
    struct raw r = talk(slice_str(""));
    ck_assert_uint_eq(r.end, 0);
}
END_TEST

/* A sender that lies: takes any HELLO and GET and answers each with the frames set here. */
static struct buf lie;
static bool lie_cut;

static void liar_message(void *arg, struct slice message)
{
    struct raw *r = arg;
    struct slice body;
    uint8_t type;

    ck_assert_int_eq(frame_decode(message, &type, &body), ERR_OK);
    if (type != FRAME_SNAPSHOT_GET)
        return;
    buf_append(conn_out(r->c), lie.p, lie.n);
    if (lie_cut)
        conn_close(r->c);
}

static void liar_end(void *arg, enum err why)
{
    (void)why;
    free(arg);
}

static const struct conn_ops liar_ops = {
    .split = raw_split, .on_message = liar_message, .on_end = liar_end};

static void liar_accept(void *arg, int handle, const struct io_addr *from)
{
    struct raw *r = mem_zalloc(sizeof *r);

    (void)arg;
    (void)from;
    ck_assert_int_eq(conn_adopt(w.server_conns, handle, &liar_ops, r, &r->c), ERR_OK);
}

START_TEST(a_lying_sender_is_given_up)
{
    static uint8_t bytes[64 * KIB];

    make();
    io_listener_close(w.listener);
    ck_assert_int_eq(io_listen(w.io, &w.addr, liar_accept, NULL, &w.listener), ERR_OK);
    struct snapshot_data data[] = {
        {.id = w.id + 1, .file = 1, .bytes = slice_of(bytes, 1)},
        {.id = w.id, .file = 2, .bytes = slice_of(bytes, 1)},
        {.id = w.id, .file = 1, .offset = 1, .bytes = slice_of(bytes, 1)},
        {.id = w.id, .file = 1, .bytes = slice_of(bytes, 2)},
    };
    for (size_t i = 0; i < sizeof data / sizeof *data + 3; i++) {
        struct snapshot_fetch_options o = fetch_options("receiver");
        enum err want = ERR_CORRUPT;
        o.give_up_ns = 300 * NS_PER_MS;
        o.timeout_ns = 100 * NS_PER_MS;
        buf_clear(&lie);
        lie_cut = false;
        if (i < sizeof data / sizeof *data) {
            snapshot_put_data(&lie, &data[i]);
        } else if (i == sizeof data / sizeof *data) {
            want = ERR_TIMEOUT; /* says nothing */
        } else if (i == sizeof data / sizeof *data + 1) {
            buf_append(&lie, "this is no frame at all", 23);
            want = ERR_BAD_REQUEST;
        } else {
            lie_cut = true;
            want = ERR_CLOSED;
        }
        start_fetch(&o);
        run_all();
        ck_assert_msg(w.fetched[0] == want, "%zu: %s", i, err_name(w.fetched[0]));
        ck_assert_uint_eq(w.last.bytes_received, 0);
    }
    buf_close(&lie);
}
END_TEST

/* ---- the store ---- */

START_TEST(live_snapshots_are_reused_and_joined)
{
    struct snapshot_store_stats s;

    make();
    uint64_t first = w.id;
    make();
    ck_assert_uint_eq(w.id, first);
    w.pending += 2; /* newer than the live one: made once for both */
    snapshot_store_make(w.store, GROUP, dir_of("sender"), 1001, checkpoint, on_made, NULL);
    snapshot_store_make(w.store, GROUP, dir_of("sender"), 1001, checkpoint, on_made, NULL);
    run_all();
    ck_assert_int_eq(w.made_result, ERR_OK);
    ck_assert_uint_ne(w.id, first);
    snapshot_store_stats(w.store, &s);
    ck_assert_uint_eq(s.made, 2);
    ck_assert_uint_eq(s.reused, 1);
    ck_assert_uint_eq(s.live, 2);
}
END_TEST

static void wait_until(struct io_timer *t)
{
    (void)t;
    w.pending--;
}

static void run_for(uint64_t ns)
{
    struct io_timer t = {.fn = wait_until};

    w.pending++;
    io_timer_set(w.io, &t, io_now_exact(w.io) + ns);
    run_all();
}

START_TEST(the_store_is_bounded)
{
    struct snapshot_store_stats s;

    make();
    for (unsigned i = 1; i < 4; i++) {
        w.pending++;
        snapshot_store_make(w.store, GROUP, dir_of("sender"), 1000 + i, checkpoint, on_made, NULL);
        run_all();
        ck_assert_int_eq(w.made_result, ERR_OK);
    }
    w.pending++;
    snapshot_store_make(w.store, GROUP, dir_of("sender"), 1004, checkpoint, on_made, NULL);
    run_all();
    ck_assert_int_eq(w.made_result, ERR_BUSY);
    /* A receiver that has got all of the newest makes room. */
    ck_assert_int_eq(fetch(), ERR_OK);
    run_for(100 * NS_PER_MS); /* its last words arrive */
    w.pending++;
    snapshot_store_make(w.store, GROUP, dir_of("sender"), 1004, checkpoint, on_made, NULL);
    run_all();
    ck_assert_int_eq(w.made_result, ERR_OK);
    snapshot_store_stats(w.store, &s);
    ck_assert_uint_eq(s.evicted, 1);
}
END_TEST

static enum err ask_for(uint64_t index)
{
    w.pending++;
    snapshot_store_make(w.store, GROUP, dir_of("sender"), index, checkpoint, on_made, NULL);
    run_all();
    return w.made_result;
}

/* Members that are down are offered the same again and again: others wait for the places. */
START_TEST(what_nobody_fetches_gives_up_its_place)
{
    struct snapshot_store_stats s;

    teardown();
    setup_with(1, 0, 200 * NS_PER_MS);
    ck_assert_int_eq(ask_for(0), ERR_OK);
    ck_assert_int_eq(ask_for(1001), ERR_BUSY);
    run_for(150 * NS_PER_MS);
    ck_assert_int_eq(ask_for(0), ERR_OK); /* offered again */
    run_for(150 * NS_PER_MS);
    ck_assert_int_eq(ask_for(1001), ERR_OK);
    snapshot_store_stats(w.store, &s);
    ck_assert_uint_eq(s.reused, 1);
    ck_assert_uint_eq(s.evicted, 1);
    ck_assert_uint_eq(s.live, 1);
}
END_TEST

START_TEST(a_receiver_that_has_begun_may_be_silent_for_longer)
{
    teardown();
    setup_with(1, 0, 200 * NS_PER_MS);
    ck_assert_int_eq(ask_for(0), ERR_OK);
    snapshot_unpin(snapshot_store_pin(w.store, w.id)); /* a chunk is read */
    run_for(400 * NS_PER_MS);
    ck_assert_int_eq(ask_for(1001), ERR_BUSY);
    run_for(500 * NS_PER_MS);
    ck_assert_int_eq(ask_for(1001), ERR_OK);
}
END_TEST

/* One that is offered to a second receiver after the first has got it is that one's. */
START_TEST(the_next_receiver_has_its_time)
{
    teardown();
    setup_with(1, 0, 200 * NS_PER_MS);
    ck_assert_int_eq(ask_for(0), ERR_OK);
    ck_assert_int_eq(fetch(), ERR_OK);
    run_for(300 * NS_PER_MS);
    ck_assert_int_eq(ask_for(0), ERR_OK);
    ck_assert_int_eq(ask_for(1001), ERR_BUSY);
    run_for(250 * NS_PER_MS);
    ck_assert_int_eq(ask_for(1001), ERR_OK);
}
END_TEST

START_TEST(unused_snapshots_expire)
{
    struct snapshot_store_stats s;
    char file[4300];

    teardown();
    setup_with(2, 200 * NS_PER_MS, 0);
    make();
    snap_file(file, sizeof file, "sender", "snap", 3);
    ck_assert(fs_exists(file));
    run_for(500 * NS_PER_MS);
    snapshot_store_stats(w.store, &s);
    ck_assert_uint_eq(s.expired, 1);
    ck_assert_uint_eq(s.live, 0);
    ck_assert(!fs_exists(file));
    ck_assert_int_eq(fetch(), ERR_NOT_FOUND);
}
END_TEST

static enum err failing(void *arg, const char *path, uint64_t *index, struct buf *note)
{
    (void)checkpoint(arg, path, index, note);
    return ERR_NO_SPACE;
}

static unsigned names_like_snap;
static void count_snaps(void *arg, const char *name, bool is_dir)
{
    (void)arg;
    (void)is_dir;
    names_like_snap += strncmp(name, "snap-", 5) == 0;
}

START_TEST(failures_and_drops_leave_nothing_behind)
{
    char *dir = dir_of("sender");

    w.pending++;
    snapshot_store_make(w.store, GROUP, dir, 0, failing, on_made, NULL);
    run_all();
    ck_assert_int_eq(w.made_result, ERR_NO_SPACE);
    /* Dropped while it is being made. */
    w.pending += 2;
    snapshot_store_make(w.store, GROUP, dir, 0, checkpoint, on_made, NULL);
    snapshot_store_drop(w.store, GROUP, put_down, NULL);
    run_all();
    ck_assert_int_eq(w.made_result, ERR_INTERRUPTED);
    names_like_snap = 0;
    ck_assert_int_eq(fs_list(dir, count_snaps, NULL), ERR_OK);
    ck_assert_uint_eq(names_like_snap, 0);
    /* What a crash leaves is removed at the next start. */
    char left[4300];
    snprintf(left, sizeof left, "%s/snap-00000000000000aa.tmp", dir);
    ck_assert_int_eq(fs_mkdir(left), ERR_OK);
    snprintf(left, sizeof left, "%s/incoming-00000000000000aa", dir);
    ck_assert_int_eq(fs_mkdir(left), ERR_OK);
    ck_assert_int_eq(snapshot_store_clean(dir), ERR_OK);
    ck_assert_int_eq(fs_list(dir, count_snaps, NULL), ERR_OK);
    ck_assert_uint_eq(names_like_snap, 0);
    ck_assert(fs_exists(left));
    ck_assert_int_eq(snapshot_fetch_clean(dir), ERR_OK);
    ck_assert(!fs_exists(left));
}
END_TEST

static void add_tests(TCase *t)
{
    tcase_add_test(t, all_files_arrive);
    tcase_add_test(t, goes_on_after_lost_connections);
    tcase_add_test(t, a_new_fetch_resumes);
    tcase_add_test(t, damage_on_our_side_is_fetched_again);
    tcase_add_test(t, damage_on_their_side_fails);
    tcase_add_test(t, a_snapshot_that_is_gone_is_said_so);
    tcase_add_test(t, no_sender_no_end_without_an_answer);
    tcase_add_test(t, more_than_may_be_served_take_turns);
    tcase_add_test(t, rates_hold_on_both_ends);
    tcase_add_test(t, hostile_manifests_start_nothing);
    tcase_add_test(t, hostile_requests_are_refused);
    tcase_add_test(t, an_idle_receiver_is_shown_out);
    tcase_add_test(t, a_lying_sender_is_given_up);
    tcase_add_test(t, live_snapshots_are_reused_and_joined);
    tcase_add_test(t, the_store_is_bounded);
    tcase_add_test(t, what_nobody_fetches_gives_up_its_place);
    tcase_add_test(t, a_receiver_that_has_begun_may_be_silent_for_longer);
    tcase_add_test(t, the_next_receiver_has_its_time);
    tcase_add_test(t, unused_snapshots_expire);
    tcase_add_test(t, failures_and_drops_leave_nothing_behind);
}

int main(void)
{
    const char *tmp = getenv("TEST_TMP");
    char made[] = "/tmp/shardkv-snapshot.XXXXXX";

    snprintf(root, sizeof root, "%s", tmp ? tmp : mkdtemp(made));
    log_set_level(LOG_SILENT);
    Suite *s = suite_create("snapshot_stream");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    add_tests(t);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
