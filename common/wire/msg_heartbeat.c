#include "common/wire/msg_heartbeat.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/wire/mp.h"
#include "common/wire/msg_map.h"
#include "common/wire/msg_placement.h"
#include "common/wire/rpc.h"

/* Smallest encodings, to bound what a declared count may allocate. */
#define GROUP_STATUS_MIN 14u
#define STEP_MIN 8u

/* Elements of the tuples: of the first format, which any sender knows, and of this one. */
#define STATUS_FIRST 13u
#define STATUS_ALL 25u
#define STEP_FIRST 5u
#define STEP_ALL 8u

/* ---- the report ---- */

static void put_status(struct buf *b, const struct msg_group_status *s)
{
    mp_put_array(b, STATUS_ALL);
    mp_put_uint(b, s->group);
    mp_put_uint(b, s->replica);
    mp_put_uint(b, s->role);
    mp_put_uint(b, s->state);
    mp_put_uint(b, s->term);
    msg_map_put_epoch(b, s->epoch);
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
        s->phase = (uint8_t)mp_get_upto(r, SHARD_PHASE_FROZEN);
    if (i < n && ++i)
        s->copy = (uint8_t)mp_get_upto(r, MSG_COPY_COMPLETE);
    if (i < n && ++i)
        s->merge = mp_get_uint(r);
    if (i < n && ++i)
        s->child = mp_get_uint(r);
    if (i < n && ++i)
        s->refused_op = mp_get_uint(r);
    if (i < n && ++i)
        s->refused_err = mp_get_u32(r);
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
    uint32_t n = STATUS_FIRST + mp_get_tuple(r, STATUS_FIRST);
    memset(s, 0, sizeof(*s));
    s->group = mp_get_uint(r);
    s->replica = mp_get_uint(r);
    s->role = (uint8_t)mp_get_upto(r, 2);
    s->state = (uint8_t)mp_get_upto(r, MSG_REPLICA_BROKEN);
    s->term = mp_get_uint(r);
    msg_map_get_epoch(r, &s->epoch);
    s->first_slot = (uint16_t)mp_get_upto(r, LIMIT_SLOTS - 1);
    s->last_slot = (uint16_t)mp_get_upto(r, LIMIT_SLOTS - 1);
    s->leader = mp_get_uint(r);
    s->applied = mp_get_uint(r);
    s->bytes = mp_get_uint(r);
    s->keys = mp_get_uint(r);
    uint32_t members = mp_get_array(r);
    bool nameless = s->replica == 0 && s->state != MSG_REPLICA_BROKEN;
    if (members > LIMIT_GROUP_MEMBERS || s->group == 0 || nameless || s->first_slot > s->last_slot)
        r->bad = true;
    for (uint32_t i = 0; i < members && !r->bad; i++) {
        uint32_t more = mp_get_tuple(r, 4);
        s->member[i].replica = mp_get_uint(r);
        s->member[i].node = mp_get_u32(r);
        s->member[i].role = (uint8_t)mp_get_upto(r, 2);
        s->member[i].match = mp_get_uint(r);
        mp_skip_n(r, more);
        s->n_members = i + 1;
    }
    if (r->bad)
        return;
    mp_skip_n(r, n - get_status_rest(r, n, s));
}

void msg_heartbeat_encode(struct buf *b, uint32_t msgid, const struct msg_heartbeat *h)
{
    rpc_put_request(b, msgid, "node.heartbeat");
    mp_put_array(b, 1);
    mp_put_map(b, h->version[0] ? 9 : 8);
    mp_put_pair(b, "node", h->node);
    mp_put_pair(b, "inc", h->incarnation);
    mp_put_pair(b, "have", h->have);
    mp_put_pair(b, "free", h->disk_free);
    mp_put_pair(b, "size", h->disk_size);
    mp_put_pair(b, "p99", h->write_p99_us);
    mp_put_pair(b, "moving", h->moving);
    if (h->version[0])
        mp_put_pair_str(b, "ver", h->version);
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
    uint32_t n = rpc_open_params(&r, false);
    for (uint32_t i = 0; i < n && !r.bad; i++) {
        struct slice k = mp_get_str(&r);
        if (mp_key_is(k, "node"))
            m.node = mp_get_u32(&r);
        else if (mp_key_is(k, "inc"))
            m.incarnation = mp_get_uint(&r);
        else if (mp_key_is(k, "have"))
            m.have = mp_get_uint(&r);
        else if (mp_key_is(k, "free"))
            m.disk_free = mp_get_uint(&r);
        else if (mp_key_is(k, "size"))
            m.disk_size = mp_get_uint(&r);
        else if (mp_key_is(k, "p99"))
            m.write_p99_us = mp_get_uint(&r);
        else if (mp_key_is(k, "moving"))
            m.moving = mp_get_uint(&r);
        else if (mp_key_is(k, "ver"))
            mp_get_cstr(&r, m.version, sizeof(m.version));
        else if (mp_key_is(k, "groups"))
            get_groups(&r, &m);
        else
            mp_skip(&r);
    }
    if (r.bad || m.node == 0 || m.incarnation == 0 || !msg_placement_plain(m.version)) {
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

static void get_shard(struct mp_reader *r, struct shard_desc *s)
{
    msg_map_get_shard(r, s);
    if (s->group == 0)
        r->bad = true;
    for (uint32_t i = 0; i < s->n_replicas && !r->bad; i++)
        if (s->replica[i].replica == 0 || s->replica[i].node == 0)
            r->bad = true;
}

void msg_heartbeat_reply_encode(struct buf *b, uint32_t msgid,
                                const struct msg_heartbeat_reply *reply)
{
    rpc_put_result(b, msgid);
    mp_put_map(b, 4);
    mp_put_pair(b, "version", reply->version);
    mp_put_pair(b, "rate", reply->move_rate);
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
        msg_map_put_shard(b, &s->shard);
        mp_put_uint(b, s->op);
        mp_put_uint(b, s->node);
        if (s->other.group)
            msg_map_put_shard(b, &s->other);
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
    uint32_t n = STEP_FIRST + mp_get_tuple(r, STEP_FIRST), i = STEP_FIRST;
    s->kind = (uint8_t)mp_get_upto(r, UINT8_MAX);
    s->replica = mp_get_uint(r);
    s->campaign = mp_get_bool(r);
    s->join = mp_get_bool(r);
    get_shard(r, &s->shard);
    if (i < n && ++i)
        s->op = mp_get_uint(r);
    if (i < n && ++i)
        s->node = mp_get_u32(r);
    if (i < n && ++i) {
        if (mp_peek(r) == MP_NIL)
            mp_skip(r);
        else
            get_shard(r, &s->other);
    }
    mp_skip_n(r, n - i);
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
        if (mp_key_is(k, "version"))
            m.version = mp_get_uint(&r);
        else if (mp_key_is(k, "rate"))
            m.move_rate = mp_get_uint(&r);
        else if (mp_key_is(k, "steps"))
            get_steps(&r, &m);
        else if (mp_key_is(k, "members"))
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
