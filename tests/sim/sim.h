/* The simulated world below the seam: one clock, one queue of events, one seed; machines ("hosts")
 * with a process, a disk, a network address and a clock of their own; and the faults they suffer.
 *
 * sim_io.c implements common/io/io.h, sim_fs.c implements common/io/fs.h on top of it; production
 * code runs unchanged inside sim_host_call() or in callbacks of its io. All calls below come from
 * the world (scenarios, checkers) at top level, never from inside a host, unless said otherwise.
 *
 * Host n has the address 127.0.0.n and the files below "/n<n>/". A process that dies leaves its
 * memory behind: a seed runs in a process of its own (sim_main.c), which then exits.
 *
 * Owner: the process (one world at a time).  Thread: one.  Depends on: base, io's headers. */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdarg.h>

#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/base/list.h"
#include "common/base/slice.h"
#include "common/io/io.h"

#define SIM_HOSTS 64u

struct sim_host;

/* ---- time, chance, trace ---- */

void sim_begin(uint64_t seed); /* forgets the world before */
uint64_t sim_now(void);        /* ns since sim_begin() */
uint64_t sim_random(void);
uint64_t sim_below(uint64_t n);
uint64_t sim_between(uint64_t low, uint64_t high); /* inclusive */
bool sim_chance(double p);
/* Mixed from every event: equal for equal seeds, or determinism is lost. */
uint64_t sim_trace_hash(void);
void sim_trace(uint64_t what);
uint64_t sim_events(void);
/* With `on`, sim_log() and the log lines of the hosts are printed. */
void sim_set_verbose(bool on);
void sim_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- events of the world ---- */

struct sim_event {
    void (*fn)(struct sim_event *e);
    uint64_t at, order; /* private */
    size_t pos;         /* private; 0: not queued */
};
/* Zero the struct and set fn first. Re-arms if armed; the past becomes now. */
void sim_at(struct sim_event *e, uint64_t at);
void sim_cancel(struct sim_event *e);
/* Runs events up to and including `until`, or until sim_stop(). */
void sim_run(uint64_t until);
void sim_stop(void);

/* ---- hosts and their process ---- */

struct sim_host *sim_host_create(unsigned number); /* 1 .. SIM_HOSTS - 1 */
struct sim_host *sim_host_find(unsigned number);   /* NULL if none */
unsigned sim_host_number(const struct sim_host *h);
bool sim_host_up(const struct sim_host *h);
/* Starts a process: run fn(arg) in it. False: it has ended (or crashed) meanwhile. */
bool sim_host_start(struct sim_host *h, void (*fn)(void *arg), void *arg);
/* Runs fn in the process that is there. False: it ended inside. CHECKs that it is up. */
bool sim_host_call(struct sim_host *h, void (*fn)(void *arg), void *arg);
/* From inside a host: the process ends here (its on_fatal, its exit()). Does not return. */
_Noreturn void sim_exit(const char *why);
struct sim_host *sim_current(void); /* NULL outside of hosts */

enum sim_death {
    SIM_KILL,  /* the process: what it wrote stays in the page cache, peers see a reset */
    SIM_POWER, /* the machine: unsynced data is lost or torn, peers see silence */
};
void sim_host_kill(struct sim_host *h, enum sim_death how);
/* The process dies (killed, or by power loss) at its k-th file system operation from now. 0: not.
 */
void sim_host_crash_at_fs(struct sim_host *h, unsigned k);
/* Called when a process ended from within (sim_exit, crash_at_fs). `why` names it. */
void sim_on_exit(void (*fn)(struct sim_host *h, const char *why));
void sim_host_pause(struct sim_host *h, uint64_t ns); /* SIGSTOP, SIGCONT later */
bool sim_host_paused(const struct sim_host *h);
/* From now on its clock runs at `rate` (1.0: true) and its wall clock `wall_ms` off. */
void sim_host_clock(struct sim_host *h, double rate, int64_t wall_ms);

/* ---- network; all directed ---- */

struct sim_net_config {
    uint64_t latency_min, latency_max; /* ns */
    double spike;                      /* share of chunks that take up to spike_max */
    uint64_t spike_max;
    double loss; /* share of chunks lost: a retransmission later */
};
void sim_net_configure(const struct sim_net_config *c);
void sim_net_cut(unsigned from, unsigned to, bool cut);
bool sim_net_is_cut(unsigned from, unsigned to);
void sim_net_cut_host(unsigned host, bool in, bool out, bool cut); /* to and from all others */
void sim_net_heal(void);                                           /* all cuts and clogs */
/* Nothing moves for ns, then all comes at once. */
void sim_net_clog(unsigned from, unsigned to, uint64_t ns);
/* Resets a random connection that has an end at the host. False: there is none. */
bool sim_net_reset_one(unsigned host);

/* ---- disk ---- */

void sim_disk_stall(struct sim_host *h, uint64_t ns);    /* nothing completes meanwhile */
void sim_disk_slow(struct sim_host *h, unsigned factor); /* 1: normal */
void sim_disk_fail(struct sim_host *h, unsigned writes, unsigned reads); /* k-th next; 0: none */
void sim_disk_capacity(struct sim_host *h, uint64_t bytes);              /* UINT64_MAX: no limit */
uint64_t sim_disk_used(const struct sim_host *h);
void sim_disk_lie(struct sim_host *h, bool lie); /* syncs that do nothing: a planted bug */
void sim_disk_all_lie(bool lie);                 /* of every host to be created */
void sim_disk_wipe(struct sim_host *h);          /* host down */
/* Flips one random bit of a file whose path contains `part`. False: no such file with data. */
bool sim_disk_flip(struct sim_host *h, const char *part);

struct sim_stats {
    uint64_t turns, chunks, connects, resets, fs_ops, syncs;
    uint64_t lost_blocks, lost_names; /* taken away by power losses */
    uint64_t io_errors, no_space, crashes;
};
const struct sim_stats *sim_stats(void);

#endif
