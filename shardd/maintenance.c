#include "shardd/maintenance.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/io/fs.h"
#include "common/wal/wal.h"
#include "shardd/core.h"
#include "shardd/handover.h"

#define TICKS_SPACE 10u
#define SPACE_NEAR 16u /* reserves: with less than so many left each tick looks */
#define WAL_SEGMENTS_MAX 4u
/* More than this is not kept for replicas that are broken for good. */
#define WAL_OF_BROKEN (1 * GIB)
/* Below the reserve puts are refused, above one and a half times of it they are taken again. It is
 * what a node needs to get out of there by itself: memtables to flush, so that the log can be cut,
 * and the segments that the log goes on in meanwhile. Not below 5 % of a disk, not above this, and
 * not above a part of a small disk. */
#define SPACE_RESERVE (256 * MIB)
#define SPACE_RESERVE_PART 8u
/* A flush needs this much on top of its bytes. */
#define FLUSH_ROOM (8 * MIB)

static void space_run(struct io_work *work)
{
    struct core *c = CONTAINER_OF(work, struct core, space_work);
    uint64_t free_bytes = 0, total = 0;
    if (fs_space(c->node->options.data_dir, &free_bytes, &total) == ERR_OK) {
        c->space_free = free_bytes;
        c->space_size = total;
    }
}

static uint64_t space_reserve(const struct core *c)
{
    uint64_t most = c->disk_size / SPACE_RESERVE_PART;
    uint64_t need = engine_memtable_budget(c->node->engine) / 2 +
                    2 * wal_segment_size(group_set_wal(c->groups));
    if (need < c->disk_size / 20)
        need = c->disk_size / 20;
    if (need > SPACE_RESERVE)
        need = SPACE_RESERVE;
    return need < most ? need : most;
}

/* What broke for want of space comes back now. */
static void reopen_broken(struct core *c)
{
    size_t it = 0;
    void *value;
    while (map_next(&c->replicas, &it, NULL, &value)) {
        struct replica *r = value;
        r->reopen_at = c->ticks;
    }
}

static void space_done(struct io_work *work)
{
    struct core *c = CONTAINER_OF(work, struct core, space_work);
    c->space_busy = false;
    c->disk_free = c->space_free;
    c->disk_size = c->space_size;
    if (c->disk_size == 0)
        return;
    uint64_t reserve = space_reserve(c);
    bool before = c->no_space;
    c->no_space = c->disk_free < (before ? reserve + reserve / 2 : reserve);
    /* Earlier than puts are refused: what is only kept for later goes first. */
    wal_set_tight(group_set_wal(c->groups), c->disk_free < 2 * reserve);
    c->space_near = c->disk_free < SPACE_NEAR * reserve;
    if (before && !c->no_space)
        reopen_broken(c);
    if (c->no_space != before)
        log_warn(c->no_space ? "disk_full" : "disk_freed", "core=%u free_bytes=%llu reserve=%llu",
                 c->number, (unsigned long long)c->disk_free, (unsigned long long)reserve);
}

static void watch_space(struct core *c)
{
    if (c->space_busy)
        return;
    c->space_busy = true;
    c->space_work.run = space_run;
    c->space_work.done = space_done;
    io_offload(c->io, &c->space_work);
}

/* Runs in the background once nothing of the replica is under way. The directory has its new name
 * by then: the group may come again meanwhile, and a crash leaves nothing that looks like a replica
 * (core_create() removes what is left). */
struct remove_work {
    struct io_work work;
    struct core *core;
    char groups[3000], path[3100];
};

static void remove_run(struct io_work *work)
{
    struct remove_work *w = CONTAINER_OF(work, struct remove_work, work);
    if (fs_sync_dir(w->groups) != ERR_OK || fs_rmdir_all(w->path) != ERR_OK)
        log_warn("replica_not_removed", "path=%s error=\"%s\"", w->path, fs_last_error());
}

static void remove_done(struct io_work *work)
{
    struct remove_work *w = CONTAINER_OF(work, struct remove_work, work);
    w->core->offload_jobs--;
    core_changed(w->core);
    free(w);
}

