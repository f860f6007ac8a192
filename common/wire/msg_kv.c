#include "common/wire/msg_kv.h"

#include "common/wire/mp.h"
#include "common/wire/rpc.h"

static bool key_is(struct slice key, const char *name)
{
    return slice_eq(key, slice_str(name));
}

/* Outputs are untouched on failure, so every decoder fills a local and copies it at the end. */
static enum err done(const struct mp_reader *r)
{
    return r->bad || r->left.n != 0 ? ERR_BAD_REQUEST : ERR_OK;
}

/* ---- kv.get, kv.put, kv.delete ---- */

static void read_option(struct mp_reader *r, struct msg_kv_request *q)
{
    struct slice key = mp_get_str(r);
    if (key_is(key, "dl")) {
        q->deadline_ms = mp_get_uint(r);
    } else if (key_is(key, "ep")) {
        if (mp_get_array(r) != 2)
            r->bad = true;
        q->epoch_range = mp_get_u32(r);
        q->epoch_members = mp_get_u32(r);
    } else if (key_is(key, "ifv")) {
        q->has_if_version = true;
        q->if_version = mp_get_uint(r);
    } else if (key_is(key, "ifa")) {
        q->if_absent = mp_get_bool(r);
    } else {
        mp_skip(r);
    }
}

enum err msg_kv_decode(enum kv_method method, struct slice params, struct msg_kv_request *out)
{
    struct mp_reader r = mp_reader_of(params);
    struct msg_kv_request q = {.method = method};
    uint32_t plain = method == KV_METHOD_PUT ? 2 : 1;
    uint32_t n = mp_get_array(&r);
    /* One parameter too many is refused, not skipped: it could be a condition that we would then
     * not heed. */
    if (r.bad || n < plain || n > plain + 1)
        return ERR_BAD_REQUEST;
    q.key = mp_get_bytes(&r);
    if (method == KV_METHOD_PUT)
        q.value = mp_get_bytes(&r);
    if (n > plain && !mp_get_nil(&r))
        for (uint32_t options = mp_get_map(&r); options > 0 && !r.bad; options--)
            read_option(&r, &q);
    enum err err = done(&r);
    if (err == ERR_OK)
        *out = q;
    return err;
}

static void put_options(struct buf *b, const struct msg_kv_request *q, uint32_t n)
{
    mp_put_map(b, n);
    if (q->deadline_ms) {
        mp_put_str(b, "dl");
        mp_put_uint(b, q->deadline_ms);
    }
    if (q->epoch_range || q->epoch_members) {
        mp_put_str(b, "ep");
        mp_put_array(b, 2);
        mp_put_uint(b, q->epoch_range);
        mp_put_uint(b, q->epoch_members);
    }
    if (q->has_if_version) {
        mp_put_str(b, "ifv");
        mp_put_uint(b, q->if_version);
    }
    if (q->if_absent) {
        mp_put_str(b, "ifa");
        mp_put_bool(b, true);
    }
}

void msg_kv_encode(struct buf *b, uint32_t msgid, const struct msg_kv_request *q)
{
    static const char *const names[] = {
        [KV_METHOD_GET] = "kv.get", [KV_METHOD_PUT] = "kv.put", [KV_METHOD_DELETE] = "kv.delete"};
    uint32_t options = 0;
    options += q->deadline_ms != 0;
    options += q->epoch_range || q->epoch_members;
    options += q->has_if_version;
    options += q->if_absent;
    bool put = q->method == KV_METHOD_PUT;
    rpc_put_request(b, msgid, names[q->method]);
    mp_put_array(b, 1u + put + (options != 0));
    mp_put_bin(b, q->key);
    if (put)
        mp_put_bin(b, q->value);
    if (options)
        put_options(b, q, options);
}

void msg_kv_put_get_result(struct buf *b, uint32_t msgid, struct slice value, uint64_t version)
{
    rpc_put_result(b, msgid);
    mp_put_array(b, 2);
    mp_put_bin(b, value);
    mp_put_uint(b, version);
}

void msg_kv_put_version(struct buf *b, uint32_t msgid, uint64_t version)
{
    rpc_put_result(b, msgid);
    mp_put_array(b, 1);
    mp_put_uint(b, version);
}

