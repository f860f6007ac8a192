#include "shardd/core.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/io/fs.h"
#include "common/raft/snapshot_stream.h"
#include "common/wal/wal.h"
#include "shardd/core_stop.h"
#include "shardd/handover.h"
#include "shardd/maintenance.h"
#include "shardd/session.h"

#define TICK_NS (100 * NS_PER_MS)

struct replica *core_find_replica(struct core *c, uint64_t group)
{
    return map_find(&c->replicas, group);
}

unsigned core_of_group(const struct node *n, uint64_t group)
{
    return (unsigned)(group % n->options.cores);
}

void core_changed(struct core *c)
{
    if (c->node->on_changed && c->stage == 0) /* a stopping node reports nothing any more */
        c->node->on_changed(c->node->arg, c);
}

/* ---- mail ---- */

struct core_mail {
    struct io_mail mail;
    void (*fn)(struct core *c, void *arg);
    void *arg;
};

static void core_mail_deliver(struct io_mail *mail, void *receiver)
{
    struct core_mail *m = CONTAINER_OF(mail, struct core_mail, mail);
    m->fn(receiver, m->arg);
    free(m);
}

void core_post(struct core *to, void (*fn)(struct core *c, void *arg), void *arg)
{
    struct core_mail *m = mem_zalloc(sizeof *m);
    m->mail.deliver = core_mail_deliver;
    m->fn = fn;
    m->arg = arg;
    io_post(to->io, &m->mail);
}

/* ---- the turn ---- */

static void core_turn(void *arg)
{
    struct core *c = arg;
    c->stats.turns++;
    c->turn_values = 0;
    struct list *item;
    while ((item = list_pop_front(&c->dirty))) {
        struct replica *r = CONTAINER_OF(item, struct replica, dirty);
        if (r->group && r->state == REPLICA_RUNNING) {
            bool held = handover_holds(r);
            if (!held)
                write_path_flush(r);
            read_path_flush(r, held && !replica_is_leader(r));
        } else {
            read_path_fail(&r->reads, ERR_NO_LEADER);
            write_path_close(&r->writes, ERR_NO_LEADER);
        }
    }
    if (c->groups)
        group_set_turn(c->groups);
    if (c->peers)
        peer_flush(c->peers);
    conn_set_flush(c->conns);
    latency_add(&c->stats.turn, io_now_exact(c->io) - io_now(c->io));
}

static void on_tick(struct io_timer *t)
{
    struct core *c = CONTAINER_OF(t, struct core, tick);
    atomic_fetch_add_explicit(&c->alive, 1, memory_order_relaxed);
    request_expire(c, io_now(c->io));
    if (c->stage > 0)
        core_stop_step(c);
    else
        maintenance_tick(c);
    if (c->stage < CORE_STOPPED)
        io_timer_set(c->io, &c->tick, io_now(c->io) + (c->stage > 0 ? TICK_NS / 10 : TICK_NS));
}

/* ---- peers ---- */

static void on_group_send(void *arg, uint32_t node, uint64_t group, const struct slice *parts,
                          unsigned n)
{
    struct core *c = arg;
    if (c->peers)
        peer_send(c->peers, node, group, parts, n);
}

static void on_group_fatal(void *arg, enum err why, const char *text)
{
    struct core *c = arg;
    c->node->on_fatal(c->node->arg, why, text);
}

/* A message that arrived on another core's link. */
struct peer_mail {
    struct io_mail mail;
    uint32_t from;
    uint64_t group;
    struct buf message;
};

static void peer_mail_deliver(struct io_mail *mail, void *receiver)
{
    struct peer_mail *m = CONTAINER_OF(mail, struct peer_mail, mail);
    struct core *c = receiver;
    if (c->groups)
        (void)group_set_receive(c->groups, m->from, m->group, buf_slice(&m->message));
    buf_close(&m->message);
    free(m);
}

static void on_peer_message(void *arg, uint32_t from, uint64_t group, struct slice message)
{
    struct core *c = arg;
    unsigned to = core_of_group(c->node, group);
    if (to == c->number) {
        if (c->groups)
            (void)group_set_receive(c->groups, from, group, message);
        return;
    }
    struct peer_mail *m = mem_zalloc(sizeof *m);
    m->mail.deliver = peer_mail_deliver;
    m->from = from;
    m->group = group;
    buf_append(&m->message, message.p, message.n);
    io_post(c->node->core[to]->io, &m->mail);
}

