/* kv_batch: operations gathered for one kv_batch_run(). Keys and values lie in one buffer and are
 * found by offset, as it grows.
 * Owner: the application.  Thread: one at a time.  Depends on: kvclient.h, client_core. */
#ifndef CLIENT_BATCH_H
#define CLIENT_BATCH_H

#include "client/client_core.h"
#include "client/kvclient.h"

#define BATCH_OPS_MAX 65536u

struct batch_op {
    struct client_item item; /* its slices: lengths only */
    size_t at;               /* of key and value in `bytes` */
};

struct kv_batch {
    size_t n, cap;
    struct batch_op *ops;
    struct buf bytes;
};

/* Item i with its slices into the batch's bytes. */
struct client_item batch_item(const struct kv_batch *b, size_t i);

#endif
