#include "common/wire/msg_placement.h"

#include <stdio.h>

#include "common/wire/mp.h"
#include "common/wire/rpc.h"

/* ---- node.register ---- */

void msg_register_encode(struct buf *b, uint32_t msgid, const struct msg_register *r)
{
    rpc_put_request(b, msgid, "node.register");
    mp_put_array(b, 1);
    bool named = r->has_cluster && r->node;
    mp_put_map(b, named ? 9 : r->has_cluster ? 8 : 7);
    mp_put_pair_str(b, "name", r->name);
    mp_put_pair(b, "inc", r->incarnation);
    mp_put_pair_str(b, "zone", r->zone);
    mp_put_pair_str(b, "host", r->host);
    mp_put_pair_str(b, "client", r->client_addr);
    mp_put_pair_str(b, "peer", r->peer_addr);
    mp_put_pair(b, "cores", r->cores);
    if (r->has_cluster) {
        mp_put_str(b, "cluster");
        mp_put_bin(b, slice_of(r->cluster, 16));
    }
    if (named)
        mp_put_pair(b, "id", r->node);
}

bool msg_placement_plain(const char *s)
{
    for (; *s; s++)
        if (*s <= ' ' || *s > '~' || *s == '"' || *s == '\\')
            return false;
    return true;
}

enum err msg_register_decode(struct slice params, struct msg_register *out)
{
    struct mp_reader r = mp_reader_of(params);
    struct msg_register m = {0};
    uint32_t n = rpc_open_params(&r, false);
    for (uint32_t i = 0; i < n && !r.bad; i++) {
        struct slice k = mp_get_str(&r);
        if (mp_key_is(k, "name")) {
            mp_get_cstr(&r, m.name, sizeof(m.name));
        } else if (mp_key_is(k, "inc")) {
            m.incarnation = mp_get_uint(&r);
        } else if (mp_key_is(k, "zone")) {
            mp_get_cstr(&r, m.zone, sizeof(m.zone));
        } else if (mp_key_is(k, "host")) {
            mp_get_cstr(&r, m.host, sizeof(m.host));
        } else if (mp_key_is(k, "client")) {
            mp_get_cstr(&r, m.client_addr, sizeof(m.client_addr));
        } else if (mp_key_is(k, "peer")) {
            mp_get_cstr(&r, m.peer_addr, sizeof(m.peer_addr));
        } else if (mp_key_is(k, "cores")) {
            m.cores = (uint16_t)mp_get_upto(&r, LIMIT_CORES);
        } else if (mp_key_is(k, "cluster")) {
            mp_get_id(&r, m.cluster);
            m.has_cluster = true;
        } else if (mp_key_is(k, "id")) {
            m.node = mp_get_u32(&r);
        } else {
            mp_skip(&r);
        }
    }
    if (r.bad || !m.name[0] || m.incarnation == 0 || !m.client_addr[0] || !m.peer_addr[0] ||
        m.cores == 0)
        return ERR_BAD_REQUEST;
    if (!msg_placement_plain(m.name) || !msg_placement_plain(m.zone) ||
        !msg_placement_plain(m.host) || !msg_placement_plain(m.client_addr) ||
        !msg_placement_plain(m.peer_addr))
        return ERR_BAD_REQUEST;
    *out = m;
    return ERR_OK;
}

void msg_register_reply_encode(struct buf *b, uint32_t msgid, const struct msg_register_reply *r)
{
    rpc_put_result(b, msgid);
    mp_put_map(b, 3);
    mp_put_str(b, "cluster");
    mp_put_bin(b, slice_of(r->cluster, 16));
    mp_put_pair(b, "node", r->node);
    mp_put_pair(b, "version", r->version);
}

enum err msg_register_reply_decode(struct slice raw, struct msg_register_reply *out)
{
    struct mp_reader r = mp_reader_of(raw);
    struct msg_register_reply m = {0};
    bool cluster = false;
    uint32_t n = mp_get_map(&r);
    for (uint32_t i = 0; i < n && !r.bad; i++) {
        struct slice k = mp_get_str(&r);
        if (mp_key_is(k, "cluster")) {
            mp_get_id(&r, m.cluster);
            cluster = true;
        } else if (mp_key_is(k, "node")) {
            m.node = mp_get_u32(&r);
        } else if (mp_key_is(k, "version")) {
            m.version = mp_get_uint(&r);
        } else {
            mp_skip(&r);
        }
    }
    if (r.bad || !cluster || m.node == 0)
        return ERR_BAD_REQUEST;
    *out = m;
    return ERR_OK;
}

