/* Timer wheel: many timers that are nearly always cancelled, each O(1) to set and to cancel.
 *
 * 1024 buckets of 2 ms. A timer that is more than a turn away stays in its bucket for another turn.
 * Timers never fire early, and at most one bucket late. Time is passed in.
 * Owner: client_core.  Thread: none of its own.  Depends on: base. */
#ifndef CLIENT_WHEEL_H
#define CLIENT_WHEEL_H

#include <stdint.h>
#include "common/base/list.h"

#define WHEEL_SLOTS 1024u
#define WHEEL_TICK_NS (2000000ULL)

struct wheel_node {
    struct list link;
    uint64_t at;  /* ns */
    uint8_t kind; /* the owner's: what kind of thing holds this node */
};

struct wheel {
    struct list slot[WHEEL_SLOTS];
    uint64_t
        bits[WHEEL_SLOTS / 64]; /* a clear bit: the bucket is empty. A set one: it may be full */
    struct list due;
    uint64_t tick; /* buckets up to this one have been emptied of what was due */
};

void wheel_init(struct wheel *w, uint64_t now);
void wheel_node_init(struct wheel_node *n, uint8_t kind);
/* Sets or sets anew. */
void wheel_set(struct wheel *w, struct wheel_node *n, uint64_t at);
/* No-op if not set. */
void wheel_cancel(struct wheel_node *n);
/* The next timer that is due at `now`, taken out; NULL: no more. */
struct wheel_node *wheel_pop(struct wheel *w, uint64_t now);
/* Any timer, due or not, taken out; NULL: the wheel is empty. */
struct wheel_node *wheel_pop_any(struct wheel *w);
/* A lower bound of the time of the next timer; UINT64_MAX: there is none. */
uint64_t wheel_next(const struct wheel *w);

#endif