static bool on_resolve(void *arg, uint32_t node, struct io_addr *out)
{
    struct core *c = arg;
    const struct shard_node *n = shard_map_find_node(&c->map, node);
    return n && io_addr_parse(n->peer_addr, out) == ERR_OK;
}

/* A peer's connection on its way to the core of the same number as its sender's. */
struct peer_handover {
    struct core *from;
    struct peer_hello hello;
    unsigned to;
    int handle;
    struct buf rest;
};

static void take_handover(struct core *c, void *arg)
{
    struct peer_handover *h = arg;
    if (!c->peers || c->stage > 0)
        io_handle_close(h->handle);
    else if (h->hello.purpose == PEER_SNAPSHOT)
        snapshot_serve_handle(c->snapshot_server, h->handle, buf_slice(&h->rest));
    else
        peer_take_handle(c->peers, h->handle, &h->hello, buf_slice(&h->rest));
    buf_close(&h->rest);
    free(h);
}

static void on_peer_detached(void *arg, int handle, struct slice rest)
{
    struct peer_handover *h = arg;
    if (handle < 0) {
        free(h);
        return;
    }
    h->handle = handle;
    buf_append(&h->rest, rest.p, rest.n);
    core_post(h->from->node->core[h->to], take_handover, h);
}

static void on_peer_hello(void *arg, struct conn *conn, const struct peer_hello *hello)
{
    struct core *c = arg;
    unsigned to = hello->core % c->node->options.cores;
    if (c->stage > 0) {
        conn_abort(conn);
    } else if (to != c->number) {
        struct peer_handover *h = mem_zalloc(sizeof *h);
        h->from = c;
        h->hello = *hello;
        h->to = to;
        conn_detach(conn, on_peer_detached, h);
    } else if (hello->purpose == PEER_SNAPSHOT) {
        snapshot_serve(c->snapshot_server, conn);
    } else {
        peer_take(c->peers, conn, hello);
    }
}

static struct peer_hello self_hello(const struct core *c)
{
    struct peer_hello h = {.node = c->node_id,
                           .incarnation = c->node->options.incarnation,
                           .core = (uint16_t)c->number};
    memcpy(h.cluster, c->cluster, sizeof h.cluster);
    return h;
}

void core_fetch_options(struct core *c, struct snapshot_fetch_options *o)
{
    o->self = self_hello(c);
    o->resolve = core_resolve_replica;
}

/* snapshot_fetch's owner is a replica. */
bool core_resolve_replica(void *arg, uint32_t node, struct io_addr *out)
{
    struct replica *r = arg;
    return on_resolve(r->core, node, out);
}

void core_join(struct core *c, const uint8_t cluster[16], uint32_t node_id)
{
    if (c->peers || c->stage > 0)
        return;
    memcpy(c->cluster, cluster, sizeof c->cluster);
    c->node_id = node_id;
    struct peer_set_options o = {
        .io = c->io,
        .conns = c->conns,
        .self = self_hello(c),
        .arg = c,
        .resolve = on_resolve,
        .on_message = on_peer_message,
        .on_hello = on_peer_hello,
    };
    c->peers = peer_set_create(&o);
}

void core_accept_client(struct core *c, int handle)
{
    session_accept(c, handle, slice_of(NULL, 0), false, 0, NULL);
}

void core_accept_peer(struct core *c, int handle)
{
    if (c->peers && c->stage == 0)
        peer_accept(c->peers, handle);
    else
        io_handle_close(handle);
}

/* A replica that its group does not count any more, as the map has it. */
static bool has_stray(const struct core *c)
{
    size_t it = 0;
    void *value;
    while (map_next(&c->replicas, &it, NULL, &value)) {
        const struct replica *r = value;
        const struct shard_desc *d = shard_map_find(&c->map, r->shard.first_slot);
        bool counted = false;
        for (uint32_t i = 0; d && d->group == r->shard.group && i < d->n_replicas; i++)
            counted = counted || d->replica[i].replica == r->shard.replica;
        if (!counted && r->state != REPLICA_STARTING && r->applied.index > 0)
            return true;
    }
    return false;
}

