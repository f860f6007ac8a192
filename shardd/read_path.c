#include "shardd/read_path.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "shardd/core.h"
#include "shardd/handover.h"
#include "shardd/read_many.h"

#define RETRY_NO_LEADER_MS 10u
#define RETRY_CLOCK_MS 10u

/* Reads of one turn and level of a replica, waiting for one confirmation. */
struct read_batch {
    struct group_read read;
    struct replica *replica;
    struct list link; /* in read_path.active, or the chain of spare ones by next_free */
    struct list requests;
    bool weak;
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
    list_init(&p->weak);
    list_init(&p->clock);
    list_init(&p->active);
}

void read_path_add(struct replica *r, struct request *request)
{
    bool weak = request->level != KV_LEVEL_LINEARIZABLE;
    replica_mark_dirty(r);
    list_push_back(weak ? &r->reads.weak : &r->reads.gathered, &request->link);
    r->ops.reads += request->n ? request->n : 1;
}

static struct request *pop(struct list *l)
{
    return CONTAINER_OF(list_pop_front(l), struct request, link);
}

/* ---- expiry ---- */

enum read_look read_path_look(const struct replica *r, const struct request *request,
                              struct slice raw, struct msg_kv_result *out)
{
    struct engine_value_head head;
    struct slice body;
    if (engine_value_decode(raw, &head, &body) != ERR_OK)
        return READ_DAMAGED;
    *out = (struct msg_kv_result){.value = body, .version = head.version};
    if (!head.has_expiry)
        return READ_VALUE;
    if (engine_value_expired(&head, r->shard.time_ms))
        return READ_HIDDEN;
    uint64_t now = replica_time_ms(r);
    out->has_ttl = true;
    out->ttl_ms = head.expiry_ms > now ? head.expiry_ms - now : 0;
    if (head.expiry_ms > now)
        return READ_VALUE;
    if (replica_is_leader(r))
        return READ_CLOCK;
    /* "any" promises nothing that only a leader could tell. */
    bool known = r->group && group_leader(r->group) != NULL;
    return request->level == KV_LEVEL_ANY && !known ? READ_VALUE : READ_LEADER;
}

void read_path_wait_clock(struct replica *r, struct request *request)
{
    list_push_back(&r->reads.clock, &request->link);
    replica_mark_dirty(r);
    io_again(r->core->io); /* this turn's flush may be over */
}

static void answer_clock(struct replica *r, enum err why)
{
    while (!list_empty(&r->reads.clock)) {
        if (why == ERR_BUSY)
            request_reply_error(pop(&r->reads.clock), ERR_BUSY, NULL, RETRY_CLOCK_MS, NULL);
        else
            read_path_redirect(r, pop(&r->reads.clock));
    }
    r->reads.clock_index = 0;
}

static void flush_clock(struct replica *r)
{
    struct read_path *p = &r->reads;
    uint64_t term;
    if (list_empty(&p->clock) || p->clock_index)
        return;
    enum err e = replica_propose_clock(r, &p->clock_index, &term);
    if (e != ERR_OK)
        answer_clock(r, e);
}

void read_path_applied(struct replica *r)
{
    struct read_path *p = &r->reads;
    struct list again;
    if (!p->clock_index || r->applied.index < p->clock_index)
        return;
    p->clock_index = 0;
    list_init(&again);
    list_splice(&again, &p->clock);
    while (!list_empty(&again))
        read_path_serve(r, pop(&again));
}

void read_path_role_changed(struct replica *r)
{
    if (!replica_is_leader(r))
        answer_clock(r, ERR_NOT_LEADER);
}

/* ---- answers ---- */

uint64_t read_path_at(const struct request *request, uint64_t version)
{
    if (request->level == KV_LEVEL_LINEARIZABLE)
        return 0;
    return request->at > version ? request->at : version;
}

