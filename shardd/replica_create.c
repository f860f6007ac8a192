/* Creation of a replica by order of placementd, on an offload thread.
 *
 * Everything is made in <id>.new, which then gets its name: a crash leaves a whole replica or none.
 * One that joins starts at position 0, without a configuration: it waits for a snapshot, over
 * restarts too. */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/io/fs.h"
#include "shardd/core.h"
#include "shardd/replica_stamp.h"

typedef unsigned long long ull;

struct create_work {
    struct io_work work;
    struct replica *replica;
    struct shard shard; /* as its database has it */
    struct group_position position;
    bool campaign;
    enum err result;
    char msg[256];
};

static enum err fill_database(struct create_work *w, const char *path)
{
    struct replica *r = w->replica;
    struct engine_db *db = NULL;
    enum err e = engine_open(r->core->node->engine, path, true, &db, w->msg, sizeof w->msg);
    if (e != ERR_OK)
        return e;
    struct engine_batch *batch = engine_batch_create();
    replica_store(batch, &r->shard, &w->position);
    e = engine_write(db, batch);
    engine_batch_destroy(batch);
    if (e == ERR_OK)
        e = engine_flush(db);
    engine_close(db);
    return e;
}

static enum err create_files(struct create_work *w)
{
    struct replica *r = w->replica;
    char fresh[3100], path[3200], groups[3000];
    snprintf(fresh, sizeof fresh, "%s.new", r->path);
    snprintf(path, sizeof path, "%s/db", fresh);
    snprintf(groups, sizeof groups, "%.2900s/groups", r->core->node->options.data_dir);
    enum err e = fs_rmdir_all(fresh);
    if (e == ERR_OK)
        e = fs_mkdir(fresh);
    if (e == ERR_OK)
        e = fill_database(w, path);
    if (e == ERR_OK)
        e = replica_stamp_write(fresh, r->core->wal_id, r->shard.replica);
    if (e == ERR_OK)
        e = fs_sync_dir(fresh);
    if (e == ERR_OK)
        e = fs_rename(fresh, r->path);
    if (e != ERR_OK && fs_exists(r->path)) /* a split has made it meanwhile */
        e = fs_rmdir_all(fresh);
    return e == ERR_OK ? fs_sync_dir(groups) : e;
}

static enum err open_files(struct create_work *w, const char *path)
{
    struct replica *r = w->replica;
    enum err e = replica_stamp_check(r->path, r->core->wal_id, w->msg, sizeof w->msg);
    return e == ERR_OK
               ? engine_open(r->core->node->engine, path, false, &r->db, w->msg, sizeof w->msg)
               : e;
}

static void create_run(struct io_work *work)
{
    struct create_work *w = CONTAINER_OF(work, struct create_work, work);
    struct replica *r = w->replica;
    char path[3200];
    snprintf(path, sizeof path, "%s/db", r->path);
    /* An earlier try may have failed after the rename: that replica is whole. */
    bool found = fs_exists(path);
    enum err e = found ? ERR_OK : create_files(w);
    if (e == ERR_OK)
        e = open_files(w, path);
    if (e == ERR_OK && found &&
        split_prep_remove_open(r->core, r->shard.group, r->path, &r->db) == ERR_OK) {
        e = create_files(w);
        if (e == ERR_OK)
            e = open_files(w, path);
    }
    if (e == ERR_OK && !r->db) {
        e = ERR_EXISTS;
        snprintf(w->msg, sizeof w->msg, "what a split has left there cannot be removed: %s",
                 fs_last_error());
    }
    if (e == ERR_OK)
        e = replica_load(r->db, false, &w->shard, &w->position);
    if (e == ERR_OK && w->shard.replica != r->shard.replica) {
        e = ERR_EXISTS;
        snprintf(w->msg, sizeof w->msg, "another replica of the group is there");
    }
    w->result = e;
}

static void create_done(struct io_work *work)
{
    struct create_work *w = CONTAINER_OF(work, struct create_work, work);
    struct replica *r = w->replica;
    r->core->offload_jobs--;
    r->state = REPLICA_STOPPED;
    if (w->result == ERR_OK) {
        r->shard = w->shard;
        replica_run(r, &w->position, w->campaign);
        log_info(w->position.index ? "replica_created" : "replica_joining",
                 "core=%u group=%llu replica=%llu slots=%u-%u", r->core->number,
                 (ull)r->shard.group, (ull)r->shard.replica, r->shard.first_slot,
                 r->shard.last_slot);
    } else {
        /* Gone as if the order had never come: a report of it would pass for its creation. It comes
         * again with a later heartbeat. */
        log_error("replica_not_created", "core=%u group=%llu error=%s text=\"%s\"", r->core->number,
                  (ull)r->shard.group, err_name(w->result), w->msg);
        struct node *node = r->core->node;
        replica_close(r, ERR_NO_LEADER);
        /* A disk that fails a write or a sync is not to be trusted with the next one (fsyncgate).
         */
        if (w->result == ERR_IO)
            node->on_fatal(node->arg, w->result, "a new replica could not be written");
    }
    free(w);
}

static struct create_work *begin(struct core *core, const struct shard_desc *desc,
                                 uint64_t replica_id)
{
    struct replica *r = replica_alloc(core, desc->group);
    r->shard.replica = replica_id;
    r->shard.first_slot = desc->first_slot;
    r->shard.last_slot = desc->last_slot;
    struct create_work *w = mem_zalloc(sizeof *w);
    w->work = (struct io_work){.run = create_run, .done = create_done};
    w->replica = r;
    core->offload_jobs++;
    return w;
}

void replica_create(struct core *core, const struct shard_desc *desc, uint64_t replica_id,
                    bool campaign)
{
    struct create_work *w = begin(core, desc, replica_id);
    w->replica->shard.epoch = desc->epoch;
    w->campaign = campaign;
    w->position = (struct group_position){.index = 1, .term = 1, .conf_index = 1};
    w->position.conf.n = desc->n_replicas;
    for (uint32_t i = 0; i < desc->n_replicas; i++)
        w->position.conf.member[i] = (struct group_member){
            desc->replica[i].replica, desc->replica[i].node, desc->replica[i].role};
    io_offload(core->io, &w->work);
}

/* Its epoch is 0 until a snapshot brings the real one: older than any that the group has had. */
void replica_join(struct core *core, const struct shard_desc *desc, uint64_t replica_id)
{
    io_offload(core->io, &begin(core, desc, replica_id)->work);
}
