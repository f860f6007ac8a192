#include "shardd/dedupe.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "shardd/engine_key.h"
#include "shardd/shard_bug.h"

#define BUCKETS_FIRST 16u
#define SWEEP_EVERY_MS                                                                             \
    100u                /* of the log's time: after a command a part of the table is looked at, */
#define SWEEP_PARTS 64u /* so much of it; in between it costs nothing, not even the cache */
#define HAS_NUMBER 0x80u
#define RESULT_SIZE 23u
#define KEPT_MANY 256u /* memory for more is given back when it is not needed any more */

struct kept {
    uint64_t seq, until_ms, version;
    int64_t number;
    uint16_t slot, chunk;
    uint8_t err;
};

/* Its results lie between these two numbers, which only grow apart while there are any. */
struct chunk {
    uint32_t n;
    uint64_t low, high;
};

struct session {
    struct session *next; /* in its bucket */
    uint8_t sid[COMMAND_SESSION_ID];
    uint64_t floor;     /* what is below is not kept */
    uint64_t until_max; /* of all its writes; past it the session is as if it had never been */
    /* Ascending by seq, from `first` on: they go at the front and come at the end. */
    struct kept *kept;
    uint32_t first, n, cap;
    struct chunk *chunk_of;
    uint16_t chunks, chunk;
    uint64_t dirty_in; /* the last command that has changed `dirty_chunk` */
    uint16_t dirty_chunk;
};

struct dirty {
    struct session *session;
    uint16_t chunk;
};

struct dedupe {
    struct session **bucket;
    uint32_t n_buckets, n_sessions, n_results;
    uint32_t swept;
    uint64_t swept_ms;
    struct session *last; /* found last */
    struct buf dirty;     /* struct dirty each */
    uint64_t commands;
    struct buf row;
};

/* ---- sessions ---- */

static uint64_t hash_of(const uint8_t *sid)
{
    uint64_t a, b;
    memcpy(&a, sid, sizeof a);
    memcpy(&b, sid + sizeof a, sizeof b);
    a = (a ^ (b << 31 | b >> 33)) * 0x9e3779b97f4a7c15u;
    return a ^ a >> 32;
}

static struct session **place_of(const struct dedupe *d, const uint8_t *sid)
{
    struct session **at = &d->bucket[hash_of(sid) & (d->n_buckets - 1)];
    while (*at && memcmp((*at)->sid, sid, COMMAND_SESSION_ID) != 0)
        at = &(*at)->next;
    return at;
}

static struct session *find(struct dedupe *d, const uint8_t *sid)
{
    if (d->last && memcmp(d->last->sid, sid, COMMAND_SESSION_ID) == 0)
        return d->last;
    struct session *s = *place_of(d, sid);
    if (s)
        d->last = s;
    return s;
}

static void make_buckets(struct dedupe *d, uint32_t n)
{
    struct session **old = d->bucket;
    uint32_t n_old = d->n_buckets;
    d->bucket = mem_zalloc(n * sizeof(struct session *));
    d->n_buckets = n;
    for (uint32_t i = 0; i < n_old; i++) {
        for (struct session *s = old[i], *next; s; s = next) {
            next = s->next;
            struct session **at = place_of(d, s->sid);
            s->next = *at;
            *at = s;
        }
    }
    free(old);
}

static struct session *get(struct dedupe *d, const uint8_t *sid)
{
    struct session *s = find(d, sid);
    if (s)
        return s;
    if (d->n_sessions >= d->n_buckets)
        make_buckets(d, d->n_buckets * 2);
    s = mem_zalloc(sizeof *s);
    memcpy(s->sid, sid, COMMAND_SESSION_ID);
    *place_of(d, sid) = s;
    d->n_sessions++;
    d->last = s;
    return s;
}

static struct kept *first_of(const struct session *s)
{
    return s->kept + s->first;
}

