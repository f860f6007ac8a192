#include "shardd/split.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/io/fs.h"
#include "shardd/command.h"
#include "shardd/core.h"
#include "shardd/engine_key.h"
#include "shardd/merge_copy.h"
#include "shardd/replica_stamp.h"

typedef unsigned long long ull;

/* The notes: u8 format, u32 n, then n times: u64 version and u64 time_ms of the parent at the
 * entry, u32 length, the entry. */
#define NOTES_FORMAT 1u
#define RETRY_TICKS 5u
#define RETRY_DOUBLINGS 6u

struct split_child {
    struct list link;
    struct shard_change change;
    uint64_t version, time_ms;
};

static struct split_child *first_child(const struct replica *r)
{
    const struct list *all = &r->split.children;
    return list_empty(all) ? NULL : CONTAINER_OF(list_first(all), struct split_child, link);
}

void split_init(struct split *s)
{
    *s = (struct split){0};
    list_init(&s->children);
}

void split_close(struct split *s)
{
    while (!list_empty(&s->children))
        free(CONTAINER_OF(list_pop_front(&s->children), struct split_child, link));
}

uint64_t split_pending(const struct replica *r)
{
    const struct split_child *child = first_child(r);
    return child ? child->change.other.group : 0;
}

bool split_holds(const struct replica *r)
{
    return first_child(r) && r->state == REPLICA_RUNNING && r->split.failures == 0 &&
           !r->core->no_space;
}

/* ---- the notes ---- */

static void put_notes(struct engine_batch *b, const struct split *s)
{
    uint8_t raw[32];
    struct slice key = engine_key_meta(raw, ENGINE_META_CHILDREN);
    struct buf value = {0}, entry = {0};
    uint32_t n = 0;
    if (list_empty(&s->children)) {
        engine_batch_delete(b, key);
        return;
    }
    for (const struct list *at = s->children.next; at != &s->children; at = at->next)
        n++;
    buf_u8(&value, NOTES_FORMAT);
    buf_u32(&value, n);
    LIST_FOR(item, &s->children)
    {
        const struct split_child *child = CONTAINER_OF(item, struct split_child, link);
        buf_clear(&entry);
        shard_change_encode(&child->change, &entry);
        buf_u64(&value, child->version);
        buf_u64(&value, child->time_ms);
        buf_u32(&value, (uint32_t)entry.n);
        buf_append(&value, entry.p, entry.n);
    }
    engine_batch_put(b, key, buf_slice(&value));
    buf_close(&value);
    buf_close(&entry);
}

static enum err decode_notes(struct slice raw, struct list *out)
{
    struct cursor c = cursor_of(raw);
    uint8_t format = cursor_u8(&c);
    uint32_t n = cursor_u32(&c);
    if (c.bad)
        return ERR_CORRUPT;
    if (format != NOTES_FORMAT)
        return ERR_FORMAT;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t version = cursor_u64(&c), time_ms = cursor_u64(&c);
        struct slice entry = cursor_bytes(&c, cursor_u32(&c));
        struct shard_change change;
        enum err e = c.bad ? ERR_CORRUPT : shard_change_decode(entry, &change);
        if (e != ERR_OK)
            return e;
        struct split_child *child = mem_zalloc(sizeof *child);
        *child = (struct split_child){.change = change, .version = version, .time_ms = time_ms};
        list_push_back(out, &child->link);
    }
    return ERR_OK;
}

enum err split_load(struct replica *r)
{
    uint8_t raw[32];
    struct engine_value value;
    split_close(&r->split);
    r->split.failures = 0;
    r->split.retry_at = 0;
    enum err e = engine_get(r->db, engine_key_meta(raw, ENGINE_META_CHILDREN), false, &value);
    if (e == ERR_NOT_FOUND)
        return ERR_OK;
    if (e == ERR_OK) {
        e = decode_notes(value.data, &r->split.children);
        engine_value_close(&value);
    }
    return e;
}

