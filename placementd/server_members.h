/* A member's life with the other members: peer links, what they announce, and the leader's work of
 * bringing the group after the list of wanted members (membership.h).
 *
 * Owner: struct server.  Thread: the loop.  Depends on: server, membership. */
#ifndef PLACEMENTD_SERVER_MEMBERS_H
#define PLACEMENTD_SERVER_MEMBERS_H

#include "placementd/server.h"

void server_members_open(struct server *s); /* makes s->peers */
void server_members_tick(struct server *s);
/* End of a turn: the next change of the group, as soon as the last one is committed. */
void server_members_turn(struct server *s);
/* Takes over what the state and the group's configuration say. */
void server_members_follow(struct server *s);
/* The file that says that this member was removed. */
void server_members_marker(const struct server *s, char *out, size_t n);
/* The picture of now; borrowed until the next call. */
const struct membership *server_membership(struct server *s);

#endif
