/* How a plan is shown: what would be done, what it costs, what comes of it.
 * Thread: main.  Depends on: admin, output. */
#ifndef CTL_PLAN_H
#define CTL_PLAN_H

#include "client/ctl/admin.h"

/* `answer`: of admin.node or admin.rebalance. `head`: "Plan 7f3a at topology version 118", the
 * figures follow it. */
void plan_print(const struct ctl *ctl, const json_t *answer, const char *head);
/* The operations alone, as a table. */
void plan_print_ops(const struct ctl *ctl, const json_t *ops);
/* "12 moves, 21.4GiB, 2 at a time, cap 200MiB/s, about 1m52s" */
void plan_figures(const json_t *answer, char *out, size_t n);
/* The shape that scripts get: "ops" are called "moves", "version" "topology_version". */
json_t *plan_json(const json_t *answer);

#endif
