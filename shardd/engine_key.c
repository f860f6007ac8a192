#include "shardd/engine_key.h"

#include "common/base/check.h"

#define VALUE_HAS_EXPIRY 1u

struct slice engine_key_data(uint8_t *out, uint16_t slot, struct slice key)
{
    out[0] = 'd';
    out[1] = (uint8_t)(slot >> 8);
    out[2] = (uint8_t)slot;
    if (key.n > 0)
        memcpy(out + ENGINE_KEY_PREFIX, key.p, key.n);
    return slice_of(out, ENGINE_KEY_PREFIX + key.n);
}

struct slice engine_key_meta(uint8_t *out, const char *name)
{
    size_t n = strlen(name);

    out[0] = 'm';
    memcpy(out + 1, name, n);
    return slice_of(out, 1 + n);
}

enum err engine_key_split(struct slice raw, uint16_t *slot, struct slice *key)
{
    if (raw.n < ENGINE_KEY_PREFIX || raw.p[0] != 'd')
        return ERR_CORRUPT;
    *slot = (uint16_t)(raw.p[1] << 8 | raw.p[2]);
    *key = slice_of(raw.p + ENGINE_KEY_PREFIX, raw.n - ENGINE_KEY_PREFIX);
    return ERR_OK;
}

struct slice engine_key_change(uint8_t *out, uint64_t version, struct slice data)
{
    out[0] = 'c';
    for (unsigned i = 0; i < 8; i++)
        out[1 + i] = (uint8_t)(version >> (56 - 8 * i));
    if (data.n > 0)
        memcpy(out + ENGINE_CHANGE_PREFIX, data.p, data.n);
    return slice_of(out, ENGINE_CHANGE_PREFIX + data.n);
}

enum err engine_key_change_split(struct slice raw, uint64_t *version, struct slice *data)
{
    if (raw.n < ENGINE_CHANGE_PREFIX || raw.p[0] != 'c')
        return ERR_CORRUPT;
    uint64_t v = 0;
    for (unsigned i = 0; i < 8; i++)
        v = v << 8 | raw.p[1 + i];
    *version = v;
    *data = slice_of(raw.p + ENGINE_CHANGE_PREFIX, raw.n - ENGINE_CHANGE_PREFIX);
    return ERR_OK;
}

void engine_key_slots(uint16_t first, uint16_t last, struct engine_key_range *out)
{
    CHECK(first <= last);
    engine_key_data(out->from, first, slice_of(NULL, 0));
    if (last == UINT16_MAX) {
        out->to[0] = 'd' + 1;
        out->to_len = 1;
    } else {
        engine_key_data(out->to, (uint16_t)(last + 1), slice_of(NULL, 0));
        out->to_len = sizeof out->to;
    }
}

struct slice engine_key_session(uint8_t out[ENGINE_SESSION_KEY], uint16_t slot, const uint8_t *sid)
{
    out[0] = 's';
    out[1] = (uint8_t)(slot >> 8);
    out[2] = (uint8_t)slot;
    memcpy(out + 3, sid, ENGINE_SESSION_ID);
    out[3 + ENGINE_SESSION_ID] = out[4 + ENGINE_SESSION_ID] = 0;
    return slice_of(out, ENGINE_SESSION_KEY);
}

enum err engine_key_session_split(struct slice raw, const uint8_t **sid)
{
    if (raw.n != ENGINE_SESSION_KEY || raw.p[0] != 's')
        return ERR_CORRUPT;
    uint16_t n = (uint16_t)(raw.p[3 + ENGINE_SESSION_ID] << 8 | raw.p[4 + ENGINE_SESSION_ID]);
    if (n >= ENGINE_SESSION_ROWS)
        return ERR_CORRUPT;
    *sid = raw.p + 3;
    return ERR_OK;
}

void engine_key_session_slots(uint16_t first, uint16_t last, struct engine_key_range *out)
{
    engine_key_slots(first, last, out);
    out->from[0] = 's';
    out->to[0] = (uint8_t)(out->to[0] + ('s' - 'd'));
}

static void put_u64(uint8_t *p, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_u64(const uint8_t *p)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < 8; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

struct slice engine_value_encode(uint8_t out[ENGINE_VALUE_HEAD_MAX],
                                 const struct engine_value_head *h)
{
    out[0] = ENGINE_VALUE_FORMAT;
    out[1] = h->has_expiry ? VALUE_HAS_EXPIRY : 0;
    put_u64(out + 2, h->version);
    if (!h->has_expiry)
        return slice_of(out, 10);
    put_u64(out + 10, h->expiry_ms);
    return slice_of(out, 18);
}

enum err engine_value_decode(struct slice raw, struct engine_value_head *h, struct slice *body)
{
    if (raw.n < 2)
        return ERR_CORRUPT;
    /* An unknown flag may mean further fields: what follows cannot be told apart from the value. */
    if (raw.p[0] != ENGINE_VALUE_FORMAT || (raw.p[1] & ~VALUE_HAS_EXPIRY) != 0)
        return ERR_FORMAT;
    bool has_expiry = (raw.p[1] & VALUE_HAS_EXPIRY) != 0;
    size_t head = has_expiry ? 18 : 10;
    if (raw.n < head)
        return ERR_CORRUPT;
    h->version = get_u64(raw.p + 2);
    h->has_expiry = has_expiry;
    h->expiry_ms = has_expiry ? get_u64(raw.p + 10) : 0;
    *body = slice_of(raw.p + head, raw.n - head);
    return ERR_OK;
}
