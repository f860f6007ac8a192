#include "shardd/write_path.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/meta/slot.h"
#include "shardd/command.h"
#include "shardd/core.h"

#define KEEP_ENTRY_CAPACITY (1 * MIB)

void write_path_init(struct write_path *w)
{
    *w = (struct write_path){0};
    list_init(&w->pending);
}

struct write_batch *write_batch_create(void)
{
    struct write_batch *b = mem_zalloc(sizeof *b);
    b->cap = 16;
    b->waits = mem_alloc(b->cap * sizeof *b->waits);
    list_init(&b->link);
    return b;
}

static void batch_answer(struct write_batch *b, enum err e, const char *text, uint64_t retry_ms,
                         const struct shard_desc *desc)
{
    for (uint32_t i = 0; i < b->n; i++) {
        if (b->waits[i].request)
            request_reply_error(b->waits[i].request, e, text, retry_ms, desc);
    }
}

void write_batch_free(struct write_batch *b)
{
    batch_answer(b, ERR_UNKNOWN_OUTCOME, NULL, 0, NULL);
    list_remove(&b->link);
    free(b->waits);
    free(b);
}

void write_batch_add(struct write_batch *b, struct request *request, uint32_t n_ops)
{
    if (b->n == b->cap) {
        b->cap *= 2;
        b->waits = mem_realloc(b->waits, b->cap * sizeof *b->waits);
        for (uint32_t i = 0; i < b->n; i++)
            if (b->waits[i].request)
                b->waits[i].request->holder = &b->waits[i].request;
    }
    struct write_wait *w = &b->waits[b->n++];
    *w = (struct write_wait){request, b->n_ops, n_ops};
    b->n_ops += n_ops;
    request->holder = &w->request;
}

/* ---- results ---- */

static void answer_single(struct replica *r, struct request *request, const struct apply_outcome *o)
{
    if (o->err == ERR_OK)
        request_reply_written(request, o->version, o->number);
    else if (o->err == ERR_CONDITION_FAILED)
        request_reply_condition(request, o->version);
    else if (o->err == ERR_WRONG_SHARD)
        router_refuse(r, request);
    else if (o->err == ERR_UNKNOWN_OUTCOME)
        request_reply_late(request, r->shard.time_ms);
    else
        request_reply_error(request, o->err, NULL, 0, NULL);
}

/* None of it is ours any more: the whole request goes elsewhere, with a piece of the map. */
static bool all_moved(const struct request_items *items)
{
    uint32_t i = 0;
    while (i < items->n && items->item[i].err == ERR_WRONG_SHARD)
        i++;
    return i == items->n;
}

static void answer_many(struct replica *r, struct request *request)
{
    if (all_moved(request->items))
        router_refuse(r, request);
    else
        request_reply_items(request);
}

void write_batch_result(struct replica *r, struct write_batch *b, uint32_t i,
                        const struct apply_outcome *o)
{
    while (b->at < b->n && i >= b->waits[b->at].first_op + b->waits[b->at].n_ops)
        b->at++;
    if (b->at == b->n || !b->waits[b->at].request)
        return;
    const struct write_wait *w = &b->waits[b->at];
    struct request_items *items = w->request->items;
    if (!items) {
        answer_single(r, w->request, o);
        return;
    }
    while (items->item[items->next].err != ERR_INCOMPLETE)
        items->next++;
    CHECK(items->next < items->n);
    items->item[items->next] =
        (struct msg_kv_item){.err = o->err, .result = {.version = o->version, .number = o->number}};
    if (o->err == ERR_UNKNOWN_OUTCOME)
        items->late_ms = r->shard.time_ms;
    if (i + 1 == w->first_op + w->n_ops)
        answer_many(r, w->request);
}

/* ---- gathering ---- */

static uint8_t kind_of(enum kv_method method)
{
    switch (method) {
    case KV_METHOD_DELETE:
        return COMMAND_DELETE;
    case KV_METHOD_INCR:
        return COMMAND_INCR;
    case KV_METHOD_TOUCH:
        return COMMAND_TOUCH;
    default:
        return COMMAND_PUT;
    }
}