void core_set_map(struct core *c, const struct shard_map *map)
{
    for (uint32_t i = 0; i < map->n_nodes && c->peers; i++) {
        const struct shard_node *old = shard_map_find_node(&c->map, map->nodes[i].node);
        if (old && strcmp(old->peer_addr, map->nodes[i].peer_addr) != 0)
            peer_forget(c->peers, old->node);
    }
    bool newer = map->version != c->map.version;
    struct shard_map old = c->map;
    shard_map_copy(&c->map, map);
    /* What the shards here have said themselves may be ahead of placementd. */
    for (uint32_t i = 0; i < old.n_shards; i++) {
        const struct shard_desc *now = shard_map_find(&c->map, old.shards[i].first_slot);
        if (now && shard_epoch_less(now->epoch, old.shards[i].epoch))
            shard_map_put_shard(&c->map, &old.shards[i]);
    }
    shard_map_close(&old);
    if (!newer)
        return;
    session_map_changed(c);
    if (has_stray(c)) /* there is an order for it to come */
        core_changed(c);
}

void core_set_limits(struct core *c, uint64_t key_max, uint64_t value_max, uint64_t snapshot_rate)
{
    c->key_max = key_max;
    c->value_max = value_max;
    load_configure(c, snapshot_rate);
}

void core_destroy_replica(struct core *c, uint64_t group, uint64_t replica)
{
    struct replica *r = core_find_replica(c, group);
    /* A replica that could not be opened does not know which one it is: placementd, which does not
     * know a number 0 either, must not have it destroyed for a full disk or too few file handles.
     */
    if (!r || replica == 0 || r->shard.replica != replica || r->doomed)
        return;
    r->doomed = true;
    r->tombstone = tombstones_add(&c->tombstones, group, replica);
    tombstones_save(&c->tombstones);
    snapshot_store_drop(c->snapshots, group, NULL, NULL);
    replica_install_cancel(r);
}

static void on_tombstones_saved(void *arg)
{
    maintenance_bury(arg);
}

/* ---- life ---- */

struct open_walk {
    struct core *core;
    enum err result;
    struct buf orphans; /* u64 each */
};

/* A split that did not come to its end: nothing ever ran from there. */
static bool was_unborn(struct open_walk *walk, uint64_t group)
{
    char path[3100];
    snprintf(path, sizeof path, "%.2900s/groups/%llu", walk->core->node->options.data_dir,
             (unsigned long long)group);
    enum err e = split_prep_recover(walk->core, group, path);
    if (e != ERR_OK)
        walk->result = e;
    return e != ERR_OK || !fs_exists(path);
}

static void open_group(void *arg, const char *name, bool is_dir)
{
    struct open_walk *walk = arg;
    struct core *c = walk->core;
    char *end;
    unsigned long long id = strtoull(name, &end, 10);
    if (!is_dir)
        return;
    /* <id>.new: a creation that a crash cut short; <id>.<n>.gone: a removal. */
    if (*end != 0 || id == 0) {
        char path[3200];
        const char *last = strrchr(name, '.');
        snprintf(path, sizeof path, "%s/groups/%s", c->node->options.data_dir, name);
        if (core_of_group(c->node, id) == c->number && last &&
            (strcmp(last, ".new") == 0 || strcmp(last, ".gone") == 0))
            ((struct open_walk *)arg)->result = fs_rmdir_all(path);
        return;
    }
    if (core_of_group(c->node, id) != c->number || was_unborn(walk, id))
        return;
    if (replica_open(c, id))
        atomic_fetch_add(&c->node->replicas_opened, 1);
}

static enum err open_replicas(struct core *c, char *msg, size_t n)
{
    char path[3000];
    snprintf(path, sizeof path, "%.2900s/groups", c->node->options.data_dir);
    struct open_walk walk = {.core = c};
    enum err e = fs_mkdir(path);
    if (e == ERR_OK) {
        e = tombstones_open(&c->tombstones, c->io, path, c->number, msg, n);
        c->tombstones.arg = c;
        c->tombstones.on_saved = on_tombstones_saved;
        if (e != ERR_OK)
            return e;
    }
    /* An earlier process may have ended before it made a removal's new name durable: what is
     * removed now must not come back under the old one after a power loss, half of it gone. */
    if (e == ERR_OK)
        e = fs_sync_dir(path);
    if (e == ERR_OK)
        e = fs_list(path, open_group, &walk);
    if (e == ERR_OK)
        e = walk.result;
    if (e != ERR_OK)
        snprintf(msg, n, "%s: %s", path, fs_last_error());
    return e;
}

