/* Blocking sockets with a deadline, for kvadmin and kvscan.
 * Thread: the caller's.  Depends on: wire. */
#ifndef CLIENT_KVADMIN_SOCKET_H
#define CLIENT_KVADMIN_SOCKET_H

#include <stdbool.h>

#include "common/base/err.h"
#include "common/base/slice.h"

/* Monotonic; deadlines are points of this clock. */
uint64_t kvadmin_now_ms(void);
/* "ip:port", "[ip]:port". A connected, non-blocking socket, or -1. */
int kvadmin_dial(const char *addr, uint64_t deadline);
bool kvadmin_send(int fd, struct slice data, uint64_t deadline);
/* One whole message into `in`: ERR_OK and its length. ERR_CLOSED, ERR_UNREACHABLE, ERR_TIMEOUT;
 * ERR_BAD_REQUEST, ERR_TOO_LARGE: it is none. */
MUST_USE enum err kvadmin_receive(int fd, struct buf *in, size_t *n, uint64_t deadline);

#endif