/* Index of the first result that is not before `seq`. */
static uint32_t at_seq(const struct session *s, uint64_t seq)
{
    const struct kept *k = first_of(s);
    uint32_t low = 0, high = s->n;
    if (s->n == 0 || k[s->n - 1].seq < seq)
        return s->n;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (k[mid].seq < seq)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static void drop_front(struct dedupe *d, struct session *s, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        s->chunk_of[first_of(s)[i].chunk].n--;
    s->first += n;
    s->n -= n;
    d->n_results -= n;
    if (s->n > 0)
        return;
    s->first = 0;
    if (s->cap > KEPT_MANY) {
        free(s->kept);
        s->kept = NULL;
        s->cap = 0;
    }
}

static void raise_floor(struct dedupe *d, struct session *s, uint64_t floor)
{
    if (floor <= s->floor)
        return;
    s->floor = floor;
    drop_front(d, s, at_seq(s, floor));
}

typedef bool (*kept_fn)(const struct kept *k, const void *arg);

/* Keeps those for which `stays` is true. */
static void filter(struct dedupe *d, struct session *s, kept_fn stays, const void *arg)
{
    struct kept *k = first_of(s);
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        if (stays(&k[i], arg))
            k[n++] = k[i];
        else
            s->chunk_of[k[i].chunk].n--;
    }
    d->n_results -= s->n - n;
    s->n = n;
}

static bool is_current(const struct kept *k, const void *arg)
{
    return k->until_ms >= *(const uint64_t *)arg;
}

static void make_room(struct session *s)
{
    if (s->first + s->n < s->cap)
        return;
    if (s->first > s->cap / 2) {
        memmove(s->kept, first_of(s), s->n * sizeof(struct kept));
    } else {
        uint32_t cap = s->n < 2 ? 4 : s->n * 2;
        struct kept *more = mem_alloc(cap * sizeof(struct kept));
        if (s->n)
            memcpy(more, first_of(s), s->n * sizeof(struct kept));
        free(s->kept);
        s->kept = more;
        s->cap = cap;
    }
    s->first = 0;
}

static void count_in_chunk(struct session *s, uint16_t number, uint64_t seq)
{
    if (number >= s->chunks) {
        uint16_t n = (uint16_t)(number + 1);
        s->chunk_of = mem_realloc(s->chunk_of, n * sizeof(struct chunk));
        memset(s->chunk_of + s->chunks, 0, (size_t)(n - s->chunks) * sizeof(struct chunk));
        s->chunks = n;
    }
    struct chunk *c = &s->chunk_of[number];
    if (c->n == 0 || seq < c->low)
        c->low = seq;
    if (c->n == 0 || seq > c->high)
        c->high = seq;
    c->n++;
}

/* Once there, a result stays as it is. */
static void insert(struct dedupe *d, struct session *s, const struct kept *new)
{
    make_room(s);
    uint32_t at = at_seq(s, new->seq);
    struct kept *k = first_of(s) + at;
    if (at < s->n && k->seq == new->seq)
        return;
    memmove(k + 1, k, (s->n - at) * sizeof *k);
    *k = *new;
    s->n++;
    d->n_results++;
    count_in_chunk(s, new->chunk, new->seq);
}

/* Where the next result goes: on with the present chunk, or one that is free. */
static uint16_t next_chunk(struct session *s)
{
    if (s->chunk < s->chunks && s->chunk_of[s->chunk].n >= DEDUPE_CHUNK) {
        uint16_t free_one = 0;
        while (free_one < s->chunks && s->chunk_of[free_one].n > 0)
            free_one++;
        s->chunk = free_one;
    }
    return s->chunk;
}

static void free_session(struct session *s)
{
    free(s->kept);
    free(s->chunk_of);
    free(s);
}

static void bound(struct dedupe *d, struct session *s, uint64_t time_ms)
{
    if (s->n <= LIMIT_SESSION_RESULTS)
        return;
    filter(d, s, is_current, &time_ms); /* so that all replicas count the same */
    if (s->n > LIMIT_SESSION_RESULTS)
        raise_floor(d, s, first_of(s)[s->n - LIMIT_SESSION_RESULTS - 1].seq + 1);
}

/* ---- the table ---- */

struct dedupe *dedupe_create(void)
{
    struct dedupe *d = mem_zalloc(sizeof *d);
    make_buckets(d, BUCKETS_FIRST);
    return d;
}