/* The log's time that it is to be over; a clock is asked only for those that do expire. */
static uint64_t expiry_of(const struct replica *r, uint64_t ttl_ms)
{
    uint64_t time_ms = replica_time_ms(r);
    return ttl_ms < UINT64_MAX - time_ms ? time_ms + ttl_ms : UINT64_MAX;
}

/* `s`: the session, of the request. */
static struct command_op op_of(const struct replica *r, const struct msg_kv_request *m,
                               const struct msg_kv_session *s)
{
    struct command_op op = {
        .kind = kind_of(m->method),
        .flags =
            (uint8_t)((m->has_if_version ? COMMAND_IF_VERSION : 0) |
                      (m->if_absent ? COMMAND_IF_ABSENT : 0) | (s->id.n > 0 ? COMMAND_SESSION : 0)),
        .key = m->key,
        .value = m->value,
        .if_version = m->if_version,
        .delta = m->delta,
    };
    if (m->has_ttl && m->method != KV_METHOD_DELETE) {
        op.flags |= COMMAND_EXPIRY;
        op.expiry_ms = expiry_of(r, m->ttl_ms);
    }
    if (s->id.n > 0) {
        op.sid = s->id.p;
        op.seq = m->seq;
        op.ack = s->ack;
        op.until_ms = s->until_ms;
    }
    return op;
}

/* Room for `bytes` more in the turn's entry: a large turn takes several. */
static void make_room(struct replica *r, size_t bytes)
{
    struct write_path *w = &r->writes;
    if (w->open && w->entry.n + bytes > LIMIT_ENTRY)
        write_path_flush(r);
    if (w->open)
        return;
    w->open = write_batch_create();
    w->has_sid = false;
    command_begin(&w->entry);
    replica_mark_dirty(r);
}

static void put_op(struct replica *r, const struct command_op *op)
{
    struct write_path *w = &r->writes;
    command_put_op(&w->entry, op, w->has_sid ? w->sid : NULL);
    r->ops.writes++;
    if (!(op->flags & COMMAND_SESSION))
        return;
    memcpy(w->sid, op->sid, sizeof w->sid);
    w->has_sid = true;
}

/* Those that are not the shard's, or too large, have their answer already. */
static enum err verdict_on(const struct replica *r, const struct msg_kv_request *op)
{
    if (op->key.n == 0)
        return ERR_KEY_EMPTY;
    if (op->key.n > r->core->key_max)
        return ERR_KEY_TOO_LARGE;
    if (op->value.n > r->core->value_max)
        return ERR_VALUE_TOO_LARGE;
    return shard_owns(&r->shard, slot_of_key(op->key)) ? ERR_INCOMPLETE : ERR_WRONG_SHARD;
}

static void add_many(struct replica *r, struct request *request, const struct msg_kv_request *m)
{
    struct mp_reader items = mp_reader_of(m->items);
    uint32_t n_ops = 0;
    make_room(r, m->items.n + m->n * COMMAND_OP_HEAD_MAX);
    for (uint32_t i = 0; i < m->n; i++) {
        struct msg_kv_request q;
        msg_kv_next_op(&items, &q);
        enum err verdict = verdict_on(r, &q);
        request->items->item[i].err = verdict;
        if (verdict != ERR_INCOMPLETE)
            continue;
        struct command_op op = op_of(r, &q, &m->session);
        if (m->all && i + 1 < m->n)
            op.flags |= COMMAND_MORE;
        put_op(r, &op);
        n_ops++;
    }
    if (n_ops > 0)
        write_batch_add(r->writes.open, request, n_ops);
    else
        answer_many(r, request);
}

void write_path_add(struct replica *r, struct request *request, const struct msg_kv_request *m)
{
    if (request->items) {
        add_many(r, request, m);
        return;
    }
    struct command_op op = op_of(r, m, &m->session);
    make_room(r, command_op_size(&op));
    put_op(r, &op);
    write_batch_add(r->writes.open, request, 1);
}

void write_path_flush(struct replica *r)
{
    struct write_path *w = &r->writes;
    struct write_batch *b = w->open;
    if (!b)
        return;
    w->open = NULL;
    command_finish(&w->entry, replica_time_ms(r), b->n_ops);
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
