/* io.h and fs.h in memory, for the WAL's tests: a disk whose unsynced changes a power cut loses,
 * keeps or tears at any 512 bytes, that fails at the k-th operation, fills up, and a loop that is
 * stepped by hand. Defines the functions: include it in one file of a test program.
 * A turn completes what was submitted before it, so what is in flight is known exactly. */
#ifndef TESTS_UNIT_WAL_FAKE_IO_H
#define TESTS_UNIT_WAL_FAKE_IO_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/io/fs.h"
#include "common/io/io.h"

enum { FAKE_SECTOR = 512, FAKE_NAMES = 512 };

/* What is left of unsynced changes. */
enum fake_keep { KEEP_NONE, KEEP_ALL, KEEP_FIRST, KEEP_LAST, KEEP_RANDOM };

struct inode {
    struct inode *all; /* of every inode */
    uint8_t *cur, *dur;
    size_t n, dn, cap;
};
struct name {
    char path[128];
    struct inode *inode;
};
struct names {
    struct name at[FAKE_NAMES];
    unsigned n;
};
struct name_change {
    char remove[128], add[128];
    struct inode *inode;
};
struct fs_file {
    struct inode *inode;
};
struct fake_op {
    struct io_op *op;
    struct fs_file *f;
    void *p;
    size_t n;
    uint64_t offset;
    bool write;
    enum err early;
};
struct io {
    uint64_t now;
    struct rng rng;
    struct fake_op ops[256];
    unsigned op_count;
    struct list work;
    struct io_timer *timers[256];
    unsigned timer_count;
};
static struct {
    struct inode *inodes;
    struct names cur, dur;
    struct name_change changes[256];
    unsigned change_count;
    unsigned ops, fail_at; /* the fail_at-th operation fails with fail_with */
    enum err fail_with;
    bool fail_on; /* all later writes and syncs fail, too */
    unsigned mutations, crash_at;
    bool dead;              /* the power is off: nothing works */
    bool hold_work;         /* offloaded work does not get done */
    size_t space;           /* bytes all files may have; 0: endless */
    uint64_t disk;          /* what fs_space() says the disk's size is; 0: 1 TiB */
    unsigned writes_beyond; /* durable writes that touched bytes never synced before (holes) */
    unsigned durable_writes, reads;
} fake;

/* ---- disk ---- */

static struct name *name_find(struct names *t, const char *path)
{
    for (unsigned i = 0; i < t->n; i++) {
        if (strcmp(t->at[i].path, path) == 0)
            return &t->at[i];
    }
    return NULL;
}

static void name_change(struct names *t, const char *remove, const char *add, struct inode *i)
{
    struct name *x;
    if (remove[0] && (x = name_find(t, remove)))
        *x = t->at[--t->n];
    if (!add[0])
        return;
    x = name_find(t, add);
    if (!x) {
        CHECK(t->n < FAKE_NAMES);
        x = &t->at[t->n++];
        snprintf(x->path, sizeof x->path, "%s", add);
    }
    x->inode = i;
}

static void dir_change(const char *remove, const char *add, struct inode *i)
{
    struct name_change c = {.inode = i};
    snprintf(c.remove, sizeof c.remove, "%s", remove);
    snprintf(c.add, sizeof c.add, "%s", add);
    CHECK(fake.change_count < 256);
    fake.changes[fake.change_count++] = c;
    name_change(&fake.cur, remove, add, i);
}

static void inode_resize(struct inode *i, size_t n)
{
    if (n > i->cap) {
        i->cur = mem_realloc(i->cur, n);
        i->dur = mem_realloc(i->dur, n);
        memset(i->cur + i->cap, 0, n - i->cap);
        memset(i->dur + i->cap, 0, n - i->cap);
        i->cap = n;
    }
    if (n > i->n)
        memset(i->cur + i->n, 0, n - i->n);
    i->n = n;
}

static void inode_sync(struct inode *i)
{
    if (i->n)
        memcpy(i->dur, i->cur, i->n);
    i->dn = i->n;
}

/* Every operation comes by here. ERR_OK: go on. */
static enum err fake_gate(bool mutates)
{
    if (fake.dead)
        return ERR_IO;
    if (fake.fail_at && ++fake.ops >= fake.fail_at && (fake.ops == fake.fail_at || fake.fail_on))
        return fake.fail_with;
    if (mutates && fake.crash_at && ++fake.mutations == fake.crash_at)
        fake.dead = true; /* this operation still reaches the volatile state */
    return ERR_OK;
}

static size_t fake_used(void)
{
    size_t sum = 0;
    for (unsigned i = 0; i < fake.cur.n; i++)
        sum += fake.cur.at[i].inode->n;
    return sum;
}

/* Power is cut and comes back: unsynced bytes are kept by `keep` (FIRST, LAST: `sectors` of those
 * that differ, the rest of the others), names by a prefix of the changes. */
