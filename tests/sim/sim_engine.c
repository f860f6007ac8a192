/* shardd/engine.h in memory, over the simulated disk.
 *
 * A database is a sorted array of pairs. Freezing makes an image of all of it (magic, pairs,
 * CRC32C), flushing writes that to the file IMAGE with fs_write_file, so a crash goes back to the
 * state that was frozen for the last flush, at a boundary of a batch. Freezing may compact, too:
 * then it drops what has expired by the log's time of what was durable before it. Now and then a
 * read that wants the cache only is told that it needs I/O. */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/io/fs.h"
#include "shardd/engine_batch.h"
#include "shardd/engine_key.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_engine.h"

#define IMAGE_MAGIC 0x53454e47u
#define NEEDS_IO 0.03
#define COMPACTS 0.3

struct pair {
    uint8_t *key, *value;
    uint32_t key_n, value_n;
};

struct pairs {
    struct pair *e;
    size_t n, cap;
};

struct engine {
    unsigned open;
};

#define MEMTABLE_FULL (32 * KIB) /* small, so that flushes happen in a short run */

struct engine_db {
    struct engine *engine;
    char path[1024];
    struct pairs now;
    struct buf durable; /* the bytes of IMAGE */
    struct buf frozen;  /* those of the next one; empty: there is nothing to flush */
    uint64_t since_flush, since_freeze; /* bytes written */
    uint64_t time_ms;                   /* engine_set_time() */
    enum err broken;                    /* by the flush that failed */
};

/* ---- pairs ---- */

static int key_order(const struct pair *p, struct slice key)
{
    size_t n = p->key_n < key.n ? p->key_n : key.n;
    int c = n ? memcmp(p->key, key.p, n) : 0;

    return c ? c : p->key_n < key.n ? -1 : p->key_n > key.n;
}

