/* One struct serve per connection; it is freed when its connection has ended and its read is done.
 */
#include "common/raft/snapshot_serve.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/io/fs.h"
#include "common/raft/snapshot_scan.h"
#include "common/raft/snapshot_wire.h"
#include "common/wire/frame.h"

#define MAX_SERVES_DEFAULT 4u
#define IDLE_DEFAULT (30 * NS_PER_S)
#define UNSENT_MAX (2 * MIB)
#define UNSENT_POLL (5 * NS_PER_MS) /* conn.h does not tell when output has gone */
#define REQUEST_FRAME_MAX 64u       /* a receiver sends nothing longer */

struct snapshot_server {
    struct snapshot_server_options o;
    struct list serves; /* serve.link */
    unsigned serving;   /* of the serves, those admitted */
    struct snapshot_rate rate;
    struct snapshot_server_stats stats;
    struct io_timer timer; /* ends an idle server that is going away from the loop */
    void (*destroyed)(void *arg);
    void *destroyed_arg;
};

struct serve {
    struct list link;
    struct snapshot_server *s;
    struct conn *c; /* NULL: ended */
    bool admitted, closing;
    struct snapshot_get queue[SNAPSHOT_WINDOW];
    unsigned first, n;
    struct io_timer timer; /* when to look again: rate, unsent output, idleness */
    uint64_t moved_at;     /* last progress */
    size_t unsent;         /* at that time */
    /* The read under way, owned by the offload thread while `reading`. */
    bool reading;
    struct io_work work;
    struct snapshot *snap;
    struct snapshot_get get;
    char *path;
    uint8_t *chunk;
    enum err result;
};

static void step(struct serve *v);
static void maybe_gone(struct snapshot_server *s);

/* ---- life of a serve ---- */

static void free_serve(struct serve *v)
{
    struct snapshot_server *s = v->s;

    CHECK(!v->c && !v->reading);
    io_timer_cancel(s->o.io, &v->timer);
    list_remove(&v->link);
    s->serving -= v->admitted;
    free(v->chunk);
    free(v);
    maybe_gone(s);
}

static void on_end(void *arg, enum err why)
{
    struct serve *v = arg;

    (void)why;
    v->c = NULL;
    io_timer_cancel(v->s->o.io, &v->timer);
    if (!v->reading)
        free_serve(v);
}

/* Last words, then the end of the connection. */
static void finish(struct serve *v, uint64_t id, enum err why)
{
    struct snapshot_end e = {.id = id, .err = why};

    snapshot_put_end(conn_out(v->c), &e);
    v->closing = true;
    v->n = 0;
    io_timer_cancel(v->s->o.io, &v->timer);
    conn_close(v->c);
}

static void violation(struct serve *v)
{
    v->s->stats.violations++;
    v->closing = true;
    io_timer_cancel(v->s->o.io, &v->timer);
    conn_abort(v->c);
}

/* ---- one read ---- */

static void read_run(struct io_work *w)
{
    struct serve *v = CONTAINER_OF(w, struct serve, work);
    struct fs_file *f = NULL;
    size_t got = 0;

    v->result = fs_open(v->path, FS_READ, &f);
    if (v->result == ERR_OK)
        v->result = fs_read(f, v->chunk, v->get.length, v->get.offset, &got);
    if (v->result == ERR_OK && got != v->get.length)
        v->result = ERR_IO;
    fs_close(f);
}

static void read_done(struct io_work *w)
{
    struct serve *v = CONTAINER_OF(w, struct serve, work);

    v->reading = false;
    free(v->path);
    v->path = NULL;
    snapshot_unpin(v->snap);
    v->snap = NULL;
    if (!v->c) {
        free_serve(v);
        return;
    }
    if (v->closing)
        return;
    if (v->result != ERR_OK) {
        /* The file is there but cannot be read: this snapshot is of no use, another may be. */
        finish(v, v->get.id, v->result == ERR_NOT_FOUND ? ERR_NOT_FOUND : ERR_IO);
        return;
    }
    struct snapshot_data d = {.id = v->get.id,
                              .file = v->get.file,
                              .offset = v->get.offset,
                              .bytes = slice_of(v->chunk, v->get.length)};
    snapshot_put_data(conn_out(v->c), &d);
    v->s->stats.chunks++;
    v->s->stats.bytes += v->get.length;
    v->moved_at = io_now(v->s->o.io);
    step(v);
}

