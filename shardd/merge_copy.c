#include "shardd/merge_copy.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/raft/snapshot_stream.h"
#include "shardd/core.h"

#define MARK_FORMAT 1u
#define CHUNK_DEFAULT (256 * KIB)
#define SHORT_RUN 4u /* chunks: a run of FOLLOW that has caught up */
#define RUNS_MAX 16u /* that will not get any shorter */
#define MEMTABLE_ENOUGH (32 * MIB)
#define MAINTAIN_EVERY 64u /* chunks: the source's log is cut in between */

#define REST_LOAD (1 * NS_PER_MS)     /* after a chunk, while clients wait */
#define REST_FULL (20 * NS_PER_MS)    /* memory */
#define REST_BUSY (5 * NS_PER_MS)     /* somebody else is at an engine */
#define REST_RUN (200 * NS_PER_MS)    /* between runs once caught up */
#define REST_ABSENT (100 * NS_PER_MS) /* the source is not there, or not as far */

typedef unsigned long long ull;

/* ---- the mark ---- */

void merge_mark_encode(const struct merge_mark *m, struct buf *out)
{
    buf_u8(out, MARK_FORMAT);
    buf_u64(out, m->op);
    buf_u8(out, m->stage);
    buf_u64(out, m->version);
    buf_u64(out, m->frozen_index);
    buf_u32(out, (uint32_t)m->cursor.n);
    buf_append(out, m->cursor.p, m->cursor.n);
}

enum err merge_mark_decode(struct slice raw, struct merge_mark *out)
{
    struct cursor c = cursor_of(raw);
    uint8_t format = cursor_u8(&c);
    if (!c.bad && format != MARK_FORMAT)
        return ERR_FORMAT;
    struct merge_mark m = {.op = cursor_u64(&c)};
    m.stage = cursor_u8(&c);
    m.version = cursor_u64(&c);
    m.frozen_index = cursor_u64(&c);
    uint32_t n = cursor_u32(&c);
    struct slice cursor = cursor_bytes(&c, n);
    if (c.bad || c.left.n > 0 || m.stage < MERGE_BULK || m.stage > MERGE_COMPLETE)
        return ERR_CORRUPT;
    buf_append(&m.cursor, cursor.p, cursor.n);
    *out = m;
    return ERR_OK;
}

void merge_mark_close(struct merge_mark *m)
{
    buf_close(&m->cursor);
}

enum err merge_mark_load(struct engine_db *db, struct merge_mark *out)
{
    uint8_t raw[16];
    struct engine_value v;
    enum err e = engine_get(db, engine_key_meta(raw, ENGINE_META_MERGE), false, &v);
    if (e != ERR_OK)
        return e;
    e = merge_mark_decode(v.data, out);
    engine_value_close(&v);
    return e;
}

static void put_mark(struct engine_batch *b, const struct merge_mark *m)
{
    uint8_t raw[16];
    struct buf value = {0};
    merge_mark_encode(m, &value);
    engine_batch_put(b, engine_key_meta(raw, ENGINE_META_MERGE), buf_slice(&value));
    buf_close(&value);
}

/* ---- a chunk: there and back ---- */

struct merge_job {
    struct io_work work;
    struct node *node;
    unsigned source_core, target_core;
    uint64_t source, target, target_replica, serial, op; /* who and for what */
    bool follow, maintain;
    struct engine_key_range range, sessions;
    struct buf cursor;    /* in: where to begin; out: where to go on */
    uint64_t version;     /* the same of FOLLOW */
    bool flush;           /* in: it begins a run; out: the source was flushed */
    uint32_t life;        /* in: of the source that was flushed last; out: of this one */
    struct replica *from; /* busy_offload keeps it */
    enum err result;
    uint64_t frozen_index; /* of the source when it was asked, if it was flushed then */
    bool end;
    uint64_t chunk;
    struct engine_batch *batch;
    uint64_t bytes;
};

static uint64_t chunk_size(const struct node *node)
{
    return node->options.merge_chunk ? node->options.merge_chunk : CHUNK_DEFAULT;
}

static void job_free(struct merge_job *j)
{
    engine_batch_destroy(j->batch);
    buf_close(&j->cursor);
    free(j);
}

static void job_back(struct core *core, void *arg);

static void job_return(struct merge_job *j)
{
    core_post(j->node->core[j->target_core], job_back, j);
}

static bool gather_bulk(void *arg, struct slice key, struct slice value)
{
    struct merge_job *j = arg;
    engine_batch_put(j->batch, key, value);
    j->bytes += key.n + value.n;
    j->end = j->bytes < j->chunk;
    if (!j->end) {
        buf_clear(&j->cursor);
        buf_append(&j->cursor, key.p, key.n);
        buf_u8(&j->cursor, 0); /* the next possible key */
    }
    return j->end;
}

