/* Message connections over io_sock: splitting of the byte stream, gathered output, back-pressure.
 *
 * Output is appended to conn_out() during a turn; conn_set_flush() starts ONE send per connection
 * at the turn's end. While a send is under way the next output gathers in a second buffer.
 * Limits (limits.h): a message that stays incomplete for LIMIT_CONN_PARTIAL_NS closes the
 * connection; more than LIMIT_CONN_OUT unsent bytes pause reading until half of it has gone.
 *
 * What all connections of a set hold, unsent or not yet a whole message, is bounded too. Beyond
 * LIMIT_CONNS_HELD the set is crowded: reading pauses at LIMIT_CONN_CROWDED unsent bytes, and a
 * connection that takes or sends its bytes slower than 4 MiB/s, after a grace of ten seconds, is
 * ended. Beyond twice that the grace is one second, and conn_full() lets only small answers pass.
 *
 * Owner: whoever created it; the set holds the list of those to flush.  Thread: one core.
 * Depends on: io. */
#ifndef NET_CONN_H
#define NET_CONN_H

#include "common/io/io.h"

struct conn;
struct conn_set;

struct conn_ops {
    /* Length of the first message in `data`: ERR_OK and *n; ERR_INCOMPLETE (*n: bytes needed in
     * all, if known, else 0); anything else: malformed, the connection is ended with it. */
    enum err (*split)(void *arg, struct slice data, size_t *n);
    /* One whole message, borrowed until return. */
    void (*on_message)(void *arg, struct slice message);
    /* Malformed input: last words may be put into conn_out(); on_end() follows. May be NULL. */
    void (*on_malformed)(void *arg, enum err why);
    /* The end, exactly once, also after conn_close(). The conn is freed after it returns. */
    void (*on_end)(void *arg, enum err why);
    void (*on_connected)(void *arg); /* only for conn_connect(); may be NULL */
};

struct conn_set *conn_set_create(struct io *io);
/* Closes all connections at once (on_end is called for each). */
void conn_set_destroy(struct conn_set *cs);
/* End of turn: one send per connection with output. */
void conn_set_flush(struct conn_set *cs);
unsigned conn_set_count(const struct conn_set *cs);
/* Bytes held by all connections; the bound is LIMIT_CONNS_HELD unless it is set (tests). */
size_t conn_set_held(const struct conn_set *cs);
void conn_set_bound(struct conn_set *cs, size_t bytes);

/* Takes the handle. */
MUST_USE enum err conn_adopt(struct conn_set *cs, int handle, const struct conn_ops *ops, void *arg,
                             struct conn **out);
struct conn *conn_connect(struct conn_set *cs, const struct io_addr *to, const struct conn_ops *ops,
                          void *arg);
/* Append a message here, then call nothing: the set is told by this very call. */
struct buf *conn_out(struct conn *c);
/* Unsent bytes, for admission. */
size_t conn_unsent(const struct conn *c);
/* An answer of `n` bytes had better be refused: too much is unsent, here or on all connections. */
bool conn_full(const struct conn *c, size_t n);
/* Counts what was appended to conn_out() before the turn's end: after a large message. */
void conn_count(struct conn *c);
/* Sends what is in conn_out(), then ends; bounded by one second. */
void conn_close(struct conn *c);
/* Ends at once. on_end() is called from the loop, later in this turn or in the next one. */
void conn_abort(struct conn *c);
/* Stops or resumes delivering messages (limit on unanswered requests). */
void conn_pause(struct conn *c);
void conn_resume(struct conn *c);
/* Hands the socket to another core: the conn is freed without on_end(); done gets the handle and
 * the bytes that came in but were not yet a message (`rest`, borrowed until return), both to be
 * passed on to conn_adopt() there, `rest` by conn_feed(). Nothing may be unsent (CHECKed). */
void conn_detach(struct conn *c, void (*done)(void *arg, int handle, struct slice rest), void *arg);
/* Treats bytes as received first. Right after conn_adopt(). */
void conn_feed(struct conn *c, struct slice data);
void *conn_arg(const struct conn *c); /* of its owner */
/* Gives it to another owner on this core, also inside on_message: the messages that follow go
 * there. */
void conn_set_ops(struct conn *c, const struct conn_ops *ops, void *arg);

#endif
