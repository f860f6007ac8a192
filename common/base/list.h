/* Intrusive doubly linked list with a sentinel head.
 * Thread: none of its own.  Depends on: nothing. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}
static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}
static inline void list_insert_before(struct list *at, struct list *item)
{
    item->next = at;
    item->prev = at->prev;
    at->prev->next = item;
    at->prev = item;
}
static inline void list_push_back(struct list *l, struct list *item)
{
    list_insert_before(l, item);
}
static inline void list_push_front(struct list *l, struct list *item)
{
    list_insert_before(l->next, item);
}
/* Leaves the item pointing at itself, so removing twice does no harm. */
static inline void list_remove(struct list *item)
{
    item->prev->next = item->next;
    item->next->prev = item->prev;
    item->next = item->prev = item;
}
/* First item or NULL. */
static inline struct list *list_first(const struct list *l)
{
    return l->next == l ? NULL : l->next;
}
static inline struct list *list_pop_front(struct list *l)
{
    struct list *item = list_first(l);
    if (item)
        list_remove(item);
    return item;
}
/* Moves all items of `from` to the end of `to`. */
static inline void list_splice(struct list *to, struct list *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

#define LIST_FOR(item, l) for (struct list *item = (l)->next; item != (l); item = item->next)
/* The item may be removed inside the loop. */
#define LIST_FOR_SAFE(item, l)                                                                     \
    for (struct list *item = (l)->next, *item##_next = item->next; item != (l);                    \
         item = item##_next, item##_next = item->next)

#endif
