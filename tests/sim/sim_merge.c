/* See sim_merge.h. */
#include "tests/sim/sim_merge.h"

#include "common/base/check.h"
#include "shardd/core.h"
#include "shardd/merge.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_placement.h"
#include "tests/sim/violation.h"

#define MERGES 64u
#define FIRST_OP 1000u
#define STEP_NS (20 * NS_PER_MS)
#define PATIENCE (6 * NS_PER_S)

typedef unsigned long long ull;

enum stage { TARGET, INTENT, BULK, FREEZE, COMPLETE, OWN, ABORT, UNFREEZE, STAGES };

/* One side of a merge, as its replicas show it. */
struct side {
    uint64_t group;
    struct replica *leader; /* of the greatest term; only within one look */
    struct shard_desc desc;
};

static struct {
    void (*each)(void (*fn)(struct replica *r));
    void (*call)(const struct replica *r, void (*fn)(void *arg), void *arg);
    unsigned placements;
    struct sim_event event;
    bool active;
    unsigned n; /* of merges so far; op FIRST_OP + n - 1 is the last */
    enum stage stage, give_up;
    uint64_t began;
    struct side source, target;
    uint64_t bulk[LIMIT_GROUP_MEMBERS], complete[LIMIT_GROUP_MEMBERS]; /* replicas of the target */
    struct replica *leaders[64];                                       /* to choose from */
    unsigned n_leaders;
    /* What the logs have decided, by merge. */
    struct {
        uint16_t first_slot, last_slot; /* of the source */
        uint64_t source, target;
        uint32_t range; /* the target's epoch while it was waiting for the source; 0: not seen */
        bool owned, aborted, thawed;
    } fate[MERGES];
} M;

static uint64_t op(void)
{
    return FIRST_OP + M.n - 1;
}

/* ---- what is seen ---- */

static void see_side(struct side *s, struct replica *r)
{
    if (r->shard.group == s->group && replica_is_leader(r) &&
        (!s->leader || group_term(r->group) > group_term(s->leader->group)))
        s->leader = r;
}

/* A report once made counts, whatever becomes of the node. */
static void note(uint64_t list[LIMIT_GROUP_MEMBERS], uint64_t replica)
{
    for (unsigned i = 0; i < LIMIT_GROUP_MEMBERS; i++) {
        if (list[i] == replica)
            return;
        if (list[i] == 0) {
            list[i] = replica;
            return;
        }
    }
}

static unsigned noted(const uint64_t list[LIMIT_GROUP_MEMBERS])
{
    unsigned n = 0;
    while (n < LIMIT_GROUP_MEMBERS && list[n] != 0)
        n++;
    return n;
}

static void see(struct replica *r)
{
    see_side(&M.source, r);
    see_side(&M.target, r);
    if (r->shard.group != M.target.group || r->shard.merge != op())
        return;
    if (merge_copy_state(r) >= MSG_COPY_BULK)
        note(M.bulk, r->shard.replica);
    if (merge_copy_state(r) == MSG_COPY_COMPLETE)
        note(M.complete, r->shard.replica);
}

static void look(void)
{
    M.source.leader = M.target.leader = NULL;
    M.each(see);
    if (M.source.leader)
        replica_describe(M.source.leader, &M.source.desc);
    if (M.target.leader)
        replica_describe(M.target.leader, &M.target.desc);
}

/* ---- orders ---- */

static struct {
    struct replica *to;
    struct msg_step step;
    enum err result;
} order;

static void order_inside(void *arg)
{
    (void)arg;
    order.result = merge_step(order.to, &order.step);
    io_again(order.to->core->io);
}

static void give(uint8_t kind, const struct side *to, const struct side *other)
{
    if (!to->leader)
        return;
    order.to = to->leader;
    order.step =
        (struct msg_step){.kind = kind, .op = op(), .shard = to->desc, .other = other->desc};
    M.call(to->leader, order_inside, NULL);
}

static bool shows(const struct side *s, enum shard_phase phase)
{
    return s->leader && s->leader->shard.merge == op() && s->leader->shard.phase == phase;
}

static bool covers(const struct shard *s, uint16_t first, uint16_t last)
{
    return s->first_slot <= first && s->last_slot >= last;
}

static void end(const char *how)
{
    sim_log("merge %llu of %llu into %llu: %s", (ull)op(), (ull)M.source.group, (ull)M.target.group,
            how);
    M.active = false;
}

static void advance(enum stage to)
{
    M.stage = to;
    if (to == M.give_up)
        M.stage = ABORT;
}

static void drive_forward(void)
{
    switch (M.stage) {
    case TARGET:
        if (shows(&M.target, SHARD_PHASE_TARGET))
            advance(INTENT);
        else
            give(MSG_STEP_MERGE_TARGET, &M.target, &M.source);
        break;
    case INTENT:
        if (shows(&M.source, SHARD_PHASE_SOURCE))
            advance(BULK);
        else
            give(MSG_STEP_MERGE_INTENT, &M.source, &M.target);
        break;
    case BULK:
        if (M.target.leader && noted(M.bulk) == M.target.desc.n_replicas)
            advance(FREEZE);
        break;
    case FREEZE:
        if (shows(&M.source, SHARD_PHASE_FROZEN))
            advance(COMPLETE);
        else
            give(MSG_STEP_MERGE_FREEZE, &M.source, &M.target);
        break;
    case COMPLETE:
        if (M.target.leader && noted(M.complete) == M.target.desc.n_replicas)
            advance(OWN);
        break;
    default:
        if (shows(&M.target, SHARD_PHASE_NONE)) {
            M.fate[M.n - 1].owned = true; /* it may have split before that was watched */
            end("owned");
        } else {
            give(MSG_STEP_MERGE_OWN, &M.target, &M.source);
        }
    }
}

