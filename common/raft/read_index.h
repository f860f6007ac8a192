/* Linearizable reads by ReadIndex (Raft dissertation 6.4), confirmed by clock stamps.
 *
 * A read notes the leader's clock (`stamp`) and the index it must see. It is done once a majority
 * of the voters, the leader included, has answered in the leader's term to a message stamped at or
 * after `stamp`, and that index is applied. A voter that answers so had not voted for a later term
 * when the read came, so no later leader can have acknowledged anything the read would miss.
 *
 * One turn's reads share a stamp, so one round of messages confirms all of them. The stamp is the
 * turn's clock: messages of a turn leave at its end, after its reads were noted.
 *
 * Owner: struct group.  Thread: one core.  Depends on: base. */
#ifndef RAFT_READ_INDEX_H
#define RAFT_READ_INDEX_H

#include "common/raft/group.h"

struct read_index {
    struct list pending; /* stamps and indexes never fall from front to back */
    struct list sure;    /* need no stamp (a lease): only their index */
    struct list failed;  /* to be told at the end of the turn */
    enum err why;
};

void read_index_init(struct read_index *ri);
void read_index_add(struct read_index *ri, struct group_read *r, uint64_t stamp, uint64_t index);
/* One that needs no majority's stamp any more. */
void read_index_add_sure(struct read_index *ri, struct group_read *r, uint64_t index);
/* All pending reads (and `one`, may be NULL) will end with `why`. */
void read_index_fail(struct read_index *ri, enum err why);
void read_index_refuse(struct read_index *ri, struct group_read *one, enum err why);
/* The newest stamp a majority must answer to; 0 if no read waits for one beyond `confirmed`. */
uint64_t read_index_wanted(const struct read_index *ri, uint64_t confirmed);
bool read_index_empty(const struct read_index *ri);
/* Calls done() of what is confirmed and applied, and of the failed ones. */
void read_index_run(struct read_index *ri, uint64_t confirmed, uint64_t applied);
/* The newest stamp that a majority of `n` voters has echoed; `stamps` (others' and one's own) is
 * reordered. */
uint64_t read_index_majority(uint64_t *stamps, unsigned n);

#endif
