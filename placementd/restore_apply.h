/* Whole states that come into a placementd that has none: an import, a recovery. Pure, see
 * cluster_command.h.
 *
 * Owner: struct fsm.  Thread: the loop.  Depends on: cluster_command. */
#ifndef PLACEMENTD_RESTORE_APPLY_H
#define PLACEMENTD_RESTORE_APPLY_H

#include "placementd/cluster_command.h"

/* So far above those of the state that comes in what is given out begins anew: what was given out
 * after it was written down is not given out again. */
#define RESTORE_GAP (1u << 20)

/* LOST: marks nodes as lost, and says which replicas are to go on alone; what is under way in their
 * groups turns back. */
void restore_lost(struct cluster *c, const struct cluster_command *cmd,
                  const struct cluster_changes *changes, struct cluster_result *out);
/* ADOPT: only while there is nothing yet. From then on nothing is ordered and nothing is known to
 * be gone, until a map is imported. */
void restore_adopt(struct cluster *c, const struct cluster_command *cmd,
                   struct cluster_result *out);
/* REJOIN: under the id that it was given before. */
void restore_rejoin(struct cluster *c, const struct cluster_command *cmd,
                    const struct cluster_changes *changes, struct cluster_result *out);
/* IMPORT */
void restore_import(struct cluster *c, const struct cluster_command *cmd,
                    const struct cluster_changes *changes, struct cluster_result *out);
/* What hinders an import of `from`; false: nothing. */
bool restore_refuses(const struct cluster *from, struct cluster_result *out);

#endif