static inline void fake_power_cut(enum fake_keep keep, unsigned sectors, struct rng *rng)
{
    unsigned names = keep == KEEP_ALL ? fake.change_count
                     : keep == KEEP_RANDOM && fake.change_count
                         ? (unsigned)rng_below(rng, fake.change_count + 1)
                         : 0;
    for (unsigned i = 0; i < names; i++)
        name_change(&fake.dur, fake.changes[i].remove, fake.changes[i].add, fake.changes[i].inode);
    fake.cur = fake.dur;
    fake.change_count = 0;
    for (struct inode *i = fake.inodes; i; i = i->all) {
        bool grow = keep == KEEP_ALL || (keep == KEEP_RANDOM && rng_below(rng, 2));
        size_t n = i->dn > i->n && grow ? i->n : i->n > i->dn && !grow ? i->dn : i->n;
        if (i->n < i->dn && !grow)
            n = i->dn;
        unsigned differ = 0;
        for (size_t at = 0; at < n && at < i->n; at += FAKE_SECTOR) {
            size_t m = n - at < FAKE_SECTOR ? n - at : FAKE_SECTOR;
            if (memcmp(i->cur + at, i->dur + at, m) == 0)
                continue;
            differ++;
            bool take = keep == KEEP_ALL || (keep == KEEP_FIRST && differ <= sectors) ||
                        (keep == KEEP_LAST && differ > sectors) ||
                        (keep == KEEP_RANDOM && rng_below(rng, 2));
            if (take)
                memcpy(i->dur + at, i->cur + at, m);
        }
        i->dn = n;
        if (n) {
            memcpy(i->cur, i->dur, n);
        }
        i->n = n;
    }
    fake.dead = false;
    fake.crash_at = fake.fail_at = 0;
}

static void fake_reset(void)
{
    for (struct inode *i = fake.inodes, *next; i; i = next) {
        next = i->all;
        free(i->cur);
        free(i->dur);
        free(i);
    }
    memset(&fake, 0, sizeof fake);
}

static struct inode *fake_inode(const char *path)
{
    struct name *x = name_find(&fake.cur, path);
    return x ? x->inode : NULL;
}

/* ---- fs.h ---- */

enum err fs_open(const char *path, unsigned flags, struct fs_file **out)
{
    enum err e = fake_gate(false);
    if (e != ERR_OK)
        return e;
    struct inode *i = fake_inode(path);
    if (!i && !(flags & FS_CREATE))
        return ERR_NOT_FOUND;
    if (!i) {
        i = mem_zalloc(sizeof *i);
        i->all = fake.inodes;
        fake.inodes = i;
        dir_change("", path, i);
    } else if (flags & FS_TRUNCATE) {
        inode_resize(i, 0);
    }
    *out = mem_alloc(sizeof **out);
    (*out)->inode = i;
    return ERR_OK;
}

void fs_close(struct fs_file *f)
{
    free(f);
}

enum err fs_size(struct fs_file *f, uint64_t *out)
{
    *out = f->inode->n;
    return ERR_OK;
}

enum err fs_read(struct fs_file *f, void *p, size_t n, uint64_t offset, size_t *got)
{
    enum err e = fake_gate(false);
    if (e != ERR_OK)
        return e;
    size_t m = offset < f->inode->n ? f->inode->n - offset : 0;
    *got = m < n ? m : n;
    if (*got)
        memcpy(p, f->inode->cur + offset, *got);
    return ERR_OK;
}

enum err fs_write(struct fs_file *f, const void *p, size_t n, uint64_t offset)
{
    CHECK(offset % 4096 == 0 && n % 4096 == 0 && (uintptr_t)p % 4096 == 0);
    enum err e = fake_gate(true);
    if (e != ERR_OK)
        return e;
    if (offset + n > f->inode->n) {
        if (fake.space && fake_used() + (offset + n - f->inode->n) > fake.space)
            return ERR_NO_SPACE;
        inode_resize(f->inode, offset + n);
    }
    memcpy(f->inode->cur + offset, p, n);
    return ERR_OK;
}

enum err fs_sync(struct fs_file *f)
{
    enum err e = fake_gate(true);
    if (e == ERR_OK && !fake.dead)
        inode_sync(f->inode);
    return e;
}

enum err fs_truncate(struct fs_file *f, uint64_t size)
{
    enum err e = fake_gate(true);
    if (e == ERR_OK)
        inode_resize(f->inode, size);
    return e;
}

enum err fs_rename(const char *from, const char *to)
{
    enum err e = fake_gate(true);
    if (e != ERR_OK)
        return e;
    struct inode *i = fake_inode(from);
    if (!i)
        return ERR_NOT_FOUND;
    dir_change(from, to, i);
    return ERR_OK;
}

enum err fs_unlink(const char *path)
{
    enum err e = fake_gate(true);
    if (e != ERR_OK)
        return e;
    if (!fake_inode(path))
        return ERR_NOT_FOUND;
    dir_change(path, "", NULL);
    return ERR_OK;
}

enum err fs_mkdir(const char *path)
{
    (void)path;
    return fake_gate(true);
}

