/* The indexes are built once a round: nodes of replicas by binary search, replicas by node by
 * counting sort. After that every question is O(replicas of a group) or O(nodes). */
#include "placementd/plan/fit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/mem.h"

#define FIT_BYTES_MAX (1ULL << 48) /* of one replica */
#define FIT_OPS_MAX (1ULL << 32)   /* of one group, a second */
#define ROLE_VOTER 1u

/* Figures come from nodes: sums of them must not overflow whatever they say. */
static uint64_t at_most(uint64_t x, uint64_t max)
{
    return x < max ? x : max;
}

struct label {
    const char *text;
    uint32_t node;
};

static int label_compare(const void *a, const void *b)
{
    const struct label *x = a, *y = b;
    int c = strcmp(x->text, y->text);
    return c ? c : x->node < y->node ? -1 : x->node > y->node;
}

static const char *text_or_empty(const char *s)
{
    return s ? s : "";
}

/* A node without a host is a host of its own; without a zone, its host is a zone of its own. */
static void number_labels(struct fit *f)
{
    uint32_t n = f->v->n_nodes;
    struct label *l = mem_alloc(n * sizeof(*l));
    for (int zone = 0; zone < 2; zone++) {
        for (uint32_t i = 0; i < n; i++) {
            const struct plan_node *p = &f->v->nodes[i];
            l[i] = (struct label){text_or_empty(zone ? p->zone : p->host), i};
        }
        qsort(l, n, sizeof(*l), label_compare);
        uint32_t number = 0;
        for (uint32_t i = 0; i < n; i++) {
            if (i == 0 || l[i].text[0] == 0 || strcmp(l[i].text, l[i - 1].text) != 0)
                number++;
            struct fit_node *p = &f->node[l[i].node];
            if (!zone)
                p->host = number;
            else
                p->zone = l[i].text[0] ? number : n + p->host;
        }
        if (!zone)
            f->n_hosts = number;
    }
    free(l);
}

static void count_zones(struct fit *f)
{
    bool *seen = mem_zalloc(2 * (size_t)f->v->n_nodes + 1);
    for (uint32_t i = 0; i < f->v->n_nodes; i++) {
        const struct fit_node *p = &f->node[i];
        f->n_zones += p->stays && !seen[p->zone];
        seen[p->zone] |= p->stays;
    }
    free(seen);
}

void fit_open_nodes(struct fit *f, const struct plan_view *v)
{
    *f = (struct fit){.v = v, .n_groups = v->n_groups};
    f->node = mem_zalloc(v->n_nodes * sizeof(*f->node));
    for (uint32_t i = 0; i < v->n_nodes; i++) {
        const struct plan_node *p = &v->nodes[i];
        struct fit_node *o = &f->node[i];
        o->stays = p->state != PLAN_NODE_DEAD && !p->draining && p->disk_size != 0;
        o->leads = p->state == PLAN_NODE_UP && !p->draining && !p->maintenance;
        o->in = p->incoming;
        o->out = p->outgoing;
        o->coming = p->incoming_bytes;
    }
    number_labels(f);
    count_zones(f);
}

/* Which node each replica is on, and which replicas each node has. */
static void index_replicas(struct fit *f)
{
    const struct plan_view *v = f->v;
    size_t all = (size_t)v->n_groups * LIMIT_GROUP_MEMBERS, n = 0;
    f->at = mem_alloc(all * sizeof(*f->at));
    f->taken = mem_zalloc(v->n_groups * sizeof(*f->taken));
    for (uint32_t g = 0; g < v->n_groups; g++) {
        const struct shard_desc *d = v->groups[g].desc;
        f->taken[g] = v->groups[g].busy;
        f->operators += v->groups[g].busy;
        for (uint32_t i = 0; i < LIMIT_GROUP_MEMBERS; i++) {
            uint32_t at = i < d->n_replicas ? fit_find(v, d->replica[i].node) : FIT_NONE;
            f->at[(size_t)g * LIMIT_GROUP_MEMBERS + i] = at;
            if (at != FIT_NONE) {
                f->node[at].n++;
                n++;
            }
        }
    }
    f->by_node = mem_alloc(n * sizeof(*f->by_node));
    uint32_t first = 0;
    for (uint32_t i = 0; i < v->n_nodes; i++) {
        f->node[i].first = first;
        first += f->node[i].n;
        f->node[i].n = 0;
    }
    for (size_t a = 0; a < all; a++) {
        if (f->at[a] != FIT_NONE) {
            struct fit_node *p = &f->node[f->at[a]];
            f->by_node[p->first + p->n++] = (uint32_t)a;
        }
    }
}

