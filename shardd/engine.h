/* Storage engine of replicas: one database each, without a log of its own.
 *
 * Writes go to memory in atomic batches; what was in memory at a crash is lost back to a batch
 * boundary (Raft's log replays it). Each batch carries the replica's position, so data and position
 * never come apart.
 *
 * Two implementations, chosen at link time: engine_rocksdb*.c and tests/sim/sim_engine.c. The
 * batches are the same in both (engine_batch.h).
 * Keys and values here are raw bytes; engine_key.h lays them out.
 *
 * Owner: engine: the server; db: one replica.  Thread: any thread may use `engine` functions; a db
 * belongs to one core, but for the functions marked (offload), which may run on an offload thread
 * while the core reads and writes the same db (never two of them at once, never with close). */
#ifndef SHARDD_ENGINE_H
#define SHARDD_ENGINE_H

#include "common/base/err.h"
#include "common/base/slice.h"

struct engine;
struct engine_db;
struct engine_batch;

struct engine_options {
    uint64_t block_cache;     /* bytes, shared by all databases; 0: 64 MiB */
    uint64_t memtable_budget; /* bytes over all memtables; 0: 128 MiB */
    uint64_t memtable_size;   /* of one database; 0: 8 MiB */
    const char *compression;  /* "none", "lz4", "zstd"; NULL: "none" */
};

MUST_USE enum err engine_create(const struct engine_options *o, struct engine **out, char *msg,
                                size_t n);
void engine_destroy(struct engine *e);

/* Blocking: opens or (create) makes the database in directory `path`. ERR_NOT_FOUND, ERR_EXISTS,
 * ERR_CORRUPT, ERR_IO, ERR_NO_SPACE; `msg` names the cause. */
MUST_USE enum err engine_open(struct engine *e, const char *path, bool create,
                              struct engine_db **out, char *msg, size_t n);
void engine_close(struct engine_db *db); /* (offload) does not flush */
/* Removes a closed database's directory. (offload) */
MUST_USE enum err engine_remove(struct engine *e, const char *path);

/* ---- batches ---- */
struct engine_batch *engine_batch_create(void);
void engine_batch_destroy(struct engine_batch *b);
void engine_batch_clear(struct engine_batch *b);
void engine_batch_put(struct engine_batch *b, struct slice key, struct slice value);
/* The value in two parts, to spare a copy. */
void engine_batch_put2(struct engine_batch *b, struct slice key, struct slice head,
                       struct slice body);
void engine_batch_delete(struct engine_batch *b, struct slice key);
/* Deletes [from, to). */
void engine_batch_delete_range(struct engine_batch *b, struct slice from, struct slice to);
/* Appends to `to` what `from` does to keys in [first, end), but for deleted ranges. Gives the
 * bytes. */
uint64_t engine_batch_copy(const struct engine_batch *from, struct slice first, struct slice end,
                           struct engine_batch *to);
unsigned engine_batch_count(const struct engine_batch *b);

/* Applies the batch atomically to memory. It must not fail for load: engine_stalled() is asked
 * before proposing. Any error: the db is broken, close it and replay. */
MUST_USE enum err engine_write(struct engine_db *db, struct engine_batch *b);

/* ---- reads ---- */
struct engine_value {
    struct slice data; /* borrowed until engine_value_close() or the next engine_write() */
    void *internal, *table;
};
/* cached_only: ERR_INCOMPLETE if it would need I/O: then engine_get_stored() on an offload thread.
 * ERR_NOT_FOUND. */
MUST_USE enum err engine_get(struct engine_db *db, struct slice key, bool cached_only,
                             struct engine_value *out);
/* Goes on with a get that was ERR_INCOMPLETE: reads what is stored, not what is in memory, where
 * the key was not. (offload) */
MUST_USE enum err engine_get_stored(struct engine_db *db, struct slice key,
                                    struct engine_value *out);
void engine_value_close(struct engine_value *v);
/* The value of `key` in the state that would survive a crash now (RocksDB's persisted tier).
 * Appended to *out. ERR_NOT_FOUND. (offload) */
MUST_USE enum err engine_get_durable(struct engine_db *db, struct slice key, struct buf *out);

/* Shows the pairs of [from, to) that are stored, ascending, until `each` returns false; what is
 * only in memory is not among them: flush first. One scan shows one state, each pair
 * whole. The slices are borrowed until `each` returns; it may call engine_get_stored(). (offload)
 */
typedef bool (*engine_scan_fn)(void *arg, struct slice key, struct slice value);
MUST_USE enum err engine_scan(struct engine_db *db, struct slice from, struct slice to,
                              engine_scan_fn each, void *arg);

/* The value of `key` in a database directory that is not open, such as a fresh checkpoint; leaves
 * the directory as it was. Appended to *out. ERR_NOT_FOUND. (offload) */
MUST_USE enum err engine_peek(struct engine *e, const char *path, struct slice key,
                              struct buf *out);

/* ---- maintenance ---- */
/* What has been written until now is what the next flush makes durable, and nothing that comes
 * later. By the db's core, before it hands the db to an offload thread for one of the next. */
void engine_freeze(struct engine_db *db);
/* Makes what is frozen durable. Blocks. Once it has failed it goes on failing, as do writes: the db
 * is broken. (offload) */
MUST_USE enum err engine_flush_frozen(struct engine_db *db);
/* Both: for who has the db for himself, or writes nothing that must become durable with what its
 * owner adds when he freezes (replica_freeze). (offload) */
MUST_USE enum err engine_flush(struct engine_db *db);
/* A consistent copy of all that is frozen or durable in directory `path`, which must not exist;
 * hard links where possible; it is flushed first. (offload) */
MUST_USE enum err engine_checkpoint(struct engine_db *db, const char *path);
/* The log's time of what is durable: from now on compactions drop data and session pairs that have
 * expired by then (engine_key.h), so that a replay, which begins there, misses nothing. Never runs
 * back; 0, as after opening: none is dropped. Any thread. */
void engine_set_time(struct engine_db *db, uint64_t durable_ms);
/* Rewrites all that is stored to drop what was deleted or has expired; blocks for long. (offload)
 */
MUST_USE enum err engine_compact(struct engine_db *db);

struct engine_db_stats {
    uint64_t memtable_bytes;
    uint64_t disk_bytes;
    uint64_t keys; /* estimate */
    bool stalled;  /* writes would be slowed or stopped: shed load before proposing */
    bool full;     /* the memtable has reached its size: engine_flush() */
    bool broken;   /* a background error: close, open, replay */
};
void engine_db_stats(struct engine_db *db, struct engine_db_stats *out);
/* The field of that name alone: cheap enough to ask before each proposal. */
bool engine_stalled(struct engine_db *db);
/* Sum over all open databases, cheap. */
uint64_t engine_memtable_bytes(struct engine *e);
uint64_t engine_memtable_budget(const struct engine *e);

#endif
