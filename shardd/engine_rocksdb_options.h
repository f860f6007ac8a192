/* RocksDB's options for one database, and why each: the measurements are in shardd/README.md.
 *
 * Owner: engine_rocksdb.c.  Thread: any, at start.  Depends on: RocksDB. */
#ifndef SHARDD_ENGINE_ROCKSDB_OPTIONS_H
#define SHARDD_ENGINE_ROCKSDB_OPTIONS_H

#include <rocksdb/c.h>
#include <stdint.h>

/* Files in level 0 at which RocksDB itself would slow or stop writes: far beyond where the engine
 * calls a database stalled. */
#define LEVEL0_SLOW 64
#define LEVEL0_STOP 96

/* NULL: `msg` says what is wrong with the compression, or what RocksDB refused. */
rocksdb_options_t *engine_rocksdb_options(rocksdb_env_t *env, rocksdb_cache_t *cache,
                                          uint64_t memtable_size, const char *compression,
                                          char *msg, size_t n);

#endif
