/* What a node has once, beside its cores; lives on core 0: the listeners, the line to placementd
 * (report), the map's copy on disk, and the fan-out of all that to the cores.
 *
 * Accepted client sockets go to the cores in turn (a client's hello may move them on), peer
 * sockets are read on core 0 until their HELLO names a core. Steps of placementd go to the core
 * that has the group; status is gathered from all cores by mail. The newest map is kept in the file
 * `map` so that the node finds its peers with all of placementd down.
 *
 * Owner: struct server, or the simulator.  Thread: core 0.  Depends on: core, report, data_dir. */
#ifndef SHARDD_FRONT_H
#define SHARDD_FRONT_H

#include "common/io/data_dir.h"
#include "shardd/core.h"
#include "shardd/report.h"

struct front;

struct front_options {
    struct node *node; /* all cores created */
    struct data_dir *data_dir;
    struct io_addr client, peer; /* to listen on; port 0: any */
    unsigned n_placement;
    struct io_addr placement[REPORT_ADDRESSES];
};

/* Opens the listeners and starts. Call before core 0's loop runs, or on its thread. `msg` names the
 * address that could not be had. */
MUST_USE enum err front_create(const struct front_options *o, struct front **out, char *msg,
                               size_t n);
/* Closes listeners and report. On core 0's thread, before core_stop(). */
void front_destroy(struct front *f);
void front_addrs(const struct front *f, struct io_addr *client, struct io_addr *peer);
/* placementd answers our heartbeats. On core 0's thread; so the next. */
bool front_connected(const struct front *f);
void front_set_placement(struct front *f, const struct io_addr *placement, unsigned n);
/* node.on_changed. Any core's thread; `arg` is the front. */
void front_on_changed(struct front *f, struct core *c);
/* Blocking, at start: reads the map file into all cores. No file: nothing happens. */
MUST_USE enum err front_load_map(struct node *node, char *msg, size_t n);

#endif
