#include "client/ctl/admin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/output.h"
#include "common/base/limits.h"
#include "common/wire/mp.h"

/* ---- MessagePack and JSON ---- */

static bool is_id(struct slice name)
{
    static const char *const names[] = {"id",    "group",    "replica",   "into",
                                        "child", "operator", "operators", "version"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (slice_eq(name, slice_str(names[i])))
            return true;
    return false;
}

static json_t *text_json(struct slice s)
{
    char *copy = malloc(s.n + 1);
    if (!copy)
        abort();
    for (size_t i = 0; i < s.n; i++) /* it may go to a terminal */
        copy[i] = (char)(s.p[i] < 0x20 || s.p[i] == 0x7f ? '?' : s.p[i]);
    json_t *text = json_stringn(copy, s.n);
    free(copy);
    return text ? text : json_string("(not UTF-8)");
}

static json_t *value_json(struct mp_reader *r, bool id, unsigned depth);

static json_t *array_json(struct mp_reader *r, bool id, unsigned depth)
{
    json_t *list = json_array();
    for (uint32_t n = mp_get_array(r); n > 0 && !r->bad; n--)
        json_array_append_new(list, value_json(r, id, depth + 1));
    return list;
}

static json_t *map_json(struct mp_reader *r, unsigned depth)
{
    json_t *o = json_object();
    for (uint32_t n = mp_get_map(r); n > 0 && !r->bad; n--) {
        struct slice name = mp_get_str(r);
        json_t *key = text_json(name), *value = value_json(r, is_id(name), depth + 1);
        json_object_set_new(o, json_string_value(key), value);
        json_decref(key);
    }
    return o;
}

static json_t *value_json(struct mp_reader *r, bool id, unsigned depth)
{
    json_t *o, *text;
    if (depth > LIMIT_MP_DEPTH)
        r->bad = true;
    switch (mp_peek(r)) {
    case MP_NIL:
        mp_get_nil(r);
        return json_null();
    case MP_BOOL:
        return json_boolean(mp_get_bool(r));
    case MP_UINT:
        return id ? out_json_id(mp_get_uint(r)) : json_integer((json_int_t)mp_get_uint(r));
    case MP_INT:
        return json_integer((json_int_t)mp_get_int(r));
    case MP_STR:
        return text_json(mp_get_str(r));
    case MP_BIN: {
        struct slice s = mp_get_bytes(r);
        o = json_object();
        out_json_base64(o, "v", s.p, s.n);
        text = json_incref(json_object_get(o, "v"));
        json_decref(o);
        return text;
    }
    case MP_ARRAY:
        return array_json(r, id, depth);
    case MP_MAP:
        return map_json(r, depth);
    default:
        r->bad = true;
        return json_null();
    }
}

json_t *admin_to_json(struct slice raw)
{
    struct mp_reader r = mp_reader_of(raw);
    json_t *v = value_json(&r, false, 0);
    if (!r.bad && r.left.n == 0)
        return v;
    json_decref(v);
    return NULL;
}

void admin_from_json(struct buf *b, const json_t *v)
{
    const char *name;
    json_t *item;
    size_t i;
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        mp_put_map(b, (uint32_t)json_object_size(v));
        for (void *it = json_object_iter((json_t *)(uintptr_t)v); it;
             it = json_object_iter_next((json_t *)(uintptr_t)v, it)) {
            name = json_object_iter_key(it);
            mp_put_str(b, name);
            admin_from_json(b, json_object_iter_value(it));
        }
        return;
    case JSON_ARRAY:
        mp_put_array(b, (uint32_t)json_array_size(v));
        json_array_foreach(v, i, item) admin_from_json(b, item);
        return;
    case JSON_STRING:
        mp_put_str(b, json_string_value(v));
        return;
    case JSON_INTEGER:
        mp_put_int(b, json_integer_value(v));
        return;
    case JSON_TRUE:
    case JSON_FALSE:
        mp_put_bool(b, json_is_true(v));
        return;
    default:
        mp_put_nil(b);
    }
}

/* ---- calls ---- */

static kv_err call(const struct ctl *ctl, const char *method, bool changes, json_t *params,
                   json_t **out, char *msg, size_t n)
{
    struct buf request = {0}, answer = {0};
    admin_from_json(&request, params);
    kv_err e = kvadmin_call(ctl->url, ctl->timeout_ms, method, buf_slice(&request), changes,
                            &answer, msg, n);
    buf_close(&request);
    json_decref(params);
    if (e != KV_OK)
        return e;
    *out = admin_to_json(buf_slice(&answer));
    buf_close(&answer);
    if (*out)
        return KV_OK;
    snprintf(msg, n, "the answer to %s is malformed", method);
    return KV_INTERNAL;
}

kv_err admin_ask(const struct ctl *ctl, const char *method, json_t *params, json_t **out, char *msg,
                 size_t n)
{
    return call(ctl, method, false, params, out, msg, n);
}

static int fail(const struct ctl *ctl, const char *method, kv_err e, const char *msg)
{
    switch (e) {
    case KV_UNKNOWN_METHOD:
        return ctl_fail(ctl, CTL_SERVER, "UNKNOWN_METHOD",
                        "The URL has to name placementd's addresses, and placementd has to be as "
                        "new as kvctl.",
                        "nobody at %s knows %s", ctl->url, method);
    case KV_NOT_FOUND:
    case KV_CONDITION_FAILED:
    case KV_BAD_REQUEST:
    case KV_REFUSED:
    case KV_EXISTS:
        /* The reason alone: what class of error it is says the exit code. */
        return ctl_fail(ctl, ctl_exit_code(e), kv_err_name(e), NULL, "%s",
                        msg[0] ? msg : kv_err_str(e));
    case KV_TIMEOUT:
    case KV_UNKNOWN_OUTCOME:
        return ctl_fail(ctl, CTL_UNKNOWN, kv_err_name(e),
                        "It may have been done or not: look with kvctl status before trying again.",
                        "no answer from placementd: %s", msg[0] ? msg : kv_err_str(e));
    default:
        return ctl_fail_kv(ctl, e, false, msg);
    }
}

