/* Many keys in one call.
 *
 * A client_many is cut into parts, each an op of its own with the items of one shard, which takes
 * the way of every op: routed, sent, tried again. Whenever a part is routed it is looked at anew:
 * what the map has moved to another shard goes into another part. An answer has a result per item;
 * those that are to be tried again stay in the part.
 *
 * Order. Operations of one key take effect in their order: they stay in one part (one key, one
 * slot, one shard), or, where that would be too large, the later one waits (ITEM_WAITING) until the
 * one before it is answered.
 *
 * Sessions. Each write has its own number, and those of a request share the time until which
 * repetitions are known ("until"). A repetition keeps it: items that may have been applied are
 * together only with those that have the same, or that are new and take it. */
#include <stdlib.h>

#include "client/client_core_int.h"
#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/meta/slot.h"

#define PART_BYTES (4 * MIB) /* keys and values of one request, if it has more than one item */

enum item_state { ITEM_PART, ITEM_WAITING, ITEM_DONE };

static void on_part_done(struct client_op *op, const struct client_result *r);

static size_t item_bytes(const struct client_item *item)
{
    return item->key.n + item->value.n;
}

static void note_unsure(struct client_part *p, const struct client_item *item)
{
    p->op.unsure |= item->unsure;
    if (item->unsure)
        p->until_ms = item->write.until_ms;
}

static void part_add(struct client_part *p, uint32_t i)
{
    struct client_item *item = &p->many->items[i];
    if (p->n == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 8;
        p->items = mem_realloc(p->items, p->cap * sizeof(*p->items));
    }
    p->items[p->n++] = i;
    p->bytes += item_bytes(item);
    note_unsure(p, item);
    item->part = p;
    item->state = ITEM_PART;
}

static struct client_part *part_new(struct client_core *core, struct client_many *m, uint16_t slot)
{
    struct client_part *p = mem_zalloc(sizeof(*p));
    p->many = m;
    p->core = core;
    p->op.method = m->method;
    p->op.level = m->level;
    p->op.staleness_ms = m->staleness_ms;
    p->op.deadline = m->deadline;
    p->op.done = on_part_done;
    p->op.part = p;
    client_core_start(core, &p->op, slot);
    return p;
}

static void part_free(struct client_part *p)
{
    free(p->items);
    free(p);
}

/* ---- the end of items ---- */

static void item_finish(struct client_core *core, struct client_many *m, uint32_t i,
                        const struct client_result *given)
{
    struct client_item *item = &m->items[i];
    struct client_result r = *given;
    CHECK(item->state != ITEM_DONE);
    item->state = ITEM_DONE;
    item->part = NULL;
    client_write_forget(&item->write);
    client_session_saw(&core->session, item->slot, r.version);
    client_session_saw(&core->session, item->slot, r.at);
    m->bytes += r.value.n;
    if (m->method == KV_METHOD_MGET && m->bytes > m->bytes_max) {
        m->bytes -= r.value.n;
        r = (struct client_result){.err = ERR_TOO_LARGE,
                                   .text = "the values of this mget are too many bytes together"};
    }
    if (r.maybe_applied)
        m->unknown = true;
    else if (err_class(r.err) != ERR_CLASS_DONE)
        m->failed = true;
    m->left--;
    m->item_done(m, i, &r);
}

static bool is_free(const struct client_many *m, const struct client_item *item,
                    const struct client_part *in)
{
    const struct client_item *before = item->before ? &m->items[item->before - 1] : NULL;
    return !before || before->state == ITEM_DONE || (in && before->part == in);
}

/* Those that waited for what is answered now go on, or end when nothing is begun any more. */
static void release(struct client_core *core, struct client_many *m)
{
    struct client_part *p = NULL;
    for (uint32_t i = 0; i < m->n && m->waiting; i++) {
        struct client_item *item = &m->items[i];
        if (item->state != ITEM_WAITING || !is_free(m, item, p))
            continue;
        m->waiting--;
        if (core->closing != ERR_OK) {
            struct client_result r = {.err = core->closing,
                                      .text = "given up: the handle is closed"};
            item_finish(core, m, i, &r);
            continue;
        }
        if (!p) {
            p = part_new(core, m, item->slot);
            p->op.last_err = ERR_TIMEOUT; /* if there is no time left for it */
        }
        part_add(p, i);
    }
    if (p)
        client_core_soon(core, &p->op);
}