static bool gather_change(void *arg, struct slice key, struct slice value)
{
    struct merge_job *j = arg;
    struct slice data;
    struct engine_value v;
    uint64_t version;
    (void)value;
    j->result = engine_key_change_split(key, &version, &data);
    if (j->result != ERR_OK)
        return false;
    enum err e = engine_get_stored(j->from->db, data, &v);
    if (e == ERR_OK) {
        engine_batch_put(j->batch, data, v.data);
        j->bytes += v.data.n;
        engine_value_close(&v);
    } else if (e == ERR_NOT_FOUND) {
        engine_batch_delete(j->batch, data);
    } else {
        j->result = e;
        return false;
    }
    j->bytes += key.n;
    j->version = version + 1;
    j->end = j->bytes < j->chunk;
    return j->end;
}

static bool gather_session(void *arg, struct slice key, struct slice value)
{
    struct merge_job *j = arg;
    engine_batch_put(j->batch, key, value);
    return true;
}

static enum err gather_sessions(struct merge_job *j)
{
    struct slice from = engine_key_from(&j->sessions), to = engine_key_to(&j->sessions);
    engine_batch_delete_range(j->batch, from, to);
    return engine_scan(j->from->db, from, to, gather_session, j);
}

static void job_run(struct io_work *work)
{
    struct merge_job *j = CONTAINER_OF(work, struct merge_job, work);
    struct engine_db *db = j->from->db;
    uint8_t raw[ENGINE_CHANGE_PREFIX];
    enum err e = j->flush ? engine_flush_frozen(db) : ERR_OK;
    j->end = true;
    j->result = ERR_OK;
    if (e == ERR_OK && j->flush && j->frozen_index > 0)
        e = gather_sessions(j);
    if (e == ERR_OK && j->follow)
        e = engine_scan(db, engine_key_change(raw, j->version, slice_of(NULL, 0)),
                        engine_key_changes_end(), gather_change, j);
    else if (e == ERR_OK)
        e = engine_scan(db, buf_slice(&j->cursor), engine_key_to(&j->range), gather_bulk, j);
    if (e != ERR_OK)
        j->result = e;
}

static void job_done(struct io_work *work)
{
    struct merge_job *j = CONTAINER_OF(work, struct merge_job, work);
    struct replica *r = j->from;
    r->busy_offload = false;
    r->core->offload_jobs--;
    if (j->maintain)
        replica_maintain(r);
    job_return(j);
}

/* On the source's core. */
static void job_take(struct core *core, void *arg)
{
    struct merge_job *j = arg;
    struct replica *r = core_find_replica(core, j->source);
    bool ours = r && r->shard.merge == j->op && r->shard.merge_peer == j->target &&
                (r->shard.phase == SHARD_PHASE_SOURCE || r->shard.phase == SHARD_PHASE_FROZEN);
    if (!ours || r->doomed || core->stage > 0)
        j->result = ERR_NOT_FOUND;
    else if (r->state != REPLICA_RUNNING || r->busy_offload || r->checkpointing > 0 || r->install)
        j->result = ERR_BUSY;
    else
        j->result = ERR_OK;
    /* What this source had in memory in an earlier life may not be stored. */
    if (j->result == ERR_OK)
        j->flush = j->flush || j->life != r->lives;
    if (j->result == ERR_OK && j->flush && core->no_space)
        j->result = ERR_BUSY; /* a flush that has no room would break the replica */
    if (j->result != ERR_OK) {
        job_return(j);
        return;
    }
    if (j->flush)
        replica_freeze(r);
    j->life = r->lives;
    j->frozen_index = r->shard.frozen_index;
    j->from = r;
    j->work = (struct io_work){.run = job_run, .done = job_done};
    r->busy_offload = true;
    core->offload_jobs++;
    io_offload(core->io, &j->work);
}

/* ---- the target's side ---- */

static void rest(struct merge_copy *c, uint64_t ns)
{
    struct io *io = c->target->core->io;
    io_timer_set(io, &c->timer, io_now(io) + ns);
}

static bool may_run(const struct merge_copy *c)
{
    const struct replica *r = c->target;
    return r->state == REPLICA_RUNNING && !r->doomed && r->core->stage == 0 && !r->core->draining;
}

