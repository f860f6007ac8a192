/* Raft's safety, observed at apply(): one leader a term; the same entry at the same index on every
 * replica, for ever (log matching, committed never lost); the same state at the same index.
 *
 * A difference is a sim_violation(). Owner: the world (one a process).  Depends on: base. */
#ifndef SIM_CHECKER_RAFT_H
#define SIM_CHECKER_RAFT_H

#include "common/base/slice.h"

void checker_raft_begin(void);
void checker_raft_leader(uint64_t group, uint64_t term, uint64_t replica);
void checker_raft_apply(uint64_t group, uint64_t replica, uint64_t index, uint64_t term,
                        struct slice payload);
void checker_raft_state(uint64_t group, uint64_t replica, uint64_t index, uint64_t hash);
/* The replica runs with a log (or a state) up to `last`: what it has ever applied was durable here,
 * and nothing of it may have been cut, whatever happened to its disk. */
void checker_raft_log(uint64_t group, uint64_t replica, uint64_t last);
/* How many different (group, term) have had a leader: faults must have moved some. */
unsigned checker_raft_leaderships(void);
uint64_t checker_raft_entries(void);

#endif
