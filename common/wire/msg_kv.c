#include "common/wire/msg_kv.h"

#include "common/base/limits.h"
#include "common/wire/mp.h"
#include "common/wire/rpc.h"

/* Outputs are untouched on failure, so every decoder fills a local and copies it at the end. */
static enum err done(const struct mp_reader *r)
{
    return r->bad || r->left.n != 0 ? ERR_BAD_REQUEST : ERR_OK;
}

/* ---- requests ---- */

static const char *const names[KV_METHODS] = {
    [KV_METHOD_GET] = "kv.get",       [KV_METHOD_PUT] = "kv.put",
    [KV_METHOD_DELETE] = "kv.delete", [KV_METHOD_INCR] = "kv.incr",
    [KV_METHOD_TOUCH] = "kv.touch",   [KV_METHOD_MGET] = "kv.mget",
    [KV_METHOD_BATCH] = "kv.batch",
};

const char *msg_kv_method_name(enum kv_method method)
{
    return names[method];
}

static bool many(enum kv_method method)
{
    return method == KV_METHOD_MGET || method == KV_METHOD_BATCH;
}

static void read_session_id(struct mp_reader *r, struct msg_kv_request *q)
{
    q->session.id = mp_get_bytes(r);
    if (q->session.id.n != MSG_KV_SESSION_ID)
        r->bad = true;
}

/* Names of options are two or three letters: compared as one number each, since every write reads
 * four or five of them. */
#define NAME2(a, b) ((uint32_t)(a) | (uint32_t)(b) << 8)
#define NAME3(a, b, c) (NAME2(a, b) | (uint32_t)(c) << 16)

static uint32_t name_of(struct slice s)
{
    if (s.n == 3)
        return NAME3(s.p[0], s.p[1], s.p[2]);
    return s.n == 2 ? NAME2(s.p[0], s.p[1]) : 0;
}

static void read_level(struct mp_reader *r, struct msg_kv_request *q)
{
    uint64_t level = mp_get_uint(r);
    if (level > KV_LEVEL_ANY)
        r->bad = true; /* one that we do not know may be stronger than those that we do */
    q->level = (uint8_t)level;
}

static void read_epoch(struct mp_reader *r, struct msg_kv_request *q)
{
    if (mp_get_array(r) != 2)
        r->bad = true;
    q->epoch_range = mp_get_u32(r);
    q->epoch_members = mp_get_u32(r);
}

/* Options of reads and of all methods; others are skipped. */
static void read_common_option(struct mp_reader *r, uint32_t name, struct msg_kv_request *q)
{
    switch (name) {
    case NAME2('d', 'l'):
        q->deadline_ms = mp_get_uint(r);
        break;
    case NAME2('e', 'p'):
        read_epoch(r, q);
        break;
    case NAME2('r', 'd'):
        read_level(r, q);
        break;
    case NAME3('t', 'o', 'k'):
        q->token = mp_get_uint(r);
        break;
    case NAME2('s', 't'):
        q->staleness_ms = mp_get_uint(r);
        break;
    default:
        mp_skip(r);
    }
}

static void read_option(struct mp_reader *r, struct msg_kv_request *q)
{
    uint32_t name = name_of(mp_get_str(r));
    switch (name) {
    case NAME3('i', 'f', 'v'):
        q->has_if_version = true;
        q->if_version = mp_get_uint(r);
        break;
    case NAME3('i', 'f', 'a'):
        q->if_absent = mp_get_bool(r);
        break;
    case NAME3('t', 't', 'l'):
        q->has_ttl = true;
        q->ttl_ms = mp_get_uint(r);
        break;
    case NAME3('s', 'e', 'q'):
        q->seq = mp_get_uint(r);
        break;
    case NAME3('s', 'i', 'd'):
        read_session_id(r, q);
        break;
    case NAME3('a', 'c', 'k'):
        q->session.ack = mp_get_uint(r);
        break;
    case NAME3('u', 'n', 't'):
        q->session.until_ms = mp_get_uint(r);
        break;
    case NAME3('a', 'l', 'l'):
        q->all = mp_get_bool(r);
        break;
    default:
        read_common_option(r, name, q);
    }
}

/* Parameters of a method before its options. */
static uint32_t plain_params(enum kv_method method)
{
    return method == KV_METHOD_PUT || method == KV_METHOD_INCR ? 2 : 1;
}

/* Key, value, delta and options, which may be absent or nil. `n`: values there are. */
static void read_single(struct mp_reader *r, uint32_t n, struct msg_kv_request *q)
{
    uint32_t plain = plain_params(q->method);
    /* One parameter too many is refused, not skipped: it could be a condition that we would then
     * not heed. */
    if (n < plain || n > plain + 1) {
        r->bad = true;
        return;
    }
    q->key = mp_get_bytes(r);
    if (q->method == KV_METHOD_PUT)
        q->value = mp_get_bytes(r);
    if (q->method == KV_METHOD_INCR)
        q->delta = mp_get_int(r);
    if (n > plain && !mp_get_nil(r))
        for (uint32_t options = mp_get_map(r); options > 0 && !r->bad; options--)
            read_option(r, q);
}

