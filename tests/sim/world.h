/* Worlds: a cluster in the simulator, its clients and its judgement. One a process. */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "common/lin/history.h"
#include "tests/sim/scenario.h"

/* What a seed achieved: a run counts only if work was done and the faults bit. */
#define WORLD_KINDS 8u /* of placementd's operators */

struct world_result {
    uint64_t trace, events;
    uint64_t ok, failed, unknown;
    uint64_t leaderships, entries, crashes, lost_blocks, lost_names, io_errors, resets, faults;
    uint64_t no_space, flips, refusals, damaged;
    uint64_t operators[WORLD_KINDS][3]; /* by kind: done, cancelled, failed */
    bool idle;                          /* hardly an operator came to an end */
    double seconds;                     /* simulated */
};

/* Each runs the whole seed; ends the process with SIM_EXIT_VIOLATION if it finds one. */
void raft_world_run(const struct scenario *s, struct world_result *out);
void full_world_run(const struct scenario *s, struct world_result *out);

/* What was achieved so far. */
void world_collect(const struct history *h, struct world_result *out);
/* A violation, if no order of the operations explains what clients saw. */
void world_judge(const struct history *h);

#endif
