#include "shardd/front.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/version.h"
#include "common/io/fs.h"
#include "common/wire/msg_map.h"
#include "common/wire/skim.h"
#include "shardd/describe.h"
#include "shardd/placements.h"
#include "shardd/step.h"

#define MAP_MAGIC                                                                                  \
    0x4d564b53u /* "SKVM": the file `map`: magic, format, length, crc32c, MessagePack */
#define MAP_FORMAT 1u
#define MAP_HEAD 16u

struct front {
    struct node *node;
    struct data_dir *data_dir;
    struct io_listener *client, *peer;
    struct report *report;
    struct placements placements;
    unsigned next_core;
    struct gather *gather;
    unsigned movers; /* cores that move snapshots, as last gathered */
    uint64_t share;  /* bytes/s that each core was told last */
    atomic_bool kicked;
    bool registered; /* in this run */

    /* the map's file: one write at a time, the newest follows */
    struct io_work save_work;
    struct buf save_bytes;
    bool saving, save_again;
    uint64_t saved_version;
};

/* ---- the map's file ---- */

static void map_file_path(const struct node *node, char *out, size_t n)
{
    snprintf(out, n, "%.2900s/map", node->options.data_dir);
}

static void map_file_encode(const struct shard_map *map, struct buf *out)
{
    struct buf body = {0};
    msg_map_encode(&body, map);
    buf_u32(out, MAP_MAGIC);
    buf_u32(out, MAP_FORMAT);
    buf_u32(out, (uint32_t)body.n);
    buf_u32(out, crc32c(0, body.p, body.n));
    buf_append(out, body.p, body.n);
    buf_close(&body);
}

static enum err map_file_decode(struct slice file, struct shard_map *out)
{
    struct cursor c = cursor_of(file);
    uint32_t magic = cursor_u32(&c), format = cursor_u32(&c), length = cursor_u32(&c);
    uint32_t crc = cursor_u32(&c);
    struct slice body = cursor_bytes(&c, length);
    size_t skimmed = 0;
    if (c.bad || magic != MAP_MAGIC)
        return ERR_CORRUPT;
    if (format != MAP_FORMAT)
        return ERR_FORMAT;
    if (crc32c(0, body.p, body.n) != crc || skim(body, body.n, &skimmed) != ERR_OK ||
        skimmed != body.n || msg_map_decode(body, out) != ERR_OK)
        return ERR_CORRUPT;
    return ERR_OK;
}

enum err front_load_map(struct node *node, char *msg, size_t n)
{
    char path[3000];
    map_file_path(node, path, sizeof path);
    struct buf file = {0};
    struct shard_map map;
    enum err e = fs_read_file(path, &file);
    if (e == ERR_NOT_FOUND)
        return ERR_OK;
    if (e == ERR_OK)
        e = map_file_decode(buf_slice(&file), &map);
    buf_close(&file);
    if (e == ERR_CORRUPT || e == ERR_FORMAT) {
        /* It is only a copy: placementd has the map. An unknown format may be a flipped bit. */
        log_warn("map_file_damaged", "path=%s; it is fetched anew", path);
        return ERR_OK;
    }
    if (e != ERR_OK) {
        snprintf(msg, n, "%s: %s", path, err_text(e));
        return e;
    }
    for (unsigned i = 0; i < node->options.cores; i++)
        core_set_map(node->core[i], &map);
    shard_map_close(&map);
    return ERR_OK;
}

static void save_run(struct io_work *work)
{
    struct front *f = CONTAINER_OF(work, struct front, save_work);
    char path[3000];
    map_file_path(f->node, path, sizeof path);
    if (fs_write_file(path, buf_slice(&f->save_bytes)) != ERR_OK)
        log_warn("map_not_saved", "path=%s error=\"%s\"", path, fs_last_error());
}

static void save_map(struct front *f);

static void save_done(struct io_work *work)
{
    struct front *f = CONTAINER_OF(work, struct front, save_work);
    f->saving = false;
    if (f->save_again)
        save_map(f);
}

