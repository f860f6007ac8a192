#include "client/ctl/records.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/limits.h"
#include "common/wire/mp.h"
#include "common/wire/skim.h"

#define CHUNK (256 * KIB)
#define MSGPACK_MAX (LIMIT_FRAME)
#define LINE_MAX_BYTES (6 * LIMIT_FRAME) /* a byte takes up to six in JSON */
#define FIELDS 4u

bool records_format_of(const char *name, enum records_format *out)
{
    if (strcmp(name, "json") != 0 && strcmp(name, "msgpack") != 0)
        return false;
    *out = name[0] == 'j' ? RECORDS_JSON : RECORDS_MSGPACK;
    return true;
}

enum records_format records_format_by_name(const char *path)
{
    const char *dot = strrchr(path, '.');
    bool raw = dot && (strcmp(dot, ".msgpack") == 0 || strcmp(dot, ".mp") == 0);
    return raw ? RECORDS_MSGPACK : RECORDS_JSON;
}

/* ---- writing ---- */

static void encode_json(struct buf *b, const struct record *r)
{
    json_t *o = json_object();
    out_json_bytes(o, "key", r->key.p, r->key.n);
    out_json_bytes(o, "value", r->value.p, r->value.n);
    json_object_set_new(o, "version", out_json_id(r->version));
    if (r->expires_ms)
        json_object_set_new(o, "expires_ms", json_integer((json_int_t)r->expires_ms));
    char *text = json_dumps(o, JSON_COMPACT);
    if (!text)
        abort();
    buf_append(b, text, strlen(text));
    buf_u8(b, '\n');
    free(text);
    json_decref(o);
}

void record_encode(struct buf *b, enum records_format format, const struct record *r)
{
    if (format == RECORDS_JSON) {
        encode_json(b, r);
        return;
    }
    mp_put_array(b, FIELDS);
    mp_put_bin(b, r->key);
    mp_put_bin(b, r->value);
    mp_put_uint(b, r->version);
    if (r->expires_ms)
        mp_put_uint(b, r->expires_ms);
    else
        mp_put_nil(b);
}

/* ---- reading one ---- */

/* The text or the base64 of a field. False: there is neither, or it is malformed. */
static bool bytes_of(const json_t *o, const char *name, struct slice *out, void **owned)
{
    char long_name[64];
    const json_t *text = json_object_get(o, name);
    snprintf(long_name, sizeof long_name, "%s_base64", name);
    const json_t *coded = json_object_get(o, long_name);
    if (json_is_string(text) && !coded) {
        *out = slice_of(json_string_value(text), json_string_length(text));
        return true;
    }
    if (!json_is_string(coded) || text)
        return false;
    size_t n;
    *owned = out_from_base64(json_string_value(coded), &n);
    *out = slice_of(*owned, n);
    return *owned != NULL;
}

/* A whole number, or a text of one; absent: 0. */
static bool number_of(const json_t *o, const char *name, uint64_t *out)
{
    const json_t *v = json_object_get(o, name);
    unsigned long long n = 0;
    bool ok = !v || json_is_null(v);
    if (json_is_integer(v)) {
        ok = json_integer_value(v) >= 0;
        n = (unsigned long long)json_integer_value(v);
    } else if (json_is_string(v)) {
        ok = ctl_parse_u64(json_string_value(v), &n);
    }
    *out = n;
    return ok;
}

static bool decode_json(struct slice raw, struct record *r, struct record_memory *m, char *msg,
                        size_t n)
{
    json_error_t error;
    m->json = json_loadb((const char *)raw.p, raw.n, JSON_ALLOW_NUL, &error);
    const char *wrong = NULL;
    if (!m->json)
        wrong = error.text;
    else if (!json_is_object(m->json))
        wrong = "it is no object";
    else if (!bytes_of(m->json, "key", &r->key, &m->key))
        wrong = "it wants either \"key\" or \"key_base64\"";
    else if (!bytes_of(m->json, "value", &r->value, &m->value))
        wrong = "it wants either \"value\" or \"value_base64\"";
    else if (!number_of(m->json, "version", &r->version) ||
             !number_of(m->json, "expires_ms", &r->expires_ms) ||
             !number_of(m->json, "ttl_ms", &r->ttl_ms))
        wrong = "\"version\", \"expires_ms\" and \"ttl_ms\" are whole numbers";
    if (wrong)
        snprintf(msg, n, "%s", wrong);
    return !wrong;
}

