/* The client port's bytes: split, envelope, and every decoder that a server or a client may apply
 * to what the envelope holds. Also checked: what was accepted lies inside the input, and a decoded
 * request written again decodes to the same. */
#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/wire/mp.h"
#include "common/wire/msg_kv.h"
#include "common/wire/msg_scan.h"
#include "common/wire/rpc.h"
#include "tests/fuzz/fuzz.h"

static bool inside(struct slice part, struct slice whole)
{
    return part.n == 0 || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n);
}

/* The items were checked by the decoder: walking them cannot fail. */
static void walk(const struct msg_kv_request *q, struct slice params)
{
    struct mp_reader r = mp_reader_of(q->items);
    CHECK(inside(q->items, params));
    for (uint32_t i = 0; i < q->n; i++) {
        struct msg_kv_request op = {0};
        if (q->method == KV_METHOD_MGET)
            op.key = msg_kv_next_key(&r);
        else
            msg_kv_next_op(&r, &op);
        CHECK(inside(op.key, params));
        CHECK(inside(op.value, params));
    }
    CHECK(!r.bad);
    CHECK(r.left.n == 0);
}

static void try_items(enum kv_method method, struct slice raw)
{
    struct mp_reader r = mp_reader_of(raw);
    struct msg_kv_item item;
    struct msg_kv_extra extra;
    (void)mp_get_array(&r);
    uint32_t n = mp_get_array(&r); /* as many as it says, and one more */
    if (!r.bad && n < LIMIT_BATCH)
        CHECK(msg_kv_decode_items(method, raw, n + 1, &r, &extra) != ERR_OK);
    if (r.bad || n > LIMIT_BATCH || msg_kv_decode_items(method, raw, n, &r, &extra) != ERR_OK)
        return;
    for (uint32_t i = 0; i < n; i++) {
        msg_kv_next_item(method, &r, &item);
        CHECK(!r.bad);
        CHECK(inside(item.result.value, raw));
    }
}

static void try_request(enum kv_method method, struct slice params)
{
    struct msg_kv_request q, again;
    struct rpc_message m;
    struct buf b = {0};
    if (msg_kv_decode(method, params, &q) != ERR_OK)
        return;
    CHECK(inside(q.key, params));
    CHECK(inside(q.value, params));
    msg_kv_encode(&b, 1, &q);
    CHECK(rpc_decode(buf_slice(&b), &m) == ERR_OK);
    CHECK(msg_kv_decode(method, m.params, &again) == ERR_OK);
    CHECK(slice_eq(q.key, again.key));
    CHECK(slice_eq(q.value, again.value));
    CHECK(q.deadline_ms == again.deadline_ms);
    CHECK(q.has_if_version == again.has_if_version);
    CHECK(q.if_version == again.if_version);
    CHECK(q.if_absent == again.if_absent);
    CHECK(q.delta == again.delta);
    CHECK(q.has_ttl == again.has_ttl);
    CHECK(q.ttl_ms == again.ttl_ms);
    CHECK(slice_eq(q.session.id, again.session.id));
    CHECK(q.session.ack == again.session.ack);
    CHECK(q.session.until_ms == again.session.until_ms);
    CHECK(q.seq == again.seq);
    CHECK(q.level == again.level);
    CHECK(q.token == again.token);
    CHECK(q.staleness_ms == again.staleness_ms);
    CHECK(q.all == again.all);
    CHECK(q.n == again.n);
    walk(&q, params);
    buf_close(&b);
}

static void try_scan(struct slice raw)
{
    struct msg_scan_request q;
    struct msg_scan_reply a;
    struct msg_scan_item item;
    if (msg_scan_decode(raw, &q) == ERR_OK)
        CHECK(inside(q.after, raw));
    if (msg_scan_decode_reply(raw, &a) != ERR_OK)
        return;
    struct mp_reader items = mp_reader_of(a.items);
    for (uint32_t i = 0; i < a.n; i++) {
        msg_scan_next_item(&items, &item);
        CHECK(inside(item.key, raw) && inside(item.value, raw));
    }
    CHECK(!items.bad && items.left.n == 0);
}

static void try_value(struct slice raw)
{
    struct msg_kv_result v;
    struct msg_hello h;
    struct msg_hello_reply hr;
    struct rpc_error e;
    for (int method = 0; method < (int)KV_METHODS; method++) {
        try_request((enum kv_method)method, raw);
        if (method >= KV_METHOD_MGET)
            try_items((enum kv_method)method, raw);
        else if (msg_kv_decode_result((enum kv_method)method, raw, &v) == ERR_OK)
            CHECK(inside(v.value, raw));
    }
    if (msg_hello_decode(raw, &h) == ERR_OK)
        CHECK(memchr(h.client, '\0', sizeof(h.client)) != NULL);
    if (msg_hello_reply_decode(raw, &hr) == ERR_OK)
        CHECK(memchr(hr.name, '\0', sizeof(hr.name)) && memchr(hr.zone, '\0', sizeof(hr.zone)));
    try_scan(raw);
    rpc_get_error(raw, &e);
    CHECK(e.err != ERR_OK);
    CHECK(inside(e.map, raw));
    CHECK(memchr(e.text, '\0', sizeof(e.text)) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size);
    /* A stream of messages, as a connection sees it. */
    while (in.n) {
        struct rpc_message m;
        size_t n = 0;
        enum err err = rpc_split(in, LIMIT_FRAME, &n);
        if (err == ERR_INCOMPLETE)
            CHECK(n > in.n);
        if (err)
            break;
        CHECK(n > 0);
        CHECK(n <= in.n);
        struct slice message = slice_of(in.p, n);
        struct mp_reader r = mp_reader_of(message);
        mp_skip(&r); /* what skim passes, the reader can step over, and to the same end */
        CHECK(!r.bad);
        CHECK(r.left.n == 0);
        if (rpc_decode(message, &m) == ERR_OK) {
            CHECK(inside(m.method, message));
            try_value(m.type == RPC_RESPONSE ? m.result : m.params);
            if (m.error.n)
                try_value(m.error);
        }
        in.p += n;
        in.n -= n;
    }
    /* The decoders hold on bytes that no skim has passed, too. */
    try_value(slice_of(data, size));
    return 0;
}
