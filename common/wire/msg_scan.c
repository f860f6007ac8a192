#include "common/wire/msg_scan.h"

#include "common/base/limits.h"
#include "common/wire/rpc.h"

#define ITEM_FIELDS 4u
#define REPLY_FIELDS 5u

static void put_after(struct buf *b, bool has, struct slice after)
{
    if (has)
        mp_put_bin(b, after);
    else
        mp_put_nil(b);
}

static void get_after(struct mp_reader *r, bool *has, struct slice *after)
{
    *has = !mp_get_nil(r);
    *after = *has ? mp_get_bytes(r) : slice_of(NULL, 0);
}

/* ---- the request ---- */

void msg_scan_encode(struct buf *b, uint32_t msgid, const struct msg_scan_request *q)
{
    rpc_put_request(b, msgid, MSG_SCAN_METHOD);
    mp_put_array(b, 4);
    mp_put_uint(b, q->first_slot);
    mp_put_uint(b, q->last_slot);
    put_after(b, q->has_after, q->after);
    mp_put_map(b, 3);
    mp_put_pair(b, "max", q->max_bytes);
    mp_put_pair(b, "grp", q->group);
    mp_put_pair(b, "pos", q->position);
}

static void get_options(struct mp_reader *r, struct msg_scan_request *q)
{
    for (uint32_t n = mp_get_map(r); n > 0 && !r->bad; n--) {
        struct slice name = mp_get_str(r);
        if (mp_key_is(name, "max"))
            q->max_bytes = mp_get_uint(r);
        else if (mp_key_is(name, "grp"))
            q->group = mp_get_uint(r);
        else if (mp_key_is(name, "pos"))
            q->position = mp_get_uint(r);
        else
            mp_skip(r);
    }
}

enum err msg_scan_decode(struct slice params, struct msg_scan_request *out)
{
    struct mp_reader r = mp_reader_of(params);
    struct msg_scan_request q = {0};
    uint32_t n = mp_get_array(&r);
    if (n != 3 && n != 4)
        return ERR_BAD_REQUEST;
    q.first_slot = mp_get_u16(&r);
    q.last_slot = mp_get_u16(&r);
    get_after(&r, &q.has_after, &q.after);
    if (n == 4)
        get_options(&r, &q);
    if (r.bad || r.left.n > 0 || q.last_slot >= LIMIT_SLOTS || q.first_slot > q.last_slot ||
        q.after.n > LIMIT_KEY)
        return ERR_BAD_REQUEST;
    *out = q;
    return ERR_OK;
}

/* ---- the answer ---- */

void msg_scan_put_item(struct buf *items, const struct msg_scan_item *item)
{
    mp_put_array(items, ITEM_FIELDS);
    mp_put_bin(items, item->key);
    mp_put_bin(items, item->value);
    mp_put_uint(items, item->version);
    if (item->expiry_ms)
        mp_put_uint(items, item->expiry_ms);
    else
        mp_put_nil(items);
}

void msg_scan_put_reply(struct buf *b, uint32_t msgid, const struct msg_scan_reply *r)
{
    rpc_put_result(b, msgid);
    mp_put_array(b, REPLY_FIELDS);
    mp_put_array(b, r->n);
    buf_append(b, r->items.p, r->items.n);
    if (r->more)
        mp_put_uint(b, r->next_slot);
    else
        mp_put_nil(b);
    put_after(b, r->more && r->has_after, r->after);
    mp_put_uint(b, r->group);
    mp_put_uint(b, r->position);
}

void msg_scan_next_item(struct mp_reader *r, struct msg_scan_item *out)
{
    uint32_t fields = mp_get_array(r);
    if (fields < ITEM_FIELDS)
        r->bad = true;
    out->key = mp_get_bytes(r);
    out->value = mp_get_bytes(r);
    out->version = mp_get_uint(r);
    out->expiry_ms = mp_get_nil(r) ? 0 : mp_get_uint(r);
    for (uint32_t i = ITEM_FIELDS; i < fields && !r->bad; i++)
        mp_skip(r);
}

enum err msg_scan_decode_reply(struct slice raw, struct msg_scan_reply *out)
{
    struct mp_reader r = mp_reader_of(raw);
    struct msg_scan_reply a = {0};
    if (mp_get_array(&r) < REPLY_FIELDS)
        return ERR_BAD_REQUEST;
    a.n = mp_get_array(&r);
    a.items = r.left;
    for (uint32_t i = 0; i < a.n && !r.bad; i++) {
        struct msg_scan_item item;
        msg_scan_next_item(&r, &item);
    }
    a.items.n -= r.left.n;
    a.more = !mp_get_nil(&r);
    a.next_slot = a.more ? mp_get_u16(&r) : 0;
    get_after(&r, &a.has_after, &a.after);
    a.group = mp_get_uint(&r);
    a.position = mp_get_uint(&r);
    if (r.bad || a.next_slot >= LIMIT_SLOTS || a.after.n > LIMIT_KEY)
        return ERR_BAD_REQUEST;
    *out = a;
    return ERR_OK;
}