static void save_map(struct front *f)
{
    const struct shard_map *map = &f->node->core[0]->map;
    f->save_again = f->saving;
    if (f->saving || map->version == f->saved_version)
        return;
    f->saving = true;
    f->saved_version = map->version;
    buf_clear(&f->save_bytes);
    map_file_encode(map, &f->save_bytes);
    f->save_work.run = save_run;
    f->save_work.done = save_done;
    io_offload(f->node->core[0]->io, &f->save_work);
}

/* ---- fan-out to the cores ---- */

struct to_all {
    atomic_uint left;
    uint8_t cluster[16];
    uint32_t node_id;
    struct shard_map map;
};

static struct to_all *to_all_create(const struct front *f)
{
    struct to_all *t = mem_zalloc(sizeof *t);
    atomic_init(&t->left, f->node->options.cores);
    shard_map_init(&t->map);
    return t;
}

static void to_all_release(struct to_all *t)
{
    if (atomic_fetch_sub(&t->left, 1) != 1)
        return;
    shard_map_close(&t->map);
    free(t);
}

static void deliver_join(struct core *c, void *arg)
{
    struct to_all *t = arg;
    core_join(c, t->cluster, t->node_id);
    to_all_release(t);
}

static void deliver_map(struct core *c, void *arg)
{
    struct to_all *t = arg;
    core_set_map(c, &t->map);
    to_all_release(t);
}

static void on_registered(void *arg, const uint8_t cluster[16], uint32_t node)
{
    struct front *f = arg;
    struct data_dir_stamp *stamp = &f->data_dir->stamp;
    static const uint8_t none[16];
    if (memcmp(stamp->cluster, none, 16) != 0 && memcmp(stamp->cluster, cluster, 16) != 0) {
        log_error("registration_differs", "the data directory belongs to another cluster");
        return;
    }
    if (stamp->node != node || memcmp(stamp->cluster, cluster, 16) != 0) {
        if (stamp->node != 0 && stamp->node != node) {
            log_error("registration_differs", "stamped=%u given=%u", stamp->node, node);
            return; /* our replicas are known under the old id: never change it */
        }
        memcpy(stamp->cluster, cluster, 16);
        stamp->node = node;
        if (data_dir_save(f->data_dir) != ERR_OK) {
            f->node->on_fatal(f->node->arg, ERR_IO, "the data directory's stamp cannot be written");
            return;
        }
    }
    f->registered = true;
    atomic_store(&f->node->registered, true);
    log_info("registered", "node=%u name=%s", node, f->node->options.name);
    struct to_all *t = to_all_create(f);
    memcpy(t->cluster, cluster, 16);
    t->node_id = node;
    for (unsigned i = 0; i < f->node->options.cores; i++)
        core_post(f->node->core[i], deliver_join, t);
}

static void on_map(void *arg, const struct shard_map *map)
{
    struct front *f = arg;
    struct to_all *t = to_all_create(f);
    shard_map_copy(&t->map, map);
    core_set_map(f->node->core[0], map);
    save_map(f);
    for (unsigned i = 1; i < f->node->options.cores; i++)
        core_post(f->node->core[i], deliver_map, t);
    to_all_release(t);
}

/* ---- steps ---- */

static void deliver_step(struct core *c, void *arg)
{
    step_run(c, arg);
    free(arg);
}

static void on_step(void *arg, const struct msg_step *step)
{
    struct front *f = arg;
    core_post(f->node->core[core_of_group(f->node, step->shard.group)], deliver_step,
              mem_dup(step, sizeof *step));
}

/* ---- bandwidth ---- */

struct rate_mail {
    uint64_t bytes_per_s;
};

static void deliver_rate(struct core *c, void *arg)
{
    struct rate_mail *m = arg;
    load_order(c, m->bytes_per_s);
    free(m);
}

/* What the node may take is shared by the cores that move something now. */
static void on_rate(void *arg, uint64_t bytes_per_s)
{
    struct front *f = arg;
    uint64_t share = bytes_per_s ? bytes_per_s / (f->movers ? f->movers : 1) + 1 : 0;
    if (share == f->share)
        return;
    f->share = share;
    for (unsigned i = 0; i < f->node->options.cores; i++) {
        struct rate_mail m = {share};
        core_post(f->node->core[i], deliver_rate, mem_dup(&m, sizeof m));
    }
}

