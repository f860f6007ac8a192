#include "common/wire/msg_placement.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/wire/mp.h"
#include "common/wire/rpc.h"

/* Smallest encodings, to bound what a declared count may allocate. */
#define GROUP_STATUS_MIN 14u
#define STEP_MIN 8u

/* Elements of the tuples: of the first format, which any sender knows, and of this one. */
#define STATUS_FIRST 13u
#define STATUS_ALL 25u
#define STEP_FIRST 5u
#define STEP_ALL 8u

static bool is(struct slice key, const char *name)
{
    return slice_eq(key, slice_str(name));
}

static uint64_t get_below(struct mp_reader *r, uint64_t max)
{
    uint64_t v = mp_get_uint(r);
    if (v > max)
        r->bad = true;
    return v > max ? 0 : v;
}

static uint32_t get_u32(struct mp_reader *r)
{
    return (uint32_t)get_below(r, UINT32_MAX);
}

static void get_cluster(struct mp_reader *r, uint8_t out[16])
{
    struct slice s = mp_get_bytes(r);
    if (s.n != 16) {
        r->bad = true;
        return;
    }
    memcpy(out, s.p, 16);
}

static void put_pair(struct buf *b, const char *key, uint64_t v)
{
    mp_put_str(b, key);
    mp_put_uint(b, v);
}

static void put_pair_str(struct buf *b, const char *key, const char *v)
{
    mp_put_str(b, key);
    mp_put_str(b, v);
}

static void skip_rest(struct mp_reader *r, uint32_t n, uint32_t read)
{
    for (uint32_t i = read; i < n && !r->bad; i++)
        mp_skip(r);
}

/* An inner array of at least `least` elements; its count. */
static uint32_t get_tuple(struct mp_reader *r, uint32_t least)
{
    uint32_t n = mp_get_array(r);
    if (n < least)
        r->bad = true;
    return n;
}

/* params is an array whose first element is a map: its count. `optional`: an empty array is 0. */
static uint32_t enter_params(struct mp_reader *r, bool optional)
{
    uint32_t n = mp_get_array(r);
    if (n == 0) {
        if (!optional)
            r->bad = true;
        return 0;
    }
    return r->bad ? 0 : mp_get_map(r);
}

/* ---- node.register ---- */

void msg_register_encode(struct buf *b, uint32_t msgid, const struct msg_register *r)
{
    rpc_put_request(b, msgid, "node.register");
    mp_put_array(b, 1);
    bool named = r->has_cluster && r->node;
    mp_put_map(b, named ? 9 : r->has_cluster ? 8 : 7);
    put_pair_str(b, "name", r->name);
    put_pair(b, "inc", r->incarnation);
    put_pair_str(b, "zone", r->zone);
    put_pair_str(b, "host", r->host);
    put_pair_str(b, "client", r->client_addr);
    put_pair_str(b, "peer", r->peer_addr);
    put_pair(b, "cores", r->cores);
    if (r->has_cluster) {
        mp_put_str(b, "cluster");
        mp_put_bin(b, slice_of(r->cluster, 16));
    }
    if (named)
        put_pair(b, "id", r->node);
}

/* Names go into logs, JSON and tables as they are: visible ASCII without quotes. */
static bool plain(const char *s)
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
    uint32_t n = enter_params(&r, false);
    for (uint32_t i = 0; i < n && !r.bad; i++) {
        struct slice k = mp_get_str(&r);
        if (is(k, "name")) {
            mp_get_cstr(&r, m.name, sizeof(m.name));
        } else if (is(k, "inc")) {
            m.incarnation = mp_get_uint(&r);
        } else if (is(k, "zone")) {
            mp_get_cstr(&r, m.zone, sizeof(m.zone));
        } else if (is(k, "host")) {
            mp_get_cstr(&r, m.host, sizeof(m.host));
        } else if (is(k, "client")) {
            mp_get_cstr(&r, m.client_addr, sizeof(m.client_addr));
        } else if (is(k, "peer")) {
            mp_get_cstr(&r, m.peer_addr, sizeof(m.peer_addr));
        } else if (is(k, "cores")) {
            m.cores = (uint16_t)get_below(&r, LIMIT_CORES);
        } else if (is(k, "cluster")) {
            get_cluster(&r, m.cluster);
            m.has_cluster = true;
        } else if (is(k, "id")) {
            m.node = get_u32(&r);
        } else {
            mp_skip(&r);
        }
    }
    if (r.bad || !m.name[0] || m.incarnation == 0 || !m.client_addr[0] || !m.peer_addr[0] ||
        m.cores == 0)
        return ERR_BAD_REQUEST;
    if (!plain(m.name) || !plain(m.zone) || !plain(m.host) || !plain(m.client_addr) ||
        !plain(m.peer_addr))
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
    put_pair(b, "node", r->node);
    put_pair(b, "version", r->version);
}