enum err msg_kv_decode_result(enum kv_method method, struct slice raw, struct msg_kv_result *out)
{
    struct mp_reader r = mp_reader_of(raw);
    struct msg_kv_result v = {0};
    uint32_t plain = method == KV_METHOD_GET ? 2 : 1;
    uint32_t n = mp_get_array(&r);
    if (r.bad || n < plain)
        return ERR_BAD_REQUEST;
    if (method == KV_METHOD_GET)
        v.value = mp_get_bytes(&r);
    v.version = mp_get_uint(&r);
    for (uint32_t i = plain; i < n && !r.bad; i++) /* a newer server may say more */
        mp_skip(&r);
    enum err err = done(&r);
    if (err == ERR_OK)
        *out = v;
    return err;
}

/* ---- sys.hello ---- */

enum err msg_hello_decode(struct slice params, struct msg_hello *out)
{
    struct mp_reader r = mp_reader_of(params);
    struct msg_hello h = {0};
    if (mp_get_array(&r) != 1)
        return ERR_BAD_REQUEST;
    for (uint32_t n = mp_get_map(&r); n > 0 && !r.bad; n--) {
        struct slice key = mp_get_str(&r);
        if (key_is(key, "proto")) {
            h.proto = mp_get_u32(&r);
        } else if (key_is(key, "client")) {
            mp_get_cstr(&r, h.client, sizeof(h.client));
        } else if (key_is(key, "core")) {
            h.has_core = !mp_get_nil(&r);
            h.core = h.has_core ? mp_get_u32(&r) : 0;
        } else {
            mp_skip(&r);
        }
    }
    enum err err = done(&r);
    if (err == ERR_OK)
        *out = h;
    return err;
}

void msg_hello_encode(struct buf *b, uint32_t msgid, const struct msg_hello *h)
{
    rpc_put_request(b, msgid, "sys.hello");
    mp_put_array(b, 1);
    mp_put_map(b, 2u + h->has_core);
    mp_put_str(b, "proto");
    mp_put_uint(b, h->proto);
    mp_put_str(b, "client");
    mp_put_str(b, h->client);
    if (h->has_core) {
        mp_put_str(b, "core");
        mp_put_uint(b, h->core);
    }
}

static void put_named_uint(struct buf *b, const char *name, uint64_t v)
{
    mp_put_str(b, name);
    mp_put_uint(b, v);
}

void msg_hello_reply_encode(struct buf *b, uint32_t msgid, const struct msg_hello_reply *h)
{
    rpc_put_result(b, msgid);
    mp_put_map(b, 8);
    put_named_uint(b, "proto", h->proto);
    mp_put_str(b, "cluster");
    mp_put_bin(b, slice_of(h->cluster, sizeof(h->cluster)));
    put_named_uint(b, "node", h->node);
    mp_put_str(b, "name");
    mp_put_str(b, h->name);
    put_named_uint(b, "cores", h->cores);
    put_named_uint(b, "core", h->core);
    put_named_uint(b, "key_max", h->key_max);
    put_named_uint(b, "value_max", h->value_max);
}

static void read_hello_reply_field(struct mp_reader *r, struct msg_hello_reply *h)
{
    struct slice key = mp_get_str(r);
    if (key_is(key, "proto")) {
        h->proto = mp_get_u32(r);
    } else if (key_is(key, "cluster")) {
        struct slice id = mp_get_bytes(r);
        if (id.n != sizeof(h->cluster))
            r->bad = true;
        else
            memcpy(h->cluster, id.p, id.n);
    } else if (key_is(key, "node")) {
        h->node = mp_get_u32(r);
    } else if (key_is(key, "name")) {
        mp_get_cstr(r, h->name, sizeof(h->name));
    } else if (key_is(key, "cores")) {
        h->cores = mp_get_u32(r);
    } else if (key_is(key, "core")) {
        h->core = mp_get_u32(r);
    } else if (key_is(key, "key_max")) {
        h->key_max = mp_get_uint(r);
    } else if (key_is(key, "value_max")) {
        h->value_max = mp_get_uint(r);
    } else {
        mp_skip(r);
    }
}

enum err msg_hello_reply_decode(struct slice raw, struct msg_hello_reply *out)
{
    struct mp_reader r = mp_reader_of(raw);
    struct msg_hello_reply h = {0};
    for (uint32_t n = mp_get_map(&r); n > 0 && !r.bad; n--)
        read_hello_reply_field(&r, &h);
    enum err err = done(&r);
    if (err == ERR_OK)
        *out = h;
    return err;
}