/* ---- status ---- */

struct gather {
    struct front *front; /* NULL: the front is gone */
    unsigned left;
    struct core *home;
    struct buf groups; /* struct msg_group_status */
    uint64_t p99_us, moving;
    unsigned movers; /* cores that move snapshots */
};

struct gather_part {
    struct gather *gather;
    struct buf groups;
    uint64_t p99_us, moving;
};

static void gather_reply(struct core *home, void *arg)
{
    struct gather_part *part = arg;
    struct gather *g = part->gather;
    buf_append(&g->groups, part->groups.p, part->groups.n);
    buf_close(&part->groups);
    g->p99_us = part->p99_us > g->p99_us ? part->p99_us : g->p99_us;
    g->moving += part->moving;
    g->movers += part->moving > 0;
    free(part);
    if (--g->left > 0)
        return;
    if (g->front) {
        struct msg_heartbeat h = {.disk_free = home->disk_free,
                                  .disk_size = home->disk_size,
                                  .write_p99_us = g->p99_us,
                                  .moving = g->moving,
                                  .version = SHARDKV_VERSION,
                                  .groups = (struct msg_group_status *)(void *)g->groups.p,
                                  .n_groups =
                                      (uint32_t)(g->groups.n / sizeof(struct msg_group_status))};
        g->front->gather = NULL;
        g->front->movers = g->movers;
        report_fill(g->front->report, &h);
    }
    buf_close(&g->groups);
    free(g);
}

static void gather_ask(struct core *c, void *arg)
{
    struct gather_part *part = arg;
    size_t it = 0;
    void *value;
    while (map_next(&c->replicas, &it, NULL, &value)) {
        const struct replica *r = value;
        if (r->state == REPLICA_STARTING)
            continue;
        struct msg_group_status status;
        describe_replica(r, &status);
        buf_append(&part->groups, &status, sizeof status);
    }
    part->p99_us = load_write_p99(&c->load);
    part->moving = c->load.moving;
    core_post(part->gather->home, gather_reply, part);
}

static void on_collect(void *arg, struct report *report)
{
    struct front *f = arg;
    (void)report;
    CHECK(f->gather == NULL);
    struct gather *g = mem_zalloc(sizeof *g);
    g->front = f;
    g->home = f->node->core[0];
    g->left = f->node->options.cores;
    f->gather = g;
    for (unsigned i = 0; i < f->node->options.cores; i++) {
        struct gather_part *part = mem_zalloc(sizeof *part);
        part->gather = g;
        core_post(f->node->core[i], gather_ask, part);
    }
}

/* Another cluster's data, or that of a node given up long ago: clients that have this address from
 * the map would be served from it. One that was given up (REFUSED) with what it has must not go on
 * either, if it has only been away: its groups may go on without it (recover --lost), and its old
 * peers would believe it. Without replicas, removed, it may. A node whose placementd of this run is
 * another cluster's now goes on: the fault is placementd's (its data lost), and what we serve is
 * right. */
static void on_refused(void *arg, enum err why, const char *text)
{
    const struct front *f = arg;
    log_error("placement_refused", "name=%s error=%s text=\"%s\"", f->node->options.name,
              err_name(why), text);
    bool given_up = why == ERR_REFUSED && report_groups(f->report) > 0;
    if (given_up || (!f->registered && (why == ERR_FOREIGN || why == ERR_REFUSED)))
        f->node->on_fatal(f->node->arg, why, text);
}

static void deliver_kick(struct core *c, void *arg)
{
    struct front *f = arg;
    (void)c;
    atomic_store(&f->kicked, false);
    if (f->report)
        report_kick(f->report);
}

void front_on_changed(struct front *f, struct core *c)
{
    if (!atomic_exchange(&f->kicked, true))
        core_post(c->node->core[0], deliver_kick, f);
}

/* ---- listeners ---- */

static void deliver_client(struct core *c, void *arg)
{
    core_accept_client(c, (int)(intptr_t)arg);
}