/* A transfer under way counts as done. */
static void count_leader(struct fit *f, uint32_t g)
{
    const struct plan_group *p = &f->v->groups[g];
    int now = fit_leader(p), next = now;
    for (uint32_t i = 0; p->next_leader != 0 && i < p->desc->n_replicas; i++)
        if (p->desc->replica[i].replica == p->next_leader)
            next = (int)i;
    if (now != next && now >= 0 && fit_at(f, g)[now] != FIT_NONE)
        f->node[fit_at(f, g)[now]].lead_out++;
    if (next < 0 || fit_at(f, g)[next] == FIT_NONE)
        return;
    struct fit_node *at = &f->node[fit_at(f, g)[next]];
    at->lead += fit_leader_weight(p);
    at->leaders++;
    at->lead_in += now != next;
}

/* A standby of a busy group is on its way: its node's incoming moves count it already. What leaves
 * a node is still in its groups: it is taken off with the weight of an average replica of it. */
static void count_loads(struct fit *f)
{
    const struct plan_view *v = f->v;
    for (uint32_t g = 0; g < v->n_groups; g++) {
        const struct plan_group *p = &v->groups[g];
        for (uint32_t i = 0; i < p->desc->n_replicas; i++) {
            uint32_t at = fit_at(f, g)[i];
            if (at != FIT_NONE && !(p->busy && p->desc->replica[i].role != ROLE_VOTER))
                f->node[at].load += (int64_t)fit_weight(p);
        }
        count_leader(f, g);
    }
    double load = 0, size = 0, lead = 0;
    uint32_t leading = 0;
    for (uint32_t i = 0; i < v->n_nodes; i++) {
        struct fit_node *p = &f->node[i];
        int64_t leaving = p->n ? p->load / p->n * (p->out < p->n ? p->out : p->n) : 0;
        p->load += (int64_t)(at_most(v->nodes[i].incoming_bytes, FIT_BYTES_MAX) +
                             p->in * FIT_REPLICA_WEIGHT) -
                   leaving;
        load += (double)p->load;
        lead += (double)p->lead;
        size += p->stays ? (double)v->nodes[i].disk_size : 0;
        leading += p->leads;
    }
    f->mean = size > 0 ? load / size : 0;
    f->lead_mean = leading ? lead / leading : 0;
}

void fit_open(struct fit *f, const struct plan_view *v, struct plan_list *out)
{
    fit_open_nodes(f, v);
    f->out = out;
    index_replicas(f);
    count_loads(f);
}

void fit_close(struct fit *f)
{
    free(f->node);
    free(f->at);
    free(f->by_node);
    free(f->taken);
    memset(f, 0, sizeof(*f));
}

uint32_t fit_find(const struct plan_view *v, uint32_t id)
{
    const struct plan_node *p = plan_find_node(v, id);
    return p ? (uint32_t)(p - v->nodes) : FIT_NONE;
}

uint64_t fit_weight(const struct plan_group *g)
{
    return at_most(g->bytes, FIT_BYTES_MAX) + FIT_REPLICA_WEIGHT;
}

uint64_t fit_leader_weight(const struct plan_group *g)
{
    return at_most(g->requests, FIT_OPS_MAX) + FIT_LEADER_WEIGHT;
}

