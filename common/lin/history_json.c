/* Histories as JSON lines: the format is in design/reliability.md and tests/README.md. */
#include <jansson.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/lin/history.h"

static json_t *value_json(const struct history *h, uint32_t v)
{
    return v == LIN_ABSENT ? json_null() : json_string(h->values.e[v]);
}

void history_write(const struct history *h, FILE *out)
{
    static const char *const names[] = {"put", "get", "del", "cas"};

    for (size_t i = 0; i < h->n; i++) {
        const struct history_op *o = &h->e[i];
        const char *state = o->state == HISTORY_OK     ? "ok"
                            : o->state == HISTORY_FAIL ? "fail"
                                                       : "info";
        json_t *j = json_object();
        json_object_set_new(j, "c", json_integer(o->op.client));
        json_object_set_new(j, "k", json_string(h->keys.e[o->key]));
        json_object_set_new(j, "op", json_string(names[o->op.kind]));
        if (o->op.kind == LIN_PUT || o->op.kind == LIN_CAS)
            json_object_set_new(j, "v", value_json(h, o->op.value));
        if (o->op.kind == LIN_CAS)
            json_object_set_new(j, "exp", value_json(h, o->op.expected));
        if (o->op.kind == LIN_GET && o->state == HISTORY_OK)
            json_object_set_new(j, "out", value_json(h, o->op.value));
        if (o->op.kind == LIN_CAS && o->state == HISTORY_OK)
            json_object_set_new(j, "ok", json_boolean(!o->op.failed));
        json_object_set_new(j, "t0", json_integer((json_int_t)o->op.call));
        if (o->op.ret != LIN_FOREVER)
            json_object_set_new(j, "t1", json_integer((json_int_t)o->op.ret));
        json_object_set_new(j, "st", json_string(state));
        json_dumpf(j, out, JSON_COMPACT);
        fputc('\n', out);
        json_decref(j);
    }
}

static uint32_t value_of(struct history *h, const json_t *j)
{
    if (!json_is_string(j))
        return LIN_ABSENT;
    return history_value(h, slice_of(json_string_value(j), json_string_length(j)));
}

static bool text_ok(const json_t *j)
{
    return json_is_string(j) && strlen(json_string_value(j)) == json_string_length(j);
}

/* NULL, or what is wrong with the line. */
static const char *read_line(struct history *h, const json_t *j)
{
    static const char *const names[] = {"put", "get", "del", "cas"};
    const json_t *key = json_object_get(j, "k"), *v = json_object_get(j, "v"),
                 *out = json_object_get(j, "out"), *ok = json_object_get(j, "ok"),
                 *expected = json_object_get(j, "exp"), *t1 = json_object_get(j, "t1"),
                 *t0 = json_object_get(j, "t0");
    const char *op = json_string_value(json_object_get(j, "op"));
    const char *state = json_string_value(json_object_get(j, "st"));
    uint64_t begin = (uint64_t)json_integer_value(t0), end = (uint64_t)json_integer_value(t1);
    enum lin_kind kind = LIN_PUT;
    size_t n;

    while (op && kind < LIN_CAS && strcmp(names[kind], op) != 0)
        kind++;
    if (!op || strcmp(names[kind], op) != 0)
        return "\"op\" is none of put, get, del, cas";
    if (!text_ok(key) || !json_is_integer(t0))
        return "\"k\" must be a text and \"t0\" a number";
    if ((kind == LIN_PUT || kind == LIN_CAS) && !text_ok(v))
        return "\"v\" must be a text";
    if (!state)
        state = json_is_integer(t1) ? "ok" : "info";
    n = history_call(h, (uint32_t)json_integer_value(json_object_get(j, "c")), kind,
                     history_key(h, slice_str(json_string_value(key))), value_of(h, v),
                     value_of(h, expected), begin);
    if (strcmp(state, "fail") == 0) {
        history_fail(h, n, end);
    } else if (strcmp(state, "info") == 0) {
        history_info(h, n, end);
    } else {
        if (!json_is_integer(t1) || end < begin)
            return "\"t1\" must be a number, not before \"t0\"";
        if (kind == LIN_GET && !json_is_string(out) && !json_is_null(out))
            return "\"out\" must be a text or null";
        if (kind == LIN_CAS && json_is_false(ok))
            history_refused(h, n, end);
        else
            history_ok(h, n, value_of(h, out), end);
    }
    return NULL;
}

enum err history_read(struct history *h, FILE *in, char *msg, size_t n)
{
    char *line = NULL;
    size_t cap = 0, number = 0;
    enum err e = ERR_OK;

    while (e == ERR_OK && getline(&line, &cap, in) > 0) {
        json_error_t error;
        json_t *j;
        const char *wrong;
        number++;
        if (line[strspn(line, " \t\r\n")] == 0)
            continue;
        j = json_loads(line, 0, &error);
        wrong = !j ? error.text : json_is_object(j) ? read_line(h, j) : "not an object";
        if (wrong) {
            snprintf(msg, n, "line %zu: %s", number, wrong);
            e = ERR_CORRUPT;
        }
        json_decref(j);
    }
    free(line);
    return e;
}
