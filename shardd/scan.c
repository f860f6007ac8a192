#include "shardd/scan.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/wire/msg_scan.h"
#include "shardd/core.h"
#include "shardd/engine_key.h"
#include "shardd/merge.h"
#include "shardd/session.h"

#define PAGE_MAX (1 * MIB) /* bytes of keys and values, unless one pair alone has more */
#define PAGE_VISITS 16384u /* pairs looked at, expired ones too */
#define RETRY_BUSY_MS 5u
#define RETRY_NO_LEADER_MS 10u

/* One page, from its request to its answer. */
struct scan {
    struct group_read read;
    struct io_work work;
    struct replica *replica;
    uint64_t session;
    uint32_t msgid;
    uint16_t first_slot, last_slot; /* last_slot: of the request */
    uint16_t end_slot;              /* where it ends here: the shard's last or the request's */
    uint64_t max_bytes, group, position;
    struct buf cursor; /* data key at which it begins */

    uint32_t range; /* epoch of the shard's range when it began */
    uint64_t time_ms;
    bool flush;
    enum err result;

    struct buf items, after;
    uint32_t n, visited;
    uint64_t bytes;
    bool full;
    uint16_t next_slot;
};

static void scan_free(struct scan *p)
{
    p->replica->scan.under_way = NULL;
    buf_close(&p->cursor);
    buf_close(&p->items);
    buf_close(&p->after);
    free(p);
}

/* Its session may have ended, or its connection. */
static struct session *begin_answer(struct scan *p)
{
    struct session *s = map_find(&p->replica->core->session_by_id, p->session);
    if (s)
        session_answered(s);
    return s && s->conn ? s : NULL;
}

static void fail(struct scan *p, enum err e, uint64_t retry_ms)
{
    struct session *s = begin_answer(p);
    struct shard_desc desc;
    if (s) {
        router_owner(p->replica, p->first_slot, &desc);
        request_refuse(p->replica->core, s, 0, 0, p->msgid, e, NULL, retry_ms, &desc);
    }
    scan_free(p);
}

static void answer(struct scan *p)
{
    struct session *s = begin_answer(p);
    struct msg_scan_reply reply = {.n = p->n,
                                   .items = buf_slice(&p->items),
                                   .more = p->full || p->end_slot < p->last_slot,
                                   .next_slot = p->full ? p->next_slot : p->end_slot,
                                   .has_after = p->full,
                                   .after = buf_slice(&p->after),
                                   .group = p->group,
                                   .position = p->position};
    if (!p->full && reply.more)
        reply.next_slot++;
    if (s && conn_unsent(s->conn) > LIMIT_CONN_OUT)
        request_refuse(p->replica->core, s, 0, 0, p->msgid, ERR_BUSY, NULL, RETRY_BUSY_MS, NULL);
    else if (s)
        msg_scan_put_reply(conn_out(s->conn), p->msgid, &reply);
    scan_free(p);
}

/* ---- reading: on an offload thread ---- */

static bool gather(void *arg, struct slice raw_key, struct slice raw_value)
{
    struct scan *p = arg;
    struct msg_scan_item item;
    struct engine_value_head head;
    uint16_t slot;
    if (p->n > 0 && p->bytes + raw_key.n + raw_value.n > p->max_bytes)
        return false; /* full: `after` names the last one that is in */
    p->result = engine_key_split(raw_key, &slot, &item.key);
    if (p->result == ERR_OK)
        p->result = engine_value_decode(raw_value, &head, &item.value);
    if (p->result != ERR_OK)
        return false;
    item.version = head.version;
    item.expiry_ms = head.has_expiry ? head.expiry_ms : 0;
    p->next_slot = slot;
    buf_clear(&p->after);
    buf_append(&p->after, item.key.p, item.key.n);
    if (!head.has_expiry || head.expiry_ms > p->time_ms) {
        msg_scan_put_item(&p->items, &item);
        p->bytes += raw_key.n + raw_value.n;
        p->n++;
    }
    return ++p->visited < PAGE_VISITS;
}

/* engine_scan() does not say whether it came to the end: the last call does. */
static bool gather_all(void *arg, struct slice key, struct slice value)
{
    struct scan *p = arg;
    p->full = !gather(p, key, value);
    return !p->full;
}

static void work_run(struct io_work *work)
{
    struct scan *p = CONTAINER_OF(work, struct scan, work);
    struct engine_db *db = p->replica->db;
    struct engine_key_range range;
    engine_key_slots(p->first_slot, p->end_slot, &range);
    enum err e = p->flush ? engine_flush_frozen(db) : ERR_OK;
    if (e == ERR_OK)
        e = engine_scan(db, buf_slice(&p->cursor), engine_key_to(&range), gather_all, p);
    if (e != ERR_OK)
        p->result = e;
}