/* ---- the rest ---- */

void msg_init_encode(struct buf *b, uint32_t msgid, const struct msg_init *i)
{
    rpc_put_request(b, msgid, "cluster.init");
    mp_put_array(b, 1);
    mp_put_map(b, 3);
    mp_put_pair(b, "groups", i->groups);
    mp_put_pair(b, "replicas", i->replicas);
    mp_put_pair_bool(b, "allow_same_host", i->allow_same_host);
}

enum err msg_init_decode(struct slice params, struct msg_init *out)
{
    struct mp_reader r = mp_reader_of(params);
    struct msg_init m = {0};
    uint32_t n = rpc_open_params(&r, false);
    for (uint32_t i = 0; i < n && !r.bad; i++) {
        struct slice k = mp_get_str(&r);
        if (mp_key_is(k, "groups"))
            m.groups = mp_get_u32(&r);
        else if (mp_key_is(k, "replicas"))
            m.replicas = mp_get_u32(&r);
        else if (mp_key_is(k, "allow_same_host"))
            m.allow_same_host = mp_get_bool(&r);
        else
            mp_skip(&r);
    }
    if (r.bad)
        return ERR_BAD_REQUEST;
    *out = m;
    return ERR_OK;
}

void msg_placement_put_not_leader(struct buf *b, uint32_t msgid, uint32_t leader, const char *addr)
{
    enum err e = leader ? ERR_NOT_LEADER : ERR_NO_LEADER;
    char text[160];
    if (leader)
        snprintf(text, sizeof(text), "the placement leader is member %u at %.63s", leader,
                 addr[0] ? addr : "an address not known yet");
    else
        snprintf(text, sizeof(text), "placementd has no leader at the moment");
    mp_put_array(b, 4);
    mp_put_uint(b, RPC_RESPONSE);
    mp_put_uint(b, msgid);
    mp_put_array(b, 5);
    mp_put_uint(b, (uint64_t)e);
    mp_put_str(b, err_name(e));
    mp_put_str(b, text);
    mp_put_uint(b, 0);
    mp_put_map(b, leader ? (addr[0] ? 2 : 1) : 1);
    if (leader) {
        mp_put_pair(b, "leader", leader);
        if (addr[0])
            mp_put_pair_str(b, "leader_addr", addr);
    } else {
        mp_put_pair(b, "retry_ms", 100);
    }
    mp_put_nil(b);
}

bool msg_placement_leader_addr(struct slice raw_error, char out[64])
{
    struct mp_reader r = mp_reader_of(raw_error);
    char addr[64] = "";
    if (raw_error.n == 0 || mp_peek(&r) != MP_ARRAY || mp_get_array(&r) < 5)
        return false;
    for (int i = 0; i < 4; i++)
        mp_skip(&r);
    uint32_t n = r.bad ? 0 : mp_get_map(&r);
    for (uint32_t i = 0; i < n && !r.bad; i++) {
        struct slice k = mp_get_str(&r);
        if (mp_key_is(k, "leader_addr"))
            mp_get_cstr(&r, addr, sizeof(addr));
        else
            mp_skip(&r);
    }
    if (r.bad || !addr[0])
        return false;
    memcpy(out, addr, sizeof(addr));
    return true;
}

void msg_map_request_encode(struct buf *b, uint32_t msgid, const char *method, uint64_t have)
{
    rpc_put_request(b, msgid, method);
    mp_put_array(b, 1);
    mp_put_map(b, 1);
    mp_put_pair(b, "have", have);
}

enum err msg_map_request_decode(struct slice params, uint64_t *have)
{
    struct mp_reader r = mp_reader_of(params);
    uint64_t v = 0;
    uint32_t n = rpc_open_params(&r, true);
    for (uint32_t i = 0; i < n && !r.bad; i++) {
        struct slice k = mp_get_str(&r);
        if (mp_key_is(k, "have"))
            v = mp_get_uint(&r);
        else
            mp_skip(&r);
    }
    if (r.bad)
        return ERR_BAD_REQUEST;
    *have = v;
    return ERR_OK;
}
