/* The set: recovery, common ticks, durability, dispatch, the end of a turn. */
#include "common/raft/group_set.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/raft/group_internal.h"

#define DEFAULT_LOG_MEMORY (64 * MIB)

/* ---- slots and the list of started groups ---- */

struct group_slot *group_set_slot(const struct group_set *s, uint64_t group)
{
    return map_find(&s->slots, group);
}

struct group_slot *group_set_new_slot(struct group_set *s, uint64_t group)
{
    struct group_slot *slot = group_set_slot(s, group);
    if (slot)
        return slot;
    slot = mem_zalloc(sizeof *slot);
    group_log_init(&slot->log, &s->pool, group);
    slot->log.wal = s->wal;
    map_set(&s->slots, group, slot);
    return slot;
}

/* Position of the first started group with an id of at least `group`. */
static unsigned position_of(const struct group_set *s, uint64_t group)
{
    unsigned low = 0, high = s->n;
    while (low < high) {
        unsigned mid = low + (high - low) / 2;
        if (s->started[mid]->id < group)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

void group_set_add(struct group_set *s, struct group *g)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 16;
        s->started = mem_realloc(s->started, s->cap * sizeof(struct group *));
    }
    unsigned at = position_of(s, g->id);
    memmove(s->started + at + 1, s->started + at, (s->n - at) * sizeof(struct group *));
    s->started[at] = g;
    s->n++;
    group_set_slot(s, g->id)->g = g;
}

void group_set_remove(struct group_set *s, struct group *g)
{
    unsigned at = position_of(s, g->id);
    CHECK(at < s->n && s->started[at] == g);
    s->n--;
    memmove(s->started + at, s->started + at + 1, (s->n - at) * sizeof(struct group *));
    group_set_slot(s, g->id)->g = NULL;
}

struct group *group_set_find(const struct group_set *s, uint64_t group)
{
    const struct group_slot *slot = group_set_slot(s, group);
    return slot ? slot->g : NULL;
}

struct group *group_set_next(const struct group_set *s, uint64_t *it)
{
    unsigned at = position_of(s, *it); /* *it: the least id not shown yet */
    if (at == s->n)
        return NULL;
    *it = s->started[at]->id + 1;
    return s->started[at];
}

unsigned group_set_count(const struct group_set *s)
{
    return s->n;
}

unsigned group_set_leaders(const struct group_set *s)
{
    unsigned n = 0;
    for (unsigned i = 0; i < s->n; i++)
        n += group_is_leader(s->started[i]);
    return n;
}

/* ---- what the WAL asks and tells ---- */

static void on_durable(void *arg, uint64_t lsn)
{
    struct group_set *s = arg;
    LIST_FOR_SAFE(item, &s->holding)
    {
        group_release_held(CONTAINER_OF(item, struct group, holding), lsn);
    }
    /* One round: a step may queue its group again, behind the rest. */
    struct list round;
    list_init(&round);
    list_splice(&round, &s->unstored);
    struct list *item;
    while ((item = list_pop_front(&round))) {
        list_push_back(&s->unstored, item);
        group_stored(CONTAINER_OF(item, struct group, unstored), lsn);
    }
}

static void on_rotate(void *arg)
{
    struct group_set *s = arg;
    size_t it = 0;
    uint64_t key;
    void *value;
    while (map_next(&s->slots, &it, &key, &value)) {
        struct group_slot *slot = value;
        if (slot->log.exists)
            (void)group_log_save(&slot->log);
    }
}

static uint64_t oldest_needed(void *arg)
{
    struct group_set *s = arg;
    uint64_t oldest = UINT64_MAX;
    size_t it = 0;
    uint64_t key;
    void *value;
    while (map_next(&s->slots, &it, &key, &value)) {
        struct group_slot *slot = value;
        const struct group_log *l = &slot->log;
        uint64_t lsn = UINT64_MAX;
        if (slot->g)
            lsn = group_needed_lsn(slot->g);
        else if (l->n)
            lsn = l->entries[l->start].lsn;
        if (lsn < oldest)
            oldest = lsn;
    }
    return oldest;
}

