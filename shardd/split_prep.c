#include "shardd/split_prep.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/io/fs.h"
#include "shardd/core.h"
#include "shardd/engine_key.h"
#include "shardd/replica_stamp.h"

#define MIRROR_MAX (32 * MIB) /* kept in memory while the database is being made */
#define GIVE_UP_TICKS 300u

typedef unsigned long long ull;

enum stage { WAITING, MAKING, FLUSHING, READY, BEING_BORN };

struct split_prep {
    struct io_work work;
    struct replica *parent;
    struct core *child_core;
    struct shard_change change;
    struct shard shard; /* of the child: range and replica */
    struct engine_key_range range, sessions;
    struct engine_batch *mirror; /* not in the database yet */
    uint64_t bytes;              /* of mirror */
    struct engine_db *db;
    enum stage stage;
    bool dropped;
    uint64_t began, ready_at; /* core's ticks */
    struct split_birth birth;
    char groups[3000], path[3100];
    enum err result;
    char msg[256];
};

static void unborn_file(const char *dir, char *out, size_t n)
{
    snprintf(out, n, "%.3100s/unborn", dir);
}

/* ---- giving up ---- */

/* Takes away what has another name by now. That name is made durable first: a loss of power could
 * bring the old one back with half of it, without the file that says so, and that would pass for a
 * replica that has lost its data. */
static enum err remove_renamed(const char *groups, const char *gone)
{
    enum err e = fs_sync_dir(groups);
    return e == ERR_OK ? fs_rmdir_all(gone) : e;
}

struct remove_work {
    struct io_work work;
    struct core *core;
    char groups[3000], path[3200];
};

static void remove_run(struct io_work *work)
{
    struct remove_work *w = CONTAINER_OF(work, struct remove_work, work);
    if (remove_renamed(w->groups, w->path) != ERR_OK)
        log_warn("unborn_not_removed", "path=%s error=\"%s\"", w->path, fs_last_error());
}

static void remove_done(struct io_work *work)
{
    struct remove_work *w = CONTAINER_OF(work, struct remove_work, work);
    w->core->offload_jobs--;
    free(w);
}

static void discard(struct split_prep *p)
{
    struct core *c = p->parent->core;
    p->parent->split.prep = NULL;
    if (p->db) {
        engine_close(p->db);
        struct remove_work *w = mem_zalloc(sizeof *w);
        w->work = (struct io_work){.run = remove_run, .done = remove_done, .class = IO_WORK_LONG};
        w->core = c;
        snprintf(w->groups, sizeof w->groups, "%s", p->groups);
        snprintf(w->path, sizeof w->path, "%.3000s.%llu.%llu.gone", p->path,
                 (ull)p->parent->shard.group, (ull)c->removals++);
        if (c->stage == 0 && fs_rename(p->path, w->path) == ERR_OK) {
            c->offload_jobs++;
            io_offload(c->io, &w->work);
        } else {
            free(w); /* the child's making, an order to join, or the next start removes it */
        }
    }
    engine_batch_destroy(p->mirror);
    free(p);
}

void split_prep_drop(struct replica *r)
{
    struct split_prep *p = r->split.prep;
    if (p && r->split.busy)
        p->dropped = true;
    else if (p)
        discard(p);
}

/* ---- making it ---- */

static void offload(struct split_prep *p, void (*run)(struct io_work *),
                    void (*done)(struct io_work *))
{
    struct core *c = p->parent->core;
    p->work = (struct io_work){.run = run, .done = done};
    p->parent->split.busy = true;
    c->offload_jobs++;
    io_offload(c->io, &p->work);
}

/* The end of a job. False: there is nothing to go on with. */
static bool job_ended(struct split_prep *p)
{
    struct replica *r = p->parent;
    r->split.busy = false;
    r->core->offload_jobs--;
    if (p->result == ERR_OK && !p->dropped)
        return true;
    if (p->result != ERR_OK)
        log_warn("split_not_prepared", "core=%u group=%llu child=%llu error=%s text=\"%s\"",
                 r->core->number, (ull)r->shard.group, (ull)p->shard.group, err_name(p->result),
                 p->msg);
    discard(p);
    split_continue(r);
    return false;
}

/* Nothing but the child's slots, and no identity. */
static enum err open_and_strip(struct split_prep *p, const char *path)
{
    enum err e =
        engine_open(p->parent->core->node->engine, path, false, &p->db, p->msg, sizeof p->msg);
    if (e != ERR_OK)
        return e;
    struct engine_batch *b = engine_batch_create();
    split_strip(b, &p->shard);
    e = engine_write(p->db, b);
    engine_batch_destroy(b);
    return e == ERR_OK ? engine_flush(p->db) : e;
}

/* After a failure, of what cannot even be opened. The next start tries again. */
static void clean_up(const struct split_prep *p, const char *fresh, bool renamed)
{
    enum err e = renamed ? fs_rename(p->path, fresh) : ERR_OK;
    if (e == ERR_OK)
        e = remove_renamed(p->groups, fresh);
    if (e != ERR_OK)
        log_warn("unborn_not_removed", "path=%s error=\"%s\"", p->path, fs_last_error());
}

