/* The clean stop of a core, in stages, driven by its tick.
 *
 *   1 DRAIN    requests are refused, leaderships are handed over, what is under way is answered
 *   2 RELEASE  fetches are cancelled, snapshot server and store closed, offload work ends
 *   3 CLOSE    replicas closed, then the WAL once it is idle
 *
 * Owner: struct core.  Thread: its own. */
#ifndef SHARDD_CORE_STOP_H
#define SHARDD_CORE_STOP_H

struct core;

enum core_stage { CORE_RUNNING, CORE_DRAIN, CORE_RELEASE, CORE_CLOSE, CORE_STOPPED };

void core_stop_step(struct core *c);

#endif
