/* The engine on RocksDB 7.8 through its C API. Options and why: design notes in shardd/README.md.
 *
 * Writes gather in a memtable of our own (memtable.h). The core freezes it and begins a new one; a
 * flush on an offload thread writes the frozen one sorted as ONE batch into RocksDB and has that
 * flushed to a file. (More than one is frozen only if a job that was to flush the first came to
 * nothing.) A get asks the active memtable, the frozen ones, then RocksDB. The lock covers the
 * pointers to them and what the active one holds.
 *
 * Stalls. A committed entry has to be applied, so a write may be refused for nothing. RocksDB's own
 * limits (immutable memtables, files in level 0, compaction debt) are therefore set far out, and
 * engine_db_stats() calls a database stalled long before them: the owner sheds load when proposing.
 * Should RocksDB's limit be reached all the same, engine_write() waits, which is late but right.
 *
 * Durability. RocksDB's log is off; a memtable becomes durable as a whole when it is flushed, in
 * order, so what is durable ends at a batch boundary and the position in it tells where. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/io/fs.h"
#include "shardd/engine_rocksdb_internal.h"
#include "shardd/engine_rocksdb_options.h"

#define BLOCK_CACHE_DEFAULT (64 * MIB)
#define PREFETCH_WINDOW 32u /* writes whose memory is loaded at the same time */
#define MEMTABLE_BUDGET_DEFAULT (128 * MIB)
#define MEMTABLE_SIZE_DEFAULT (8 * MIB)
#define BATCH_KEEP (1 * MIB) /* a batch keeps this much memory when it is cleared */
#define BACKGROUND_COMPACTIONS 2
#define BACKGROUND_FLUSHES 2

/* RocksDB's limits, and ours before them. */
#define MEMTABLES_STALLED 3
#define LEVEL0_STALLED 20

enum { READ_TIER_ALL = 0, READ_TIER_CACHE = 1, READ_TIER_PERSISTED = 2 };

/* Operations as they will be applied: { u8 kind, u32 key, u32 value, key, value }... */
struct engine_batch {
    struct buf ops;
    unsigned n;
};

/* ---- errors ---- */

static bool has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

/* RocksDB's C API tells errors as text only. */
static enum err classify(const char *text)
{
    if (has(text, "No space left") || has(text, "NoSpace") || has(text, "Disk quota"))
        return ERR_NO_SPACE;
    if (has(text, "create_if_missing is false"))
        return ERR_NOT_FOUND;
    if (has(text, "error_if_exists is true"))
        return ERR_EXISTS;
    if (has(text, "lock") && (has(text, "Resource temporarily") || has(text, "lock hold")))
        return ERR_LOCKED;
    if (has(text, "Result incomplete"))
        return ERR_INCOMPLETE;
    if (has(text, "Input/output error"))
        return ERR_IO; /* the disk, whichever file it was */
    if (has(text, "Corruption") || has(text, ".sst") || has(text, "MANIFEST"))
        return ERR_CORRUPT;
    if (has(text, "Permission denied"))
        return ERR_FORBIDDEN;
    if (has(text, "Not implemented") || has(text, "not supported"))
        return ERR_UNSUPPORTED;
    return ERR_IO;
}

