#include "shardd/write_path.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "shardd/command.h"
#include "shardd/core.h"

#define KEEP_ENTRY_CAPACITY (1 * MIB)
/* Applying an operation with a condition walks over those before it in the entry (apply.c). */
#define CONDITION_AT_MOST 1024u

void write_path_init(struct write_path *w)
{
    *w = (struct write_path){0};
    list_init(&w->pending);
}

struct write_batch *write_batch_create(void)
{
    struct write_batch *b = mem_zalloc(sizeof *b);
    b->cap = 16;
    b->requests = mem_alloc(b->cap * sizeof(struct request *));
    list_init(&b->link);
    return b;
}

static void batch_answer(struct write_batch *b, enum err e, const char *text, uint64_t retry_ms,
                         const struct shard_desc *desc)
{
    for (uint32_t i = 0; i < b->n; i++) {
        if (b->requests[i])
            request_reply_error(b->requests[i], e, text, retry_ms, desc);
    }
}

void write_batch_free(struct write_batch *b)
{
    batch_answer(b, ERR_UNKNOWN_OUTCOME, NULL, 0, NULL);
    list_remove(&b->link);
    free(b->requests);
    free(b);
}

void write_batch_add(struct write_batch *b, struct request *request)
{
    if (b->n == b->cap) {
        b->cap *= 2;
        b->requests = mem_realloc(b->requests, b->cap * sizeof(struct request *));
        for (uint32_t i = 0; i < b->n; i++)
            if (b->requests[i])
                b->requests[i]->holder = &b->requests[i];
    }
    b->requests[b->n] = request;
    request->holder = &b->requests[b->n++];
}

void write_path_add(struct replica *r, struct request *request, const struct msg_kv_request *m)
{
    struct write_path *w = &r->writes;
    struct command_op op = {
        .kind = m->method == KV_METHOD_PUT ? COMMAND_PUT : COMMAND_DELETE,
        .flags = (uint8_t)((m->has_if_version ? COMMAND_IF_VERSION : 0) |
                           (m->if_absent ? COMMAND_IF_ABSENT : 0)),
        .key = m->key,
        .value = m->value,
        .if_version = m->if_version,
    };
    if (w->open && (w->entry.n + command_op_size(&op) > LIMIT_ENTRY ||
                    (op.flags != 0 && w->open->n >= CONDITION_AT_MOST)))
        write_path_flush(r); /* a large turn takes several entries */
    if (!w->open) {
        w->open = write_batch_create();
        command_begin(&w->entry);
        replica_mark_dirty(r);
    }
    r->ops.writes++;
    command_put_op(&w->entry, &op);
    write_batch_add(w->open, request);
}

void write_path_flush(struct replica *r)
{
    struct write_path *w = &r->writes;
    struct write_batch *b = w->open;
    if (!b)
        return;
    w->open = NULL;
    uint64_t now = io_wall_ms(r->core->io);
    command_finish(&w->entry, now > r->shard.time_ms ? now : r->shard.time_ms, b->n);
    enum err e = group_propose(r->group, buf_slice(&w->entry), &b->index, &b->term);
    if (e == ERR_OK) {
        write_path_queue(w, b);
    } else {
        struct shard_desc desc;
        replica_describe(r, &desc);
        batch_answer(b, e, NULL, e == ERR_BUSY ? 10 : 0, &desc);
        write_batch_free(b);
    }
    buf_clear(&w->entry);
    if (w->entry.cap > KEEP_ENTRY_CAPACITY)
        buf_close(&w->entry);
}

void write_path_queue(struct write_path *w, struct write_batch *b)
{
    struct list *after = w->pending.prev;
    while (after != &w->pending && CONTAINER_OF(after, struct write_batch, link)->index > b->index)
        after = after->prev;
    list_push_back(after->next, &b->link); /* in front of what follows */
}

struct write_batch *write_path_take(struct write_path *w, uint64_t index, uint64_t term)
{
    struct write_batch *ours = NULL;
    while (!list_empty(&w->pending)) {
        struct write_batch *b = CONTAINER_OF(list_first(&w->pending), struct write_batch, link);
        if (b->index > index)
            break;
        list_remove(&b->link);
        if (b->index == index && b->term == term) {
            ours = b;
            continue;
        }
        /* Another entry was committed in its place: ours never will be. */
        if (b->index == index)
            batch_answer(b, ERR_NOT_LEADER, "another leader took over; the write was not applied",
                         0, NULL);
        write_batch_free(b);
    }
    return ours;
}

void write_path_skipped(struct write_path *w, uint64_t index)
{
    while (!list_empty(&w->pending)) {
        struct write_batch *b = CONTAINER_OF(list_first(&w->pending), struct write_batch, link);
        if (b->index > index)
            break;
        write_batch_free(b);
    }
}

void write_path_close(struct write_path *w, enum err why)
{
    if (w->open) {
        batch_answer(w->open, why, NULL, 0, NULL);
        write_batch_free(w->open);
        w->open = NULL;
    }
    write_path_skipped(w, UINT64_MAX);
    buf_close(&w->entry);
}
