/* Scans of what is stored: an iterator over RocksDB alone, the memtable stays out of it. */
#include "shardd/engine_rocksdb_internal.h"

/* A scan reads what nobody asked for: it must not push out of the cache what clients use. */
static rocksdb_readoptions_t *scan_options(struct slice to)
{
    rocksdb_readoptions_t *o = rocksdb_readoptions_create();

    rocksdb_readoptions_set_fill_cache(o, 0);
    rocksdb_readoptions_set_iterate_upper_bound(o, (const char *)to.p, to.n);
    return o;
}

enum err engine_scan(struct engine_db *db, struct slice from, struct slice to, engine_scan_fn each,
                     void *arg)
{
    rocksdb_readoptions_t *o = scan_options(to);
    rocksdb_iterator_t *it = rocksdb_create_iterator(db->db, o);
    char *error = NULL;
    bool more = true;

    rocksdb_iter_seek(it, (const char *)from.p, from.n);
    while (more && rocksdb_iter_valid(it)) {
        size_t key_n, value_n;
        const char *key = rocksdb_iter_key(it, &key_n), *value = rocksdb_iter_value(it, &value_n);
        more = each(arg, slice_of(key, key_n), slice_of(value, value_n));
        if (more)
            rocksdb_iter_next(it);
    }
    rocksdb_iter_get_error(it, &error);
    rocksdb_iter_destroy(it);
    rocksdb_readoptions_destroy(o);
    return engine_rocksdb_error(error);
}
