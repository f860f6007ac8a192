/* Unsafe recovery by an operator's order: a replica makes itself the only member of its group
 * (group_force()). First what it has applied is made durable, for the driver starts again from
 * there. Given up, to be ordered again, if anything moved meanwhile or a leader was heard of. */
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "shardd/core.h"

typedef unsigned long long ull;

struct force_work {
    struct io_work work;
    struct replica *replica;
    enum err result;
    struct shard shard;
    struct group_position position;
};

static void force_run(struct io_work *work)
{
    struct force_work *w = CONTAINER_OF(work, struct force_work, work);
    w->result = engine_flush_frozen(w->replica->db);
    if (w->result == ERR_OK)
        w->result = replica_load(w->replica->db, true, &w->shard, &w->position);
}

static bool leaderless(const struct replica *r)
{
    return r->state == REPLICA_RUNNING && !replica_is_leader(r) && group_leader(r->group) == NULL;
}

static void force_done(struct io_work *work)
{
    struct force_work *w = CONTAINER_OF(work, struct force_work, work);
    struct replica *r = w->replica;
    r->busy_offload = false;
    r->core->offload_jobs--;
    if (w->result != ERR_OK) {
        replica_set_broken(r, w->result, "what is durable cannot be made or read");
    } else if (leaderless(r) && !r->doomed && w->position.index == r->applied.index) {
        enum err e = group_force(r->group, &w->position);
        log_warn("replica_forced", "core=%u group=%llu replica=%llu index=%llu result=%s",
                 r->core->number, (ull)r->shard.group, (ull)r->shard.replica,
                 (ull)w->position.index, err_name(e));
        core_changed(r->core);
    }
    free(w);
}

enum err replica_force(struct replica *r)
{
    if (r->state != REPLICA_RUNNING || r->applied.index == 0)
        return ERR_REFUSED;
    if (replica_is_leader(r))
        return r->applied.conf.n == 1 ? ERR_OK : ERR_REFUSED;
    if (!leaderless(r) || r->busy_offload || r->checkpointing > 0 || r->install)
        return ERR_BUSY;
    replica_freeze(r);
    struct force_work *w = mem_zalloc(sizeof *w);
    w->work = (struct io_work){.run = force_run, .done = force_done};
    w->replica = r;
    r->busy_offload = true;
    r->core->offload_jobs++;
    io_offload(r->core->io, &w->work);
    return ERR_OK;
}