enum err fs_sync_dir(const char *path)
{
    (void)path;
    enum err e = fake_gate(true);
    if (e == ERR_OK && !fake.dead) {
        fake.dur = fake.cur;
        fake.change_count = 0;
    }
    return e;
}

bool fs_exists(const char *path)
{
    return fake_inode(path) != NULL;
}

enum err fs_space(const char *path, uint64_t *free_bytes, uint64_t *total_bytes)
{
    (void)path;
    *free_bytes = *total_bytes = fake.disk ? fake.disk : 1ull << 40;
    return ERR_OK;
}

static int name_order(const void *a, const void *b)
{
    return strcmp(a, b);
}

enum err fs_list(const char *path, void (*fn)(void *arg, const char *name, bool is_dir), void *arg)
{
    enum err e = fake_gate(false);
    if (e != ERR_OK)
        return e;
    static struct names sorted;
    sorted = fake.cur;
    qsort(sorted.at, sorted.n, sizeof sorted.at[0], name_order);
    size_t skip = strlen(path);
    for (unsigned i = 0; i < sorted.n; i++) {
        if (strncmp(sorted.at[i].path, path, skip) == 0 && sorted.at[i].path[skip] == '/')
            fn(arg, sorted.at[i].path + skip + 1, false);
    }
    return ERR_OK;
}

const char *fs_last_error(void)
{
    return "a fault of the test's disk";
}

/* ---- io.h ---- */

static struct io *fake_io(uint64_t seed)
{
    struct io *io = mem_zalloc(sizeof *io);
    io->now = 1000000;
    rng_seed(&io->rng, seed);
    list_init(&io->work);
    return io;
}

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

void io_timer_cancel(struct io *io, struct io_timer *t)
{
    for (unsigned i = 0; i < io->timer_count; i++) {
        if (io->timers[i] == t)
            io->timers[i--] = io->timers[--io->timer_count];
    }
    t->heap_pos = 0;
}

void io_timer_set(struct io *io, struct io_timer *t, uint64_t at_ns)
{
    io_timer_cancel(io, t);
    t->at = at_ns;
    t->heap_pos = 1;
    io->timers[io->timer_count++] = t;
}

static void fake_submit(struct io *io, struct fake_op op)
{
    CHECK(io->op_count < 256);
    io->ops[io->op_count++] = op;
}

void io_write_durable(struct io *io, struct fs_file *f, const void *p, size_t n, uint64_t offset,
                      struct io_op *op)
{
    CHECK(offset % 4096 == 0 && n % 4096 == 0 && (uintptr_t)p % 4096 == 0);
    enum err e = fake_gate(true);
    if (offset + n > f->inode->dn)
        fake.writes_beyond++;
    if (e == ERR_OK) { /* on its way: torn if the power goes now */
        if (offset + n > f->inode->n)
            inode_resize(f->inode, offset + n);
        memcpy(f->inode->cur + offset, p, n);
    }
    fake_submit(io, (struct fake_op){.op = op, .f = f, .write = true, .early = e});
}

void io_read(struct io *io, struct fs_file *f, void *p, size_t n, uint64_t offset, struct io_op *op)
{
    CHECK(offset % 4096 == 0 && n % 4096 == 0 && (uintptr_t)p % 4096 == 0);
    fake.reads++;
    enum err e = fake_gate(false);
    fake_submit(io, (struct fake_op){op, f, p, n, offset, false, e});
}

void io_offload(struct io *io, struct io_work *w)
{
    list_push_back(&io->work, &w->link);
}

static void fake_complete(struct fake_op *x)
{
    enum err e = x->early;
    if (e == ERR_OK && x->write) {
        inode_sync(x->f->inode);
        fake.durable_writes++;
    } else if (e == ERR_OK) {
        if (x->offset + x->n > x->f->inode->n)
            e = ERR_IO;
        else
            memcpy(x->p, x->f->inode->cur + x->offset, x->n);
    }
    x->op->done(x->op, e);
}

/* One turn; false: nothing was left to do. With the power off nothing happens any more. */
static bool fake_turn(struct io *io)
{
    io->now += 1000;
    bool any = false;
    unsigned n = io->op_count;
    struct fake_op *ops = mem_dup(io->ops, sizeof io->ops);
    io->op_count = 0;
    for (unsigned i = 0; i < n && !fake.dead; i++) {
        any = true;
        fake_complete(&ops[i]);
    }
    free(ops);
    struct list *item;
    if (!fake.hold_work && !fake.dead && (item = list_pop_front(&io->work))) {
        struct io_work *w =
            (struct io_work *)(void *)((char *)item - offsetof(struct io_work, link));
        any = true;
        w->run(w);
        if (!fake.dead)
            w->done(w);
    }
    for (unsigned i = 0; i < io->timer_count && !fake.dead; i++) {
        struct io_timer *t = io->timers[i];
        if (t->at > io->now)
            continue;
        any = true;
        io_timer_cancel(io, t);
        t->fn(t);
        i = UINT32_MAX; /* the table changed: from the start */
    }
    return any && !fake.dead;
}

#endif
