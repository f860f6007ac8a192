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
#define CACHE_LINE 64u
#define SESSION_LINES 4u
#define KEPT_INSIDE 5u
#define UNTIL_MAX ((1ull << 43) - 1) /* ms since 1970, in the year 2248: this or later, unknown */
#define KEPT_MANY 64u /* memory for more is given back when it is not needed any more */
#define CLEAN UINT32_MAX
#define NEAR_FRONT 4u

struct kept {
    uint64_t seq, version;
    int64_t number;
    uint64_t until_ms : 43, slot : 14, err : 7;
};
_Static_assert(LIMIT_SLOTS <= 1u << 14 && HAS_NUMBER <= 1u << 7, "kept");

/* A few cache lines, with the results of a client that does not have many writes under way: what a
 * write costs here is waiting for memory. */
struct session {
    struct session *next; /* in its bucket */
    uint8_t sid[COMMAND_SESSION_ID];
    uint64_t floor;     /* what is below is not kept */
    uint64_t until_max; /* of all its writes; past it the session is as if it had never been */
    /* Ascending by seq, from `first` on: they go at the front and come at the end. */
    struct kept *kept; /* `inside`, or memory of its own */
    uint16_t first, n, cap;
    uint32_t changed_at; /* where it stands in dedupe.changed, or CLEAN */
    struct kept inside[KEPT_INSIDE];
};
_Static_assert(sizeof(struct session) <= SESSION_LINES * CACHE_LINE, "see above");
_Static_assert(2 * LIMIT_SESSION_RESULTS + 2 <= UINT16_MAX, "counts of a session");

