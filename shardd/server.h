/* The process: data directory, engine, one thread per core, signals, the order of start and stop.
 *
 * Start: lock and stamp the data directory, engine, then each core opens its WAL and replicas on a
 * thread of its own; when all are open the map is loaded, the front opens the ports, and the loops
 * run. Stop (SIGTERM, SIGINT): the front closes, the cores drain and stop, threads are joined.
 * Thread: the main one. */
#ifndef SHARDD_SERVER_H
#define SHARDD_SERVER_H

#include "shardd/config.h"

/* Runs until it is told to stop; the process' exit code. Prints what went wrong. The command line
 * is what a reload reads again; `config` changes with it. */
int server_run(struct shardd_config *config, int argc, char **argv);

#endif
