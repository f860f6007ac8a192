/* Finds who serves a slot: a replica of this core, another core of this node, or nobody here.
 *
 * The replica's own state decides about ownership; the map is only good for the redirect.
 * Owner: struct core.  Thread: one core.  Depends on: replica, request, meta. */
#ifndef SHARDD_ROUTER_H
#define SHARDD_ROUTER_H

#include "shardd/request.h"

struct replica;

struct router {
    struct replica *slot[LIMIT_SLOTS]; /* this core's replicas by slot */
};

void router_add(struct router *r, struct replica *replica);
void router_remove(struct router *r, struct replica *replica);
/* Checks sizes and ownership, creates the request and hands it on, or answers an error. `session`
 * or (remote_core, remote_session) says where the answer goes; `raw` is the whole message, for
 * forwarding to another core (never twice). */
void router_dispatch(struct core *core, struct session *session, uint32_t remote_core,
                     uint64_t remote_session, uint32_t msgid, const struct msg_kv_request *m,
                     struct slice raw);

#endif
