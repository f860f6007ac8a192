/* One process of the playground: its files, starting, stopping, and what its log says.
 *
 * DIR/pid/NAME holds "pid start-time boot-id": a pid alone may since belong to somebody else, the
 * three together never do. Signals go through a pidfd that was checked after it was opened.
 * Thread: main.  Depends on: nothing of ours. */
#ifndef CTL_PROCESS_H
#define CTL_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct process {
    char name[16];       /* "p1", "n2" */
    const char *program; /* "placementd", "shardd" */
    char dir[512];       /* the playground's */
    unsigned client_port, peer_port, http_port;
};

/* The pid if it is running and ours; 0 otherwise. */
pid_t process_pid(const struct process *p);
/* Runs `path` with argv in the background, its output appended to DIR/log/NAME.log, and notes its
 * pid. False: `msg` says why. */
bool process_spawn(const struct process *p, const char *path, char *const argv[], char *msg,
                   size_t n);
/* Runs it to its end, with nothing on its standard output; `said`: the last line it said on stderr.
 * False: it failed. */
bool process_try(const char *path, char *const argv[], char *said, size_t n);
/* SIGTERM, or SIGKILL with `hard`. No-op if it is not running. */
void process_signal(const struct process *p, bool hard);
/* Waits until it has ended; false: still there after `ms`. */
bool process_wait_end(const struct process *p, unsigned ms);
/* Forgets the pid of one that has ended. */
void process_forget(const struct process *p);
/* Prints the last lines of its log on stderr, each indented, and gives the likely fix, or NULL. */
const char *process_explain(const struct process *p, int lines);

/* Who listens on 127.0.0.1:port: false if nobody. `who`: "name (pid N)" if it can be told (*owned),
 * else "another process". */
bool process_port_taken(unsigned port, char *who, size_t n, bool *owned);

#endif
