#include "shardd/replica.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/io/fs.h"
#include "shardd/apply.h"
#include "shardd/core.h"
#include "shardd/engine_key.h"
#include "shardd/merge.h"
#include "shardd/handover.h"
#include "shardd/replica_stamp.h"
#include "shardd/shard_bug.h"
#include "shardd/shard_change.h"

#define REOPEN_TICKS 10u
#define REOPEN_TICKS_MAX 300u
#define FORCED_EPOCHS 1000u

typedef unsigned long long ull;

/* ---- the meta key ---- */

void replica_store(struct engine_batch *b, const struct shard *shard,
                   const struct group_position *position)
{
    uint8_t key[32];
    struct buf value = {0};
    shard_encode(shard, &value);
    group_position_encode(position, &value);
    engine_batch_put(b, engine_key_meta(key, ENGINE_META_POSITION), buf_slice(&value));
    buf_close(&value);
}

static enum err decode_meta(struct slice raw, struct shard *shard, struct group_position *position)
{
    struct cursor c = cursor_of(raw);
    enum err e = shard_decode(&c, shard);
    if (e == ERR_OK)
        e = group_position_decode(&c, position);
    return e;
}

enum err replica_peek(struct engine *engine, const char *path, struct shard *shard,
                      struct group_position *position)
{
    uint8_t raw[32];
    struct buf copy = {0};
    enum err e = engine_peek(engine, path, engine_key_meta(raw, ENGINE_META_POSITION), &copy);
    if (e == ERR_OK)
        e = decode_meta(buf_slice(&copy), shard, position);
    buf_close(&copy);
    return e;
}

enum err replica_load(struct engine_db *db, bool durable, struct shard *shard,
                      struct group_position *position)
{
    uint8_t raw[32];
    struct slice key = engine_key_meta(raw, ENGINE_META_POSITION);
    struct buf copy = {0};
    enum err e;
    if (durable) {
        e = engine_get_durable(db, key, &copy);
    } else {
        struct engine_value value;
        e = engine_get(db, key, false, &value);
        if (e == ERR_OK) {
            buf_append(&copy, value.data.p, value.data.n);
            engine_value_close(&value);
        }
    }
    if (e == ERR_OK)
        e = decode_meta(buf_slice(&copy), shard, position);
    buf_close(&copy);
    return e;
}

/* What has expired by the log's time of what is durable may go. Not while a child is still to be
 * made of this database: its time stands still at the split's, and what expires after that is there
 * for it, as for its other replicas. */
static void note_durable_time(struct replica *r, const struct shard *durable)
{
    if (split_pending(r) == 0)
        engine_set_time(r->db, durable->time_ms);
}

enum err replica_load_sessions(struct replica *r)
{
    const struct shard *s = &r->shard;
    dedupe_clear(r->dedupe);
    note_durable_time(r, s);
    return dedupe_load(r->dedupe, r->db, s->group, s->first_slot, s->time_ms);
}

/* ---- what the group asks ---- */

void replica_write(struct replica *r)
{
    split_prep_mirror(r);
    replica_store(r->batch, &r->shard, &r->applied);
    enum err e = engine_write(r->db, r->batch);
    engine_batch_clear(r->batch);
    r->touched = true;
    if (e != ERR_OK)
        replica_set_broken(r, e, "the storage engine refused a committed write");
}

void replica_freeze(struct replica *r)
{
    if (r->state == REPLICA_BROKEN)
        return; /* what is in memory may be half of an entry: it is replayed */
    CHECK(engine_batch_count(r->batch) == 0);
    if (!SHARD_BUG(ROWS) && !SHARD_BUG(ROWS_LATE))
        dedupe_store(r->dedupe, r->shard.group, r->shard.first_slot, r->batch);
    if (engine_batch_count(r->batch) > 0)
        replica_write(r);
    if (r->state != REPLICA_BROKEN)
        engine_freeze(r->db);
    if (SHARD_BUG(ROWS_LATE)) {
        dedupe_store(r->dedupe, r->shard.group, r->shard.first_slot, r->batch);
        replica_write(r);
    }
}

static void on_result(void *arg, uint32_t i, const struct apply_outcome *o)
{
    struct replica *r = arg;
    r->core->stats.repeated += o->repeated;
    if (r->replying)
        write_batch_result(r, r->replying, i, o);
}

