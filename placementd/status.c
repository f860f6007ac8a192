#include "placementd/status.h"

#include <stdarg.h>
#include <stdio.h>

#include "common/wire/mp.h"
#include "placementd/cluster_index.h"
#include "placementd/operator.h"
#include "placementd/server.h"
#include "placementd/server_members.h"

static void pair_heard(struct buf *b, bool known, uint64_t heard, uint64_t now)
{
    mp_put_str(b, "heard_ms");
    if (known)
        mp_put_uint(b, now > heard ? (now - heard) / NS_PER_MS : 0);
    else
        mp_put_nil(b);
}

/* ---- health ---- */

#define REASONS_MAX 8u

struct health {
    unsigned n, forming, unavailable;
    char reason[REASONS_MAX][160];
};

__attribute__((format(printf, 2, 3))) static void because(struct health *h, const char *fmt, ...)
{
    va_list args;
    if (h->n == REASONS_MAX)
        return;
    va_start(args, fmt);
    vsnprintf(h->reason[h->n++], sizeof(h->reason[0]), fmt, args);
    va_end(args);
}

/* Of a node that is down for good. */
static const char *replacing(const struct server *s, uint32_t node, char buf[120])
{
    if (cluster_replicas_on(&s->fsm.cluster, node))
        return " (its replicas are being replaced)";
    snprintf(buf, 120, " (its replicas are replaced; for good: kvctl node remove %.40s)",
             cluster_find_node(&s->fsm.cluster, node)->name);
    return buf;
}

/* What happens, and when, to the replicas of a node that is not up. */
static void judge_node(const struct server *s, const struct cluster_node *n, uint64_t now,
                       struct health *h)
{
    enum liveness_state state = liveness_state(&s->live, n->id, now);
    const struct live_node *live = liveness_node(&s->live, n->id);
    uint64_t wall = io_wall_ms(s->io), dead = s->driver.options.down_after_ns;
    uint64_t silent = live && now > live->heard ? now - live->heard : 0;
    char left[24], text[120];
    if (state != LIVE_SUSPECT && state != LIVE_DOWN)
        return;
    if (n->maintenance_until_ms > wall)
        because(h, "node %s is %s (in maintenance for another %s)", n->name,
                liveness_state_name(state), admin_time(n->maintenance_until_ms - wall, left));
    else if (state == LIVE_DOWN && silent < dead)
        because(h, "node %s is down (replaced in %s)", n->name,
                admin_time((dead - silent) / NS_PER_MS, left));
    else
        because(h, "node %s is %s%s", n->name, liveness_state_name(state),
                state == LIVE_DOWN ? replacing(s, n->id, text) : "");
}

static bool replica_up(const struct server *s, uint32_t node, uint64_t now)
{
    const struct cluster_node *n = cluster_find_node(&s->fsm.cluster, node);
    enum liveness_state state = liveness_state(&s->live, node, now);
    return n && n->state != CLUSTER_NODE_LOST && state != LIVE_DOWN && state != LIVE_SUSPECT;
}

static void judge_groups(const struct server *s, uint64_t now, struct health *h)
{
    const struct cluster *c = &s->fsm.cluster;
    unsigned leaderless = 0, thin = 0, dead = 0, least = 0, of = 0;
    for (uint32_t i = 0; i < c->n_groups; i++) {
        const struct shard_desc *d = &c->groups[i].desc;
        unsigned voters = 0, up = 0;
        for (uint32_t j = 0; j < d->n_replicas; j++) {
            if (d->replica[j].role != GROUP_VOTER)
                continue;
            voters++;
            up += replica_up(s, d->replica[j].node, now);
        }
        bool majority = up >= voters / 2 + 1;
        dead += !majority;
        if (majority && up < voters && (thin++ == 0 || up < least)) {
            least = up;
            of = voters;
        }
        leaderless += liveness_leader(&s->live, &c->groups[i]) == 0;
    }
    if (dead) {
        because(h, "%u of %u groups have lost their majority", dead, c->n_groups);
        h->unavailable++;
    }
    if (thin)
        because(h,
                thin == 1 ? "%u group runs on %u of %u replicas"
                          : "%u groups run on %u of %u replicas",
                thin, least, of);
    if (leaderless) {
        because(h, "%u of %u groups have no known leader", leaderless, c->n_groups);
        h->forming += dead == 0;
    }
}

