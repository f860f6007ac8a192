#include "shardd/dedupe.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "shardd/dedupe_internal.h"
#include "shardd/shard_bug.h"

#define BUCKETS_FIRST 16u
#define SWEEP_EVERY_MS                                                                             \
    100u                /* of the log's time: after a command a part of the table is looked at, */
#define SWEEP_PARTS 64u /* so much of it; in between it costs nothing, not even the cache */
#define KEPT_MANY 64u   /* memory for more is given back when it is not needed any more */
#define NEAR_FRONT 4u

/* ---- sessions ---- */

static uint64_t hash_of(const uint8_t *sid)
{
    uint64_t a, b;
    memcpy(&a, sid, sizeof a);
    memcpy(&b, sid + sizeof a, sizeof b);
    a = (a ^ (b << 31 | b >> 33)) * 0x9e3779b97f4a7c15u;
    return a ^ a >> 32;
}

static struct dedupe_session **place_of(const struct dedupe *d, const uint8_t *sid)
{
    struct dedupe_session **at = &d->bucket[hash_of(sid) & (d->n_buckets - 1)];
    while (*at && memcmp((*at)->sid, sid, COMMAND_SESSION_ID) != 0)
        at = &(*at)->next;
    return at;
}

static struct dedupe_session *find(struct dedupe *d, const uint8_t *sid)
{
    if (d->last && memcmp(d->last->sid, sid, COMMAND_SESSION_ID) == 0)
        return d->last;
    struct dedupe_session *s = *place_of(d, sid);
    if (s)
        d->last = s;
    return s;
}

static void make_buckets(struct dedupe *d, uint32_t n)
{
    struct dedupe_session **old = d->bucket;
    uint32_t n_old = d->n_buckets;
    d->bucket = mem_zalloc(n * sizeof(struct dedupe_session *));
    d->n_buckets = n;
    for (uint32_t i = 0; i < n_old; i++) {
        for (struct dedupe_session *s = old[i], *next; s; s = next) {
            next = s->next;
            struct dedupe_session **at = place_of(d, s->sid);
            s->next = *at;
            *at = s;
        }
    }
    free(old);
}

struct dedupe_session *dedupe_get(struct dedupe *d, const uint8_t *sid)
{
    struct dedupe_session *s = find(d, sid);
    if (s)
        return s;
    if (d->n_sessions >= d->n_buckets / 2)
        make_buckets(d, d->n_buckets * 2);
    s = mem_alloc_aligned(CACHE_LINE, SESSION_LINES * CACHE_LINE);
    memset(s, 0, sizeof *s);
    s->kept = s->inside;
    s->cap = DEDUPE_INSIDE;
    s->changed_at = DEDUPE_CLEAN;
    memcpy(s->sid, sid, COMMAND_SESSION_ID);
    *place_of(d, sid) = s;
    d->n_sessions++;
    d->last = s;
    return s;
}

/* Index of the first result that is not before `seq`: most often that is one of the first, or there
 * is none. */
static uint32_t at_seq(const struct dedupe_session *s, uint64_t seq)
{
    const struct dedupe_kept *k = dedupe_first(s);
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

static void free_kept(struct dedupe_session *s)
{
    if (s->kept != s->inside)
        free(s->kept);
}

static void drop_front(struct dedupe *d, struct dedupe_session *s, uint32_t n)
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
        s->cap = DEDUPE_INSIDE;
    }
}

void dedupe_raise_floor(struct dedupe *d, struct dedupe_session *s, uint64_t floor)
{
    if (floor <= s->floor)
        return;
    s->floor = floor;
    drop_front(d, s, at_seq(s, floor));
}

void dedupe_filter(struct dedupe *d, struct dedupe_session *s, dedupe_kept_fn stays,
                   const void *arg)
{
    struct dedupe_kept *k = dedupe_first(s);
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n; i++)
        if (stays(&k[i], arg))
            k[n++] = k[i];
    d->n_results -= s->n - n;
    s->n = (uint16_t)n;
}

bool dedupe_current(const struct dedupe_kept *k, const void *arg)
{
    return k->until_ms >= *(const uint64_t *)arg || k->until_ms == DEDUPE_UNTIL_MAX;
}

static void make_room(struct dedupe_session *s)
{
    if (s->first + s->n < s->cap)
        return;
    if (s->first > s->cap / 2) {
        memmove(s->kept, dedupe_first(s), s->n * sizeof(struct dedupe_kept));
    } else {
        uint32_t cap = s->n * 2u;
        struct dedupe_kept *more = mem_alloc(cap * sizeof(struct dedupe_kept));
        memcpy(more, dedupe_first(s), s->n * sizeof(struct dedupe_kept));
        free_kept(s);
        s->kept = more;
        s->cap = (uint16_t)cap;
    }
    s->first = 0;
}

void dedupe_set_kept(struct dedupe_kept *k, uint64_t until_ms, uint16_t slot, unsigned err)
{
    CHECK(err < DEDUPE_HAS_NUMBER && slot < LIMIT_SLOTS);
    if (until_ms > DEDUPE_UNTIL_MAX)
        until_ms = DEDUPE_UNTIL_MAX;
    k->until_ms = until_ms & DEDUPE_UNTIL_MAX;
    k->slot = slot & (LIMIT_SLOTS - 1);
    k->err = err & (DEDUPE_HAS_NUMBER - 1);
}