static void on_apply(void *arg, const struct group_entry *e)
{
    struct replica *r = arg;
    if (r->state == REPLICA_BROKEN)
        return;
    bool reads = false, change = shard_change_is(e->payload);
    enum err result = change ? ERR_OK : apply_needs_engine(e->payload, &reads);
    if (result == ERR_OK && reads && engine_batch_count(r->batch) > 0)
        replica_write(r); /* they must see it */
#ifdef SHARDKV_TEST_HOOKS
    shard_test_clock = io_wall_ms(r->core->io);
#endif
    r->replying = write_path_take(&r->writes, e->index, e->term);
    if (result == ERR_OK && change)
        result = replica_apply_change(r, e);
    else if (result == ERR_OK && r->state != REPLICA_BROKEN)
        result = apply_command(&r->shard, r->dedupe, e->payload, r->db, r->batch, on_result, r);
    if (result != ERR_OK)
        replica_set_broken(r, result, "a committed entry cannot be applied");
    r->applied.index = e->index;
    r->applied.term = e->term;
    if (r->replying) {
        write_batch_free(r->replying);
        r->replying = NULL;
    }
}

static void on_applied(void *arg)
{
    struct replica *r = arg;
    if (r->state == REPLICA_BROKEN)
        return;
    r->applied = *group_applied(r->group);
    write_path_skipped(&r->writes, r->applied.index);
    replica_write(r);
    read_path_applied(r);
    split_continue(r);
}

static void on_state(void *arg, enum group_state state, uint64_t term,
                     const struct group_member *leader)
{
    struct replica *r = arg;
    log_debug("group_state", "core=%u group=%llu state=%s term=%llu leader=%llu", r->core->number,
              (ull)r->shard.group,
              state == GROUP_LEADER      ? "leader"
              : state == GROUP_CANDIDATE ? "candidate"
                                         : "follower",
              (ull)term, leader ? (ull)leader->replica : 0ULL);
    handover_settle(r);
    read_path_role_changed(r);
    core_changed(r->core);
}

/* One change alters one member: more at once is one that was forced. Its epoch goes far beyond what
 * any lost member may have seen. */
static uint32_t epochs_of(const struct group_conf *from, const struct group_conf *to)
{
    unsigned changes = 0;
    for (uint32_t i = 0; i < from->n; i++) {
        const struct group_member *now = group_conf_find(to, from->member[i].replica);
        changes += !now || now->role != from->member[i].role;
    }
    for (uint32_t i = 0; i < to->n; i++)
        changes += !group_conf_find(from, to->member[i].replica);
    return changes > 1 ? FORCED_EPOCHS : 1;
}

static void on_conf(void *arg, const struct group_conf *conf)
{
    struct replica *r = arg;
    if (r->state == REPLICA_BROKEN)
        return; /* r->applied stays where the engine is */
    r->shard.epoch.members += epochs_of(&r->applied.conf, conf);
    /* The whole position: a batch written later in this run must not claim an index before this
     * entry, or a replay would count the change twice. */
    r->applied = *group_applied(r->group);
    core_changed(r->core);
}

static void on_broken(void *arg, enum err why, const char *text)
{
    replica_set_broken(arg, why, text);
}

static const struct group_ops replica_group_ops = {
    .apply = on_apply,
    .applied = on_applied,
    .on_state = on_state,
    .on_conf = on_conf,
    .snapshot_wanted = replica_snapshot_wanted,
    .install = replica_install,
    .on_broken = on_broken,
};

void replica_set_broken(struct replica *r, enum err e, const char *text)
{
    if (r->state == REPLICA_BROKEN)
        return;
    r->state = REPLICA_BROKEN;
    r->heals = e == ERR_NO_SPACE || e == ERR_IO;
    r->reopen_at = r->core->ticks + REOPEN_TICKS;
    r->reopen_ticks = REOPEN_TICKS;
    snprintf(r->broken, sizeof r->broken, "%s: %s", err_name(e), text);
    log_error("replica_broken", "core=%u group=%llu error=%s text=\"%s\"", r->core->number,
              (ull)r->shard.group, err_name(e), text);
    core_changed(r->core);
}

/* ---- life ---- */

struct replica *replica_alloc(struct core *core, uint64_t group_id)
{
    struct replica *r = mem_zalloc(sizeof *r);
    r->core = core;
    r->shard.group = group_id;
    r->state = REPLICA_STARTING;
    snprintf(r->path, sizeof r->path, "%s/groups/%llu", core->node->options.data_dir,
             (ull)group_id);
    write_path_init(&r->writes);
    read_path_init(&r->reads);
    list_init(&r->dirty);
    merge_init(r);
    split_init(&r->split);
    r->batch = engine_batch_create();
    r->dedupe = dedupe_create();
    map_set(&core->replicas, group_id, r);
    return r;
}