static void on_replay(void *arg, uint64_t done, uint64_t total)
{
    struct group_set *s = arg;
    if (s->o.on_replay)
        s->o.on_replay(s->o.arg, done, total);
}

static void on_fatal(void *arg, enum err why, const char *text)
{
    struct group_set *s = arg;
    if (s->o.on_fatal)
        s->o.on_fatal(s->o.arg, why, text);
}

/* ---- ticks ---- */

static void on_timer(struct io_timer *t)
{
    struct group_set *s = CONTAINER_OF(t, struct group_set, timer);
    uint64_t now = now_ms(s), next = UINT64_MAX;
    s->armed_ms = UINT64_MAX;
    for (unsigned i = 0; i < s->n; i++)
        if (s->started[i]->due_ms <= now)
            group_tick(s->started[i]);
    for (unsigned i = 0; i < s->n; i++)
        if (!s->started[i]->broken && s->started[i]->due_ms < next)
            next = s->started[i]->due_ms;
    if (next != UINT64_MAX)
        group_set_arm(s, next);
}

/* Ticks are multiples of 10 ms, never two in one: what is due together goes out together. */
void group_set_arm(struct group_set *s, uint64_t due_ms)
{
    uint64_t now = now_ms(s), tick = due_ms > now ? due_ms : now + 1;
    tick = (tick + GROUP_TICK_MS - 1) / GROUP_TICK_MS * GROUP_TICK_MS;
    if (tick >= s->armed_ms)
        return;
    s->armed_ms = tick;
    io_timer_set(s->io, &s->timer, tick * NS_PER_MS);
}

/* ---- life ---- */

static void replay(void *arg, const struct wal_record *r, struct slice payload, uint64_t lsn)
{
    struct group_set *s = arg;
    group_log_replay(&group_set_new_slot(s, r->group)->log, r, payload, lsn);
}

enum err group_set_open(const struct group_set_options *o, struct group_set **out, char *msg,
                        size_t n)
{
    struct group_set *s = mem_zalloc(sizeof *s);
    s->o = *o;
    s->io = o->io;
    if (s->o.election_timeout_ms == 0)
        s->o.election_timeout_ms = 500;
    if (s->o.heartbeat_ms == 0)
        s->o.heartbeat_ms = 100;
    log_pool_init(&s->pool, o->log_memory ? o->log_memory : DEFAULT_LOG_MEMORY);
    map_init(&s->slots);
    list_init(&s->dirty);
    list_init(&s->later);
    list_init(&s->unstored);
    list_init(&s->holding);
    list_init(&s->reading);
    s->timer.fn = on_timer;
    s->armed_ms = UINT64_MAX;
    struct wal_options w = {.io = o->io,
                            .dir = o->wal_dir,
                            .segment_size = o->wal_segment_size,
                            .arg = s,
                            .on_durable = on_durable,
                            .on_rotate = on_rotate,
                            .oldest_needed = oldest_needed,
                            .on_fatal = on_fatal,
                            .on_replay = on_replay};
    enum err e = wal_open(&w, replay, s, &s->wal, msg, n);
    if (e != ERR_OK) {
        s->wal = NULL;
        group_set_close(s);
        return e;
    }
    s->segment = wal_segment_size(s->wal);
    size_t it = 0;
    uint64_t key;
    void *value;
    while (map_next(&s->slots, &it, &key, &value))
        ((struct group_slot *)value)->log.wal = s->wal;
    *out = s;
    return ERR_OK;
}

void group_set_close(struct group_set *s)
{
    CHECK(s->n == 0);
    size_t it = 0;
    uint64_t key;
    void *value;
    io_timer_cancel(s->io, &s->timer);
    if (s->wal)
        wal_close(s->wal);
    while (map_next(&s->slots, &it, &key, &value)) {
        struct group_slot *slot = value;
        group_log_close(&slot->log);
        free(slot);
    }
    log_pool_close(&s->pool);
    map_close(&s->slots);
    buf_close(&s->scratch);
    free(s->started);
    free(s);
}