enum err msg_register_reply_decode(struct slice raw, struct msg_register_reply *out)
{
    struct mp_reader r = mp_reader_of(raw);
    struct msg_register_reply m = {0};
    bool cluster = false;
    uint32_t n = mp_get_map(&r);
    for (uint32_t i = 0; i < n && !r.bad; i++) {
        struct slice k = mp_get_str(&r);
        if (is(k, "cluster")) {
            get_cluster(&r, m.cluster);
            cluster = true;
        } else if (is(k, "node")) {
            m.node = get_u32(&r);
        } else if (is(k, "version")) {
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

/* ---- node.heartbeat ---- */

static void put_epoch(struct buf *b, struct shard_epoch e)
{
    mp_put_array(b, 2);
    mp_put_uint(b, e.range);
    mp_put_uint(b, e.members);
}

static struct shard_epoch get_epoch(struct mp_reader *r)
{
    uint32_t n = get_tuple(r, 2);
    struct shard_epoch e = {0};
    e.range = get_u32(r);
    e.members = get_u32(r);
    skip_rest(r, n, 2);
    return e;
}

static void put_status(struct buf *b, const struct msg_group_status *s)
{
    mp_put_array(b, STATUS_ALL);
    mp_put_uint(b, s->group);
    mp_put_uint(b, s->replica);
    mp_put_uint(b, s->role);
    mp_put_uint(b, s->state);
    mp_put_uint(b, s->term);
    put_epoch(b, s->epoch);
    mp_put_uint(b, s->first_slot);
    mp_put_uint(b, s->last_slot);
    mp_put_uint(b, s->leader);
    mp_put_uint(b, s->applied);
    mp_put_uint(b, s->bytes);
    mp_put_uint(b, s->keys);
    mp_put_array(b, s->n_members);
    for (uint32_t i = 0; i < s->n_members; i++) {
        mp_put_array(b, 4);
        mp_put_uint(b, s->member[i].replica);
        mp_put_uint(b, s->member[i].node);
        mp_put_uint(b, s->member[i].role);
        mp_put_uint(b, s->member[i].match);
    }
    mp_put_uint(b, s->reads);
    mp_put_uint(b, s->writes);
    mp_put_uint(b, s->phase);
    mp_put_uint(b, s->copy);
    mp_put_uint(b, s->merge);
    mp_put_uint(b, s->child);
    mp_put_uint(b, s->refused_op);
    mp_put_uint(b, s->refused_err);
    mp_put_uint(b, s->chunks);
    mp_put_uint(b, s->peer);
    mp_put_uint(b, s->log_term);
    mp_put_uint(b, s->log_index);
}

/* What later formats have added; a sender of an earlier one stops anywhere. Returns how many of the
 * `n` elements are read then. */
static uint32_t get_status_rest(struct mp_reader *r, uint32_t n, struct msg_group_status *s)
{
    uint32_t i = STATUS_FIRST;
    if (i < n && ++i)
        s->reads = mp_get_uint(r);
    if (i < n && ++i)
        s->writes = mp_get_uint(r);
    if (i < n && ++i)
        s->phase = (uint8_t)get_below(r, SHARD_PHASE_FROZEN);
    if (i < n && ++i)
        s->copy = (uint8_t)get_below(r, MSG_COPY_COMPLETE);
    if (i < n && ++i)
        s->merge = mp_get_uint(r);
    if (i < n && ++i)
        s->child = mp_get_uint(r);
    if (i < n && ++i)
        s->refused_op = mp_get_uint(r);
    if (i < n && ++i)
        s->refused_err = get_u32(r);
    if (i < n && ++i)
        s->chunks = mp_get_uint(r);
    if (i < n && ++i)
        s->peer = mp_get_uint(r);
    if (i < n && ++i)
        s->log_term = mp_get_uint(r);
    if (i < n && ++i)
        s->log_index = mp_get_uint(r);
    return i;
}

static void get_status(struct mp_reader *r, struct msg_group_status *s)
{
    uint32_t n = get_tuple(r, STATUS_FIRST);
    memset(s, 0, sizeof(*s));
    s->group = mp_get_uint(r);
    s->replica = mp_get_uint(r);
    s->role = (uint8_t)get_below(r, 2);
    s->state = (uint8_t)get_below(r, MSG_REPLICA_BROKEN);
    s->term = mp_get_uint(r);
    s->epoch = get_epoch(r);
    s->first_slot = (uint16_t)get_below(r, LIMIT_SLOTS - 1);
    s->last_slot = (uint16_t)get_below(r, LIMIT_SLOTS - 1);
    s->leader = mp_get_uint(r);
    s->applied = mp_get_uint(r);
    s->bytes = mp_get_uint(r);
    s->keys = mp_get_uint(r);
    uint32_t members = mp_get_array(r);
    bool nameless = s->replica == 0 && s->state != MSG_REPLICA_BROKEN;
    if (members > LIMIT_GROUP_MEMBERS || s->group == 0 || nameless || s->first_slot > s->last_slot)
        r->bad = true;
    for (uint32_t i = 0; i < members && !r->bad; i++) {
        uint32_t m = get_tuple(r, 4);
        s->member[i].replica = mp_get_uint(r);
        s->member[i].node = get_u32(r);
        s->member[i].role = (uint8_t)get_below(r, 2);
        s->member[i].match = mp_get_uint(r);
        skip_rest(r, m, 4);
        s->n_members = i + 1;
    }
    if (r->bad)
        return;
    skip_rest(r, n, get_status_rest(r, n, s));
}

void msg_heartbeat_encode(struct buf *b, uint32_t msgid, const struct msg_heartbeat *h)
{
    rpc_put_request(b, msgid, "node.heartbeat");
    mp_put_array(b, 1);
    mp_put_map(b, h->version[0] ? 9 : 8);
    put_pair(b, "node", h->node);
    put_pair(b, "inc", h->incarnation);
    put_pair(b, "have", h->have);
    put_pair(b, "free", h->disk_free);
    put_pair(b, "size", h->disk_size);
    put_pair(b, "p99", h->write_p99_us);
    put_pair(b, "moving", h->moving);
    if (h->version[0])
        put_pair_str(b, "ver", h->version);
    mp_put_str(b, "groups");
    mp_put_array(b, h->n_groups);
    for (uint32_t i = 0; i < h->n_groups; i++)
        put_status(b, &h->groups[i]);
}

static void get_groups(struct mp_reader *r, struct msg_heartbeat *h)
{
    uint32_t n = mp_get_array(r);
    if (h->groups || n > LIMIT_GROUPS_PER_NODE || n > r->left.n / GROUP_STATUS_MIN)
        r->bad = true;
    if (r->bad || n == 0)
        return;
    h->groups = mem_zalloc(n * sizeof(*h->groups));
    for (uint32_t i = 0; i < n && !r->bad; i++)
        get_status(r, &h->groups[i]);
    h->n_groups = n;
}

enum err msg_heartbeat_decode(struct slice params, struct msg_heartbeat *out)
{
    struct mp_reader r = mp_reader_of(params);
    struct msg_heartbeat m = {0};
    uint32_t n = enter_params(&r, false);
    for (uint32_t i = 0; i < n && !r.bad; i++) {
        struct slice k = mp_get_str(&r);
        if (is(k, "node"))
            m.node = get_u32(&r);
        else if (is(k, "inc"))
            m.incarnation = mp_get_uint(&r);
        else if (is(k, "have"))
            m.have = mp_get_uint(&r);
        else if (is(k, "free"))
            m.disk_free = mp_get_uint(&r);
        else if (is(k, "size"))
            m.disk_size = mp_get_uint(&r);
        else if (is(k, "p99"))
            m.write_p99_us = mp_get_uint(&r);
        else if (is(k, "moving"))
            m.moving = mp_get_uint(&r);
        else if (is(k, "ver"))
            mp_get_cstr(&r, m.version, sizeof(m.version));
        else if (is(k, "groups"))
            get_groups(&r, &m);
        else
            mp_skip(&r);
    }
    if (r.bad || m.node == 0 || m.incarnation == 0 || !plain(m.version)) {
        msg_heartbeat_close(&m);
        return ERR_BAD_REQUEST;
    }
    *out = m;
    return ERR_OK;
}

void msg_heartbeat_close(struct msg_heartbeat *h)
{
    free(h->groups);
    h->groups = NULL;
    h->n_groups = 0;
}

/* ---- its reply ---- */

static void put_shard(struct buf *b, const struct shard_desc *s)
{
    mp_put_array(b, 6);
    mp_put_uint(b, s->group);
    mp_put_uint(b, s->first_slot);
    mp_put_uint(b, s->last_slot);
    put_epoch(b, s->epoch);
    mp_put_uint(b, s->leader);
    mp_put_array(b, s->n_replicas);
    for (uint32_t i = 0; i < s->n_replicas; i++) {
        mp_put_array(b, 3);
        mp_put_uint(b, s->replica[i].replica);
        mp_put_uint(b, s->replica[i].node);
        mp_put_uint(b, s->replica[i].role);
    }
}

static void get_shard(struct mp_reader *r, struct shard_desc *s)
{
    uint32_t n = get_tuple(r, 6);
    s->group = mp_get_uint(r);
    s->first_slot = (uint16_t)get_below(r, LIMIT_SLOTS - 1);
    s->last_slot = (uint16_t)get_below(r, LIMIT_SLOTS - 1);
    s->epoch = get_epoch(r);
    s->leader = mp_get_uint(r);
    uint32_t replicas = mp_get_array(r);
    if (replicas > LIMIT_GROUP_MEMBERS || s->group == 0 || s->first_slot > s->last_slot)
        r->bad = true;
    for (uint32_t i = 0; i < replicas && !r->bad; i++) {
        uint32_t m = get_tuple(r, 3);
        s->replica[i].replica = mp_get_uint(r);
        s->replica[i].node = get_u32(r);
        s->replica[i].role = (uint8_t)get_below(r, 2);
        skip_rest(r, m, 3);
        if (s->replica[i].replica == 0 || s->replica[i].node == 0)
            r->bad = true;
        s->n_replicas = i + 1;
    }
    skip_rest(r, n, 6);
}

void msg_heartbeat_reply_encode(struct buf *b, uint32_t msgid,
                                const struct msg_heartbeat_reply *reply)
{
    rpc_put_result(b, msgid);
    mp_put_map(b, 4);
    put_pair(b, "version", reply->version);
    put_pair(b, "rate", reply->move_rate);
    mp_put_str(b, "members");
    mp_put_array(b, reply->n_members);
    for (uint32_t i = 0; i < reply->n_members; i++)
        mp_put_str(b, reply->member[i]);
    mp_put_str(b, "steps");
    mp_put_array(b, reply->n_steps);
    for (uint32_t i = 0; i < reply->n_steps; i++) {
        const struct msg_step *s = &reply->steps[i];
        mp_put_array(b, STEP_ALL);
        mp_put_uint(b, s->kind);
        mp_put_uint(b, s->replica);
        mp_put_bool(b, s->campaign);
        mp_put_bool(b, s->join);
        put_shard(b, &s->shard);
        mp_put_uint(b, s->op);
        mp_put_uint(b, s->node);
        if (s->other.group)
            put_shard(b, &s->other);
        else
            mp_put_nil(b);
    }
}

/* A kind has what it needs. One that is not known passes: whoever carries it out skips it. */
static bool step_fits(const struct msg_step *s)
{
    switch (s->kind) {
    case MSG_STEP_ADD_STANDBY:
        return s->replica && s->node;
    case MSG_STEP_CREATE_REPLICA:
    case MSG_STEP_DESTROY_REPLICA:
    case MSG_STEP_PROMOTE:
    case MSG_STEP_REMOVE:
    case MSG_STEP_TRANSFER:
    case MSG_STEP_FORCE:
        return s->replica;
    case MSG_STEP_SPLIT:
    case MSG_STEP_MERGE_TARGET:
    case MSG_STEP_MERGE_INTENT:
    case MSG_STEP_MERGE_FREEZE:
    case MSG_STEP_MERGE_OWN:
        return s->other.group;
    default:
        return true;
    }
}

static void get_step(struct mp_reader *r, struct msg_step *s)
{
    uint32_t n = get_tuple(r, STEP_FIRST), i = STEP_FIRST;
    s->kind = (uint8_t)get_below(r, UINT8_MAX);
    s->replica = mp_get_uint(r);
    s->campaign = mp_get_bool(r);
    s->join = mp_get_bool(r);
    get_shard(r, &s->shard);
    if (i < n && ++i)
        s->op = mp_get_uint(r);
    if (i < n && ++i)
        s->node = get_u32(r);
    if (i < n && ++i) {
        if (mp_peek(r) == MP_NIL)
            mp_skip(r);
        else
            get_shard(r, &s->other);
    }
    skip_rest(r, n, i);
    if (r->bad || !step_fits(s))
        r->bad = true;
}

static void get_steps(struct mp_reader *r, struct msg_heartbeat_reply *m)
{
    uint32_t n = mp_get_array(r);
    if (m->steps || n > LIMIT_GROUPS_PER_NODE || n > r->left.n / STEP_MIN)
        r->bad = true;
    if (r->bad || n == 0)
        return;
    m->steps = mem_zalloc(n * sizeof(*m->steps));
    for (uint32_t i = 0; i < n && !r->bad; i++)
        get_step(r, &m->steps[i]);
    m->n_steps = n;
}

static void get_addresses(struct mp_reader *r, struct msg_heartbeat_reply *m)
{
    uint32_t n = mp_get_array(r);
    if (n > LIMIT_GROUP_MEMBERS)
        r->bad = true;
    for (uint32_t i = 0; i < n && !r->bad; i++)
        mp_get_cstr(r, m->member[i], sizeof(m->member[i]));
    m->n_members = r->bad ? 0 : n;
}

enum err msg_heartbeat_reply_decode(struct slice raw, struct msg_heartbeat_reply *out)
{
    struct mp_reader r = mp_reader_of(raw);
    struct msg_heartbeat_reply m = {0};
    uint32_t n = mp_get_map(&r);
    for (uint32_t i = 0; i < n && !r.bad; i++) {
        struct slice k = mp_get_str(&r);
        if (is(k, "version"))
            m.version = mp_get_uint(&r);
        else if (is(k, "rate"))
            m.move_rate = mp_get_uint(&r);
        else if (is(k, "steps"))
            get_steps(&r, &m);
        else if (is(k, "members"))
            get_addresses(&r, &m);
        else
            mp_skip(&r);
    }
    if (r.bad) {
        msg_heartbeat_reply_close(&m);
        return ERR_BAD_REQUEST;
    }
    *out = m;
    return ERR_OK;
}

void msg_heartbeat_reply_close(struct msg_heartbeat_reply *r)
{
    free(r->steps);
    r->steps = NULL;
    r->n_steps = 0;
}

/* ---- the rest ---- */

void msg_init_encode(struct buf *b, uint32_t msgid, const struct msg_init *i)
{
    rpc_put_request(b, msgid, "cluster.init");
    mp_put_array(b, 1);
    mp_put_map(b, 3);
    put_pair(b, "groups", i->groups);
    put_pair(b, "replicas", i->replicas);
    mp_put_str(b, "allow_same_host");
    mp_put_bool(b, i->allow_same_host);
}

enum err msg_init_decode(struct slice params, struct msg_init *out)
{
    struct mp_reader r = mp_reader_of(params);
    struct msg_init m = {0};
    uint32_t n = enter_params(&r, false);
    for (uint32_t i = 0; i < n && !r.bad; i++) {
        struct slice k = mp_get_str(&r);
        if (is(k, "groups"))
            m.groups = get_u32(&r);
        else if (is(k, "replicas"))
            m.replicas = get_u32(&r);
        else if (is(k, "allow_same_host"))
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
        put_pair(b, "leader", leader);
        if (addr[0])
            put_pair_str(b, "leader_addr", addr);
    } else {
        put_pair(b, "retry_ms", 100);
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
        if (is(k, "leader_addr"))
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
    put_pair(b, "have", have);
}

enum err msg_map_request_decode(struct slice params, uint64_t *have)
{
    struct mp_reader r = mp_reader_of(params);
    uint64_t v = 0;
    uint32_t n = enter_params(&r, true);
    for (uint32_t i = 0; i < n && !r.bad; i++) {
        struct slice k = mp_get_str(&r);
        if (is(k, "have"))
            v = mp_get_uint(&r);
        else
            mp_skip(&r);
    }
    if (r.bad)
        return ERR_BAD_REQUEST;
    *have = v;
    return ERR_OK;
}
