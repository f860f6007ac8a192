/* Snapshots of a replica: the checkpoint that a leader offers, and the swap on a follower.
 *
 * The swap, on an offload thread: the fetched database gets this replica's own identity, then
 * db -> db.old, incoming -> db, directory synced, db.old removed. A crash between the two renames
 * is put right at start (replica_snapshot_recover): the old log in the WAL stays until the driver
 * was told, so both the old and the new state can be gone on from. */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/io/fs.h"
#include "common/raft/snapshot_stream.h"
#include "common/wal/wal.h"
#include "shardd/core.h"
#include "shardd/merge.h"

#define HOLD_TICKS 600u    /* since the last offer */
#define HOLD_LAG 512u      /* entries: a member closer than that has caught up */
#define HOLD_WAL (1 * GIB) /* of all groups of the core: more is not kept for those that lag */

typedef unsigned long long ull;

enum err replica_swap_recover(const char *path)
{
    char db[3100], old[3100];
    snprintf(db, sizeof db, "%s/db", path);
    snprintf(old, sizeof old, "%s/db.old", path);
    enum err e = ERR_OK;
    if (fs_exists(old)) {
        /* A process killed in between may have left names that a loss of power would take back: the
         * new data must be there to stay before the old goes. */
        e = fs_sync_dir(path);
        if (e == ERR_OK)
            e = fs_exists(db) ? fs_rmdir_all(old) : fs_rename(old, db);
        if (e == ERR_OK)
            e = fs_sync_dir(path);
    }
    return e;
}

enum err replica_snapshot_recover(const char *path)
{
    enum err e = replica_swap_recover(path);
    if (e == ERR_OK)
        e = snapshot_store_clean(path);
    return e;
}

/* ---- sending ---- */

struct offer {
    struct core *core;
    uint64_t group, to;
    struct engine *engine;
    struct engine_db *db;
};

/* What is in the checkpoint is read from the checkpoint: more may have been applied meanwhile. */
static enum err checkpoint(void *arg, const char *path, uint64_t *index, struct buf *note)
{
    struct offer *o = arg;
    enum err e = engine_checkpoint(o->db, path);
    if (e != ERR_OK)
        return e;
    struct shard shard;
    struct group_position position;
    e = replica_peek(o->engine, path, &shard, &position);
    if (e != ERR_OK)
        return e;
    *index = position.index;
    group_position_encode(&position, note);
    return ERR_OK;
}

static void made(void *arg, enum err result, const struct snapshot_manifest *m,
                 struct slice encoded)
{
    struct offer *o = arg;
    struct replica *r = core_find_replica(o->core, o->group);
    CHECK(r && r->checkpoints > 0);
    r->checkpoints--;
    for (unsigned i = 0; i < LIMIT_GROUP_MEMBERS; i++)
        if (r->offering[i] == o->to)
            r->offering[i] = 0;
    struct group_position position;
    if (result == ERR_OK) {
        struct cursor c = cursor_of(buf_slice(&m->note));
        result = group_position_decode(&c, &position);
    }
    if (result == ERR_OK && r->state == REPLICA_RUNNING) {
        log_info("snapshot_offered", "core=%u group=%llu to=%llu index=%llu bytes=%llu",
                 o->core->number, (ull)o->group, (ull)o->to, (ull)position.index, (ull)m->bytes);
        group_offer_snapshot(r->group, o->to, &position, encoded);
        r->hold_until = r->core->ticks + HOLD_TICKS;
    } else if (result != ERR_OK && result != ERR_BUSY) {
        log_warn("snapshot_failed", "core=%u group=%llu error=%s", o->core->number, (ull)o->group,
                 err_name(result));
    }
    free(o);
}

void replica_snapshot_wanted(void *arg, const struct group_member *to)
{
    struct replica *r = arg;
    if (r->busy_offload || r->state != REPLICA_RUNNING || r->core->draining || r->doomed)
        return;                                  /* the driver asks again */
    r->hold_until = r->core->ticks + HOLD_TICKS; /* its files are to be read and sent yet */
    unsigned at = 0;
    for (unsigned i = 0; i < LIMIT_GROUP_MEMBERS; i++) {
        if (r->offering[i] == to->replica)
            return; /* under way */
        if (r->offering[i] == 0)
            at = i;
    }
    r->offering[at] = to->replica;
    struct offer *o = mem_zalloc(sizeof *o);
    *o = (struct offer){r->core, r->shard.group, to->replica, r->core->node->engine, r->db};
    r->checkpoints++;
    (void)snapshot_store_make(r->core->snapshots, o->group, r->path, r->durable_index, checkpoint,
                              made, o);
}

void replica_checkpointing(void *arg, uint64_t group)
{
    struct replica *r = core_find_replica(arg, group);
    CHECK(r);
    r->checkpointing++;
    replica_freeze(r);
}

void replica_checkpointed(void *arg, uint64_t group)
{
    struct replica *r = core_find_replica(arg, group);
    CHECK(r && r->checkpointing > 0);
    r->checkpointing--;
}

