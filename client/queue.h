/* kv_queue: completions handed from the I/O thread to the caller's own loop.
 * Thread: any.  Depends on: kvclient.h. */
#ifndef CLIENT_QUEUE_H
#define CLIENT_QUEUE_H

#include "client/kvclient.h"

/* Copies the result. */
void queue_push(kv_queue *q, void *arg, const kv_result *result);
/* Takes the results. */
void queue_push_many(kv_queue *q, void *arg, kv_err err, kv_results *results);

#endif
