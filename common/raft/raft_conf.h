/* Configurations between our form (group.h) and libraft's.
 *
 * A member's libraft address is "NODE.REPLICA" in decimal, so messages and configuration entries
 * tell the node without a table. libraft's decoder trusts its input: bytes from disk or network go
 * through raft_conf_parse() first.
 *
 * Owner: nobody, pure.  Thread: any.  Depends on: libraft. */
#ifndef RAFT_RAFT_CONF_H
#define RAFT_RAFT_CONF_H

#include "common/raft/group.h"

#define LOG_KIND_COMMAND 1 /* RAFT_COMMAND, RAFT_BARRIER, RAFT_CHANGE */
#define LOG_KIND_BARRIER 2
#define LOG_KIND_CHANGE 3
#define RAFT_ADDRESS_MAX 40

struct raft_configuration;

/* A configuration entry's payload. False if it is malformed. */
bool raft_conf_parse(struct slice payload, struct group_conf *out);
/* False if a replica or a role is invalid, or one appears twice. */
bool raft_conf_valid(const struct group_conf *c);
void raft_conf_to(const struct group_conf *c, struct raft_configuration *out);
void raft_conf_from(const struct raft_configuration *c, struct group_conf *out);
void raft_conf_encode(const struct group_conf *c, struct buf *out);
void raft_address_format(uint32_t node, uint64_t replica, char out[RAFT_ADDRESS_MAX]);
/* 0 if it is not of ours. */
uint32_t raft_address_node(const char *address);
unsigned raft_conf_voters(const struct group_conf *c);
/* Whether a leader may go from one to the other in one step (see group_change). */
MUST_USE enum err raft_conf_step(const struct group_conf *from, const struct group_conf *to,
                                 uint64_t leader);

#endif