static void read_op(struct mp_reader *r, struct msg_kv_request *op)
{
    uint32_t n = mp_get_array(r);
    struct slice name = mp_get_str(r);
    *op = (struct msg_kv_request){0};
    if (mp_key_is(name, "put"))
        op->method = KV_METHOD_PUT;
    else if (mp_key_is(name, "delete"))
        op->method = KV_METHOD_DELETE;
    else if (mp_key_is(name, "incr"))
        op->method = KV_METHOD_INCR;
    else if (mp_key_is(name, "touch"))
        op->method = KV_METHOD_TOUCH;
    else
        r->bad = true;
    if (!r->bad && n > 0)
        read_single(r, n - 1, op);
}

/* Checks every item, so that walking them again cannot fail. */
static void read_items(struct mp_reader *r, struct msg_kv_request *q)
{
    struct msg_kv_request op;
    q->n = mp_get_array(r);
    if (q->n == 0 || q->n > LIMIT_BATCH)
        r->bad = true;
    const uint8_t *first = r->left.p;
    for (uint32_t i = 0; i < q->n && !r->bad; i++) {
        if (q->method == KV_METHOD_MGET)
            op.key = mp_get_bytes(r);
        else
            read_op(r, &op);
        if (i == 0)
            q->key = op.key;
    }
    if (!r->bad)
        q->items = slice_of(first, (size_t)(r->left.p - first));
}

enum err msg_kv_decode(enum kv_method method, struct slice params, struct msg_kv_request *out)
{
    struct mp_reader r = mp_reader_of(params);
    struct msg_kv_request q = {.method = method};
    uint32_t n = mp_get_array(&r);
    if (!many(method)) {
        read_single(&r, n, &q);
    } else if (n == 1 || n == 2) {
        read_items(&r, &q);
        if (n == 2 && !mp_get_nil(&r))
            for (uint32_t options = mp_get_map(&r); options > 0 && !r.bad; options--)
                read_option(&r, &q);
    } else {
        r.bad = true;
    }
    if (q.session.id.n && (q.session.until_ms == 0 || (!many(method) && q.seq == 0)))
        r.bad = true;
    enum err err = done(&r);
    if (err == ERR_OK)
        *out = q;
    return err;
}

struct slice msg_kv_next_key(struct mp_reader *r)
{
    return mp_get_bytes(r);
}

void msg_kv_next_op(struct mp_reader *r, struct msg_kv_request *op)
{
    read_op(r, op);
}

/* An option that is there if its value is not 0. */
struct option {
    const char *name;
    uint64_t value;
};

static void put_options(struct buf *b, const struct msg_kv_request *q)
{
    const struct option plain[] = {
        {"dl", q->deadline_ms},       {"seq", q->seq},  {"ack", q->session.ack},
        {"unt", q->session.until_ms}, {"rd", q->level}, {"tok", q->token},
        {"st", q->staleness_ms},
    };
    bool epoch = q->epoch_range || q->epoch_members;
    uint32_t n = 0u + epoch + q->has_if_version + q->has_ttl + q->if_absent + q->all +
                 (q->session.id.n != 0);
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
        n += plain[i].value != 0;
    if (n == 0)
        return;
    mp_put_map(b, n);
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
        if (plain[i].value)
            mp_put_pair(b, plain[i].name, plain[i].value);
    if (epoch) {
        mp_put_str(b, "ep");
        mp_put_array(b, 2);
        mp_put_uint(b, q->epoch_range);
        mp_put_uint(b, q->epoch_members);
    }
    if (q->has_if_version)
        mp_put_pair(b, "ifv", q->if_version);
    if (q->has_ttl)
        mp_put_pair(b, "ttl", q->ttl_ms);
    if (q->session.id.n) {
        mp_put_str(b, "sid");
        mp_put_bin(b, q->session.id);
    }
    if (q->if_absent)
        mp_put_pair_bool(b, "ifa", true);
    if (q->all)
        mp_put_pair_bool(b, "all", true);
}

static bool has_options(const struct msg_kv_request *q)
{
    return q->deadline_ms || q->seq || q->session.id.n || q->session.ack || q->session.until_ms ||
           q->level || q->token || q->staleness_ms || q->epoch_range || q->epoch_members ||
           q->has_if_version || q->has_ttl || q->if_absent || q->all;
}

static void put_single(struct buf *b, const struct msg_kv_request *q)
{
    mp_put_bin(b, q->key);
    if (q->method == KV_METHOD_PUT)
        mp_put_bin(b, q->value);
    if (q->method == KV_METHOD_INCR)
        mp_put_int(b, q->delta);
    put_options(b, q);
}