void split_forget(struct engine_batch *b, const struct shard *s, uint16_t first, uint16_t last)
{
    unsigned at = first;
    while (at <= last) {
        unsigned end = at;
        while (end <= last && !shard_keeps(s, (uint16_t)end))
            end++;
        if (end > at) {
            struct engine_key_range range;
            engine_key_slots((uint16_t)at, (uint16_t)(end - 1), &range);
            engine_batch_delete_range(b, engine_key_from(&range), engine_key_to(&range));
            engine_key_session_slots((uint16_t)at, (uint16_t)(end - 1), &range);
            engine_batch_delete_range(b, engine_key_from(&range), engine_key_to(&range));
        }
        at = end + 1; /* `end` is kept, or behind the last */
    }
}

void split_strip(struct engine_batch *b, const struct shard *s)
{
    engine_batch_delete_range(b, slice_of("\0", 1), slice_of("d", 1));
    engine_batch_delete_range(b, slice_of("e", 1), slice_of("s", 1));
    engine_batch_delete_range(b, slice_of("t", 1), slice_of("\xff", 1));
    split_forget(b, s, 0, LIMIT_SLOTS - 1);
}

void split_adopt(struct engine_batch *b, const struct shard *s)
{
    uint8_t raw[32];
    split_forget(b, s, 0, LIMIT_SLOTS - 1);
    engine_batch_delete(b, engine_key_meta(raw, ENGINE_META_CHILDREN));
}

/* ---- the order ---- */

/* The child's replicas sit where the shard's do, in the same order and roles. */
static bool replicas_fit(const struct replica *r, const struct shard_desc *child)
{
    const struct group_conf *conf = &r->applied.conf;
    if (child->n_replicas != conf->n)
        return false;
    for (uint32_t i = 0; i < conf->n; i++)
        if (child->replica[i].node != conf->member[i].node ||
            child->replica[i].role != conf->member[i].role)
            return false;
    return true;
}

enum err split_step(struct replica *r, const struct msg_step *step)
{
    struct shard_change c = {.kind = SHARD_SPLIT,
                             .op = step->op,
                             .epoch = r->shard.epoch,
                             .other = step->other,
                             .time_ms = r->shard.time_ms};
    if (!replica_is_leader(r))
        return ERR_NOT_LEADER;
    if (step->shard.epoch.range != r->shard.epoch.range ||
        step->shard.epoch.members != r->shard.epoch.members)
        return ERR_WRONG_EPOCH;
    if (replica_change_unsettled(r))
        return ERR_OK; /* PREPARE, or SPLIT itself */
    c.other.epoch = (struct shard_epoch){r->shard.epoch.range + 1, 1};
    c.other.leader = 0;
    struct shard after = r->shard;
    if (!replicas_fit(r, &c.other))
        return ERR_REFUSED;
    enum err e = shard_change_apply(&after, &c, r->applied.index + 1);
    if (e != ERR_OK)
        return e;
    if (r->core->no_space)
        return ERR_NO_SPACE;
    if (first_child(r) || r->checkpointing > 0 || r->doomed)
        return ERR_BUSY;
    if (r->split.next.kind && r->split.next.op == step->op)
        return ERR_OK; /* being prepared */
    struct shard_change prepare = c;
    prepare.kind = SHARD_PREPARE;
    e = replica_propose_change(r, &prepare);
    if (e == ERR_OK) {
        r->split.next = c;
        r->split.prepared = false;
    }
    return e;
}

void split_prepare_applied(struct replica *r, const struct shard_change *c)
{
    if (r->split.next.kind && r->split.next.op == c->op)
        r->split.prepared = true;
    split_prep_begin(r, c);
}

/* Leader: logs SPLIT once the preparations have been made, or have failed. */
static void go(struct replica *r)
{
    struct shard_change c = r->split.next;
    if (c.kind == 0)
        return;
    if (replica_is_leader(r)) {
        if (replica_change_unsettled(r))
            return;
        if (r->split.prepared && (r->checkpointing > 0 || !split_prep_settled(r)))
            return;
    }
    r->split.next.kind = 0;
    if (!r->split.prepared || !replica_is_leader(r))
        return;
    /* Whatever has changed since it was ordered: the order comes again. The child sits where the
     * shard sat then, so its members must be those of then. */
    bool same = c.epoch.range == r->shard.epoch.range &&
                c.epoch.members == r->shard.epoch.members && !group_changing(r->group);
    enum err e = same ? replica_propose_change(r, &c) : ERR_WRONG_EPOCH;
    if (e != ERR_OK)
        log_info("split_put_off", "core=%u group=%llu child=%llu error=%s", r->core->number,
                 (ull)r->shard.group, (ull)c.other.group, err_name(e));
}

