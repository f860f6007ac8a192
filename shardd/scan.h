/* admin.scan: a page of a shard's pairs, for export (common/wire/msg_scan.h).
 *
 * The leader proves itself by a ReadIndex; then, on an offload thread, flushes what is in memory
 * (once: later pages name the position up to which it has) and reads what is stored. One page of a
 * replica at a time, and not while something else is at its engine: BUSY. The request belongs to
 * no session but by its id, so that either may end first.
 *
 * Owner: struct replica has the page under way.  Thread: its core.
 * Depends on: session, replica, engine, msg_scan. */
#ifndef SHARDD_SCAN_H
#define SHARDD_SCAN_H

#include "common/wire/rpc.h"

struct session;

struct scan_state {
    struct scan *under_way; /* NULL: none */
    uint64_t stored;        /* all versions up to this one are stored... */
    uint32_t life;          /* ...in this life of the database (replica.lives) */
};

/* Answers the request, now or later. */
void scan_handle(struct session *s, const struct rpc_message *m);

#endif