static void destroy(struct core *c, struct replica *r)
{
    uint64_t group = r->shard.group;
    struct remove_work *w = mem_zalloc(sizeof *w);
    w->core = c;
    w->work.run = remove_run;
    w->work.done = remove_done;
    w->work.class = IO_WORK_LONG;
    snprintf(w->groups, sizeof w->groups, "%.2900s/groups", c->node->options.data_dir);
    snprintf(w->path, sizeof w->path, "%s.%llu.gone", r->path, (unsigned long long)c->removals++);
    char path[sizeof r->path];
    memcpy(path, r->path, sizeof path);
    replica_close(r, ERR_WRONG_SHARD);
    if (fs_rename(path, w->path) != ERR_OK) {
        log_warn("replica_not_renamed", "path=%s error=\"%s\"", path, fs_last_error());
        memcpy(w->path, path, sizeof path);
    }
    if (group_set_has_log(c->groups, group))
        group_set_drop_log(c->groups, group);
    log_info("replica_destroyed", "core=%u group=%llu", c->number, (unsigned long long)group);
    c->offload_jobs++;
    io_offload(c->io, &w->work);
}

/* A flush for which there is no room would break the replica, and free nothing. */
static void maintain(struct core *c, struct replica *r)
{
    if (c->disk_size == 0 || c->disk_free > r->stats.memtable_bytes + FLUSH_ROOM)
        replica_maintain(r);
}

static void look_after(struct core *c, struct replica *r, struct replica **largest)
{
    replica_install_tick(r);
    split_continue(r);
    if (r->doomed)
        return;
    if (r->state == REPLICA_BROKEN && r->group && replica_quiet(r)) {
        router_remove(&c->router, r);
        read_path_close(&r->reads, ERR_NO_LEADER);
        write_path_close(&r->writes, ERR_NO_LEADER);
        group_stop(r->group); /* a broken replica must not lead */
        r->group = NULL;
        return;
    }
    replica_reopen(r);
    handover_settle(r);
    if (r->state != REPLICA_RUNNING || !r->db || r->busy_offload)
        return;
    if (r->touched || r->stats.stalled || r->stats.memtable_bytes > 0)
        engine_db_stats(r->db, &r->stats);
    r->touched = false;
    if (r->stats.broken)
        replica_set_broken(r, ERR_IO, "the storage engine reports a background error");
    else if (!*largest || r->stats.memtable_bytes > (*largest)->stats.memtable_bytes)
        *largest = r;
    if (r->stats.full)
        maintain(c, r);
}

/* A replica whose data is wrong waits for placementd to have it destroyed. Meanwhile its log holds
 * the WAL; past a bound that would take the disk from the healthy ones. */
static void give_up_logs(struct core *c)
{
    unsigned segments;
    uint64_t bytes;
    size_t it = 0;
    void *value;
    wal_usage(group_set_wal(c->groups), &segments, &bytes);
    while (bytes > WAL_OF_BROKEN && map_next(&c->replicas, &it, NULL, &value)) {
        struct replica *r = value;
        if (r->state != REPLICA_BROKEN || r->heals || r->group || r->log_given_up)
            continue;
        r->log_given_up = true;
        group_set_give_up_log(c->groups, r->shard.group);
        log_warn("log_given_up", "core=%u group=%llu wal_bytes=%llu; the replica is broken: %s",
                 c->number, (unsigned long long)r->shard.group, (unsigned long long)bytes,
                 r->broken);
    }
}

void maintenance_bury(struct core *c)
{
    size_t it = 0;
    void *value;
    if (c->stage > 0)
        return;
    tombstones_save(&c->tombstones);
    while (map_next(&c->replicas, &it, NULL, &value)) {
        struct replica *r = value;
        if (r->doomed && r->tombstone <= c->tombstones.saved && replica_quiet(r) && !split_holds(r))
            destroy(c, r);
    }
}

void maintenance_tick(struct core *c)
{
    struct engine *engine = c->node->engine;
    struct replica *largest = NULL;
    size_t it = 0;
    void *value;
    c->ticks++;
    while (map_next(&c->replicas, &it, NULL, &value))
        look_after(c, value, &largest);
    maintenance_bury(c);
    load_tick(c);
    give_up_logs(c);
    uint64_t used = engine_memtable_bytes(engine), budget = engine_memtable_budget(engine);
    c->over_memory = used > budget + budget / 2;
    if (used > budget / 4 * 3 && largest)
        maintain(c, largest);
    struct group *pinning = group_set_pinning(c->groups, WAL_SEGMENTS_MAX);
    if (pinning) {
        struct replica *r = core_find_replica(c, group_id(pinning));
        if (r && !replica_holds_log(r)) /* it would cut nothing */
            maintain(c, r);
    }
    if (c->space_near || c->ticks % TICKS_SPACE == 1)
        watch_space(c);
}
