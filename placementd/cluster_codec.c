/* The state as bytes, and its parts that commands share (cluster.h). */
#include "common/base/check.h"
#include "placementd/cluster.h"
#include "placementd/cluster_index.h"

/* Smallest encodings of one item, to bound what a count in untrusted bytes may allocate. */
#define MEMBER_MIN 15u
#define NODE_MIN 28u
#define GROUP_MIN 31u
#define OPERATOR_MIN 92u
#define FINISHED_MIN 28u

/* ---- parts of the encoding ---- */

void cluster_put_text(struct buf *b, const char *s)
{
    size_t n = strlen(s);
    CHECK(n < 256);
    buf_u8(b, (uint8_t)n);
    buf_append(b, s, n);
}

void cluster_get_text(struct cursor *c, char *out, size_t cap)
{
    struct slice s = cursor_bytes(c, cursor_u8(c));
    if (s.n >= cap || (s.n && memchr(s.p, 0, s.n)))
        c->bad = true;
    if (c->bad) {
        out[0] = 0;
        return;
    }
    if (s.n)
        memcpy(out, s.p, s.n);
    out[s.n] = 0;
}

void cluster_put_desc(struct buf *b, const struct shard_desc *d)
{
    buf_u64(b, d->group);
    buf_u16(b, d->first_slot);
    buf_u16(b, d->last_slot);
    buf_u32(b, d->epoch.range);
    buf_u32(b, d->epoch.members);
    buf_u8(b, (uint8_t)d->n_replicas);
    for (uint32_t i = 0; i < d->n_replicas; i++) {
        buf_u64(b, d->replica[i].replica);
        buf_u32(b, d->replica[i].node);
        buf_u8(b, d->replica[i].role);
    }
}

void cluster_get_desc(struct cursor *c, struct shard_desc *d)
{
    memset(d, 0, sizeof(*d));
    d->group = cursor_u64(c);
    d->first_slot = cursor_u16(c);
    d->last_slot = cursor_u16(c);
    d->epoch.range = cursor_u32(c);
    d->epoch.members = cursor_u32(c);
    uint32_t n = cursor_u8(c);
    if (d->group == 0 || d->first_slot > d->last_slot || d->last_slot >= LIMIT_SLOTS || n == 0 ||
        n > LIMIT_GROUP_MEMBERS)
        c->bad = true;
    for (uint32_t i = 0; i < n && !c->bad; i++) {
        struct shard_replica *r = &d->replica[i];
        r->replica = cursor_u64(c);
        r->node = cursor_u32(c);
        r->role = cursor_u8(c);
        if (r->replica == 0 || r->node == 0 || r->role > 2)
            c->bad = true;
        for (uint32_t j = 0; j < i; j++)
            if (d->replica[j].replica == r->replica || d->replica[j].node == r->node)
                c->bad = true;
        d->n_replicas = i + 1;
    }
}

void cluster_put_member(struct buf *b, const struct cluster_member *m)
{
    buf_u32(b, m->id);
    buf_u64(b, m->incarnation);
    cluster_put_text(b, m->client_addr);
    cluster_put_text(b, m->peer_addr);
    buf_u8(b, m->leaving);
}

void cluster_get_member(struct cursor *c, struct cluster_member *m)
{
    m->id = cursor_u32(c);
    m->incarnation = cursor_u64(c);
    cluster_get_text(c, m->client_addr, sizeof(m->client_addr));
    cluster_get_text(c, m->peer_addr, sizeof(m->peer_addr));
    uint8_t leaving = cursor_u8(c);
    m->leaving = leaving == 1;
    if (m->id == 0 || leaving > 1)
        c->bad = true;
}

#define OP_QUEUED 1u
#define OP_CANCELLING 2u

