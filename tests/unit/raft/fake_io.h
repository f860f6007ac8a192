/* io.h and fs.h in memory for the raft driver's tests: several nodes in one process, each with an
 * io and a disk of its own. io_write_durable() takes time and is lost, or not, if the node crashes
 * meanwhile; blocking calls (fs.h) are durable at once. Torn writes are the WAL's tests' business.
 *
 * Defines the functions: included by one file of a test program. */
#ifndef TESTS_RAFT_FAKE_IO_H
#define TESTS_RAFT_FAKE_IO_H

#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/io/fs.h"
#include "common/io/io.h"

struct fs_file {
    char path[160]; /* "" once unlinked */
    struct buf data;
    unsigned refs;
    bool named;
};

#define FAKE_FILES 512
static struct fs_file *fake_files[FAKE_FILES];

struct fake_op {
    struct list link;
    struct io_op *op;
    struct fs_file *f;
    void *p;
    size_t n;
    uint64_t offset, due;
    bool write;
};

struct io {
    uint64_t now;
    struct rng rng;
    struct list ops; /* fake_op, in order of submission */
    struct list work;
    struct io_timer *timers[64];
    unsigned n_timers;
    uint64_t order;
    uint64_t delay_max; /* of disk operations */
    uint64_t last_due;
    bool stalled; /* nothing completes */
    bool again;
};

/* ---- files ---- */

static struct fs_file *fake_find(const char *path)
{
    for (unsigned i = 0; i < FAKE_FILES; i++)
        if (fake_files[i] && fake_files[i]->named && strcmp(fake_files[i]->path, path) == 0)
            return fake_files[i];
    return NULL;
}

static void fake_unref(struct fs_file *f)
{
    if (f->refs || f->named)
        return;
    for (unsigned i = 0; i < FAKE_FILES; i++)
        if (fake_files[i] == f)
            fake_files[i] = NULL;
    buf_close(&f->data);
    free(f);
}

enum err fs_open(const char *path, unsigned flags, struct fs_file **out)
{
    struct fs_file *f = fake_find(path);
    if (!f && !(flags & FS_CREATE))
        return ERR_NOT_FOUND;
    for (unsigned i = 0; !f && i < FAKE_FILES; i++)
        if (!fake_files[i]) {
            f = fake_files[i] = mem_zalloc(sizeof *f);
            snprintf(f->path, sizeof f->path, "%s", path);
            f->named = true;
        }
    CHECK(f);
    if (flags & FS_TRUNCATE)
        buf_clear(&f->data);
    f->refs++;
    *out = f;
    return ERR_OK;
}

void fs_close(struct fs_file *f)
{
    if (!f)
        return;
    f->refs--;
    fake_unref(f);
}

enum err fs_size(struct fs_file *f, uint64_t *out)
{
    *out = f->data.n;
    return ERR_OK;
}

enum err fs_read(struct fs_file *f, void *p, size_t n, uint64_t offset, size_t *got)
{
    size_t left = offset < f->data.n ? f->data.n - (size_t)offset : 0;
    *got = n < left ? n : left;
    if (*got)
        memcpy(p, f->data.p + offset, *got);
    return ERR_OK;
}

enum err fs_truncate(struct fs_file *f, uint64_t size)
{
    if (size > f->data.n) {
        size_t n = (size_t)size - f->data.n;
        memset(buf_extend(&f->data, n), 0, n);
    }
    f->data.n = (size_t)size;
    return ERR_OK;
}

enum err fs_write(struct fs_file *f, const void *p, size_t n, uint64_t offset)
{
    if (offset + n > f->data.n)
        (void)!fs_truncate(f, offset + n);
    memcpy(f->data.p + offset, p, n);
    return ERR_OK;
}

enum err fs_sync(struct fs_file *f)
{
    (void)f;
    return ERR_OK;
}

enum err fs_unlink(const char *path)
{
    struct fs_file *f = fake_find(path);
    if (!f)
        return ERR_NOT_FOUND;
    f->named = false;
    fake_unref(f);
    return ERR_OK;
}

enum err fs_rename(const char *from, const char *to)
{
    struct fs_file *f = fake_find(from);
    if (!f)
        return ERR_NOT_FOUND;
    if (fake_find(to))
        (void)!fs_unlink(to);
    snprintf(f->path, sizeof f->path, "%s", to);
    return ERR_OK;
}

enum err fs_mkdir(const char *path)
{
    (void)path;
    return ERR_OK;
}

enum err fs_sync_dir(const char *path)
{
    (void)path;
    return ERR_OK;
}

enum err fs_space(const char *path, uint64_t *free_bytes, uint64_t *total_bytes)
{
    (void)path;
    *free_bytes = *total_bytes = 1ull << 40;
    return ERR_OK;
}

bool fs_exists(const char *path)
{
    (void)path;
    return true;
}

static int fake_by_name(const void *a, const void *b)
{
    return strcmp((*(struct fs_file *const *)a)->path, (*(struct fs_file *const *)b)->path);
}

enum err fs_list(const char *path, void (*fn)(void *arg, const char *name, bool is_dir), void *arg)
{
    struct fs_file *found[FAKE_FILES];
    unsigned n = 0;
    size_t len = strlen(path);
    for (unsigned i = 0; i < FAKE_FILES; i++)
        if (fake_files[i] && fake_files[i]->named && strncmp(fake_files[i]->path, path, len) == 0 &&
            fake_files[i]->path[len] == '/')
            found[n++] = fake_files[i];
    qsort(found, n, sizeof *found, fake_by_name);
    for (unsigned i = 0; i < n; i++)
        fn(arg, found[i]->path + len + 1, false);
    return ERR_OK;
}

