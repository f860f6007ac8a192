#include "shardd/memtable.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/base/mem.h"

#define CHUNK (64 * KIB)
#define BUCKETS_FIRST 64u

struct entry {
    struct entry *next;
    uint32_t hash, key_n, value_n, value_cap;
    bool deleted;
    uint8_t bytes[]; /* key, value */
};

struct chunk {
    struct chunk *next;
    size_t used, cap;
    uint8_t bytes[];
};

struct range {
    struct range *next;
    struct buf from, to;
};

struct memtable {
    atomic_uint refs;
    uint64_t seed, bytes;
    struct entry **bucket;
    uint32_t n_buckets, n; /* n_buckets: a power of two */
    struct chunk *chunk;   /* the newest first */
    struct range *ranges;  /* the newest first */
};

struct memtable *memtable_create(uint64_t seed)
{
    struct memtable *t = mem_zalloc(sizeof *t);
    atomic_init(&t->refs, 1);
    t->seed = seed;
    return t; /* buckets come with the first write: an idle database costs nothing */
}

void memtable_ref(struct memtable *t)
{
    atomic_fetch_add(&t->refs, 1);
}

void memtable_unref(struct memtable *t)
{
    if (!t || atomic_fetch_sub(&t->refs, 1) != 1)
        return;
    while (t->chunk) {
        struct chunk *c = t->chunk;
        t->chunk = c->next;
        free(c);
    }
    while (t->ranges) {
        struct range *r = t->ranges;
        t->ranges = r->next;
        buf_close(&r->from);
        buf_close(&r->to);
        free(r);
    }
    free(t->bucket);
    free(t);
}

static struct slice key_of(const struct entry *e)
{
    return slice_of(e->bytes, e->key_n);
}

static struct slice value_of(const struct entry *e)
{
    return slice_of(e->bytes + e->key_n, e->value_n);
}

static uint32_t hash_of(const struct memtable *t, struct slice key)
{
    return (uint32_t)XXH3_64bits_withSeed(key.p, key.n, t->seed);
}

static void *arena_alloc(struct memtable *t, size_t n)
{
    n = (n + 7) & ~(size_t)7;
    if (!t->chunk || t->chunk->cap - t->chunk->used < n) {
        /* A large entry gets a chunk of its own size, behind the one being filled. */
        size_t cap = n > CHUNK / 4 ? n : CHUNK;
        struct chunk *c = mem_alloc(sizeof *c + cap);
        *c = (struct chunk){.cap = cap};
        t->bytes += sizeof *c + cap;
        if (cap == n && t->chunk) {
            c->next = t->chunk->next;
            t->chunk->next = c;
        } else {
            c->next = t->chunk;
            t->chunk = c;
        }
        c->used = n;
        return c->bytes;
    }
    void *p = t->chunk->bytes + t->chunk->used;
    t->chunk->used += n;
    return p;
}

static void grow(struct memtable *t)
{
    uint32_t n = t->n_buckets ? t->n_buckets * 2 : BUCKETS_FIRST;
    struct entry **bucket = mem_zalloc(n * sizeof(struct entry *));
    for (uint32_t i = 0; i < t->n_buckets; i++) {
        for (struct entry *e = t->bucket[i], *next; e; e = next) {
            next = e->next;
            e->next = bucket[e->hash & (n - 1)];
            bucket[e->hash & (n - 1)] = e;
        }
    }
    t->bytes += (n - t->n_buckets) * sizeof(struct entry *);
    free(t->bucket);
    t->bucket = bucket;
    t->n_buckets = n;
}

/* Where the entry of `key` hangs, or where a new one belongs (*at NULL). */
static struct entry **find(const struct memtable *t, struct slice key, uint32_t hash)
{
    struct entry **at = &t->bucket[hash & (t->n_buckets - 1)];
    while (*at && ((*at)->hash != hash || !slice_eq(key_of(*at), key)))
        at = &(*at)->next;
    return at;
}

void memtable_prefetch_bucket(const struct memtable *t, struct slice key)
{
    if (t->n_buckets)
        __builtin_prefetch(&t->bucket[hash_of(t, key) & (t->n_buckets - 1)], 1);
}

void memtable_prefetch_entry(const struct memtable *t, struct slice key)
{
    if (t->n_buckets)
        __builtin_prefetch(t->bucket[hash_of(t, key) & (t->n_buckets - 1)]);
}