void read_path_redirect(const struct replica *r, struct request *request)
{
    struct shard_desc desc;
    replica_describe(r, &desc);
    if (r->state == REPLICA_BROKEN)
        desc.leader = 0;
    if (desc.leader != 0 && desc.leader != r->shard.replica)
        request_reply_error(request, ERR_NOT_LEADER, NULL, 0, &desc);
    else
        request_reply_error(request, ERR_NO_LEADER, NULL, RETRY_NO_LEADER_MS, &desc);
}

static void answer_value(struct replica *r, struct request *request, struct slice raw)
{
    struct msg_kv_result result;
    switch (read_path_look(r, request, raw, &result)) {
    case READ_VALUE:
        result.at = read_path_at(request, result.version);
        request_reply_value(request, &result);
        return;
    case READ_HIDDEN:
        request_reply_absent(request, request->at);
        return;
    case READ_CLOCK:
        read_path_wait_clock(r, request);
        return;
    case READ_LEADER:
        read_path_redirect(r, request);
        return;
    default:
        request_reply_error(request, ERR_INTERNAL, "the storage engine failed to read the key", 0,
                            NULL);
    }
}

static void answer(struct replica *r, struct request *request, enum err e,
                   const struct engine_value *value)
{
    if (e == ERR_OK)
        answer_value(r, request, value->data);
    else if (e == ERR_NOT_FOUND)
        request_reply_absent(request, request->at);
    else if (e == ERR_NO_LEADER)
        request_reply_error(request, e, NULL, 0, NULL);
    else
        request_reply_error(request, ERR_INTERNAL, "the storage engine failed to read the key", 0,
                            NULL);
}

/* ---- reads that need I/O ---- */

static void work_run(struct io_work *work)
{
    struct read_work *w = CONTAINER_OF(work, struct read_work, work);
    uint8_t raw[ENGINE_KEY_MAX];
    struct slice key =
        engine_key_data(raw, w->request->slot, slice_of(w->request->key, w->request->key_size));
    w->result = engine_get_stored(w->replica->db, key, &w->value);
}

/* Slots may have left the shard while the key was read, and their data with them: what was found,
 * or was not, says nothing then. Of the range as it is now the read is good again: it was
 * confirmed. */
static bool has_moved(struct read_work *w)
{
    if (w->range == w->replica->shard.epoch.range || SHARD_BUG(READ_MOVED))
        return false;
    if (w->result == ERR_OK)
        engine_value_close(&w->value);
    read_path_serve(w->replica, w->request);
    free(w);
    return true;
}

static void work_done(struct io_work *work)
{
    struct read_work *w = CONTAINER_OF(work, struct read_work, work);
    struct replica *r = w->replica;
    r->reads.offloaded--;
    w->request->pinned = false;
    if (has_moved(w))
        return;
    /* Its disk, not the key: whatever it reads next may be lost as well. Another replica is to
     * lead.
     */
    if (w->result == ERR_CORRUPT || w->result == ERR_IO) {
        replica_set_broken(r, w->result, "a key cannot be read");
        w->result = ERR_NO_LEADER;
    }
    answer(r, w->request, w->result, &w->value);
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
    w->replica = r;
    w->request = request;
    w->range = r->shard.epoch.range;
    request->pinned = true;
    r->reads.offloaded++;
    io_offload(r->core->io, &w->work);
}

void read_path_serve(struct replica *r, struct request *request)
{
    uint8_t raw[ENGINE_KEY_MAX];
    struct engine_value value;
    request->at = r->shard.version;
    /* A replica that broke in this very turn lacks what counts as applied. */
    if (r->state != REPLICA_RUNNING) {
        answer(r, request, ERR_NO_LEADER, NULL);
        return;
    }
    if (!shard_owns(&r->shard, request->slot)) {
        router_refuse(r, request);
        return;
    }
    if (request->method == KV_METHOD_MGET) {
        read_many_serve(r, request);
        return;
    }
    struct slice key =
        engine_key_data(raw, request->slot, slice_of(request->key, request->key_size));
    enum err e = engine_get(r->db, key, true, &value);
    if (e == ERR_INCOMPLETE) {
        offload(r, request);
        return;
    }
    answer(r, request, e, &value);
    if (e == ERR_OK)
        engine_value_close(&value);
}