void msg_kv_encode(struct buf *b, uint32_t msgid, const struct msg_kv_request *q)
{
    rpc_put_request(b, msgid, names[q->method]);
    mp_put_array(b, plain_params(q->method) + has_options(q));
    if (many(q->method)) {
        mp_put_array(b, q->n);
        buf_append(b, q->items.p, q->items.n);
        put_options(b, q);
    } else {
        put_single(b, q);
    }
}

void msg_kv_put_key(struct buf *items, struct slice key)
{
    mp_put_bin(items, key);
}

void msg_kv_put_op(struct buf *items, const struct msg_kv_request *op)
{
    mp_put_array(items, 1u + plain_params(op->method) + has_options(op));
    mp_put_str(items, names[op->method] + 3); /* without "kv." */
    put_single(items, op);
}

/* ---- results ---- */

static void put_extra(struct buf *b, bool has_ttl, uint64_t ttl_ms, struct msg_kv_extra extra)
{
    mp_put_map(b, 0u + has_ttl + (extra.at != 0) + (extra.time_ms != 0));
    if (has_ttl)
        mp_put_pair(b, "ttl", ttl_ms);
    if (extra.at)
        mp_put_pair(b, "at", extra.at);
    if (extra.time_ms)
        mp_put_pair(b, "time", extra.time_ms);
}

void msg_kv_put_get_result(struct buf *b, uint32_t msgid, const struct msg_kv_result *r)
{
    bool extra = r->has_ttl || r->at;
    rpc_put_result(b, msgid);
    mp_put_array(b, 2u + extra);
    mp_put_bin(b, r->value);
    mp_put_uint(b, r->version);
    if (extra)
        put_extra(b, r->has_ttl, r->ttl_ms, (struct msg_kv_extra){.at = r->at});
}

void msg_kv_put_version(struct buf *b, uint32_t msgid, uint64_t version)
{
    rpc_put_result(b, msgid);
    mp_put_array(b, 1);
    mp_put_uint(b, version);
}

void msg_kv_put_number(struct buf *b, uint32_t msgid, uint64_t version, int64_t number)
{
    rpc_put_result(b, msgid);
    mp_put_array(b, 2);
    mp_put_uint(b, version);
    mp_put_int(b, number);
}

static void read_extra(struct mp_reader *r, struct msg_kv_result *v, struct msg_kv_extra *extra)
{
    for (uint32_t n = mp_get_map(r); n > 0 && !r->bad; n--) {
        struct slice key = mp_get_str(r);
        if (mp_key_is(key, "ttl")) {
            v->has_ttl = true;
            v->ttl_ms = mp_get_uint(r);
        } else if (mp_key_is(key, "at")) {
            extra->at = mp_get_uint(r);
        } else if (mp_key_is(key, "time")) {
            extra->time_ms = mp_get_uint(r);
        } else {
            mp_skip(r);
        }
    }
}

enum err msg_kv_decode_result(enum kv_method method, struct slice raw, struct msg_kv_result *out)
{
    struct mp_reader r = mp_reader_of(raw);
    struct msg_kv_result v = {0};
    struct msg_kv_extra extra = {0};
    uint32_t plain = method == KV_METHOD_GET || method == KV_METHOD_INCR ? 2 : 1;
    uint32_t n = mp_get_array(&r);
    if (r.bad || n < plain)
        return ERR_BAD_REQUEST;
    if (method == KV_METHOD_GET)
        v.value = mp_get_bytes(&r);
    v.version = mp_get_uint(&r);
    if (method == KV_METHOD_INCR)
        v.number = mp_get_int(&r);
    if (method == KV_METHOD_GET && n > plain) {
        read_extra(&r, &v, &extra);
        v.at = extra.at;
        plain++;
    }
    for (uint32_t i = plain; i < n && !r.bad; i++) /* a newer server may say more */
        mp_skip(&r);
    enum err err = done(&r);
    if (err == ERR_OK)
        *out = v;
    return err;
}

void msg_kv_begin_items(struct buf *b, uint32_t msgid, uint32_t n)
{
    rpc_put_result(b, msgid);
    mp_put_array(b, 2);
    mp_put_array(b, n);
}

void msg_kv_put_item(struct buf *b, enum kv_method method, const struct msg_kv_item *item)
{
    const struct msg_kv_result *r = &item->result;
    mp_put_array(b, method == KV_METHOD_MGET ? 4 : 3);
    mp_put_uint(b, (uint64_t)item->err);
    mp_put_uint(b, r->version);
    if (method == KV_METHOD_BATCH) {
        mp_put_int(b, r->number);
        return;
    }
    if (item->err == ERR_OK)
        mp_put_bin(b, r->value);
    else
        mp_put_nil(b);
    if (r->has_ttl)
        mp_put_uint(b, r->ttl_ms);
    else
        mp_put_nil(b);
}

