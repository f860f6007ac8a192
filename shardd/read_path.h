/* Linearizable gets: gathered per group and turn, one ReadIndex for all of them, then the engine's
 * cached tier on the loop; what needs I/O goes to the offload threads.
 *
 * Owner: struct replica.  Thread: one core.  Depends on: request, raft/group, engine. */
#ifndef SHARDD_READ_PATH_H
#define SHARDD_READ_PATH_H

#include "common/base/list.h"
#include "shardd/request.h"

struct replica;
struct read_batch;

struct read_path {
    struct list gathered;    /* requests of this turn */
    struct read_batch *free; /* a few spare ones */
    struct list active;      /* batches that wait for their ReadIndex */
    unsigned offloaded;      /* gets on the offload threads now */
};

void read_path_init(struct read_path *p);
/* Takes the request. */
void read_path_add(struct replica *r, struct request *request);
/* End of turn: one group_read() for what was gathered. */
void read_path_flush(struct replica *r);
/* Answers all that waits with `why`; gets on the offload threads go on. */
void read_path_fail(struct read_path *p, enum err why);
/* The same, for good. Offloaded gets must be none. */
void read_path_close(struct read_path *p, enum err why);

#endif
