/* Reading one record back by its lsn: some KiB around its header at first, and the rest if it is
 * longer. The record's own checksum is verified; its place is part of it. */
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/wal/wal_internal.h"

enum { FIRST_READ = 16 * 1024 };

struct read {
    struct list link;
    struct io_op op;
    struct io_timer timer; /* for an answer that needs no I/O: never from inside wal_read() */
    struct wal *w;
    struct wal_read *r;
    struct wal_segment *segment;
    uint8_t *p;
    uint64_t from, n; /* what is read, in the segment */
};

static void finish(struct read *x, enum err result)
{
    struct wal *w = x->w;
    if (x->segment)
        x->segment->reads--;
    list_remove(&x->link);
    x->r->internal[0] = NULL;
    x->r->done(x->r, result);
    free(x->p);
    free(x);
    wal_maintain(w); /* the segment may have been waiting to be recycled */
}

static void on_timer(struct io_timer *t)
{
    finish(CONTAINER_OF(t, struct read, timer), ERR_NOT_FOUND);
}

static void on_read(struct io_op *op, enum err result);

static void submit(struct read *x, uint64_t from, uint64_t end)
{
    free(x->p);
    x->from = from / WAL_BLOCK * WAL_BLOCK;
    x->n = wal_align(end, WAL_BLOCK) - x->from;
    x->p = mem_alloc_aligned(WAL_BLOCK, x->n);
    x->op.done = on_read;
    io_read(x->w->o.io, x->segment->file, x->p, x->n, x->from, &x->op);
}

static void on_read(struct io_op *op, enum err result)
{
    struct read *x = CONTAINER_OF(op, struct read, op);
    if (result != ERR_OK) {
        finish(x, result);
        return;
    }
    uint64_t offset = x->r->lsn % x->w->size;
    uint64_t end = x->segment->end;
    struct slice s = slice_of(x->p + (offset - x->from), x->n - (offset - x->from));
    if (s.n < WAL_RECORD_HEADER) {
        finish(x, ERR_CORRUPT);
        return;
    }
    uint64_t whole = wal_record_size(wal_record_length(s.p));
    if (whole > end - offset) {
        finish(x, ERR_CORRUPT);
        return;
    }
    if (whole > s.n) {
        submit(x, offset, offset + whole);
        return;
    }
    if (!wal_record_verify(s, x->segment->seed, x->r->lsn)) {
        finish(x, ERR_CORRUPT);
        return;
    }
    wal_record_decode(s, &x->r->record, &x->r->payload);
    finish(x, ERR_OK);
}

void wal_read(struct wal *w, struct wal_read *r)
{
    CHECK(r->lsn < w->durable);
    struct read *x = mem_zalloc(sizeof *x);
    x->w = w;
    x->r = r;
    r->internal[0] = x;
    list_push_back(&w->reads, &x->link);
    w->stats.reads++;
    uint64_t number = r->lsn / w->size, offset = r->lsn % w->size;
    LIST_FOR(item, &w->segments)
    {
        struct wal_segment *s = wal_segment_of(item);
        if (s->number == number && s->file && offset >= WAL_BLOCK && offset < s->end)
            x->segment = s;
    }
    if (!x->segment) {
        x->timer.fn = on_timer;
        io_timer_set(w->o.io, &x->timer, io_now(w->o.io));
        return;
    }
    x->segment->reads++;
    uint64_t end = x->segment->end;
    /* A header that begins in a block's last bytes goes on in the next block. */
    submit(x, offset, end - offset < FIRST_READ ? end : offset + FIRST_READ);
}

void wal_reads_drop(struct wal *w)
{
    struct list *item;
    while ((item = list_pop_front(&w->reads))) {
        struct read *x = CONTAINER_OF(item, struct read, link);
        if (io_timer_armed(&x->timer))
            io_timer_cancel(w->o.io, &x->timer);
        free(x->p);
        free(x);
    }
}