static enum err make(struct split_prep *p)
{
    char fresh[3100], path[3200];
    snprintf(fresh, sizeof fresh, "%.3000s.%llu.new", p->path, (ull)p->parent->shard.group);
    if (fs_exists(p->path))
        return ERR_EXISTS;
    enum err e = fs_rmdir_all(fresh);
    if (e == ERR_OK)
        e = fs_mkdir(fresh);
    unborn_file(fresh, path, sizeof path);
    if (e == ERR_OK)
        e = fs_write_file(path, slice_of("", 0));
    snprintf(path, sizeof path, "%s/db", fresh);
    if (e == ERR_OK)
        e = engine_checkpoint(p->parent->db, path);
    if (e == ERR_OK)
        e = replica_stamp_write(fresh, p->child_core->wal_id, p->shard.replica);
    if (e == ERR_OK)
        e = fs_sync_dir(fresh);
    if (e == ERR_OK)
        e = fs_rename(fresh, p->path);
    bool renamed = e == ERR_OK;
    if (e == ERR_OK)
        e = fs_sync_dir(p->groups);
    snprintf(path, sizeof path, "%s/db", p->path);
    if (e == ERR_OK)
        e = open_and_strip(p, path);
    if (e != ERR_OK && !p->msg[0])
        snprintf(p->msg, sizeof p->msg, "%s", fs_last_error());
    if (e != ERR_OK && !p->db)
        clean_up(p, fresh, renamed);
    return e;
}

static void make_run(struct io_work *work)
{
    struct split_prep *p = CONTAINER_OF(work, struct split_prep, work);
    p->result = make(p);
}

/* Moves the mirror into the database. */
static bool write_mirror(struct split_prep *p)
{
    enum err e = engine_batch_count(p->mirror) > 0 ? engine_write(p->db, p->mirror) : ERR_OK;
    engine_batch_clear(p->mirror);
    p->bytes = 0;
    return e == ERR_OK;
}

static void flush_run(struct io_work *work)
{
    struct split_prep *p = CONTAINER_OF(work, struct split_prep, work);
    p->result = engine_flush(p->db);
}

static void flush_done(struct io_work *work)
{
    struct split_prep *p = CONTAINER_OF(work, struct split_prep, work);
    struct replica *r = p->parent;
    if (!job_ended(p))
        return;
    p->stage = READY;
    p->ready_at = r->core->ticks;
    log_info("split_prepared", "core=%u group=%llu child=%llu", r->core->number,
             (ull)r->shard.group, (ull)p->shard.group);
    split_continue(r);
}

/* What came meanwhile may be much: it goes to the disk before the split. */
static void make_done(struct io_work *work)
{
    struct split_prep *p = CONTAINER_OF(work, struct split_prep, work);
    p->parent->busy_offload = false;
    if (!job_ended(p))
        return;
    p->stage = FLUSHING;
    if (!write_mirror(p))
        discard(p);
    else
        offload(p, flush_run, flush_done);
}

void split_prep_tick(struct replica *r)
{
    struct split_prep *p = r->split.prep;
    struct core *c = r->core;
    if (!p || p->dropped)
        return;
    if (r->state != REPLICA_RUNNING || r->doomed ||
        (p->stage < BEING_BORN && c->ticks - p->began > GIVE_UP_TICKS)) {
        split_prep_drop(r);
        return;
    }
    if (p->stage != WAITING || r->busy_offload || r->checkpointing > 0 || r->install ||
        c->stage > 0)
        return;
    replica_freeze(r);
    p = r->split.prep; /* that was mirrored, perhaps too much to go on */
    if (!p || p->dropped || r->state != REPLICA_RUNNING)
        return;
    p->stage = MAKING;
    r->busy_offload = true;
    offload(p, make_run, make_done);
}

void split_prep_begin(struct replica *r, const struct shard_change *c)
{
    const struct shard_desc *d = &c->other;
    split_prep_drop(r);
    if (r->split.prep || r->core->no_space)
        return;
    struct split_prep *p = mem_zalloc(sizeof *p);
    p->parent = r;
    p->child_core = r->core->node->core[core_of_group(r->core->node, d->group)];
    p->change = *c;
    p->shard =
        (struct shard){.group = d->group, .first_slot = d->first_slot, .last_slot = d->last_slot};
    for (uint32_t i = 0; i < d->n_replicas; i++)
        if (d->replica[i].node == r->core->node_id)
            p->shard.replica = d->replica[i].replica;
    engine_key_slots(d->first_slot, d->last_slot, &p->range);
    engine_key_session_slots(d->first_slot, d->last_slot, &p->sessions);
    p->mirror = engine_batch_create();
    p->began = r->core->ticks;
    snprintf(p->groups, sizeof p->groups, "%.2900s/groups", r->core->node->options.data_dir);
    snprintf(p->path, sizeof p->path, "%.2900s/%llu", p->groups, (ull)d->group);
    r->split.prep = p;
    if (p->shard.replica == 0)
        discard(p);
}

