/* common/io/fs.h in memory: each host's files live below "/n<number>/". See sim_fs.h for what a
 * crash does to them. Calls made outside of any host (by the world) suffer no faults. */
#include "tests/sim/sim_fs.h"

#include <stdio.h>
#include <stdlib.h>

static const char *last_error = "no error";

static enum err failed(enum err e, const char *text)
{
    last_error = text;
    return e;
}

const char *fs_last_error(void)
{
    return last_error;
}

/* Every call of a process passes here: it may be the one at which the process crashes. */
static void step(struct sim_host *h)
{
    sim_world.stats.fs_ops++;
    if (!h || h != sim_world.current || h->disk.crash_at == 0)
        return;
    if (--h->disk.crash_at == 0) {
        h->power_pending = sim_chance(0.5);
        sim_exit(h->power_pending ? "power lost at a file operation"
                                  : "killed at a file operation");
    }
}

/* Walks to the directory of `path`; *last is its final part ("" for the root itself). */
static struct fs_inode *walk(const char *path, struct sim_host **host, char last[256])
{
    unsigned number = 0;
    int used = 0;
    struct fs_inode *dir;
    const char *p;

    *host = NULL;
    last[0] = 0;
    if (sscanf(path, "/n%u%n", &number, &used) != 1)
        return NULL;
    *host = sim_host_find(number);
    if (!*host)
        return NULL;
    dir = (*host)->disk.root;
    for (p = path + used; *p;) {
        size_t n;
        while (*p == '/')
            p++;
        n = strcspn(p, "/");
        if (n == 0)
            break;
        if (last[0]) {
            dir = fs_names_find(&dir->seen, last);
            if (!dir || !dir->dir)
                return NULL;
        }
        if (n > 255)
            return NULL;
        memcpy(last, p, n);
        last[n] = 0;
        p += n;
    }
    return dir;
}

static struct fs_inode *find(const char *path, struct sim_host **host)
{
    char last[256];
    struct fs_inode *dir = walk(path, host, last);

    if (!dir)
        return NULL;
    return last[0] ? fs_names_find(&dir->seen, last) : dir;
}

static void change_name(struct fs_inode *dir, const char *name, struct fs_inode *inode,
                        uint64_t pair)
{
    struct fs_name_op *op = mem_zalloc(sizeof *op);

    op->dir = dir;
    op->name = mem_strdup(name);
    op->inode = inode;
    op->pair = pair;
    dir->refs++;
    if (inode)
        inode->refs++;
    list_push_back(&dir->host->disk.names, &op->link);
    fs_names_set(&dir->seen, name, inode);
}

enum err fs_open(const char *path, unsigned flags, struct fs_file **out)
{
    struct sim_host *h;
    char last[256];
    struct fs_inode *dir = walk(path, &h, last), *i;
    struct fs_file *f;

    step(h);
    if (!dir || !last[0])
        return failed(ERR_NOT_FOUND, "No such file or directory");
    i = fs_names_find(&dir->seen, last);
    if (i && i->dir)
        return failed(ERR_IO, "Is a directory");
    if (i && (flags & FS_CREATE) && (flags & FS_EXCLUSIVE))
        return failed(ERR_EXISTS, "File exists");
    if (!i && !(flags & FS_CREATE))
        return failed(ERR_NOT_FOUND, "No such file or directory");
    if (!i) {
        i = fs_inode_create(h, false);
        change_name(dir, last, i, 0);
    } else if (flags & FS_TRUNCATE) {
        fs_inode_resize(i, 0);
    }
    f = mem_zalloc(sizeof *f);
    f->inode = i;
    f->host = h;
    f->flags = flags;
    i->refs++;
    list_push_back(&h->disk.files, &f->link);
    *out = f;
    return ERR_OK;
}

void fs_close(struct fs_file *f)
{
    if (!f)
        return;
    if (f->lock)
        f->inode->locked = false;
    list_remove(&f->link);
    fs_inode_unref(f->inode);
    free(f);
}

enum err fs_size(struct fs_file *f, uint64_t *out)
{
    *out = f->inode->data.n;
    return ERR_OK;
}

