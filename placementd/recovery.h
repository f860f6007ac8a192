/* What the leader hears while there is no map: nodes of another cluster that knock, and, once their
 * cluster's id was adopted (cluster.recovering), what each node says of its replicas.
 *
 * Local to the leader and lost with it: after one round of reports it is there again.
 *
 * Pure (time comes in). Owner: struct server.  Thread: the loop.  Depends on: wire. */
#ifndef PLACEMENTD_RECOVERY_H
#define PLACEMENTD_RECOVERY_H

#include "common/base/map.h"
#include "common/wire/msg_heartbeat.h"
#include "common/wire/msg_placement.h"

#define RECOVERY_KNOCKS_MAX 64u

struct recovery_knock {
    char name[LIMIT_NAME + 1];
    char client_addr[64];
    uint8_t cluster[16];
    uint32_t node; /* 0: it does not say */
    uint64_t heard;
};

struct recovery_report {
    uint32_t node;
    uint64_t heard, have;
    uint32_t n_groups;
    struct msg_group_status *groups; /* owned */
};

struct recovery {
    uint32_t n_knocks;
    struct recovery_knock knock[RECOVERY_KNOCKS_MAX]; /* the newest of each name */
    struct map reports; /* node -> struct recovery_report; owned. Zeroed it is empty */
};

void recovery_reset(struct recovery *r); /* also closes it */
/* A node whose data directory is of another cluster than ours. */
void recovery_knocks(struct recovery *r, const struct msg_register *m, uint64_t now);
/* A checked heartbeat. */
void recovery_heard(struct recovery *r, const struct msg_heartbeat *h, uint64_t now);
/* NULL: not heard. */
const struct recovery_report *recovery_of(const struct recovery *r, uint32_t node);

#endif