void msg_kv_end_items(struct buf *b, struct msg_kv_extra extra)
{
    put_extra(b, false, 0, extra);
}

void msg_kv_next_item(enum kv_method method, struct mp_reader *r, struct msg_kv_item *out)
{
    struct msg_kv_item item = {0};
    uint32_t plain = method == KV_METHOD_MGET ? 4 : 3;
    uint32_t n = mp_get_array(r);
    if (n < plain)
        r->bad = true;
    uint64_t code = mp_get_uint(r);
    item.err = err_from_wire(code);
    item.result.version = mp_get_uint(r);
    if (method == KV_METHOD_BATCH) {
        item.result.number = mp_get_int(r);
    } else {
        if (!mp_get_nil(r))
            item.result.value = mp_get_bytes(r);
        else if (item.err == ERR_OK)
            r->bad = true; /* a value that is there is not nil */
        item.result.has_ttl = !mp_get_nil(r);
        if (item.result.has_ttl)
            item.result.ttl_ms = mp_get_uint(r);
    }
    for (uint32_t i = plain; i < n && !r->bad; i++)
        mp_skip(r);
    *out = item;
}

enum err msg_kv_decode_items(enum kv_method method, struct slice raw, uint32_t n,
                             struct mp_reader *items, struct msg_kv_extra *extra)
{
    struct mp_reader r = mp_reader_of(raw);
    struct msg_kv_result ignored = {0};
    struct msg_kv_extra found = {0};
    struct msg_kv_item item;
    uint32_t fields = mp_get_array(&r);
    if (fields < 1 || mp_get_array(&r) != n)
        r.bad = true;
    struct mp_reader first = r;
    for (uint32_t i = 0; i < n && !r.bad; i++)
        msg_kv_next_item(method, &r, &item);
    if (fields > 1 && !r.bad)
        read_extra(&r, &ignored, &found);
    for (uint32_t i = 2; i < fields && !r.bad; i++)
        mp_skip(&r);
    enum err err = done(&r);
    if (err == ERR_OK) {
        *items = first;
        *extra = found;
    }
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
        if (mp_key_is(key, "proto")) {
            h.proto = mp_get_u32(&r);
        } else if (mp_key_is(key, "client")) {
            mp_get_cstr(&r, h.client, sizeof(h.client));
        } else if (mp_key_is(key, "core")) {
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
    mp_put_pair(b, "proto", h->proto);
    mp_put_pair_str(b, "client", h->client);
    if (h->has_core)
        mp_put_pair(b, "core", h->core);
}

void msg_hello_reply_encode(struct buf *b, uint32_t msgid, const struct msg_hello_reply *h)
{
    rpc_put_result(b, msgid);
    mp_put_map(b, 11);
    mp_put_pair(b, "proto", h->proto);
    mp_put_str(b, "cluster");
    mp_put_bin(b, slice_of(h->cluster, sizeof(h->cluster)));
    mp_put_pair(b, "node", h->node);
    mp_put_pair_str(b, "name", h->name);
    mp_put_pair(b, "cores", h->cores);
    mp_put_pair(b, "core", h->core);
    mp_put_pair(b, "key_max", h->key_max);
    mp_put_pair(b, "value_max", h->value_max);
    mp_put_pair(b, "time", h->time_ms);
    mp_put_pair(b, "retain", h->retain_ms);
    mp_put_pair_str(b, "zone", h->zone);
}

static void read_hello_reply_field(struct mp_reader *r, struct msg_hello_reply *h)
{
    struct slice key = mp_get_str(r);
    if (mp_key_is(key, "proto")) {
        h->proto = mp_get_u32(r);
    } else if (mp_key_is(key, "cluster")) {
        mp_get_id(r, h->cluster);
    } else if (mp_key_is(key, "node")) {
        h->node = mp_get_u32(r);
    } else if (mp_key_is(key, "name")) {
        mp_get_cstr(r, h->name, sizeof(h->name));
    } else if (mp_key_is(key, "cores")) {
        h->cores = mp_get_u32(r);
    } else if (mp_key_is(key, "core")) {
        h->core = mp_get_u32(r);
    } else if (mp_key_is(key, "key_max")) {
        h->key_max = mp_get_uint(r);
    } else if (mp_key_is(key, "value_max")) {
        h->value_max = mp_get_uint(r);
    } else if (mp_key_is(key, "time")) {
        h->time_ms = mp_get_uint(r);
    } else if (mp_key_is(key, "retain")) {
        h->retain_ms = mp_get_uint(r);
    } else if (mp_key_is(key, "zone")) {
        mp_get_cstr(r, h->zone, sizeof(h->zone));
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
