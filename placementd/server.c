#include "placementd/server.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/wal/wal.h"
#include "placementd/heartbeat.h"
#include "placementd/request.h"
#include "placementd/server_members.h"
#include "placementd/session.h"

#define TICK_NS (100 * NS_PER_MS)
#define STOP_NS (1 * NS_PER_S)
#define FOUND_NS (1 * NS_PER_S)

uint32_t server_leader(const struct server *s)
{
    const struct group_member *leader = s->fsm.group ? group_leader(s->fsm.group) : NULL;
    return leader ? leader->node : 0;
}

/* What the member said of itself since we run, else what the state remembers. */
const char *server_client_addr(struct server *s, uint32_t id)
{
    const struct member *m = members_find(&s->members, id);
    const struct cluster_member *known = cluster_find_member(&s->fsm.cluster, id);
    if (m && m->client_addr[0])
        return m->client_addr;
    return known ? known->client_addr : "";
}

struct driver_moment server_moment(const struct server *s)
{
    return (struct driver_moment){&s->fsm.cluster, &s->live, io_now(s->io), io_wall_ms(s->io)};
}

struct admin_world server_admin_world(struct server *s)
{
    return (struct admin_world){.admin = &s->admin,
                                .driver = &s->driver,
                                .m = server_moment(s),
                                .rate = s->settings->move_rate,
                                .members = server_membership(s),
                                .recovery = &s->recovery};
}

static void fatal(struct server *s, enum err why, const char *text)
{
    log_error("fatal", "error=%s text=\"%s\"", err_name(why), text);
    s->failed = true;
    io_timer_set(s->io, &s->tick, io_now(s->io)); /* ends the loop when it may */
}

/* ---- fsm_ops ---- */

static void on_result(void *arg, uint64_t index, uint64_t term, const struct cluster_result *r)
{
    struct server *s = arg;
    if (r->map_changed)
        buf_clear(&s->view.whole); /* also when no group or node changed: the version did */
    driver_applied(&s->driver, index);
    request_on_result(s, index, term, r);
}

static void on_state(void *arg, enum group_state state, uint64_t term, uint32_t leader)
{
    static const char *const names[] = {"follower", "candidate", "leader"};
    struct server *s = arg;
    log_info("role", "role=%s term=%llu leader=%u", names[state], (unsigned long long)term, leader);
    /* Liveness is the leader's own; another role has none, a new leader starts afresh. */
    recovery_reset(&s->recovery);
    liveness_reset(&s->live, io_now(s->io));
    driver_reset(&s->driver, io_now(s->io));
    map_view_all(&s->view);
}

static void on_group(void *arg, uint64_t group)
{
    map_view_group(&((struct server *)arg)->view, group);
}

static void on_node(void *arg, uint32_t node)
{
    map_view_node(&((struct server *)arg)->view, node);
}

static void on_replaced(void *arg)
{
    struct server *s = arg;
    log_info("snapshot_installed", "version=%llu", (unsigned long long)s->fsm.cluster.map_version);
    server_members_follow(s);
    map_view_all(&s->view);
}

static void on_fsm_fatal(void *arg, enum err why, const char *text)
{
    fatal(arg, why, text);
}

static const struct fsm_ops fsm_ops = {on_result, on_state,    on_group,
                                       on_node,   on_replaced, on_fsm_fatal};

/* ---- peers ---- */

static void on_raft_send(void *arg, uint32_t node, uint64_t group, const struct slice *parts,
                         unsigned n)
{
    peer_send(((struct server *)arg)->peers, node, group, parts, n);
}

static void on_wal_fatal(void *arg, enum err why, const char *text)
{
    fatal(arg, why, text);
}

/* ---- the leader's chores ---- */

void server_propose(struct server *s, const struct cluster_command *cmd)
{
    uint64_t index, term;
    enum err e = fsm_propose(&s->fsm, cmd, &index, &term);
    if (e != ERR_OK)
        log_debug("proposal_refused", "kind=%u error=%s", cmd->kind, err_name(e));
}

static void found(struct server *s)
{
    uint64_t now = io_now(s->io);
    if (s->fsm.cluster.founded || (s->found_at && now - s->found_at < FOUND_NS))
        return;
    struct cluster_command cmd = {.kind = CLUSTER_CMD_FOUND};
    for (unsigned i = 0; i < 16; i += 8) {
        uint64_t r = io_random(s->io);
        memcpy(cmd.cluster + i, &r, 8);
    }
    s->found_at = now;
    server_propose(s, &cmd);
}

static void tell_node(void *arg, const struct cluster_node *n, enum liveness_state was,
                      enum liveness_state is)
{
    (void)arg;
    log_event(is == LIVE_UP ? LOG_INFO : LOG_WARN, "node_state", "node=%u name=%s was=%s is=%s",
              n->id, n->name, liveness_state_name(was), liveness_state_name(is));
}

static bool may_stop(const struct server *s)
{
    if (io_now(s->io) >= s->stop_by && fsm_idle(&s->fsm))
        return true;
    return !fsm_leads(&s->fsm) && fsm_idle(&s->fsm) && wal_idle(group_set_wal(s->groups));
}

