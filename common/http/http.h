/* A small HTTP server for operators: health, metrics, status. Not in anybody's data path.
 *
 * libmicrohttpd with one thread of its own, so that it answers also when a loop is stuck. Its
 * handler must not touch what a loop owns: it asks by mail and waits with a bound (ask.h). GET and
 * HEAD only; a few dozen connections at most, idle ones are closed.
 *
 * Owner: main.  Thread: start and stop the main one; the handler runs on the server's, one request
 * at a time.  Depends on: libmicrohttpd, io (addresses only). */
#ifndef HTTP_HTTP_H
#define HTTP_HTTP_H

#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/io/io.h"

struct http;

struct http_reply {
    unsigned status;  /* 200 unless set */
    const char *type; /* static; text/plain unless set */
    struct buf body;
};
#define HTTP_JSON "application/json"
#define HTTP_METRICS "text/plain; version=0.0.4; charset=utf-8"
#define HTTP_HTML "text/html; charset=utf-8"

/* `verbose`: the query has that word. Unknown paths: status 404 and a body that says what there is.
 */
typedef void (*http_handler)(void *arg, const char *path, bool verbose, struct http_reply *reply);

/* ERR_ADDRESS_IN_USE, ERR_IO: `msg` names the address. port 0 takes a free one. */
MUST_USE enum err http_start(const struct io_addr *addr, http_handler handler, void *arg,
                             struct http **out, char *msg, size_t n);
void http_addr(const struct http *h, struct io_addr *out); /* with the real port */
/* Waits for a request under way. Takes NULL. */
void http_stop(struct http *h);

/* The text of 404, in one voice. */
void http_not_found(struct http_reply *reply, const char *paths);

#endif
