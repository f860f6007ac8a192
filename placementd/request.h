/* Life of a request that only the leader of placementd serves: read this first.
 *
 * request_begin -> not the leader: NOT_LEADER with hints -> group_read (the leader proves that it
 * still is one and has applied all that was committed, so an old leader never gives orders)
 * -> serve: answer from the state, or check what depends on liveness and propose a command
 * -> the command is applied -> answer.
 *
 * Owner: struct server (list of those waiting).  Thread: the loop.  Depends on: fsm, session. */
#ifndef PLACEMENTD_REQUEST_H
#define PLACEMENTD_REQUEST_H

#include "common/wire/rpc.h"
#include "placementd/cluster_command.h"
#include "placementd/session.h"

/* True if `m` is one of its methods; then it was answered or will be. */
bool request_begin(struct session *session, const struct rpc_message *m);
/* Answers NOT_LEADER with hints. */
void request_redirect(struct session *session, uint32_t msgid);
/* The session is going: its requests go on, but nobody is told. */
void request_forget_session(struct session *session);
/* A command was applied. */
void request_on_result(struct server *s, uint64_t index, uint64_t term,
                       const struct cluster_result *result);
/* Answers those that have waited too long. */
void request_expire(struct server *s);
/* At the end: frees all. The group is stopped. */
void request_drop_all(struct server *s);

#endif
