#include "common/raft/follower_read.h"

#include "common/base/mem.h"

static struct group_read *read_of(const struct list *item)
{
    return (struct group_read *)CONTAINER_OF(item, struct group_read, link);
}

void follower_read_init(struct follower_read *f, uint64_t first)
{
    *f = (struct follower_read){.number = first, .why = ERR_NOT_LEADER};
    list_init(&f->waiting);
    list_init(&f->answered);
    list_init(&f->failed);
}

void follower_read_add(struct follower_read *f, struct group_read *r, uint64_t since,
                       uint64_t until_ms)
{
    r->stamp = since;
    r->index = 0;
    r->until_ms = until_ms;
    list_push_back(&f->waiting, &r->link);
}

void follower_read_fail(struct follower_read *f, enum err why)
{
    f->why = why;
    f->asking = false;
    list_splice(&f->failed, &f->waiting);
    list_splice(&f->failed, &f->answered);
}

void follower_read_reset(struct follower_read *f)
{
    follower_read_fail(f, ERR_NOT_LEADER);
    f->proven = 0;
    f->pending = f->next = (struct follower_point){0};
}

uint64_t follower_read_question(struct follower_read *f, uint64_t leader, uint64_t now,
                                uint64_t repeat_ms)
{
    uint64_t now_ms = now / NS_PER_MS;
    if (list_empty(&f->waiting)) {
        f->asking = false;
        return 0;
    }
    if (!f->asking) {
        f->asking = true;
        f->number = f->number == UINT64_MAX ? 1 : f->number + 1;
        f->asked_at = now;
        f->sent_to = 0;
    }
    if (leader == 0 || (f->sent_to == leader && now_ms < f->sent_ms + repeat_ms))
        return 0;
    f->sent_to = leader;
    f->sent_ms = now_ms;
    return f->number;
}

/* The first point that is not applied yet stays until it is, whatever is answered meanwhile: under
 * load the index would move on for ever. */
static void note_point(struct follower_read *f, struct follower_point p)
{
    if (f->pending.index == 0)
        f->pending = p;
    else
        f->next = p;
}

void follower_read_answer(struct follower_read *f, uint64_t question, uint64_t index)
{
    if (!f->asking || question != f->number)
        return;
    f->asking = false;
    note_point(f, (struct follower_point){f->asked_at, index});
    LIST_FOR_SAFE(item, &f->waiting)
    {
        struct group_read *r = read_of(item);
        if (r->stamp > f->asked_at)
            continue;
        r->index = index;
        list_remove(item);
        list_push_back(&f->answered, item);
    }
}

static void prove(struct follower_read *f, uint64_t applied)
{
    while (f->pending.index && f->pending.index <= applied) {
        f->proven = f->pending.at;
        f->pending = f->next;
        f->next = (struct follower_point){0};
    }
}

static void take_late(struct list *from, uint64_t now_ms, struct list *late)
{
    LIST_FOR_SAFE(item, from)
    {
        if (read_of(item)->until_ms > now_ms)
            continue;
        list_remove(item);
        list_push_back(late, item);
    }
}

void follower_read_run(struct follower_read *f, uint64_t applied, uint64_t now_ms)
{
    /* Moved to lists of our own first: done() may add reads, or cancel some of these. */
    struct list ready, failed, *item;
    list_init(&ready);
    list_init(&failed);
    prove(f, applied);
    LIST_FOR_SAFE(answered, &f->answered)
    {
        if (read_of(answered)->index > applied)
            continue;
        list_remove(answered);
        list_push_back(&ready, answered);
    }
    enum err why = list_empty(&f->failed) ? ERR_NOT_LEADER : f->why;
    list_splice(&failed, &f->failed);
    take_late(&f->waiting, now_ms, &failed);
    take_late(&f->answered, now_ms, &failed);
    while ((item = list_pop_front(&ready)))
        read_of(item)->done(read_of(item), ERR_OK);
    while ((item = list_pop_front(&failed)))
        read_of(item)->done(read_of(item), why);
}

bool follower_read_empty(const struct follower_read *f)
{
    return list_empty(&f->waiting) && list_empty(&f->answered) && list_empty(&f->failed);
}

static uint64_t earliest(const struct list *l, uint64_t due)
{
    LIST_FOR(item, l)
    {
        if (read_of(item)->until_ms < due)
            due = read_of(item)->until_ms;
    }
    return due;
}

uint64_t follower_read_due_ms(const struct follower_read *f, uint64_t repeat_ms)
{
    uint64_t due = earliest(&f->answered, earliest(&f->waiting, UINT64_MAX));
    if (f->asking && f->sent_to && f->sent_ms + repeat_ms < due)
        due = f->sent_ms + repeat_ms;
    return due;
}
