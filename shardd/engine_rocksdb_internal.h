/* What the files of the RocksDB engine share: its structs and how it reads RocksDB's errors.
 *
 * Owner: engine_rocksdb.c.  Thread: see engine.h.  Depends on: engine, memtable, RocksDB. */
#ifndef SHARDD_ENGINE_ROCKSDB_INTERNAL_H
#define SHARDD_ENGINE_ROCKSDB_INTERNAL_H

#include <pthread.h>
#include <rocksdb/c.h>
#include <stdatomic.h>

#include "common/base/list.h"
#include "shardd/engine.h"
#include "shardd/memtable.h"

struct engine {
    rocksdb_env_t *env;
    rocksdb_cache_t *cache;
    rocksdb_options_t *open_options, *create_options, *peek_options;
    rocksdb_readoptions_t *read_all, *read_cached, *read_durable;
    rocksdb_writeoptions_t *write;
    uint64_t memtable_budget, memtable_size, seed;
    pthread_mutex_t lock; /* for dbs */
    struct list dbs;      /* engine_db.link */
};

struct engine_db {
    struct list link;
    struct engine *e;
    rocksdb_t *db;
    pthread_mutex_t lock; /* for the memtables */
    struct memtable *active;
    struct memtable **frozen; /* to be flushed, or being flushed: the first one; most often none */
    unsigned n_frozen, frozen_cap;
    atomic_int failed; /* enum err of the flush that failed: none is tried again */
    atomic_uint_fast64_t memtable_bytes; /* of all */
    struct engine_expiry *expiry;        /* its compaction filter */
};

/* engine_rocksdb_expiry.c: the filter of one database. `options` get it; it must live as long as
 * the database is open. */
struct engine_expiry;
struct engine_expiry *engine_expiry_create(rocksdb_options_t *options);
void engine_expiry_destroy(struct engine_expiry *x);
void engine_expiry_set(struct engine_expiry *x, uint64_t durable_ms);

/* With the lock held: how large the memtables are now. */
void engine_rocksdb_note_bytes(struct engine_db *db);
/* Takes RocksDB's error text; ERR_OK for NULL. */
MUST_USE enum err engine_rocksdb_error(char *text);

#endif
