#include "common/raft/group_log.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/raft/raft_conf.h"

struct log_block {
    struct list link; /* pool's fifo; of configuration entries: alone */
    struct group_log *log;
    uint64_t index;
    size_t n;
    uint8_t data[];
};

/* One read-back of a batch. The batch outlives the log if the log is closed meanwhile. */
struct load_slot {
    struct wal_read read;
    struct log_load *batch;
    uint64_t index;
};

struct log_load {
    struct list link;      /* pool's loads */
    struct group_log *log; /* NULL: nobody waits any more */
    struct log_pool *pool;
    unsigned flying;
    enum err result;
    uint64_t failed;
    struct load_slot slot[LOG_LOADS];
};

#define STATE_VERSION 1
#define LOG_CUT 1u
#define LOG_DAMAGED                                                                                \
    2u /* the log was found damaged: that must outlive the segment it was found in */
#define STATE_SIZE 18
#define EVICT_SCAN 64

void log_pool_init(struct log_pool *p, uint64_t budget)
{
    *p = (struct log_pool){.budget = budget};
    list_init(&p->fifo);
    list_init(&p->loads);
}

void log_pool_close(struct log_pool *p)
{
    struct list *item;
    CHECK(list_empty(&p->fifo));
    while ((item = list_pop_front(&p->loads)))
        free(CONTAINER_OF(item, struct log_load, link));
}

static struct log_entry *entry_at(const struct group_log *l, uint64_t index)
{
    CHECK(index > l->base && index <= group_log_last(l));
    return &l->entries[l->start + (size_t)(index - l->base - 1)];
}

static void block_free(struct log_entry *e)
{
    struct log_block *b = e->block;
    if (!b)
        return;
    list_remove(&b->link);
    b->log->pool->bytes -= sizeof *b + b->n;
    free(b);
    e->block = NULL;
}

static void block_add(struct group_log *l, uint64_t index, struct slice payload)
{
    struct log_entry *e = entry_at(l, index);
    CHECK(!e->block);
    struct log_block *b = mem_alloc(sizeof *b + payload.n);
    *b = (struct log_block){.log = l, .index = index, .n = payload.n};
    if (payload.n)
        memcpy(b->data, payload.p, payload.n);
    list_init(&b->link);
    if (e->kind != LOG_KIND_CHANGE)
        list_push_back(&l->pool->fifo, &b->link);
    l->pool->bytes += sizeof *b + b->n;
    e->block = b;
}

/* Two passes: what the engine has as well, among the oldest; then whatever is durable. */
void log_pool_evict(struct log_pool *p, uint64_t durable)
{
    for (int pass = 0; pass < 2 && p->bytes > p->budget && !p->locked; pass++) {
        unsigned seen = 0;
        LIST_FOR_SAFE(item, &p->fifo)
        {
            struct log_block *b = CONTAINER_OF(item, struct log_block, link);
            struct log_entry *e = entry_at(b->log, b->index);
            if (p->bytes <= p->budget || e->lsn >= durable || (pass == 0 && ++seen > EVICT_SCAN))
                break;
            /* A batch being read back is wanted at once: let it be complete first. */
            if (!b->log->loads && (pass == 1 || b->index <= b->log->stable))
                block_free(e);
        }
    }
}

void group_log_init(struct group_log *l, struct log_pool *pool, uint64_t group)
{
    *l = (struct group_log){.pool = pool, .group = group};
}

void group_log_forget_loads(struct group_log *l)
{
    if (l->loads)
        l->loads->log = NULL;
    l->loads = NULL;
}

void group_log_close(struct group_log *l)
{
    group_log_forget_loads(l);
    group_log_truncate(l, l->base + 1);
    free(l->entries);
    l->entries = NULL;
    l->cap = l->start = 0;
}

const struct log_entry *group_log_find(const struct group_log *l, uint64_t index)
{
    return index <= l->base || index > group_log_last(l) ? NULL : entry_at(l, index);
}

uint64_t group_log_term_of(const struct group_log *l, uint64_t index)
{
    if (index == l->base)
        return l->base_term;
    const struct log_entry *e = group_log_find(l, index);
    return e ? e->term : 0;
}

bool group_log_payload(const struct group_log *l, uint64_t index, struct slice *out)
{
    const struct log_entry *e = entry_at(l, index);
    if (!e->block)
        return false;
    *out = slice_of(e->block->data, e->block->n);
    return true;
}

