#include "shardd/merge.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "shardd/command.h"
#include "shardd/core.h"
#include "shardd/merge_copy.h"

#define RETRY_FROZEN_MS 5u
#define PARKED_NS (250 * NS_PER_MS)

typedef unsigned long long ull;

#ifdef SHARDKV_TEST_HOOKS
bool merge_test_early;
#endif

/* ---- requests that wait ---- */

/* Why they wait here: a client that is sent away comes back later than it could, each time twice as
 * late, so that a range which is frozen for 50 ms would be missed for 100. */

static void unpark(struct replica *r)
{
    io_timer_cancel(r->core->io, &r->parking.timer);
    while (!list_empty(&r->parking.requests)) {
        struct list *item = list_pop_front(&r->parking.requests);
        router_refuse(r, CONTAINER_OF(item, struct request, link));
    }
}

static void on_parked_long(struct io_timer *t)
{
    unpark(CONTAINER_OF(t, struct replica, parking.timer));
}

void merge_init(struct replica *r)
{
    list_init(&r->parking.requests);
    r->parking.timer.fn = on_parked_long;
}

void merge_park(struct replica *r, struct request *request)
{
    struct io *io = r->core->io;
    if (list_empty(&r->parking.requests))
        io_timer_set(io, &r->parking.timer, io_now(io) + PARKED_NS);
    list_push_back(&r->parking.requests, &request->link);
}

/* ---- mail to the other group's replica on this node ---- */

/* Its copy, if it has one, should look again. */
static void nudge(struct core *core, void *arg)
{
    uint64_t *group = arg;
    struct replica *r = core_find_replica(core, *group);
    if (r && r->copy)
        merge_copy_nudge(r->copy);
    free(group);
}

static void post_nudge(struct replica *r, uint64_t group)
{
    struct node *node = r->core->node;
    core_post(node->core[core_of_group(node, group)], nudge, mem_dup(&group, sizeof group));
}

/* A core learns who owns a range now, before placementd has heard of it. */
static void learn(struct core *core, void *arg)
{
    struct shard_desc *desc = arg;
    size_t it = 0;
    void *value;
    if (core->stage == 0)
        (void)shard_map_put_shard(&core->map, desc);
    while (map_next(&core->replicas, &it, NULL, &value)) {
        struct replica *r = value;
        if (r->shard.phase == SHARD_PHASE_FROZEN && r->shard.merge_peer == desc->group)
            unpark(r);
    }
    free(desc);
}

static void post_owner(struct replica *r)
{
    struct node *node = r->core->node;
    struct shard_desc desc;
    replica_describe(r, &desc);
    for (unsigned i = 0; i < node->options.cores; i++)
        if (node->core[i]) /* not while the node is still opening its cores */
            core_post(node->core[i], learn, mem_dup(&desc, sizeof desc));
}

/* ---- entries ---- */

static void clear_changes(struct replica *r)
{
    uint8_t raw[ENGINE_CHANGE_PREFIX];
    engine_batch_delete_range(r->batch, engine_key_change(raw, 0, slice_of(NULL, 0)),
                              engine_key_changes_end());
}

static bool copy_is_complete(const struct replica *r, uint64_t op, uint64_t frozen_index)
{
    const struct merge_copy *c = r->copy;
    if (MERGE_TEST_EARLY)
        return c && c->mark.op == op;
    return c && c->durable && c->mark.op == op && c->mark.frozen_index == frozen_index;
}

static void forget_mark(struct replica *r)
{
    uint8_t raw[16];
    engine_batch_delete(r->batch, engine_key_meta(raw, ENGINE_META_MERGE));
    merge_copy_destroy(r->copy);
}

static void own(struct replica *r, const struct shard_change *c)
{
    /* placementd has seen every replica's copy complete, and none lets go of it: this would be a
     * fault of ours. Better one replica that is seeded again than one that lacks data. */
    bool complete = copy_is_complete(r, c->op, c->source_index);
    const struct shard *s = &r->shard;
    forget_mark(r);
    if (!complete) {
        replica_set_broken(r, ERR_CORRUPT, "its copy of the range that it owns now is incomplete");
        return;
    }
    /* The copy is durable, so it has the source's rows stored. */
    enum err e =
        dedupe_load(r->dedupe, r->db, c->other.group, c->other.first_slot, r->shard.time_ms);
    if (e != ERR_OK) {
        replica_set_broken(r, e, "what the source knew of its sessions cannot be read");
        return;
    }
    dedupe_rewrite(r->dedupe, s->group, s->first_slot, s->last_slot, r->batch);
    post_owner(r);
}

static void abort_copy(struct replica *r)
{
    if (!r->copy)
        return;
    if (!r->copy->fresh) /* else they may be slots of a child that is still to be made */
        merge_copy_clear(r->copy, r->batch);
    forget_mark(r);
}

