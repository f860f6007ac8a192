/* Makes the faults of a scenario happen to the hosts of a world, and undoes them.
 *
 * kill, power: a process or machine dies and comes back. power-all: all at once. crash-fs: killed
 * or power lost at one of the next file operations. pause: SIGSTOP. cut-in, cut-out, cut: all links
 * into, out of, with a host. cut-link: one direction of one link. partition: two halves. clog: one
 * link holds everything back. reset: connections are reset. stall, slow: the disk. clock: another
 * rate. write-error, read-error: the next but few fails. disk-full. transfer, member: asked of the
 * world.
 *
 * Owner: the world.  Depends on: sim, scenario. */
#ifndef SIM_NEMESIS_H
#define SIM_NEMESIS_H

#include "tests/sim/scenario.h"
#include "tests/sim/sim.h"

struct nemesis_ops {
    void (*start)(struct sim_host *h); /* start its process (again) */
    void (*transfer)(void);            /* may be NULL */
    void (*member)(void);              /* may be NULL */
};

/* Faults strike the hosts 1 .. n from now until `until`. */
void nemesis_begin(const struct scenario *s, unsigned hosts, uint64_t until,
                   const struct nemesis_ops *ops);
/* Undoes everything now: links, clocks, disks; starts what is down. */
void nemesis_heal(void);
unsigned nemesis_struck(enum fault f);
/* How many kinds of faults have struck. */
unsigned nemesis_struck_all(void);

#endif