static void start_read(struct serve *v)
{
    struct snapshot_server *s = v->s;
    struct snapshot_get g = v->queue[v->first];

    v->first = (v->first + 1) % SNAPSHOT_WINDOW;
    v->n--;
    struct snapshot *snap = snapshot_store_pin(s->o.store, g.id);
    if (!snap) {
        finish(v, g.id, ERR_NOT_FOUND);
        return;
    }
    const struct snapshot_manifest *m = snapshot_get_manifest(snap);
    if (g.file >= m->n || g.offset > m->files[g.file].size ||
        g.length > m->files[g.file].size - g.offset) {
        snapshot_unpin(snap);
        finish(v, g.id, ERR_BAD_REQUEST);
        return;
    }
    if (!v->chunk)
        v->chunk = mem_alloc(SNAPSHOT_CHUNK_MAX);
    snapshot_rate_take(&s->rate, g.length);
    v->snap = snap;
    v->get = g;
    v->path = snapshot_join(snapshot_path(snap), m->files[g.file].name);
    v->reading = true;
    v->work = (struct io_work){.run = read_run, .done = read_done};
    io_offload(s->o.io, &v->work);
}

/* Starts the next read if it may be, else sets the timer for when to look again. */
static void step(struct serve *v)
{
    struct snapshot_server *s = v->s;
    uint64_t now = io_now(s->o.io), wait = 0;

    if (v->reading || v->closing || !v->c)
        return;
    size_t unsent = conn_unsent(v->c);
    if (unsent < v->unsent)
        v->moved_at = now;
    v->unsent = unsent;
    if (now - v->moved_at >= s->o.idle_ns) {
        v->closing = true;
        conn_abort(v->c);
        return;
    }
    if (v->n > 0) {
        wait = snapshot_rate_wait(&s->rate, now);
        if (unsent > UNSENT_MAX)
            wait = UNSENT_POLL;
        else if (wait > 0)
            v->moved_at = now; /* our own doing, not the receiver's */
        if (wait == 0) {
            io_timer_cancel(s->o.io, &v->timer);
            start_read(v);
            return;
        }
    }
    io_timer_set(s->o.io, &v->timer, wait > 0 ? now + wait : v->moved_at + s->o.idle_ns);
}

static void on_timer(struct io_timer *t)
{
    step(CONTAINER_OF(t, struct serve, timer));
}

/* ---- messages ---- */

static enum err split(void *arg, struct slice data, size_t *n)
{
    (void)arg;
    return frame_split(data, REQUEST_FRAME_MAX, n);
}

static void on_get(struct serve *v, struct slice body)
{
    struct snapshot_get g;

    if (snapshot_get_decode(body, &g) != ERR_OK || v->n == SNAPSHOT_WINDOW) {
        violation(v);
        return;
    }
    v->queue[(v->first + v->n) % SNAPSHOT_WINDOW] = g;
    v->n++;
    v->moved_at = io_now(v->s->o.io);
    step(v);
}

static void on_message(void *arg, struct slice message)
{
    struct serve *v = arg;
    struct snapshot_end end;
    struct slice body;
    uint8_t type;

    if (v->closing)
        return;
    if (!v->admitted) {
        /* Said only now, as an answer, so that the receiver surely reads it. */
        v->s->stats.refused++;
        finish(v, 0, ERR_BUSY);
        return;
    }
    if (frame_decode(message, &type, &body) != ERR_OK) {
        violation(v);
    } else if (type == FRAME_SNAPSHOT_GET) {
        on_get(v, body);
    } else if (type == FRAME_SNAPSHOT_END && snapshot_end_decode(body, &end) == ERR_OK) {
        if (end.err == ERR_OK)
            snapshot_store_finished(v->s->o.store, end.id);
        v->closing = true;
        conn_close(v->c);
    } else {
        violation(v);
    }
}

static const struct conn_ops serve_ops = {
    .split = split,
    .on_message = on_message,
    .on_end = on_end,
};

/* ---- the server ---- */

