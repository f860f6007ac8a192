/* shardd's pages for operators: /livez, /readyz, /metrics, /api/v1/status.
 *
 * They are served by the HTTP server's own thread. While cores run each page asks every core by
 * mail and waits at most a second: a core that does not answer is what /livez reports. Before
 * (replaying) and after (stopping) that nobody is asked.
 *
 * Owner: struct server.  Thread: the main one; pages on the HTTP server's. */
#ifndef SHARDD_HTTP_H
#define SHARDD_HTTP_H

#include "common/io/io.h"
#include "shardd/core.h"

struct front;
struct node_http;

/* At the start, before cores are created. Errors as http_start(). `node` is complete but for its
 * cores. */
MUST_USE enum err node_http_start(const struct node *node, const struct io_addr *addr,
                                  struct node_http **out, char *msg, size_t n);
/* All below take NULL: no HTTP. */
/* The loops run from now on. */
void node_http_running(struct node_http *h, const struct front *front);
/* No loop is asked any more when it returns. */
void node_http_stopping(struct node_http *h);
void node_http_stop(struct node_http *h);

#endif
