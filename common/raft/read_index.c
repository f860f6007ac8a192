#include "common/raft/read_index.h"

#include "common/base/check.h"
#include "common/base/mem.h"

static struct group_read *read_of(const struct list *item)
{
    return (struct group_read *)CONTAINER_OF(item, struct group_read, link);
}

void read_index_init(struct read_index *ri)
{
    list_init(&ri->pending);
    list_init(&ri->sure);
    list_init(&ri->failed);
    ri->why = ERR_NOT_LEADER;
}

void read_index_add(struct read_index *ri, struct group_read *r, uint64_t stamp, uint64_t index)
{
    if (!list_empty(&ri->pending)) {
        const struct group_read *last = read_of(ri->pending.prev);
        CHECK(last->stamp <= stamp && last->index <= index);
    }
    r->stamp = stamp;
    r->index = index;
    list_push_back(&ri->pending, &r->link);
}

void read_index_add_sure(struct read_index *ri, struct group_read *r, uint64_t index)
{
    r->stamp = 0;
    r->index = index;
    list_push_back(&ri->sure, &r->link);
}

void read_index_refuse(struct read_index *ri, struct group_read *one, enum err why)
{
    ri->why = why;
    list_push_back(&ri->failed, &one->link);
}

void read_index_fail(struct read_index *ri, enum err why)
{
    ri->why = why;
    list_splice(&ri->failed, &ri->sure);
    list_splice(&ri->failed, &ri->pending);
}

uint64_t read_index_wanted(const struct read_index *ri, uint64_t confirmed)
{
    if (list_empty(&ri->pending))
        return 0;
    uint64_t newest = read_of(ri->pending.prev)->stamp;
    return newest > confirmed ? newest : 0;
}

bool read_index_empty(const struct read_index *ri)
{
    return list_empty(&ri->pending) && list_empty(&ri->sure) && list_empty(&ri->failed);
}

void read_index_run(struct read_index *ri, uint64_t confirmed, uint64_t applied)
{
    /* Moved to lists of our own first: done() may add reads, or cancel some of these. */
    struct list ready, failed;
    list_init(&ready);
    list_init(&failed);
    struct list *item;
    while ((item = list_first(&ri->sure)) && read_of(item)->index <= applied) {
        list_remove(item);
        list_push_back(&ready, item);
    }
    while ((item = list_first(&ri->pending)) && read_of(item)->stamp <= confirmed &&
           read_of(item)->index <= applied) {
        list_remove(item);
        list_push_back(&ready, item);
    }
    list_splice(&failed, &ri->failed);
    enum err why = ri->why;
    while ((item = list_pop_front(&ready)))
        read_of(item)->done(read_of(item), ERR_OK);
    while ((item = list_pop_front(&failed)))
        read_of(item)->done(read_of(item), why);
}

uint64_t read_index_majority(uint64_t *stamps, unsigned n)
{
    for (unsigned i = 1; i < n; i++) /* insertion sort, newest first: n is at most nine */
        for (unsigned k = i; k > 0 && stamps[k] > stamps[k - 1]; k--) {
            uint64_t swap = stamps[k];
            stamps[k] = stamps[k - 1];
            stamps[k - 1] = swap;
        }
    return n ? stamps[n / 2] : 0;
}