const char *fs_last_error(void)
{
    return "fake";
}

/* ---- clock, timers, operations ---- */

uint64_t io_now(const struct io *io)
{
    return io->now;
}

uint64_t io_now_exact(const struct io *io)
{
    return io->now;
}

uint64_t io_random(struct io *io)
{
    return rng_next(&io->rng);
}

void io_again(struct io *io)
{
    io->again = true;
}

void io_timer_cancel(struct io *io, struct io_timer *t)
{
    for (unsigned i = 0; i < io->n_timers; i++)
        if (io->timers[i] == t) {
            io->timers[i] = io->timers[--io->n_timers];
            break;
        }
    t->heap_pos = 0;
}

void io_timer_set(struct io *io, struct io_timer *t, uint64_t at_ns)
{
    io_timer_cancel(io, t);
    CHECK(io->n_timers < 64);
    t->at = at_ns;
    t->heap_pos = 1;
    t->order = io->order++;
    io->timers[io->n_timers++] = t;
}

static void fake_submit(struct io *io, struct fs_file *f, void *p, size_t n, uint64_t offset,
                        struct io_op *op, bool write)
{
    struct fake_op *o = mem_zalloc(sizeof *o);
    *o = (struct fake_op){.op = op, .f = f, .p = p, .n = n, .offset = offset, .write = write};
    o->due = io->now + 1 + rng_below(&io->rng, io->delay_max + 1);
    if (write && o->due < io->last_due)
        o->due = io->last_due;
    if (write)
        io->last_due = o->due;
    list_push_back(&io->ops, &o->link);
}

void io_write_durable(struct io *io, struct fs_file *f, const void *p, size_t n, uint64_t offset,
                      struct io_op *op)
{
    fake_submit(io, f, (void *)(uintptr_t)p, n, offset, op, true);
}

void io_read(struct io *io, struct fs_file *f, void *p, size_t n, uint64_t offset, struct io_op *op)
{
    fake_submit(io, f, p, n, offset, op, false);
}

void io_offload(struct io *io, struct io_work *w)
{
    list_push_back(&io->work, &w->link);
}

static void fake_io_init(struct io *io, uint64_t seed)
{
    *io = (struct io){.delay_max = NS_PER_MS};
    rng_seed(&io->rng, seed);
    list_init(&io->ops);
    list_init(&io->work);
}

/* The node has crashed: writes in flight reach the disk or not. */
static void fake_io_crash(struct io *io, bool keep)
{
    struct list *item;
    while ((item = list_pop_front(&io->ops))) {
        struct fake_op *o = CONTAINER_OF(item, struct fake_op, link);
        if (o->write && keep)
            (void)!fs_write(o->f, o->p, o->n, o->offset);
        free(o);
    }
    while (list_pop_front(&io->work))
        ;
    io->n_timers = 0;
}

static void fake_complete(struct fake_op *o)
{
    enum err e = ERR_OK;
    size_t got = o->n;
    list_remove(&o->link);
    if (o->write)
        e = fs_write(o->f, o->p, o->n, o->offset);
    else
        e = fs_read(o->f, o->p, o->n, o->offset, &got);
    struct io_op *op = o->op;
    if (got < o->n)
        e = ERR_IO;
    free(o);
    op->done(op, e);
}

/* When the io has something to do next; UINT64_MAX if nothing. */
static uint64_t fake_io_next(const struct io *io)
{
    uint64_t next = io->again || !list_empty(&io->work) ? io->now : UINT64_MAX;
    for (unsigned i = 0; i < io->n_timers; i++)
        if (io->timers[i]->at < next)
            next = io->timers[i]->at;
    LIST_FOR(item, &io->ops)
    {
        const struct fake_op *o = CONTAINER_OF(item, struct fake_op, link);
        if (!io->stalled && o->due < next)
            next = o->due;
    }
    return next;
}

/* Completions and timers of one turn at `now`. */
static void fake_io_turn(struct io *io, uint64_t now)
{
    io->now = now > io->now ? now : io->now + 1;
    io->again = false;
    LIST_FOR_SAFE(item, &io->ops)
    {
        struct fake_op *o = CONTAINER_OF(item, struct fake_op, link);
        if (!io->stalled && o->due <= io->now)
            fake_complete(o);
    }
    struct list work;
    list_init(&work);
    list_splice(&work, &io->work);
    struct list *item;
    while ((item = list_pop_front(&work))) {
        struct io_work *w = CONTAINER_OF(item, struct io_work, link);
        w->run(w);
        w->done(w);
    }
    for (;;) {
        struct io_timer *first = NULL;
        for (unsigned i = 0; i < io->n_timers; i++) {
            struct io_timer *t = io->timers[i];
            if (t->at <= io->now &&
                (!first || t->at < first->at || (t->at == first->at && t->order < first->order)))
                first = t;
        }
        if (!first)
            return;
        io_timer_cancel(io, first);
        first->fn(first);
    }
}

/* All files of a node: its disk was wiped. */
static void fake_disk_wipe(const char *dir)
{
    size_t len = strlen(dir);
    for (unsigned i = 0; i < FAKE_FILES; i++) {
        struct fs_file *f = fake_files[i];
        if (f && strncmp(f->path, dir, len) == 0 && f->path[len] == '/') {
            f->named = false;
            f->refs = 0; /* handles of a crashed node */
            fake_unref(f);
        }
    }
}

#endif