static void ask(struct merge_copy *c)
{
    struct replica *r = c->target;
    struct node *node = r->core->node;
    struct merge_job *j = mem_zalloc(sizeof *j);
    j->node = node;
    j->source_core = core_of_group(node, c->source);
    j->target_core = r->core->number;
    j->source = c->source;
    j->target = r->shard.group;
    j->target_replica = r->shard.replica;
    j->serial = c->serial;
    j->op = c->mark.op;
    j->follow = c->mark.stage == MERGE_FOLLOW;
    j->maintain = c->chunks % MAINTAIN_EVERY == MAINTAIN_EVERY - 1;
    j->range = c->range;
    j->sessions = c->sessions;
    j->version = c->mark.version;
    j->flush = c->begin_run;
    j->life = c->source_life;
    /* The core writes a chunk at one go: a small one while clients wait. */
    j->chunk = r->core->n_requests > 0 ? chunk_size(node) / 4 : chunk_size(node);
    j->batch = engine_batch_create();
    buf_append(&j->cursor, c->mark.cursor.p, c->mark.cursor.n);
    c->waiting = true;
    c->nudged = c->nudged && !c->begin_run; /* this run sees it */
    core_post(node->core[j->source_core], job_take, j);
}

static bool write(struct merge_copy *c, struct engine_batch *b)
{
    struct replica *r = c->target;
    put_mark(b, &c->mark);
    enum err e = engine_write(r->db, b);
    r->touched = true;
    if (e != ERR_OK)
        replica_set_broken(r, e, "the storage engine refused a chunk of a merge's source");
    return e == ERR_OK;
}

/* Leftovers of an earlier merge that was given up, perhaps on the replica that this database was
 * copied from, must not come to light. */
static bool clear_range(struct merge_copy *c)
{
    struct engine_batch *b = engine_batch_create();
    merge_copy_clear(c, b);
    bool ok = write(c, b);
    engine_batch_destroy(b);
    c->fresh = !ok;
    return ok;
}

struct flush_work {
    struct io_work work;
    struct replica *replica;
    uint64_t serial;
    enum err result;
};

static void flush_run(struct io_work *work)
{
    struct flush_work *w = CONTAINER_OF(work, struct flush_work, work);
    w->result = engine_flush_frozen(w->replica->db);
}

/* What has been copied is durable. */
static void settled(struct merge_copy *c)
{
    struct replica *r = c->target;
    bool complete = c->mark.stage == MERGE_COMPLETE;
    c->waiting = false;
    c->settling = false;
    if (complete)
        c->durable = true;
    else
        c->caught_up = true;
    log_info(complete ? "merge_copy_complete" : "merge_copy_caught_up",
             "core=%u group=%llu source=%llu op=%llu chunks=%llu bytes=%llu", r->core->number,
             (ull)r->shard.group, (ull)c->source, (ull)c->mark.op, (ull)c->chunks, (ull)c->bytes);
    /* A member that installs a snapshot from before would have to begin anew. (A node that stops
     * has none any more.) */
    if (complete && r->core->snapshots)
        snapshot_store_drop(r->core->snapshots, r->shard.group, NULL, NULL);
    if (!complete)
        rest(c, 0);
    core_changed(r->core);
}

static void flush_done(struct io_work *work)
{
    struct flush_work *w = CONTAINER_OF(work, struct flush_work, work);
    struct replica *r = w->replica;
    r->busy_offload = false;
    r->core->offload_jobs--;
    if (w->result != ERR_OK)
        replica_set_broken(r, w->result, "a merge's copy cannot be made durable");
    else if (r->copy && r->copy->serial == w->serial)
        settled(r->copy);
    free(w);
}

static void make_durable(struct merge_copy *c)
{
    struct replica *r = c->target;
    if (r->busy_offload || r->checkpointing > 0 || r->install || r->core->no_space) {
        rest(c, r->core->no_space ? REST_FULL : REST_BUSY);
        return;
    }
    replica_freeze(r);
    struct flush_work *w = mem_zalloc(sizeof *w);
    w->work = (struct io_work){.run = flush_run, .done = flush_done};
    w->replica = r;
    w->serial = c->serial;
    c->waiting = true;
    r->busy_offload = true;
    r->core->offload_jobs++;
    io_offload(r->core->io, &w->work);
}

static void on_timer(struct io_timer *t)
{
    struct merge_copy *c = CONTAINER_OF(t, struct merge_copy, timer);
    struct replica *r = c->target;
    if (c->waiting || c->durable)
        return;
    /* A child that is still to be made of this database may have these very slots. */
    if (!may_run(c) || split_pending(r)) {
        rest(c, REST_ABSENT);
        return;
    }
    if (c->mark.stage == MERGE_COMPLETE || c->settling) {
        make_durable(c);
        return;
    }
    uint64_t wait = snapshot_rate_wait(&r->core->fetch_rate, io_now(r->core->io));
    if (r->core->over_memory || r->core->no_space || r->stats.stalled ||
        r->stats.memtable_bytes > MEMTABLE_ENOUGH)
        rest(c, REST_FULL);
    else if (wait > 0 && c->mark.stage == MERGE_BULK)
        rest(c, wait);
    else if (!c->fresh || clear_range(c))
        ask(c);
}

