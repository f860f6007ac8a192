/* From a node's report to orders for it and to commands for the log.
 *
 * Orders rest on the replicated state alone, and the leader asks the log first (group_read), so an
 * old leader never gives any. At most one a group:
 * - those of the operator under way (operator.h).
 * - DESTROY_REPLICA: the report holds a replica that its group does not list (at an epoch not older
 *   than the replica's own), and that no operator is about to list; or a replica of a group that is
 *   gone. A group that is not known but may still come (a split's child, one made after the export
 *   of an imported state) is left alone, and so is a broken replica that does not know its id.
 * - CREATE_REPLICA: the state puts a replica on the node, it was never reported, and the report
 *   does not hold the group. Only a group as it was laid out starts from its list; any other
 *   replica joins, and only after the group was heard for HEARTBEAT_JOIN_NS: the nodes make a
 *   split's child by themselves.
 * Commands: replicas seen for the first time; a group's newer epoch, told by its leader.
 *
 * Pure. Owner: none.  Thread: any.  Depends on: cluster_command, liveness, operator,
 * wire/msg_placement. */
#ifndef PLACEMENTD_HEARTBEAT_H
#define PLACEMENTD_HEARTBEAT_H

#include "common/wire/msg_heartbeat.h"
#include "placementd/cluster_command.h"
#include "placementd/liveness.h"

/* Orders in one reply; the next report asks for the rest. */
#define HEARTBEAT_STEPS_MAX 256u
#define HEARTBEAT_JOIN_NS (10 * NS_PER_S)

/* Fills steps[0 .. HEARTBEAT_STEPS_MAX) and returns how many. */
uint32_t heartbeat_steps(const struct cluster *c, const struct liveness *l,
                         const struct msg_heartbeat *h, uint64_t now, struct msg_step *steps);
/* Calls propose() for each command that the report gives rise to; the command is borrowed. */
void heartbeat_commands(const struct cluster *c, const struct msg_heartbeat *h,
                        void (*propose)(void *arg, const struct cluster_command *cmd), void *arg);

#endif
