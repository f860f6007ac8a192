/* All pairs of a cluster, or of a range of slots, a page at a time (admin.scan). For kvctl; not
 * part of the library's interface.
 *
 * Goes through the slots in their order; asks the leader of the shard that has the next one, as far
 * as the map and the redirects say. Elections, splits, merges and moves are waited for and followed
 * within the deadline of a page. Each key is shown once, as of some moment since kvscan_open(); one
 * that was not deleted or made meanwhile is not missed.
 * Thread: the caller's; blocking.  Depends on: kvadmin, wire. */
#ifndef CLIENT_KVSCAN_H
#define CLIENT_KVSCAN_H

#include "client/kvclient.h"
#include "common/wire/msg_scan.h"

struct kvscan;

struct kvscan_page {
    uint32_t n;
    struct mp_reader items; /* n times msg_scan_next_item(); borrowed until the next call */
    bool more;              /* there are pages after it */
    unsigned slot;          /* the next one; 16384 after the last page */
};

/* `timeout_ms` of each page. *out on KV_OK; else `msg` says more. */
kv_err kvscan_open(const char *url, unsigned timeout_ms, struct kvscan **out, char *msg, size_t n);
void kvscan_close(struct kvscan *s); /* NULL is taken */
/* Begins behind that key. */
void kvscan_seek(struct kvscan *s, struct slice key);
/* Bytes of keys and values of a page; 0: the server's. */
void kvscan_page_size(struct kvscan *s, uint64_t bytes);
kv_err kvscan_next(struct kvscan *s, struct kvscan_page *out, char *msg, size_t n);

#endif
