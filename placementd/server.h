/* One placementd member: composition of loop, listeners, peers, group, state and sessions.
 *
 * Order of a turn's end (server.c): fsm_turn, group_set_turn, watchers, peer_flush, conn_set_flush.
 * Stopping: leadership is handed over first (at most one second), then the loop ends.
 *
 * Owner: main.  Thread: the main one. */
#ifndef PLACEMENTD_SERVER_H
#define PLACEMENTD_SERVER_H

#include "common/io/data_dir.h"
#include "common/net/peer.h"
#include "placementd/admin.h"
#include "placementd/driver.h"
#include "placementd/fsm.h"
#include "placementd/liveness.h"
#include "placementd/map_view.h"
#include "placementd/membership.h"
#include "placementd/recovery.h"
#include "placementd/settings.h"

struct server {
    const struct settings *settings;
    struct members members; /* what the configuration, the state and the members say */
    struct member *self;
    struct data_dir *dir;
    struct io *io;
    struct conn_set *conns;
    struct peer_set *peers;
    struct group_set *groups;
    struct io_listener *client_listener, *peer_listener;
    struct fsm fsm;
    bool fsm_open;
    struct liveness live;
    struct driver driver;
    struct admin admin;
    struct recovery recovery; /* while there is no map */
    struct msg_step *steps;   /* scratch: one reply's, HEARTBEAT_STEPS_MAX; owned */
    struct map_view view;
    struct membership membership; /* scratch of server_membership() */
    struct list sessions;         /* struct session.link */
    unsigned n_sessions, sessions_max;
    struct list requests; /* struct request.link: waiting for a read or a command */
    unsigned n_requests;
    struct io_timer tick;
    uint64_t ticks;
    uint64_t heartbeats; /* of nodes, answered */
    uint64_t found_at;   /* ns: when the cluster's id was last proposed */
    bool stopping;
    bool leaving;        /* the loop ends once the log is at rest */
    uint64_t stop_by;    /* ns */
    bool failed;         /* the process ends with an error */
    bool removed;        /* from the group: it ends, and is not to be started again */
    uint64_t conf_index; /* of the group's configuration when the members were last looked at */
    uint64_t noticed;    /* ns: when one that was removed was last told */
    uint64_t leave_index, leave_term; /* of the last MEMBER_LEAVE that was proposed here */
};

/* On failure `msg` says what is wrong and what to do; everything is closed again. */
MUST_USE enum err server_open(struct server *s, const struct settings *settings,
                              struct data_dir *dir, char *msg, size_t n);
/* Runs until server_stop() or a fatal error (ERR_INTERNAL), or until this member was removed
 * (ERR_REFUSED). */
MUST_USE enum err server_run(struct server *s);
void server_stop(struct server *s); /* on the loop */
/* Puts [placement] of the settings into force; on the loop, or before it runs. */
void server_apply_settings(struct server *s);
void server_close(struct server *s);

/* Refused: it is found again, and proposed again. */
void server_propose(struct server *s, const struct cluster_command *cmd);
/* The state and what was heard, now: for driver_add() and the like, on the leader. */
struct driver_moment server_moment(const struct server *s);
struct admin_world server_admin_world(struct server *s);
/* The leader as far as this member knows: 0 if none. Its client address, "" if not known. */
uint32_t server_leader(const struct server *s);
const char *server_client_addr(struct server *s, uint32_t member);

#endif