void dedupe_clear(struct dedupe *d)
{
    for (uint32_t i = 0; i < d->n_buckets; i++) {
        while (d->bucket[i]) {
            struct session *s = d->bucket[i];
            d->bucket[i] = s->next;
            free_session(s);
        }
    }
    d->n_sessions = d->n_results = d->swept = 0;
    d->swept_ms = 0;
    d->last = NULL;
    buf_clear(&d->dirty);
}

void dedupe_destroy(struct dedupe *d)
{
    if (!d)
        return;
    dedupe_clear(d);
    free(d->bucket);
    buf_close(&d->dirty);
    buf_close(&d->row);
    free(d);
}

enum dedupe_found dedupe_find(struct dedupe *d, const struct command_op *op, uint64_t time_ms,
                              struct dedupe_result *out)
{
    if (SHARD_BUG(DEDUPE))
        return DEDUPE_NEW;
    if (time_ms > op->until_ms)
        return DEDUPE_LATE;
    const struct session *s = find(d, op->sid);
    if (!s || s->until_max < time_ms)
        return DEDUPE_NEW;
    if (op->seq < s->floor)
        return DEDUPE_LATE;
    uint32_t at = at_seq(s, op->seq);
    if (at == s->n || first_of(s)[at].seq != op->seq)
        return DEDUPE_NEW;
    const struct kept *k = &first_of(s)[at];
    *out = (struct dedupe_result){(enum err)k->err, k->version, k->number};
    return DEDUPE_KNOWN;
}

static void mark_dirty(struct dedupe *d, struct session *s, uint16_t chunk)
{
    if (s->dirty_in == d->commands + 1 && s->dirty_chunk == chunk)
        return;
    s->dirty_in = d->commands + 1;
    s->dirty_chunk = chunk;
    struct dirty dirty = {s, chunk};
    buf_append(&d->dirty, &dirty, sizeof dirty);
}

void dedupe_record(struct dedupe *d, const struct command_op *op, uint16_t slot, uint64_t time_ms,
                   const struct dedupe_result *result)
{
    struct session *s = get(d, op->sid);
    CHECK(result->err >= ERR_OK && result->err < HAS_NUMBER);
    if (s->until_max < time_ms) { /* one that is over, or a new one */
        drop_front(d, s, s->n);
        s->floor = 0;
    }
    if (op->until_ms > s->until_max)
        s->until_max = op->until_ms;
    raise_floor(d, s, op->ack);
    uint16_t chunk = next_chunk(s);
    insert(d, s,
           &(struct kept){.seq = op->seq,
                          .until_ms = op->until_ms,
                          .version = result->version,
                          .number = result->number,
                          .slot = slot,
                          .chunk = chunk,
                          .err = (uint8_t)result->err});
    bound(d, s, time_ms);
    mark_dirty(d, s, chunk);
}

/* ---- rows ---- */

static void put_result(struct buf *row, const struct kept *k, uint64_t expiry)
{
    uint64_t before = expiry - k->until_ms; /* if it is more, the result is over anyway */
    uint64_t short_before = before < UINT32_MAX ? before : UINT32_MAX;
    uint8_t *p = buf_extend(row, k->number ? RESULT_SIZE + 8u : RESULT_SIZE);
    for (unsigned i = 0; i < 8; i++) {
        p[i] = (uint8_t)(k->seq >> (8 * i));
        p[15 + i] = (uint8_t)(k->version >> (8 * i));
    }
    p[8] = (uint8_t)k->slot;
    p[9] = (uint8_t)(k->slot >> 8);
    p[10] = (uint8_t)(k->err | (k->number ? HAS_NUMBER : 0));
    for (unsigned i = 0; i < 4; i++)
        p[11 + i] = (uint8_t)(short_before >> (8 * i));
    for (unsigned i = 0; i < 8 && k->number; i++)
        p[RESULT_SIZE + i] = (uint8_t)((uint64_t)k->number >> (8 * i));
}

