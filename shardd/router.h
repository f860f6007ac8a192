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

/* Two replicas may claim a slot while one of them has yet to apply the entry that gave it away: the
 * newer epoch has it, and the other one again if that goes. */
void router_add(struct router *r, struct replica *replica);
void router_remove(struct router *r, struct replica *replica);
/* The replica's range or epoch has changed; [first, last]: what it had before. */
void router_moved(struct router *r, struct replica *replica, uint16_t first, uint16_t last);
/* The description for a redirect: of the shard that the slot belongs to as far as `replica`'s core
 * knows; of `replica` if it knows no other. */
void router_owner(const struct replica *replica, uint16_t slot, struct shard_desc *out);
/* Answers a request whose slot `replica` does not own (any more): surely not applied. */
void router_refuse(const struct replica *replica, struct request *request);
/* Checks sizes and ownership, creates the request and hands it on, or answers an error. `session`
 * or (remote_core, remote_session) says where the answer goes; `raw` is the whole message, for
 * forwarding to another core (never twice). */
void router_dispatch(struct core *core, struct session *session, uint32_t remote_core,
                     uint64_t remote_session, uint32_t msgid, const struct msg_kv_request *m,
                     struct slice raw);

#endif
