/* The connections of a core: their turn's work, and the bound over all of them (conn.h). */
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/net/conn_internal.h"

#define SMALL_ANSWER (4 * KIB)
#define CROWD_WATCH_NS (500 * NS_PER_MS)
#define CROWD_GRACE_NS (10 * NS_PER_S) /* and a second for each 4 MiB */
#define CROWD_HASTE_NS (1 * NS_PER_S)

/* ---- the bound over all ---- */

bool conn_full(const struct conn *c, size_t n)
{
    return conn_unsent(c) > conn_out_limit(c) ||
           (n > SMALL_ANSWER && c->set->held > 2 * c->set->bound);
}

void conn_count(struct conn *c)
{
    struct conn_set *cs = c->set;
    size_t now = c->in.n + conn_unsent(c);
    cs->held = cs->held - c->counted + now;
    c->counted = now;
    if (conn_set_crowded(cs) && !io_timer_armed(&cs->watch))
        io_timer_set(cs->io, &cs->watch, io_now(cs->io) + CROWD_WATCH_NS);
}

/* ---- the turn ---- */

void conn_set_flush(struct conn_set *cs)
{
    struct list *item;
    while ((item = list_pop_front(&cs->dirty)) != NULL)
        conn_flush(CONTAINER_OF(item, struct conn, dirty));
}

static void on_todo(struct io_timer *t)
{
    struct conn_set *cs = CONTAINER_OF(t, struct conn_set, timer);
    struct list now, *item;
    list_init(&now);
    list_splice(&now, &cs->todo);
    while ((item = list_pop_front(&now)) != NULL) {
        struct conn *c = CONTAINER_OF(item, struct conn, todo);
        if (c->ending)
            conn_finish(c);
        else
            conn_go_on(c);
    }
}

/* Begun at `since`, and not done for longer than `n` bytes may take. */
static bool is_slow(const struct conn_set *cs, uint64_t since, size_t n)
{
    uint64_t grace = cs->held > 2 * cs->bound ? CROWD_HASTE_NS : CROWD_GRACE_NS;
    return n > 0 && io_now(cs->io) - since > grace + n / (4 * KIB) * (NS_PER_S / KIB);
}

static void on_watch(struct io_timer *t)
{
    struct conn_set *cs = CONTAINER_OF(t, struct conn_set, watch);
    if (!conn_set_crowded(cs))
        return;
    LIST_FOR(item, &cs->all)
    {
        struct conn *c = CONTAINER_OF(item, struct conn, link);
        bool slow = is_slow(cs, c->send_since, c->sending.n) ||
                    (c->partial_since != 0 && is_slow(cs, c->partial_since, c->in.n));
        if (slow && c->detached == NULL)
            conn_end_later(c, ERR_TIMEOUT);
    }
    io_timer_set(cs->io, t, io_now(cs->io) + CROWD_WATCH_NS);
}

struct conn_set *conn_set_create(struct io *io)
{
    struct conn_set *cs = mem_zalloc(sizeof *cs);
    cs->io = io;
    cs->bound = LIMIT_CONNS_HELD;
    cs->timer.fn = on_todo;
    cs->watch.fn = on_watch;
    list_init(&cs->all);
    list_init(&cs->dirty);
    list_init(&cs->todo);
    return cs;
}

void conn_set_destroy(struct conn_set *cs)
{
    struct list *item;
    if (cs == NULL)
        return;
    while ((item = list_first(&cs->all)) != NULL) {
        struct conn *c = CONTAINER_OF(item, struct conn, link);
        if (c->detached != NULL) {
            c->ending = true;
            conn_release(c);
            c->detached(c->detached_arg, -1, slice_of(NULL, 0));
            conn_free(c);
            continue;
        }
        if (!c->ending && !c->closing)
            c->why = ERR_CLOSED;
        conn_finish(c);
    }
    io_timer_cancel(cs->io, &cs->timer);
    io_timer_cancel(cs->io, &cs->watch);
    free(cs);
}

unsigned conn_set_count(const struct conn_set *cs)
{
    return cs->count;
}

size_t conn_set_held(const struct conn_set *cs)
{
    return cs->held;
}

void conn_set_bound(struct conn_set *cs, size_t bytes)
{
    cs->bound = bytes;
}
