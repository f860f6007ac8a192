/* Inodes and directories of simulated disks. See sim_fs.h. */
#include "tests/sim/sim_fs.h"

#include <stdlib.h>

/* ---- names ---- */

static size_t names_at(const struct fs_names *n, const char *name, bool *there)
{
    size_t low = 0, high = n->n;

    *there = false;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int order = strcmp(n->e[mid].name, name);
        if (order == 0) {
            *there = true;
            return mid;
        }
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

struct fs_inode *fs_names_find(const struct fs_names *n, const char *name)
{
    bool there;
    size_t at = names_at(n, name, &there);

    return there ? n->e[at].inode : NULL;
}

void fs_names_set(struct fs_names *n, const char *name, struct fs_inode *inode)
{
    bool there;
    size_t at = names_at(n, name, &there);

    if (inode)
        inode->refs++;
    if (there && inode) {
        struct fs_inode *old = n->e[at].inode;
        n->e[at].inode = inode;
        fs_inode_unref(old);
    } else if (there) {
        struct fs_name old = n->e[at];
        memmove(n->e + at, n->e + at + 1, (n->n - at - 1) * sizeof *n->e);
        n->n--;
        free(old.name);
        fs_inode_unref(old.inode);
    } else if (inode) {
        if (n->n == n->cap) {
            n->cap = n->cap ? n->cap * 2 : 8;
            n->e = mem_realloc(n->e, n->cap * sizeof *n->e);
        }
        memmove(n->e + at + 1, n->e + at, (n->n - at) * sizeof *n->e);
        n->e[at] = (struct fs_name){mem_strdup(name), inode};
        n->n++;
    }
}

void fs_names_clear(struct fs_names *n)
{
    for (size_t i = 0; i < n->n; i++) {
        free(n->e[i].name);
        fs_inode_unref(n->e[i].inode);
    }
    free(n->e);
    *n = (struct fs_names){0};
}

/* ---- inodes ---- */

struct fs_inode *fs_inode_create(struct sim_host *h, bool dir)
{
    struct fs_inode *i = mem_zalloc(sizeof *i);

    i->host = h;
    i->dir = dir;
    list_push_back(&h->disk.inodes, &i->link);
    return i;
}

static void forget_old(struct fs_inode *i)
{
    for (size_t k = 0; k < i->n_old; k++) {
        i->changed[i->old[k].block / 8] = 0;
        free(i->old[k].bytes);
    }
    i->n_old = 0;
}

void fs_inode_unref(struct fs_inode *i)
{
    if (!i)
        return;
    CHECK(i->refs > 0);
    if (--i->refs > 0)
        return;
    fs_names_clear(&i->seen);
    fs_names_clear(&i->durable);
    forget_old(i);
    free(i->old);
    free(i->changed);
    i->host->disk.used -= i->data.n;
    buf_close(&i->data);
    list_remove(&i->link);
    free(i);
}

void fs_inode_sync(struct fs_inode *i)
{
    forget_old(i);
    i->durable_size = i->data.n;
}

static void remember_block(struct fs_inode *i, uint64_t b)
{
    uint64_t at = b * FS_BLOCK;
    uint8_t *bytes = NULL;

    i->changed[b / 8] |= (uint8_t)(1u << b % 8);
    /* Beyond the durable size there is nothing to put back but zeros. */
    if (at < i->data.n && at < i->durable_size) {
        size_t n = (size_t)(i->data.n - at);
        bytes = mem_zalloc(FS_BLOCK);
        memcpy(bytes, i->data.p + at, n < FS_BLOCK ? n : FS_BLOCK);
    }
    if (i->n_old == i->old_cap) {
        i->old_cap = i->old_cap ? i->old_cap * 2 : 16;
        i->old = mem_realloc(i->old, i->old_cap * sizeof *i->old);
    }
    i->old[i->n_old++] = (struct fs_old){b, bytes};
}

static void remember(struct fs_inode *i, uint64_t from, uint64_t to)
{
    size_t bits = (size_t)(to / FS_BLOCK / 8) + 1;

    if (bits > i->changed_cap) {
        size_t cap = bits > 2 * i->changed_cap ? bits : 2 * i->changed_cap;
        i->changed = mem_realloc(i->changed, cap);
        memset(i->changed + i->changed_cap, 0, cap - i->changed_cap);
        i->changed_cap = cap;
    }
    for (uint64_t b = from / FS_BLOCK; b * FS_BLOCK < to; b++)
        if (!(i->changed[b / 8] >> b % 8 & 1))
            remember_block(i, b);
}

static void grow(struct fs_inode *i, uint64_t size)
{
    size_t more = (size_t)(size - i->data.n);

    memset(buf_extend(&i->data, more), 0, more);
    i->host->disk.used += more;
}

void fs_inode_resize(struct fs_inode *i, uint64_t size)
{
    if (size > i->data.n) {
        grow(i, size);
        return;
    }
    remember(i, size, i->data.n);
    i->host->disk.used -= i->data.n - size;
    i->data.n = (size_t)size;
}

enum err fs_inode_write(struct fs_inode *i, const void *p, size_t n, uint64_t offset)
{
    struct sim_disk *d = &i->host->disk;

    if (offset + n > i->data.n && d->used + (offset + n - i->data.n) > d->capacity) {
        sim_world.stats.no_space++;
        return ERR_NO_SPACE;
    }
    if (n == 0)
        return ERR_OK;
    remember(i, offset, offset + n);
    if (offset + n > i->data.n)
        grow(i, offset + n);
    memcpy(i->data.p + offset, p, n);
    return ERR_OK;
}
