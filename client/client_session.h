/* The session of a client: numbers of its writes, and what it has seen of each slot.
 *
 * Writes. Each gets the next number when it is first sent. Those not yet answered to the caller are
 * kept in a list by number, so that the lowest ("ack") is the first: the servers forget results
 * below it. A write that is surely not applied gives its number back and takes a new one when it is
 * sent again: an old number could be below what a server still knows.
 *
 * Reads. The highest version seen of each slot, by reads and writes: a read of level "session" asks
 * for a replica that has applied it. 128 KiB, made when the first version is seen.
 *
 * Owner: client_core.  Thread: none of its own.  Depends on: base. */
#ifndef CLIENT_CLIENT_SESSION_H
#define CLIENT_CLIENT_SESSION_H

#include "client/client_core.h"
#include "common/base/rng.h"

struct client_session {
    uint8_t id[MSG_KV_SESSION_ID];
    bool off;
    uint64_t next_seq;
    struct list unanswered; /* struct client_write, ascending */
    uint64_t *seen;         /* by slot; NULL: nothing yet */
    uint8_t cluster[16];    /* of the tokens that were imported; zeros: none were */
};

/* `id` of 16 bytes; NULL: random ones. */
void client_session_init(struct client_session *s, const uint8_t *id, struct rng *rng);
void client_session_close(struct client_session *s);
void client_write_init(struct client_write *w);
/* Gives the write the next number. */
void client_session_number(struct client_session *s, struct client_write *w);
/* It is answered, or was never applied: its number is not used any more. */
void client_write_forget(struct client_write *w);
/* Lowest number not answered. */
uint64_t client_session_ack(const struct client_session *s);

void client_session_saw(struct client_session *s, uint16_t slot, uint64_t version);
static inline uint64_t client_session_seen(const struct client_session *s, uint16_t slot)
{
    return s->seen ? s->seen[slot] : 0;
}
/* The cluster is known now: what was imported of another one is dropped. False: that happened. */
bool client_session_check(struct client_session *s, const uint8_t cluster[16]);

#endif
