/* Hash map from uint64_t to pointer: open addressing. The order of iteration is a function of the
 * calls made so far and of nothing else (no addresses are hashed), so simulations repeat.
 * Owner: the caller.  Thread: none of its own. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

struct map {
    struct map_entry *entries;
    size_t cap, n, tombs;
};

void map_init(struct map *m);
void map_close(struct map *m);                     /* frees the table, not the values */
void *map_find(const struct map *m, uint64_t key); /* NULL if absent; values are never NULL */
void map_set(struct map *m, uint64_t key, void *value);
void *map_remove(struct map *m, uint64_t key); /* the value that was there, or NULL */
/* Steps through all pairs: *it starts at 0; `key` may be NULL. The current key may be removed
 * during the walk. */
bool map_next(const struct map *m, size_t *it, uint64_t *key, void **value);

#endif