/* The first pair not before `key`. */
static size_t pairs_at(const struct pairs *p, struct slice key)
{
    size_t low = 0, high = p->n;

    while (low < high) {
        size_t mid = (low + high) / 2;
        if (key_order(&p->e[mid], key) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct pair *pairs_find(const struct pairs *p, struct slice key)
{
    size_t at = pairs_at(p, key);

    return at < p->n && key_order(&p->e[at], key) == 0 ? &p->e[at] : NULL;
}

static void pairs_remove(struct pairs *p, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        free(p->e[i].key);
        free(p->e[i].value);
    }
    memmove(p->e + from, p->e + to, (p->n - to) * sizeof *p->e);
    p->n -= to - from;
}

static void pairs_put(struct pairs *p, struct slice key, struct slice value)
{
    size_t at = pairs_at(p, key);

    if (at < p->n && key_order(&p->e[at], key) == 0) {
        free(p->e[at].value);
    } else {
        if (p->n == p->cap) {
            p->cap = p->cap ? p->cap * 2 : 16;
            p->e = mem_realloc(p->e, p->cap * sizeof *p->e);
        }
        memmove(p->e + at + 1, p->e + at, (p->n - at) * sizeof *p->e);
        p->n++;
        p->e[at].key = mem_dup(key.p, key.n);
        p->e[at].key_n = (uint32_t)key.n;
    }
    p->e[at].value = mem_alloc(value.n + 1);
    if (value.n)
        memcpy(p->e[at].value, value.p, value.n);
    p->e[at].value_n = (uint32_t)value.n;
}

/* ---- the image ---- */

static void image_encode(const struct pairs *p, struct buf *out)
{
    buf_u32(out, IMAGE_MAGIC);
    buf_u32(out, (uint32_t)p->n);
    for (size_t i = 0; i < p->n; i++) {
        buf_u32(out, p->e[i].key_n);
        buf_u32(out, p->e[i].value_n);
        buf_append(out, p->e[i].key, p->e[i].key_n);
        buf_append(out, p->e[i].value, p->e[i].value_n);
    }
    buf_u32(out, crc32c(0, out->p, out->n));
}

static enum err image_decode(struct slice s, struct pairs *out)
{
    struct cursor c = cursor_of(s);
    uint32_t n;

    if (s.n < 12 || cursor_u32(&c) != IMAGE_MAGIC)
        return ERR_CORRUPT;
    n = cursor_u32(&c);
    for (uint32_t i = 0; i < n && !c.bad; i++) {
        uint32_t key_n = cursor_u32(&c), value_n = cursor_u32(&c);
        struct slice key = cursor_bytes(&c, key_n), value = cursor_bytes(&c, value_n);
        if (!c.bad)
            pairs_put(out, key, value);
    }
    if (cursor_u32(&c) != crc32c(0, s.p, s.n - 4) || c.bad || c.left.n > 0)
        return ERR_CORRUPT;
    return ERR_OK;
}

static bool has_expired(const struct pair *p, uint64_t time_ms)
{
    struct engine_value_head head;
    struct slice body;

    return (p->key[0] == 'd' || p->key[0] == 's') &&
           engine_value_decode(slice_of(p->value, p->value_n), &head, &body) == ERR_OK &&
           engine_value_expired(&head, time_ms);
}

static void compact(struct engine_db *db)
{
    for (size_t i = db->time_ms ? db->now.n : 0; i-- > 0;)
        if (has_expired(&db->now.e[i], db->time_ms))
            pairs_remove(&db->now, i, i + 1);
}

static enum err write_image(const char *dir, struct slice image)
{
    char path[1100];

    snprintf(path, sizeof path, "%s/IMAGE", dir);
    return fs_write_file(path, image);
}

void engine_freeze(struct engine_db *db)
{
    if (sim_chance(COMPACTS))
        compact(db);
    buf_clear(&db->frozen);
    image_encode(&db->now, &db->frozen);
    db->since_freeze = 0;
}

enum err engine_flush_frozen(struct engine_db *db)
{
    if (db->broken != ERR_OK)
        return db->broken;
    if (db->frozen.n == 0)
        return ERR_OK;
    enum err e = write_image(db->path, buf_slice(&db->frozen));
    if (e != ERR_OK) {
        db->broken = e;
        return e;
    }
    buf_close(&db->durable);
    db->durable = db->frozen;
    db->frozen = (struct buf){0};
    db->since_flush = db->since_freeze;
    return ERR_OK;
}

enum err engine_flush(struct engine_db *db)
{
    engine_freeze(db);
    return engine_flush_frozen(db);
}

/* ---- life ---- */

enum err engine_create(const struct engine_options *o, struct engine **out, char *msg, size_t n)
{
    (void)o;
    (void)msg;
    (void)n;
    *out = mem_zalloc(sizeof **out);
    return ERR_OK;
}

void engine_destroy(struct engine *e)
{
    free(e);
}

/* RocksDB writes its MANIFEST anew, and syncs it, whenever it opens: what it found is durable then,
 * also if an earlier process died before it could make it so. */
static enum err make_durable(const char *dir, const char *image)
{
    struct fs_file *f;
    enum err e = fs_open(image, FS_READ | FS_WRITE, &f);

    if (e != ERR_OK)
        return e;
    e = fs_sync(f);
    fs_close(f);
    return e == ERR_OK ? fs_sync_dir(dir) : e;
}

enum err engine_open(struct engine *e, const char *path, bool create, struct engine_db **out,
                     char *msg, size_t n)
{
    struct engine_db *db = mem_zalloc(sizeof *db);
    char image[1100];
    enum err result;

    db->engine = e;
    CHECK(strlen(path) < sizeof db->path);
    snprintf(db->path, sizeof db->path, "%s", path);
    snprintf(image, sizeof image, "%s/IMAGE", path);
    if (create && fs_exists(image))
        result = ERR_EXISTS;
    else if (create)
        result = fs_mkdir(path);
    else
        result = fs_read_file(image, &db->durable);
    if (result == ERR_OK && !create)
        result = make_durable(path, image);
    if (result == ERR_OK)
        result = create ? engine_flush(db) : image_decode(buf_slice(&db->durable), &db->now);
    if (result != ERR_OK) {
        snprintf(msg, n, "%s: %s", path, err_text(result));
        engine_close(db);
        return result;
    }
    e->open++;
    *out = db;
    return ERR_OK;
}

void engine_close(struct engine_db *db)
{
    pairs_remove(&db->now, 0, db->now.n);
    free(db->now.e);
    buf_close(&db->durable);
    buf_close(&db->frozen);
    free(db);
}

enum err engine_remove(struct engine *e, const char *path)
{
    (void)e;
    return fs_rmdir_all(path);
}

/* ---- writes ---- */

enum err engine_write(struct engine_db *db, struct engine_batch *b)
{
    struct cursor c = cursor_of(buf_slice(&b->ops));

    if (db->broken != ERR_OK)
        return db->broken;
    while (c.left.n > 0) {
        struct engine_op op = engine_op_next(&c);
        size_t at;
        CHECK(!c.bad);
        if (op.kind == ENGINE_OP_PUT) {
            pairs_put(&db->now, op.key, op.value);
        } else if (op.kind == ENGINE_OP_DELETE) {
            at = pairs_at(&db->now, op.key);
            if (at < db->now.n && key_order(&db->now.e[at], op.key) == 0)
                pairs_remove(&db->now, at, at + 1);
        } else {
            size_t to = pairs_at(&db->now, op.value);
            at = pairs_at(&db->now, op.key);
            if (to > at)
                pairs_remove(&db->now, at, to);
        }
    }
    db->since_flush += b->ops.n;
    db->since_freeze += b->ops.n;
    return ERR_OK;
}

/* ---- reads ---- */

/* Finds a key in the bytes of an image. */
static bool image_find(struct slice image, struct slice key, struct slice *value)
{
    struct cursor c = cursor_of(image);
    uint32_t n;

    (void)cursor_u32(&c);
    n = cursor_u32(&c);
    for (uint32_t i = 0; i < n && !c.bad; i++) {
        uint32_t key_n = cursor_u32(&c), value_n = cursor_u32(&c);
        struct slice k = cursor_bytes(&c, key_n);
        *value = cursor_bytes(&c, value_n);
        if (!c.bad && slice_eq(k, key))
            return true;
    }
    return false;
}

static enum err give(struct slice value, struct engine_value *out)
{
    *out = (struct engine_value){.internal = mem_alloc(value.n + 1)};
    if (value.n)
        memcpy(out->internal, value.p, value.n);
    out->data = slice_of(out->internal, value.n);
    return ERR_OK;
}

static bool differs(const struct buf *image, struct slice key, const struct pair *p)
{
    struct slice stored;

    if (!image_find(buf_slice(image), key, &stored))
        return p != NULL;
    return !p || !slice_eq(slice_of(p->value, p->value_n), stored);
}

/* Whether the key was changed since the last flush, or since what is frozen for the next one: then
 * memory answers for it. */
static bool in_memory(const struct engine_db *db, struct slice key)
{
    const struct pair *p = pairs_find(&db->now, key);

    return differs(&db->durable, key, p) || (db->frozen.n > 0 && differs(&db->frozen, key, p));
}

enum err engine_get(struct engine_db *db, struct slice key, bool cached_only,
                    struct engine_value *out)
{
    const struct pair *p = pairs_find(&db->now, key);

    if (cached_only && sim_chance(NEEDS_IO) && !in_memory(db, key))
        return ERR_INCOMPLETE;
    return p ? give(slice_of(p->value, p->value_n), out) : ERR_NOT_FOUND;
}

/* A read that goes to the disk: there bits may have flipped meanwhile. RocksDB sums its blocks. */
static enum err read_disk(const struct engine_db *db)
{
    struct buf image = {0};
    char path[1100];
    enum err e;

    snprintf(path, sizeof path, "%s/IMAGE", db->path);
    e = fs_read_file(path, &image);
    if (e == ERR_OK && (image.n < 4 || !slice_eq(buf_slice(&image), buf_slice(&db->durable))))
        e = ERR_CORRUPT;
    buf_close(&image);
    return e == ERR_NOT_FOUND ? ERR_CORRUPT : e;
}

enum err engine_get_stored(struct engine_db *db, struct slice key, struct engine_value *out)
{
    struct slice value;
    enum err e = read_disk(db);

    if (e != ERR_OK)
        return e;
    return image_find(buf_slice(&db->durable), key, &value) ? give(value, out) : ERR_NOT_FOUND;
}

void engine_value_close(struct engine_value *v)
{
    free(v->internal);
    *v = (struct engine_value){0};
}

enum err engine_get_durable(struct engine_db *db, struct slice key, struct buf *out)
{
    struct slice value;
    enum err e = read_disk(db);

    if (e != ERR_OK)
        return e;
    if (!image_find(buf_slice(&db->durable), key, &value))
        return ERR_NOT_FOUND;
    buf_append(out, value.p, value.n);
    return ERR_OK;
}

enum err engine_scan(struct engine_db *db, struct slice from, struct slice to, engine_scan_fn each,
                     void *arg)
{
    struct pairs stored = {0};
    enum err e = image_decode(buf_slice(&db->durable), &stored);
    size_t end = pairs_at(&stored, to);
    bool more = e == ERR_OK;

    for (size_t i = pairs_at(&stored, from); more && i < end; i++)
        more = each(arg, slice_of(stored.e[i].key, stored.e[i].key_n),
                    slice_of(stored.e[i].value, stored.e[i].value_n));
    pairs_remove(&stored, 0, stored.n);
    free(stored.e);
    return e;
}

enum err engine_peek(struct engine *e, const char *path, struct slice key, struct buf *out)
{
    struct engine_db *db;
    char msg[1200];
    enum err result = engine_open(e, path, false, &db, msg, sizeof msg);

    if (result != ERR_OK)
        return result;
    result = engine_get_durable(db, key, out);
    engine_close(db);
    return result;
}

/* ---- maintenance ---- */

enum err engine_checkpoint(struct engine_db *db, const char *path)
{
    enum err e = engine_flush_frozen(db);

    if (e == ERR_OK && fs_exists(path))
        e = ERR_EXISTS;
    if (e == ERR_OK)
        e = fs_mkdir(path);
    return e == ERR_OK ? write_image(path, buf_slice(&db->durable)) : e;
}

void engine_set_time(struct engine_db *db, uint64_t durable_ms)
{
    if (durable_ms > db->time_ms)
        db->time_ms = durable_ms;
}

enum err engine_compact(struct engine_db *db)
{
    return db->broken;
}

void engine_db_stats(struct engine_db *db, struct engine_db_stats *out)
{
    *out = (struct engine_db_stats){
        .memtable_bytes = db->since_flush,
        .disk_bytes = db->durable.n,
        .keys = db->now.n,
        .full = db->since_flush > MEMTABLE_FULL,
        .broken = db->broken != ERR_OK,
    };
}

uint64_t engine_memtable_bytes(struct engine *e)
{
    (void)e;
    return 0;
}

uint64_t engine_memtable_budget(const struct engine *e)
{
    (void)e;
    return 128 * MIB;
}

uint64_t sim_engine_hash(const struct engine_db *db, struct slice from, struct slice to,
                         uint64_t time_ms)
{
    uint64_t hash = 0;
    size_t end = pairs_at(&db->now, to);

    for (size_t i = pairs_at(&db->now, from); i < end; i++) {
        const struct pair *p = &db->now.e[i];
        if (has_expired(p, time_ms)) /* it may have been dropped here and not there */
            continue;
        hash = (hash ^ crc32c(crc32c(0, p->key, p->key_n), p->value, p->value_n)) *
               0x9e3779b97f4a7c15u;
    }
    return hash;
}
