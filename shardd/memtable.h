/* Recent writes of one database, in memory: a hash table from key to its last value or deletion.
 *
 * Why not RocksDB's own memtable alone: its skip list costs 3 us an insert (cache misses), 40 % of
 * all CPU under a put load; this costs a tenth. Order is needed only when it is flushed, and
 * sorting then is cheap; a key written again before that is stored once.
 *
 * Entries live in chunks that are freed as a whole. A deleted range hides every older write: it
 * applies to what was there before it, later writes count.
 *
 * Owner: engine_rocksdb.c.  Thread: one writer; once frozen any thread may read.
 * Depends on: base, xxhash. */
#ifndef SHARDD_MEMTABLE_H
#define SHARDD_MEMTABLE_H

#include <stdatomic.h>

#include "common/base/slice.h"

struct memtable;

struct memtable *memtable_create(uint64_t seed);
/* One reference each; the last one frees it. Any thread. */
void memtable_ref(struct memtable *t);
void memtable_unref(struct memtable *t); /* takes NULL */

/* The value is given in two parts. */
void memtable_put(struct memtable *t, struct slice key, struct slice head, struct slice body);
void memtable_delete(struct memtable *t, struct slice key);
/* Deletes [from, to). */
void memtable_delete_range(struct memtable *t, struct slice from, struct slice to);

/* Begin to load what a put of this key will touch: first the one for several keys, then the other
 * one, then the puts; their cache misses overlap. */
void memtable_prefetch_bucket(const struct memtable *t, struct slice key);
void memtable_prefetch_entry(const struct memtable *t, struct slice key);

enum memtable_found { MEMTABLE_ABSENT, MEMTABLE_VALUE, MEMTABLE_DELETED };
/* ABSENT: this table says nothing of the key, ask the older one. *value is borrowed until the next
 * write to this table, or while a reference is held if it is frozen. */
enum memtable_found memtable_get(const struct memtable *t, struct slice key, struct slice *value);

bool memtable_empty(const struct memtable *t);
uint64_t memtable_bytes(const struct memtable *t); /* memory taken */

/* What a flush has to write, in this order: the ranges, then the keys in ascending order. */
struct memtable_sink {
    void *arg;
    void (*range)(void *arg, struct slice from, struct slice to);
    void (*put)(void *arg, struct slice key, struct slice value);
    void (*del)(void *arg, struct slice key);
};
void memtable_drain(const struct memtable *t, const struct memtable_sink *sink);

#endif