static void put_row(struct dedupe *d, const struct session *s, uint16_t chunk, uint64_t group,
                    uint16_t first_slot, struct engine_batch *batch)
{
    uint8_t key[ENGINE_SESSION_KEY], raw[ENGINE_VALUE_HEAD_MAX];
    uint64_t expiry = s->until_max + 1;
    struct engine_value_head head = {.version = group, .has_expiry = true, .expiry_ms = expiry};
    const struct chunk *c = chunk < s->chunks ? &s->chunk_of[chunk] : NULL;
    buf_clear(&d->row);
    buf_u64(&d->row, s->floor);
    for (uint32_t i = c ? at_seq(s, c->low) : s->n; i < s->n; i++) {
        const struct kept *k = &first_of(s)[i];
        if (k->seq > c->high)
            break;
        if (k->chunk == chunk)
            put_result(&d->row, k, expiry);
    }
    engine_batch_put2(batch, engine_key_session(key, first_slot, s->sid, chunk),
                      engine_value_encode(raw, &head), buf_slice(&d->row));
}

static void sweep_bucket(struct dedupe *d, uint32_t i, uint64_t time_ms, bool results)
{
    for (struct session **at = &d->bucket[i]; *at;) {
        struct session *s = *at;
        if (results && s->until_max >= time_ms)
            filter(d, s, is_current, &time_ms);
        if (s->until_max >= time_ms) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        d->n_results -= s->n;
        d->n_sessions--;
        if (d->last == s)
            d->last = NULL;
        free_session(s);
    }
}

static void sweep_some(struct dedupe *d, uint64_t time_ms)
{
    if (time_ms < d->swept_ms + SWEEP_EVERY_MS)
        return;
    d->swept_ms = time_ms;
    for (uint32_t i = 0; i <= d->n_buckets / SWEEP_PARTS; i++)
        sweep_bucket(d, d->swept++ & (d->n_buckets - 1), time_ms, false);
}

void dedupe_store(struct dedupe *d, uint64_t group, uint16_t first_slot, uint64_t time_ms,
                  struct engine_batch *batch)
{
    const struct dirty *dirty = (const struct dirty *)(const void *)d->dirty.p;
    size_t n = d->dirty.n / sizeof *dirty;
    if (n == 0)
        return;
    for (size_t i = 0; i < n; i++)
        put_row(d, dirty[i].session, dirty[i].chunk, group, first_slot, batch);
    buf_clear(&d->dirty);
    d->commands++;
    sweep_some(d, time_ms);
}

struct loading {
    struct dedupe *d;
    uint64_t group, time_ms;
    enum err result;
};

static void load_result(struct loading *l, struct session *s, uint16_t chunk, uint64_t expiry,
                        struct cursor *c)
{
    struct kept k = {.seq = cursor_u64(c), .slot = cursor_u16(c), .chunk = chunk};
    uint8_t e = cursor_u8(c);
    uint32_t before = cursor_u32(c);
    k.version = cursor_u64(c);
    if (e & HAS_NUMBER)
        k.number = (int64_t)cursor_u64(c);
    k.err = (uint8_t)(e & ~HAS_NUMBER);
    k.until_ms = expiry - before;
    if (c->bad || before > expiry) {
        c->bad = true;
        return;
    }
    if (k.seq >= s->floor && k.until_ms >= l->time_ms)
        insert(l->d, s, &k);
}

static bool load_row(void *arg, struct slice key, struct slice value)
{
    struct loading *l = arg;
    struct engine_value_head head;
    struct slice body;
    const uint8_t *sid;
    uint16_t chunk;
    l->result = engine_key_session_split(key, &sid, &chunk);
    if (l->result == ERR_OK)
        l->result = engine_value_decode(value, &head, &body);
    if (l->result != ERR_OK)
        return false;
    if (head.version != l->group || !head.has_expiry || engine_value_expired(&head, l->time_ms))
        return true;
    struct cursor c = cursor_of(body);
    struct session *s = get(l->d, sid);
    if (head.expiry_ms - 1 > s->until_max)
        s->until_max = head.expiry_ms - 1;
    raise_floor(l->d, s, cursor_u64(&c));
    while (!c.bad && c.left.n > 0)
        load_result(l, s, chunk, head.expiry_ms, &c);
    bound(l->d, s, l->time_ms);
    l->result = c.bad ? ERR_CORRUPT : ERR_OK;
    return !c.bad;
}

