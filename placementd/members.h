/* placementd's own members as this one knows them: their addresses, and what they announce of
 * themselves over the peer links (addresses, incarnation, cluster, whether they have a state).
 *
 * The configuration names them at the first start; from then on the replicated list does
 * (members_follow()), so that a restart with an old configuration finds the newer ones.
 * Announcements travel as messages of group 0, which Raft never uses; so does the notice to one
 * that was removed.
 *
 * Whose Raft messages are taken: of members of the group's configuration and of the list, unless
 * they announce another data directory than the list has; and of strangers that announce our
 * cluster (any, while ours is not known): a member that lags must hear a leader that was added
 * meanwhile. The cluster's id counts for strangers alone: it changes when the map of a lost cluster
 * is taken over.
 *
 * Pure (time comes in). Owner: struct server.  Thread: the loop.  Depends on: io (addresses). */
#ifndef PLACEMENTD_MEMBERS_H
#define PLACEMENTD_MEMBERS_H

#include "common/io/io.h"
#include "common/raft/group.h"
#include "placementd/cluster.h"

#define MEMBERS_ANNOUNCE_GROUP 0u
#define MEMBERS_STRANGERS 4u

struct member {
    uint32_t id;
    struct io_addr peer;
    uint64_t incarnation; /* 0: not heard yet */
    char client_addr[64]; /* "": not heard yet */
    uint64_t heard;       /* ns */
    uint64_t refused;     /* incarnation that was shut out and logged; 0: none */
    uint8_t cluster[16];  /* as announced; zero: none yet */
    bool blank;           /* as announced: it has no state */
};

struct members {
    uint32_t n;
    struct member member[CLUSTER_MEMBERS_MAX]; /* ascending id */
    uint32_t n_strangers;
    struct member stranger[MEMBERS_STRANGERS]; /* not known to us (yet); the newest */
};

/* `list`: items "ID=IP:PORT", a string list of config.h. ERR_CONFIG with `msg`. */
MUST_USE enum err members_parse(const char *list, struct members *out, char *msg, size_t n);
/* As the state and the group's configuration have them; `self` stays in any case. What was heard of
 * them is kept. True if any came, went or has another address. */
bool members_follow(struct members *m, uint32_t self, const struct cluster *c,
                    const struct group_conf *conf);
struct member *members_find(struct members *m, uint32_t id); /* NULL if there is none */
/* All of them as voters; replica id = node = member id. */
void members_conf(const struct members *m, struct group_conf *out);

struct member *members_find_any(struct members *m, uint32_t id); /* strangers too */
/* A stranger has knocked: room for what it will say. */
struct member *members_stranger(struct members *m, uint32_t id);

void members_announce(const struct member *self, const uint8_t cluster[16], bool blank,
                      struct buf *out);
/* To one that was removed, or that has come with another data directory than it had. */
void members_notice(const uint8_t cluster[16], bool wiped, struct buf *out);
/* What `from` says of us. */
struct members_verdict {
    bool out;   /* we are not wanted in ... */
    bool wiped; /* ... since our data directory is not the one that we had; else we were removed */
    uint8_t cluster[16];
};
/* Untrusted. Takes what `from` says of itself, and of us. ERR_BAD_REQUEST. */
MUST_USE enum err members_take(struct members *m, uint32_t from, struct slice in, uint64_t now,
                               struct members_verdict *verdict);
/* Whether Raft messages of it are taken. */
bool members_is_heard(const struct member *m, const struct group_conf *conf,
                      const struct cluster *c);

#endif
