/* kv://host:port,host:port -> "ip:port" texts.
 * Thread: any (resolves names: may block).  Depends on: kvclient.h, client_core. */
#ifndef CLIENT_URL_H
#define CLIENT_URL_H

#include "client/client_core.h"
#include "client/kvclient.h"

struct url {
    unsigned n;
    char addr[CLIENT_SEEDS_MAX][64];
};

/* KV_BAD_REQUEST: malformed; KV_UNREACHABLE: not one name could be resolved. `msg` (may be NULL)
 * says what is wrong. */
kv_err url_resolve(const char *text, struct url *out, char *msg, size_t n);

#endif
