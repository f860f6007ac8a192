/* One connection on the client port: nodes, clients and kvctl alike.
 *
 * sys.hello, map.get, map.watch and cluster.status are answered at once, by any member; the rest
 * goes to request.h, which only the leader serves.
 *
 * Owner: struct server.  Thread: the loop.  Depends on: conn, rpc. */
#ifndef PLACEMENTD_SESSION_H
#define PLACEMENTD_SESSION_H

#include "common/base/list.h"
#include "common/net/conn.h"

#define SESSION_MAX 8192u

struct server;

struct session {
    struct list link;
    struct server *server;
    struct conn *conn;
    bool watching;
    bool paused;
    unsigned pending; /* requests not answered */
};

/* Takes the handle. */
void session_accept(struct server *s, int handle);
/* A request was answered. */
void session_answered(struct session *session);
/* End of turn: tells watchers what has changed. */
void session_notify(struct server *s);

#endif
