/* placementd's pages for operators: /livez, /readyz, /metrics, /api/v1/status.
 *
 * They are served by the HTTP server's own thread, which asks the loop by mail and waits at most a
 * second: a loop that does not answer is what /livez reports.
 *
 * Owner: main.  Thread: the main one; pages on the HTTP server's.  Depends on: server. */
#ifndef PLACEMENTD_HTTP_H
#define PLACEMENTD_HTTP_H

#include "common/io/io.h"

struct server;
struct placement_http;

/* The server is open. Errors as http_start(). */
MUST_USE enum err placement_http_start(struct server *s, const struct io_addr *addr,
                                       struct placement_http **out, char *msg, size_t n);
/* Both take NULL. The loop is not asked any more when it returns. Not on the loop. */
void placement_http_stopping(struct placement_http *h);
void placement_http_stop(struct placement_http *h);

#endif
