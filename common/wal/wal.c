/* Appending and group commit. Recovery: wal_recover.c, segments: wal_segment.c.
 *
 * A turn of the loop appends records to `fill` and ends with wal_flush(). If no write is in flight,
 * `fill` becomes a commit and is written; else it goes on taking records until the write is done.
 * The completion does not start the next commit itself, although something may be waiting: the
 * loop submits at the end of the turn anyway, and until then the turn's own proposals can still
 * join it. wal_flush() at the turn's end starts it; a timer does for owners that do not call it
 * every turn. */
#include "common/wal/wal.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "common/base/mem.h"
#include "common/wal/wal_internal.h"

#define COMMIT_OF(item) CONTAINER_OF(item, struct wal_commit, link)

static uint64_t lsn_at(const struct wal *w, const struct wal_segment *s, uint64_t offset)
{
    return s->number * w->size + offset;
}

void wal_fail(struct wal *w, enum err why, const char *text)
{
    if (w->failed)
        return;
    w->failed = true;
    w->o.on_fatal(w->o.arg, why, text);
}

/* ---- buffers ---- */

static struct wal_commit *take(struct wal *w)
{
    struct list *item = list_pop_front(&w->free);
    struct wal_commit *c;
    uint8_t *p;
    if (item) {
        w->free_count--;
        c = COMMIT_OF(item);
        p = c->p;
    } else {
        c = mem_alloc(sizeof *c);
        p = mem_alloc_aligned(WAL_BLOCK, w->buffer_size); /* pages are used only once touched */
    }
    *c = (struct wal_commit){.p = p};
    list_init(&c->link);
    return c;
}

static void release(struct wal *w, struct wal_commit *c)
{
    if (w->free_count < WAL_BUFFERS_KEPT) {
        w->free_count++;
        list_push_front(&w->free, &c->link);
        return;
    }
    free(c->p);
    free(c);
}

static void free_list(struct list *l)
{
    struct list *item;
    while ((item = list_pop_front(l))) {
        struct wal_commit *c = COMMIT_OF(item);
        free(c->p);
        free(c);
    }
}

void wal_commits_free(struct wal *w)
{
    if (w->fill)
        list_push_back(&w->sealed, &w->fill->link);
    if (w->flight)
        list_push_back(&w->sealed, &w->flight->link);
    w->fill = w->flight = NULL;
    free_list(&w->sealed);
    free_list(&w->free);
}

/* ---- filling ---- */

/* Ends the commit being filled. */
static void seal(struct wal *w)
{
    struct wal_commit *c = w->fill;
    CHECK(c && c->used <= UINT32_MAX);
    w->fill = NULL;
    w->flush_wanted = false;
    c->padded = wal_align(c->used, WAL_BLOCK);
    memset(c->p + c->used, 0, c->padded - c->used);
    w->offset = c->offset + c->padded;
    CHECK(w->offset <= w->limit);
    list_push_back(&w->sealed, &c->link);
}

/* A commit that has room for a record of `whole` bytes. */
static void begin_fill(struct wal *w, uint64_t whole)
{
    CHECK(!w->fill);
    struct wal_commit *c = take(w);
    uint64_t room = w->limit - w->offset;
    uint64_t least = WAL_COMMIT_HEADER + whole;
    CHECK(least <= room && least <= w->buffer_size);
    c->segment = w->filling;
    c->offset = w->offset;
    c->used = WAL_COMMIT_HEADER;
    c->limit = least > w->soft_limit ? least : w->soft_limit;
    if (c->limit > room)
        c->limit = room;
    w->backlog += c->used;
    w->fill = c;
}

/* Has the owner write every group's state at the beginning of what follows. */
static void ask_for_states(struct wal *w)
{
    w->states_due = false;
    w->in_rotate = true;
    struct wal_segment *begin = w->filling;
    w->o.on_rotate(w->o.arg);
    w->in_rotate = false;
    begin->states_end = wal_next_lsn(w);
}

static void rotate(struct wal *w, bool states)
{
    CHECK(!w->fill);
    struct wal_segment *next = wal_segment_next(w, w->filling);
    if (!next)
        next = wal_segment_create(w, w->filling->number + 1);
    w->filling = next;
    w->offset = WAL_BLOCK;
    w->stats.rotations++;
    if (states)
        ask_for_states(w);
}