/* ---- the entry ---- */

struct news {
    struct shard_desc shard[2];
};

static void learn(struct core *c, const struct news *n)
{
    for (unsigned i = 0; i < 2; i++)
        shard_map_put_shard(&c->map, &n->shard[i]);
}

static void deliver_news(struct core *c, void *arg)
{
    learn(c, arg);
    free(arg);
}

/* All cores answer for both from now on. The child's first leader is where the parent's is. */
static void tell_cores(struct replica *r, const struct shard_desc *child)
{
    struct core *here = r->core;
    struct news n;
    replica_describe(r, &n.shard[0]);
    n.shard[1] = *child;
    const struct group_member *leader = r->group ? group_leader(r->group) : NULL;
    for (uint32_t i = 0; leader && i < child->n_replicas; i++)
        if (child->replica[i].node == leader->node)
            n.shard[1].leader = child->replica[i].replica;
    learn(here, &n);
    for (unsigned i = 0; i < here->node->options.cores; i++)
        if (here->node->core[i] != here)
            core_post(here->node->core[i], deliver_news, mem_dup(&n, sizeof n));
}

/* Followers learn from the next message that the entry is committed; without writes that would be
 * the next heartbeat's, and the child cannot have a leader before a majority has made it. */
static void hurry(struct replica *r)
{
    struct buf entry = {0};
    uint64_t index, term;
    command_begin(&entry);
    command_finish(&entry, r->shard.time_ms, 0);
    if (group_propose(r->group, buf_slice(&entry), &index, &term) != ERR_OK)
        log_debug("split_not_hurried", "core=%u group=%llu", r->core->number, (ull)r->shard.group);
    buf_close(&entry);
}

void split_applied(struct replica *r, const struct shard_change *c, uint64_t index)
{
    (void)index;
    struct split_child *child = mem_zalloc(sizeof *child);
    *child = (struct split_child){
        .change = *c, .version = r->shard.version, .time_ms = r->shard.time_ms};
    const struct shard_desc *to = &c->other;
    dedupe_leave(r->dedupe, to->group, to->first_slot, to->last_slot, r->batch);
    dedupe_rewrite(r->dedupe, r->shard.group, r->shard.first_slot, r->shard.last_slot, r->batch);
    list_push_back(&r->split.children, &child->link);
    put_notes(r->batch, &r->split);
    tell_cores(r, &c->other);
    if (replica_is_leader(r))
        hurry(r);
}

/* ---- the job ---- */

struct split_work {
    struct io_work work;
    struct replica *parent;
    struct core *child_core;
    struct shard_desc desc;
    struct split_birth birth;
    bool made; /* else it was there */
    uint64_t began;
    enum err result;
    char msg[256];
};

/* Everything but the child's slots goes, and the child's own state takes the place of the parent's.
 */
static enum err make_identity(struct split_work *w, const char *path)
{
    struct engine_db *db = NULL;
    enum err e =
        engine_open(w->parent->core->node->engine, path, false, &db, w->msg, sizeof w->msg);
    if (e != ERR_OK)
        return e;
    struct engine_batch *b = engine_batch_create();
    split_strip(b, &w->birth.shard);
    replica_store(b, &w->birth.shard, &w->birth.position);
    e = engine_write(db, b);
    engine_batch_destroy(b);
    if (e == ERR_OK)
        e = engine_flush(db);
    engine_close(db);
    return e;
}