static void drive_back(void)
{
    const struct side *t = &M.target;
    if (M.stage == ABORT && shows(t, SHARD_PHASE_NONE)) {
        if (covers(&t->leader->shard, M.fate[M.n - 1].first_slot, M.fate[M.n - 1].last_slot))
            end("owned, too late to give it up");
        else
            M.stage = UNFREEZE;
    } else if (M.stage == ABORT) {
        give(MSG_STEP_MERGE_ABORT, t, &M.source);
    } else if (shows(&M.source, SHARD_PHASE_NONE)) {
        end("given up");
    } else {
        give(MSG_STEP_MERGE_UNFREEZE, &M.source, t);
    }
}

static void on_step(struct sim_event *e)
{
    enum stage before = M.stage;
    look();
    if (M.stage < ABORT && sim_now() - M.began > PATIENCE)
        M.stage = ABORT;
    if (M.stage >= ABORT)
        drive_back();
    else
        drive_forward();
    if (M.stage != before)
        sim_log("merge %llu comes to stage %d", (ull)op(), (int)M.stage);
    if (M.active)
        sim_at(e, sim_now() + STEP_NS);
}

/* ---- beginning ---- */

static bool settled(uint64_t group)
{
    for (unsigned i = 1; i <= M.placements; i++)
        if (sim_host_up(sim_host_find(i)) && !sim_placement_settled(i, group))
            return false;
    return true;
}

static void collect(struct replica *r)
{
    if (!replica_is_leader(r) || !settled(r->shard.group) || r->shard.phase != SHARD_PHASE_NONE ||
        M.n_leaders >= 64)
        return;
    for (unsigned i = 0; i < M.n_leaders; i++)
        if (M.leaders[i]->shard.group == r->shard.group)
            return;
    M.leaders[M.n_leaders++] = r;
}

static void begin(const struct replica *s, const struct replica *t)
{
    M.active = true;
    M.n++;
    M.stage = TARGET;
    M.give_up = sim_chance(0.6) ? (enum stage)(1 + sim_below(OWN)) : STAGES;
    M.began = sim_now();
    M.source = (struct side){.group = s->shard.group};
    M.target = (struct side){.group = t->shard.group};
    replica_describe(s, &M.source.desc);
    replica_describe(t, &M.target.desc);
    memset(M.bulk, 0, sizeof M.bulk);
    memset(M.complete, 0, sizeof M.complete);
    M.fate[M.n - 1].first_slot = s->shard.first_slot;
    M.fate[M.n - 1].last_slot = s->shard.last_slot;
    M.fate[M.n - 1].source = s->shard.group;
    M.fate[M.n - 1].target = t->shard.group;
    sim_log("merge %llu of %llu into %llu begins", (ull)op(), (ull)M.source.group,
            (ull)M.target.group);
    M.event.fn = on_step;
    sim_at(&M.event, sim_now());
}

void sim_merge_begin(void)
{
    M.n_leaders = 0;
    if (M.active || M.n == MERGES)
        return;
    M.each(collect);
    if (M.n_leaders < 2)
        return;
    unsigned from = (unsigned)sim_below(M.n_leaders);
    for (unsigned i = 0; i < M.n_leaders * M.n_leaders; i++) {
        const struct replica *s = M.leaders[(from + i) % M.n_leaders];
        const struct replica *t = M.leaders[(from + i / M.n_leaders) % M.n_leaders];
        if (s->shard.last_slot + 1 == t->shard.first_slot ||
            t->shard.last_slot + 1 == s->shard.first_slot) {
            begin(s, t);
            return;
        }
    }
}

void sim_merge_init(void (*each)(void (*fn)(struct replica *r)),
                    void (*call)(const struct replica *r, void (*fn)(void *arg), void *arg),
                    unsigned placements)
{
    memset(&M, 0, sizeof M);
    M.placements = placements;
    M.each = each;
    M.call = call;
}

/* ---- what must hold ---- */

void sim_merge_watch(const struct replica *r)
{
    const struct shard *s = &r->shard;
    if (s->merge < FIRST_OP || s->merge >= FIRST_OP + M.n)
        return;
    unsigned i = (unsigned)(s->merge - FIRST_OP);
    if (s->phase == SHARD_PHASE_TARGET)
        M.fate[i].range = s->epoch.range;
    if (s->phase != SHARD_PHASE_NONE)
        return;
    if (s->group == M.fate[i].target) {
        bool has = covers(s, M.fate[i].first_slot, M.fate[i].last_slot);
        M.fate[i].owned = M.fate[i].owned || has;
        /* Not if it has split since. */
        M.fate[i].aborted = M.fate[i].aborted || (!has && s->epoch.range == M.fate[i].range);
    } else if (s->group == M.fate[i].source) {
        M.fate[i].thawed = true;
    }
    if (M.fate[i].owned && (M.fate[i].aborted || M.fate[i].thawed))
        sim_violation("merge %llu of group %llu into %llu: owned, and %s", (ull)s->merge,
                      (ull)M.fate[i].source, (ull)M.fate[i].target,
                      M.fate[i].aborted ? "given up" : "the source serves again");
}

void sim_merge_judge(void)
{
    if (M.active)
        sim_violation("merge %llu of group %llu into %llu has not ended in peace: stage %d",
                      (ull)op(), (ull)M.source.group, (ull)M.target.group, (int)M.stage);
}

unsigned sim_merge_owned(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < M.n; i++)
        n += M.fate[i].owned;
    return n;
}

unsigned sim_merge_aborted(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < M.n; i++)
        n += M.fate[i].aborted;
    return n;
}
