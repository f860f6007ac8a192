/* Reads of every level: gathered per replica and turn, confirmed together, then read from the
 * engine's cached tier on the loop; what needs I/O goes to the offload threads.
 *
 *   linearizable   the leader; one ReadIndex, or its lease, for all of a turn
 *   session        any replica: at once if it has applied the token's position, else once it has
 *                  applied what the leader's word says (group_follower_read)
 *   bounded        any replica: at once if what it has applied is known to be new enough, else as
 *                  above
 *   any            any replica, at once
 * A replica that cannot say so in time sends the reader to the leader.
 *
 * A value past its expiry is hidden by the log's time alone, so that all replicas see the same. Is
 * it past by the leader's clock only, the leader first commits its clock, once for all such reads
 * of a turn; another replica sends the reader to the leader.
 *
 * Owner: struct replica.  Thread: one core.  Depends on: request, raft/group, engine. */
#ifndef SHARDD_READ_PATH_H
#define SHARDD_READ_PATH_H

#include "common/base/list.h"
#include "shardd/engine_key.h"
#include "shardd/request.h"

struct replica;
struct read_batch;

struct read_path {
    struct list gathered;    /* linearizable ones of this turn */
    struct list weak;        /* the others */
    struct list clock;       /* confirmed; they wait for the log's time */
    uint64_t clock_index;    /* of the entry that brings it; 0: none is under way */
    struct read_batch *free; /* a few spare ones */
    struct list active;      /* batches that wait for their confirmation */
    unsigned offloaded;      /* requests on the offload threads now */
};

void read_path_init(struct read_path *p);
/* Takes the request. */
void read_path_add(struct replica *r, struct request *request);
/* End of turn: one confirmation for what was gathered. `held`: leadership is being handed over,
 * linearizable reads wait. */
void read_path_flush(struct replica *r, bool held);
/* Entries were applied and are in the engine. */
void read_path_applied(struct replica *r);
/* The role of the replica's group has changed. */
void read_path_role_changed(struct replica *r);
/* Answers all that waits with `why`; requests on the offload threads go on. */
void read_path_fail(struct read_path *p, enum err why);
/* The same, for good. Nothing may be on the offload threads. */
void read_path_close(struct read_path *p, enum err why);

/* ---- for read_many.c ---- */

/* What a stored value is to a reader now. */
enum read_look {
    READ_VALUE,
    READ_HIDDEN, /* expired: as if it were not there */
    READ_CLOCK,  /* about to: read_path_wait_clock() */
    READ_LEADER, /* the leader is to say: read_path_redirect() */
    READ_DAMAGED,
};
/* *out: value, version and what is left to live, of a READ_VALUE; borrowed from `raw`. */
enum read_look read_path_look(const struct replica *r, const struct request *request,
                              struct slice raw, struct msg_kv_result *out);
/* Serves it again once the log's time has come up to the clock. */
void read_path_wait_clock(struct replica *r, struct request *request);
void read_path_redirect(const struct replica *r, struct request *request);
/* Reads the engine and answers; the request is confirmed. */
void read_path_serve(struct replica *r, struct request *request);
/* "at" of an answer with a value of this version; 0: it is not asked for. Not the position of now:
 * while a disk was read, keys may have been written that were found absent, or older. */
uint64_t read_path_at(const struct request *request, uint64_t version);

#endif
