/* What commands do to the list of placementd's own members: pure, see cluster_command.h.
 *
 * The list says who is wanted, where they listen and which data directory each has; who votes is
 * the Raft group's configuration, which the leader brings after the list (membership.h). An id is
 * used once: next_member is above all that ever were.
 *
 * Owner: struct fsm.  Thread: the loop.  Depends on: cluster_command. */
#ifndef PLACEMENTD_MEMBER_APPLY_H
#define PLACEMENTD_MEMBER_APPLY_H

#include "placementd/cluster_command.h"

/* MEMBER, MEMBER_ADD, MEMBER_LEAVE, MEMBER_REMOVE. */
void member_apply(struct cluster *c, const struct cluster_command *cmd, struct cluster_result *out);
/* One that was removed, while it is remembered; else NULL. */
const struct cluster_member *member_find_removed(const struct cluster *c, uint32_t id);

#endif