enum err dedupe_load(struct dedupe *d, struct engine_db *db, uint64_t group, uint16_t first_slot,
                     uint64_t time_ms)
{
    struct loading l = {.d = d, .group = group, .time_ms = time_ms};
    struct engine_key_range range;
    engine_key_session_slots(first_slot, first_slot, &range);
    enum err e = engine_scan(db, engine_key_from(&range), engine_key_to(&range), load_row, &l);
    return e == ERR_OK ? l.result : e;
}

/* ---- splits and merges ---- */

/* All rows of a session, at least one: it has the floor. Chunks are dealt anew. */
static void put_all(struct dedupe *d, struct session *s, uint64_t group, uint16_t first_slot,
                    struct engine_batch *batch)
{
    uint32_t chunks = (s->n + DEDUPE_CHUNK - 1) / DEDUPE_CHUNK;
    free(s->chunk_of);
    s->chunk_of = NULL;
    s->chunks = s->chunk = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        first_of(s)[i].chunk = (uint16_t)(i / DEDUPE_CHUNK);
        count_in_chunk(s, (uint16_t)(i / DEDUPE_CHUNK), first_of(s)[i].seq);
    }
    for (uint32_t i = 0; i < (chunks ? chunks : 1); i++)
        put_row(d, s, (uint16_t)i, group, first_slot, batch);
}

struct slots {
    uint16_t first, last;
};

static bool is_within(const struct kept *k, const void *arg)
{
    const struct slots *slots = arg;
    return k->slot >= slots->first && k->slot <= slots->last;
}

static bool is_outside(const struct kept *k, const void *arg)
{
    return !is_within(k, arg);
}

void dedupe_leave(struct dedupe *d, uint64_t to, uint16_t first, uint16_t last,
                  struct engine_batch *batch)
{
    struct dedupe *child = dedupe_create();
    struct slots slots = {first, last};
    for (uint32_t i = 0; i < d->n_buckets; i++) {
        for (struct session *s = d->bucket[i]; s; s = s->next) {
            struct session *c = get(child, s->sid);
            c->floor = s->floor;
            c->until_max = s->until_max;
            for (uint32_t k = 0; k < s->n; k++)
                if (is_within(&first_of(s)[k], &slots))
                    insert(child, c, &first_of(s)[k]);
            filter(d, s, is_outside, &slots);
        }
    }
    for (uint32_t i = 0; i < child->n_buckets; i++)
        for (struct session *s = child->bucket[i]; s; s = s->next)
            put_all(child, s, to, first, batch);
    dedupe_destroy(child);
}

void dedupe_rewrite(struct dedupe *d, uint64_t group, uint16_t first_slot, uint16_t last_slot,
                    struct engine_batch *batch)
{
    struct engine_key_range range;
    engine_key_session_slots(first_slot, last_slot, &range);
    engine_batch_delete_range(batch, engine_key_from(&range), engine_key_to(&range));
    for (uint32_t i = 0; i < d->n_buckets; i++)
        for (struct session *s = d->bucket[i]; s; s = s->next)
            put_all(d, s, group, first_slot, batch);
    buf_clear(&d->dirty);
}

/* ---- bounds ---- */

bool dedupe_full(const struct dedupe *d, const uint8_t *sid)
{
    return d->n_results >= LIMIT_SHARD_RESULTS ||
           (d->n_sessions >= LIMIT_SHARD_SESSIONS && !*place_of(d, sid));
}

void dedupe_sweep(struct dedupe *d, uint64_t time_ms)
{
    CHECK(d->dirty.n == 0);
    for (uint32_t i = 0; i < d->n_buckets; i++)
        sweep_bucket(d, i, time_ms, true);
}

uint32_t dedupe_sessions(const struct dedupe *d)
{
    return d->n_sessions;
}

uint32_t dedupe_results(const struct dedupe *d)
{
    return d->n_results;
}