static void judge_members(struct server *s, uint64_t now, struct health *h)
{
    char note[160];
    bool silent = false;
    membership_note(server_membership(s), note, sizeof(note));
    for (uint32_t i = 0; i < s->members.n; i++) {
        const struct member *m = &s->members.member[i];
        const struct cluster_member *k = cluster_find_member(&s->fsm.cluster, m->id);
        if (m == s->self || now - m->heard <= 2 * NS_PER_S || !k || k->incarnation == 0)
            continue;
        because(h, "placementd member %u is not heard", m->id);
        silent = true;
    }
    if (note[0] && !(silent && strstr(note, "is not heard")))
        because(h, "%s", note);
}

static const char *judge(struct server *s, uint64_t now, struct health *h)
{
    const struct cluster *c = &s->fsm.cluster;
    if (server_leader(s) == 0) {
        because(h, "placementd has no leader");
        return "unavailable";
    }
    if (!fsm_leads(&s->fsm)) {
        because(h, "asked a follower: ask member %u at leader_addr", server_leader(s));
        return "unknown";
    }
    if (c->recovering) {
        because(h, "the map is being recovered: kvctl cluster recover --plan");
        return "forming";
    }
    if (c->n_groups == 0) {
        because(h, "not laid out yet: kvctl cluster init");
        return "forming";
    }
    for (uint32_t i = 0; i < c->n_nodes; i++)
        if (c->nodes[i].state == CLUSTER_NODE_IN || c->nodes[i].state == CLUSTER_NODE_DRAINING)
            judge_node(s, &c->nodes[i], now, h);
    judge_groups(s, now, h);
    judge_members(s, now, h);
    return h->unavailable ? "unavailable" : h->forming ? "forming" : h->n ? "degraded" : "ok";
}

/* ---- parts ---- */

static void put_members(struct server *s, uint64_t now, struct buf *b)
{
    const struct membership *view = server_membership(s);
    mp_put_str(b, "members");
    mp_put_array(b, s->members.n);
    for (uint32_t i = 0; i < s->members.n; i++) {
        const struct member *m = &s->members.member[i];
        char peer[64];
        io_addr_format(&m->peer, peer);
        mp_put_map(b, 7);
        mp_put_pair(b, "id", m->id);
        mp_put_pair_str(b, "role", membership_role(view, m->id));
        mp_put_pair_str(b, "client", server_client_addr(s, m->id));
        mp_put_pair_str(b, "peer", peer);
        mp_put_pair_bool(b, "leader", m->id == server_leader(s));
        mp_put_pair_bool(b, "self", m == s->self);
        pair_heard(b, m == s->self || m->heard, m == s->self ? now : m->heard, now);
    }
}

static const char *node_state(const struct server *s, const struct cluster_node *n, uint64_t now)
{
    if (n->state == CLUSTER_NODE_LOST)
        return "lost";
    if (n->state == CLUSTER_NODE_REMOVED)
        return "removed";
    if (!fsm_leads(&s->fsm))
        return "unknown";
    enum liveness_state live = liveness_state(&s->live, n->id, now);
    if (n->state == CLUSTER_NODE_DRAINING && live == LIVE_UP)
        return "draining";
    return liveness_state_name(live);
}

