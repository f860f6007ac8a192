/* Clients of the simulated world that count effects: sessions whose writes are sent again and
 * again.
 *
 * Each is a session on raw MessagePack-RPC. A write goes to one node after the other, now and then
 * to two at once, until it has a definite answer; a part of the answers is thrown away unread; long
 * after its answer, and after that was confirmed, a write may be sent once more, as it was first
 * sent.
 *
 * Judged at once: two definite answers to one write are the same; no number of a counter is given
 * to two writes; a key that only one write makes was absent for it; both halves of an
 * all-or-nothing pair have the same number. At the end: a counter shows each acknowledged write
 * once, one whose outcome is unknown at most once. Values that expire are counted, too: there the
 * replicas' states judge.
 *
 * Owner: full_world.c.  Thread: the process of a host of their own. */
#ifndef SIM_SIM_COUNT_H
#define SIM_SIM_COUNT_H

#include "tests/sim/scenario.h"

/* Inside the process. `first`, `n`: hosts of the shardd nodes. */
void sim_count_start(const struct scenario *s, unsigned first, unsigned n);
/* From outside: no new writes; those under way are to be answered, then the counters are read. */
void sim_count_settle(void);
/* `live`: all must have been answered. */
void sim_count_judge(bool live);

#endif
