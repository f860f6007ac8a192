/* Waiting for work of the cluster, with a progress bar on stderr.
 *
 * On a terminal one line is redrawn; elsewhere a line is printed when something has changed, at
 * most one a second. ^C detaches: the work goes on, and the command that takes it up again is
 * named. placementd may be unreachable for a while (its leader changes): that is said and waited
 * out. Thread: main.  Depends on: admin. */
#ifndef CTL_WATCH_H
#define CTL_WATCH_H

#include "client/ctl/admin.h"

/* One look at the work. */
struct watch_now {
    uint64_t bytes, bytes_total; /* total 0: not a matter of bytes */
    unsigned done, total;        /* of what `unit` counts */
    const char *unit;            /* "move" */
    uint64_t rate;               /* bytes/s; 0: measured here */
    char note[200];              /* what it is at, or waits for; may be "" */
    bool over;
};

struct watch {
    const char *what;   /* "draining n3" */
    const char *resume; /* "kvctl rebalance watch" */
    /* Fills in *now (zeroed but for unit). A failure is tried again for a minute. */
    kv_err (*look)(struct ctl *ctl, void *arg, struct watch_now *now, char *msg, size_t n);
    void *arg;
};

/* CTL_OK once it is over; CTL_UNKNOWN after ^C; else the code of what failed, printed. */
int watch_run(struct ctl *ctl, const struct watch *w);

/* Operators: waits until all of `ids` (texts) have ended; with `all` also those that come
 * meanwhile. Prints what became of them: CTL_OK if all are done, else CTL_NEGATIVE. */
int watch_operators(struct ctl *ctl, const char *what, const json_t *ids, bool all);

/* For tests: the line of a bar `width` wide, without its end. */
void watch_line(const struct watch_now *now, const char *what, uint64_t rate, unsigned width,
                char *out, size_t n);

#endif