double fit_level(const struct fit *f, uint32_t node, uint64_t add, uint64_t sub)
{
    uint64_t size = f->v->nodes[node].disk_size;
    if (size == 0 || f->mean <= 0)
        return 0;
    double load = (double)f->node[node].load + (double)add - (double)sub;
    return load / (double)size / f->mean;
}

double fit_lead_level(const struct fit *f, uint32_t node, uint64_t add, uint64_t sub)
{
    if (f->lead_mean <= 0)
        return 0;
    return ((double)f->node[node].lead + (double)add - (double)sub) / f->lead_mean;
}

bool fit_bad(const struct fit *f, uint32_t g, uint32_t i)
{
    uint32_t at = fit_at(f, g)[i];
    return at == FIT_NONE || f->v->nodes[at].state == PLAN_NODE_DEAD ||
           (f->v->groups[g].missing >> i & 1);
}

bool fit_healthy(const struct fit *f, uint32_t g, uint32_t i)
{
    const struct plan_group *p = &f->v->groups[g];
    return p->desc->replica[i].role == ROLE_VOTER && !fit_bad(f, g, i) &&
           f->v->nodes[fit_at(f, g)[i]].state == PLAN_NODE_UP && !(p->lagging >> i & 1);
}

uint32_t fit_voters(const struct plan_group *g)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->desc->n_replicas; i++)
        n += g->desc->replica[i].role == ROLE_VOTER;
    return n;
}

uint32_t fit_healthy_voters(const struct fit *f, uint32_t g)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->v->groups[g].desc->n_replicas; i++)
        n += fit_healthy(f, g, i);
    return n;
}

bool fit_exchanges(const struct plan_group *g)
{
    return fit_voters(g) != 2;
}

bool fit_has_quorum(const struct fit *f, uint32_t g)
{
    return fit_healthy_voters(f, g) > fit_voters(&f->v->groups[g]) / 2;
}

bool fit_calm(const struct fit *f, uint32_t g)
{
    return !f->taken[g] && fit_healthy_voters(f, g) == f->v->groups[g].desc->n_replicas;
}

int fit_leader(const struct plan_group *g)
{
    for (uint32_t i = 0; g->desc->leader != 0 && i < g->desc->n_replicas; i++)
        if (g->desc->replica[i].replica == g->desc->leader)
            return (int)i;
    return -1;
}

struct fit_pairs fit_pairs(const struct fit *f, const struct plan_group *g, const uint32_t *at,
                           int leaving, uint32_t node)
{
    struct fit_pairs p = {0, 0};
    for (uint32_t i = 0; i < g->desc->n_replicas; i++) {
        if ((int)i == leaving || at[i] == FIT_NONE)
            continue;
        p.host += f->node[at[i]].host == f->node[node].host;
        p.zone += f->node[at[i]].zone == f->node[node].zone;
    }
    return p;
}

static bool disk_too_full(const struct fit *f, const struct plan_group *g, uint32_t node)
{
    const struct plan_node *p = &f->v->nodes[node];
    double used = (double)p->disk_size - (double)p->disk_free + (double)f->node[node].coming;
    used += g ? (double)g->bytes : 0;
    return used * 100 > (double)p->disk_size * f->v->options.disk_full_percent;
}

/* A rule that is broken already by the replica that goes may stay broken; one on `node` more than
 * that must not come. Where all nodes are on one host there is nothing to keep apart. */
static enum fit_verdict judge_spread(const struct fit *f, const struct plan_group *g,
                                     const uint32_t *at, int leaving, uint32_t node)
{
    struct fit_pairs there = fit_pairs(f, g, at, leaving, node), here = {0, 0};
    if (leaving >= 0 && at[leaving] != FIT_NONE)
        here = fit_pairs(f, g, at, leaving, at[leaving]);
    if (there.host > here.host && f->n_hosts > 1)
        return FIT_HOST;
    uint32_t after = g->desc->n_replicas + (leaving < 0);
    uint32_t zones = f->n_zones ? f->n_zones : 1;
    if (there.zone > here.zone && there.zone + 1 > (after + zones - 1) / zones)
        return FIT_ZONE;
    return FIT_OK;
}

