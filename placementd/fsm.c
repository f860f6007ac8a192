#include "placementd/fsm.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "common/base/mem.h"
#include "common/io/fs.h"

#define MAGIC 0x53504b53u /* "SKPS" */
#define FILE_VERSION 1u

/* ---- the file ---- */

static void file_encode(const struct group_position *p, struct slice state, struct buf *out)
{
    buf_u32(out, MAGIC);
    buf_u32(out, FILE_VERSION);
    size_t crc_at = out->n;
    buf_u32(out, 0);
    size_t begin = out->n;
    group_position_encode(p, out);
    buf_u32(out, (uint32_t)state.n);
    buf_append(out, state.p, state.n);
    uint32_t crc = crc32c(0, out->p + begin, out->n - begin);
    for (unsigned i = 0; i < 4; i++)
        out->p[crc_at + i] = (uint8_t)(crc >> 8 * i);
}

static enum err file_decode(struct slice in, struct group_position *p, struct cluster *out)
{
    struct cursor c = cursor_of(in);
    if (cursor_u32(&c) != MAGIC)
        return ERR_CORRUPT;
    uint32_t version = cursor_u32(&c);
    uint32_t crc = cursor_u32(&c);
    if (c.bad || version != FILE_VERSION)
        return c.bad ? ERR_CORRUPT : ERR_FORMAT;
    if (crc32c(0, c.left.p, c.left.n) != crc)
        return ERR_CORRUPT;
    struct group_position position;
    enum err e = group_position_decode(&c, &position);
    if (e != ERR_OK)
        return ERR_CORRUPT;
    uint32_t n = cursor_u32(&c);
    struct slice state = cursor_bytes(&c, n);
    if (c.bad || c.left.n)
        return ERR_CORRUPT;
    e = cluster_decode(state, out);
    if (e == ERR_OK)
        *p = position;
    return e;
}

static enum err load(struct fsm *f, struct group_position *p, struct cluster *out)
{
    struct buf bytes = {0};
    enum err e = fs_read_durable(f->path, &bytes);
    if (e == ERR_OK)
        e = file_decode(buf_slice(&bytes), p, out);
    buf_close(&bytes);
    return e;
}

static enum err write_first(struct fsm *f, const struct group_conf *initial, char *msg, size_t n)
{
    struct buf state = {0}, file = {0};
    f->durable = (struct group_position){0}; /* one that joins waits for a snapshot */
    if (initial->n)
        f->durable =
            (struct group_position){.index = 1, .term = 1, .conf_index = 1, .conf = *initial};
    cluster_init(&f->cluster);
    cluster_encode(&f->cluster, &state);
    file_encode(&f->durable, buf_slice(&state), &file);
    enum err e = fs_write_file(f->path, buf_slice(&file));
    if (e != ERR_OK) {
        snprintf(msg, n, "cannot write %.200s: %s", f->path, fs_last_error());
        cluster_close(&f->cluster);
    }
    buf_close(&state);
    buf_close(&file);
    return e;
}

/* A process that ended in fs_write_file() may have left the new file in place but not on the disk:
 * what is read here is built upon, so it has to survive a crash of the machine from now on. */
static enum err make_durable(const struct fsm *f, const char *dir)
{
    struct fs_file *file;
    enum err e = fs_open(f->path, FS_READ | FS_WRITE, &file);
    if (e != ERR_OK)
        return e;
    e = fs_sync(file);
    fs_close(file);
    return e == ERR_OK ? fs_sync_dir(dir) : e;
}

enum err fsm_open(struct fsm *f, struct io *io, const char *dir, const struct group_conf *initial,
                  const struct fsm_ops *ops, void *arg, char *msg, size_t n)
{
    memset(f, 0, sizeof(*f));
    f->io = io;
    f->ops = ops;
    f->arg = arg;
    snprintf(f->path, sizeof(f->path), "%s/state", dir);
    if (!fs_exists(f->path))
        return write_first(f, initial, msg, n);
    enum err e = make_durable(f, dir);
    if (e != ERR_OK) {
        snprintf(msg, n, "cannot sync %.200s: %s", f->path, fs_last_error());
        return e;
    }
    e = load(f, &f->durable, &f->cluster);
    if (e == ERR_FORMAT)
        snprintf(msg, n, "%.200s is of a newer version of placementd: run that one", f->path);
    else if (e != ERR_OK)
        snprintf(
            msg, n,
            "%.200s is damaged (%s): stop this member for good and add a new one with an empty "
            "data directory and a new id",
            f->path, err_text(e));
    return e;
}

