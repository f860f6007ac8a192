/* What the commands of the log do to operators: ids are drawn here, steps counted, and an operator
 * that is given up is turned around, so that it leaves nothing behind.
 *
 * Turning back: the steps are replaced by those that undo what the step under way may have begun
 * (the new replica leaves the group and is destroyed; a merge is aborted, then its source serves
 * again), and the operator ends, failed or cancelled, once those are proven. What cannot be undone
 * (a split that was handed out, a replica that is already leaving) goes on to its end.
 *
 * Pure. Part of cluster_apply().  Depends on: cluster, cluster_command. */
#ifndef PLACEMENTD_OPERATOR_APPLY_H
#define PLACEMENTD_OPERATOR_APPLY_H

#include "placementd/cluster_command.h"

void operator_apply_add(struct cluster *c, const struct cluster_command *cmd,
                        struct cluster_result *out);
void operator_apply_step(struct cluster *c, const struct cluster_command *cmd,
                         struct cluster_result *out);
void operator_apply_start(struct cluster *c, const struct cluster_command *cmd,
                          struct cluster_result *out);
void operator_apply_end(struct cluster *c, const struct cluster_command *cmd,
                        struct cluster_result *out);

#endif