enum fit_verdict fit_judge(const struct fit *f, const struct plan_group *g, const uint32_t *at,
                           int leaving, uint32_t node, bool limits)
{
    const struct plan_node *p = &f->v->nodes[node];
    if (p->state != PLAN_NODE_UP)
        return FIT_UNKNOWN_STATE;
    if (p->draining)
        return FIT_DRAINING;
    if (p->maintenance)
        return FIT_MAINTENANCE;
    if (p->disk_size == 0)
        return FIT_SIZE;
    for (uint32_t i = 0; g && i < g->desc->n_replicas; i++)
        if (at[i] == node)
            return FIT_HAS;
    if (disk_too_full(f, g, node))
        return FIT_DISK;
    if (limits && f->node[node].in >= f->v->options.max_moves)
        return FIT_LIMIT;
    return g ? judge_spread(f, g, at, leaving, node) : FIT_OK;
}

void fit_explain(const struct fit *f, enum fit_verdict verdict, const struct plan_group *g,
                 uint32_t node, char *why, size_t n)
{
    const struct plan_node *p = &f->v->nodes[node];
    const char *name = fit_name(f, node);
    const char *state = p->state == PLAN_NODE_SUSPECT ? "not heard of for some seconds" : "down";
    double used = (double)p->disk_size - (double)p->disk_free + (double)f->node[node].coming +
                  (g ? (double)g->bytes : 0);
    switch (verdict) {
    case FIT_OK:
        snprintf(why, n, "%s", "");
        return;
    case FIT_UNKNOWN_STATE:
        snprintf(why, n, "%s is %s", name, state);
        return;
    case FIT_DRAINING:
        snprintf(why, n, "%s is draining", name);
        return;
    case FIT_MAINTENANCE:
        snprintf(why, n, "%s is in maintenance", name);
        return;
    case FIT_SIZE:
        snprintf(why, n, "%s has not said yet how large its disk is", name);
        return;
    case FIT_DISK:
        snprintf(why, n, "%s's disk would be %.0f%% full, %u%% is the limit", name,
                 used * 100 / (double)p->disk_size, f->v->options.disk_full_percent);
        return;
    case FIT_HAS:
        snprintf(why, n, "%s has a replica of the group already", name);
        return;
    case FIT_HOST:
        snprintf(why, n, "%s is on host %s, which has a replica of the group already", name,
                 text_or_empty(p->host));
        return;
    case FIT_ZONE:
        snprintf(why, n, "%s is in zone %s, which has replicas enough of the group", name,
                 text_or_empty(p->zone));
        return;
    case FIT_LIMIT:
        snprintf(why, n, "%u replicas are on their way to %s already", f->node[node].in, name);
        return;
    }
}

static bool zones_allow(struct fit_pairs there, struct fit_pairs here, enum fit_zones zones)
{
    if (zones == FIT_ZONES_PREFER)
        return true;
    if (zones == FIT_ZONES_KEEP)
        return there.host <= here.host && there.zone <= here.zone;
    return there.host != here.host ? there.host < here.host : there.zone < here.zone;
}