static void work_done(struct io_work *work)
{
    struct scan *p = CONTAINER_OF(work, struct scan, work);
    struct replica *r = p->replica;
    r->busy_offload = false;
    r->core->offload_jobs--;
    r->touched = true;
    if (p->result != ERR_OK) {
        replica_set_broken(r, p->result, "a scan cannot read what is stored");
        fail(p, ERR_NO_LEADER, RETRY_NO_LEADER_MS);
    } else if (r->state != REPLICA_RUNNING || p->range != r->shard.epoch.range) {
        /* Slots may have left the shard while it was read, and their data with them. */
        fail(p, ERR_NO_LEADER, RETRY_NO_LEADER_MS);
    } else {
        if (p->flush) {
            r->scan.stored = p->position;
            r->scan.life = r->lives;
        }
        answer(p);
    }
    split_continue(r); /* it may have waited for the engine */
}

/* ---- asking ---- */

static bool engine_is_free(const struct replica *r)
{
    return !r->busy_offload && r->checkpoints == 0 && !r->install && !r->doomed;
}

static void on_read(struct group_read *read, enum err result)
{
    struct scan *p = CONTAINER_OF(read, struct scan, read);
    struct replica *r = p->replica;
    const struct shard *shard = &r->shard;
    if (result == ERR_OK && (r->state != REPLICA_RUNNING || r->core->stage > 0))
        result = ERR_NO_LEADER;
    if (result == ERR_OK && !shard_owns(shard, p->first_slot))
        result = shard->phase == SHARD_PHASE_FROZEN ? ERR_BUSY : ERR_WRONG_SHARD;
    if (result == ERR_OK && !engine_is_free(r))
        result = ERR_BUSY;
    p->flush = p->group != shard->group || p->position == 0 || p->position > r->scan.stored ||
               r->scan.life != r->lives;
    if (result == ERR_OK && p->flush && r->core->no_space)
        result = ERR_NO_SPACE; /* a flush that has no room would break the replica */
    if (result != ERR_OK) {
        fail(p, result, RETRY_BUSY_MS);
        return;
    }
    if (p->flush) {
        p->group = shard->group;
        p->position = shard->version;
        replica_freeze(r);
    }
    p->end_slot = p->last_slot < shard->last_slot ? p->last_slot : shard->last_slot;
    p->range = shard->epoch.range;
    p->time_ms = shard->time_ms;
    p->work = (struct io_work){.run = work_run, .done = work_done};
    r->busy_offload = true;
    r->core->offload_jobs++;
    io_offload(r->core->io, &p->work);
}

static struct scan *scan_create(struct replica *r, const struct session *s, uint32_t msgid,
                                const struct msg_scan_request *q)
{
    uint8_t raw[ENGINE_KEY_MAX];
    struct scan *p = mem_zalloc(sizeof *p);
    p->replica = r;
    p->session = s->id;
    p->msgid = msgid;
    p->first_slot = q->first_slot;
    p->last_slot = q->last_slot;
    p->max_bytes = q->max_bytes && q->max_bytes < PAGE_MAX ? q->max_bytes : PAGE_MAX;
    p->group = q->group;
    p->position = q->position;
    struct slice from = engine_key_data(raw, q->first_slot, q->after);
    buf_append(&p->cursor, from.p, from.n);
    if (q->has_after)
        buf_u8(&p->cursor, 0); /* the next possible key */
    p->read.done = on_read;
    r->scan.under_way = p;
    return p;
}

/* Who has the slot, if not a leader here: as kv requests are told. */
static bool refused(struct session *s, uint32_t msgid, uint16_t slot)
{
    struct core *c = s->core;
    struct replica *r = c->router.slot[slot];
    const struct shard_desc *known = shard_map_find(&c->map, slot);
    struct shard_desc desc;
    uint64_t retry_ms = 0;
    enum err e = ERR_OK;
    if (r) {
        replica_describe(r, &desc);
        known = &desc;
    }
    if (c->draining) {
        e = ERR_SHUTTING_DOWN;
    } else if (!r) {
        e = ERR_WRONG_SHARD;
    } else if (r->shard.phase == SHARD_PHASE_FROZEN) {
        e = merge_frozen_answer(r, slot, &desc, &retry_ms);
    } else if (!replica_is_leader(r)) {
        e = desc.leader && desc.leader != r->shard.replica ? ERR_NOT_LEADER : ERR_NO_LEADER;
        retry_ms = e == ERR_NO_LEADER ? RETRY_NO_LEADER_MS : 0;
    } else if (r->scan.under_way) {
        e = ERR_BUSY;
        retry_ms = RETRY_BUSY_MS;
    }
    if (e != ERR_OK)
        request_refuse(c, s, 0, 0, msgid, e, NULL, retry_ms, known);
    return e != ERR_OK;
}

void scan_handle(struct session *s, const struct rpc_message *m)
{
    struct msg_scan_request q;
    if (msg_scan_decode(m->params, &q) != ERR_OK) {
        rpc_put_error_simple(conn_out(s->conn), m->msgid, ERR_BAD_REQUEST,
                             "admin.scan takes [first slot, last slot, key or nil, {options}?]");
        return;
    }
    if (refused(s, m->msgid, q.first_slot))
        return;
    struct replica *r = s->core->router.slot[q.first_slot];
    s->n_requests++; /* session_answered() when it is */
    group_read(r->group, &scan_create(r, s, m->msgid, &q)->read);
}