static bool decode_msgpack(struct slice raw, struct record *r, char *msg, size_t n)
{
    struct mp_reader in = mp_reader_of(raw);
    uint32_t fields = mp_get_array(&in);
    if (fields < 2)
        in.bad = true;
    r->key = mp_get_bytes(&in);
    r->value = mp_get_bytes(&in);
    if (fields > 2)
        r->version = mp_get_uint(&in);
    if (fields > 3 && !mp_get_nil(&in))
        r->expires_ms = mp_get_uint(&in);
    for (uint32_t i = FIELDS; i < fields && !in.bad; i++)
        mp_skip(&in);
    if (in.bad || in.left.n > 0)
        snprintf(msg, n, "it is no [key, value, version, expires_ms or nil]");
    return !in.bad && in.left.n == 0;
}

bool record_decode(enum records_format format, struct slice raw, struct record *out,
                   struct record_memory *memory, char *msg, size_t n)
{
    *memory = (struct record_memory){0};
    *out = (struct record){0};
    bool ok = format == RECORDS_JSON ? decode_json(raw, out, memory, msg, n)
                                     : decode_msgpack(raw, out, msg, n);
    if (!ok)
        record_close(memory);
    return ok;
}

void record_close(struct record_memory *m)
{
    json_decref(m->json);
    free(m->key);
    free(m->value);
    *m = (struct record_memory){0};
}

/* ---- reading a file ---- */

static bool fill(struct records_reader *r)
{
    buf_consume(&r->buf, r->at);
    r->at = 0;
    buf_reserve(&r->buf, CHUNK);
    size_t got = fread(r->buf.p + r->buf.n, 1, CHUNK, r->in);
    r->buf.n += got;
    r->end = got == 0;
    return got > 0;
}

static enum records_next ended(const struct records_reader *r, size_t left)
{
    return ferror(r->in) ? RECORDS_IO : left > 0 ? RECORDS_CUT : RECORDS_END;
}

static void take(struct records_reader *r, size_t n, struct slice *raw)
{
    *raw = slice_of(r->buf.p + r->at, n);
    r->at += n;
    r->offset += n;
}

static enum records_next read_line(struct records_reader *r, struct slice *raw)
{
    size_t seen = 0;
    for (;;) {
        const uint8_t *from = r->buf.p + r->at;
        size_t n = r->buf.n - r->at;
        const uint8_t *nl = n > seen ? memchr(from + seen, '\n', n - seen) : NULL;
        if (nl) {
            take(r, (size_t)(nl - from) + 1, raw);
            raw->n--;
            if (raw->n > 0 && raw->p[raw->n - 1] == '\r')
                raw->n--;
            if (raw->n > 0)
                return RECORDS_ONE;
            seen = 0;
            continue;
        }
        if (n > LINE_MAX_BYTES)
            return RECORDS_BAD;
        seen = n;
        if (!fill(r))
            return ended(r, n);
    }
}

static enum records_next read_value(struct records_reader *r, struct slice *raw)
{
    for (;;) {
        struct slice left = slice_of(r->buf.p + r->at, r->buf.n - r->at);
        size_t n = 0;
        enum err e = left.n > 0 ? skim(left, MSGPACK_MAX, &n) : ERR_INCOMPLETE;
        if (e == ERR_OK) {
            take(r, n, raw);
            return RECORDS_ONE;
        }
        if (e != ERR_INCOMPLETE)
            return RECORDS_BAD;
        size_t had = left.n;
        do {
            if (!fill(r))
                return ended(r, r->buf.n);
        } while (r->buf.n < n && r->buf.n > had);
    }
}

enum records_next records_read(struct records_reader *r, struct slice *raw)
{
    if (r->at == r->buf.n && !r->end && !fill(r))
        return ended(r, 0);
    if (!r->known && r->buf.n > 0) {
        uint8_t first = r->buf.p[0];
        bool text = first == '{' || first == '\n' || first == '\r' || first == ' ' || first == '\t';
        r->format = text ? RECORDS_JSON : RECORDS_MSGPACK;
        r->known = true;
    }
    return r->format == RECORDS_JSON ? read_line(r, raw) : read_value(r, raw);
}

void records_close(struct records_reader *r)
{
    buf_close(&r->buf);
}