/* ---- group_ops ---- */

static void on_apply(void *arg, const struct group_entry *e)
{
    struct fsm *f = arg;
    struct cluster_command cmd;
    struct cluster_result result;
    struct cluster_changes changes = {f->arg, f->ops->on_group, f->ops->on_node};
    if (f->dead)
        return;
    enum err err = cluster_command_decode(e->payload, &cmd);
    if (err != ERR_OK) {
        /* Skipping it would leave this member with another state than the rest. */
        f->dead = true;
        f->ops->on_fatal(f->arg, err,
                         "a committed command is not known to this version: upgrade this member");
        return;
    }
    cluster_apply(&f->cluster, &cmd, &changes, &result);
    cluster_command_close(&cmd);
    f->since_save++;
    f->ops->on_result(f->arg, e->index, e->term, &result);
}

static void on_applied(void *arg)
{
    (void)arg; /* answers are given one by one; the state is saved at the turn's end */
}

static void on_state(void *arg, enum group_state state, uint64_t term,
                     const struct group_member *leader)
{
    struct fsm *f = arg;
    f->ops->on_state(f->arg, state, term, leader ? leader->node : 0);
}

static void on_conf(void *arg, const struct group_conf *conf)
{
    (void)arg;
    (void)conf;
}

/* Answered at the turn's end, when the state and group_applied() agree. */
static void on_snapshot_wanted(void *arg, const struct group_member *to)
{
    struct fsm *f = arg;
    for (uint32_t i = 0; i < f->n_wanted; i++)
        if (f->wanted[i] == to->replica)
            return;
    if (f->n_wanted < LIMIT_GROUP_MEMBERS)
        f->wanted[f->n_wanted++] = to->replica;
    io_again(f->io);
}

static void on_install(void *arg, const struct group_position *p, struct slice manifest,
                       const struct group_member *from)
{
    struct fsm *f = arg;
    (void)from; /* the manifest is the whole state: there is nothing to fetch */
    buf_clear(&f->incoming);
    buf_append(&f->incoming, manifest.p, manifest.n);
    f->incoming_position = *p;
    f->has_incoming = true;
    io_again(f->io);
}

static void on_broken(void *arg, enum err why, const char *text)
{
    struct fsm *f = arg;
    f->ops->on_fatal(f->arg, why, text);
}

static const struct group_ops group_ops = {
    .apply = on_apply,
    .applied = on_applied,
    .on_state = on_state,
    .on_conf = on_conf,
    .snapshot_wanted = on_snapshot_wanted,
    .install = on_install,
    .on_broken = on_broken,
};

enum err fsm_start(struct fsm *f, struct group_set *set, uint64_t replica, bool campaign, char *msg,
                   size_t n)
{
    bool fresh = !group_set_has_log(set, FSM_GROUP);
    if (fresh && f->durable.index > 1) {
        snprintf(msg, n,
                 "the write-ahead log is gone but %.200s is there: this member may have "
                 "voted; add a new one with an empty data directory and a new id",
                 f->path);
        return ERR_CORRUPT;
    }
    struct group_options o = {
        .group = FSM_GROUP,
        .replica = replica,
        .durable = f->durable,
        .create = fresh,
        .campaign = fresh && campaign,
        .ops = &group_ops,
        .arg = f,
    };
    enum err e = group_start(set, &o, &f->group);
    if (e != ERR_OK)
        snprintf(msg, n, "the log does not continue %.200s: %s", f->path, err_text(e));
    return e;
}

/* ---- snapshots ---- */

static void save_run(struct io_work *w)
{
    struct fsm *f = CONTAINER_OF(w, struct fsm, save.work);
    f->save.result = fs_write_file(f->path, buf_slice(&f->save.bytes));
}