bool replica_holds_log(const struct replica *r)
{
    unsigned segments;
    uint64_t bytes;
    if (r->core->ticks >= r->hold_until || !replica_is_leader(r) || r->core->no_space)
        return false;
    wal_usage(group_set_wal(r->core->groups), &segments, &bytes);
    if (bytes > HOLD_WAL)
        return false;
    for (uint32_t i = 0; i < r->applied.conf.n; i++) {
        uint64_t replica = r->applied.conf.member[i].replica;
        if (replica != r->shard.replica &&
            group_match(r->group, replica) + HOLD_LAG < r->applied.index)
            return true;
    }
    return false;
}

/* ---- installing ---- */

struct replica_install {
    struct io_work work;
    struct replica *replica;
    struct snapshot_fetch *fetch; /* NULL: fetched */
    uint64_t bytes;               /* that had arrived when it was last asked */
    char path[3200];              /* of the fetched files */
    enum err result;
    uint64_t asked; /* index that it must have at least */
    struct merge_promise promise;
    bool failed;          /* to be given up, on the next tick */
    struct engine_db *db; /* opened by the swap */
    struct shard shard;
    struct group_position position;
    char msg[256];
};

static enum err adopt_identity(struct replica_install *in)
{
    struct replica *r = in->replica;
    struct engine_db *db;
    enum err e = engine_open(r->core->node->engine, in->path, false, &db, in->msg, sizeof in->msg);
    if (e != ERR_OK)
        return e;
    e = replica_load(db, false, &in->shard, &in->position);
    if (e == ERR_OK && in->shard.group != r->shard.group)
        e = ERR_FOREIGN;
    /* Older state would take back what this replica has acknowledged. */
    if (e == ERR_OK && in->position.index < in->asked)
        e = ERR_CORRUPT;
    /* The sender was not as far when it made this: a later one will do. */
    if (e == ERR_OK && !merge_keeps(&in->promise, &in->shard, db))
        e = ERR_NOT_READY;
    if (e == ERR_OK) {
        in->shard.replica = r->shard.replica;
        struct engine_batch *b = engine_batch_create();
        split_adopt(b, &in->shard);
        replica_store(b, &in->shard, &in->position);
        e = engine_write(db, b);
        engine_batch_destroy(b);
    }
    if (e == ERR_OK)
        e = engine_flush(db);
    engine_close(db);
    return e;
}

static void swap_run(struct io_work *work)
{
    struct replica_install *in = CONTAINER_OF(work, struct replica_install, work);
    struct replica *r = in->replica;
    char db[3100], old[3100];
    snprintf(db, sizeof db, "%s/db", r->path);
    snprintf(old, sizeof old, "%s/db.old", r->path);
    enum err e = adopt_identity(in);
    if (e == ERR_OK) {
        engine_close(r->db);
        r->db = NULL;
        e = fs_rmdir_all(old); /* of a swap whose end failed */
    }
    if (e == ERR_OK)
        e = fs_rename(db, old);
    if (e == ERR_OK) {
        e = fs_rename(in->path, db);
        if (e != ERR_OK && fs_rename(old, db) != ERR_OK)
            log_error("swap_not_undone", "path=%s error=\"%s\"", old, fs_last_error());
    }
    if (e == ERR_OK)
        e = fs_sync_dir(r->path);
    if (e == ERR_OK)
        e = fs_rmdir_all(old);
    if (!r->db) {
        enum err opened =
            engine_open(r->core->node->engine, db, false, &in->db, in->msg, sizeof in->msg);
        e = e == ERR_OK ? opened : e;
    }
    in->result = e;
}

static void install_free(struct replica *r)
{
    free(r->install);
    r->install = NULL;
}

/* The group starts again from what the engine holds. That includes its memory, which the log must
 * not be applied to twice: so it is made durable first. (What was opened anew has none.) */
static void resume_run(struct io_work *work)
{
    struct replica_install *in = CONTAINER_OF(work, struct replica_install, work);
    struct engine_db *db = in->replica->db;
    in->result = engine_flush_frozen(db);
    if (in->result == ERR_OK)
        in->result = replica_load(db, true, &in->shard, &in->position);
}

/* What the replica knows is that of its database, which may be another one than before: `opened`.
 */
static enum err take_over(struct replica *r, const struct shard *shard,
                          const struct group_position *position, bool opened)
{
    router_remove(&r->core->router, r);
    r->shard = *shard;
    r->applied = *position;
    r->durable_index = position->index;
    if (position->index > 0)
        router_add(&r->core->router, r);
    engine_batch_clear(r->batch);
    if (opened)
        split_prep_drop(r);
    write_path_skipped(&r->writes, position->index);
    return replica_load_sessions(r);
}

