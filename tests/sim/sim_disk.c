/* What happens to simulated disks: latency, injected faults, and crashes. See sim_fs.h.
 *
 * A power loss keeps, of what was not synced: of names, per directory a random beginning of the
 * changes in their order; of file data, any subset of 512-byte blocks (one loss in three takes all
 * of it, one keeps almost all of it: both are what real machines mostly do). */
#include "tests/sim/sim_fs.h"

#include <stdlib.h>

#include "tests/sim/sim_fileop.h"

static bool all_lie;

void sim_disk_all_lie(bool lie)
{
    all_lie = lie;
}

void sim_fs_host_init(struct sim_host *h)
{
    struct sim_disk *d = &h->disk;

    list_init(&d->inodes);
    list_init(&d->names);
    list_init(&d->ops);
    list_init(&d->files);
    d->capacity = UINT64_MAX;
    d->lie = all_lie;
    d->slow = 1;
    d->root = fs_inode_create(h, true);
    d->root->refs = 1;
}

/* ---- operations ---- */

uint64_t sim_fileop_latency(struct sim_host *h)
{
    uint64_t ns = sim_between(80 * NS_PER_US, 300 * NS_PER_US);

    if (sim_chance(0.01))
        ns += sim_below(5 * NS_PER_MS);
    ns *= h->disk.slow;
    if (h->disk.stalled_until > sim_world.now)
        ns += h->disk.stalled_until - sim_world.now;
    return ns;
}

bool sim_disk_strikes(struct sim_host *h, bool write)
{
    unsigned *left = write ? &h->disk.fail_write : &h->disk.fail_read;

    if (h != sim_world.current && sim_world.current)
        return false;
    if (write && h->disk.dead)
        return true;
    if (*left == 0 || --*left > 0)
        return false;
    sim_world.stats.io_errors++;
    /* After a failed write the page cache and the disk may differ for ever: everything that is
     * not synced by now is lost at the latest in the next crash. */
    if (write)
        h->disk.dead = true;
    return true;
}

/* Writes a random subset of the blocks of [offset, offset + n). */
static void write_torn(struct sim_fileop *o)
{
    for (size_t at = 0; at < o->n;) {
        size_t n = FS_BLOCK - (size_t)((o->offset + at) % FS_BLOCK);
        n = n < o->n - at ? n : o->n - at;
        if (sim_chance(0.5) && fs_inode_write(o->f->inode, o->from + at, n, o->offset + at))
            return;
        at += n;
    }
}

enum err sim_fileop_execute(struct sim_fileop *o)
{
    struct fs_inode *i = o->f->inode;

    if (o->write) {
        enum err e;
        sim_world.stats.syncs++;
        if (sim_disk_strikes(o->host, true)) {
            write_torn(o);
            return ERR_IO;
        }
        e = fs_inode_write(i, o->from, o->n, o->offset);
        if (e == ERR_OK)
            i->last_write = o->offset;
        if (e == ERR_OK && !o->host->disk.lie)
            fs_inode_sync(i);
        return e;
    }
    if (sim_disk_strikes(o->host, false) || o->offset + o->n > i->data.n)
        return ERR_IO;
    memcpy(o->to, i->data.p + o->offset, o->n);
    return ERR_OK;
}

/* ---- crashes ---- */

static void lose_names(struct sim_host *h, unsigned keep_percent)
{
    struct list *item;

    /* Decide per change, in order: once one of a directory is lost, all later ones of it are. The
     * halves of a rename stand beside each other and share their fate. */
    LIST_FOR(item2, &h->disk.names)
    {
        struct fs_name_op *op = CONTAINER_OF(item2, struct fs_name_op, link);
        struct fs_name_op *half = NULL;
        if (op->pair && item2->next != &h->disk.names) {
            half = CONTAINER_OF(item2->next, struct fs_name_op, link);
            half = half->pair == op->pair ? half : NULL;
        }
        bool lost =
            op->dir->locked || (half && half->dir->locked) || sim_below(100) >= keep_percent;
        op->lost = lost;
        op->dir->locked = op->dir->locked || lost; /* of directories: "the rest is lost" */
        if (half) {
            half->lost = lost;
            half->dir->locked = half->dir->locked || lost;
            item2 = item2->next;
        }
    }
    while ((item = list_pop_front(&h->disk.names))) {
        struct fs_name_op *op = CONTAINER_OF(item, struct fs_name_op, link);
        op->dir->locked = false;
        if (op->lost)
            sim_world.stats.lost_names++;
        else
            fs_names_set(&op->dir->durable, op->name, op->inode);
        fs_inode_unref(op->inode);
        fs_inode_unref(op->dir);
        free(op->name);
        free(op);
    }
}

