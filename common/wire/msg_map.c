#include "common/wire/msg_map.h"

#include <stdlib.h>

#include "common/base/mem.h"

/* Fields of the inner arrays that this version writes and needs. */
#define SHARD_FIELDS 6u
#define REPLICA_FIELDS 3u
#define NODE_FIELDS 7u
#define ROLE_MAX 2u /* enum group_role */

/* ---- writing ---- */

void msg_map_put_epoch(struct buf *b, struct shard_epoch e)
{
    mp_put_array(b, 2);
    mp_put_uint(b, e.range);
    mp_put_uint(b, e.members);
}

void msg_map_put_shard(struct buf *b, const struct shard_desc *s)
{
    mp_put_array(b, SHARD_FIELDS);
    mp_put_uint(b, s->group);
    mp_put_uint(b, s->first_slot);
    mp_put_uint(b, s->last_slot);
    msg_map_put_epoch(b, s->epoch);
    mp_put_uint(b, s->leader);
    mp_put_array(b, s->n_replicas);
    for (uint32_t i = 0; i < s->n_replicas; i++) {
        mp_put_array(b, REPLICA_FIELDS);
        mp_put_uint(b, s->replica[i].replica);
        mp_put_uint(b, s->replica[i].node);
        mp_put_uint(b, s->replica[i].role);
    }
}

static void put_node(struct buf *b, const struct shard_node *n)
{
    mp_put_array(b, NODE_FIELDS);
    mp_put_uint(b, n->node);
    mp_put_str(b, n->name);
    mp_put_str(b, n->zone);
    mp_put_str(b, n->host);
    mp_put_str(b, n->client_addr);
    mp_put_str(b, n->peer_addr);
    mp_put_uint(b, n->cores);
}

void msg_map_encode(struct buf *b, const struct shard_map *m)
{
    mp_put_map(b, 4);
    mp_put_str(b, "cluster");
    mp_put_bin(b, slice_of(m->cluster, sizeof(m->cluster)));
    mp_put_pair(b, "version", m->version);
    mp_put_str(b, "shards");
    mp_put_array(b, m->n_shards);
    for (uint32_t i = 0; i < m->n_shards; i++)
        msg_map_put_shard(b, &m->shards[i]);
    mp_put_str(b, "nodes");
    mp_put_array(b, m->n_nodes);
    for (uint32_t i = 0; i < m->n_nodes; i++)
        put_node(b, &m->nodes[i]);
}

/* ---- reading ---- */

void msg_map_get_epoch(struct mp_reader *r, struct shard_epoch *e)
{
    uint32_t more = mp_get_tuple(r, 2);
    e->range = mp_get_u32(r);
    e->members = mp_get_u32(r);
    mp_skip_n(r, more);
}

static void read_replica(struct mp_reader *r, struct shard_replica *p)
{
    uint32_t more = mp_get_tuple(r, REPLICA_FIELDS);
    p->replica = mp_get_uint(r);
    p->node = mp_get_u32(r);
    p->role = (uint8_t)mp_get_upto(r, ROLE_MAX);
    mp_skip_n(r, more);
}

void msg_map_get_shard(struct mp_reader *r, struct shard_desc *s)
{
    uint32_t more = mp_get_tuple(r, SHARD_FIELDS);
    s->group = mp_get_uint(r);
    s->first_slot = mp_get_u16(r);
    s->last_slot = mp_get_u16(r);
    msg_map_get_epoch(r, &s->epoch);
    s->leader = mp_get_uint(r);
    s->n_replicas = mp_get_array(r);
    if (s->first_slot > s->last_slot || s->last_slot >= LIMIT_SLOTS ||
        s->n_replicas > LIMIT_GROUP_MEMBERS) {
        r->bad = true;
        return;
    }
    for (uint32_t i = 0; i < s->n_replicas; i++)
        read_replica(r, &s->replica[i]);
    mp_skip_n(r, more);
}

static void read_node(struct mp_reader *r, struct shard_node *n)
{
    uint32_t more = mp_get_tuple(r, NODE_FIELDS);
    n->node = mp_get_u32(r);
    mp_get_cstr(r, n->name, sizeof(n->name));
    mp_get_cstr(r, n->zone, sizeof(n->zone));
    mp_get_cstr(r, n->host, sizeof(n->host));
    mp_get_cstr(r, n->client_addr, sizeof(n->client_addr));
    mp_get_cstr(r, n->peer_addr, sizeof(n->peer_addr));
    n->cores = mp_get_u16(r);
    mp_skip_n(r, more);
}

static void read_shards(struct mp_reader *r, struct shard_map *m)
{
    uint32_t n = mp_get_array(r);
    if (n > LIMIT_SLOTS || m->shards) /* a second "shards" */
        r->bad = true;
    if (r->bad)
        return;
    m->shards = mem_zalloc(n * sizeof(*m->shards));
    for (; m->n_shards < n && !r->bad; m->n_shards++) {
        struct shard_desc *s = &m->shards[m->n_shards];
        msg_map_get_shard(r, s);
        if (m->n_shards && s->first_slot <= s[-1].last_slot) /* out of order or overlapping */
            r->bad = true;
    }
}

static void read_nodes(struct mp_reader *r, struct shard_map *m)
{
    uint32_t n = mp_get_array(r);
    if (n > LIMIT_NODES || m->nodes)
        r->bad = true;
    if (r->bad)
        return;
    m->nodes = mem_zalloc(n * sizeof(*m->nodes));
    for (; m->n_nodes < n && !r->bad; m->n_nodes++) {
        struct shard_node *p = &m->nodes[m->n_nodes];
        read_node(r, p);
        if (m->n_nodes && p->node <= p[-1].node)
            r->bad = true;
    }
}

enum err msg_map_decode(struct slice raw, struct shard_map *out)
{
    struct mp_reader r = mp_reader_of(raw);
    struct shard_map m;
    bool has_version = false;
    shard_map_init(&m);
    for (uint32_t n = mp_get_map(&r); n > 0 && !r.bad; n--) {
        struct slice key = mp_get_str(&r);
        if (mp_key_is(key, "cluster")) {
            mp_get_id(&r, m.cluster);
        } else if (mp_key_is(key, "version")) {
            m.version = mp_get_uint(&r);
            has_version = true;
        } else if (mp_key_is(key, "shards")) {
            read_shards(&r, &m);
        } else if (mp_key_is(key, "nodes")) {
            read_nodes(&r, &m);
        } else {
            mp_skip(&r);
        }
    }
    if (r.bad || r.left.n != 0 || !has_version) {
        shard_map_close(&m);
        return ERR_BAD_REQUEST;
    }
    *out = m;
    return ERR_OK;
}
