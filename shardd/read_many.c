#include "shardd/read_many.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/meta/slot.h"
#include "shardd/core.h"
#include "shardd/read_path.h"

struct many_item {
    enum err err; /* ERR_INCOMPLETE: to be read from the disk */
    size_t at, n; /* ERR_OK: the raw value in `values` */
};

struct read_many {
    struct io_work work;
    struct replica *replica;
    struct request *request;
    uint32_t range; /* epoch of the shard's range when it began */
    struct buf values;
    uint32_t n;
    struct many_item item[];
};

static void many_free(struct read_many *m)
{
    buf_close(&m->values);
    free(m);
}

static struct mp_reader keys_of(const struct request *request)
{
    return mp_reader_of(slice_of(request->key, request->key_size));
}

/* Takes over what a get has found. Not more than fits an answer; but a first value always does. */
static void take(struct read_many *m, struct many_item *item, enum err e,
                 struct engine_value *value)
{
    item->err = e;
    if (e != ERR_OK)
        return;
    if (m->values.n > 0 && m->values.n + value->data.n > LIMIT_MGET_ANSWER) {
        item->err = ERR_TOO_LARGE;
    } else {
        item->at = m->values.n;
        item->n = value->data.n;
        buf_append(&m->values, value->data.p, value->data.n);
    }
    engine_value_close(value);
}

/* From memory. True if any has to be read from the disk. */
static bool read_cached(struct read_many *m)
{
    struct mp_reader keys = keys_of(m->request);
    bool missing = false;
    for (uint32_t i = 0; i < m->n; i++) {
        uint8_t raw[ENGINE_KEY_MAX];
        struct engine_value value;
        struct slice key = msg_kv_next_key(&keys);
        uint16_t slot = slot_of_key(key);
        if (!shard_owns(&m->replica->shard, slot)) {
            m->item[i].err = ERR_WRONG_SHARD;
            continue;
        }
        enum err e = engine_get(m->replica->db, engine_key_data(raw, slot, key), true, &value);
        take(m, &m->item[i], e, &value);
        missing = missing || e == ERR_INCOMPLETE;
    }
    return missing;
}

static void work_run(struct io_work *work)
{
    struct read_many *m = CONTAINER_OF(work, struct read_many, work);
    struct mp_reader keys = keys_of(m->request);
    for (uint32_t i = 0; i < m->n; i++) {
        uint8_t raw[ENGINE_KEY_MAX];
        struct engine_value value;
        struct slice key = msg_kv_next_key(&keys);
        if (m->item[i].err != ERR_INCOMPLETE)
            continue;
        struct slice stored = engine_key_data(raw, slot_of_key(key), key);
        take(m, &m->item[i], engine_get_stored(m->replica->db, stored, &value), &value);
    }
}

/* One item as it is to be answered; what is not READ_VALUE or READ_HIDDEN concerns them all. */
static enum read_look look(const struct read_many *m, uint32_t i, struct msg_kv_item *out)
{
    const struct many_item *item = &m->item[i];
    *out = (struct msg_kv_item){.err = item->err};
    if (item->err != ERR_OK)
        return item->err == ERR_IO || item->err == ERR_CORRUPT ? READ_DAMAGED : READ_VALUE;
    struct slice raw = slice_of(m->values.p + item->at, item->n);
    enum read_look l = read_path_look(m->replica, m->request, raw, &out->result);
    if (l == READ_HIDDEN)
        *out = (struct msg_kv_item){.err = ERR_NOT_FOUND};
    return l;
}

static void answer(struct read_many *m)
{
    struct replica *r = m->replica;
    struct request *request = m->request;
    struct msg_kv_item *items = mem_alloc(m->n * sizeof *items);
    enum read_look worst = READ_VALUE;
    uint64_t at = request->at;
    for (uint32_t i = 0; i < m->n; i++) {
        enum read_look l = look(m, i, &items[i]);
        worst = l > worst ? l : worst;
        at = items[i].result.version > at ? items[i].result.version : at;
    }
    if (worst == READ_CLOCK)
        read_path_wait_clock(r, request);
    else if (worst == READ_LEADER)
        read_path_redirect(r, request);
    else if (worst == READ_DAMAGED)
        request_reply_error(request, ERR_INTERNAL, "the storage engine failed to read a key", 0,
                            NULL);
    else
        request_reply_values(request, items, m->n, at);
    free(items);
}

/* As for a single key (read_path.c): its disk fails, another replica is to lead. */
static bool has_broken(struct read_many *m)
{
    for (uint32_t i = 0; i < m->n; i++)
        if (m->item[i].err == ERR_CORRUPT || m->item[i].err == ERR_IO) {
            replica_set_broken(m->replica, m->item[i].err, "a key cannot be read");
            return true;
        }
    return false;
}

static void work_done(struct io_work *work)
{
    struct read_many *m = CONTAINER_OF(work, struct read_many, work);
    struct replica *r = m->replica;
    bool moved = m->range != r->shard.epoch.range && !SHARD_BUG(READ_MOVED);
    r->reads.offloaded--;
    m->request->pinned = false;
    if (!moved && has_broken(m))
        request_reply_error(m->request, ERR_NO_LEADER, NULL, 0, NULL);
    else if (moved) /* slots may have left, and their data with them: it is read again */
        read_path_serve(r, m->request);
    else
        answer(m);
    many_free(m);
}

void read_many_serve(struct replica *r, struct request *request)
{
    struct read_many *m = mem_zalloc(sizeof *m + request->n * sizeof m->item[0]);
    m->replica = r;
    m->request = request;
    m->range = r->shard.epoch.range;
    m->n = request->n;
    if (!read_cached(m)) {
        answer(m);
        many_free(m);
    } else if (r->reads.offloaded >= LIMIT_OFFLOAD_QUEUE) {
        request_reply_error(request, ERR_BUSY, NULL, 20, NULL);
        many_free(m);
    } else {
        m->work.run = work_run;
        m->work.done = work_done;
        request->pinned = true;
        r->reads.offloaded++;
        io_offload(r->core->io, &m->work);
    }
}
