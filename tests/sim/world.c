/* See world.h. */
#include "tests/sim/world.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/checker_raft.h"
#include "tests/sim/nemesis.h"
#include "tests/sim/violation.h"

#define LIN_BUDGET 3000000u /* steps */

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

void world_judge(const struct history *h)
{
    char *text = NULL;
    size_t size = 0;
    FILE *why = open_memstream(&text, &size);
    enum lin_verdict v = history_check(h, LIN_BUDGET, why);

    fclose(why);
    if (v == LIN_BAD)
        sim_violation("not linearizable: %s", text);
    if (v == LIN_UNDECIDED)
        printf("note: %s", text);
    free(text);
}
