/* Makes the faults of a scenario happen to the hosts of a world, and undoes them.
 *
 * kill, power: a process or machine dies and comes back. power-all: all at once. crash-fs: killed
 * or power lost at one of the next file operations. pause: SIGSTOP. cut-in, cut-out, cut: all links
 * into, out of, with a host. cut-link: one direction of one link. partition: two halves. clog: one
 * link holds everything back. reset: connections are reset. stall, slow: the disk. clock: another
 * rate. write-error, read-error: the next but few fails. disk-full: for a while.
 * flip-*: a bit of a file, of the WAL, of the data (engine, saved states), of the copy of the map,
 * of any; of a running process or of one that is down. wipe: a machine loses all its files and
 * comes back under its old name. transfer, member, merge,
 * split, admin: asked of the world. gone: a host of the second kind loses power or its links for
 * long. placement: one of the first kind is killed, paused or cut off.
 *
 * Damage. A host that lost data to a flip or to a wipe is damaged for the rest of the run, whatever
 * became of it; no more than the scenario's `damage` of each kind of hosts are. A process may
 * refuse to start on damaged data: then it stays down, or its operator wipes the host. Nobody else
 * may refuse.
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
    void (*merge)(void);               /* may be NULL */
    void (*split)(void);               /* may be NULL */
    void (*admin)(void);               /* may be NULL */
    unsigned kinds; /* the hosts 1 .. kinds are of one kind, the rest of another */
    bool no_wipe;   /* a host that has lost everything could not come back safely: it stays down */
};

/* Faults strike the hosts 1 .. n from now until `until`. */
void nemesis_begin(const struct scenario *s, unsigned hosts, uint64_t until,
                   const struct nemesis_ops *ops);
/* Undoes everything now: links, clocks, disks; starts what is down. */
void nemesis_heal(void);
unsigned nemesis_struck(enum fault f);
bool nemesis_damaged(unsigned host);
unsigned nemesis_damaged_in(unsigned from, unsigned to); /* how many of these hosts */
/* The process has refused its damaged data and nobody has wiped it since. */
bool nemesis_refused(unsigned host);
unsigned nemesis_refusals(void);
unsigned nemesis_flips(void);
/* From inside a process: it cannot start. Ends it if a fault of the disk explains that; anything
 * else is a violation. */
void nemesis_cannot_start(unsigned host, enum err e, const char *what, const char *msg);
/* How many kinds of faults have struck. */
unsigned nemesis_struck_all(void);

#endif