void split_prep_mirror(struct replica *r)
{
    struct split_prep *p = r->split.prep;
    if (!p || p->dropped || p->stage == BEING_BORN || SHARD_BUG(MIRROR))
        return;
    p->bytes += engine_batch_copy(r->batch, engine_key_from(&p->range), engine_key_to(&p->range),
                                  p->mirror);
    p->bytes += engine_batch_copy(r->batch, engine_key_from(&p->sessions),
                                  engine_key_to(&p->sessions), p->mirror);
    if (p->stage >= FLUSHING ? !write_mirror(p) : p->bytes > MIRROR_MAX)
        split_prep_drop(r);
}

bool split_prep_settled(const struct replica *r)
{
    const struct split_prep *p = r->split.prep;
    return !p || p->dropped ||
           (p->stage == READY && r->core->ticks - p->ready_at > p->ready_at - p->began);
}

/* ---- the birth ---- */

static void born_run(struct io_work *work)
{
    struct split_prep *p = CONTAINER_OF(work, struct split_prep, work);
    char path[3200];
    p->result = engine_flush(p->db);
    unborn_file(p->path, path, sizeof path);
    if (p->result == ERR_OK && fs_unlink(path) != ERR_OK)
        log_debug("unborn_left", "path=%s", path); /* the identity counts */
}

static void born_done(struct io_work *work)
{
    struct split_prep *p = CONTAINER_OF(work, struct split_prep, work);
    struct replica *r = p->parent;
    p->dropped = false; /* it is a replica now, whatever becomes of the parent */
    if (!job_ended(p))
        return;
    struct engine_db *db = p->db;
    struct split_birth b = p->birth;
    p->db = NULL;
    discard(p);
    split_born(r, &b, db);
}

bool split_prep_birth(struct replica *r, const struct split_birth *b)
{
    struct split_prep *p = r->split.prep;
    if (!p || p->dropped || p->shard.group != b->shard.group ||
        p->shard.replica != b->shard.replica || p->shard.first_slot != b->shard.first_slot ||
        p->shard.last_slot != b->shard.last_slot) {
        split_prep_drop(r);
        return r->split.busy;
    }
    if (r->split.busy)
        return true;
    if (p->stage != READY) {
        split_prep_tick(r);
        return r->split.busy;
    }
    p->stage = BEING_BORN;
    p->birth = *b;
    replica_store(p->mirror, &b->shard, &b->position);
    if (!write_mirror(p)) {
        discard(p);
        return false;
    }
    offload(p, born_run, born_done);
    return true;
}

/* Gives the directory another name, to be removed with remove_renamed(). */
static enum err move_aside(const char *path, char gone[3200])
{
    snprintf(gone, 3200, "%.3100s.0.gone", path);
    enum err e = fs_rmdir_all(gone);
    return e == ERR_OK ? fs_rename(path, gone) : e;
}

static void groups_of(const struct core *c, char groups[3000])
{
    snprintf(groups, 3000, "%.2900s/groups", c->node->options.data_dir);
}

enum err split_prep_remove_open(struct core *c, uint64_t group, const char *path,
                                struct engine_db **db)
{
    char file[3200], gone[3200], groups[3000];
    struct shard shard;
    struct group_position position;
    enum err e = replica_load(*db, false, &shard, &position);
    unborn_file(path, file, sizeof file);
    if ((e == ERR_OK && shard.group == group) || (e != ERR_OK && e != ERR_NOT_FOUND) ||
        !fs_exists(file))
        return ERR_NOT_FOUND;
    e = move_aside(path, gone);
    engine_close(*db); /* not before: nobody else can open it by its name */
    *db = NULL;
    if (e != ERR_OK)
        return e;
    log_info("unborn_removed", "core=%u group=%llu", c->number, (ull)group);
    groups_of(c, groups);
    return remove_renamed(groups, gone);
}

enum err split_prep_recover(struct core *c, uint64_t group, const char *path)
{
    char file[3200], db[3200];
    struct shard shard;
    struct group_position position;
    unborn_file(path, file, sizeof file);
    if (!fs_exists(file))
        return ERR_OK;
    snprintf(db, sizeof db, "%.3100s/db", path);
    if (!fs_exists(db)) /* a snapshot that is being put in its place */
        return ERR_OK;
    enum err e = replica_peek(c->node->engine, db, &shard, &position);
    if (e == ERR_OK && shard.group == group) {
        if (fs_unlink(file) != ERR_OK)
            log_debug("unborn_left", "path=%s", file);
        return ERR_OK;
    }
    if (e != ERR_OK && e != ERR_NOT_FOUND) /* opening it tells why it cannot be read */
        return ERR_OK;
    log_info("unborn_removed", "core=%u group=%llu", c->number, (ull)group);
    char groups[3000], gone[3200];
    groups_of(c, groups);
    e = move_aside(path, gone);
    return e == ERR_OK ? remove_renamed(groups, gone) : e;
}