int admin_call(const struct ctl *ctl, const char *method, bool changes, json_t *params,
               json_t **out)
{
    char msg[512] = "";
    kv_err e = call(ctl, method, changes, params, out, msg, sizeof(msg));
    return e == KV_OK ? CTL_OK : fail(ctl, method, e, msg);
}

/* ---- reading ---- */

uint64_t admin_u64(const json_t *o, const char *name)
{
    const json_t *v = json_object_get(o, name);
    unsigned long long id;
    if (json_is_string(v))
        return ctl_parse_u64(json_string_value(v), &id) ? id : 0;
    return json_is_integer(v) && json_integer_value(v) > 0 ? (uint64_t)json_integer_value(v) : 0;
}

const char *admin_str(const json_t *o, const char *name)
{
    const char *text = json_string_value(json_object_get(o, name));
    return text ? text : "";
}

bool admin_bool(const json_t *o, const char *name)
{
    return json_is_true(json_object_get(o, name));
}

bool admin_group(const char *text, uint64_t *id)
{
    unsigned long long v;
    if (text[0] == 'g' || text[0] == 'G')
        text++;
    if (!ctl_parse_u64(text, &v) || v == 0)
        return false;
    *id = v;
    return true;
}

const char *admin_seconds(uint64_t s, char buf[32])
{
    unsigned long long v = s;
    if (v < 60)
        snprintf(buf, 32, "%llus", v);
    else if (v < 3600)
        snprintf(buf, 32, "%llum%02llus", v / 60, v % 60);
    else if (v < 360000)
        snprintf(buf, 32, "%lluh%02llum", v / 3600, v / 60 % 60);
    else
        snprintf(buf, 32, "%llud", v / 86400);
    return buf;
}

const char *admin_count(uint64_t n, const char *what, char buf[48])
{
    snprintf(buf, 48, "%llu %.20s%s", (unsigned long long)n, what, n == 1 ? "" : "s");
    return buf;
}

/* ---- status and names ---- */

/* By name, as people count: n2 before n10. Ids are in the order of registration. */
static int by_name(const void *a, const void *b)
{
    return strverscmp(((const struct kvadmin_node *)a)->name,
                      ((const struct kvadmin_node *)b)->name);
}

int admin_status(const struct ctl *ctl, struct kvadmin_status *s)
{
    char msg[512] = "";
    kv_err e = kvadmin_status(ctl->url, ctl->timeout_ms, s, msg, sizeof(msg));
    if (e == KV_OK) {
        if (s->n_nodes)
            qsort(s->nodes, s->n_nodes, sizeof(*s->nodes), by_name);
        return CTL_OK;
    }
    if (e == KV_UNKNOWN_METHOD)
        return ctl_fail(ctl, CTL_USAGE, "UNKNOWN_METHOD",
                        "The URL has to name placementd's addresses for this command.",
                        "no placementd at %s", ctl->url);
    return ctl_fail_kv(ctl, e, false, msg);
}

const struct kvadmin_node *admin_find_node(const struct kvadmin_status *s, const char *name)
{
    const struct kvadmin_node *gone = NULL;
    unsigned long long id;
    for (unsigned i = 0; i < s->n_nodes; i++) {
        const struct kvadmin_node *n = &s->nodes[i];
        if (strcmp(n->name, name) != 0)
            continue;
        if (strcmp(n->state, "lost") != 0 && strcmp(n->state, "removed") != 0)
            return n;
        gone = n;
    }
    for (unsigned i = 0; !gone && ctl_parse_u64(name, &id) && i < s->n_nodes; i++)
        if (s->nodes[i].id == id)
            return &s->nodes[i];
    return gone;
}

const struct kvadmin_group *admin_find_group(const struct kvadmin_status *s, uint64_t id)
{
    for (unsigned i = 0; i < s->n_groups; i++)
        if (s->groups[i].id == id)
            return &s->groups[i];
    return NULL;
}

const char *admin_node_name(const struct kvadmin_status *s, uint32_t id, char buf[16])
{
    for (unsigned i = 0; i < s->n_nodes; i++)
        if (s->nodes[i].id == id)
            return s->nodes[i].name;
    snprintf(buf, 16, id ? "#%u" : "-", id);
    return buf;
}

int admin_no_node(const struct ctl *ctl, const struct kvadmin_status *s, const char *name)
{
    char list[400] = "";
    for (unsigned i = 0; i < s->n_nodes && strlen(list) < sizeof(list) - 80; i++)
        snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s", list[0] ? ", " : "",
                 s->nodes[i].name);
    return ctl_fail(ctl, CTL_NEGATIVE, "NOT_FOUND", NULL, "there is no node '%s'; there are: %s",
                    name, list[0] ? list : "none");
}

int admin_no_group(const struct ctl *ctl, const struct kvadmin_status *s, const char *name)
{
    if (!s->n_groups)
        return ctl_fail(ctl, CTL_NEGATIVE, "NOT_FOUND", NULL,
                        "there is no group '%s'; there are none yet", name);
    return ctl_fail(ctl, CTL_NEGATIVE, "NOT_FOUND", "See: kvctl groups",
                    "there is no group '%s'; there are %u, from g%llu to g%llu", name, s->n_groups,
                    (unsigned long long)s->groups[0].id,
                    (unsigned long long)s->groups[s->n_groups - 1].id);
}