uint64_t group_log_durable(const struct group_log *l, uint64_t durable_lsn)
{
    size_t low = 0, high = l->n; /* the first entry that is not durable is in [low, high] */
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (l->entries[l->start + mid].lsn < durable_lsn)
            low = mid + 1;
        else
            high = mid;
    }
    return l->base + low;
}

static void entries_push(struct group_log *l, const struct log_entry *e)
{
    if (l->start + l->n == l->cap) {
        if (l->start > l->n) {
            memmove(l->entries, l->entries + l->start, l->n * sizeof *l->entries);
            l->start = 0;
        } else {
            l->cap = l->cap ? 2 * l->cap : 32;
            l->entries = mem_realloc(l->entries, l->cap * sizeof *l->entries);
        }
    }
    l->entries[l->start + l->n++] = *e;
}

static void push(struct group_log *l, const struct log_entry *e, struct slice payload)
{
    entries_push(l, e);
    block_add(l, group_log_last(l), payload);
}

void group_log_append(struct group_log *l, uint64_t term, uint8_t kind, struct slice payload)
{
    struct log_entry e = {.term = term, .kind = kind, .n = (uint32_t)payload.n};
    struct wal_record r = {.group = l->group,
                           .index = group_log_last(l) + 1,
                           .term = term,
                           .type = WAL_ENTRY,
                           .kind = kind};
    CHECK(payload.n <= LIMIT_ENTRY);
    wal_append(l->wal, &r, payload, &e.lsn);
    l->exists = true;
    push(l, &e, payload);
}

void group_log_truncate(struct group_log *l, uint64_t index)
{
    CHECK(index > l->base);
    while (l->n && group_log_last(l) >= index) {
        block_free(entry_at(l, group_log_last(l)));
        l->n--;
    }
}

void group_log_drop(struct group_log *l, uint64_t index)
{
    while (l->n && l->base < index) {
        struct log_entry *e = &l->entries[l->start];
        block_free(e);
        l->base_term = e->term;
        l->base++;
        l->start++;
        l->n--;
    }
    if (!l->n)
        l->start = 0;
}

static uint64_t write_state(struct group_log *l, uint8_t flags)
{
    uint8_t bytes[STATE_SIZE];
    struct buf b = {.p = bytes, .cap = sizeof bytes};
    buf_u8(&b, STATE_VERSION);
    buf_u8(&b, (uint8_t)(flags | (l->damaged ? LOG_DAMAGED : 0)));
    buf_u64(&b, l->base);
    buf_u64(&b, l->base_term);
    CHECK(b.p == bytes && b.n == STATE_SIZE);
    struct wal_record r = {.group = l->group, .index = l->vote, .term = l->term, .type = WAL_STATE};
    uint64_t lsn;
    wal_append(l->wal, &r, slice_of(bytes, sizeof bytes), &lsn);
    l->exists = true;
    l->state_lsn = lsn;
    return lsn;
}

uint64_t group_log_save(struct group_log *l)
{
    return write_state(l, 0);
}

static void clear(struct group_log *l, uint64_t base, uint64_t base_term)
{
    group_log_truncate(l, l->base + 1);
    l->start = 0;
    l->base = base;
    l->base_term = base_term;
}

uint64_t group_log_cut(struct group_log *l, uint64_t base, uint64_t base_term)
{
    group_log_forget_loads(l);
    l->damaged = false;
    clear(l, base, base_term);
    return write_state(l, LOG_CUT);
}

/* ---- recovery ---- */

static void replay_state(struct group_log *l, const struct wal_record *r, struct slice payload)
{
    struct cursor c = cursor_of(payload);
    uint8_t version = cursor_u8(&c), flags = cursor_u8(&c);
    uint64_t base = cursor_u64(&c), base_term = cursor_u64(&c);
    if (c.bad || version != STATE_VERSION || (l->exists && r->term < l->term)) {
        l->damaged = true;
        return;
    }
    l->term = r->term;
    l->vote = r->index;
    l->exists = true;
    if (flags & LOG_CUT) {
        l->damaged = false;
        clear(l, base, base_term);
    } else if (l->n == 0 && base > l->base) {
        l->base = base;
        l->base_term = base_term;
    }
    if (flags & LOG_DAMAGED)
        l->damaged = true;
}