struct dedupe {
    struct session **bucket;
    uint32_t n_buckets, n_sessions, n_results;
    uint32_t swept;
    uint64_t swept_ms;
    struct session *last;     /* found last */
    struct session **changed; /* since their rows were written */
    uint32_t n_changed, changed_cap;
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
    if (d->n_sessions >= d->n_buckets / 2)
        make_buckets(d, d->n_buckets * 2);
    s = mem_alloc_aligned(CACHE_LINE, SESSION_LINES * CACHE_LINE);
    memset(s, 0, sizeof *s);
    s->kept = s->inside;
    s->cap = KEPT_INSIDE;
    s->changed_at = CLEAN;
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

/* Index of the first result that is not before `seq`: most often that is one of the first, or there
 * is none. */
static uint32_t at_seq(const struct session *s, uint64_t seq)
{
    const struct kept *k = first_of(s);
    uint32_t low = 0, high = s->n;
    if (s->n == 0 || k[s->n - 1].seq < seq)
        return s->n;
    while (low < NEAR_FRONT && k[low].seq < seq)
        low++;
    if (low < NEAR_FRONT)
        return low;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (k[mid].seq < seq)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static void free_kept(struct session *s)
{
    if (s->kept != s->inside)
        free(s->kept);
}

static void drop_front(struct dedupe *d, struct session *s, uint32_t n)
{
    s->first = (uint16_t)(s->first + n);
    s->n = (uint16_t)(s->n - n);
    d->n_results -= n;
    if (s->n > 0)
        return;
    s->first = 0;
    if (s->cap > KEPT_MANY) {
        free_kept(s);
        s->kept = s->inside;
        s->cap = KEPT_INSIDE;
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
    for (uint32_t i = 0; i < s->n; i++)
        if (stays(&k[i], arg))
            k[n++] = k[i];
    d->n_results -= s->n - n;
    s->n = (uint16_t)n;
}

static bool is_current(const struct kept *k, const void *arg)
{
    return k->until_ms >= *(const uint64_t *)arg || k->until_ms == UNTIL_MAX;
}

static void make_room(struct session *s)
{
    if (s->first + s->n < s->cap)
        return;
    if (s->first > s->cap / 2) {
        memmove(s->kept, first_of(s), s->n * sizeof(struct kept));
    } else {
        uint32_t cap = s->n * 2u;
        struct kept *more = mem_alloc(cap * sizeof(struct kept));
        memcpy(more, first_of(s), s->n * sizeof(struct kept));
        free_kept(s);
        s->kept = more;
        s->cap = (uint16_t)cap;
    }
    s->first = 0;
}

static void set_kept(struct kept *k, uint64_t until_ms, uint16_t slot, unsigned err)
{
    CHECK(err < HAS_NUMBER && slot < LIMIT_SLOTS);
    if (until_ms > UNTIL_MAX)
        until_ms = UNTIL_MAX;
    k->until_ms = until_ms & UNTIL_MAX;
    k->slot = slot & (LIMIT_SLOTS - 1);
    k->err = err & (HAS_NUMBER - 1);
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
}

static void set_changed(struct dedupe *d, struct session *s)
{
    if (s->changed_at != CLEAN)
        return;
    if (d->n_changed == d->changed_cap) {
        d->changed_cap = d->changed_cap ? d->changed_cap * 2 : 16;
        d->changed = mem_realloc(d->changed, d->changed_cap * sizeof(struct session *));
    }
    s->changed_at = d->n_changed;
    d->changed[d->n_changed++] = s;
}

static void set_clean(struct dedupe *d, struct session *s)
{
    if (s->changed_at == CLEAN)
        return;
    struct session *other = d->changed[--d->n_changed];
    other->changed_at = s->changed_at;
    d->changed[s->changed_at] = other;
    s->changed_at = CLEAN;
}

static void free_session(struct dedupe *d, struct session *s)
{
    set_clean(d, s);
    d->n_results -= s->n;
    d->n_sessions--;
    if (d->last == s)
        d->last = NULL;
    free_kept(s);
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
            free_session(d, s);
        }
    }
    d->swept = 0;
    d->swept_ms = 0;
}

void dedupe_destroy(struct dedupe *d)
{
    if (!d)
        return;
    dedupe_clear(d);
    free(d->bucket);
    free(d->changed);
    buf_close(&d->row);
    free(d);
}

/* Each pass asks for what the next one reads. */
void dedupe_prefetch(const struct dedupe *d, const uint8_t *const sids[], uint32_t n)
{
    struct session *s[DEDUPE_PREFETCH];
    CHECK(n <= DEDUPE_PREFETCH);
    for (uint32_t i = 0; i < n; i++)
        __builtin_prefetch(&d->bucket[hash_of(sids[i]) & (d->n_buckets - 1)]);
    for (uint32_t i = 0; i < n; i++) {
        s[i] = d->bucket[hash_of(sids[i]) & (d->n_buckets - 1)];
        for (uint32_t line = 0; s[i] && line < SESSION_LINES; line++)
            __builtin_prefetch((const char *)s[i] + line * CACHE_LINE, 1);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!s[i] || s[i]->kept == s[i]->inside)
            continue;
        __builtin_prefetch(first_of(s[i]));
        __builtin_prefetch(first_of(s[i]) + s[i]->n - 1, 1);
        __builtin_prefetch(first_of(s[i]) + s[i]->n, 1);
    }
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

void dedupe_record(struct dedupe *d, const struct command_op *op, uint16_t slot, uint64_t time_ms,
                   const struct dedupe_result *result)
{
    struct session *s = get(d, op->sid);
    if (s->until_max < time_ms) { /* one that is over, or a new one */
        drop_front(d, s, s->n);
        s->floor = 0;
    }
    if (op->until_ms > s->until_max)
        s->until_max = op->until_ms;
    raise_floor(d, s, op->ack);
    struct kept k = {.seq = op->seq, .version = result->version, .number = result->number};
    set_kept(&k, op->until_ms, slot, (unsigned)result->err);
    insert(d, s, &k);
    bound(d, s, time_ms);
    set_changed(d, s);
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

static void put_row(struct dedupe *d, const struct session *s, uint64_t group, uint16_t first_slot,
                    struct engine_batch *batch)
{
    uint8_t key[ENGINE_SESSION_KEY], raw[ENGINE_VALUE_HEAD_MAX];
    uint64_t expiry = s->until_max + 1;
    struct engine_value_head head = {.version = group, .has_expiry = true, .expiry_ms = expiry};
    buf_clear(&d->row);
    buf_u64(&d->row, s->floor);
    for (uint32_t i = 0; i < s->n; i++)
        put_result(&d->row, &first_of(s)[i], expiry);
    engine_batch_put2(batch, engine_key_session(key, first_slot, s->sid),
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
        free_session(d, s);
    }
}

void dedupe_age(struct dedupe *d, uint64_t time_ms)
{
    if (time_ms < d->swept_ms + SWEEP_EVERY_MS)
        return;
    d->swept_ms = time_ms;
    for (uint32_t i = 0; i <= d->n_buckets / SWEEP_PARTS; i++)
        sweep_bucket(d, d->swept++ & (d->n_buckets - 1), time_ms, false);
}

void dedupe_store(struct dedupe *d, uint64_t group, uint16_t first_slot, struct engine_batch *batch)
{
    for (uint32_t i = 0; i < d->n_changed; i++) {
        put_row(d, d->changed[i], group, first_slot, batch);
        d->changed[i]->changed_at = CLEAN;
    }
    d->n_changed = 0;
}

struct loading {
    struct dedupe *d;
    uint64_t group, time_ms;
    enum err result;
};

static void load_result(struct loading *l, struct session *s, uint64_t expiry, struct cursor *c)
{
    struct kept k = {.seq = cursor_u64(c)};
    uint16_t slot = cursor_u16(c);
    uint8_t e = cursor_u8(c);
    uint32_t before = cursor_u32(c);
    k.version = cursor_u64(c);
    if (e & HAS_NUMBER)
        k.number = (int64_t)cursor_u64(c);
    if (c->bad || before > expiry || slot >= LIMIT_SLOTS) {
        c->bad = true;
        return;
    }
    set_kept(&k, expiry - before, slot, e & ~HAS_NUMBER);
    if (k.seq >= s->floor && is_current(&k, &l->time_ms))
        insert(l->d, s, &k);
}

static bool load_row(void *arg, struct slice key, struct slice value)
{
    struct loading *l = arg;
    struct engine_value_head head;
    struct slice body;
    const uint8_t *sid;
    l->result = engine_key_session_split(key, &sid);
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
        load_result(l, s, head.expiry_ms, &c);
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
            put_row(child, s, to, first, batch);
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
            put_row(d, s, group, first_slot, batch);
    while (d->n_changed > 0)
        set_clean(d, d->changed[0]);
}

/* ---- bounds ---- */

bool dedupe_full(const struct dedupe *d, const uint8_t *sid)
{
    return d->n_results >= LIMIT_SHARD_RESULTS ||
           (d->n_sessions >= LIMIT_SHARD_SESSIONS && !*place_of(d, sid));
}

void dedupe_sweep(struct dedupe *d, uint64_t time_ms)
{
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

#ifdef SHARDKV_TEST_HOOKS
static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static uint64_t session_hash(const struct session *s, uint64_t time_ms)
{
    uint64_t h = mix(mix(hash_of(s->sid), s->floor), s->until_max);
    for (uint32_t i = 0; i < s->n; i++) {
        const struct kept *k = &first_of(s)[i];
        if (is_current(k, &time_ms))
            h = mix(mix(mix(mix(h, k->seq), k->until_ms), k->version),
                    (uint64_t)k->number ^ k->err ^ (uint64_t)k->slot << 32);
    }
    return h;
}

uint64_t dedupe_hash(const struct dedupe *d, uint64_t time_ms)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < d->n_buckets; i++)
        for (const struct session *s = d->bucket[i]; s; s = s->next)
            if (s->until_max >= time_ms)
                sum += session_hash(s, time_ms);
    return sum;
}
#endif