static enum err make_child(struct split_work *w, const char *groups, const char *path)
{
    char fresh[3100], db[3200];
    snprintf(fresh, sizeof fresh, "%.2900s/%llu.%llu.new", groups, (ull)w->birth.shard.group,
             (ull)w->parent->shard.group); /* core_create() knows the ending */
    snprintf(db, sizeof db, "%s/db", fresh);
    enum err e = fs_rmdir_all(fresh);
    if (e == ERR_OK)
        e = fs_mkdir(fresh);
    if (e == ERR_OK)
        e = engine_checkpoint(w->parent->db, db);
    if (e == ERR_OK)
        e = make_identity(w, db);
    if (e == ERR_OK)
        e = replica_stamp_write(fresh, w->child_core->wal_id, w->birth.shard.replica);
    if (e == ERR_OK)
        e = fs_sync_dir(fresh);
    if (e == ERR_OK)
        e = fs_rename(fresh, path);
    w->made = e == ERR_OK;
    if (!w->made) {
        if (!w->msg[0])
            snprintf(w->msg, sizeof w->msg, "%s", fs_last_error());
        if (fs_rmdir_all(fresh) != ERR_OK)
            log_warn("split_leftover", "path=%s error=\"%s\"", fresh, fs_last_error());
        if (fs_exists(path)) /* an order to join has made it meanwhile */
            e = ERR_OK;
    }
    return e == ERR_OK ? fs_sync_dir(groups) : e;
}

static void split_run(struct io_work *work)
{
    struct split_work *w = CONTAINER_OF(work, struct split_work, work);
    char groups[3000], path[3100];
    snprintf(groups, sizeof groups, "%.2900s/groups", w->parent->core->node->options.data_dir);
    snprintf(path, sizeof path, "%.2900s/%llu", groups, (ull)w->desc.group);
    bool wanted = w->birth.shard.replica != 0;
    /* One that was prepared and given up may have stayed. */
    w->result = wanted ? split_prep_recover(w->parent->core, w->desc.group, path) : ERR_OK;
    if (wanted && w->result == ERR_OK)
        w->result = fs_exists(path) ? fs_sync_dir(groups) : make_child(w, groups, path);
    if (w->result != ERR_OK && !w->msg[0])
        snprintf(w->msg, sizeof w->msg, "%s", fs_last_error());
}

struct adoption {
    struct shard_desc desc;
    uint64_t replica;
    bool campaign;
};

static void adopt(struct core *c, void *arg)
{
    struct adoption *a = arg;
    if (c->stage == 0 && c->peers && !core_find_replica(c, a->desc.group)) {
        if (tombstones_has(&c->tombstones, a->desc.group, a->replica))
            (void)replica_open(c, a->desc.group); /* has it removed */
        else
            replica_create(c, &a->desc, a->replica, a->campaign);
    }
    free(a); /* a stopping node runs it when it starts again */
}

/* The note goes, and with it the child's slots: in one batch, after the child is durable. Where a
 * merge has brought slots back meanwhile they stay, or its copying has cleared them; not if it has
 * not written anything yet: given up now it would leave them. */
static void drop_note(struct replica *r)
{
    struct split_child *child = first_child(r);
    const struct shard_desc *d = &child->change.other;
    struct shard keeps = r->shard;
    CHECK(engine_batch_count(r->batch) == 0);
    if (r->copy && r->copy->fresh)
        keeps.phase = SHARD_PHASE_NONE;
    list_remove(&child->link);
    put_notes(r->batch, &r->split);
    split_forget(r->batch, &keeps, d->first_slot, d->last_slot);
    free(child);
    replica_write(r);
    /* Soon durable: a note that came back after the child has long moved on would make it again. */
    replica_maintain(r);
}

static void failed(struct replica *r, const struct split_work *w)
{
    struct node *node = r->core->node;
    unsigned doublings = r->split.failures < RETRY_DOUBLINGS ? r->split.failures : RETRY_DOUBLINGS;
    r->split.failures++;
    r->split.retry_at = r->core->ticks + ((uint64_t)RETRY_TICKS << doublings);
    log_warn("split_failed", "core=%u group=%llu child=%llu error=%s text=\"%s\"", r->core->number,
             (ull)r->shard.group, (ull)w->desc.group, err_name(w->result), w->msg);
    /* As with any new replica: a disk that fails a write is not to be trusted with the next. */
    if (w->result == ERR_IO)
        node->on_fatal(node->arg, w->result, "the replica of a split could not be written");
}

