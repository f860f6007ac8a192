/* See world.h. */
#include "tests/sim/world.h"

#include "tests/sim/checker_raft.h"
#include "tests/sim/nemesis.h"

void world_collect(const struct history *h, struct world_result *out)
{
    const struct sim_stats *st = sim_stats();

    *out = (struct world_result){
        .trace = sim_trace_hash(),
        .events = sim_events(),
        .ok = history_count(h, HISTORY_OK),
        .failed = history_count(h, HISTORY_FAIL),
        .unknown = history_count(h, HISTORY_INFO),
        .leaderships = checker_raft_leaderships(),
        .entries = checker_raft_entries(),
        .crashes = st->crashes,
        .lost_blocks = st->lost_blocks,
        .lost_names = st->lost_names,
        .io_errors = st->io_errors,
        .resets = st->resets,
        .faults = nemesis_struck_all(),
        .no_space = st->no_space,
        .flips = nemesis_flips(),
        .refusals = nemesis_refusals(),
        .damaged = nemesis_damaged_in(1, SIM_HOSTS - 1),
        .seconds = (double)sim_now() / 1e9,
    };
}
