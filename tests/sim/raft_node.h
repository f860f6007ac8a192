/* A process of the raft world: loop, WAL, groups, peer links, and as the owner of each group a
 * small state machine of registers, saved to one file per group.
 *
 * Owner: raft_world.c.  Depends on: raft, net, sim. */
#ifndef SIM_RAFT_NODE_H
#define SIM_RAFT_NODE_H

#include "common/net/peer.h"
#include "common/raft/group_set.h"
#include "tests/sim/scenario.h"
#include "tests/sim/sim.h"

#define RAFT_NODE_GROUPS 16u
#define RAFT_NODE_KEYS 16u
#define RAFT_NODE_PORT 7001u

/* What the state machine applies: fixed size, little-endian on the wire of the log. */
struct machine_command {
    uint64_t op;  /* the client's operation, unique */
    uint8_t kind; /* enum lin_kind */
    uint8_t key;
    uint32_t value, expected;
};

struct machine {
    uint64_t hash; /* of all that was applied */
    uint32_t value[RAFT_NODE_KEYS];
};

/* What the world hears, from inside the process. */
struct raft_node_ops {
    /* The operation's entry was applied here, where it was proposed. */
    void (*done)(uint64_t op, enum err result, uint32_t value);
};

struct raft_pending {
    struct list link;
    uint64_t index, term, op;
};

struct raft_save; /* a state on its way to the disk */

struct raft_replica {
    struct raft_node *node;
    struct group *group; /* NULL: not started */
    uint64_t id, replica;
    struct machine machine;
    struct group_position applied;
    struct list pending; /* struct raft_pending, by index */
    bool saving, installing, blocked;
    struct raft_save *install; /* waits for the save under way */
};

/* All of this dies with the process. */
struct raft_node {
    unsigned number;
    const struct scenario *scenario;
    const struct raft_node_ops *ops;
    struct io *io;
    struct conn_set *conns;
    struct peer_set *peers;
    struct group_set *set;
    struct io_listener *listener;
    struct io_timer tick;
    struct raft_replica replica[RAFT_NODE_GROUPS + 1]; /* by group id */
};

/* Inside the process. Replica ids are the node's numbers. `members`: the first configuration. */
struct raft_node *raft_node_start(unsigned number, const struct scenario *s,
                                  const struct raft_node_ops *ops, unsigned members);
/* Proposes; ERR_OK: done() will be called, or the operation's outcome stays unknown. */
enum err raft_node_propose(struct raft_node *n, unsigned group, const struct machine_command *c);
/* done() is called with the register's value, or an error. `follow`: by the leader's word. */
void raft_node_read(struct raft_node *n, unsigned group, unsigned key, uint64_t op, bool follow);

#endif