static void put_nodes(struct server *s, uint64_t now, struct buf *b)
{
    const struct cluster *c = &s->fsm.cluster;
    uint64_t wall = io_wall_ms(s->io);
    struct count {
        uint32_t replicas, leaders;
    };
    struct map counts; /* node id -> its place in c->nodes, to count in one pass over the groups */
    struct buf memory = {0};
    struct count *count =
        (struct count *)(void *)buf_extend(&memory, (c->n_nodes + 1u) * sizeof(struct count));
    memset(count, 0, (c->n_nodes + 1u) * sizeof(*count));
    map_init(&counts);
    for (uint32_t i = 0; i < c->n_nodes; i++)
        map_set(&counts, c->nodes[i].id, &count[i]);
    for (uint32_t i = 0; i < c->n_groups; i++) {
        uint64_t leader = liveness_leader(&s->live, &c->groups[i]);
        for (uint32_t j = 0; j < c->groups[i].desc.n_replicas; j++) {
            const struct shard_replica *r = &c->groups[i].desc.replica[j];
            struct count *n = map_find(&counts, r->node);
            if (!n)
                continue;
            n->replicas++;
            n->leaders += r->replica == leader;
        }
    }
    mp_put_str(b, "nodes");
    mp_put_array(b, c->n_nodes);
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        const struct cluster_node *n = &c->nodes[i];
        const struct live_node *live = liveness_node(&s->live, n->id);
        mp_put_map(b, 16);
        mp_put_pair(b, "id", n->id);
        mp_put_pair_str(b, "name", n->name);
        mp_put_pair_str(b, "address", n->client_addr);
        mp_put_pair_str(b, "peer", n->peer_addr);
        mp_put_pair_str(b, "zone", n->zone);
        mp_put_pair_str(b, "host", n->host);
        mp_put_pair_str(b, "state", node_state(s, n, now));
        mp_put_pair(b, "leaders", count[i].leaders);
        mp_put_pair(b, "replicas", count[i].replicas);
        mp_put_pair(b, "bytes", live ? live->bytes : 0);
        mp_put_pair(b, "disk_free", live ? live->disk_free : 0);
        mp_put_pair(b, "disk_size", live ? live->disk_size : 0);
        mp_put_pair(b, "cores", n->cores);
        pair_heard(b, live != NULL, live ? live->heard : 0, now);
        mp_put_pair_bool(b, "draining", n->state == CLUSTER_NODE_DRAINING);
        mp_put_pair(b, "maintenance_ms",
                    n->maintenance_until_ms > wall ? n->maintenance_until_ms - wall : 0);
    }
    map_close(&counts);
    buf_close(&memory);
}

static uint64_t match_of(const struct live_group *live, uint64_t replica)
{
    for (uint32_t i = 0; live && i < live->n_members; i++)
        if (live->member[i].replica == replica)
            return live->member[i].match;
    return 0;
}

static void put_group(const struct server *s, const struct cluster_group *g, struct buf *b)
{
    static const char *const roles[] = {"standby", "voter", "spare"};
    const struct shard_desc *d = &g->desc;
    const struct live_group *live = liveness_group(&s->live, d->group);
    uint64_t leader = liveness_leader(&s->live, g);
    int at = cluster_replica_index(g, leader);
    mp_put_map(b, 11);
    mp_put_pair(b, "id", d->group);
    mp_put_pair(b, "first_slot", d->first_slot);
    mp_put_pair(b, "last_slot", d->last_slot);
    mp_put_str(b, "epoch");
    mp_put_array(b, 2);
    mp_put_uint(b, d->epoch.range);
    mp_put_uint(b, d->epoch.members);
    mp_put_pair(b, "leader", at >= 0 ? d->replica[at].node : 0);
    mp_put_pair(b, "term", live ? live->term : 0);
    mp_put_str(b, "replicas");
    mp_put_array(b, d->n_replicas);
    for (uint32_t i = 0; i < d->n_replicas; i++) {
        mp_put_map(b, 5);
        mp_put_pair(b, "node", d->replica[i].node);
        mp_put_pair(b, "id", d->replica[i].replica);
        mp_put_pair_str(b, "role", d->replica[i].role <= 2 ? roles[d->replica[i].role] : "?");
        mp_put_pair(b, "match", match_of(live, d->replica[i].replica));
        mp_put_pair_bool(b, "created", g->created >> i & 1);
    }
    mp_put_pair(b, "bytes", live ? live->bytes : 0);
    mp_put_pair(b, "keys", live ? live->keys : 0);
    mp_put_pair(b, "reads", live ? live->reads : 0);
    mp_put_pair(b, "writes", live ? live->writes : 0);
}