void replica_run(struct replica *r, const struct group_position *position, bool campaign)
{
    struct core *c = r->core;
    struct group_options o = {
        .group = r->shard.group,
        .replica = r->shard.replica,
        .durable = *position,
        .create = !group_set_has_log(c->groups, r->shard.group),
        .campaign = campaign,
        .ops = &replica_group_ops,
        .arg = r,
    };
    if (o.create && position->index > 1) {
        /* Its vote is gone with the log: it must not vote again under this id. */
        replica_set_broken(r, ERR_CORRUPT, "there is data but no log of it in the WAL");
        return;
    }
    split_prep_drop(r); /* of an earlier run: what is applied again would be behind it */
    enum err e = split_load(r);
    if (e != ERR_OK) {
        replica_set_broken(r, e, "the notes of its splits cannot be read");
        return;
    }
    e = replica_load_sessions(r);
    if (e != ERR_OK) {
        replica_set_broken(r, e, "what it knows of its sessions cannot be read");
        return;
    }
    r->applied = *position;
    r->durable_index = position->index;
    r->state = REPLICA_RUNNING;
    merge_opened(r);
    e = group_start(c->groups, &o, &r->group);
    if (e != ERR_OK) {
        r->group = NULL;
        replica_set_broken(r, e, "the log in the WAL does not fit the data");
        return;
    }
    if (position->index > 0) /* without a state it owns nothing */
        router_add(&c->router, r);
    core_changed(c);
}

struct replica *replica_open(struct core *core, uint64_t group_id)
{
    struct replica *r = replica_alloc(core, group_id);
    char path[3100], msg[256] = "";
    snprintf(path, sizeof path, "%s/db", r->path);
    struct shard shard = r->shard;
    struct group_position position;
    enum err e = replica_snapshot_recover(r->path);
    if (e == ERR_OK)
        e = replica_stamp_check(r->path, core->wal_id, msg, sizeof msg);
    if (e == ERR_OK)
        e = engine_open(core->node->engine, path, false, &r->db, msg, sizeof msg);
    if (e == ERR_OK) {
        snprintf(msg, sizeof msg, "its position cannot be read");
        e = replica_load(r->db, false, &shard, &position);
    }
    if (e == ERR_OK && shard.group != group_id) {
        snprintf(msg, sizeof msg, "its data is that of group %llu", (ull)shard.group);
        e = ERR_FOREIGN;
    }
    if (e != ERR_OK) {
        replica_set_broken(r, e, msg);
        return r;
    }
    r->shard = shard;
    if (tombstones_has(&core->tombstones, group_id, shard.replica)) {
        r->state = REPLICA_STOPPED; /* its removal was cut short: maintenance goes on with it */
        r->doomed = true;
        return r;
    }
    replica_run(r, &position, false);
    return r;
}

bool replica_quiet(const struct replica *r)
{
    return !r->busy_offload && !r->split.busy && r->checkpoints == 0 && r->install == NULL &&
           r->reads.offloaded == 0 && r->state != REPLICA_STARTING;
}

void replica_close(struct replica *r, enum err why)
{
    CHECK(replica_quiet(r));
    router_remove(&r->core->router, r);
    merge_closed(r);
    read_path_close(&r->reads, why);
    write_path_close(&r->writes, why);
    if (r->group)
        group_stop(r->group);
    if (r->db)
        engine_close(r->db);
    engine_batch_destroy(r->batch);
    dedupe_destroy(r->dedupe);
    split_prep_drop(r);
    split_close(&r->split);
    list_remove(&r->dirty);
    map_remove(&r->core->replicas, r->shard.group);
    free(r);
}

bool replica_is_leader(const struct replica *r)
{
    return r->state == REPLICA_RUNNING && group_state_of(r->group) == GROUP_LEADER;
}

void replica_mark_dirty(struct replica *r)
{
    if (list_empty(&r->dirty))
        list_push_back(&r->core->dirty, &r->dirty);
}

void replica_describe(const struct replica *r, struct shard_desc *out)
{
    const struct group_conf *conf = &r->applied.conf;
    *out = (struct shard_desc){.group = r->shard.group,
                               .first_slot = r->shard.first_slot,
                               .last_slot = r->shard.last_slot,
                               .epoch = r->shard.epoch,
                               .n_replicas = conf->n};
    for (uint32_t i = 0; i < conf->n; i++)
        out->replica[i] = (struct shard_replica){conf->member[i].replica, conf->member[i].node,
                                                 conf->member[i].role};
    const struct group_member *leader = r->group ? group_leader(r->group) : NULL;
    out->leader = leader ? leader->replica : 0;
}

/* ---- the way back of a broken one ---- */

struct reopen_work {
    struct io_work work;
    struct replica *replica;
    enum err result;
    struct shard shard;
    struct group_position position;
    char msg[256];
};

