#include "common/io/timer_heap.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"

static bool before(const struct io_timer *a, const struct io_timer *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void place(struct timer_heap *h, size_t pos, struct io_timer *t)
{
    h->items[pos] = t;
    t->heap_pos = pos;
}

static void sift_up(struct timer_heap *h, size_t pos)
{
    struct io_timer *t = h->items[pos];
    while (pos > 1 && before(t, h->items[pos / 2])) {
        place(h, pos, h->items[pos / 2]);
        pos /= 2;
    }
    place(h, pos, t);
}

static void sift_down(struct timer_heap *h, size_t pos)
{
    struct io_timer *t = h->items[pos];
    for (;;) {
        size_t child = pos * 2;
        if (child > h->n)
            break;
        if (child < h->n && before(h->items[child + 1], h->items[child]))
            child++;
        if (!before(h->items[child], t))
            break;
        place(h, pos, h->items[child]);
        pos = child;
    }
    place(h, pos, t);
}

void timer_heap_init(struct timer_heap *h)
{
    *h = (struct timer_heap){.order = 1};
}

void timer_heap_close(struct timer_heap *h)
{
    for (size_t i = 1; i <= h->n; i++)
        h->items[i]->heap_pos = 0;
    free(h->items);
    *h = (struct timer_heap){.order = 1};
}

void timer_heap_set(struct timer_heap *h, struct io_timer *t, uint64_t at)
{
    t->at = at;
    t->order = h->order++;
    if (t->heap_pos == 0) {
        if (h->n + 1 >= h->cap) {
            h->cap = h->cap == 0 ? 64 : h->cap * 2;
            h->items = mem_realloc(h->items, h->cap * sizeof *h->items);
        }
        place(h, ++h->n, t);
    }
    CHECK(t->heap_pos <= h->n && h->items[t->heap_pos] == t);
    sift_up(h, t->heap_pos);
    sift_down(h, t->heap_pos);
}

void timer_heap_cancel(struct timer_heap *h, struct io_timer *t)
{
    size_t pos = t->heap_pos;
    if (pos == 0)
        return;
    CHECK(pos <= h->n && h->items[pos] == t);
    t->heap_pos = 0;
    struct io_timer *last = h->items[h->n--];
    if (last == t)
        return;
    place(h, pos, last);
    sift_up(h, pos);
    sift_down(h, last->heap_pos);
}

struct io_timer *timer_heap_first(const struct timer_heap *h)
{
    return h->n > 0 ? h->items[1] : NULL;
}

void timer_heap_run(struct timer_heap *h, uint64_t now)
{
    uint64_t until = h->order;
    struct io_timer *t;
    while ((t = timer_heap_first(h)) != NULL && t->at <= now && t->order < until) {
        timer_heap_cancel(h, t);
        t->fn(t);
    }
}
