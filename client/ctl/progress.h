/* Progress of a long transfer on stderr: records, bytes, rate, time left. And ^C, once.
 *
 * On a terminal one line is redrawn, elsewhere a line is printed every five seconds.
 * Thread: main.  Depends on: output. */
#ifndef CTL_PROGRESS_H
#define CTL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "client/ctl/ctl.h"

struct progress {
    const char *what;  /* "export" */
    uint64_t records;  /* done in this run */
    uint64_t bytes;    /* done in this run: what the rate is made of */
    double share;      /* of the whole, 0 to 1; < 0: not known */
    double share_from; /* where this run began */
    /* private */
    uint64_t begin, shown;
    bool terminal, drawn;
};

void progress_begin(struct progress *p, const char *what);
/* Draws, if it is time to. */
void progress_show(struct progress *p);
/* Takes the line away and gives the seconds that it took. */
double progress_end(struct progress *p);
/* ^C since progress_begin(): the transfer is to end where it can go on later. */
bool progress_interrupted(void);

/* For tests. The line after `seconds`, without its end. */
void progress_line(const struct progress *p, double seconds, char *out, size_t n);

#endif