static void on_tick(struct io_timer *t)
{
    struct server *s = CONTAINER_OF(t, struct server, tick);
    s->ticks++;
    if (s->failed && fsm_idle(&s->fsm)) {
        io_stop(s->io);
        return;
    }
    s->leaving = s->leaving || (s->stopping && may_stop(s));
    if (s->failed) { /* a snapshot is being written by an offload thread */
        io_timer_set(s->io, t, io_now(s->io) + TICK_NS / 10);
        return;
    }
    server_members_tick(s);
    if (fsm_leads(&s->fsm) && !s->stopping) {
        found(s);
        if (s->ticks % 100 == 0)
            liveness_forget(&s->live, &s->fsm.cluster);
        liveness_tell(&s->live, &s->fsm.cluster, io_now(s->io), tell_node, s);
        struct driver_moment now = server_moment(s);
        driver_turn(&s->driver, &now);
    }
    request_expire(s);
    io_timer_set(s->io, t, io_now(s->io) + (s->stopping ? TICK_NS / 10 : TICK_NS));
}

static void on_turn(void *arg)
{
    struct server *s = arg;
    fsm_turn(&s->fsm);
    group_set_turn(s->groups);
    server_members_turn(s);
    session_notify(s);
    peer_flush(s->peers);
    conn_set_flush(s->conns);
    /* Only here is it known that nothing of the log is on its way to the disk: a turn may have
     * begun a write, and the log's memory is the kernel's until that is done. */
    if (s->leaving && fsm_idle(&s->fsm) && wal_idle(group_set_wal(s->groups)))
        io_stop(s->io);
}

/* ---- start and stop ---- */

static void on_client(void *arg, int handle, const struct io_addr *from)
{
    (void)from;
    session_accept(arg, handle);
}

static void on_peer(void *arg, int handle, const struct io_addr *from)
{
    (void)from;
    peer_accept(((struct server *)arg)->peers, handle);
}

static enum err listen_on(struct server *s, const char *key, const struct io_addr *addr,
                          io_accept_fn fn, struct io_listener **out, char *msg, size_t n)
{
    char text[64];
    io_addr_format(addr, text);
    enum err e = io_listen(s->io, addr, fn, s, out);
    if (e == ERR_ADDRESS_IN_USE)
        snprintf(msg, n, "%s: %s is in use by another process: stop it or choose another port", key,
                 text);
    else if (e != ERR_OK)
        snprintf(msg, n, "%s: cannot listen on %s: %s", key, text, err_text(e));
    return e;
}

static enum err say_removed(const struct server *s, char *msg, size_t n)
{
    snprintf(msg, n,
             "member %u was removed from placementd, and ids are used once: do not start it again. "
             "%.200s can be deleted. A new one: kvctl cluster member add",
             s->self->id, s->dir->path);
    return ERR_REFUSED;
}

static enum err open_group(struct server *s, char *msg, size_t n)
{
    char wal_dir[4096];
    server_members_marker(s, wal_dir, sizeof(wal_dir));
    if (fs_exists(wal_dir))
        return say_removed(s, msg, n);
    struct group_conf initial;
    snprintf(wal_dir, sizeof(wal_dir), "%s/wal", s->dir->path);
    struct group_set_options o = {
        .io = s->io,
        .wal_dir = wal_dir,
        .wal_segment_size = s->settings->segment_size,
        .election_timeout_ms = (unsigned)s->settings->election_timeout_ms,
        .heartbeat_ms = (unsigned)s->settings->heartbeat_ms,
        .tell_commits = true, /* clients watch the map through any member */
        .arg = s,
        .send = on_raft_send,
        .on_fatal = on_wal_fatal,
    };
    enum err e = group_set_open(&o, &s->groups, msg, n);
    if (e != ERR_OK)
        return e;
    if (s->settings->join)
        initial = (struct group_conf){0}; /* it waits for a snapshot */
    else
        members_conf(&s->members, &initial);
    e = fsm_open(&s->fsm, s->io, s->dir->path, &initial, &fsm_ops, s, msg, n);
    if (e != ERR_OK)
        return e;
    s->fsm_open = true;
    const struct group_conf *conf = &s->fsm.durable.conf;
    /* A snapshot that one was filled with may be older than its joining. */
    if (conf->n && !s->settings->join && !group_conf_find(conf, s->self->id))
        return say_removed(s, msg, n);
    bool campaign = conf->n && conf->member[0].node == s->self->id;
    e = fsm_start(&s->fsm, s->groups, s->self->id, campaign, msg, n);
    if (e == ERR_OK)
        server_members_follow(s);
    return e;
}

static enum err driver_propose(void *arg, const struct cluster_command *cmd, uint64_t *index,
                               uint64_t *term)
{
    struct server *s = arg;
    enum err e = fsm_propose(&s->fsm, cmd, index, term);
    if (e == ERR_OK && cmd->kind == CLUSTER_CMD_MEMBER_LEAVE) {
        s->leave_index = *index;
        s->leave_term = *term;
    }
    return e;
}