void dedupe_insert(struct dedupe *d, struct dedupe_session *s, const struct dedupe_kept *new)
{
    make_room(s);
    uint32_t at = at_seq(s, new->seq);
    struct dedupe_kept *k = dedupe_first(s) + at;
    if (at < s->n && k->seq == new->seq)
        return;
    memmove(k + 1, k, (s->n - at) * sizeof *k);
    *k = *new;
    s->n++;
    d->n_results++;
}

static void set_changed(struct dedupe *d, struct dedupe_session *s)
{
    if (s->changed_at != DEDUPE_CLEAN)
        return;
    if (d->n_changed == d->changed_cap) {
        d->changed_cap = d->changed_cap ? d->changed_cap * 2 : 16;
        d->changed = mem_realloc(d->changed, d->changed_cap * sizeof(struct dedupe_session *));
    }
    s->changed_at = d->n_changed;
    d->changed[d->n_changed++] = s;
}

void dedupe_set_clean(struct dedupe *d, struct dedupe_session *s)
{
    if (s->changed_at == DEDUPE_CLEAN)
        return;
    struct dedupe_session *other = d->changed[--d->n_changed];
    other->changed_at = s->changed_at;
    d->changed[s->changed_at] = other;
    s->changed_at = DEDUPE_CLEAN;
}

static void free_session(struct dedupe *d, struct dedupe_session *s)
{
    dedupe_set_clean(d, s);
    d->n_results -= s->n;
    d->n_sessions--;
    if (d->last == s)
        d->last = NULL;
    free_kept(s);
    free(s);
}

void dedupe_bound(struct dedupe *d, struct dedupe_session *s, uint64_t time_ms)
{
    if (s->n <= LIMIT_SESSION_RESULTS)
        return;
    dedupe_filter(d, s, dedupe_current, &time_ms); /* so that all replicas count the same */
    if (s->n > LIMIT_SESSION_RESULTS)
        dedupe_raise_floor(d, s, dedupe_first(s)[s->n - LIMIT_SESSION_RESULTS - 1].seq + 1);
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
            struct dedupe_session *s = d->bucket[i];
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
    struct dedupe_session *s[DEDUPE_PREFETCH];
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
        __builtin_prefetch(dedupe_first(s[i]));
        __builtin_prefetch(dedupe_first(s[i]) + s[i]->n - 1, 1);
        __builtin_prefetch(dedupe_first(s[i]) + s[i]->n, 1);
    }
}

enum dedupe_found dedupe_find(struct dedupe *d, const struct command_op *op, uint64_t time_ms,
                              struct dedupe_result *out)
{
    if (SHARD_BUG(DEDUPE))
        return DEDUPE_NEW;
    if (time_ms > op->until_ms)
        return DEDUPE_LATE;
    const struct dedupe_session *s = find(d, op->sid);
    if (!s || s->until_max < time_ms)
        return DEDUPE_NEW;
    if (op->seq < s->floor)
        return DEDUPE_LATE;
    uint32_t at = at_seq(s, op->seq);
    if (at == s->n || dedupe_first(s)[at].seq != op->seq)
        return DEDUPE_NEW;
    const struct dedupe_kept *k = &dedupe_first(s)[at];
    *out = (struct dedupe_result){(enum err)k->err, k->version, k->number};
    return DEDUPE_KNOWN;
}

void dedupe_record(struct dedupe *d, const struct command_op *op, uint16_t slot, uint64_t time_ms,
                   const struct dedupe_result *result)
{
    struct dedupe_session *s = dedupe_get(d, op->sid);
    if (s->until_max < time_ms) { /* one that is over, or a new one */
        drop_front(d, s, s->n);
        s->floor = 0;
    }
    if (op->until_ms > s->until_max)
        s->until_max = op->until_ms;
    dedupe_raise_floor(d, s, op->ack);
    struct dedupe_kept k = {.seq = op->seq, .version = result->version, .number = result->number};
    dedupe_set_kept(&k, op->until_ms, slot, (unsigned)result->err);
    dedupe_insert(d, s, &k);
    dedupe_bound(d, s, time_ms);
    set_changed(d, s);
}

/* ---- what is past its time, bounds ---- */

static void sweep_bucket(struct dedupe *d, uint32_t i, uint64_t time_ms, bool results)
{
    for (struct dedupe_session **at = &d->bucket[i]; *at;) {
        struct dedupe_session *s = *at;
        if (results && s->until_max >= time_ms)
            dedupe_filter(d, s, dedupe_current, &time_ms);
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

static uint64_t session_hash(const struct dedupe_session *s, uint64_t time_ms)
{
    uint64_t h = mix(mix(hash_of(s->sid), s->floor), s->until_max);
    for (uint32_t i = 0; i < s->n; i++) {
        const struct dedupe_kept *k = &dedupe_first(s)[i];
        if (dedupe_current(k, &time_ms))
            h = mix(mix(mix(mix(h, k->seq), k->until_ms), k->version),
                    (uint64_t)k->number ^ k->err ^ (uint64_t)k->slot << 32);
    }
    return h;
}

uint64_t dedupe_hash(const struct dedupe *d, uint64_t time_ms)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < d->n_buckets; i++)
        for (const struct dedupe_session *s = d->bucket[i]; s; s = s->next)
            if (s->until_max >= time_ms)
                sum += session_hash(s, time_ms);
    return sum;
}
#endif