static void installed(struct fsm *f)
{
    if (f->save.result != ERR_OK) {
        cluster_close(&f->replacement);
        f->ops->on_fatal(f->arg, f->save.result, "cannot write a snapshot that was sent to us");
        return;
    }
    cluster_close(&f->cluster);
    f->cluster = f->replacement;
    memset(&f->replacement, 0, sizeof(f->replacement));
    f->durable = f->save.position;
    f->since_save = 0;
    group_installed(f->group, &f->durable);
    f->ops->on_replaced(f->arg);
}

static void save_done(struct io_work *w)
{
    struct fsm *f = CONTAINER_OF(w, struct fsm, save.work);
    f->save.busy = false;
    buf_close(&f->save.bytes);
    if (f->save.install) {
        installed(f);
    } else if (f->save.result == ERR_OK) {
        f->durable = f->save.position;
        /* While a newer snapshot is coming in the log is its concern. */
        if (!group_installing(f->group))
            group_compact(f->group, &f->durable);
    } else {
        /* The old file is whole and the log still there: nothing is lost, try again later. */
        f->since_save = FSM_SAVE_EVERY;
        f->retry_at = io_now(f->io) + 5 * NS_PER_S;
    }
}

static void save_begin(struct fsm *f, const struct group_position *p, struct slice state,
                       bool install)
{
    CHECK(!f->save.busy);
    f->save.busy = true;
    f->save.install = install;
    f->save.position = *p;
    f->save.work.run = save_run;
    f->save.work.done = save_done;
    file_encode(p, state, &f->save.bytes);
    io_offload(f->io, &f->save.work);
}

/* A manifest that does not decode: back to our own durable state; entries after it come again. */
static void refuse_incoming(struct fsm *f)
{
    struct cluster c;
    struct group_position p;
    enum err e = load(f, &p, &c);
    if (e != ERR_OK) {
        f->ops->on_fatal(f->arg, e, "the state file cannot be read back");
        return;
    }
    cluster_close(&f->cluster);
    f->cluster = c;
    f->durable = p;
    f->since_save = 0;
    group_install_failed(f->group, &f->durable);
    f->ops->on_replaced(f->arg);
}

static void take_incoming(struct fsm *f)
{
    f->has_incoming = false;
    if (cluster_decode(buf_slice(&f->incoming), &f->replacement) == ERR_OK)
        save_begin(f, &f->incoming_position, buf_slice(&f->incoming), true);
    else
        refuse_incoming(f);
    buf_close(&f->incoming);
}

static void offer(struct fsm *f)
{
    struct buf state = {0};
    cluster_encode(&f->cluster, &state);
    CHECK(state.n <= LIMIT_MANIFEST);
    for (uint32_t i = 0; i < f->n_wanted; i++)
        group_offer_snapshot(f->group, f->wanted[i], group_applied(f->group), buf_slice(&state));
    f->n_wanted = 0;
    buf_close(&state);
}

void fsm_turn(struct fsm *f)
{
    if (f->save.busy)
        return;
    if (f->has_incoming) {
        take_incoming(f);
        return;
    }
    if (group_installing(f->group))
        return;
    if (f->n_wanted)
        offer(f);
    if (f->since_save >= FSM_SAVE_EVERY && io_now(f->io) >= f->retry_at) {
        struct buf state = {0};
        cluster_encode(&f->cluster, &state);
        save_begin(f, group_applied(f->group), buf_slice(&state), false);
        buf_close(&state);
        f->since_save = 0;
    }
}

void fsm_save_soon(struct fsm *f)
{
    if (f->since_save < FSM_SAVE_EVERY)
        f->since_save = FSM_SAVE_EVERY;
    io_again(f->io);
}

bool fsm_idle(const struct fsm *f)
{
    return !f->save.busy;
}

void fsm_close(struct fsm *f)
{
    CHECK(!f->save.busy);
    buf_close(&f->incoming);
    cluster_close(&f->cluster);
    cluster_close(&f->replacement);
}

enum err fsm_propose(struct fsm *f, const struct cluster_command *cmd, uint64_t *index,
                     uint64_t *term)
{
    struct buf b = {0};
    cluster_command_encode(cmd, &b);
    enum err e = group_propose(f->group, buf_slice(&b), index, term);
    buf_close(&b);
    return e;
}

bool fsm_leads(const struct fsm *f)
{
    return f->group && group_state_of(f->group) == GROUP_LEADER;
}
