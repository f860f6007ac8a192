/* kv.mget: many keys of one shard, confirmed like a single read, read together; what needs I/O is
 * read by one job on an offload thread.
 *
 * Values are copied, as the loop goes on while the others are read. Each key's value is the one of
 * some moment after the confirmation; between keys there is no order.
 *
 * Owner: struct replica, through read_path.  Thread: one core.  Depends on: read_path. */
#ifndef SHARDD_READ_MANY_H
#define SHARDD_READ_MANY_H

#include "shardd/request.h"

struct replica;

/* Reads and answers a confirmed mget of a RUNNING replica that owns its first key. */
void read_many_serve(struct replica *r, struct request *request);

#endif
