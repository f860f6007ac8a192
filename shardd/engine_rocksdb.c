/* The engine on RocksDB 7.8 through its C API: opening, writes and reads; flushing and checkpoints
 * are engine_rocksdb_flush.c, scans engine_rocksdb_scan.c. Options and why: design notes in
 * shardd/README.md.
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
#include "shardd/engine_batch.h"
#include "shardd/engine_rocksdb_internal.h"
#include "shardd/engine_rocksdb_options.h"

#define BLOCK_CACHE_DEFAULT (64 * MIB)
#define PREFETCH_WINDOW 32u /* writes whose memory is loaded at the same time */
#define MEMTABLE_BUDGET_DEFAULT (128 * MIB)
#define MEMTABLE_SIZE_DEFAULT (8 * MIB)
#define BACKGROUND_COMPACTIONS 2
#define BACKGROUND_FLUSHES 2

enum { READ_TIER_ALL = 0, READ_TIER_CACHE = 1, READ_TIER_PERSISTED = 2 };

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

/* ---- writes ---- */

void engine_rocksdb_note_bytes(struct engine_db *db)
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
        struct engine_op op = engine_op_next(&c);
        if (op.kind != ENGINE_OP_DELETE_RANGE)
            fetch(t, op.key);
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

    enum err failed = (enum err)atomic_load_explicit(&db->failed, memory_order_relaxed);
    if (failed != ERR_OK)
        return failed;
    pthread_mutex_lock(&db->lock);
    for (unsigned i = 0; i < b->n; i++) {
        if (i % PREFETCH_WINDOW == 0)
            prefetch_window(db, c, b->n - i);
        struct engine_op op = engine_op_next(&c);
        if (op.kind == ENGINE_OP_PUT)
            memtable_put(db->active, op.key, op.value, slice_of(NULL, 0));
        else if (op.kind == ENGINE_OP_DELETE)
            memtable_delete(db->active, op.key);
        else
            memtable_delete_range(db->active, op.key, op.value);
    }
    CHECK(!c.bad);
    engine_rocksdb_note_bytes(db);
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

/* ---- the rest ---- */

void engine_set_time(struct engine_db *db, uint64_t durable_ms)
{
    engine_expiry_set(db->expiry, durable_ms);
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