/* The entry of `key` with room for value_n bytes, new or in place of the old one. */
static struct entry *upsert(struct memtable *t, struct slice key, size_t value_n)
{
    if (t->n >= t->n_buckets)
        grow(t);
    uint32_t hash = hash_of(t, key);
    struct entry **at = find(t, key, hash);
    struct entry *old = *at;
    if (old && old->value_cap >= value_n) {
        old->value_n = (uint32_t)value_n;
        return old;
    }
    struct entry *e = arena_alloc(t, sizeof *e + key.n + value_n);
    *e = (struct entry){.next = old ? old->next : NULL,
                        .hash = hash,
                        .key_n = (uint32_t)key.n,
                        .value_n = (uint32_t)value_n,
                        .value_cap = (uint32_t)value_n};
    memcpy(e->bytes, key.p, key.n);
    *at = e;
    if (!old)
        t->n++;
    return e;
}

void memtable_put(struct memtable *t, struct slice key, struct slice head, struct slice body)
{
    CHECK(key.n <= UINT32_MAX && head.n + body.n <= UINT32_MAX);
    struct entry *e = upsert(t, key, head.n + body.n);
    e->deleted = false;
    if (head.n)
        memcpy(e->bytes + e->key_n, head.p, head.n);
    if (body.n)
        memcpy(e->bytes + e->key_n + head.n, body.p, body.n);
}

void memtable_delete(struct memtable *t, struct slice key)
{
    upsert(t, key, 0)->deleted = true;
}

static int compare(struct slice a, struct slice b)
{
    int c = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static bool in_range(const struct range *r, struct slice key)
{
    return compare(key, buf_slice(&r->from)) >= 0 && compare(key, buf_slice(&r->to)) < 0;
}

void memtable_delete_range(struct memtable *t, struct slice from, struct slice to)
{
    struct range *r = mem_zalloc(sizeof *r);
    buf_append(&r->from, from.p, from.n);
    buf_append(&r->to, to.p, to.n);
    r->next = t->ranges;
    t->ranges = r;
    t->bytes += sizeof *r + from.n + to.n;
    /* Ranges are flushed before keys: what is older than the range must not come after it. */
    for (uint32_t i = 0; i < t->n_buckets; i++)
        for (struct entry *e = t->bucket[i]; e; e = e->next)
            if (in_range(r, key_of(e)))
                e->deleted = true;
}

enum memtable_found memtable_get(const struct memtable *t, struct slice key, struct slice *value)
{
    if (t->n_buckets) {
        const struct entry *e = *find(t, key, hash_of(t, key));
        if (e && e->deleted)
            return MEMTABLE_DELETED;
        if (e) {
            *value = value_of(e);
            return MEMTABLE_VALUE;
        }
    }
    for (const struct range *r = t->ranges; r; r = r->next)
        if (in_range(r, key))
            return MEMTABLE_DELETED;
    return MEMTABLE_ABSENT;
}

bool memtable_empty(const struct memtable *t)
{
    return t->n == 0 && !t->ranges;
}

uint64_t memtable_bytes(const struct memtable *t)
{
    return t->bytes;
}

/* Most comparisons end in the first bytes: keep those beside the pointer. */
struct sort_item {
    uint64_t prefix;
    const struct entry *entry;
};

static uint64_t prefix_of(struct slice key)
{
    uint64_t v = 0;
    for (size_t i = 0; i < 8; i++)
        v = v << 8 | (i < key.n ? key.p[i] : 0);
    return v;
}

static int compare_items(const void *pa, const void *pb)
{
    const struct sort_item *a = pa, *b = pb;
    if (a->prefix != b->prefix)
        return a->prefix < b->prefix ? -1 : 1;
    return compare(key_of(a->entry), key_of(b->entry));
}

void memtable_drain(const struct memtable *t, const struct memtable_sink *sink)
{
    for (const struct range *r = t->ranges; r; r = r->next)
        sink->range(sink->arg, buf_slice(&r->from), buf_slice(&r->to));
    struct sort_item *items = mem_alloc((t->n + 1u) * sizeof *items);
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->n_buckets; i++)
        for (const struct entry *e = t->bucket[i]; e; e = e->next)
            items[n++] = (struct sort_item){prefix_of(key_of(e)), e};
    CHECK(n == t->n);
    qsort(items, n, sizeof *items, compare_items);
    for (uint32_t i = 0; i < n; i++) {
        const struct entry *e = items[i].entry;
        if (e->deleted)
            sink->del(sink->arg, key_of(e));
        else
            sink->put(sink->arg, key_of(e), value_of(e));
    }
    free(items);
}
