/* How a database's memtables become durable (engine_rocksdb.c, top), its checkpoints and
 * compactions, and how it is. */
#include <string.h>

#include "common/base/mem.h"
#include "shardd/engine_rocksdb_internal.h"

/* RocksDB's limits, and ours before them. */
#define MEMTABLES_STALLED 3
#define LEVEL0_STALLED 20

/* ---- the frozen memtables ---- */

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

/* After a failure nothing is tried again: what was written since may lack what its owner could not
 * add. It stays frozen and readable; the owner closes, opens and replays. */
enum err engine_flush_frozen(struct engine_db *db)
{
    struct memtable *t;
    enum err e = (enum err)atomic_load(&db->failed);

    while (e == ERR_OK && (t = oldest_frozen(db)) != NULL) {
        e = write_frozen(db, t);
        if (e != ERR_OK) {
            atomic_store(&db->failed, (int)e);
            return e;
        }
        pthread_mutex_lock(&db->lock);
        memmove(db->frozen, db->frozen + 1, --db->n_frozen * sizeof(struct memtable *));
        engine_rocksdb_note_bytes(db);
        pthread_mutex_unlock(&db->lock);
        memtable_unref(t);
    }
    return e;
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

/* ---- compaction and state ---- */

static uint64_t property(struct engine_db *db, const char *name)
{
    uint64_t v = 0;

    return rocksdb_property_int(db->db, name, &v) == 0 ? v : 0;
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
    out->broken =
        atomic_load(&db->failed) != ERR_OK || property(db, "rocksdb.background-errors") > 0;
}
