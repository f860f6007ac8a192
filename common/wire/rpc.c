#include "common/wire/rpc.h"

#include "common/base/check.h"
#include "common/wire/mp.h"
#include "common/wire/skim.h"

#define RPC_FLAG_MAYBE_APPLIED 1u

/* ---- reading ---- */

/* First bytes of an array of three or four, short or long form. Anything else is another protocol
 * (HTTP, TLS, RESP) and refused at its first byte. */
static bool rpc_first_byte(uint8_t c)
{
    return c == 0x93 || c == 0x94 || c == 0xdc || c == 0xdd;
}

enum err rpc_split(struct slice in, size_t max, size_t *n)
{
    if (in.n && !rpc_first_byte(in.p[0]))
        return ERR_BAD_REQUEST;
    return skim(in, max, n);
}

/* The last value of a message that is known to be one: all that is left. */
static struct slice rpc_rest(struct mp_reader *r)
{
    struct slice rest = r->left;
    if (rest.n == 0)
        r->bad = true;
    r->left = slice_of(rest.p + rest.n, 0);
    return rest;
}

static void rpc_read_answer(struct mp_reader *r, struct rpc_message *m)
{
    if (!mp_get_nil(r))
        m->error = mp_get_raw(r);
    m->result = mp_get_raw(r);
}

static void rpc_read_call(struct mp_reader *r, struct rpc_message *m, bool split)
{
    m->method = mp_get_str(r);
    if (mp_peek(r) != MP_ARRAY)
        r->bad = true;
    m->params = split ? rpc_rest(r) : mp_get_raw(r);
}

static enum err rpc_read(struct slice in, bool split, struct rpc_message *out)
{
    struct mp_reader r = mp_reader_of(in);
    struct rpc_message m = {0};
    uint32_t fields = mp_get_array(&r);
    uint64_t type = mp_get_uint(&r);
    if (r.bad || type > RPC_NOTIFY || fields != (type == RPC_NOTIFY ? 3u : 4u))
        return ERR_BAD_REQUEST;
    m.type = (uint8_t)type;
    if (type != RPC_NOTIFY)
        m.msgid = mp_get_u32(&r);
    if (type == RPC_RESPONSE)
        rpc_read_answer(&r, &m);
    else
        rpc_read_call(&r, &m, split);
    if (r.bad || r.left.n != 0)
        return ERR_BAD_REQUEST;
    *out = m;
    return ERR_OK;
}

enum err rpc_decode(struct slice in, struct rpc_message *out)
{
    return rpc_read(in, false, out);
}

enum err rpc_decode_split(struct slice in, struct rpc_message *out)
{
    return rpc_read(in, true, out);
}

/* A text of a peer for logs and terminals: cut to fit, control characters made visible. */
static void rpc_copy_text(struct slice s, char *out, size_t cap)
{
    size_t n = s.n < cap - 1 ? s.n : cap - 1;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)(s.p[i] < 0x20 || s.p[i] == 0x7f ? '?' : s.p[i]);
    out[n] = '\0';
}

static void rpc_read_hint(struct mp_reader *r, struct rpc_error *e)
{
    struct slice key = mp_get_str(r);
    if (mp_key_is(key, "leader")) {
        e->leader = mp_get_u32(r);
    } else if (mp_key_is(key, "retry_ms")) {
        e->retry_ms = mp_get_uint(r);
    } else if (mp_key_is(key, "epoch")) {
        if (mp_get_array(r) != 2)
            r->bad = true;
        e->epoch_range = mp_get_u32(r);
        e->epoch_members = mp_get_u32(r);
    } else if (mp_key_is(key, "ver")) {
        e->version = mp_get_uint(r);
    } else if (mp_key_is(key, "at")) {
        e->at = mp_get_uint(r);
    } else if (mp_key_is(key, "time")) {
        e->time_ms = mp_get_uint(r);
    } else if (mp_key_is(key, "map")) {
        e->map = mp_get_raw(r);
    } else {
        mp_skip(r);
    }
}

