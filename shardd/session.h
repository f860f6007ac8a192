/* One client connection: MessagePack-RPC in, answers out.
 *
 * Handles sys.hello (with the hand-over of the socket to the core that the client asks for),
 * map.get and map.watch itself; kv.* become requests. A connection with too many unanswered
 * requests is not read from until half of them are answered.
 *
 * Owner: struct core (its list).  Thread: one core.  Depends on: conn, rpc, request, router. */
#ifndef SHARDD_SESSION_H
#define SHARDD_SESSION_H

#include "common/net/conn.h"
#include "shardd/request.h"

struct session {
    struct list link; /* core's list */
    struct core *core;
    struct conn *conn; /* NULL once ended */
    uint64_t id;       /* unique on this core, for answers by mail */
    struct list requests;
    unsigned n_requests;
    bool paused, watching, greeted;
    char client[64];
};

/* Takes the handle of an accepted socket. `rest`: bytes that came before the hand-over, or empty.
 * `hello_msgid`, if `greeted`: the hello that asked for the hand-over and is answered here. */
void session_accept(struct core *core, int handle, struct slice rest, bool greeted,
                    uint32_t hello_msgid, const char *client);
/* One request of this session was answered. */
void session_answered(struct session *s);
/* Tells watching sessions of a new map. */
void session_map_changed(struct core *core);

#endif