/* Makes `fill` one that takes `whole` bytes more. */
static void make_room(struct wal *w, uint64_t whole)
{
    /* Once an append: states that fill a whole segment, or that leave no room for a record nearly
     * as large as one, go on in the next without being asked for again. */
    bool states = !w->in_rotate;
    for (;;) {
        if (w->fill) {
            if (w->fill->used + whole <= w->fill->limit)
                return;
            seal(w);
        }
        if (w->limit - w->offset >= WAL_COMMIT_HEADER + whole) {
            begin_fill(w, whole);
        } else {
            rotate(w, states); /* may leave a commit that the owner's states are in */
            states = false;
        }
    }
}

void wal_append(struct wal *w, const struct wal_record *r, struct slice payload, uint64_t *lsn)
{
    CHECK(payload.n <= w->record_max);
    if (w->failed) { /* nothing will be written any more; the owner is ending the process */
        if (lsn)
            *lsn = wal_next_lsn(w);
        return;
    }
    uint64_t whole = wal_record_size(payload.n);
    make_room(w, whole);
    struct wal_commit *c = w->fill;
    uint64_t at = lsn_at(w, c->segment, c->offset + c->used);
    uint32_t crc = wal_record_encode(r, payload, c->segment->seed, at, c->p + c->used);
    c->records_crc = crc32c(c->records_crc, c->p + c->used, sizeof crc);
    c->used += whole;
    c->count++;
    w->backlog += whole;
    w->stats.records++;
    if (lsn)
        *lsn = at;
}

/* ---- writing ---- */

void wal_review_oldest(struct wal *w)
{
    LIST_FOR(item, &w->segments)
    {
        const struct wal_segment *s = wal_segment_of(item);
        if (s->states_end && s->states_end <= w->durable && s->number > w->states_segment) {
            w->states_segment = s->number;
            w->oldest_due = true;
        }
        if (s == w->writing)
            break;
    }
    if (!w->states_segment)
        return;
    if (!w->oldest_due && w->durable - w->oldest_asked < w->size / 4)
        return;
    w->oldest_due = false;
    w->oldest_asked = w->durable;
    uint64_t needed = w->o.oldest_needed(w->o.arg) / w->size;
    if (needed > w->states_segment)
        needed = w->states_segment;
    LIST_FOR(item, &w->segments)
    {
        uint64_t number = wal_segment_of(item)->number;
        if (number >= needed) {
            if (number > w->oldest)
                w->oldest = number;
            return;
        }
    }
}

static void on_written(struct io_op *op, enum err result)
{
    struct wal *w = CONTAINER_OF(op, struct wal, write);
    struct wal_commit *c = w->flight;
    w->flight = NULL;
    if (result != ERR_OK) {
        /* What is on the disk now is unknown, and asking it to sync again proves nothing. */
        char text[128];
        snprintf(text, sizeof text, "writing the log failed in segment %llu at offset %llu: %s",
                 (unsigned long long)c->segment->number, (unsigned long long)c->offset,
                 err_text(result));
        release(w, c);
        wal_fail(w, result, text);
        return;
    }
    uint64_t ns = io_now_exact(w->o.io) - c->started;
    w->stats.fsync_ns_total += ns;
    latency_add(&w->stats.fsync, ns);
    if (ns > w->stats.fsync_ns_max)
        w->stats.fsync_ns_max = ns;
    w->stats.commits++;
    w->stats.bytes += c->padded;
    w->backlog -= c->used;
    w->oldest_durable = c->oldest;
    c->segment->end = c->offset + c->padded;
    w->durable = lsn_at(w, c->segment, c->segment->end);
    release(w, c);
    if (w->failed)
        return;

    w->o.on_durable(w->o.arg, w->durable);
    wal_review_oldest(w);
    if (!list_empty(&w->sealed))
        wal_start(w);
    else if (w->fill && w->flush_wanted)
        io_timer_set(w->o.io, &w->next, io_now(w->o.io) + 1); /* see the top of this file */
    wal_maintain(w);
}