static void on_server_timer(struct io_timer *t)
{
    maybe_gone(CONTAINER_OF(t, struct snapshot_server, timer));
}

struct snapshot_server *snapshot_server_create(const struct snapshot_server_options *o)
{
    struct snapshot_server *s = mem_zalloc(sizeof *s);

    s->o = *o;
    if (s->o.max_serves == 0)
        s->o.max_serves = MAX_SERVES_DEFAULT;
    if (s->o.idle_ns == 0)
        s->o.idle_ns = IDLE_DEFAULT;
    snapshot_rate_init(&s->rate, s->o.bytes_per_s);
    list_init(&s->serves);
    s->timer.fn = on_server_timer;
    return s;
}

void snapshot_server_set_rate(struct snapshot_server *s, uint64_t bytes_per_s)
{
    s->o.bytes_per_s = bytes_per_s;
    snapshot_rate_set(&s->rate, bytes_per_s);
}

static void maybe_gone(struct snapshot_server *s)
{
    if (!s->destroyed || !list_empty(&s->serves))
        return;
    void (*done)(void *arg) = s->destroyed;
    void *arg = s->destroyed_arg;
    io_timer_cancel(s->o.io, &s->timer);
    free(s);
    done(arg);
}

void snapshot_server_destroy(struct snapshot_server *s, void (*done)(void *arg), void *arg)
{
    CHECK(done != NULL && !s->destroyed);
    s->destroyed = done;
    s->destroyed_arg = arg;
    LIST_FOR(item, &s->serves)
    {
        struct serve *v = CONTAINER_OF(item, struct serve, link);
        v->closing = true;
        io_timer_cancel(s->o.io, &v->timer);
        if (v->c)
            conn_abort(v->c);
    }
    io_timer_set(s->o.io, &s->timer, io_now(s->o.io));
}

/* As many again as are served are let in so far as to be told BUSY; the rest finds the door shut.
 */
static bool may_enter(struct snapshot_server *s)
{
    unsigned refusing = 0;

    LIST_FOR(item, &s->serves)
    refusing += !CONTAINER_OF(item, struct serve, link)->admitted;
    if (!s->destroyed && refusing < s->o.max_serves)
        return true;
    s->stats.refused++;
    return false;
}

static struct serve *create_serve(struct snapshot_server *s)
{
    struct serve *v = mem_zalloc(sizeof *v);

    v->s = s;
    v->timer.fn = on_timer;
    v->moved_at = io_now(s->o.io);
    return v;
}

static void enter(struct serve *v, struct conn *c)
{
    struct snapshot_server *s = v->s;

    v->c = c;
    list_push_back(&s->serves, &v->link);
    v->admitted = s->serving < s->o.max_serves;
    if (v->admitted) {
        s->serving++;
        s->stats.served++;
    }
    io_timer_set(s->o.io, &v->timer, v->moved_at + s->o.idle_ns);
}

static void on_shut_out_end(void *arg, enum err why)
{
    (void)arg;
    (void)why;
}

static void on_shut_out_message(void *arg, struct slice message)
{
    (void)arg;
    (void)message;
}

static const struct conn_ops shut_out_ops = {
    .split = split,
    .on_message = on_shut_out_message,
    .on_end = on_shut_out_end,
};

void snapshot_serve(struct snapshot_server *s, struct conn *c)
{
    if (!may_enter(s)) {
        conn_set_ops(c, &shut_out_ops, NULL);
        conn_abort(c);
        return;
    }
    struct serve *v = create_serve(s);
    conn_set_ops(c, &serve_ops, v);
    enter(v, c);
}

void snapshot_serve_handle(struct snapshot_server *s, int handle, struct slice rest)
{
    struct conn *c;

    if (!may_enter(s)) {
        io_handle_close(handle);
        return;
    }
    struct serve *v = create_serve(s);
    if (conn_adopt(s->o.conns, handle, &serve_ops, v, &c) != ERR_OK) {
        free(v);
        return;
    }
    enter(v, c);
    if (rest.n > 0)
        conn_feed(c, rest);
}

void snapshot_server_stats(const struct snapshot_server *s, struct snapshot_server_stats *out)
{
    *out = s->stats;
    out->serving = s->serving;
}