void rpc_get_error(struct slice raw, struct rpc_error *out)
{
    struct mp_reader r = mp_reader_of(raw);
    struct rpc_error e = {0};
    uint32_t fields = mp_get_array(&r);
    uint64_t number = mp_get_uint(&r);
    mp_skip(&r); /* the name: for people who watch the wire */
    rpc_copy_text(mp_get_str(&r), e.text, sizeof(e.text));
    e.maybe_applied = (mp_get_uint(&r) & RPC_FLAG_MAYBE_APPLIED) != 0;
    if (fields > 4)
        for (uint32_t hints = mp_get_map(&r); hints > 0 && !r.bad; hints--)
            rpc_read_hint(&r, &e);
    if (r.bad || fields < 4 || number == ERR_OK) {
        /* Whoever answers in riddles may have done what was asked. */
        *out = (struct rpc_error){.err = ERR_INTERNAL, .maybe_applied = true};
        rpc_copy_text(slice_str("the server sent a malformed error"), out->text, sizeof(out->text));
        return;
    }
    e.err = err_from_wire(number);
    *out = e;
}

/* ---- writing ---- */

void rpc_put_request(struct buf *b, uint32_t msgid, const char *method)
{
    mp_put_array(b, 4);
    mp_put_uint(b, RPC_REQUEST);
    mp_put_uint(b, msgid);
    mp_put_str(b, method);
}

void rpc_put_notify(struct buf *b, const char *method)
{
    mp_put_array(b, 3);
    mp_put_uint(b, RPC_NOTIFY);
    mp_put_str(b, method);
}

void rpc_put_result(struct buf *b, uint32_t msgid)
{
    mp_put_array(b, 4);
    mp_put_uint(b, RPC_RESPONSE);
    mp_put_uint(b, msgid);
    mp_put_nil(b);
}

static void rpc_put_hints(struct buf *b, const struct rpc_error *e)
{
    bool epoch = e->epoch_range || e->epoch_members;
    mp_put_map(b, 0u + (e->leader != 0) + (e->retry_ms != 0) + epoch + (e->map.n != 0) +
                      (e->version != 0) + (e->at != 0) + (e->time_ms != 0));
    if (e->leader)
        mp_put_pair(b, "leader", e->leader);
    if (e->retry_ms)
        mp_put_pair(b, "retry_ms", e->retry_ms);
    if (epoch) {
        mp_put_str(b, "epoch");
        mp_put_array(b, 2);
        mp_put_uint(b, e->epoch_range);
        mp_put_uint(b, e->epoch_members);
    }
    if (e->version)
        mp_put_pair(b, "ver", e->version);
    if (e->at)
        mp_put_pair(b, "at", e->at);
    if (e->time_ms)
        mp_put_pair(b, "time", e->time_ms);
    if (e->map.n) {
        mp_put_str(b, "map");
        buf_append(b, e->map.p, e->map.n);
    }
}

void rpc_put_error(struct buf *b, uint32_t msgid, const struct rpc_error *e)
{
    CHECK(e->err != ERR_OK);
    mp_put_array(b, 4);
    mp_put_uint(b, RPC_RESPONSE);
    mp_put_uint(b, msgid);
    mp_put_array(b, 5);
    mp_put_uint(b, (uint64_t)e->err);
    mp_put_str(b, err_name(e->err));
    mp_put_str(b, e->text[0] ? e->text : err_text(e->err));
    mp_put_uint(b, e->maybe_applied ? RPC_FLAG_MAYBE_APPLIED : 0);
    rpc_put_hints(b, e);
    mp_put_nil(b);
}

void rpc_put_error_simple(struct buf *b, uint32_t msgid, enum err err, const char *text)
{
    struct rpc_error e = {.err = err, .maybe_applied = err_class(err) == ERR_CLASS_UNKNOWN};
    if (text)
        rpc_copy_text(slice_str(text), e.text, sizeof(e.text));
    rpc_put_error(b, msgid, &e);
}

uint32_t rpc_open_params(struct mp_reader *r, bool optional)
{
    uint32_t n = mp_get_array(r);
    if (n == 0) {
        if (!optional)
            r->bad = true;
        return 0;
    }
    return r->bad ? 0 : mp_get_map(r);
}
