#include "client/wheel.h"

#include <stddef.h>

#include "common/base/mem.h"

void wheel_init(struct wheel *w, uint64_t now)
{
    for (unsigned i = 0; i < WHEEL_SLOTS; i++)
        list_init(&w->slot[i]);
    for (unsigned i = 0; i < WHEEL_SLOTS / 64; i++)
        w->bits[i] = 0;
    list_init(&w->due);
    w->tick = now / WHEEL_TICK_NS;
}

void wheel_node_init(struct wheel_node *n, uint8_t kind)
{
    list_init(&n->link);
    n->at = 0;
    n->kind = kind;
}

static uint64_t tick_of(uint64_t at)
{
    return at / WHEEL_TICK_NS + (at % WHEEL_TICK_NS != 0);
}

void wheel_set(struct wheel *w, struct wheel_node *n, uint64_t at)
{
    uint64_t tick = tick_of(at);
    list_remove(&n->link);
    n->at = at;
    if (tick <= w->tick) /* that bucket is behind us */
        tick = w->tick + 1;
    unsigned s = (unsigned)(tick % WHEEL_SLOTS);
    list_push_back(&w->slot[s], &n->link);
    w->bits[s / 64] |= 1ULL << (s % 64);
}

void wheel_cancel(struct wheel_node *n)
{
    list_remove(&n->link);
}

static void empty_bucket(struct wheel *w, unsigned s, uint64_t now)
{
    if (!(w->bits[s / 64] & (1ULL << (s % 64))))
        return;
    LIST_FOR_SAFE(item, &w->slot[s])
    {
        struct wheel_node *n = CONTAINER_OF(item, struct wheel_node, link);
        if (n->at <= now) {
            list_remove(item);
            list_push_back(&w->due, item);
        }
    }
    if (list_empty(&w->slot[s]))
        w->bits[s / 64] &= ~(1ULL << (s % 64));
}

struct wheel_node *wheel_pop(struct wheel *w, uint64_t now)
{
    uint64_t last = now / WHEEL_TICK_NS;
    if (last > w->tick + WHEEL_SLOTS) /* one turn visits every bucket */
        w->tick = last - WHEEL_SLOTS;
    while (w->tick < last) {
        w->tick++;
        empty_bucket(w, (unsigned)(w->tick % WHEEL_SLOTS), now);
    }
    struct list *item = list_pop_front(&w->due);
    return item ? CONTAINER_OF(item, struct wheel_node, link) : NULL;
}

struct wheel_node *wheel_pop_any(struct wheel *w)
{
    struct list *item = list_pop_front(&w->due);
    for (unsigned s = 0; !item && s < WHEEL_SLOTS; s++)
        item = list_pop_front(&w->slot[s]);
    return item ? CONTAINER_OF(item, struct wheel_node, link) : NULL;
}

uint64_t wheel_next(const struct wheel *w)
{
    if (!list_empty(&w->due))
        return 0;
    uint64_t tick = w->tick + 1, end = w->tick + WHEEL_SLOTS;
    while (tick <= end) {
        unsigned s = (unsigned)(tick % WHEEL_SLOTS);
        uint64_t word = w->bits[s / 64] >> (s % 64);
        if (word)
            return (tick + (unsigned)__builtin_ctzll(word)) * WHEEL_TICK_NS;
        tick += 64 - s % 64;
    }
    return UINT64_MAX;
}
