/* See checker_raft.h. */
#include "tests/sim/checker_raft.h"

#include <stdlib.h>

#include "common/base/crc32c.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "tests/sim/sim.h"
#include "tests/sim/violation.h"

typedef unsigned long long ull;

struct fact {
    uint64_t a, b; /* what was seen: (term, payload) or (hash, -) or (replica, -) */
    uint64_t who;
};

static struct map leaders, entries, states;
static struct map reached; /* (group, replica) -> struct fact: the highest index it has applied */

void checker_raft_begin(void)
{
    map_init(&leaders);
    map_init(&entries);
    map_init(&states);
    map_init(&reached);
}

static uint64_t key_of(uint64_t group, uint64_t n)
{
    return group << 40 | n;
}

/* The first fact of this key, which is `f` itself if there was none. */
static struct fact *first(struct map *m, uint64_t key, struct fact f)
{
    struct fact *old = map_find(m, key);

    if (!old) {
        old = mem_dup(&f, sizeof f);
        map_set(m, key, old);
    }
    return old;
}

void checker_raft_leader(uint64_t group, uint64_t term, uint64_t replica)
{
    const struct fact *f = first(&leaders, key_of(group, term), (struct fact){replica, 0, replica});

    sim_trace(term);
    if (f->a != replica)
        sim_violation("two leaders in term %llu of group %llu: replicas %llu and %llu", (ull)term,
                      (ull)group, (ull)f->a, (ull)replica);
}

void checker_raft_apply(uint64_t group, uint64_t replica, uint64_t index, uint64_t term,
                        struct slice payload)
{
    struct fact now = {term, crc32c(0, payload.p, payload.n) | (uint64_t)payload.n << 32, replica};
    const struct fact *f = first(&entries, key_of(group, index), now);

    if (f->a != term || f->b != now.b)
        sim_violation("group %llu index %llu: replica %llu applied an entry of term %llu, replica "
                      "%llu had applied one of term %llu%s",
                      (ull)group, (ull)index, (ull)replica, (ull)term, (ull)f->who, (ull)f->a,
                      f->a == term ? " with other bytes" : "");
}

void checker_raft_state(uint64_t group, uint64_t replica, uint64_t index, uint64_t hash)
{
    const struct fact *f = first(&states, key_of(group, index), (struct fact){hash, 0, replica});

    struct fact *high;

    high = first(&reached, key_of(group, replica), (struct fact){0});
    if (index > high->a)
        high->a = index;
    if (f->a != hash)
        sim_violation("group %llu: replicas %llu and %llu differ in state at index %llu",
                      (ull)group, (ull)f->who, (ull)replica, (ull)index);
}

void checker_raft_log(uint64_t group, uint64_t replica, uint64_t last)
{
    const struct fact *f = map_find(&reached, key_of(group, replica));

    if (f && f->a > last)
        sim_violation(
            "group %llu: replica %llu has applied up to %llu, but its log ends at %llu now",
            (ull)group, (ull)replica, (ull)f->a, (ull)last);
}

unsigned checker_raft_leaderships(void)
{
    return (unsigned)leaders.n;
}

uint64_t checker_raft_entries(void)
{
    return entries.n;
}
