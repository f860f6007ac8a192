/* The rows of dedupe (dedupe.h, top): written, loaded, and moved when a shard splits or merges. */
#include "shardd/dedupe_internal.h"
#include "shardd/engine_key.h"

#define RESULT_SIZE 23u

/* ---- rows ---- */

static void put_result(struct buf *row, const struct dedupe_kept *k, uint64_t expiry)
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
    p[10] = (uint8_t)(k->err | (k->number ? DEDUPE_HAS_NUMBER : 0));
    for (unsigned i = 0; i < 4; i++)
        p[11 + i] = (uint8_t)(short_before >> (8 * i));
    for (unsigned i = 0; i < 8 && k->number; i++)
        p[RESULT_SIZE + i] = (uint8_t)((uint64_t)k->number >> (8 * i));
}

static void put_row(struct dedupe *d, const struct dedupe_session *s, uint64_t group,
                    uint16_t first_slot, struct engine_batch *batch)
{
    uint8_t key[ENGINE_SESSION_KEY], raw[ENGINE_VALUE_HEAD_MAX];
    uint64_t expiry = s->until_max + 1;
    struct engine_value_head head = {.version = group, .has_expiry = true, .expiry_ms = expiry};
    buf_clear(&d->row);
    buf_u64(&d->row, s->floor);
    for (uint32_t i = 0; i < s->n; i++)
        put_result(&d->row, &dedupe_first(s)[i], expiry);
    engine_batch_put2(batch, engine_key_session(key, first_slot, s->sid),
                      engine_value_encode(raw, &head), buf_slice(&d->row));
}

void dedupe_store(struct dedupe *d, uint64_t group, uint16_t first_slot, struct engine_batch *batch)
{
    for (uint32_t i = 0; i < d->n_changed; i++) {
        put_row(d, d->changed[i], group, first_slot, batch);
        d->changed[i]->changed_at = DEDUPE_CLEAN;
    }
    d->n_changed = 0;
}

struct loading {
    struct dedupe *d;
    uint64_t group, time_ms;
    enum err result;
};

static void load_result(struct loading *l, struct dedupe_session *s, uint64_t expiry,
                        struct cursor *c)
{
    struct dedupe_kept k = {.seq = cursor_u64(c)};
    uint16_t slot = cursor_u16(c);
    uint8_t e = cursor_u8(c);
    uint32_t before = cursor_u32(c);
    k.version = cursor_u64(c);
    if (e & DEDUPE_HAS_NUMBER)
        k.number = (int64_t)cursor_u64(c);
    if (c->bad || before > expiry || slot >= LIMIT_SLOTS || s->n >= 2 * LIMIT_SESSION_RESULTS) {
        c->bad = true;
        return;
    }
    dedupe_set_kept(&k, expiry - before, slot, e & ~DEDUPE_HAS_NUMBER);
    if (k.seq >= s->floor && dedupe_current(&k, &l->time_ms))
        dedupe_insert(l->d, s, &k);
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
    struct dedupe_session *s = dedupe_get(l->d, sid);
    if (head.expiry_ms - 1 > s->until_max)
        s->until_max = head.expiry_ms - 1;
    dedupe_raise_floor(l->d, s, cursor_u64(&c));
    while (!c.bad && c.left.n > 0)
        load_result(l, s, head.expiry_ms, &c);
    dedupe_bound(l->d, s, l->time_ms);
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

static bool is_within(const struct dedupe_kept *k, const void *arg)
{
    const struct slots *slots = arg;
    return k->slot >= slots->first && k->slot <= slots->last;
}

static bool is_outside(const struct dedupe_kept *k, const void *arg)
{
    return !is_within(k, arg);
}

void dedupe_leave(struct dedupe *d, uint64_t to, uint16_t first, uint16_t last,
                  struct engine_batch *batch)
{
    struct dedupe *child = dedupe_create();
    struct slots slots = {first, last};
    for (uint32_t i = 0; i < d->n_buckets; i++) {
        for (struct dedupe_session *s = d->bucket[i]; s; s = s->next) {
            struct dedupe_session *c = dedupe_get(child, s->sid);
            c->floor = s->floor;
            c->until_max = s->until_max;
            for (uint32_t k = 0; k < s->n; k++)
                if (is_within(&dedupe_first(s)[k], &slots))
                    dedupe_insert(child, c, &dedupe_first(s)[k]);
            dedupe_filter(d, s, is_outside, &slots);
        }
    }
    for (uint32_t i = 0; i < child->n_buckets; i++)
        for (struct dedupe_session *s = child->bucket[i]; s; s = s->next)
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
        for (struct dedupe_session *s = d->bucket[i]; s; s = s->next)
            put_row(d, s, group, first_slot, batch);
    while (d->n_changed > 0)
        dedupe_set_clean(d, d->changed[0]);
}
