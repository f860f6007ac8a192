/* MessagePack to JSON text: for status pages whose source is a message of ours.
 *
 * Rules name keys of maps: ids become strings, as everywhere in our JSON (a 64-bit number does not
 * survive JavaScript), and a key may get another name. Bytes that are no UTF-8 become U+FFFD.
 * Thread: any, pure.  Depends on: wire/mp. */
#ifndef HTTP_MP_JSON_H
#define HTTP_MP_JSON_H

#include "common/base/err.h"
#include "common/base/slice.h"

struct mp_json_rule {
    const char *key;
    const char *name;  /* NULL: as it is */
    bool id;           /* a whole number becomes a string */
    bool zero_is_null; /* ... and 0 null */
};

/* Appends one value. ERR_BAD_REQUEST: it is malformed or too deep, *out has lost nothing. */
MUST_USE enum err mp_json(struct slice value, const struct mp_json_rule *rules, unsigned n,
                          struct buf *out);
/* Appends a quoted string. */
void mp_json_string(struct slice s, struct buf *out);

#endif