static void note_orphan(void *arg, uint64_t group)
{
    struct open_walk *walk = arg;
    if (!core_find_replica(walk->core, group))
        buf_append(&walk->orphans, &group, sizeof group);
}

/* A log without a replica: the process ended between the removal of a replica and that of its log.
 * It would hold the WAL for ever, and a new replica of the group would go on from it. */
static void drop_orphan_logs(struct core *c)
{
    struct open_walk walk = {.core = c};
    group_set_each_log(c->groups, note_orphan, &walk);
    for (size_t at = 0; at < walk.orphans.n; at += sizeof(uint64_t)) {
        uint64_t group;
        memcpy(&group, walk.orphans.p + at, sizeof group);
        log_info("log_dropped", "core=%u group=%llu; there is no replica of it", c->number,
                 (unsigned long long)group);
        group_set_drop_log(c->groups, group);
    }
    buf_close(&walk.orphans);
}

/* Cores replay at the same time: each adds its own. */
static void on_replay(void *arg, uint64_t done, uint64_t total)
{
    struct core *c = arg;
    atomic_fetch_add(&c->node->replay_done, done);
    atomic_fetch_add(&c->node->replay_total, total);
}

static struct core *core_alloc(struct node *node, unsigned number, struct io *io)
{
    struct core *c = mem_zalloc(sizeof *c);
    c->node = node;
    c->number = number;
    c->io = io;
    c->next_deadline = UINT64_MAX;
    list_init(&c->dirty);
    list_init(&c->sessions);
    list_init(&c->requests);
    list_init(&c->spare_requests);
    map_init(&c->replicas);
    map_init(&c->session_by_id);
    map_init(&c->tombstones.greatest);
    shard_map_init(&c->map);
    c->conns = conn_set_create(io);
    c->tick.fn = on_tick;
    snapshot_rate_init(&c->fetch_rate, node->options.snapshot_rate);
    c->load.configured = node->options.snapshot_rate;
    c->key_max = node->options.key_max;
    c->value_max = node->options.value_max;
    return c;
}

static void core_free(struct core *c)
{
    request_free_spare(c);
    conn_set_destroy(c->conns);
    map_close(&c->replicas);
    map_close(&c->session_by_id);
    shard_map_close(&c->map);
    tombstones_close(&c->tombstones);
    free(c);
}

enum err core_create(struct node *node, unsigned number, struct io *io, const uint8_t cluster[16],
                     uint32_t node_id, struct core **out, char *msg, size_t n)
{
    struct core *c = core_alloc(node, number, io);
    char wal[3000];
    snprintf(wal, sizeof wal, "%.2900s/wal-%u", node->options.data_dir, number);
    struct group_set_options o = {
        .io = io,
        .wal_dir = wal,
        .wal_segment_size = node->options.wal_segment_size,
        .log_memory = node->options.log_memory / node->options.cores,
        .election_timeout_ms = node->options.election_timeout_ms,
        .heartbeat_ms = node->options.heartbeat_ms,
        .vote_holiday = true, /* whoever leads may read by lease */
        .read_lease = node->options.read_lease,
        .arg = c,
        .send = on_group_send,
        .on_fatal = on_group_fatal,
        .on_replay = on_replay,
    };
    enum err e = group_set_open(&o, &c->groups, msg, n);
    if (e != ERR_OK) {
        core_free(c);
        return e;
    }
    c->wal_id = wal_id(group_set_wal(c->groups));
    c->snapshots = snapshot_store_create(
        &(struct snapshot_store_options){.io = io,
                                         .core = (uint16_t)number,
                                         .arg = c,
                                         .checkpointing = replica_checkpointing,
                                         .checkpointed = replica_checkpointed});
    c->snapshot_server = snapshot_server_create(
        &(struct snapshot_server_options){.io = io,
                                          .conns = c->conns,
                                          .store = c->snapshots,
                                          .bytes_per_s = node->options.snapshot_rate});
    if (node_id != 0)
        core_join(c, cluster, node_id);
    e = open_replicas(c, msg, n);
    if (e == ERR_OK)
        drop_orphan_logs(c);
    io_set_mail_arg(io, c);
    io_set_turn_hook(io, core_turn, c);
    io_timer_set(io, &c->tick, io_now(io) + TICK_NS);
    *out = c; /* also on failure: what was opened is closed by the process' end */
    return e;
}

void core_destroy(struct core *c)
{
    CHECK(c->stage == CORE_STOPPED);
    core_free(c);
}
