/* Loop side of a fetch. Two things go on at once: the connection (requests in order, `asked` of
 * them unanswered) and one job on an offload thread (snapshot_fetch_job.c). Everything that happens
 * ends in step(), which starts what can be started and sets the one timer.
 *
 * What each file has is kept as two numbers: `requested` is what was asked for (or is there),
 * `written` what is on disk. A lost connection takes `requested` back by the unanswered requests;
 * a file with a wrong checksum starts again from nothing. */
#include "common/raft/snapshot_fetch_impl.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/net/peer_hello.h"
#include "common/raft/snapshot_scan.h"
#include "common/wire/frame.h"

#define CHUNK_DEFAULT (256 * KIB)
#define WINDOW_DEFAULT 4u
#define TIMEOUT_DEFAULT (10 * NS_PER_S) /* a sender that lost its power says nothing */
#define GIVE_UP_DEFAULT (60 * NS_PER_S)
#define BACKOFF_MIN (100 * NS_PER_MS)
#define BACKOFF_MAX (5 * NS_PER_S)

static void step(struct snapshot_fetch *f);
static const struct conn_ops fetch_ops;

static uint64_t now_of(const struct snapshot_fetch *f)
{
    return io_now(f->o.io);
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- the end ---- */

static void free_fetch(struct snapshot_fetch *f)
{
    CHECK(!f->busy && !f->c && list_empty(&f->chunks) && list_empty(&f->job.chunks));
    io_timer_cancel(f->o.io, &f->timer);
    snapshot_manifest_close(&f->m);
    free(f->files);
    free(f->path);
    free(f->name);
    free(f->parent);
    free(f);
}

static void drop_chunks(struct list *chunks)
{
    struct list *item;

    while ((item = list_pop_front(chunks)) != NULL)
        free(CONTAINER_OF(item, struct fetch_chunk, link));
}

/* Nothing new is begun; done() follows from step() once no job is under way. */
static void end(struct snapshot_fetch *f, enum err result)
{
    if (f->ended)
        return;
    f->ended = true;
    f->result = result;
    drop_chunks(&f->chunks);
    f->waiting_chunks = 0;
    if (!f->c || f->lost)
        return;
    if (f->connected && result == ERR_OK)
        conn_close(f->c);
    else
        conn_abort(f->c);
}

/* Tells the owner, then stays until the connection has ended too. */
static void step_ended(struct snapshot_fetch *f)
{
    if (f->busy)
        return;
    if (!f->told) {
        f->told = true;
        io_timer_cancel(f->o.io, &f->timer);
        f->o.done(f->o.arg, f->result, f->result == ERR_OK ? f->path : NULL);
    }
    if (!f->c)
        free_fetch(f);
}

/* ---- the connection ---- */

static void lose(struct snapshot_fetch *f, enum err cause)
{
    f->cause = cause;
    f->lost = true;
    conn_abort(f->c);
}

static void on_connected(void *arg)
{
    struct snapshot_fetch *f = arg;
    struct peer_hello hello = f->o.self;

    hello.to = f->o.from;
    hello.core = f->m.core;
    hello.purpose = PEER_SNAPSHOT;
    peer_hello_encode(conn_out(f->c), &hello);
    f->connected = true;
    f->heard_at = now_of(f);
    step(f);
}

static void on_end(void *arg, enum err why)
{
    struct snapshot_fetch *f = arg;

    f->c = NULL;
    f->connected = false;
    f->lost = false;
    /* Backwards, so that each file's earliest unanswered request wins. */
    while (f->asked > 0) {
        struct snapshot_get *g = &f->ask[(f->first_ask + --f->asked) % SNAPSHOT_WINDOW];
        f->files[g->file].requested = min_u64(f->files[g->file].requested, g->offset);
        if (g->file < f->next_request)
            f->next_request = g->file;
    }
    if (!f->ended) {
        f->last_error = f->cause != ERR_OK ? f->cause : why != ERR_OK ? why : ERR_CLOSED;
        f->cause = ERR_OK;
        uint64_t wait = f->backoff / 2 + io_random(f->o.io) % (f->backoff / 2 + 1);
        f->retry_at = now_of(f) + wait;
        f->backoff = min_u64(2 * f->backoff, BACKOFF_MAX);
    }
    step(f);
}

static void on_data(struct snapshot_fetch *f, struct slice body)
{
    struct snapshot_data d;

    if (snapshot_data_decode(body, &d) != ERR_OK || f->asked == 0) {
        lose(f, ERR_CORRUPT);
        return;
    }
    const struct snapshot_get *g = &f->ask[f->first_ask];
    if (d.id != g->id || d.file != g->file || d.offset != g->offset || d.bytes.n != g->length) {
        lose(f, ERR_CORRUPT);
        return;
    }
    f->first_ask = (f->first_ask + 1) % SNAPSHOT_WINDOW;
    f->asked--;
    struct fetch_chunk *c = mem_alloc(sizeof *c + d.bytes.n);
    c->file = d.file;
    c->offset = d.offset;
    c->n = d.bytes.n;
    memcpy(c->bytes, d.bytes.p, d.bytes.n);
    list_push_back(&f->chunks, &c->link);
    f->waiting_chunks++;
    f->stats.bytes_received += d.bytes.n;
    f->heard_at = f->progress_at = now_of(f);
    f->backoff = BACKOFF_MIN;
    step(f);
}

static void on_refusal(struct snapshot_fetch *f, enum err why)
{
    if (why == ERR_NOT_FOUND) {
        end(f, ERR_NOT_FOUND);
        step(f);
    } else if (why == ERR_BAD_REQUEST) {
        /* The sender's manifest is another one than ours. */
        end(f, ERR_CORRUPT);
        step(f);
    } else {
        lose(f, why == ERR_BUSY ? ERR_BUSY : ERR_UNREACHABLE);
    }
}

static enum err split(void *arg, struct slice data, size_t *n)
{
    (void)arg;
    return frame_split(data, SNAPSHOT_FRAME_MAX, n);
}

static void on_message(void *arg, struct slice message)
{
    struct snapshot_fetch *f = arg;
    struct snapshot_end e;
    struct slice body;
    uint8_t type;

    if (f->ended || f->lost)
        return;
    if (frame_decode(message, &type, &body) != ERR_OK)
        lose(f, ERR_CORRUPT);
    else if (type == FRAME_SNAPSHOT_DATA)
        on_data(f, body);
    else if (type == FRAME_SNAPSHOT_END && snapshot_end_decode(body, &e) == ERR_OK)
        on_refusal(f, e.err);
    else
        lose(f, ERR_CORRUPT);
}

static const struct conn_ops fetch_ops = {
    .split = split,
    .on_message = on_message,
    .on_end = on_end,
    .on_connected = on_connected,
};

static void connect_again(struct snapshot_fetch *f)
{
    struct io_addr to;

    f->connected_at = now_of(f);
    if (!f->o.resolve(f->o.arg, f->o.from, &to)) {
        f->last_error = ERR_UNREACHABLE;
        f->retry_at = now_of(f) + f->backoff;
        f->backoff = min_u64(2 * f->backoff, BACKOFF_MAX);
        return;
    }
    f->stats.tries++;
    f->c = conn_connect(f->o.conns, &to, &fetch_ops, f);
}

/* Something is still to be asked for. */
static bool find_request(struct snapshot_fetch *f)
{
    while (f->next_request < f->m.n &&
           f->files[f->next_request].requested == f->m.files[f->next_request].size)
        f->next_request++;
    return f->next_request < f->m.n;
}

/* Asks for as much as window and rate allow; gives the ns until the rate allows more, or 0. */
static uint64_t ask(struct snapshot_fetch *f)
{
    while (f->asked + f->waiting_chunks + f->job_chunks < f->o.window && find_request(f)) {
        uint64_t wait = f->o.rate ? snapshot_rate_wait(f->o.rate, now_of(f)) : 0;
        if (wait > 0)
            return wait;
        struct fetch_file *file = &f->files[f->next_request];
        uint64_t left = f->m.files[f->next_request].size - file->requested;
        struct snapshot_get g = {.id = f->m.id,
                                 .file = f->next_request,
                                 .offset = file->requested,
                                 .length = (uint32_t)min_u64(left, f->o.chunk)};
        if (f->asked == 0)
            f->heard_at = now_of(f);
        f->ask[(f->first_ask + f->asked++) % SNAPSHOT_WINDOW] = g;
        file->requested += g.length;
        if (f->o.rate)
            snapshot_rate_take(f->o.rate, g.length);
        snapshot_put_get(conn_out(f->c), &g);
    }
    return 0;
}

/* ---- what comes next ---- */

static bool start_job(struct snapshot_fetch *f)
{
    uint32_t i = f->next_verify;

    if (f->waiting_chunks > 0) {
        list_splice(&f->job.chunks, &f->chunks);
        f->job_chunks = f->waiting_chunks;
        f->waiting_chunks = 0;
        f->job.kind = FETCH_WRITE;
    } else if (i < f->m.n && f->files[i].written == f->m.files[i].size) {
        f->job.kind = FETCH_VERIFY;
        f->job.file = i;
    } else if (i == f->m.n) {
        f->job.kind = FETCH_FINISH;
    } else {
        return false;
    }
    fetch_job_start(f);
    return true;
}

static void job_written(struct snapshot_fetch *f)
{
    struct list *item;

    while ((item = list_pop_front(&f->job.chunks)) != NULL) {
        struct fetch_chunk *c = CONTAINER_OF(item, struct fetch_chunk, link);
        f->files[c->file].written = c->offset + c->n;
        f->stats.bytes_written += c->n;
        free(c);
    }
    f->job_chunks = 0;
}

static void job_verified(struct snapshot_fetch *f)
{
    uint32_t i = f->job.file;

    if (f->job.good) {
        f->next_verify++;
        f->stats.files_verified++;
        return;
    }
    if (f->files[i].refetched) {
        end(f, ERR_CORRUPT);
        return;
    }
    f->files[i].refetched = true;
    f->stats.files_refetched++;
    f->stats.bytes_written -= f->files[i].written;
    f->files[i].requested = f->files[i].written = 0;
    if (i < f->next_request)
        f->next_request = i;
}

static void job_prepared(struct snapshot_fetch *f)
{
    f->prepared = true;
    for (uint32_t i = 0; i < f->m.n; i++)
        f->stats.bytes_resumed += f->files[i].written;
    f->stats.bytes_written = f->stats.bytes_resumed;
}

void fetch_job_done(struct snapshot_fetch *f)
{
    f->progress_at = now_of(f);
    if (f->ended) {
        drop_chunks(&f->job.chunks);
        f->job_chunks = 0;
    } else if (f->job.result != ERR_OK) {
        drop_chunks(&f->job.chunks);
        f->job_chunks = 0;
        end(f, f->job.result == ERR_NO_SPACE ? ERR_NO_SPACE : ERR_IO);
    } else if (f->job.kind == FETCH_PREPARE) {
        job_prepared(f);
    } else if (f->job.kind == FETCH_WRITE) {
        job_written(f);
    } else if (f->job.kind == FETCH_VERIFY) {
        job_verified(f);
    } else {
        struct snapshot_end all = {.id = f->m.id, .err = ERR_OK};
        if (f->connected && !f->lost)
            snapshot_put_end(conn_out(f->c), &all);
        end(f, ERR_OK);
    }
    step(f);
}

/* The connection's part of step(); gives the time of its next deadline. */
static uint64_t step_connection(struct snapshot_fetch *f)
{
    uint64_t now = now_of(f), next = UINT64_MAX;

    if (!f->c && (now < f->retry_at || !find_request(f)))
        return find_request(f) ? f->retry_at : next;
    if (!f->c)
        connect_again(f);
    if (!f->c)
        return f->retry_at;
    if (f->lost)
        return next;
    if (f->connected) {
        uint64_t wait = ask(f);
        if (wait > 0) {
            f->progress_at = now; /* our own doing */
            next = now + wait;
        }
        if (f->asked == 0)
            return next;
    }
    uint64_t since = f->connected ? f->heard_at : f->connected_at;
    if (now - since >= f->o.timeout_ns) {
        lose(f, ERR_TIMEOUT);
        return next;
    }
    return min_u64(next, since + f->o.timeout_ns);
}

static void step(struct snapshot_fetch *f)
{
    if (!f->ended && f->prepared) {
        uint64_t now = now_of(f);
        if (!f->busy)
            (void)start_job(f);
        uint64_t next = step_connection(f);
        /* A long job is progress: its end is waited for without a limit. */
        uint64_t limit = f->busy ? UINT64_MAX : f->progress_at + f->o.give_up_ns;
        if (now >= limit)
            end(f, f->last_error != ERR_OK ? f->last_error : ERR_TIMEOUT);
        else if (min_u64(next, limit) != UINT64_MAX)
            io_timer_set(f->o.io, &f->timer, min_u64(next, limit));
        else
            io_timer_cancel(f->o.io, &f->timer);
    }
    if (f->ended)
        step_ended(f);
}

static void on_timer(struct io_timer *t)
{
    step(CONTAINER_OF(t, struct snapshot_fetch, timer));
}

/* ---- start and cancel ---- */

static void set_defaults(struct snapshot_fetch_options *o)
{
    if (o->chunk == 0)
        o->chunk = CHUNK_DEFAULT;
    if (o->chunk > SNAPSHOT_CHUNK_MAX)
        o->chunk = SNAPSHOT_CHUNK_MAX;
    if (o->window == 0)
        o->window = WINDOW_DEFAULT;
    if (o->window > SNAPSHOT_WINDOW)
        o->window = SNAPSHOT_WINDOW;
    if (o->timeout_ns == 0)
        o->timeout_ns = TIMEOUT_DEFAULT;
    if (o->give_up_ns == 0)
        o->give_up_ns = GIVE_UP_DEFAULT;
}

enum err snapshot_fetch(const struct snapshot_fetch_options *o, struct snapshot_fetch **out)
{
    struct snapshot_manifest m;
    struct buf name = {0};
    enum err e = snapshot_manifest_decode(o->manifest, &m);

    if (e != ERR_OK)
        return e;
    struct snapshot_fetch *f = mem_zalloc(sizeof *f);
    f->o = *o;
    set_defaults(&f->o);
    f->o.dir = f->parent = mem_strdup(o->dir);
    f->o.manifest = slice_of(NULL, 0);
    f->m = m;
    f->files = mem_zalloc((m.n + 1) * sizeof *f->files);
    buf_printf(&name, FETCH_PREFIX "%016" PRIx64, m.id);
    buf_u8(&name, 0);
    f->name = (char *)name.p;
    f->path = snapshot_join(f->parent, f->name);
    f->backoff = BACKOFF_MIN;
    f->progress_at = now_of(f);
    f->stats.bytes_total = m.bytes;
    f->stats.files = m.n;
    f->timer.fn = on_timer;
    list_init(&f->chunks);
    list_init(&f->job.chunks);
    f->job.kind = FETCH_PREPARE;
    fetch_job_start(f);
    *out = f;
    return ERR_OK;
}

void snapshot_fetch_cancel(struct snapshot_fetch *f)
{
    end(f, ERR_INTERRUPTED);
    io_timer_set(f->o.io, &f->timer, now_of(f));
}

enum err snapshot_fetch_clean(const char *dir)
{
    return snapshot_remove_dirs(dir, FETCH_PREFIX, NULL);
}

void snapshot_fetch_stats(const struct snapshot_fetch *f, struct snapshot_fetch_stats *out)
{
    *out = f->stats;
}