bool group_set_has_log(const struct group_set *s, uint64_t group)
{
    const struct group_slot *slot = group_set_slot(s, group);
    return slot && slot->log.exists;
}

void group_set_each_log(const struct group_set *s, void (*fn)(void *arg, uint64_t group), void *arg)
{
    size_t it = 0;
    uint64_t key;
    void *value;
    while (map_next(&s->slots, &it, &key, &value))
        if (((struct group_slot *)value)->log.exists)
            fn(arg, key);
}

void group_set_give_up_log(struct group_set *s, uint64_t group)
{
    struct group_slot *slot = group_set_slot(s, group);
    if (!slot || !slot->log.exists)
        return;
    CHECK(!slot->g);
    slot->log.damaged = true;
    group_log_forget_loads(&slot->log);
    group_log_drop(&slot->log, group_log_last(&slot->log));
    (void)group_log_save(&slot->log);
}

void group_set_drop_log(struct group_set *s, uint64_t group)
{
    struct group_slot *slot = group_set_slot(s, group);
    if (!slot)
        return;
    CHECK(!slot->g);
    if (slot->log.exists) {
        struct wal_record r = {.group = group, .type = WAL_DROP};
        slot->log.exists = false; /* before: a rotation inside must not write its state again */
        wal_append(s->wal, &r, (struct slice){NULL, 0}, NULL);
    }
    map_remove(&s->slots, group);
    group_log_close(&slot->log);
    free(slot);
}

/* ---- turns ---- */

void group_dirty(struct group *g)
{
    if (list_empty(&g->dirty))
        list_push_back(&g->set->dirty, &g->dirty);
}

void group_later(struct group *g)
{
    if (list_empty(&g->dirty))
        list_push_back(&g->set->later, &g->dirty);
}

enum err group_set_receive(struct group_set *s, uint32_t node, uint64_t group, struct slice message)
{
    struct group_msg m;
    struct group *g = group_set_find(s, group);
    if (!g)
        return ERR_NOT_FOUND;
    struct group_msg_entry entries[GROUP_MSG_ENTRIES];
    enum err e = group_msg_decode(message, &m, entries);
    if (e != ERR_OK)
        return e;
    if (m.to != g->replica) /* meant for a replica that was here before */
        return ERR_NOT_FOUND;
    s->stats.messages_in++;
    group_receive(g, node, &m, entries);
    return ERR_OK;
}

void group_set_turn(struct group_set *s)
{
    struct list *item;
    list_splice(&s->dirty, &s->later);
    while ((item = list_pop_front(&s->dirty)))
        group_work(CONTAINER_OF(item, struct group, dirty));
    LIST_FOR_SAFE(reading, &s->reading)
    {
        group_ping(CONTAINER_OF(reading, struct group, reading));
    }
    wal_flush(s->wal);
    log_pool_evict(&s->pool, wal_durable_lsn(s->wal));
    if (!list_empty(&s->later))
        io_again(s->io);
}

struct wal *group_set_wal(struct group_set *s)
{
    return s->wal;
}

struct group *group_set_pinning(const struct group_set *s, unsigned segments)
{
    unsigned held;
    uint64_t bytes, oldest = UINT64_MAX;
    struct group *pinning = NULL;
    wal_usage(s->wal, &held, &bytes);
    if (held <= segments)
        return NULL;
    for (unsigned i = 0; i < s->n; i++) {
        uint64_t lsn = group_needed_lsn(s->started[i]);
        if (lsn < oldest) {
            oldest = lsn;
            pinning = s->started[i];
        }
    }
    return pinning;
}

const struct group_set_stats *group_set_stats(const struct group_set *s)
{
    struct group_set_stats *st = (struct group_set_stats *)&s->stats; /* brought up to date */
    st->log_bytes = s->pool.bytes;
    st->log_reads = s->pool.reads;
    return st;
}
