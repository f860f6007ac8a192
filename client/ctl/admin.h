/* Calls to placementd's admin.* methods, and their answers as JSON.
 *
 * placementd answers in MessagePack that goes to JSON one to one; here ids become strings, for they
 * may exceed what JSON readers take as numbers.
 * Thread: main.  Depends on: kvadmin, wire/mp. */
#ifndef CTL_ADMIN_H
#define CTL_ADMIN_H

#include <jansson.h>
#include <stdint.h>

#include "client/ctl/ctl.h"
#include "client/kvadmin.h"
#include "common/base/slice.h"

/* One value of MessagePack as JSON: integers under the names of ids as strings, bytes as base64,
 * control characters as '?'. NULL if it is malformed or too deep. */
json_t *admin_to_json(struct slice raw);
/* Objects, arrays, texts, integers and booleans. */
void admin_from_json(struct buf *b, const json_t *value);

/* Takes `params`. CTL_OK: *out is the answer, json_decref() it. Else the exit code, printed. */
int admin_call(const struct ctl *ctl, const char *method, bool changes, json_t *params,
               json_t **out);
/* The same for a poll that may fail for a while: nothing is printed. */
kv_err admin_ask(const struct ctl *ctl, const char *method, json_t *params, json_t **out, char *msg,
                 size_t n);

/* Of an object; 0, "" and false if there is no such thing. */
uint64_t admin_u64(const json_t *o, const char *name); /* also an id's text */
const char *admin_str(const json_t *o, const char *name);
bool admin_bool(const json_t *o, const char *name);

/* "g07", "g7" or "7". False: no group's name. */
bool admin_group(const char *text, uint64_t *id);
/* "15s", "1m52s", "2h05m" */
const char *admin_seconds(uint64_t seconds, char buf[32]);
/* "1 move", "12 moves" */
const char *admin_count(uint64_t n, const char *what, char buf[48]);
/* The status; on failure the exit code, printed. Nodes are in the order of their names. */
int admin_status(const struct ctl *ctl, struct kvadmin_status *out);
const struct kvadmin_node *admin_find_node(const struct kvadmin_status *s, const char *name);
const struct kvadmin_group *admin_find_group(const struct kvadmin_status *s, uint64_t id);
const char *admin_node_name(const struct kvadmin_status *s, uint32_t id, char buf[16]);
/* Says which ones there are; returns the exit code. */
int admin_no_node(const struct ctl *ctl, const struct kvadmin_status *s, const char *name);
int admin_no_group(const struct ctl *ctl, const struct kvadmin_status *s, const char *name);

#endif