/* Followers learn from the next message that the entry is committed. Without writes, and a frozen
 * shard has none, that would be the next heartbeat's; but each of them has its copying to do. */
static void hurry(struct replica *r)
{
    struct buf entry = {0};
    uint64_t index, term;
    command_begin(&entry);
    command_finish(&entry, r->shard.time_ms, 0);
    enum err e = group_propose(r->group, buf_slice(&entry), &index, &term);
    if (e != ERR_OK)
        log_debug("merge_not_hurried", "core=%u group=%llu error=%s", r->core->number,
                  (ull)r->shard.group, err_name(e));
    buf_close(&entry);
}

void merge_applied(struct replica *r, const struct shard_change *c, enum err result, uint64_t index)
{
    (void)index;
    if (result != ERR_OK)
        return;
    if (replica_is_leader(r))
        hurry(r);
    switch (c->kind) {
    case SHARD_MERGE_TARGET:
        merge_copy_destroy(r->copy);
        merge_copy_create(r);
        break;
    case SHARD_MERGE_INTENT:
        clear_changes(r);
        post_nudge(r, c->other.group);
        break;
    case SHARD_MERGE_FREEZE:
        post_nudge(r, r->shard.merge_peer);
        break;
    case SHARD_MERGE_OWN:
        own(r, c);
        break;
    case SHARD_MERGE_ABORT:
        abort_copy(r);
        break;
    case SHARD_MERGE_UNFREEZE:
        clear_changes(r);
        unpark(r);
        break;
    default:
        break;
    }
}

void merge_opened(struct replica *r)
{
    r->lives++;
    merge_copy_destroy(r->copy);
    if (r->shard.phase == SHARD_PHASE_TARGET)
        merge_copy_create(r);
}

void merge_closed(struct replica *r)
{
    unpark(r);
    merge_copy_destroy(r->copy);
}

/* ---- steps ---- */

/* What the leader of one group has to know of the other before it proposes. */
struct question {
    struct node *node;
    unsigned from_core;
    uint64_t group, replica, peer, op; /* who asks, about whom */
    uint8_t kind;                      /* enum shard_change_kind */
    bool found;
    struct shard shard; /* of the peer's replica here */
};

static void propose(struct replica *r, struct shard_change *c)
{
    enum err e = replica_propose_change(r, c);
    if (e != ERR_OK)
        log_debug("merge_not_proposed", "core=%u group=%llu kind=%s op=%llu error=%s",
                  r->core->number, (ull)r->shard.group, shard_change_name(c->kind), (ull)c->op,
                  err_name(e));
}

/* The source here is frozen, and our copy is of that very state. */
static void propose_own(struct replica *r, const struct question *q)
{
    const struct shard *s = &q->shard;
    if (!q->found || s->phase != SHARD_PHASE_FROZEN || s->merge != q->op ||
        s->merge_peer != r->shard.group || !copy_is_complete(r, q->op, s->frozen_index))
        return;
    struct shard_change c = {.kind = SHARD_MERGE_OWN,
                             .op = q->op,
                             .other = {.group = s->group,
                                       .first_slot = s->first_slot,
                                       .last_slot = s->last_slot,
                                       .epoch = s->epoch},
                             .source_index = s->frozen_index,
                             .source_version = s->version,
                             .source_time_ms = s->time_ms};
    propose(r, &c);
}

/* The target must have let go: seen here, or, if no replica here can tell, by placementd. */
static void propose_unfreeze(struct replica *r, const struct question *q)
{
    const struct shard *t = &q->shard;
    bool owns =
        q->found && t->first_slot <= r->shard.last_slot && t->last_slot >= r->shard.first_slot;
    if (q->found &&
        (t->merge < q->op || (t->merge == q->op && t->phase != SHARD_PHASE_NONE) || owns))
        return;
    struct shard_change c = {.kind = SHARD_MERGE_UNFREEZE, .op = q->op};
    propose(r, &c);
}

static void question_back(struct core *core, void *arg)
{
    struct question *q = arg;
    struct replica *r = core_find_replica(core, q->group);
    if (r && r->shard.replica == q->replica && replica_is_leader(r)) {
        if (q->kind == SHARD_MERGE_OWN)
            propose_own(r, q);
        else
            propose_unfreeze(r, q);
        io_again(core->io);
    }
    free(q);
}

static void question_take(struct core *core, void *arg)
{
    struct question *q = arg;
    struct replica *r = core_find_replica(core, q->peer);
    /* One that is broken, or waits for its first snapshot, cannot tell what its log decided since.
     * It must not keep a source frozen for ever. */
    q->found = r && !r->doomed && r->state != REPLICA_BROKEN && r->applied.index > 0;
    if (q->found)
        q->shard = r->shard;
    core_post(q->node->core[q->from_core], question_back, q);
}