static void part_ended(struct client_core *core, struct client_many *m)
{
    if (m->waiting)
        release(core, m);
    if (m->left > 0)
        return;
    core->stats.in_flight--;
    if (m->unknown)
        core->stats.unknown++;
    else if (m->failed)
        core->stats.failed++;
    else
        core->stats.ok++;
    m->done(m); /* the last touch */
}

/* One result for all that is left in the part: the only item's, or a failure. */
static void on_part_done(struct client_op *op, const struct client_result *r)
{
    struct client_part *p = op->part;
    struct client_core *core = p->core;
    struct client_many *m = p->many;
    for (uint32_t k = 0; k < p->n; k++)
        item_finish(core, m, p->items[k], r);
    part_free(p);
    part_ended(core, m);
}

/* ---- grouping ---- */

static const struct shard_desc *shard_of(const struct client_part *p, const struct client_item *i)
{
    return shard_map_find(&p->core->routes.map, i->slot);
}

/* Both are to be known as repetitions, until different times. */
static bool differs(const struct client_part *p, const struct client_item *item)
{
    return item->unsure && p->op.unsure && p->until_ms != item->write.until_ms;
}

/* One request, as it is. */
static bool fits(const struct client_part *p)
{
    const struct client_item *items = p->many->items;
    const struct shard_desc *s = shard_of(p, &items[p->items[0]]);
    if (!s)
        return true; /* waits for a map, whatever it holds */
    if (p->n > LIMIT_BATCH || (p->bytes > PART_BYTES && p->n > 1))
        return false;
    for (uint32_t k = 0; k < p->n; k++) {
        const struct client_item *item = &items[p->items[k]];
        if (item->slot < s->first_slot || item->slot > s->last_slot || differs(p, item))
            return false;
    }
    return true;
}

static bool is_full(const struct client_part *p, const struct client_item *next)
{
    return p->n > 0 && (p->n >= LIMIT_BATCH || p->bytes + item_bytes(next) > PART_BYTES);
}

/* The part of the item's shard that has room; a new one is pushed to `made`. NULL: it has to wait.
 */
static struct client_part *part_for(struct client_part *from, struct client_item *item,
                                    struct map *open, struct list *made)
{
    const struct shard_desc *s = shard_of(from, item);
    uint64_t key = s ? (uint64_t)(s - from->core->routes.map.shards) + 1 : 0;
    struct client_part *p = map_find(open, key);
    if (p && (is_full(p, item) || differs(p, item)))
        p = NULL;
    if (!is_free(from->many, item, p))
        return NULL;
    if (!p) {
        p = from->n == 0 ? from : part_new(from->core, from->many, item->slot);
        if (p != from) {
            p->op.last_err = from->op.last_err;
            list_push_back(made, &p->op.link);
        }
        map_set(open, key, p);
    }
    return p;
}

void client_many_regroup(struct client_part *p, uint64_t now)
{
    struct client_many *m = p->many;
    struct map open;
    struct list made;
    p->op.slot = m->items[p->items[0]].slot;
    if (m->all || fits(p))
        return;
    uint32_t *items = p->items, n = p->n;
    map_init(&open);
    list_init(&made);
    p->items = NULL;
    p->n = p->cap = 0;
    p->bytes = 0;
    p->op.unsure = false;
    p->until_ms = 0;
    for (uint32_t k = 0; k < n; k++)
        m->items[items[k]].part = NULL; /* is_free() must not take the old part for the new one */
    for (uint32_t k = 0; k < n; k++) {
        struct client_item *item = &m->items[items[k]];
        struct client_part *to = part_for(p, item, &open, &made);
        if (to) {
            part_add(to, items[k]);
        } else {
            item->state = ITEM_WAITING;
            m->waiting++;
        }
    }
    free(items);
    map_close(&open);
    CHECK(p->n > 0);
    for (struct list *item; (item = list_pop_front(&made));)
        client_core_route_op(p->core, CONTAINER_OF(item, struct client_op, link), now);
}