/* What is seen becomes what is durable, below `dir`. */
static void revert_names(struct fs_inode *dir)
{
    struct fs_names old = dir->seen;

    dir->seen = (struct fs_names){0};
    for (size_t i = 0; i < dir->durable.n; i++) {
        fs_names_set(&dir->seen, dir->durable.e[i].name, dir->durable.e[i].inode);
        if (dir->durable.e[i].inode->dir)
            revert_names(dir->durable.e[i].inode);
    }
    fs_names_clear(&old);
}

static void lose_data(struct fs_inode *i, unsigned keep_percent)
{
    uint64_t size = i->data.n, wanted = size;

    if (i->dir || (i->n_old == 0 && size == i->durable_size))
        return;
    if (size != i->durable_size && sim_below(100) >= keep_percent)
        wanted = i->durable_size;
    if (wanted > size)
        fs_inode_resize(i, wanted);
    for (size_t k = 0; k < i->n_old; k++) {
        const uint8_t *old = i->old[k].bytes;
        uint64_t at = i->old[k].block * FS_BLOCK;
        if (at < i->data.n && sim_below(100) >= keep_percent) {
            size_t n = i->data.n - (size_t)at < FS_BLOCK ? i->data.n - (size_t)at : FS_BLOCK;
            if (old)
                memcpy(i->data.p + at, old, n);
            else
                memset(i->data.p + at, 0, n);
            sim_world.stats.lost_blocks++;
        }
    }
    if (wanted < i->data.n) {
        i->host->disk.used -= i->data.n - wanted;
        i->data.n = (size_t)wanted;
    }
    fs_inode_sync(i);
}

void sim_fs_host_died(struct sim_host *h, enum sim_death how)
{
    static const unsigned keep[] = {0, 50, 95};
    unsigned keep_percent = keep[sim_below(3)];
    struct list *item;

    /* Operations in flight: the process is gone, its disk may have done any part of them. */
    while ((item = list_pop_front(&h->disk.ops))) {
        struct sim_fileop *o = CONTAINER_OF(item, struct sim_fileop, link);
        sim_cancel(&o->event);
        if (o->write)
            write_torn(o);
        free(o);
    }
    while ((item = list_first(&h->disk.files)))
        fs_close(CONTAINER_OF(item, struct fs_file, link));
    if (how != SIM_POWER)
        return;
    lose_names(h, keep_percent);
    revert_names(h->disk.root);
    LIST_FOR(item2, &h->disk.inodes)
    {
        lose_data(CONTAINER_OF(item2, struct fs_inode, link), keep_percent);
    }
}

/* ---- faults ---- */

void sim_disk_stall(struct sim_host *h, uint64_t ns)
{
    h->disk.stalled_until = sim_world.now + ns;
}

void sim_disk_slow(struct sim_host *h, unsigned factor)
{
    CHECK(factor > 0);
    h->disk.slow = factor;
}

void sim_disk_fail(struct sim_host *h, unsigned writes, unsigned reads)
{
    h->disk.fail_write = writes;
    h->disk.fail_read = reads;
}

void sim_disk_capacity(struct sim_host *h, uint64_t bytes)
{
    h->disk.capacity = bytes;
}

uint64_t sim_disk_used(const struct sim_host *h)
{
    return h->disk.used;
}

void sim_disk_lie(struct sim_host *h, bool lie)
{
    h->disk.lie = lie;
}

void sim_disk_wipe(struct sim_host *h)
{
    CHECK(!h->up);
    lose_names(h, 0);
    fs_names_clear(&h->disk.root->seen);
    fs_names_clear(&h->disk.root->durable);
}

/* Picks one of the files whose path contains `part`, each with the same chance. */
static void pick_file(struct fs_inode *dir, struct buf *path, const char *part, uint64_t *seen,
                      struct fs_inode **out)
{
    for (size_t k = 0; k < dir->seen.n; k++) {
        struct fs_inode *i = dir->seen.e[k].inode;
        size_t n = path->n;
        buf_append(path, "/", 1);
        buf_append(path, dir->seen.e[k].name, strlen(dir->seen.e[k].name));
        if (i->dir)
            pick_file(i, path, part, seen, out);
        else if (i->data.n > 0 && memmem(path->p, path->n, part, strlen(part)) &&
                 sim_below(++*seen) == 0)
            *out = i;
        path->n = n;
    }
}

bool sim_disk_flip(struct sim_host *h, const char *part)
{
    struct buf path = {0};
    struct fs_inode *i = NULL;
    uint64_t seen = 0, bit, limit;

    pick_file(h->disk.root, &path, part, &seen, &i);
    buf_close(&path);
    if (!i)
        return false;
    /* Not in the last commit of a log, nor in what a crash may have torn behind it: damage there
     * cannot be told from a torn tail, by nobody (wal_recover.c says so). */
    limit = i->last_write ? i->last_write : i->data.n;
    bit = sim_below(limit * 8);
    /* Logs are mostly padding, in which a flip changes nothing: rather where something stands. */
    for (int tries = 0; tries < 200 && i->data.p[bit / 8] == 0; tries++)
        bit = sim_below(limit * 8);
    i->data.p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    return true;
}
