/* Signals, the service manager and reloads, beside the loop.
 *
 * - A thread waits for signals: SIGTERM and SIGINT stop the server, SIGHUP reads the configuration
 *   again and puts into force what can change while running.
 * - A timer of the loop tells systemd when the member knows a leader (or, alone, after ten seconds:
 *   the first of three must not keep the others from being started), and feeds its watchdog: a loop
 *   that is stuck does not.
 *
 * Owner: main.  Thread: the main one starts and stops it; the rest as said. */
#ifndef PLACEMENTD_SUPERVISOR_H
#define PLACEMENTD_SUPERVISOR_H

#include <pthread.h>
#include <signal.h>

#include "placementd/http.h"
#include "placementd/server.h"

struct supervisor {
    struct server *server;       /* open */
    struct settings *settings;   /* in force; reloads change it, on the loop */
    struct placement_http *http; /* may be NULL */
    /* Reads the command line's configuration again. */
    enum err (*reread)(void *arg, struct settings *out, char *msg, size_t n);
    void *arg;
    /* private */
    pthread_t thread;
    struct io_timer timer;
    uint64_t started, every; /* ns */
    uint32_t told_leader;
    bool ready, told;
};

/* Blocks the signals, before any thread is made. */
void supervisor_block_signals(void);
/* False: no thread could be started. */
MUST_USE bool supervisor_start(struct supervisor *s);
/* After the loop has ended. */
void supervisor_stop(struct supervisor *s);

#endif