/* ---- requests and answers ---- */

static void fill(const struct client_item *item, struct msg_kv_request *q)
{
    q->method = item->method;
    q->key = item->key;
    q->value = item->value;
    q->delta = item->delta;
    q->if_absent = item->if_absent;
    q->has_if_version = item->has_if_version;
    q->if_version = item->if_version;
    q->has_ttl = item->has_ttl;
    q->ttl_ms = item->ttl_ms;
    q->seq = item->write.seq;
}

void client_many_encode(struct client_part *p, struct msg_kv_request *q)
{
    struct client_core *core = p->core;
    struct client_many *m = p->many;
    buf_clear(&core->items);
    for (uint32_t k = 0; k < p->n; k++) {
        struct client_item *item = &m->items[p->items[k]];
        struct msg_kv_request op = {0};
        uint64_t seen = client_session_seen(&core->session, item->slot);
        if (q->level == KV_LEVEL_SESSION && seen > q->token)
            q->token = seen;
        if (q->session.id.n == 0) {
            client_write_forget(&item->write);
        } else if (!item->unsure || item->write.seq == 0) {
            client_session_number(&core->session, &item->write);
            item->write.until_ms = q->session.until_ms;
        }
        if (client_many_is_single(p)) {
            fill(item, q);
        } else if (m->method == KV_METHOD_MGET) {
            msg_kv_put_key(&core->items, item->key);
        } else {
            fill(item, &op);
            msg_kv_put_op(&core->items, &op);
        }
    }
    q->n = p->n;
    q->all = m->all;
    q->items = buf_slice(&core->items);
}

void client_many_unsure(struct client_part *p)
{
    for (uint32_t k = 0; k < p->n; k++)
        p->many->items[p->items[k]].unsure = true;
    p->until_ms = p->op.write.until_ms;
}

enum verdict { ANSWERED, AGAIN, ALONE };

/* What an item's result means; may turn it into "outcome unknown". `late_ms`: the log's time, if an
 * item came too late; then nothing was done for those of unknown outcome. All of them are late,
 * if one is by that time: their order stays when they are done again. */
static enum verdict judge(const struct client_part *p, struct client_item *item, uint64_t late_ms,
                          struct client_result *r)
{
    bool is_read = p->many->method == KV_METHOD_MGET;
    switch (err_class(r->err)) {
    case ERR_CLASS_DONE:
        return ANSWERED;
    case ERR_CLASS_BACKOFF:
    case ERR_CLASS_REFRESH:
        return AGAIN;
    case ERR_CLASS_NEVER:
        if (r->err == ERR_TOO_LARGE && is_read && p->n > 1)
            return ALONE;
        if (!item->unsure)
            return ANSWERED;
        r->err = ERR_UNKNOWN_OUTCOME;
        break;
    case ERR_CLASS_UNKNOWN:
        if (late_ms != 0 && p->op.write.seq != 0) {
            if (!item->unsure && late_ms > p->op.write.until_ms)
                return AGAIN;
            break;
        }
        item->unsure = !is_read;
        if (is_read || p->op.write.seq != 0)
            return AGAIN;
        break;
    }
    r->maybe_applied = true;
    return ANSWERED;
}