static void split_done(struct io_work *work)
{
    struct split_work *w = CONTAINER_OF(work, struct split_work, work);
    struct replica *r = w->parent;
    r->busy_offload = false;
    r->core->offload_jobs--;
    if (w->result != ERR_OK) {
        failed(r, w);
        free(w);
        return;
    }
    r->split.failures = 0;
    log_info("split_made", "core=%u group=%llu child=%llu replica=%llu made=%d ms=%llu",
             r->core->number, (ull)r->shard.group, (ull)w->desc.group, (ull)w->birth.shard.replica,
             w->made, (ull)((io_now(r->core->io) - w->began) / NS_PER_MS));
    if (w->birth.shard.replica) {
        struct adoption *a = mem_zalloc(sizeof *a);
        *a = (struct adoption){w->desc, w->birth.shard.replica, replica_is_leader(r)};
        if (w->child_core == r->core)
            adopt(r->core, a);
        else
            core_post(w->child_core, adopt, a);
    }
    free(w);
    core_changed(r->core);
    if (r->state == REPLICA_RUNNING)
        drop_note(r);
    split_continue(r);
}

/* The child of an open database. */
struct delivery {
    struct split_birth birth;
    struct engine_db *db;
    bool campaign;
};

static void deliver(struct core *c, void *arg)
{
    struct delivery *d = arg;
    const struct shard *s = &d->birth.shard;
    bool buried = tombstones_has(&c->tombstones, s->group, s->replica);
    if (c->stage > 0 || !c->peers || core_find_replica(c, s->group) || buried) {
        engine_close(d->db);
        if (buried && c->stage == 0 && !core_find_replica(c, s->group))
            (void)replica_open(c, s->group); /* has it removed */
    } else {
        struct replica *r = replica_alloc(c, s->group);
        r->db = d->db;
        r->shard = *s;
        r->state = REPLICA_STOPPED;
        replica_run(r, &d->birth.position, d->campaign);
        engine_db_stats(r->db, &r->stats);
        log_info("replica_born", "core=%u group=%llu replica=%llu slots=%u-%u", c->number,
                 (ull)s->group, (ull)s->replica, s->first_slot, s->last_slot);
    }
    free(d);
}

void split_born(struct replica *r, const struct split_birth *b, struct engine_db *db)
{
    struct core *to = r->core->node->core[core_of_group(r->core->node, b->shard.group)];
    const struct split_child *child = first_child(r);
    struct delivery *d = mem_zalloc(sizeof *d);
    *d = (struct delivery){*b, db, replica_is_leader(r)};
    if (to == r->core || r->core->stage > 0) /* stopping: it is only closed */
        deliver(r->core, d);
    else
        core_post(to, deliver, d);
    r->split.failures = 0;
    if (child && child->change.other.group == b->shard.group && r->state == REPLICA_RUNNING)
        drop_note(r);
    core_changed(r->core);
    split_continue(r);
}

static void birth_of(const struct core *c, const struct split_child *child, struct split_birth *out)
{
    const struct shard_desc *d = &child->change.other;
    *out = (struct split_birth){
        .shard = {.group = d->group,
                  .first_slot = d->first_slot,
                  .last_slot = d->last_slot,
                  .epoch = d->epoch,
                  .version = child->version,
                  .time_ms = child->time_ms},
        .position = {.index = 1, .term = 1, .conf_index = 1, .conf = {.n = d->n_replicas}},
    };
    for (uint32_t i = 0; i < d->n_replicas; i++) {
        out->position.conf.member[i] =
            (struct group_member){d->replica[i].replica, d->replica[i].node, d->replica[i].role};
        if (d->replica[i].node == c->node_id)
            out->shard.replica = d->replica[i].replica;
    }
}

void split_continue(struct replica *r)
{
    const struct split_child *child = first_child(r);
    struct core *c = r->core;
    struct split_birth birth;
    split_prep_tick(r);
    go(r);
    if (!child || r->install || r->state != REPLICA_RUNNING || c->stage > 0 ||
        c->ticks < r->split.retry_at)
        return;
    birth_of(c, child, &birth);
    if (split_prep_birth(r, &birth))
        return;
    if (r->busy_offload || r->checkpointing > 0 || (c->no_space && r->split.failures > 0))
        return;
    struct split_work *w = mem_zalloc(sizeof *w);
    w->work = (struct io_work){.run = split_run, .done = split_done};
    w->parent = r;
    w->child_core = c->node->core[core_of_group(c->node, birth.shard.group)];
    w->began = io_now(c->io);
    w->desc = child->change.other;
    w->birth = birth;
    replica_freeze(r);
    r->busy_offload = true;
    c->offload_jobs++;
    io_offload(c->io, &w->work);
}