enum err fs_read(struct fs_file *f, void *p, size_t n, uint64_t offset, size_t *got)
{
    const struct buf *d = &f->inode->data;
    size_t left = offset < d->n ? d->n - (size_t)offset : 0;

    step(f->host);
    if (sim_disk_strikes(f->host, false))
        return failed(ERR_IO, "Input/output error");
    *got = left < n ? left : n;
    if (*got)
        memcpy(p, d->p + offset, *got);
    return ERR_OK;
}

enum err fs_write(struct fs_file *f, const void *p, size_t n, uint64_t offset)
{
    step(f->host);
    if (sim_disk_strikes(f->host, true))
        return failed(ERR_IO, "Input/output error");
    if (fs_inode_write(f->inode, p, n, offset) != ERR_OK)
        return failed(ERR_NO_SPACE, "No space left on device");
    return ERR_OK;
}

enum err fs_sync(struct fs_file *f)
{
    step(f->host);
    sim_world.stats.syncs++;
    if (sim_disk_strikes(f->host, true))
        return failed(ERR_IO, "Input/output error");
    if (!f->host->disk.lie)
        fs_inode_sync(f->inode);
    return ERR_OK;
}

/* May have been written or not, as without it. */
void fs_write_out(struct fs_file *f, uint64_t offset, size_t n)
{
    (void)f;
    (void)offset;
    (void)n;
}

enum err fs_truncate(struct fs_file *f, uint64_t size)
{
    struct sim_disk *d = &f->host->disk;

    step(f->host);
    if (size > f->inode->data.n && d->used + (size - f->inode->data.n) > d->capacity) {
        sim_world.stats.no_space++;
        return failed(ERR_NO_SPACE, "No space left on device");
    }
    fs_inode_resize(f->inode, size);
    return ERR_OK;
}

enum err fs_rename(const char *from, const char *to)
{
    struct sim_host *h, *h2;
    char a[256], b[256];
    struct fs_inode *da = walk(from, &h, a), *db = walk(to, &h2, b), *i, *target;
    static uint64_t pairs;

    step(h);
    i = da && a[0] ? fs_names_find(&da->seen, a) : NULL;
    if (!i || !db || !b[0])
        return failed(ERR_NOT_FOUND, "No such file or directory");
    CHECK(h == h2);
    target = fs_names_find(&db->seen, b);
    if (target == i)
        return ERR_OK;
    if (target && target->dir && (!i->dir || target->seen.n > 0))
        return failed(ERR_EXISTS, "Directory not empty");
    i->refs++;
    pairs++;
    change_name(da, a, NULL, pairs);
    change_name(db, b, i, pairs);
    fs_inode_unref(i);
    return ERR_OK;
}

enum err fs_unlink(const char *path)
{
    struct sim_host *h;
    char last[256];
    struct fs_inode *dir = walk(path, &h, last), *i;

    step(h);
    i = dir && last[0] ? fs_names_find(&dir->seen, last) : NULL;
    if (!i)
        return failed(ERR_NOT_FOUND, "No such file or directory");
    if (i->dir)
        return failed(ERR_IO, "Is a directory");
    change_name(dir, last, NULL, 0);
    return ERR_OK;
}

enum err fs_mkdir(const char *path)
{
    struct sim_host *h;
    char last[256];
    struct fs_inode *dir = walk(path, &h, last), *i;

    step(h);
    if (!dir)
        return failed(ERR_NOT_FOUND, "No such file or directory");
    if (!last[0])
        return ERR_OK;
    i = fs_names_find(&dir->seen, last);
    if (i)
        return i->dir ? ERR_OK : failed(ERR_EXISTS, "File exists");
    change_name(dir, last, fs_inode_create(h, true), 0);
    return ERR_OK;
}

static void remove_below(struct fs_inode *dir)
{
    while (dir->seen.n > 0) {
        struct fs_name *e = &dir->seen.e[dir->seen.n - 1];
        char *name = mem_strdup(e->name);
        if (e->inode->dir)
            remove_below(e->inode);
        step(dir->host);
        change_name(dir, name, NULL, 0);
        free(name);
    }
}

enum err fs_rmdir_all(const char *path)
{
    struct sim_host *h;
    char last[256];
    struct fs_inode *dir = walk(path, &h, last), *i;