static void on_client(void *arg, int handle, const struct io_addr *from)
{
    struct front *f = arg;
    (void)from;
    unsigned to = f->next_core++ % f->node->options.cores;
    if (to == 0)
        core_accept_client(f->node->core[0], handle);
    else
        core_post(f->node->core[to], deliver_client, (void *)(intptr_t)handle);
}

static void on_peer(void *arg, int handle, const struct io_addr *from)
{
    struct front *f = arg;
    (void)from;
    core_accept_peer(f->node->core[0], handle);
}

static enum err listen_on(struct front *f, const struct io_addr *addr, io_accept_fn fn,
                          const char *what, struct io_listener **out, char *msg, size_t n)
{
    enum err e = io_listen(f->node->core[0]->io, addr, fn, f, out);
    if (e != ERR_OK) {
        char text[64];
        io_addr_format(addr, text);
        snprintf(msg, n, "cannot listen on %s (%s): %s%s", text, what, err_text(e),
                 e == ERR_ADDRESS_IN_USE
                     ? "; stop what uses it or give another port with --set listen.*"
                     : "");
    }
    return e;
}

static void fill_self(const struct front *f, struct msg_register *self)
{
    const struct node_options *o = &f->node->options;
    const struct data_dir_stamp *stamp = &f->data_dir->stamp;
    static const uint8_t none[16];
    struct io_addr client, peer;
    front_addrs(f, &client, &peer);
    *self = (struct msg_register){.incarnation = o->incarnation, .cores = (uint16_t)o->cores};
    snprintf(self->name, sizeof self->name, "%s", o->name);
    snprintf(self->zone, sizeof self->zone, "%s", o->zone);
    snprintf(self->host, sizeof self->host, "%s", o->host);
    io_addr_format(&client, self->client_addr);
    io_addr_format(&peer, self->peer_addr);
    self->has_cluster = memcmp(stamp->cluster, none, sizeof none) != 0;
    memcpy(self->cluster, stamp->cluster, sizeof self->cluster);
    self->node = stamp->node;
}

static void on_members(void *arg, const struct io_addr *addr, unsigned n)
{
    struct front *f = arg;
    placements_set(&f->placements, addr, n);
}

enum err front_create(const struct front_options *o, struct front **out, char *msg, size_t n)
{
    struct front *f = mem_zalloc(sizeof *f);
    f->node = o->node;
    f->data_dir = o->data_dir;
    enum err e = listen_on(f, &o->client, on_client, "clients", &f->client, msg, n);
    if (e == ERR_OK)
        e = listen_on(f, &o->peer, on_peer, "peers", &f->peer, msg, n);
    if (e != ERR_OK) {
        if (f->client)
            io_listener_close(f->client);
        free(f);
        return e;
    }
    placements_open(&f->placements, o->node->core[0]->io, o->node->options.data_dir);
    struct report_options r = {
        .io = o->node->core[0]->io,
        .conns = o->node->core[0]->conns,
        .n_placement = o->n_placement,
        .placement = o->placement,
        .n_learned = f->placements.n,
        .learned = f->placements.addr,
        .arg = f,
        .on_registered = on_registered,
        .collect = on_collect,
        .on_step = on_step,
        .on_rate = on_rate,
        .on_members = on_members,
        .on_map = on_map,
        .on_refused = on_refused,
    };
    fill_self(f, &r.self);
    f->report = report_create(&r);
    *out = f;
    return ERR_OK;
}

void front_addrs(const struct front *f, struct io_addr *client, struct io_addr *peer)
{
    io_listener_addr(f->client, client);
    io_listener_addr(f->peer, peer);
}

bool front_connected(const struct front *f)
{
    return f->report && report_connected(f->report);
}

void front_set_placement(struct front *f, const struct io_addr *placement, unsigned n)
{
    if (f->report)
        report_set_placement(f->report, placement, n);
}

/* The struct itself stays until the process ends: mail of other cores may still name it. */
void front_destroy(struct front *f)
{
    io_listener_close(f->client);
    io_listener_close(f->peer);
    report_destroy(f->report);
    f->report = NULL;
    if (f->gather)
        f->gather->front = NULL;
    f->gather = NULL;
}