static void replay_entry(struct group_log *l, const struct wal_record *r, struct slice payload,
                         uint64_t lsn)
{
    struct group_conf conf;
    bool good = r->index && r->term && payload.n <= LIMIT_ENTRY;
    good = good && (r->kind == LOG_KIND_COMMAND || r->kind == LOG_KIND_BARRIER ||
                    (r->kind == LOG_KIND_CHANGE && raft_conf_parse(payload, &conf)));
    if (!good) {
        l->damaged = true;
        return;
    }
    /* The WAL's oldest segments are given up, so a log begins anywhere; and what remains of it may
     * be the tail of entries that were replaced from further below. group_start() checks that the
     * engine has what is missing. */
    if (r->index <= l->base || (l->n == 0 && r->index > l->base + 1))
        clear(l, r->index - 1, 0);
    if (r->index > group_log_last(l) + 1) {
        l->damaged = true;
        return;
    }
    group_log_truncate(l, r->index);
    struct log_entry e = {.term = r->term, .lsn = lsn, .kind = r->kind, .n = (uint32_t)payload.n};
    if (l->n && group_log_term_of(l, r->index - 1) > r->term) {
        l->damaged = true;
        return;
    }
    l->exists = true;
    push(l, &e, payload);
    log_pool_evict(l->pool, UINT64_MAX);
}

void group_log_replay(struct group_log *l, const struct wal_record *r, struct slice payload,
                      uint64_t lsn)
{
    switch (r->type) {
    case WAL_ENTRY:
        replay_entry(l, r, payload, lsn);
        break;
    case WAL_STATE:
        replay_state(l, r, payload);
        break;
    case WAL_DROP: {
        clear(l, 0, 0);
        l->exists = l->damaged = false;
        l->term = l->vote = 0;
        break;
    }
    default:
        l->damaged = true;
    }
    if (l->damaged)
        l->exists = true; /* nothing may begin afresh in its place */
}

/* ---- read-back ---- */

static void batch_done(struct log_load *batch)
{
    struct group_log *l = batch->log;
    if (l) {
        l->loads = NULL;
        batch->pool->locked++;
        if (l->on_loaded)
            l->on_loaded(l->arg, batch->result, batch->failed);
        batch->pool->locked--;
    }
    list_remove(&batch->link);
    free(batch);
}

static void slot_done(struct wal_read *read, enum err result)
{
    struct load_slot *s = CONTAINER_OF(read, struct load_slot, read);
    struct log_load *batch = s->batch;
    struct group_log *l = batch->log;
    batch->flying--;
    batch->pool->flying--;
    const struct log_entry *e = l ? group_log_find(l, s->index) : NULL;
    /* The entry may have been dropped or replaced while it was read. */
    if (e && e->lsn == read->lsn && !e->block) {
        const struct wal_record *r = &read->record;
        if (result == ERR_OK &&
            (r->type != WAL_ENTRY || r->group != l->group || r->index != s->index ||
             r->term != e->term || read->payload.n != e->n))
            result = ERR_CORRUPT;
        if (result == ERR_OK) {
            block_add(l, s->index, read->payload);
        } else {
            batch->result = result;
            batch->failed = s->index;
        }
    }
    if (batch->flying == 0)
        batch_done(batch);
}

bool group_log_load(struct group_log *l, uint64_t from, uint64_t to)
{
    if (l->loads)
        return true;
    if (l->pool->flying >= LOG_POOL_READS)
        return false;
    struct log_load *batch = mem_zalloc(sizeof *batch);
    batch->log = l;
    batch->pool = l->pool;
    uint64_t bytes = 0;
    if (from <= l->base)
        from = l->base + 1;
    for (uint64_t i = from; i <= to && i <= group_log_last(l) && batch->flying < LOG_LOADS; i++) {
        const struct log_entry *e = entry_at(l, i);
        if (e->block)
            continue;
        bytes += e->n;
        if (batch->flying && bytes > LIMIT_APPEND_BYTES)
            break;
        struct load_slot *s = &batch->slot[batch->flying++];
        s->batch = batch;
        s->index = i;
        s->read.lsn = e->lsn;
        s->read.done = slot_done;
    }
    unsigned n = batch->flying;
    if (n == 0) {
        free(batch);
        return true;
    }
    l->loads = batch;
    list_push_back(&l->pool->loads, &batch->link);
    l->pool->flying += n;
    l->pool->reads += n;
    for (unsigned i = 0; i < n; i++)
        wal_read(l->wal, &batch->slot[i].read);
    return true;
}
