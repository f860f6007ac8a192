/* Gathers the writes of a group and turn into ONE Raft entry and answers them when it is applied.
 *
 * A turn's operations are packed straight into the entry's bytes; at the turn's end each dirty
 * replica proposes once. Batches wait in order of index. When an entry is applied: the same index
 * and term is ours, its results are the answers; the same index with another term means that
 * ours was surely not applied (NOT_LEADER, safe to retry). What is neither within its deadline
 * is answered "outcome unknown".
 *
 * The ops of a kv.batch that are this shard's go into one entry, next to each other; its request is
 * answered once, with a result for each op, when the entry is applied.
 *
 * Owner: struct replica.  Thread: one core.  Depends on: command, request, raft/group. */
#ifndef SHARDD_WRITE_PATH_H
#define SHARDD_WRITE_PATH_H

#include "common/base/list.h"
#include "common/base/slice.h"
#include "shardd/apply.h"
#include "shardd/request.h"

struct replica;

/* A request and its ops in the entry. */
struct write_wait {
    struct request *request; /* NULL once answered (deadline) */
    uint32_t first_op, n_ops;
};

struct write_batch {
    struct list link;
    uint64_t index, term;
    uint32_t n, cap, n_ops;
    struct write_wait *waits; /* in the order of their ops */
    uint32_t at;              /* when applied: the one that the next result may be for */
};

struct write_path {
    struct buf entry;                /* the turn's operations, packed */
    uint8_t sid[COMMAND_SESSION_ID]; /* of the last of them that has a session */
    bool has_sid;
    struct write_batch *open; /* their requests; NULL: none this turn */
    struct list pending;      /* proposed, by index and term */
};

void write_path_init(struct write_path *w);
/* Answers all that waits: UNKNOWN_OUTCOME for what was proposed, `why` for what was not. It may be
 * used again. */
void write_path_close(struct write_path *w, enum err why);
/* Takes the request; the core's turn proposes it. `m` was checked (router.c). */
void write_path_add(struct replica *r, struct request *request, const struct msg_kv_request *m);
/* End of turn. */
void write_path_flush(struct replica *r);
/* Puts a proposed batch in its place. One of an earlier term may wait at the same or a later index:
 * leadership was lost and won again, and what becomes of the old entry is not settled. */
void write_path_queue(struct write_path *w, struct write_batch *b);
/* The batch proposed as (index, term), off the queue; NULL if that entry is not ours. Batches at or
 * below `index` that are not it are answered. */
struct write_batch *write_path_take(struct write_path *w, uint64_t index, uint64_t term);
/* A snapshot replaced the state up to `index`: outcomes up to there are unknown. */
void write_path_skipped(struct write_path *w, uint64_t index);
struct write_batch *write_batch_create(void);
void write_batch_add(struct write_batch *b, struct request *request, uint32_t n_ops);
/* Op `i` of the entry was applied. */
void write_batch_result(struct replica *r, struct write_batch *b, uint32_t i,
                        const struct apply_outcome *o);
void write_batch_free(struct write_batch *b); /* answers what is left as UNKNOWN_OUTCOME */

#endif
