/* placementd's own members: their peer addresses from the configuration, and what they announce of
 * themselves over the peer links (client address, incarnation).
 *
 * The configuration names peer addresses only; a member learns the others' client addresses, which
 * redirects need, from announcements. They travel as messages of group 0, which Raft never uses.
 *
 * Pure (time comes in). Owner: struct server.  Thread: the loop.  Depends on: io (addresses). */
#ifndef PLACEMENTD_MEMBERS_H
#define PLACEMENTD_MEMBERS_H

#include "common/io/io.h"
#include "common/raft/group.h"
#include "placementd/cluster.h"

#define MEMBERS_ANNOUNCE_GROUP 0u

struct member {
    uint32_t id;
    struct io_addr peer;
    uint64_t incarnation; /* 0: not heard yet */
    char client_addr[64]; /* "": not heard yet */
    uint64_t heard;       /* ns */
    uint64_t refused;     /* incarnation that was shut out and logged; 0: none */
};

struct members {
    uint32_t n;
    struct member member[CLUSTER_MEMBERS_MAX]; /* ascending id */
};

/* `list`: items "ID=IP:PORT", a string list of config.h. ERR_CONFIG with `msg`. */
MUST_USE enum err members_parse(const char *list, struct members *out, char *msg, size_t n);
struct member *members_find(struct members *m, uint32_t id); /* NULL if there is none */
/* All of them as voters; replica id = node = member id. */
void members_conf(const struct members *m, struct group_conf *out);

void members_announce(const struct member *self, struct buf *out);
/* Untrusted. Takes what `from` says of itself; ERR_BAD_REQUEST. */
MUST_USE enum err members_take(struct members *m, uint32_t from, struct slice in, uint64_t now);

#endif
