/* See sim_split.h. */
#include "tests/sim/sim_split.h"

#include "common/base/check.h"
#include "shardd/core.h"
#include "tests/sim/sim.h"
#include "tests/sim/violation.h"

#define OWNERS 256u

typedef unsigned long long ull;

/* What a group owns, by the newest of its replicas' states. */
struct owner {
    uint64_t group;
    struct shard_epoch epoch;
    uint16_t first_slot, last_slot;
    bool frozen;
};

static struct {
    void (*each)(void (*fn)(struct replica *r));
    void (*split)(uint64_t group, uint16_t slot);
    struct owner owner[OWNERS];
    unsigned n_owners;
    const struct replica *leader; /* only within one look */
    uint64_t choices;
} S;

static void choose(struct replica *r)
{
    if (replica_is_leader(r) && r->shard.phase == SHARD_PHASE_NONE &&
        r->shard.first_slot < r->shard.last_slot && sim_below(++S.choices) == 0)
        S.leader = r;
}

void sim_split_begin(void)
{
    S.leader = NULL;
    S.choices = 0;
    S.each(choose);
    if (!S.leader || S.n_owners > OWNERS / 2)
        return;
    const struct shard *p = &S.leader->shard;
    unsigned cut = p->first_slot + 1 + (unsigned)sim_below(p->last_slot - p->first_slot);
    sim_log("split of group %llu before %u is wanted", (ull)p->group, cut);
    S.split(p->group, (uint16_t)cut);
}

void sim_split_init(void (*each)(void (*fn)(struct replica *r)),
                    void (*split)(uint64_t group, uint16_t slot))
{
    memset(&S, 0, sizeof S);
    S.each = each;
    S.split = split;
}

/* ---- what must hold ---- */

static struct owner *owner_of(uint64_t group)
{
    for (unsigned i = 0; i < S.n_owners; i++)
        if (S.owner[i].group == group)
            return &S.owner[i];
    CHECK(S.n_owners < OWNERS);
    S.owner[S.n_owners++] = (struct owner){.group = group};
    return &S.owner[S.n_owners - 1];
}

/* A new group came from a split of the one that had its slots, even if the replica that applied
 * that died before anybody looked. */
static void infer_parent(const struct owner *child)
{
    for (unsigned i = 0; i < S.n_owners; i++) {
        struct owner *p = &S.owner[i];
        if (p->epoch.range + 1 != child->epoch.range || p->group == child->group ||
            p->first_slot > child->first_slot || p->last_slot < child->last_slot)
            continue;
        p->epoch.range++;
        if (p->first_slot == child->first_slot)
            p->first_slot = (uint16_t)(child->last_slot + 1);
        else
            p->last_slot = (uint16_t)(child->first_slot - 1);
        return;
    }
}

void sim_split_watch(const struct replica *r)
{
    const struct shard *s = &r->shard;
    if (r->applied.index == 0) /* it waits for its first snapshot */
        return;
    struct owner *o = owner_of(s->group);
    struct owner now = {s->group, s->epoch, s->first_slot, s->last_slot,
                        s->phase == SHARD_PHASE_FROZEN};
    if (o->epoch.range == now.epoch.range &&
        (o->first_slot != now.first_slot || o->last_slot != now.last_slot ||
         o->frozen != now.frozen))
        sim_violation("group %llu range epoch %u: slots %u-%u%s, and replica %llu has %u-%u%s",
                      (ull)s->group, o->epoch.range, o->first_slot, o->last_slot,
                      o->frozen ? " frozen" : "", (ull)s->replica, now.first_slot, now.last_slot,
                      now.frozen ? " frozen" : "");
    if (o->epoch.range == 0)
        infer_parent(&now);
    if (o->epoch.range < now.epoch.range)
        *o = now;
}

void sim_split_check(void)
{
    for (unsigned i = 0; i < S.n_owners; i++) {
        const struct owner *a = &S.owner[i];
        for (unsigned k = 0; k < i && !a->frozen; k++) {
            const struct owner *b = &S.owner[k];
            if (!b->frozen && a->first_slot <= b->last_slot && b->first_slot <= a->last_slot)
                sim_violation("slots %u-%u are of group %llu (epoch %u), slots %u-%u of group %llu "
                              "(epoch %u)",
                              a->first_slot, a->last_slot, (ull)a->group, a->epoch.range,
                              b->first_slot, b->last_slot, (ull)b->group, b->epoch.range);
        }
    }
}

static void judge_made(struct replica *r)
{
    if (split_pending(r))
        sim_violation("group %llu replica %llu: child %llu is not made in peace",
                      (ull)r->shard.group, (ull)r->shard.replica, (ull)split_pending(r));
}

void sim_split_judge(void)
{
    unsigned slots = 0;
    sim_split_check();
    S.each(judge_made);
    for (unsigned i = 0; i < S.n_owners; i++)
        if (!S.owner[i].frozen)
            slots += S.owner[i].last_slot - S.owner[i].first_slot + 1u;
    if (slots != LIMIT_SLOTS)
        sim_violation("%u slots are owned in peace", slots);
}

unsigned sim_split_groups(void)
{
    return S.n_owners;
}
