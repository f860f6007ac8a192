#include "shardd/core_stop.h"

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/raft/snapshot_stream.h"
#include "common/wal/wal.h"
#include "shardd/core.h"
#include "shardd/handover.h"
#include "shardd/session.h"

void core_stop(struct core *c, unsigned ms, void (*stopped)(void *arg), void *arg)
{
    CHECK(c->stage == CORE_RUNNING);
    c->stage = CORE_DRAIN;
    c->draining = true;
    c->stop_deadline = io_now(c->io) + ms * NS_PER_MS;
    c->on_stopped = stopped;
    c->stopped_arg = arg;
    io_timer_set(c->io, &c->tick, io_now(c->io) + NS_PER_MS);
}

static bool drained(struct core *c)
{
    unsigned leading = 0;
    uint64_t it = 0;
    struct group *g;
    while ((g = group_set_next(c->groups, &it))) {
        if (group_state_of(g) != GROUP_LEADER || group_applied(g)->conf.n < 2)
            continue;
        /* BUSY: one is under way, or it has just ended: the next tick looks again. REFUSED: there
         * is no other voter to hand it to. */
        struct replica *r = core_find_replica(c, group_id(g));
        enum err e = r ? handover_begin(r, 0) : ERR_REFUSED;
        leading += e == ERR_OK || e == ERR_BUSY;
    }
    return leading == 0 && c->n_requests == 0;
}

static void on_store_closed(void *arg)
{
    ((struct core *)arg)->snapshots = NULL;
}

static void on_server_closed(void *arg)
{
    struct core *c = arg;
    c->snapshot_server = NULL;
    snapshot_store_destroy(c->snapshots, on_store_closed, c);
}

static void release(struct core *c)
{
    size_t it = 0;
    void *value;
    while (map_next(&c->replicas, &it, NULL, &value))
        replica_install_cancel(value);
    while (!list_empty(&c->sessions)) {
        struct session *s = CONTAINER_OF(list_pop_front(&c->sessions), struct session, link);
        if (s->conn)
            conn_close(s->conn);
    }
    snapshot_server_destroy(c->snapshot_server, on_server_closed, c);
}

static bool released(struct core *c)
{
    size_t it = 0;
    void *value;
    bool quiet =
        c->snapshots == NULL && c->offload_jobs == 0 && !c->space_busy && c->tombstones.saving == 0;
    while (map_next(&c->replicas, &it, NULL, &value)) {
        replica_install_tick(value);
        quiet = quiet && replica_quiet(value);
    }
    return quiet;
}

static void close_replicas(struct core *c)
{
    size_t it = 0;
    void *value;
    while (map_next(&c->replicas, &it, NULL, &value))
        replica_close(value, ERR_SHUTTING_DOWN);
    CHECK(c->n_requests == 0);
}

void core_stop_step(struct core *c)
{
    bool late = io_now(c->io) >= c->stop_deadline;
    if (c->stage == CORE_DRAIN && (drained(c) || late)) {
        if (late)
            log_warn("stop_hurried", "core=%u leaders=%u requests=%u", c->number,
                     group_set_leaders(c->groups), c->n_requests);
        c->stage = CORE_RELEASE;
        release(c);
    } else if (c->stage == CORE_RELEASE && released(c)) {
        c->stage = CORE_CLOSE;
        close_replicas(c);
    } else if (c->stage == CORE_CLOSE && wal_idle(group_set_wal(c->groups))) {
        group_set_close(c->groups);
        c->groups = NULL;
        if (c->peers)
            peer_set_destroy(c->peers);
        c->peers = NULL;
        c->stage = CORE_STOPPED;
        c->on_stopped(c->stopped_arg);
    }
}