static void question_post(struct replica *r, const struct msg_step *s, uint8_t kind)
{
    struct node *node = r->core->node;
    struct question *q = mem_zalloc(sizeof *q);
    *q = (struct question){.node = node,
                           .from_core = r->core->number,
                           .group = r->shard.group,
                           .replica = r->shard.replica,
                           .peer = s->other.group,
                           .op = s->op,
                           .kind = kind};
    core_post(node->core[core_of_group(node, q->peer)], question_take, q);
}

/* What the step wants is so already. */
static bool is_done(const struct shard *s, const struct msg_step *step)
{
    if (s->merge != step->op)
        return false;
    switch (step->kind) {
    case MSG_STEP_MERGE_TARGET:
        return s->phase == SHARD_PHASE_TARGET;
    case MSG_STEP_MERGE_INTENT:
        return s->phase == SHARD_PHASE_SOURCE || s->phase == SHARD_PHASE_FROZEN;
    case MSG_STEP_MERGE_FREEZE:
        return s->phase == SHARD_PHASE_FROZEN;
    default:
        return s->phase == SHARD_PHASE_NONE; /* OWN, ABORT, UNFREEZE */
    }
}

enum err merge_step(struct replica *r, const struct msg_step *s)
{
    struct shard_change c = {.op = s->op, .other = s->other};
    if (!replica_is_leader(r))
        return ERR_NOT_LEADER;
    if (is_done(&r->shard, s))
        return ERR_OK;
    switch (s->kind) {
    case MSG_STEP_MERGE_TARGET:
        c.kind = SHARD_MERGE_TARGET;
        if (r->core->no_space) /* this is where the copy goes */
            return ERR_NO_SPACE;
        return replica_propose_change(r, &c);
    case MSG_STEP_MERGE_INTENT:
        c.kind = SHARD_MERGE_INTENT;
        return replica_propose_change(r, &c);
    case MSG_STEP_MERGE_FREEZE:
        c.kind = SHARD_MERGE_FREEZE;
        return replica_propose_change(r, &c);
    case MSG_STEP_MERGE_ABORT:
        c.kind = SHARD_MERGE_ABORT;
        return replica_propose_change(r, &c);
    case MSG_STEP_MERGE_OWN:
        if (r->shard.phase != SHARD_PHASE_TARGET || r->shard.merge != s->op ||
            r->shard.merge_peer != s->other.group)
            return ERR_REFUSED;
        if (merge_copy_state(r) != MSG_COPY_COMPLETE)
            return ERR_NOT_READY;
        question_post(r, s, SHARD_MERGE_OWN);
        return ERR_OK;
    case MSG_STEP_MERGE_UNFREEZE:
        question_post(r, s, SHARD_MERGE_UNFREEZE);
        return ERR_OK;
    default:
        return ERR_REFUSED;
    }
}

/* ---- what others ask ---- */

uint8_t merge_copy_state(const struct replica *r)
{
    const struct merge_copy *c = r->copy;
    if (!c)
        return MSG_COPY_NONE;
    if (c->durable || (MERGE_TEST_EARLY && c->caught_up))
        return MSG_COPY_COMPLETE;
    return c->caught_up || c->mark.stage == MERGE_COMPLETE ? MSG_COPY_BULK : MSG_COPY_RUNNING;
}

uint64_t merge_operator(const struct replica *r)
{
    return r->shard.merge;
}

struct merge_promise merge_promised(const struct replica *r)
{
    if (!r->copy || !r->copy->durable)
        return (struct merge_promise){0};
    return (struct merge_promise){r->copy->mark.op, r->copy->mark.frozen_index};
}

bool merge_keeps(const struct merge_promise *p, const struct shard *shard, struct engine_db *db)
{
    if (p->op == 0 || shard->merge > p->op)
        return true;
    if (shard->merge == p->op && shard->phase == SHARD_PHASE_NONE)
        return true; /* owned, by a replica whose copy was complete; or aborted */
    struct merge_mark m = {0};
    bool keeps = merge_mark_load(db, &m) == ERR_OK && m.op == p->op && m.stage == MERGE_COMPLETE &&
                 m.frozen_index == p->frozen_index;
    merge_mark_close(&m);
    return keeps;
}

enum err merge_frozen_answer(const struct replica *r, uint16_t slot, struct shard_desc *desc,
                             uint64_t *retry_ms)
{
    const struct shard_desc *other = shard_map_find(&r->core->map, slot);
    if (other && other->group != r->shard.group && other->epoch.range > r->shard.epoch.range) {
        *desc = *other;
        *retry_ms = 0;
        return ERR_WRONG_SHARD;
    }
    *retry_ms = RETRY_FROZEN_MS;
    return ERR_BUSY;
}