static void say(char *msg, size_t n, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void say(char *msg, size_t n, const char *fmt, ...)
{
    va_list ap;

    if (!msg || n == 0)
        return;
    va_start(ap, fmt);
    vsnprintf(msg, n, fmt, ap);
    va_end(ap);
}

enum err engine_rocksdb_error(char *text)
{
    if (!text)
        return ERR_OK;
    enum err e = classify(text);
    rocksdb_free(text);
    return e;
}

/* ---- engine ---- */

static void make_read_options(struct engine *e)
{
    e->read_all = rocksdb_readoptions_create();
    e->read_cached = rocksdb_readoptions_create();
    rocksdb_readoptions_set_read_tier(e->read_cached, READ_TIER_CACHE);
    e->read_durable = rocksdb_readoptions_create();
    rocksdb_readoptions_set_read_tier(e->read_durable, READ_TIER_PERSISTED);
    e->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(e->write, 1);
}

enum err engine_create(const struct engine_options *o, struct engine **out, char *msg, size_t n)
{
    struct engine *e = mem_zalloc(sizeof *e);
    e->env = rocksdb_create_default_env();
    rocksdb_env_set_background_threads(e->env, BACKGROUND_COMPACTIONS);
    rocksdb_env_set_high_priority_background_threads(e->env, BACKGROUND_FLUSHES);
    e->cache = rocksdb_cache_create_lru(o->block_cache ? o->block_cache : BLOCK_CACHE_DEFAULT);
    e->memtable_budget = o->memtable_budget ? o->memtable_budget : MEMTABLE_BUDGET_DEFAULT;
    e->memtable_size = o->memtable_size ? o->memtable_size : MEMTABLE_SIZE_DEFAULT;
    /* Keys of clients must not be able to aim at one bucket. */
    if (getrandom(&e->seed, sizeof e->seed, 0) != sizeof e->seed)
        e->seed = (uint64_t)(uintptr_t)e;
    pthread_mutex_init(&e->lock, NULL);
    list_init(&e->dbs);
    make_read_options(e);
    e->open_options =
        engine_rocksdb_options(e->env, e->cache, e->memtable_size, o->compression, msg, n);
    if (!e->open_options) {
        engine_destroy(e);
        return ERR_CONFIG;
    }
    e->create_options = rocksdb_options_create_copy(e->open_options);
    rocksdb_options_set_create_if_missing(e->create_options, 1);
    rocksdb_options_set_error_if_exists(e->create_options, 1);
    e->peek_options = rocksdb_options_create_copy(e->open_options);
    rocksdb_options_set_max_open_files(e->peek_options, 16);
    *out = e;
    return ERR_OK;
}

void engine_destroy(struct engine *e)
{
    if (!e)
        return;
    CHECK(list_empty(&e->dbs));
    if (e->open_options)
        rocksdb_options_destroy(e->open_options);
    if (e->create_options)
        rocksdb_options_destroy(e->create_options);
    if (e->peek_options)
        rocksdb_options_destroy(e->peek_options);
    rocksdb_readoptions_destroy(e->read_all);
    rocksdb_readoptions_destroy(e->read_cached);
    rocksdb_readoptions_destroy(e->read_durable);
    rocksdb_writeoptions_destroy(e->write);
    rocksdb_cache_destroy(e->cache);
    rocksdb_env_destroy(e->env);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

static uint64_t property(struct engine_db *db, const char *name)
{
    uint64_t v = 0;

    return rocksdb_property_int(db->db, name, &v) == 0 ? v : 0;
}

/* A directory name that has just been made is durable only once its parent is synced. */
static enum err sync_parent(const char *path)
{
    char *parent = mem_strdup(path);
    char *slash = strrchr(parent, '/');
    enum err e;

    if (slash == parent)
        slash[1] = '\0';
    else if (slash)
        *slash = '\0';
    e = fs_sync_dir(slash ? parent : ".");
    free(parent);
    return e;
}

enum err engine_open(struct engine *e, const char *path, bool create, struct engine_db **out,
                     char *msg, size_t n)
{
    char *error = NULL;
    rocksdb_options_t *o =
        rocksdb_options_create_copy(create ? e->create_options : e->open_options);
    struct engine_expiry *expiry = engine_expiry_create(o);
    rocksdb_t *r = rocksdb_open(o, path, &error);

    rocksdb_options_destroy(o);
    if (error) {
        say(msg, n, "database %s: %s", path, error);
        engine_expiry_destroy(expiry);
        return engine_rocksdb_error(error);
    }
    enum err synced = create ? sync_parent(path) : ERR_OK;
    if (synced != ERR_OK) {
        say(msg, n, "database %s: its parent directory cannot be synced: %s", path,
            fs_last_error());
        rocksdb_close(r);
        engine_expiry_destroy(expiry);
        return synced;
    }
    struct engine_db *db = mem_zalloc(sizeof *db);
    db->e = e;
    db->db = r;
    db->expiry = expiry;
    pthread_mutex_init(&db->lock, NULL);
    db->active = memtable_create(e->seed);
    pthread_mutex_lock(&e->lock);
    list_push_back(&e->dbs, &db->link);
    pthread_mutex_unlock(&e->lock);
    *out = db;
    return ERR_OK;
}

void engine_close(struct engine_db *db)
{
    if (!db)
        return;
    pthread_mutex_lock(&db->e->lock);
    list_remove(&db->link);
    pthread_mutex_unlock(&db->e->lock);
    rocksdb_close(db->db);
    engine_expiry_destroy(db->expiry);
    memtable_unref(db->active);
    for (unsigned i = 0; i < db->n_frozen; i++)
        memtable_unref(db->frozen[i]);
    free(db->frozen);
    pthread_mutex_destroy(&db->lock);
    free(db);
}

enum err engine_remove(struct engine *e, const char *path)
{
    (void)e;
    return fs_rmdir_all(path);
}

/* ---- batches ---- */

enum { OP_PUT = 1, OP_DELETE = 2, OP_DELETE_RANGE = 3 };

struct engine_batch *engine_batch_create(void)
{
    return mem_zalloc(sizeof(struct engine_batch));
}

void engine_batch_destroy(struct engine_batch *b)
{
    if (!b)
        return;
    buf_close(&b->ops);
    free(b);
}

void engine_batch_clear(struct engine_batch *b)
{
    b->n = 0;
    buf_clear(&b->ops);
    if (b->ops.cap > BATCH_KEEP)
        buf_close(&b->ops);
}

static void batch_add(struct engine_batch *b, uint8_t kind, struct slice key, struct slice head,
                      struct slice body)
{
    buf_reserve(&b->ops, 9 + key.n + head.n + body.n);
    buf_u8(&b->ops, kind);
    buf_u32(&b->ops, (uint32_t)key.n);
    buf_u32(&b->ops, (uint32_t)(head.n + body.n));
    buf_append(&b->ops, key.p, key.n);
    buf_append(&b->ops, head.p, head.n);
    buf_append(&b->ops, body.p, body.n);
    b->n++;
}

void engine_batch_put(struct engine_batch *b, struct slice key, struct slice value)
{
    batch_add(b, OP_PUT, key, value, slice_of(NULL, 0));
}

void engine_batch_put2(struct engine_batch *b, struct slice key, struct slice head,
                       struct slice body)
{
    batch_add(b, OP_PUT, key, head, body);
}

void engine_batch_delete(struct engine_batch *b, struct slice key)
{
    batch_add(b, OP_DELETE, key, slice_of(NULL, 0), slice_of(NULL, 0));
}

void engine_batch_delete_range(struct engine_batch *b, struct slice from, struct slice to)
{
    batch_add(b, OP_DELETE_RANGE, from, to, slice_of(NULL, 0));
}

/* Order of keys: bytewise. */
static int key_cmp(struct slice a, struct slice b)
{
    int order = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return order != 0 ? order : (a.n > b.n) - (a.n < b.n);
}

uint64_t engine_batch_copy(const struct engine_batch *from, struct slice first, struct slice end,
                           struct engine_batch *to)
{
    struct cursor c = cursor_of(buf_slice(&from->ops));
    size_t before = to->ops.n;

    for (unsigned i = 0; i < from->n; i++) {
        uint8_t kind = cursor_u8(&c);
        uint32_t key_n = cursor_u32(&c), value_n = cursor_u32(&c);
        struct slice key = cursor_bytes(&c, key_n), value = cursor_bytes(&c, value_n);
        if (kind != OP_DELETE_RANGE && key_cmp(key, first) >= 0 && key_cmp(key, end) < 0)
            batch_add(to, kind, key, value, slice_of(NULL, 0));
    }
    return to->ops.n - before;
}

unsigned engine_batch_count(const struct engine_batch *b)
{
    return b->n;
}

static void note_bytes(struct engine_db *db)
{
    uint64_t sum = memtable_bytes(db->active);
    for (unsigned i = 0; i < db->n_frozen; i++)
        sum += memtable_bytes(db->frozen[i]);
    atomic_store_explicit(&db->memtable_bytes, sum, memory_order_relaxed);
}

/* Most of what a small put costs is waiting for memory: the next ones' lines are asked for at the
 * same time. */
static void prefetch(const struct memtable *t, struct cursor c, unsigned n,
                     void (*fetch)(const struct memtable *t, struct slice key))
{
    for (unsigned i = 0; i < n; i++) {
        uint8_t kind = cursor_u8(&c);
        uint32_t key_n = cursor_u32(&c), value_n = cursor_u32(&c);
        struct slice key = cursor_bytes(&c, key_n);
        (void)cursor_bytes(&c, value_n);
        if (kind != OP_DELETE_RANGE)
            fetch(t, key);
    }
}

static void prefetch_window(const struct engine_db *db, struct cursor c, unsigned left)
{
    unsigned n = left < PREFETCH_WINDOW ? left : PREFETCH_WINDOW;
    prefetch(db->active, c, n, memtable_prefetch_bucket);
    prefetch(db->active, c, n, memtable_prefetch_entry);
}

enum err engine_write(struct engine_db *db, struct engine_batch *b)
{
    struct cursor c = cursor_of(buf_slice(&b->ops));

    if (atomic_load_explicit(&db->failed, memory_order_relaxed))
        return ERR_IO;
    pthread_mutex_lock(&db->lock);
    for (unsigned i = 0; i < b->n; i++) {
        if (i % PREFETCH_WINDOW == 0)
            prefetch_window(db, c, b->n - i);
        uint8_t kind = cursor_u8(&c);
        uint32_t key_n = cursor_u32(&c), value_n = cursor_u32(&c);
        struct slice key = cursor_bytes(&c, key_n), value = cursor_bytes(&c, value_n);
        if (kind == OP_PUT)
            memtable_put(db->active, key, value, slice_of(NULL, 0));
        else if (kind == OP_DELETE)
            memtable_delete(db->active, key);
        else
            memtable_delete_range(db->active, key, value);
    }
    CHECK(!c.bad);
    note_bytes(db);
    pthread_mutex_unlock(&db->lock);
    return ERR_OK;
}

/* ---- reads ---- */

static enum err get(struct engine_db *db, const rocksdb_readoptions_t *how, struct slice key,
                    rocksdb_pinnableslice_t **out)
{
    char *error = NULL;

    *out = rocksdb_get_pinned(db->db, how, (const char *)key.p, key.n, &error);
    if (error)
        return engine_rocksdb_error(error);
    return *out ? ERR_OK : ERR_NOT_FOUND;
}

/* What the memtables say. The table that has the value stays until engine_value_close(). */
static enum memtable_found get_recent(struct engine_db *db, struct slice key,
                                      struct engine_value *out)
{
    struct slice value;

    pthread_mutex_lock(&db->lock);
    struct memtable *t = db->active;
    enum memtable_found found = memtable_get(t, key, &value);
    for (unsigned i = db->n_frozen; found == MEMTABLE_ABSENT && i-- > 0;) {
        t = db->frozen[i];
        found = memtable_get(t, key, &value);
    }
    if (found == MEMTABLE_VALUE) {
        memtable_ref(t);
        *out = (struct engine_value){.data = value, .table = t};
    }
    pthread_mutex_unlock(&db->lock);
    return found;
}

static enum err get_stored(struct engine_db *db, struct slice key, bool cached_only,
                           struct engine_value *out)
{
    rocksdb_pinnableslice_t *v;
    enum err e = get(db, cached_only ? db->e->read_cached : db->e->read_all, key, &v);

    if (e != ERR_OK)
        return e;
    size_t n;
    const char *p = rocksdb_pinnableslice_value(v, &n);
    *out = (struct engine_value){.data = slice_of(p, n), .internal = v};
    return ERR_OK;
}

enum err engine_get(struct engine_db *db, struct slice key, bool cached_only,
                    struct engine_value *out)
{
    enum memtable_found found = get_recent(db, key, out);

    if (found != MEMTABLE_ABSENT)
        return found == MEMTABLE_VALUE ? ERR_OK : ERR_NOT_FOUND;
    return get_stored(db, key, cached_only, out);
}

enum err engine_get_stored(struct engine_db *db, struct slice key, struct engine_value *out)
{
    return get_stored(db, key, false, out);
}

void engine_value_close(struct engine_value *v)
{
    if (v->internal)
        rocksdb_pinnableslice_destroy(v->internal);
    memtable_unref(v->table);
    *v = (struct engine_value){0};
}

static enum err append_value(rocksdb_pinnableslice_t *v, struct buf *out)
{
    size_t n;
    const char *p = rocksdb_pinnableslice_value(v, &n);

    buf_append(out, p, n);
    rocksdb_pinnableslice_destroy(v);
    return ERR_OK;
}

enum err engine_get_durable(struct engine_db *db, struct slice key, struct buf *out)
{
    rocksdb_pinnableslice_t *v;
    enum err e = get(db, db->e->read_durable, key, &v);

    return e == ERR_OK ? append_value(v, out) : e;
}

enum err engine_peek(struct engine *e, const char *path, struct slice key, struct buf *out)
{
    char *error = NULL;
    rocksdb_t *r = rocksdb_open_for_read_only(e->peek_options, path, 0, &error);

    if (error)
        return engine_rocksdb_error(error);
    struct engine_db db = {.e = e, .db = r};
    rocksdb_pinnableslice_t *v;
    enum err result = get(&db, e->read_all, key, &v);
    if (result == ERR_OK)
        result = append_value(v, out);
    rocksdb_close(r);
    /* RocksDB begins a log file even for reading; the directory is to stay as it was. */
    struct buf log = {0};
    buf_printf(&log, "%s/LOG", path);
    buf_u8(&log, 0);
    enum err gone = fs_unlink((const char *)log.p);
    buf_close(&log);
    if (result == ERR_OK && gone != ERR_OK && gone != ERR_NOT_FOUND)
        return gone;
    return result;
}

/* ---- maintenance ---- */

static void sink_range(void *arg, struct slice from, struct slice to)
{
    rocksdb_writebatch_delete_range(arg, (const char *)from.p, from.n, (const char *)to.p, to.n);
}

static void sink_put(void *arg, struct slice key, struct slice value)
{
    rocksdb_writebatch_put(arg, (const char *)key.p, key.n, (const char *)value.p, value.n);
}

static void sink_delete(void *arg, struct slice key)
{
    rocksdb_writebatch_delete(arg, (const char *)key.p, key.n);
}

void engine_freeze(struct engine_db *db)
{
    pthread_mutex_lock(&db->lock);
    if (!memtable_empty(db->active)) {
        if (db->n_frozen == db->frozen_cap) {
            db->frozen_cap = db->frozen_cap ? db->frozen_cap * 2 : 2;
            db->frozen = mem_realloc(db->frozen, db->frozen_cap * sizeof(struct memtable *));
        }
        db->frozen[db->n_frozen++] = db->active;
        db->active = memtable_create(db->e->seed);
    }
    pthread_mutex_unlock(&db->lock);
}

static enum err write_frozen(struct engine_db *db, const struct memtable *t)
{
    rocksdb_writebatch_t *wb = rocksdb_writebatch_create();
    struct memtable_sink sink = {wb, sink_range, sink_put, sink_delete};
    char *error = NULL;

    memtable_drain(t, &sink);
    rocksdb_write(db->db, db->e->write, wb, &error);
    rocksdb_writebatch_destroy(wb);
    if (!error) {
        rocksdb_flushoptions_t *o = rocksdb_flushoptions_create();
        rocksdb_flushoptions_set_wait(o, 1);
        rocksdb_flush(db->db, o, &error);
        rocksdb_flushoptions_destroy(o);
    }
    return engine_rocksdb_error(error);
}

static struct memtable *oldest_frozen(struct engine_db *db)
{
    pthread_mutex_lock(&db->lock);
    struct memtable *t = db->n_frozen > 0 ? db->frozen[0] : NULL;
    pthread_mutex_unlock(&db->lock);
    return t;
}

enum err engine_flush_frozen(struct engine_db *db)
{
    struct memtable *t;

    while ((t = oldest_frozen(db)) != NULL) {
        enum err e = write_frozen(db, t);
        if (e != ERR_OK) {
            /* It stays frozen and readable; the owner closes, opens and replays. */
            atomic_store(&db->failed, true);
            return e;
        }
        pthread_mutex_lock(&db->lock);
        memmove(db->frozen, db->frozen + 1, --db->n_frozen * sizeof(struct memtable *));
        note_bytes(db);
        pthread_mutex_unlock(&db->lock);
        memtable_unref(t);
    }
    return ERR_OK;
}

enum err engine_flush(struct engine_db *db)
{
    engine_freeze(db);
    return engine_flush_frozen(db);
}

enum err engine_checkpoint(struct engine_db *db, const char *path)
{
    enum err e = engine_flush_frozen(db);
    if (e != ERR_OK)
        return e;
    char *error = NULL;
    rocksdb_checkpoint_t *c = rocksdb_checkpoint_object_create(db->db, &error);

    if (error)
        return engine_rocksdb_error(error);
    /* log_size_for_flush 0: flush first. Any other value leaves the memtable out. */
    rocksdb_checkpoint_create(c, path, 0, &error);
    rocksdb_checkpoint_object_destroy(c);
    return engine_rocksdb_error(error);
}

void engine_set_time(struct engine_db *db, uint64_t durable_ms)
{
    engine_expiry_set(db->expiry, durable_ms);
}

enum err engine_compact(struct engine_db *db)
{
    enum { BOTTOMMOST_FORCE_OPTIMIZED = 3 };
    rocksdb_compactoptions_t *o = rocksdb_compactoptions_create();

    rocksdb_compactoptions_set_exclusive_manual_compaction(o, 0);
    rocksdb_compactoptions_set_bottommost_level_compaction(o, BOTTOMMOST_FORCE_OPTIMIZED);
    rocksdb_compact_range_opt(db->db, o, NULL, 0, NULL, 0);
    rocksdb_compactoptions_destroy(o);
    /* The C function has no error; a failed compaction is a background error. */
    return property(db, "rocksdb.background-errors") ? ERR_IO : ERR_OK;
}

bool engine_stalled(struct engine_db *db)
{
    return property(db, "rocksdb.num-immutable-mem-table") >= MEMTABLES_STALLED ||
           property(db, "rocksdb.num-files-at-level0") >= LEVEL0_STALLED ||
           property(db, "rocksdb.actual-delayed-write-rate") > 0 ||
           property(db, "rocksdb.is-write-stopped") > 0;
}

void engine_db_stats(struct engine_db *db, struct engine_db_stats *out)
{
    out->memtable_bytes = atomic_load(&db->memtable_bytes);
    out->full = out->memtable_bytes >= db->e->memtable_size;
    out->disk_bytes = property(db, "rocksdb.live-sst-files-size");
    out->keys = property(db, "rocksdb.estimate-num-keys");
    out->stalled = engine_stalled(db);
    out->broken = atomic_load(&db->failed) || property(db, "rocksdb.background-errors") > 0;
}

uint64_t engine_memtable_bytes(struct engine *e)
{
    uint64_t sum = 0;

    pthread_mutex_lock(&e->lock);
    LIST_FOR(item, &e->dbs)
    sum += atomic_load(&CONTAINER_OF(item, struct engine_db, link)->memtable_bytes);
    pthread_mutex_unlock(&e->lock);
    return sum;
}

uint64_t engine_memtable_budget(const struct engine *e)
{
    return e->memtable_budget;
}
