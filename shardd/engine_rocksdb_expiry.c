/* The compaction filter: drops pairs that have expired by the log's time of what is durable. */
#include <stdlib.h>

#include "common/base/mem.h"
#include "shardd/engine_key.h"
#include "shardd/engine_rocksdb_internal.h"

struct engine_expiry {
    rocksdb_compactionfilter_t *filter;
    atomic_uint_fast64_t durable_ms;
};

/* On RocksDB's threads. What cannot be understood stays. */
static unsigned char drop(void *state, int level, const char *key, size_t key_n, const char *value,
                          size_t value_n, char **new_value, size_t *new_n, unsigned char *changed)
{
    struct engine_expiry *x = state;
    struct engine_value_head head;
    struct slice body;
    uint64_t now = atomic_load_explicit(&x->durable_ms, memory_order_relaxed);
    (void)level;
    (void)new_value;
    (void)new_n;
    *changed = 0;
    if (now == 0 || key_n == 0 || (key[0] != 'd' && key[0] != 's'))
        return 0;
    return engine_value_decode(slice_of(value, value_n), &head, &body) == ERR_OK &&
           engine_value_expired(&head, now);
}

static const char *name(void *state)
{
    (void)state;
    return "shardkv.expiry";
}

static void nothing(void *state)
{
    (void)state;
}

struct engine_expiry *engine_expiry_create(rocksdb_options_t *options)
{
    struct engine_expiry *x = mem_zalloc(sizeof *x);
    x->filter = rocksdb_compactionfilter_create(x, nothing, drop, name);
    rocksdb_options_set_compaction_filter(options, x->filter);
    return x;
}

void engine_expiry_destroy(struct engine_expiry *x)
{
    rocksdb_compactionfilter_destroy(x->filter);
    free(x);
}

void engine_expiry_set(struct engine_expiry *x, uint64_t durable_ms)
{
    if (durable_ms > atomic_load(&x->durable_ms))
        atomic_store(&x->durable_ms, durable_ms);
}