    step(h);
    i = dir && last[0] ? fs_names_find(&dir->seen, last) : NULL;
    if (!i)
        return ERR_OK;
    if (i->dir)
        remove_below(i);
    change_name(dir, last, NULL, 0);
    return ERR_OK;
}

static void commit_name(struct fs_name_op *op)
{
    fs_names_set(&op->dir->durable, op->name, op->inode);
    list_remove(&op->link);
    fs_inode_unref(op->inode);
    fs_inode_unref(op->dir);
    free(op->name);
    free(op);
}

/* A rename's halves go together, whichever directory is synced: the journal commits both. */
static bool pair_touches(struct list *ops, uint64_t pair, const struct fs_inode *dir)
{
    LIST_FOR(item, ops)
    {
        struct fs_name_op *op = CONTAINER_OF(item, struct fs_name_op, link);
        if (op->pair == pair && op->dir == dir)
            return true;
    }
    return false;
}

enum err fs_sync_dir(const char *path)
{
    struct sim_host *h;
    struct fs_inode *dir = find(path, &h);

    step(h);
    if (!dir || !dir->dir)
        return failed(ERR_NOT_FOUND, "No such file or directory");
    sim_world.stats.syncs++;
    if (sim_disk_strikes(h, true))
        return failed(ERR_IO, "Input/output error");
    if (h->disk.lie)
        return ERR_OK;
    dir->refs++;
    LIST_FOR(item, &h->disk.names)
    {
        struct fs_name_op *op = CONTAINER_OF(item, struct fs_name_op, link);
        op->lost = !(op->dir == dir || (op->pair && pair_touches(&h->disk.names, op->pair, dir)));
    }
    LIST_FOR_SAFE(item, &h->disk.names)
    {
        struct fs_name_op *op = CONTAINER_OF(item, struct fs_name_op, link);
        if (!op->lost)
            commit_name(op);
    }
    fs_inode_unref(dir);
    return ERR_OK;
}

bool fs_exists(const char *path)
{
    struct sim_host *h;

    return find(path, &h) != NULL;
}

enum err fs_list(const char *path, void (*fn)(void *arg, const char *name, bool is_dir), void *arg)
{
    struct sim_host *h;
    struct fs_inode *dir = find(path, &h);
    struct fs_name *copy;
    size_t n;

    step(h);
    if (!dir || !dir->dir)
        return failed(ERR_NOT_FOUND, "No such file or directory");
    /* A copy: fn may change the directory. */
    n = dir->seen.n;
    copy = mem_alloc((n + 1) * sizeof *copy);
    for (size_t i = 0; i < n; i++) {
        copy[i].name = mem_strdup(dir->seen.e[i].name);
        copy[i].inode = dir->seen.e[i].inode;
        copy[i].inode->refs++;
    }
    for (size_t i = 0; i < n; i++) {
        fn(arg, copy[i].name, copy[i].inode->dir);
        free(copy[i].name);
        fs_inode_unref(copy[i].inode);
    }
    free(copy);
    return ERR_OK;
}

enum err fs_lock(const char *path, struct fs_file **out)
{
    struct fs_file *f;
    enum err e = fs_open(path, FS_READ | FS_WRITE | FS_CREATE, &f);

    if (e != ERR_OK)
        return e;
    if (f->inode->locked && f->inode->lock_life == f->host->life) {
        fs_close(f);
        return failed(ERR_LOCKED, "Resource temporarily unavailable");
    }
    f->lock = true;
    f->inode->locked = true;
    f->inode->lock_life = f->host->life;
    *out = f;
    return ERR_OK;
}

enum err fs_space(const char *path, uint64_t *free_bytes, uint64_t *total_bytes)
{
    struct sim_host *h;
    uint64_t capacity, used;

    if (!find(path, &h))
        return failed(ERR_NOT_FOUND, "No such file or directory");
    capacity = h->disk.capacity == UINT64_MAX ? GIB : h->disk.capacity;
    used = h->disk.used < capacity ? h->disk.used : capacity;
    *free_bytes = capacity - used;
    *total_bytes = capacity;
    return ERR_OK;
}