/* What the engine had not made durable goes with its memory: the log has it. */
static void reopen_run(struct io_work *work)
{
    struct reopen_work *w = CONTAINER_OF(work, struct reopen_work, work);
    struct replica *r = w->replica;
    char path[3100];
    snprintf(path, sizeof path, "%s/db", r->path);
    if (r->db)
        engine_close(r->db);
    r->db = NULL;
    enum err e = replica_swap_recover(r->path);
    if (e == ERR_OK) /* at the start it may have come to neither this nor the tombstone */
        e = replica_stamp_check(r->path, r->core->wal_id, w->msg, sizeof w->msg);
    if (e == ERR_OK)
        e = engine_open(r->core->node->engine, path, false, &r->db, w->msg, sizeof w->msg);
    if (e == ERR_OK)
        e = replica_load(r->db, false, &w->shard, &w->position);
    if (e == ERR_OK && w->shard.group != r->shard.group)
        e = ERR_FOREIGN;
    w->result = e;
}

static void reopened(struct replica *r, const struct group_position *position)
{
    const struct tombstones *t = &r->core->tombstones;
    if (tombstones_has(t, r->shard.group, r->shard.replica)) {
        r->tombstone = t->version;
        r->doomed = true;
        return;
    }
    replica_run(r, position, false);
    log_info("replica_reopened", "core=%u group=%llu index=%llu", r->core->number,
             (ull)r->shard.group, (ull)position->index);
}

static void reopen_done(struct io_work *work)
{
    struct reopen_work *w = CONTAINER_OF(work, struct reopen_work, work);
    struct replica *r = w->replica;
    r->busy_offload = false;
    r->core->offload_jobs--;
    if (w->result != ERR_OK) {
        log_warn("replica_not_reopened", "core=%u group=%llu error=%s text=\"%s\"", r->core->number,
                 (ull)r->shard.group, err_name(w->result), w->msg);
        r->reopen_ticks =
            r->reopen_ticks * 2 < REOPEN_TICKS_MAX ? r->reopen_ticks * 2 : REOPEN_TICKS_MAX;
        r->reopen_at = r->core->ticks + r->reopen_ticks;
    } else if (!r->doomed && !r->core->draining) {
        r->shard = w->shard;
        engine_batch_clear(r->batch);
        engine_db_stats(r->db, &r->stats);
        r->state = REPLICA_STOPPED;
        reopened(r, &w->position);
    }
    free(w);
}

void replica_reopen(struct replica *r)
{
    if (r->state != REPLICA_BROKEN || r->group || !r->heals || !replica_quiet(r) ||
        r->core->no_space || r->core->ticks < r->reopen_at)
        return;
    struct reopen_work *w = mem_zalloc(sizeof *w);
    w->work.run = reopen_run;
    w->work.done = reopen_done;
    w->replica = r;
    r->busy_offload = true;
    r->core->offload_jobs++;
    io_offload(r->core->io, &w->work);
}

/* ---- maintenance ---- */

struct maintain_work {
    struct io_work work;
    struct replica *replica;
    enum err result;
    struct shard shard;
    struct group_position position;
};

static void maintain_run(struct io_work *work)
{
    struct maintain_work *w = CONTAINER_OF(work, struct maintain_work, work);
    w->result = engine_flush_frozen(w->replica->db);
    if (w->result == ERR_OK)
        w->result = replica_load(w->replica->db, true, &w->shard, &w->position);
}

static void maintain_done(struct io_work *work)
{
    struct maintain_work *w = CONTAINER_OF(work, struct maintain_work, work);
    struct replica *r = w->replica;
    r->busy_offload = false;
    r->core->offload_jobs--;
    engine_db_stats(r->db, &r->stats); /* an idle one's memtable must not count for ever */
    if (w->result == ERR_OK)
        note_durable_time(r, &w->shard);
    if (w->result != ERR_OK) {
        replica_set_broken(r, w->result, "what is durable cannot be made or read");
    } else if (r->state == REPLICA_RUNNING && w->position.index > r->durable_index &&
               !replica_holds_log(r)) {
        r->durable_index = w->position.index;
        group_compact(r->group, &w->position);
    }
    free(w);
    split_continue(r);
}

void replica_maintain(struct replica *r)
{
    if (r->busy_offload || r->checkpointing > 0 || r->install || r->state != REPLICA_RUNNING)
        return;
    replica_freeze(r);
    struct maintain_work *w = mem_zalloc(sizeof *w);
    w->work.run = maintain_run;
    w->work.done = maintain_done;
    w->replica = r;
    r->busy_offload = true;
    r->core->offload_jobs++;
    io_offload(r->core->io, &w->work);
}
