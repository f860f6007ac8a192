/* What the main thread does while the cores work: signals, the service manager, reloads.
 *
 * - Tells systemd how far the replay is, when the node is ready, and feeds its watchdog as long as
 *   every core's loop turns: one that is stuck stops the feeding, and systemd restarts the node.
 * - Ready means: replayed, ports open, and taken by placementd. A node that has been a member
 *   before waits for that only ten seconds: with all of placementd down it serves what it has.
 * - SIGHUP reads the configuration again and puts into force what can change while running.
 *
 * Owner: struct server.  Thread: the main one.  Depends on: core, front, notify. */
#ifndef SHARDD_SUPERVISOR_H
#define SHARDD_SUPERVISOR_H

#include <signal.h>

#include "shardd/config.h"
#include "shardd/core.h"

struct front;

struct supervisor {
    struct node *node;
    struct shardd_config *config; /* in force; reloads change it */
    int argc;                     /* to read the configuration again */
    char **argv;
    struct front *front; /* set before supervisor_run() */
    bool member;         /* the data directory belongs to a node of a cluster already */
};

/* Blocks the signals that supervisor_run() waits for: before any thread is made. */
void supervisor_block_signals(void);
/* While the cores open: about once a second. */
void supervisor_starting(const struct supervisor *s);
/* Until SIGTERM or SIGINT; gives that. */
int supervisor_run(struct supervisor *s);

#endif