static const char *operator_state(const struct cluster_operator *o)
{
    return o->queued ? "queued" : o->cancelling ? "cancelling" : "running";
}

static void put_operators(struct server *s, struct buf *b)
{
    const struct cluster *c = &s->fsm.cluster;
    struct admin_world w = server_admin_world(s);
    uint64_t wall = w.m.wall_ms;
    char from_name[24], to_name[24], waits[200];
    uint32_t from, to;
    mp_put_str(b, "operators");
    mp_put_array(b, c->n_operators);
    for (uint32_t i = 0; i < c->n_operators; i++) {
        const struct cluster_operator *o = &c->operators[i];
        admin_ends_now(&w, o, &from, &to);
        admin_waits_for(&w, o, waits, sizeof(waits));
        mp_put_map(b, 14);
        mp_put_pair(b, "id", o->id);
        mp_put_pair_str(b, "kind", operator_kind_name(o->kind));
        mp_put_pair(b, "group", o->group);
        mp_put_pair(b, "step", o->at);
        mp_put_pair(b, "steps", o->n_steps);
        mp_put_pair_str(b, "reason", o->reason);
        mp_put_pair_str(b, "state", operator_state(o));
        mp_put_pair_str(b, "doing",
                        o->at < o->n_steps ? operator_step_name(o->step[o->at].kind) : "");
        mp_put_pair_str(b, "from", admin_node_name(&w, from, from_name));
        mp_put_pair_str(b, "to", admin_node_name(&w, to, to_name));
        mp_put_pair(b, "bytes", o->bytes);
        mp_put_pair(b, "moved", admin_moved(&w, o));
        mp_put_pair(b, "age_ms", wall > o->created_ms ? wall - o->created_ms : 0);
        mp_put_pair_str(b, "waits_for", waits);
    }
}

void status_encode(struct server *s, struct buf *b)
{
    const struct cluster *c = &s->fsm.cluster;
    uint64_t now = io_now(s->io);
    uint32_t leader = server_leader(s);
    struct health health = {0};
    char hex[33];
    for (unsigned i = 0; i < 16; i++)
        snprintf(hex + 2 * i, 3, "%02x", c->id[i]);
    const char *verdict = judge(s, now, &health);
    mp_put_map(b, 14);
    mp_put_pair(b, "schema", 1);
    mp_put_pair_str(b, "cluster", c->founded ? hex : "");
    mp_put_pair(b, "version", c->map_version);
    mp_put_pair_str(b, "health", verdict);
    mp_put_str(b, "reasons");
    mp_put_array(b, health.n);
    for (unsigned i = 0; i < health.n; i++)
        mp_put_str(b, health.reason[i]);
    mp_put_pair(b, "from", s->self->id);
    mp_put_pair(b, "leader", leader);
    mp_put_pair_str(b, "leader_addr", leader ? server_client_addr(s, leader) : "");
    mp_put_pair_bool(b, "authoritative", fsm_leads(&s->fsm));
    mp_put_pair_bool(b, "paused", c->paused);
    put_members(s, now, b);
    put_nodes(s, now, b);
    mp_put_str(b, "groups");
    mp_put_array(b, c->n_groups);
    for (uint32_t i = 0; i < c->n_groups; i++)
        put_group(s, &c->groups[i], b);
    put_operators(s, b);
}