static void answer(struct client_part *p, struct mp_reader *r, const struct msg_kv_extra *extra,
                   struct rpc_error *why, struct list *alone)
{
    struct client_many *m = p->many;
    uint32_t n = p->n, kept = 0;
    uint32_t *items = p->items;
    bool late = false;
    p->bytes = p->until_ms = 0;
    p->op.unsure = false;
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = items[k];
        struct client_item *item = &m->items[i];
        struct msg_kv_item got;
        msg_kv_next_item(m->method, r, &got);
        struct client_result res = {.err = got.err,
                                    .version = got.result.version,
                                    .value = got.result.value,
                                    .number = got.result.number,
                                    .has_ttl = got.result.has_ttl,
                                    .ttl_ms = got.result.ttl_ms,
                                    .at = extra->at,
                                    .text = got.err == ERR_OK ? "" : err_text(got.err)};
        switch (judge(p, item, extra->time_ms, &res)) {
        case ANSWERED:
            item_finish(p->core, m, i, &res);
            break;
        case AGAIN:
            if (got.err == ERR_UNKNOWN_OUTCOME && !item->unsure)
                late = true;
            else if (why->err == ERR_OK)
                why->err = got.err;
            items[kept++] = i;
            p->bytes += item_bytes(item);
            note_unsure(p, item);
            break;
        case ALONE: {
            struct client_part *one = part_new(p->core, m, item->slot);
            part_add(one, i);
            list_push_back(alone, &one->op.link);
            break;
        }
        }
    }
    p->n = kept;
    if (late && why->err == ERR_OK)
        *why = (struct rpc_error){.err = ERR_UNKNOWN_OUTCOME, .time_ms = extra->time_ms};
}

void client_many_on_reply(struct client_part *p, struct slice raw, uint64_t now)
{
    struct client_core *core = p->core;
    struct client_many *m = p->many;
    struct mp_reader items;
    struct msg_kv_extra extra;
    struct rpc_error why = {0};
    struct list alone;
    if (msg_kv_decode_items(m->method, raw, p->n, &items, &extra) != ERR_OK) {
        struct client_result r = {.err = ERR_INTERNAL,
                                  .maybe_applied = m->method == KV_METHOD_BATCH,
                                  .text = "the node's answer is malformed"};
        client_core_complete(core, &p->op, &r);
        return;
    }
    list_init(&alone);
    if (extra.time_ms && m->method == KV_METHOD_BATCH)
        route_cache_saw_time(&core->routes, p->op.slot, extra.time_ms, now);
    answer(p, &items, &extra, &why, &alone);
    for (struct list *item; (item = list_pop_front(&alone));)
        client_core_route_op(core, CONTAINER_OF(item, struct client_op, link), now);
    if (p->n > 0) {
        if (m->waiting)
            release(core, m);
        p->op.slot = m->items[p->items[0]].slot;
        client_core_attempt_failed(core, &p->op, &why, now); /* may end it all */
        return;
    }
    list_remove(&p->op.link);
    wheel_cancel(&p->op.timer);
    part_free(p);
    part_ended(core, m);
}

/* ---- the beginning ---- */

static uint64_t hash_of(struct slice key)
{
    uint64_t h = 14695981039346656037ULL; /* FNV-1a */
    for (size_t i = 0; i < key.n; i++)
        h = (h ^ key.p[i]) * 1099511628211ULL;
    return h;
}

/* Links each operation with the one of the same key before it. Two keys of one hash count as one:
 * that costs a wait, perhaps. */
static void link_keys(struct client_many *m)
{
    struct map last;
    map_init(&last);
    for (uint32_t i = 0; i < m->n; i++) {
        uint64_t h = hash_of(m->items[i].key);
        m->items[i].before = (uint32_t)(uintptr_t)map_find(&last, h);
        map_set(&last, h, (void *)(uintptr_t)(i + 1));
    }
    map_close(&last);
}

void client_core_submit_many(struct client_core *core, struct client_many *m, uint64_t now)
{
    CHECK(m->n > 0);
    core->stats.calls++;
    core->stats.in_flight++;
    m->bytes = 0;
    m->left = m->n;
    m->waiting = 0;
    m->failed = m->unknown = false;
    struct client_part *p = part_new(core, m, slot_of_key(m->items[0].key));
    for (uint32_t i = 0; i < m->n; i++) {
        struct client_item *item = &m->items[i];
        client_write_init(&item->write);
        item->slot = slot_of_key(item->key);
        item->before = 0;
        item->unsure = false;
        part_add(p, i);
    }
    if (m->method == KV_METHOD_BATCH && !m->all)
        link_keys(m);
    client_core_route(core, &p->op, now);
}
