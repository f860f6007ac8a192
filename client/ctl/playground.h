/* The playground: a local cluster of 3 placementd (or 1, or 5) and N shardd.
 *
 * The first members of placementd found it, later ones join a running one; ids are used once, so
 * that those that were removed (DIR/pK/removed) stay in the count and are not started.
 *
 * DIR/playground.json  what it is made of (nodes, groups, cores, ports)
 * DIR/p1.. DIR/n1..    data directories
 * DIR/log, DIR/pid     see process.h
 * Thread: main.  Depends on: ctl.h, process. */
#ifndef CTL_PLAYGROUND_H
#define CTL_PLAYGROUND_H

#include "client/ctl/ctl.h"
#include "client/ctl/process.h"

#define PLAYGROUND_MEMBERS 3u /* unless asked otherwise */
#define PLAYGROUND_MEMBERS_MAX 20u
#define PLAYGROUND_NODES_MAX 90u
#define PLAYGROUND_SETS_MAX 16u

struct playground {
    char dir[512]; /* absolute */
    unsigned base_port, nodes, groups, cores;
    unsigned members, founders; /* of placementd: ever made; those that it began with */
    unsigned old_members;       /* those that were there before this command */
    /* section.key=value of --set: those of [placement] for placementd, those of [log] for all, the
     * others for the nodes. Kept in playground.json, so that a restart means the same. */
    char sets[PLAYGROUND_SETS_MAX][128];
    unsigned n_sets;
    bool exists; /* playground.json was there */
    char url[512];
};

/* ---- playground_file.c ---- */
#define PLAYGROUND_ADDRESSES 480u
/* The one of directory `dir`, not read yet. False: there is no such directory. */
bool playground_at(const char *dir, struct playground *pg);
/* Fills in what DIR/playground.json says, if it is there. False: it is damaged. */
bool playground_read(struct playground *pg);
/* The first `of` members of placementd, as far as they are there, "IP:PORT,..."; `offset`: of their
 * ports. */
void playground_addresses(const struct playground *pg, unsigned offset, bool ids, unsigned of,
                          char out[PLAYGROUND_ADDRESSES]);
void playground_set_url(struct playground *pg);
/* False: it is no section.key=value, or one too many. */
bool playground_add_set(struct playground *pg, const char *text);
/* A member of placementd that was removed from it. */
bool playground_is_gone(const struct playground *pg, unsigned i);

/* ---- playground.c ---- */
/* playground_read(). False: printed. */
bool playground_load(const struct ctl *ctl, struct playground *pg);
bool playground_save(const struct ctl *ctl, const struct playground *pg);
unsigned playground_count(const struct playground *pg);
bool playground_is_member(const struct playground *pg, unsigned i);
/* i from 0: the members of placementd first, then the nodes. */
struct process playground_process(const struct playground *pg, unsigned i);
/* The index of the process of that name, or -1. */
int playground_find(const struct playground *pg, const char *name);
/* Starts process i. False: printed. */
bool playground_spawn(const struct ctl *ctl, const struct playground *pg, unsigned i);

/* The one in `dir`. False: there is none. */
bool playground_open(const struct ctl *ctl, const char *dir, struct playground *pg);
/* Stops all, or only the process of that index. The exit code. */
int playground_stop(const struct ctl *ctl, const struct playground *pg, int only);

/* playground_start.c: `only` is the index of the one process to start, or -1. */
int playground_start(struct ctl *ctl, struct playground *pg, int only);

#endif
