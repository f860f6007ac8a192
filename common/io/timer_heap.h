/* Timers in a binary heap, ordered by time and, at equal times, by the order they were set in.
 *
 * Shared by both implementations of io.h. Positions are kept in the timers, so that re-arming and
 * cancelling cost O(log n) without a search.
 * Owner: struct io.  Thread: that core only.  Depends on: mem. */
#ifndef IO_TIMER_HEAP_H
#define IO_TIMER_HEAP_H

#include "common/io/io.h"

struct timer_heap {
    struct io_timer **items; /* items[0] is unused: position 0 means "not armed" */
    size_t n, cap;
    uint64_t order; /* given to the next timer that is set */
};

void timer_heap_init(struct timer_heap *h);
void timer_heap_close(struct timer_heap *h); /* the timers are their owners' */
void timer_heap_set(struct timer_heap *h, struct io_timer *t, uint64_t at);
void timer_heap_cancel(struct timer_heap *h, struct io_timer *t);
/* The next one due, or NULL when none is armed. */
struct io_timer *timer_heap_first(const struct timer_heap *h);
/* Calls what is due at `now`. A timer that is set meanwhile waits for the next call, also when it
 * is due already: so a turn ends. */
void timer_heap_run(struct timer_heap *h, uint64_t now);

#endif