/* ---- batches ---- */

static void answer_failed(struct read_batch *b, enum err result)
{
    struct replica *r = b->replica;
    struct shard_desc desc;
    replica_describe(r, &desc);
    while (!list_empty(&b->requests)) {
        if (b->weak && result == ERR_NOT_LEADER)
            read_path_redirect(r, pop(&b->requests));
        else
            request_reply_error(pop(&b->requests), result, NULL, 0, &desc);
    }
}

static void on_read(struct group_read *read, enum err result)
{
    struct read_batch *b = CONTAINER_OF(read, struct read_batch, read);
    struct replica *r = b->replica;
    /* A replica that broke in this very turn lacks what the driver counts as applied. */
    if (result == ERR_OK && r->state != REPLICA_RUNNING)
        result = ERR_NO_LEADER;
    list_remove(&b->link);
    if (result == ERR_NOT_LEADER && !b->weak && handover_holds(r))
        list_splice(&r->reads.gathered, &b->requests);
    while (result == ERR_OK && !list_empty(&b->requests))
        read_path_serve(r, pop(&b->requests));
    if (!list_empty(&b->requests))
        answer_failed(b, result);
    b->next_free = r->reads.free;
    r->reads.free = b;
}

/* One confirmation for all of `requests`. */
static void confirm(struct replica *r, struct list *requests, bool weak, uint64_t max_age)
{
    struct read_path *p = &r->reads;
    if (list_empty(requests))
        return;
    struct read_batch *b = p->free;
    if (b)
        p->free = b->next_free;
    else
        b = mem_alloc(sizeof *b);
    *b = (struct read_batch){.replica = r, .weak = weak};
    b->read.done = on_read;
    list_init(&b->requests);
    list_splice(&b->requests, requests);
    list_push_back(&p->active, &b->link);
    if (weak)
        group_follower_read(r->group, &b->read, max_age);
    else
        group_read(r->group, &b->read);
}

static uint64_t age_of(const struct request *request)
{
    uint64_t most = UINT64_MAX / NS_PER_MS;
    return (request->staleness_ms < most ? request->staleness_ms : most) * NS_PER_MS;
}

static bool is_ready(struct replica *r, const struct request *request)
{
    switch (request->level) {
    case KV_LEVEL_SESSION:
        return r->shard.version >= request->token || SHARD_BUG(FOLLOWER_LOCAL);
    case KV_LEVEL_BOUNDED:
        return group_fresh(r->group, age_of(request)) || SHARD_BUG(FOLLOWER_LOCAL);
    default:
        return true;
    }
}

static void flush_weak(struct replica *r)
{
    struct list session, bounded;
    uint64_t least = UINT64_MAX;
    list_init(&session);
    list_init(&bounded);
    while (!list_empty(&r->reads.weak)) {
        struct request *request = pop(&r->reads.weak);
        if (is_ready(r, request)) {
            read_path_serve(r, request);
        } else if (request->level == KV_LEVEL_SESSION) {
            list_push_back(&session, &request->link);
        } else {
            list_push_back(&bounded, &request->link);
            least = age_of(request) < least ? age_of(request) : least;
        }
    }
    confirm(r, &session, true, 0);
    confirm(r, &bounded, true, least);
}

void read_path_flush(struct replica *r, bool held)
{
    flush_weak(r);
    if (!held)
        confirm(r, &r->reads.gathered, false, 0);
    flush_clock(r);
}

void read_path_fail(struct read_path *p, enum err why)
{
    struct list *const waiting[] = {&p->gathered, &p->weak, &p->clock};
    while (!list_empty(&p->active)) {
        struct read_batch *b = CONTAINER_OF(list_first(&p->active), struct read_batch, link);
        group_read_cancel(&b->read);
        on_read(&b->read, why);
    }
    for (unsigned i = 0; i < 3; i++)
        while (!list_empty(waiting[i]))
            request_reply_error(pop(waiting[i]), why, NULL, 0, NULL);
    p->clock_index = 0;
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