/* The segment of the first sealed commit is there and zero-written far enough. */
static bool segment_is_ready(struct wal *w, const struct wal_commit *c)
{
    if (c->segment != w->writing) {
        if (!c->segment->file)
            return false;
        w->writing = c->segment;
    }
    return c->offset + c->padded <= c->segment->ready;
}

static void write_commit(struct wal *w, struct wal_commit *c, uint64_t sequence)
{
    c->oldest = w->oldest;
    struct wal_commit_header h = {
        .sequence = sequence,
        .oldest = c->oldest,
        .length = (uint32_t)c->used,
        .count = c->count,
        .records_crc = c->records_crc,
    };
    wal_commit_encode(&h, c->segment->seed, lsn_at(w, c->segment, c->offset), c->p);
    w->flight = c;
    c->started = io_now_exact(w->o.io);
    io_timer_cancel(w->o.io, &w->next);
    w->write.done = on_written;
    io_write_durable(w->o.io, c->segment->file, c->p, c->padded, c->offset, &w->write);
}

void wal_start(struct wal *w)
{
    if (w->failed || w->flight)
        return;
    if (list_empty(&w->sealed)) {
        if (!w->fill || !w->flush_wanted)
            return;
        seal(w);
    }
    struct wal_commit *c = COMMIT_OF(list_first(&w->sealed));
    if (!segment_is_ready(w, c)) {
        wal_maintain(w);
        return;
    }
    list_remove(&c->link);
    write_commit(w, c, w->sequence++);
}

void wal_publish_oldest(struct wal *w)
{
    struct wal_segment *s = w->writing;
    if (w->failed || w->flight || w->oldest <= w->oldest_durable || s->ready < w->size)
        return;
    struct wal_commit *c = take(w);
    c->segment = s;
    c->offset = w->limit;
    c->used = WAL_COMMIT_HEADER;
    c->padded = WAL_BLOCK;
    memset(c->p, 0, WAL_BLOCK);
    w->backlog += c->used;
    /* A mark may be overwritten by a newer one (a disk full for long): same sequence, and as its
     * 48 bytes lie in one sector there is the old or the new one after a crash. */
    bool again = s->end == w->size;
    write_commit(w, c, again ? w->sequence - 1 : w->sequence++);
}

void wal_on_next(struct io_timer *t)
{
    wal_start(CONTAINER_OF(t, struct wal, next));
}

void wal_flush(struct wal *w)
{
    if (w->failed)
        return;
    if (w->fill && w->states_due)
        ask_for_states(w);
    if (w->fill)
        w->flush_wanted = true;
    wal_start(w);
}

/* ---- what others ask ---- */

bool wal_idle(const struct wal *w)
{
    return !w->flight && !w->job.running && (w->failed || (!w->fill && list_empty(&w->sealed)));
}

uint64_t wal_backlog(const struct wal *w)
{
    return w->backlog;
}

uint64_t wal_next_lsn(const struct wal *w)
{
    return lsn_at(w, w->filling, w->fill ? w->fill->offset + w->fill->used : w->offset);
}

uint64_t wal_id(const struct wal *w)
{
    return w->log;
}

uint64_t wal_durable_lsn(const struct wal *w)
{
    return w->durable;
}

void wal_set_tight(struct wal *w, bool tight)
{
    w->tight = tight;
    if (tight)
        wal_maintain(w);
}

uint64_t wal_segment_size(const struct wal *w)
{
    return w->size;
}

bool wal_starved(const struct wal *w)
{
    return w->starved;
}

uint64_t wal_record_max(const struct wal *w)
{
    return w->record_max;
}

void wal_usage(const struct wal *w, unsigned *segments, uint64_t *bytes)
{
    unsigned n = 0;
    uint64_t sum = 0;
    LIST_FOR(item, &w->segments)
    {
        const struct wal_segment *s = wal_segment_of(item);
        n++;
        sum += s->ready;
        if (s == w->writing)
            break;
    }
    *segments = n;
    *bytes = sum;
}

uint64_t wal_segment_end(const struct wal *w, uint64_t lsn)
{
    return (lsn / w->size + 1) * w->size;
}

const struct wal_stats *wal_stats(const struct wal *w)
{
    return &w->stats;
}
