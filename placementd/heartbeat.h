/* From a node's report to orders for it and to commands for the log.
 *
 * Orders rest on the replicated state alone, and the leader asks the log first (group_read), so an
 * old leader never gives any:
 * - CREATE_REPLICA: the state puts a replica on the node, it was never reported, and the report
 *   does not hold the group.
 * - DESTROY_REPLICA: the report holds a replica that the group (known, and not older than the
 *   replica's own epoch) does not list. A group that is not known is left alone: it may be a child
 *   whose split has not been told yet.
 * Commands: replicas seen for the first time; a group's newer epoch, told by its leader.
 *
 * Pure. Owner: none.  Thread: any.  Depends on: cluster_command, wire/msg_placement. */
#ifndef PLACEMENTD_HEARTBEAT_H
#define PLACEMENTD_HEARTBEAT_H

#include "common/wire/msg_placement.h"
#include "placementd/cluster_command.h"

/* Orders in one reply; the next report asks for the rest. */
#define HEARTBEAT_STEPS_MAX 256u

/* Fills steps[0 .. HEARTBEAT_STEPS_MAX) and returns how many. */
uint32_t heartbeat_steps(const struct cluster *c, const struct msg_heartbeat *h,
                         struct msg_step *steps);
/* Calls propose() for each command that the report gives rise to; the command is borrowed. */
void heartbeat_commands(const struct cluster *c, const struct msg_heartbeat *h,
                        void (*propose)(void *arg, const struct cluster_command *cmd), void *arg);

#endif
