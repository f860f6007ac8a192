#include "shardd/read_path.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "shardd/core.h"
#include "shardd/engine_key.h"
#include "shardd/handover.h"

/* Bytes of values that a turn answers with: copying more would keep heartbeats waiting. The rest
 * asks again in the next turn. */
#define TURN_VALUES (16 * MIB)

/* The gets of one turn of a replica, waiting for one ReadIndex. */
struct read_batch {
    struct group_read read;
    struct replica *replica;
    struct list link; /* in read_path.active, or the chain of spare ones by next_free */
    struct list requests;
    struct read_batch *next_free;
};

/* A get that needs I/O, on an offload thread. */
struct read_work {
    struct io_work work;
    struct replica *replica;
    struct request *request;
    uint32_t range; /* epoch of the shard's range when it began */
    enum err result;
    struct engine_value value;
};

void read_path_init(struct read_path *p)
{
    *p = (struct read_path){0};
    list_init(&p->gathered);
    list_init(&p->active);
}

void read_path_add(struct replica *r, struct request *request)
{
    if (list_empty(&r->reads.gathered))
        replica_mark_dirty(r);
    list_push_back(&r->reads.gathered, &request->link);
    r->ops.reads++;
}

static void answer(struct request *request, enum err e, const struct engine_value *value)
{
    struct engine_value_head head;
    struct slice body;
    if (e == ERR_OK)
        e = engine_value_decode(value->data, &head, &body);
    if (e == ERR_OK)
        request_reply_value(request, body, head.version);
    else if (e == ERR_NOT_FOUND || e == ERR_NO_LEADER)
        request_reply_error(request, e, NULL, 0, NULL);
    else
        request_reply_error(request, ERR_INTERNAL, "the storage engine failed to read the key", 0,
                            NULL);
}

static void work_run(struct io_work *work)
{
    struct read_work *w = CONTAINER_OF(work, struct read_work, work);
    uint8_t raw[ENGINE_KEY_MAX];
    struct slice key =
        engine_key_data(raw, w->request->slot, slice_of(w->request->key, w->request->key_size));
    w->result = engine_get_stored(w->replica->db, key, &w->value);
}

static void serve(struct replica *r, struct request *request);

/* Slots may have left the shard while the key was read, and their data with them: what was found,
 * or was not, says nothing then. Of the range as it is now the read is good again: it was
 * confirmed. */
static bool has_moved(struct read_work *w)
{
    if (w->range == w->replica->shard.epoch.range || SHARD_BUG(READ_MOVED))
        return false;
    if (w->result == ERR_OK)
        engine_value_close(&w->value);
    if (w->replica->state == REPLICA_RUNNING)
        serve(w->replica, w->request);
    else
        answer(w->request, ERR_NO_LEADER, NULL);
    free(w);
    return true;
}

static void work_done(struct io_work *work)
{
    struct read_work *w = CONTAINER_OF(work, struct read_work, work);
    w->replica->reads.offloaded--;
    w->request->pinned = false;
    if (has_moved(w))
        return;
    /* Its disk, not the key: whatever it reads next may be lost as well. Another replica is to
     * lead.
     */
    if (w->result == ERR_CORRUPT || w->result == ERR_IO) {
        replica_set_broken(w->replica, w->result, "a key cannot be read");
        w->result = ERR_NO_LEADER;
    }
    answer(w->request, w->result, &w->value);
    if (w->result == ERR_OK)
        engine_value_close(&w->value);
    free(w);
}

static void offload(struct replica *r, struct request *request)
{
    if (r->reads.offloaded >= LIMIT_OFFLOAD_QUEUE) {
        request_reply_error(request, ERR_BUSY, NULL, 20, NULL);
        return;
    }
    struct read_work *w = mem_zalloc(sizeof *w);
    w->work.run = work_run;
    w->work.done = work_done;
    w->work.class = IO_WORK_URGENT;
    w->replica = r;
    w->request = request;
    w->range = r->shard.epoch.range;
    request->pinned = true;
    r->reads.offloaded++;
    io_offload(r->core->io, &w->work);
}

static void serve(struct replica *r, struct request *request)
{
    uint8_t raw[ENGINE_KEY_MAX];
    struct engine_value value;
    if (!shard_owns(&r->shard, request->slot)) {
        router_refuse(r, request);
        return;
    }
    struct slice key =
        engine_key_data(raw, request->slot, slice_of(request->key, request->key_size));
    enum err e = engine_get(r->db, key, true, &value);
    if (e == ERR_INCOMPLETE) {
        offload(r, request);
        return;
    }
    answer(request, e, &value);
    if (e == ERR_OK)
        engine_value_close(&value);
}

static void put_off(struct replica *r, struct list *requests)
{
    list_splice(&r->reads.gathered, requests);
    replica_mark_dirty(r);
    io_again(r->core->io);
}

static void on_read(struct group_read *read, enum err result)
{
    struct read_batch *b = CONTAINER_OF(read, struct read_batch, read);
    struct replica *r = b->replica;
    struct shard_desc desc;
    /* A replica that broke in this very turn lacks what the driver counts as applied. */
    if (result == ERR_OK && r->state != REPLICA_RUNNING)
        result = ERR_NO_LEADER;
    if (result != ERR_OK)
        replica_describe(r, &desc);
    list_remove(&b->link);
    if (result == ERR_NOT_LEADER && handover_holds(r))
        list_splice(&r->reads.gathered, &b->requests);
    while (!list_empty(&b->requests)) {
        struct request *request = CONTAINER_OF(list_pop_front(&b->requests), struct request, link);
        if (result == ERR_OK)
            serve(r, request);
        else
            request_reply_error(request, result, NULL, 0, &desc);
        if (result == ERR_OK && r->core->turn_values > TURN_VALUES && !list_empty(&b->requests))
            put_off(r, &b->requests);
    }
    b->next_free = r->reads.free;
    r->reads.free = b;
}

void read_path_flush(struct replica *r)
{
    struct read_path *p = &r->reads;
    if (list_empty(&p->gathered))
        return;
    struct read_batch *b = p->free;
    if (b)
        p->free = b->next_free;
    else
        b = mem_alloc(sizeof *b);
    *b = (struct read_batch){.replica = r};
    b->read.done = on_read;
    list_init(&b->requests);
    list_splice(&b->requests, &p->gathered);
    list_push_back(&p->active, &b->link);
    group_read(r->group, &b->read);
}

void read_path_fail(struct read_path *p, enum err why)
{
    while (!list_empty(&p->active)) {
        struct read_batch *b = CONTAINER_OF(list_first(&p->active), struct read_batch, link);
        group_read_cancel(&b->read);
        on_read(&b->read, why);
    }
    while (!list_empty(&p->gathered))
        request_reply_error(CONTAINER_OF(list_pop_front(&p->gathered), struct request, link), why,
                            NULL, 0, NULL);
}

void read_path_close(struct read_path *p, enum err why)
{
    CHECK(p->offloaded == 0);
    read_path_fail(p, why);
    while (p->free) {
        struct read_batch *b = p->free;
        p->free = b->next_free;
        free(b);
    }
}