void server_apply_settings(struct server *s)
{
    const struct settings *from = s->settings;
    struct driver_options *o = &s->driver.options;
    o->plan = (struct plan_options){.replicas = (uint32_t)from->replicas,
                                    .max_moves = (uint32_t)from->max_moves,
                                    .max_operators = (uint32_t)from->max_operators,
                                    .split_bytes = from->split_size,
                                    .split_ops = from->split_ops,
                                    .max_groups = (uint32_t)from->max_groups,
                                    .hysteresis_percent = (unsigned)from->hysteresis,
                                    .disk_full_percent = (unsigned)from->disk_full,
                                    .balance = from->auto_rebalance};
    o->down_after_ns = from->down_after_ms * NS_PER_MS;
    o->stall_ms = from->stall_after_ms;
    s->live.suspect_ns = from->suspect_after_ms * NS_PER_MS;
    s->live.down_ns = from->down_at_ms * NS_PER_MS;
    s->live.stall_ns = from->stall_after_ms * NS_PER_MS;
}

static void init_driver(struct server *s)
{
    struct driver_options o = {.arg = s, .propose = driver_propose};
    driver_init(&s->driver, &o);
    liveness_init(&s->live, 0);
    server_apply_settings(s);
    s->steps = mem_alloc(HEARTBEAT_STEPS_MAX * sizeof(*s->steps));
}

static void init(struct server *s, const struct settings *settings, struct data_dir *dir)
{
    memset(s, 0, sizeof(*s));
    s->settings = settings;
    s->sessions_max = SESSION_MAX;
    s->dir = dir;
    s->members = settings->members;
    s->self = members_find(&s->members, settings->self->id);
    s->self->incarnation = dir->stamp.incarnation;
    io_addr_format(&settings->client, s->self->client_addr);
    list_init(&s->sessions);
    list_init(&s->requests);
    map_view_init(&s->view);
    s->tick.fn = on_tick;
}

enum err server_open(struct server *s, const struct settings *settings, struct data_dir *dir,
                     char *msg, size_t n)
{
    struct io_options io = {.offload_threads = 1};
    init(s, settings, dir);
    init_driver(s);
    enum err e = io_create(&io, &s->io, msg, n);
    if (e != ERR_OK)
        goto fail;
    io_set_mail_arg(s->io, s);
    s->conns = conn_set_create(s->io);
    server_members_open(s);
    e = listen_on(s, "listen.client", &settings->client, on_client, &s->client_listener, msg, n);
    if (e == ERR_OK)
        e = listen_on(s, "listen.peer", &settings->peer, on_peer, &s->peer_listener, msg, n);
    if (e == ERR_OK)
        e = open_group(s, msg, n);
    if (e != ERR_OK)
        goto fail;
    struct io_addr client;
    io_listener_addr(s->client_listener, &client);
    io_addr_format(&client, s->self->client_addr); /* with port 0 the real one is known now */
    liveness_reset(&s->live, io_now(s->io));
    driver_reset(&s->driver, io_now(s->io));
    io_set_turn_hook(s->io, on_turn, s);
    io_timer_set(s->io, &s->tick, io_now(s->io) + TICK_NS / 10);
    return ERR_OK;
fail:
    server_close(s);
    return e;
}

enum err server_run(struct server *s)
{
    io_run(s->io);
    if (s->removed)
        return ERR_REFUSED;
    return s->failed ? ERR_INTERNAL : ERR_OK;
}

void server_stop(struct server *s)
{
    if (s->stopping)
        return;
    log_info("stopping", "leader=%d", fsm_leads(&s->fsm));
    s->stopping = true;
    s->stop_by = io_now(s->io) + STOP_NS;
    if (fsm_leads(&s->fsm) && s->members.n > 1) {
        enum err e = group_transfer(s->fsm.group, 0);
        if (e != ERR_OK)
            log_warn("transfer_refused", "error=%s", err_name(e));
    } else {
        s->stop_by = io_now(s->io);
    }
    io_timer_set(s->io, &s->tick, io_now(s->io) + TICK_NS / 10);
}

void server_close(struct server *s)
{
    if (!s->io)
        goto rest;
    io_timer_cancel(s->io, &s->tick);
    io_set_turn_hook(s->io, NULL, NULL);
    if (s->client_listener)
        io_listener_close(s->client_listener);
    if (s->peer_listener)
        io_listener_close(s->peer_listener);
    if (s->fsm.group)
        group_stop(s->fsm.group);
    s->fsm.group = NULL;
    request_drop_all(s);
    if (s->peers)
        peer_set_destroy(s->peers);
    if (s->conns)
        conn_set_destroy(s->conns);
    if (s->groups)
        group_set_close(s->groups);
    io_destroy(s->io);
rest:
    if (s->fsm_open)
        fsm_close(&s->fsm);
    recovery_reset(&s->recovery);
    liveness_close(&s->live);
    driver_close(&s->driver);
    admin_close(&s->admin);
    free(s->steps);
    map_view_close(&s->view);
    memset(s, 0, sizeof(*s));
}