void cluster_put_operator(struct buf *b, const struct cluster_operator *o)
{
    buf_u64(b, o->id);
    buf_u8(b, o->kind);
    buf_u8(b, o->origin);
    buf_u8(b, (uint8_t)((o->queued ? OP_QUEUED : 0) | (o->cancelling ? OP_CANCELLING : 0)));
    buf_u8(b, o->turned);
    buf_u8(b, o->outcome);
    cluster_put_text(b, o->why);
    buf_u64(b, o->group);
    buf_u32(b, o->epoch.range);
    buf_u32(b, o->epoch.members);
    buf_u64(b, o->created_ms);
    buf_u64(b, o->deadline_ms);
    buf_u64(b, o->peer);
    buf_u16(b, o->slot);
    buf_u64(b, o->child);
    buf_u64(b, o->child_replica);
    buf_u64(b, o->bytes);
    cluster_put_text(b, o->reason);
    buf_u8(b, o->at);
    buf_u8(b, o->n_steps);
    for (uint32_t i = 0; i < o->n_steps; i++) {
        buf_u8(b, o->step[i].kind);
        buf_u32(b, o->step[i].node);
        buf_u64(b, o->step[i].replica);
    }
}

static bool operator_sane(const struct cluster_operator *o)
{
    bool merge = o->kind == CLUSTER_OP_MERGE;
    return o->kind >= CLUSTER_OP_MOVE && o->kind <= CLUSTER_OP_MERGE && o->group != 0 &&
           o->n_steps != 0 && o->n_steps <= CLUSTER_STEPS_MAX && o->at < o->n_steps &&
           merge == (o->peer != 0) && o->peer != o->group && o->slot < LIMIT_SLOTS &&
           o->turned <= CLUSTER_STEP_MERGE_UNFREEZE;
}

void cluster_get_operator(struct cursor *c, struct cluster_operator *o)
{
    memset(o, 0, sizeof(*o));
    o->id = cursor_u64(c);
    o->kind = cursor_u8(c);
    o->origin = cursor_u8(c);
    uint8_t flags = cursor_u8(c);
    o->queued = flags & OP_QUEUED;
    o->cancelling = flags & OP_CANCELLING;
    o->turned = cursor_u8(c);
    o->outcome = cursor_u8(c);
    cluster_get_text(c, o->why, sizeof(o->why));
    o->group = cursor_u64(c);
    o->epoch.range = cursor_u32(c);
    o->epoch.members = cursor_u32(c);
    o->created_ms = cursor_u64(c);
    o->deadline_ms = cursor_u64(c);
    o->peer = cursor_u64(c);
    o->slot = cursor_u16(c);
    o->child = cursor_u64(c);
    o->child_replica = cursor_u64(c);
    o->bytes = cursor_u64(c);
    cluster_get_text(c, o->reason, sizeof(o->reason));
    o->at = cursor_u8(c);
    o->n_steps = cursor_u8(c);
    if (!operator_sane(o) || flags > (OP_QUEUED | OP_CANCELLING)) {
        c->bad = true;
        o->n_steps = 0;
    }
    for (uint32_t i = 0; i < o->n_steps && !c->bad; i++) {
        o->step[i].kind = cursor_u8(c);
        o->step[i].node = cursor_u32(c);
        o->step[i].replica = cursor_u64(c);
        if (o->step[i].kind < CLUSTER_STEP_CREATE || o->step[i].kind > CLUSTER_STEP_MERGE_UNFREEZE)
            c->bad = true;
    }
}

static void put_finished(struct buf *b, const struct cluster_finished *f)
{
    buf_u64(b, f->id);
    buf_u64(b, f->group);
    buf_u64(b, f->ended_ms);
    buf_u8(b, f->kind);
    buf_u8(b, f->outcome);
    cluster_put_text(b, f->reason);
    cluster_put_text(b, f->why);
}

static void get_finished(struct cursor *c, struct cluster_finished *f)
{
    memset(f, 0, sizeof(*f));
    f->id = cursor_u64(c);
    f->group = cursor_u64(c);
    f->ended_ms = cursor_u64(c);
    f->kind = cursor_u8(c);
    f->outcome = cursor_u8(c);
    cluster_get_text(c, f->reason, sizeof(f->reason));
    cluster_get_text(c, f->why, sizeof(f->why));
    if (f->kind < CLUSTER_OP_MOVE || f->kind > CLUSTER_OP_MERGE)
        c->bad = true;
}

