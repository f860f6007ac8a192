#include "common/http/mp_json.h"

#include "common/wire/mp.h"

#define DEPTH_MAX 16u

struct writer {
    const struct mp_json_rule *rules;
    unsigned n;
    struct buf *out;
};

/* Length of the UTF-8 sequence at p, 0 if there is none (overlong, surrogate, cut short). */
static size_t utf8_length(const uint8_t *p, size_t n)
{
    size_t want = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : 0;
    if (p[0] >= 0xf0 && p[0] < 0xf5)
        want = 4;
    if (want == 0 || want > n)
        return 0;
    for (size_t i = 1; i < want; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return want;
}

void mp_json_string(struct slice s, struct buf *out)
{
    buf_u8(out, '"');
    for (size_t i = 0; i < s.n;) {
        uint8_t c = s.p[i];
        size_t n = utf8_length(s.p + i, s.n - i);
        if (n == 0)
            buf_append(out, "\xef\xbf\xbd", 3);
        else if (c == '"' || c == '\\')
            buf_printf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            buf_printf(out, "\\u%04x", c);
        else
            buf_append(out, s.p + i, n);
        i += n ? n : 1;
    }
    buf_u8(out, '"');
}

static const struct mp_json_rule *find_rule(const struct writer *w, struct slice key)
{
    for (unsigned i = 0; i < w->n; i++)
        if (slice_eq(key, slice_str(w->rules[i].key)))
            return &w->rules[i];
    return NULL;
}

static void put_uint(struct writer *w, const struct mp_json_rule *rule, uint64_t v)
{
    bool id = rule && rule->id;
    if (id && rule->zero_is_null && v == 0)
        buf_printf(w->out, "null");
    else
        buf_printf(w->out, id ? "\"%llu\"" : "%llu", (unsigned long long)v);
}

static bool put_value(struct writer *w, struct mp_reader *r, const struct mp_json_rule *rule,
                      unsigned depth);

static bool put_map(struct writer *w, struct mp_reader *r, unsigned depth)
{
    uint32_t n = mp_get_map(r);
    buf_u8(w->out, '{');
    for (uint32_t i = 0; i < n; i++) {
        struct slice key = mp_get_str(r);
        const struct mp_json_rule *rule = find_rule(w, key);
        if (i)
            buf_u8(w->out, ',');
        mp_json_string(rule && rule->name ? slice_str(rule->name) : key, w->out);
        buf_u8(w->out, ':');
        if (!put_value(w, r, rule, depth + 1))
            return false;
    }
    buf_u8(w->out, '}');
    return true;
}

static bool put_array(struct writer *w, struct mp_reader *r, const struct mp_json_rule *rule,
                      unsigned depth)
{
    uint32_t n = mp_get_array(r);
    buf_u8(w->out, '[');
    for (uint32_t i = 0; i < n; i++) {
        if (i)
            buf_u8(w->out, ',');
        if (!put_value(w, r, rule, depth + 1))
            return false;
    }
    buf_u8(w->out, ']');
    return true;
}

static bool put_value(struct writer *w, struct mp_reader *r, const struct mp_json_rule *rule,
                      unsigned depth)
{
    if (depth > DEPTH_MAX)
        return false;
    switch (mp_peek(r)) {
    case MP_NIL:
        (void)mp_get_nil(r);
        buf_printf(w->out, "null");
        break;
    case MP_BOOL:
        buf_printf(w->out, mp_get_bool(r) ? "true" : "false");
        break;
    case MP_UINT:
        put_uint(w, rule, mp_get_uint(r));
        break;
    case MP_INT:
        buf_printf(w->out, "%lld", (long long)mp_get_int(r));
        break;
    case MP_STR:
        mp_json_string(mp_get_str(r), w->out);
        break;
    case MP_MAP:
        return put_map(w, r, depth) && !r->bad;
    case MP_ARRAY:
        return put_array(w, r, rule, depth) && !r->bad;
    default: /* none of our messages has floats, extensions or raw bytes */
        return false;
    }
    return !r->bad;
}

enum err mp_json(struct slice value, const struct mp_json_rule *rules, unsigned n, struct buf *out)
{
    struct mp_reader r = mp_reader_of(value);
    struct writer w = {rules, n, out};
    size_t before = out->n;
    if (put_value(&w, &r, NULL, 0) && !r.bad && r.left.n == 0)
        return ERR_OK;
    out->n = before;
    return ERR_BAD_REQUEST;
}
