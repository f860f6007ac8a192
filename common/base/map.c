/* Linear probing with tombstones. Tombstones, not backward shifts, because map_next() promises
 * that removing the current key does not disturb the walk. */
#include "common/base/map.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"

#define MAP_FIRST_CAP 16u

struct map_entry {
    uint64_t key;
    void *value; /* NULL: never used; &tombstone: removed */
};

static char tombstone;
#define TOMBSTONE ((void *)&tombstone)

/* The finaliser of splitmix64: group ids are small and regular, the low bits must still spread. */
static size_t map_hash(uint64_t k)
{
    k = (k ^ (k >> 30)) * 0xbf58476d1ce4e5b9ULL;
    k = (k ^ (k >> 27)) * 0x94d049bb133111ebULL;
    return (size_t)(k ^ (k >> 31));
}

void map_init(struct map *m)
{
    *m = (struct map){0};
}

void map_close(struct map *m)
{
    free(m->entries);
    *m = (struct map){0};
}

static struct map_entry *map_at(const struct map *m, uint64_t key)
{
    if (m->cap == 0)
        return NULL;
    size_t mask = m->cap - 1;
    for (size_t i = map_hash(key) & mask;; i = (i + 1) & mask) {
        struct map_entry *e = &m->entries[i];
        if (!e->value)
            return NULL;
        if (e->key == key && e->value != TOMBSTONE)
            return e;
    }
}

/* Puts a key that is not there; the table has a free entry. */
static void map_place(struct map *m, uint64_t key, void *value)
{
    size_t mask = m->cap - 1;
    size_t i = map_hash(key) & mask;
    while (m->entries[i].value && m->entries[i].value != TOMBSTONE)
        i = (i + 1) & mask;
    if (m->entries[i].value == TOMBSTONE)
        m->tombs--;
    m->entries[i] = (struct map_entry){key, value};
    m->n++;
}

/* Keeps used and dead entries below three quarters; a table full of tombstones is rebuilt in its
 * own size. */
static void map_make_room(struct map *m)
{
    if ((m->n + m->tombs + 1) * 4 <= m->cap * 3)
        return;
    struct map old = *m;
    size_t cap = old.cap ? old.cap : MAP_FIRST_CAP;
    if ((old.n + 1) * 2 > cap)
        cap *= 2;
    *m = (struct map){.entries = mem_zalloc(cap * sizeof(*m->entries)), .cap = cap};
    for (size_t i = 0; i < old.cap; i++)
        if (old.entries[i].value && old.entries[i].value != TOMBSTONE)
            map_place(m, old.entries[i].key, old.entries[i].value);
    CHECK(m->n == old.n);
    free(old.entries);
}

void *map_find(const struct map *m, uint64_t key)
{
    const struct map_entry *e = map_at(m, key);
    return e ? e->value : NULL;
}

void map_set(struct map *m, uint64_t key, void *value)
{
    CHECK(value != NULL);
    struct map_entry *e = map_at(m, key);
    if (e) {
        e->value = value;
        return;
    }
    map_make_room(m);
    map_place(m, key, value);
}

void *map_remove(struct map *m, uint64_t key)
{
    struct map_entry *e = map_at(m, key);
    if (!e)
        return NULL;
    void *value = e->value;
    e->value = TOMBSTONE;
    m->n--;
    m->tombs++;
    return value;
}

bool map_next(const struct map *m, size_t *it, uint64_t *key, void **value)
{
    for (size_t i = *it; i < m->cap; i++) {
        const struct map_entry *e = &m->entries[i];
        if (!e->value || e->value == TOMBSTONE)
            continue;
        *it = i + 1;
        if (key)
            *key = e->key;
        *value = e->value;
        return true;
    }
    *it = m->cap;
    return false;
}