void cluster_put_told(struct buf *b, const struct cluster_node *n)
{
    buf_u64(b, n->incarnation);
    buf_u16(b, n->cores);
    cluster_put_text(b, n->name);
    cluster_put_text(b, n->zone);
    cluster_put_text(b, n->host);
    cluster_put_text(b, n->client_addr);
    cluster_put_text(b, n->peer_addr);
}

void cluster_get_told(struct cursor *c, struct cluster_node *n)
{
    n->incarnation = cursor_u64(c);
    n->cores = cursor_u16(c);
    cluster_get_text(c, n->name, sizeof(n->name));
    cluster_get_text(c, n->zone, sizeof(n->zone));
    cluster_get_text(c, n->host, sizeof(n->host));
    cluster_get_text(c, n->client_addr, sizeof(n->client_addr));
    cluster_get_text(c, n->peer_addr, sizeof(n->peer_addr));
    if (!n->name[0])
        c->bad = true;
}

static void put_node(struct buf *b, const struct cluster_node *n)
{
    buf_u32(b, n->id);
    buf_u8(b, n->state);
    buf_u64(b, n->maintenance_until_ms);
    cluster_put_told(b, n);
}

static void get_node(struct cursor *c, struct cluster_node *n)
{
    memset(n, 0, sizeof(*n));
    n->id = cursor_u32(c);
    n->state = cursor_u8(c);
    n->maintenance_until_ms = cursor_u64(c);
    cluster_get_told(c, n);
    if (n->state < CLUSTER_NODE_IN || n->state > CLUSTER_NODE_REMOVED)
        c->bad = true;
}

/* ---- the whole ---- */

void cluster_encode(const struct cluster *c, struct buf *out)
{
    buf_u32(out, CLUSTER_FORMAT);
    buf_u8(out, c->founded);
    buf_append(out, c->id, 16);
    buf_u64(out, c->map_version);
    buf_u32(out, c->next_node);
    buf_u64(out, c->next_replica);
    buf_u64(out, c->next_group);
    buf_u64(out, c->next_operator);
    buf_u32(out, c->next_member);
    buf_u32(out, c->n_members);
    for (uint32_t i = 0; i < c->n_members; i++)
        cluster_put_member(out, &c->member[i]);
    buf_u32(out, c->n_removed);
    for (uint32_t i = 0; i < c->n_removed; i++)
        cluster_put_member(out, &c->removed[i]);
    buf_u32(out, c->n_nodes);
    for (uint32_t i = 0; i < c->n_nodes; i++)
        put_node(out, &c->nodes[i]);
    buf_u32(out, c->n_groups);
    for (uint32_t i = 0; i < c->n_groups; i++) {
        cluster_put_desc(out, &c->groups[i].desc);
        buf_u16(out, c->groups[i].created);
        buf_u64(out, c->groups[i].force);
    }
    buf_u32(out, c->n_operators);
    for (uint32_t i = 0; i < c->n_operators; i++)
        cluster_put_operator(out, &c->operators[i]);
    buf_u8(out, c->paused);
    buf_u8(out, c->recovering);
    buf_u64(out, c->unsure_from);
    buf_u64(out, c->unsure_to);
    buf_u32(out, c->n_finished);
    for (uint32_t i = 0; i < c->n_finished; i++)
        put_finished(out, &c->finished[i]);
    buf_u32(out, c->replicas);
}

static uint32_t get_count(struct cursor *c, uint32_t max, size_t item)
{
    uint32_t n = cursor_u32(c);
    if (n > max || n > c->left.n / item)
        c->bad = true;
    return c->bad ? 0 : n;
}