uint32_t fit_best(const struct fit *f, uint32_t g, int leaving, enum fit_zones zones, bool limits)
{
    const struct plan_group *p = &f->v->groups[g];
    const uint32_t *at = fit_at(f, g);
    struct fit_pairs here = {0, 0}, best_pairs = {0, 0};
    if (leaving >= 0 && at[leaving] != FIT_NONE)
        here = fit_pairs(f, p, at, leaving, at[leaving]);
    uint32_t best = FIT_NONE;
    double best_level = 0;
    for (uint32_t i = 0; i < f->v->n_nodes; i++) {
        enum fit_verdict verdict = fit_judge(f, p, at, leaving, i, limits);
        if (verdict != FIT_OK && (verdict != FIT_ZONE || zones == FIT_ZONES_BETTER))
            continue;
        struct fit_pairs there = fit_pairs(f, p, at, leaving, i);
        if (!zones_allow(there, here, zones))
            continue;
        double level = fit_level(f, i, fit_weight(p), 0);
        bool better = level < best_level;
        if (there.host != best_pairs.host)
            better = there.host < best_pairs.host;
        else if (there.zone != best_pairs.zone)
            better = there.zone < best_pairs.zone;
        if (best == FIT_NONE || better) {
            best = i;
            best_pairs = there;
            best_level = level;
        }
    }
    return best;
}

uint32_t fit_best_soon(const struct fit *f, uint32_t g, int leaving)
{
    const struct plan_group *p = &f->v->groups[g];
    const uint32_t *at = fit_at(f, g);
    uint32_t now = fit_best(f, g, leaving, FIT_ZONES_PREFER, true);
    if (now == FIT_NONE || fit_pairs(f, p, at, leaving, now).zone == 0)
        return now;
    uint32_t later = fit_best(f, g, leaving, FIT_ZONES_PREFER, false);
    if (fit_pairs(f, p, at, leaving, later).zone < fit_pairs(f, p, at, leaving, now).zone)
        return FIT_NONE;
    return now;
}

bool fit_room(const struct fit *f, bool balancer)
{
    /* A quarter is kept for what must not wait: repair and drains. */
    uint32_t max = f->v->options.max_operators;
    if (balancer)
        max -= max / 4;
    return max == 0 || f->operators < max;
}

const char *fit_name(const struct fit *f, uint32_t node)
{
    return node == FIT_NONE ? "?" : f->v->nodes[node].name;
}

struct plan_op fit_op(const struct fit *f, uint8_t kind, uint32_t g, int i, uint32_t to)
{
    const struct plan_group *p = &f->v->groups[g];
    struct plan_op op = {.kind = kind, .group = p->desc->group};
    if (i >= 0) {
        op.replica = p->desc->replica[i].replica;
        op.from = p->desc->replica[i].node;
    }
    if (to != FIT_NONE)
        op.to = f->v->nodes[to].id;
    if (kind == PLAN_MOVE || kind == PLAN_REPLACE || kind == PLAN_ADD)
        op.bytes = p->bytes;
    return op;
}

static void count_transfer(struct fit *f, const struct plan_group *p, uint32_t from, uint32_t to)
{
    if (from != FIT_NONE) {
        f->node[from].lead -= fit_leader_weight(p);
        f->node[from].leaders--;
        f->node[from].lead_out++;
    }
    f->node[to].lead += fit_leader_weight(p);
    f->node[to].leaders++;
    f->node[to].lead_in++;
}

void fit_propose(struct fit *f, uint32_t g, const struct plan_op *op)
{
    const struct plan_group *p = &f->v->groups[g];
    uint32_t from = op->from ? fit_find(f->v, op->from) : FIT_NONE;
    uint32_t to = op->to ? fit_find(f->v, op->to) : FIT_NONE;
    CHECK(!f->taken[g]);
    f->taken[g] = true;
    f->operators++;
    plan_list_add(f->out, op);
    if (op->kind == PLAN_TRANSFER) {
        count_transfer(f, p, from, to);
        return;
    }
    if (op->kind == PLAN_SPLIT) {
        f->n_groups++;
        return;
    }
    if (to != FIT_NONE) {
        f->node[to].in++;
        f->node[to].coming += op->bytes;
        f->node[to].load += (int64_t)fit_weight(p);
    }
    if (from != FIT_NONE) {
        f->node[from].load -= (int64_t)fit_weight(p);
        /* A dead node sends nothing: the group's leader does. */
        f->node[from].out += op->kind == PLAN_MOVE;
    }
}