static void resume_done(struct io_work *work)
{
    struct replica_install *in = CONTAINER_OF(work, struct replica_install, work);
    struct replica *r = in->replica;
    enum err e = in->result;
    struct group_position position = in->position;
    r->busy_offload = false;
    r->core->offload_jobs--;
    if (e == ERR_OK) {
        e = take_over(r, &in->shard, &position, in->db != NULL);
        if (e == ERR_OK)
            e = split_load(r);
    }
    install_free(r);
    if (r->state != REPLICA_INSTALLING)
        return;
    if (e != ERR_OK) {
        replica_set_broken(r, e, "its data cannot be read after a snapshot was given up");
        return;
    }
    r->state = REPLICA_RUNNING;
    merge_opened(r);
    group_install_failed(r->group, &position);
}

static void offload_install(struct replica_install *in, void (*run)(struct io_work *),
                            void (*done)(struct io_work *))
{
    struct replica *r = in->replica;
    in->work = (struct io_work){.run = run, .done = done};
    r->busy_offload = true;
    r->core->offload_jobs++;
    io_offload(r->core->io, &in->work);
}

/* Tried again on each tick until no other job uses the engine. */
static void install_failed(struct replica *r, enum err why)
{
    struct replica_install *in = r->install;
    in->result = why;
    in->failed = true;
}

void replica_install_tick(struct replica *r)
{
    struct replica_install *in = r->install;
    if (!in || !in->failed || r->busy_offload || r->checkpointing > 0)
        return;
    in->failed = false;
    log_warn("install_failed", "core=%u group=%llu error=%s", r->core->number, (ull)r->shard.group,
             err_name(in->result));
    if (!r->db) {
        install_free(r);
        replica_set_broken(r, ERR_IO, "its data was lost while a snapshot was put in its place");
        return;
    }
    if (!in->db)
        replica_freeze(r);
    offload_install(in, resume_run, resume_done);
}

static void swap_done(struct io_work *work)
{
    struct replica_install *in = CONTAINER_OF(work, struct replica_install, work);
    struct replica *r = in->replica;
    r->busy_offload = false;
    r->core->offload_jobs--;
    if (in->db)
        r->db = in->db;
    if (in->result != ERR_OK) {
        install_failed(r, in->result);
        return;
    }
    if (r->state == REPLICA_INSTALLING) {
        r->state = REPLICA_RUNNING;
        enum err e = take_over(r, &in->shard, &in->position, true);
        if (e != ERR_OK) {
            install_free(r);
            replica_set_broken(r, e, "what it knows of its sessions cannot be read");
            return;
        }
        split_close(&r->split); /* its own notes went with the old database, the sender's too */
        merge_opened(r);
        log_info("snapshot_installed", "core=%u group=%llu index=%llu", r->core->number,
                 (ull)r->shard.group, (ull)in->position.index);
        struct group_position position = in->position;
        install_free(r);
        group_installed(r->group, &position);
        core_changed(r->core);
        return;
    }
    install_free(r);
}

static void fetched(void *arg, enum err result, const char *path)
{
    struct replica *r = arg;
    struct replica_install *in = r->install;
    in->fetch = NULL;
    if (result == ERR_OK && (r->busy_offload || r->reads.offloaded > 0 || r->checkpointing > 0))
        result = ERR_BUSY; /* the engine is in use: the driver asks again, the files are here */
    if (result != ERR_OK) {
        install_failed(r, result);
        return;
    }
    snprintf(in->path, sizeof in->path, "%s", path);
    in->promise = merge_promised(r);
    offload_install(in, swap_run, swap_done);
}

void replica_install(void *arg, const struct group_position *p, struct slice manifest,
                     const struct group_member *from)
{
    struct replica *r = arg;
    struct core *c = r->core;
    CHECK(r->install == NULL);
    if (c->draining || r->doomed) { /* it is closed as it is, without waiting for a fetch */
        r->state = REPLICA_INSTALLING;
        return;
    }
    struct replica_install *in = mem_zalloc(sizeof *in);
    in->replica = r;
    in->asked = p->index;
    r->install = in;
    r->state = REPLICA_INSTALLING;
    log_info("install_started", "core=%u group=%llu index=%llu from=%u", c->number,
             (ull)r->shard.group, (ull)p->index, from->node);
    struct snapshot_fetch_options o = {
        .io = c->io,
        .conns = c->conns,
        .from = from->node,
        .dir = r->path,
        .manifest = manifest,
        .arg = r,
        .done = fetched,
        .rate = &c->fetch_rate,
    };
    core_fetch_options(c, &o);
    enum err e = snapshot_fetch(&o, &in->fetch);
    if (e != ERR_OK)
        install_failed(r, e);
}

uint64_t replica_install_bytes(const struct replica *r)
{
    struct replica_install *in = r->install;
    struct snapshot_fetch_stats stats;
    if (in && in->fetch) {
        snapshot_fetch_stats(in->fetch, &stats);
        in->bytes = stats.bytes_written;
    }
    return in ? in->bytes : 0;
}

void replica_install_cancel(struct replica *r)
{
    if (r->install && r->install->fetch)
        snapshot_fetch_cancel(r->install->fetch);
}