static void get_members(struct cursor *in, struct cluster *c)
{
    c->next_member = cursor_u32(in);
    uint32_t n = get_count(in, CLUSTER_MEMBERS_MAX, MEMBER_MIN);
    for (uint32_t i = 0; i < n && !in->bad; i++) {
        cluster_get_member(in, &c->member[i]);
        if ((i && c->member[i].id <= c->member[i - 1].id) || c->member[i].id >= c->next_member)
            in->bad = true;
        c->n_members = i + 1;
    }
    n = get_count(in, CLUSTER_REMOVED_MAX, MEMBER_MIN);
    for (uint32_t i = 0; i < n && !in->bad; i++) {
        cluster_get_member(in, &c->removed[i]);
        c->n_removed = i + 1;
    }
}

/* Ids must ascend and lie below the next one to be given: later changes count on it. */
static void get_lists(struct cursor *in, struct cluster *c)
{
    uint32_t n = get_count(in, LIMIT_NODES, NODE_MIN);
    for (uint32_t i = 0; i < n && !in->bad; i++) {
        struct cluster_node node;
        get_node(in, &node);
        if (node.id >= c->next_node || node.id <= (i ? c->nodes[i - 1].id : 0))
            in->bad = true;
        else
            cluster_add_node(c, &node);
    }
    n = get_count(in, CLUSTER_GROUPS_MAX, GROUP_MIN);
    for (uint32_t i = 0; i < n && !in->bad; i++) {
        struct shard_desc d;
        cluster_get_desc(in, &d);
        uint16_t created = cursor_u16(in);
        uint64_t force = cursor_u64(in);
        if (d.group >= c->next_group || d.group <= (i ? c->groups[i - 1].desc.group : 0))
            in->bad = true;
        if (in->bad)
            break;
        struct cluster_group *g = cluster_add_group(c, &d);
        g->created = created;
        g->force = force;
    }
    n = get_count(in, CLUSTER_OPERATORS_MAX, OPERATOR_MIN);
    for (uint32_t i = 0; i < n && !in->bad; i++) {
        struct cluster_operator o;
        cluster_get_operator(in, &o);
        if (o.id >= c->next_operator || o.id <= (i ? c->operators[i - 1].id : 0))
            in->bad = true;
        else
            cluster_add_operator(c, &o);
    }
}

static void get_rest(struct cursor *in, struct cluster *c)
{
    uint8_t paused = cursor_u8(in), recovering = cursor_u8(in);
    c->paused = paused == 1;
    c->recovering = recovering == 1;
    c->unsure_from = cursor_u64(in);
    c->unsure_to = cursor_u64(in);
    if (paused > 1 || recovering > 1)
        in->bad = true;
    uint32_t n = get_count(in, CLUSTER_FINISHED_MAX, FINISHED_MIN);
    for (uint32_t i = 0; i < n && !in->bad; i++) {
        struct cluster_finished f;
        get_finished(in, &f);
        cluster_add_finished(c, &f);
    }
}

enum err cluster_decode(struct slice in, struct cluster *out)
{
    struct cursor cur = cursor_of(in);
    struct cluster c;
    uint32_t format = cursor_u32(&cur);
    if (!cur.bad && format != CLUSTER_FORMAT)
        return ERR_FORMAT;
    cluster_init(&c);
    uint8_t founded = cursor_u8(&cur);
    c.founded = founded == 1;
    struct slice id = cursor_bytes(&cur, 16);
    if (!cur.bad && founded <= 1)
        memcpy(c.id, id.p, 16);
    else
        cur.bad = true;
    c.map_version = cursor_u64(&cur);
    c.next_node = cursor_u32(&cur);
    c.next_replica = cursor_u64(&cur);
    c.next_group = cursor_u64(&cur);
    c.next_operator = cursor_u64(&cur);
    get_members(&cur, &c);
    get_lists(&cur, &c);
    get_rest(&cur, &c);
    c.replicas = cursor_u32(&cur);
    if (c.replicas > LIMIT_GROUP_MEMBERS)
        cur.bad = true;
    if (cur.bad || cur.left.n != 0) {
        cluster_close(&c);
        return ERR_CORRUPT;
    }
    *out = c;
    return ERR_OK;
}
