/* cluster.status off the wire (its shape: placementd/status.h). Untrusted, skimmed.
 * Thread: any, pure.  Depends on: mp. */
#ifndef CLIENT_KVADMIN_DECODE_H
#define CLIENT_KVADMIN_DECODE_H

#include "client/kvadmin.h"

/* ERR_BAD_REQUEST: malformed. On success *out owns memory: kvadmin_status_close(). */
MUST_USE enum err kvadmin_status_decode(struct slice raw, struct kvadmin_status *out);

#endif