/* A run of FOLLOW, or BULK, has come to its end. */
static void end_run(struct merge_copy *c)
{
    uint64_t few = SHORT_RUN * chunk_size(c->target->core->node);
    if (c->mark.stage == MERGE_BULK) {
        c->mark.stage = MERGE_FOLLOW;
        c->mark.version = 0;
        buf_clear(&c->mark.cursor);
    } else if (c->run_frozen != 0) {
        c->mark.stage = MERGE_COMPLETE;
        c->mark.frozen_index = c->run_frozen;
    } else if (!c->caught_up && (c->run_bytes < few || ++c->runs >= RUNS_MAX)) {
        c->settling = true;
    }
    c->begin_run = true;
    c->run_frozen = 0;
    c->run_bytes = 0;
}

static uint64_t rest_after(const struct merge_copy *c, bool ended)
{
    const struct core *core = c->target->core;
    if (c->caught_up && ended && !c->nudged && c->mark.stage == MERGE_FOLLOW)
        return REST_RUN;
    return core->n_requests > 0 && c->mark.stage == MERGE_BULK ? REST_LOAD : 0;
}

static void take_chunk(struct merge_copy *c, struct merge_job *j)
{
    struct replica *r = c->target;
    if (j->flush) {
        c->begin_run = false;
        c->source_life = j->life;
        c->run_frozen = j->frozen_index;
    }
    c->mark.version = j->version;
    buf_clear(&c->mark.cursor);
    buf_append(&c->mark.cursor, j->cursor.p, j->cursor.n);
    c->run_bytes += j->bytes;
    c->bytes += j->bytes;
    c->chunks++;
    if (c->mark.stage == MERGE_BULK)
        snapshot_rate_take(&r->core->fetch_rate, j->bytes);
    if (j->end)
        end_run(c);
    if (!write(c, j->batch))
        return;
    engine_db_stats(r->db, &r->stats);
    if (r->stats.full)
        replica_maintain(r);
    rest(c, rest_after(c, j->end));
}

/* On the target's core. */
static void job_back(struct core *core, void *arg)
{
    struct merge_job *j = arg;
    struct replica *r = core_find_replica(core, j->target);
    struct merge_copy *c = r && r->shard.replica == j->target_replica ? r->copy : NULL;
    if (c && c->serial == j->serial) {
        c->waiting = false;
        if (!may_run(c))
            rest(c, REST_ABSENT);
        else if (j->result == ERR_OK)
            take_chunk(c, j);
        else if (c->nudged)
            rest(c, 0);
        else
            rest(c, j->result == ERR_BUSY ? REST_BUSY : REST_ABSENT);
    }
    job_free(j);
}

/* ---- life ---- */

void merge_copy_create(struct replica *r)
{
    CHECK(r->shard.phase == SHARD_PHASE_TARGET && !r->copy);
    struct merge_copy *c = mem_zalloc(sizeof *c);
    c->target = r;
    c->source = r->shard.merge_peer;
    c->first_slot = r->shard.peer_first;
    c->last_slot = r->shard.peer_last;
    engine_key_slots(c->first_slot, c->last_slot, &c->range);
    engine_key_session_slots(c->first_slot, c->last_slot, &c->sessions);
    c->serial = ++r->copies;
    c->begin_run = true;
    enum err e = merge_mark_load(r->db, &c->mark);
    if (e != ERR_OK || c->mark.op != r->shard.merge) {
        merge_mark_close(&c->mark);
        c->mark = (struct merge_mark){.op = r->shard.merge, .stage = MERGE_BULK};
        buf_append(&c->mark.cursor, c->range.from, sizeof c->range.from);
        c->fresh = true;
    }
    /* What a replica opens or has installed is on disk. */
    c->durable = c->mark.stage == MERGE_COMPLETE;
    c->timer.fn = on_timer;
    r->copy = c;
    log_info("merge_copy_started", "core=%u group=%llu source=%llu op=%llu slots=%u-%u stage=%u",
             r->core->number, (ull)r->shard.group, (ull)c->source, (ull)c->mark.op, c->first_slot,
             c->last_slot, c->mark.stage);
    rest(c, 0);
}

void merge_copy_destroy(struct merge_copy *c)
{
    if (!c)
        return;
    io_timer_cancel(c->target->core->io, &c->timer);
    c->target->copy = NULL;
    merge_mark_close(&c->mark);
    free(c);
}

void merge_copy_clear(const struct merge_copy *c, struct engine_batch *b)
{
    engine_batch_delete_range(b, engine_key_from(&c->range), engine_key_to(&c->range));
    engine_batch_delete_range(b, engine_key_from(&c->sessions), engine_key_to(&c->sessions));
}

void merge_copy_nudge(struct merge_copy *c)
{
    c->nudged = true;
    if (!c->waiting && !c->durable)
        rest(c, 0);
}
