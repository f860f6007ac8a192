/* What operator.c (making), operator_check.c (proofs) and operator_orders.c (orders) share.
 * Thread: any, pure.  Depends on: operator. */
#ifndef PLACEMENTD_OPERATOR_INTERNAL_H
#define PLACEMENTD_OPERATOR_INTERNAL_H

#include "placementd/operator.h"

bool operator_makes_replica(uint8_t step);
bool operator_is_voter(const struct cluster_group *g, uint64_t replica);
/* The replica that the operator is about to remove; 0: none. */
uint64_t operator_leaving(const struct cluster_operator *o);
__attribute__((format(printf, 3, 4))) void operator_say(char *why, size_t n, const char *fmt, ...);

#endif
