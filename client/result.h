/* kv_result: borrowed (on the stack, lent to a callback) or owned (one allocation with its bytes).
 * Thread: immutable, any.  Depends on: kvclient.h, client_core. */
#ifndef CLIENT_RESULT_H
#define CLIENT_RESULT_H

#include "client/client_core.h"
#include "client/kvclient.h"

struct kv_result {
    kv_err err;
    int maybe_applied;
    uint64_t version;
    int64_t number;
    int64_t ttl_ms; /* -1: for ever */
    kv_slice value;
    const char *text;
    /* an owned one is followed by the bytes of value and text */
};

struct kv_results {
    size_t n;
    kv_result *result[]; /* owned; NULL: there was no memory for it */
};
kv_results *results_new(size_t n);
/* The first failure; KV_OK: there is none. */
kv_err results_err(const kv_results *r);

kv_err result_err_of(enum err e);
/* Points into *r's bytes. */
struct kv_result result_borrow(const struct client_result *r);
/* An owned one; NULL if out of memory. */
kv_result *result_of_error(kv_err e, const char *text);

#endif
