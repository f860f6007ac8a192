/* Plays rounds through on a copy of the view, each operator as if done at once, until nothing more
 * is proposed.
 *
 * What fits on a node at a time matters for the order only, so more is let through in one round
 * than in earnest where there is much to do: a preview takes some dozens of rounds. Peaks of disk
 * are then what they can be at most. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "placementd/plan/fit.h"

#define ROLE_VOTER 1u
#define ROUNDS_MAX 1000u
#define RATE_ASSUMED (100 * MIB) /* of a node, when there is no budget */

struct play {
    struct plan_view v; /* of the copies below */
    struct plan_node *nodes;
    struct plan_group *groups;
    struct shard_desc *descs;
    uint64_t next_replica;
    uint64_t *in, *out, *peak; /* bytes in and out of each node; its disk at most */
    unsigned lowest;
};

static void play_open(struct play *p, const struct plan_view *v)
{
    *p = (struct play){.v = *v, .lowest = UINT32_MAX, .next_replica = 1};
    p->nodes = mem_dup(v->nodes, v->n_nodes * sizeof(*p->nodes));
    p->groups = mem_dup(v->groups, v->n_groups * sizeof(*p->groups));
    p->descs = mem_alloc(v->n_groups * sizeof(*p->descs));
    p->in = mem_zalloc(v->n_nodes * sizeof(*p->in));
    p->out = mem_zalloc(v->n_nodes * sizeof(*p->out));
    p->peak = mem_zalloc(v->n_nodes * sizeof(*p->peak));
    uint32_t replicas = 0;
    for (uint32_t g = 0; g < v->n_groups; g++) {
        p->descs[g] = *v->groups[g].desc;
        p->groups[g].desc = &p->descs[g];
        replicas += p->descs[g].n_replicas;
        for (uint32_t i = 0; i < p->descs[g].n_replicas; i++)
            if (p->descs[g].replica[i].replica >= p->next_replica)
                p->next_replica = p->descs[g].replica[i].replica + 1;
    }
    for (uint32_t i = 0; i < v->n_nodes; i++) {
        if (p->nodes[i].disk_free > p->nodes[i].disk_size)
            p->nodes[i].disk_free = p->nodes[i].disk_size;
        p->peak[i] = p->nodes[i].disk_size - p->nodes[i].disk_free;
    }
    p->v.nodes = p->nodes;
    p->v.groups = p->groups;
    uint32_t at_once = v->n_nodes ? replicas / v->n_nodes / 16 : 0;
    if (p->v.options.max_moves < at_once)
        p->v.options.max_moves = at_once;
    uint32_t most = 0; /* what is under way stays so in the copy: it must not block it */
    for (uint32_t i = 0; i < v->n_nodes; i++) {
        most = v->nodes[i].incoming > most ? v->nodes[i].incoming : most;
        most = v->nodes[i].outgoing > most ? v->nodes[i].outgoing : most;
    }
    p->v.options.max_moves += most;
    p->v.options.max_operators = 0;
}

static void play_close(struct play *p)
{
    free(p->nodes);
    free(p->groups);
    free(p->descs);
    free(p->in);
    free(p->out);
    free(p->peak);
}

/* Bytes that come are there before those that go are gone. */
static void arrive(struct play *p, const struct plan_op *op)
{
    uint32_t to = op->to ? fit_find(&p->v, op->to) : FIT_NONE;
    if (to == FIT_NONE)
        return;
    struct plan_node *n = &p->nodes[to];
    p->in[to] += op->bytes;
    n->disk_free -= op->bytes < n->disk_free ? op->bytes : n->disk_free;
    uint64_t used = n->disk_size - n->disk_free;
    p->peak[to] = used > p->peak[to] ? used : p->peak[to];
}

static void leave(struct play *p, const struct plan_op *op, uint64_t bytes)
{
    uint32_t from = op->from ? fit_find(&p->v, op->from) : FIT_NONE;
    if (from == FIT_NONE || op->kind == PLAN_TRANSFER)
        return;
    struct plan_node *n = &p->nodes[from];
    p->out[from] += op->bytes;
    n->disk_free += bytes;
    n->disk_free = n->disk_free > n->disk_size ? n->disk_size : n->disk_free;
}

/* A bit mask without its bit `i`; higher ones move down. */
static uint16_t without_bit(uint16_t mask, uint32_t i)
{
    uint32_t low = (1u << i) - 1;
    return (uint16_t)((mask & low) | (mask >> 1 & ~low));
}

static void drop_replica(struct plan_group *g, struct shard_desc *d, uint32_t i)
{
    memmove(&d->replica[i], &d->replica[i + 1], (d->n_replicas - i - 1) * sizeof(d->replica[0]));
    d->n_replicas--;
    g->lagging = without_bit(g->lagging, i);
    g->missing = without_bit(g->missing, i);
}

/* Changes the group as the operator does. */
static void carry_out(struct play *p, uint32_t g, const struct plan_op *op)
{
    struct shard_desc *d = &p->descs[g];
    struct plan_group *group = &p->groups[g];
    if (op->kind == PLAN_TRANSFER) {
        d->leader = op->replica;
        return;
    }
    uint32_t i = 0;
    while (i < d->n_replicas && (op->kind == PLAN_ADD || d->replica[i].replica != op->replica))
        i++;
    if (op->kind == PLAN_REMOVE) {
        drop_replica(group, d, i);
        return;
    }
    if (i == d->n_replicas)
        d->n_replicas++;
    bool led = d->leader != 0 && d->leader == op->replica;
    d->replica[i] = (struct shard_replica){p->next_replica++, op->to, ROLE_VOTER};
    group->lagging = (uint16_t)(group->lagging & ~(1u << i));
    group->missing = (uint16_t)(group->missing & ~(1u << i));
    if (led) /* leadership went to another before */
        d->leader = d->replica[i ? 0 : 1 % d->n_replicas].replica;
}

static void note_voters(struct play *p)
{
    struct fit f;
    fit_open(&f, &p->v, NULL);
    for (uint32_t g = 0; g < p->v.n_groups; g++) {
        uint32_t n = fit_healthy_voters(&f, g);
        p->lowest = n < p->lowest ? n : p->lowest;
    }
    fit_close(&f);
}

typedef void rules(struct fit *f);

static void rules_balance(struct fit *f)
{
    spread_propose(f);
    leaders_propose(f);
    bytes_propose(f);
}

/* Splits are left out: the groups that they make have no ids yet. */
static void play(struct play *p, rules *propose, struct plan_list *ops)
{
    note_voters(p);
    for (uint32_t round = 0; round < ROUNDS_MAX; round++) {
        uint32_t first = ops->n;
        struct fit f;
        fit_open(&f, &p->v, ops);
        propose(&f);
        fit_close(&f);
        if (ops->n == first)
            break;
        for (uint32_t k = first; k < ops->n; k++)
            arrive(p, &ops->op[k]);
        for (uint32_t k = first; k < ops->n; k++) {
            const struct plan_group *g = plan_find_group(&p->v, ops->op[k].group);
            leave(p, &ops->op[k], g->bytes);
            carry_out(p, (uint32_t)(g - p->v.groups), &ops->op[k]);
        }
        note_voters(p);
    }
}

static unsigned percent(double x)
{
    return x < 0 ? 0 : x > 99999 ? 99999 : (unsigned)(x + 0.5);
}

/* The node with most to take in or send decides how long it takes. */
static void finish(const struct play *p, const struct plan_view *before, uint64_t rate,
                   struct plan_preview *out)
{
    uint64_t most = 0, per_s = rate ? rate : RATE_ASSUMED;
    for (uint32_t k = 0; k < out->ops.n; k++)
        out->bytes += out->ops.op[k].bytes;
    out->n_nodes = p->v.n_nodes;
    out->nodes = mem_zalloc(p->v.n_nodes * sizeof(*out->nodes));
    out->lowest_voters = p->lowest == UINT32_MAX ? 0 : p->lowest;
    struct fit a, b;
    fit_open(&a, before, NULL);
    fit_open(&b, &p->v, NULL);
    for (uint32_t i = 0; i < p->v.n_nodes; i++) {
        uint64_t size = p->nodes[i].disk_size;
        most = p->in[i] > most ? p->in[i] : most;
        most = p->out[i] > most ? p->out[i] : most;
        out->nodes[i].node = p->nodes[i].id;
        out->nodes[i].before_percent = percent(fit_level(&a, i, 0, 0) * 100);
        out->nodes[i].after_percent = percent(fit_level(&b, i, 0, 0) * 100);
        out->nodes[i].peak_disk_percent =
            size ? percent((double)p->peak[i] * 100 / (double)size) : 0;
    }
    fit_close(&a);
    fit_close(&b);
    out->seconds = most / per_s + (out->ops.n > 0);
}

void plan_preview_balance(const struct plan_view *v, uint64_t rate, struct plan_preview *out)
{
    struct play p;
    *out = (struct plan_preview){0};
    plan_list_init(&out->ops);
    play_open(&p, v);
    play(&p, rules_balance, &out->ops);
    finish(&p, v, rate, out);
    play_close(&p);
}

static void rules_drain(struct fit *f)
{
    drain_propose(f);
    leaders_leave(f);
}

/* What is under way is taken as done or given up: only voters count. */
static void settle(struct play *p)
{
    for (uint32_t g = 0; g < p->v.n_groups; g++) {
        struct plan_group *group = &p->groups[g];
        for (uint32_t i = p->descs[g].n_replicas; group->busy && i-- > 0;)
            if (p->descs[g].replica[i].role != ROLE_VOTER)
                drop_replica(group, &p->descs[g], i);
        group->busy = false;
    }
}

/* Other nodes that drain need room too, but what they move is not asked for. */
static void keep_from(struct plan_list *ops, uint32_t node)
{
    uint32_t n = 0;
    for (uint32_t k = 0; k < ops->n; k++)
        if (ops->op[k].from == node)
            ops->op[n++] = ops->op[k];
    ops->n = n;
}

/* The first replica that could not leave, and why: ERR_OK if there is none. */
static enum err explain_stuck(const struct play *p, uint32_t node, char *why, size_t n)
{
    struct fit f;
    fit_open(&f, &p->v, NULL);
    const struct fit_node *left = &f.node[node];
    bool stuck = left->n > 0;
    if (stuck) {
        uint32_t a = f.by_node[left->first], g = a / LIMIT_GROUP_MEMBERS;
        int i = (int)(a % LIMIT_GROUP_MEMBERS);
        unsigned seen = 0;
        int used = snprintf(why, n, "%u replica%s could not leave %s; group %llu: ", left->n,
                            left->n == 1 ? "" : "s", fit_name(&f, node),
                            (unsigned long long)p->descs[g].group);
        size_t at = (size_t)used < n ? (size_t)used : n;
        if (!fit_has_quorum(&f, g)) {
            snprintf(why + at, n - at, "%u of %u voters are up and caught up, it needs a majority",
                     fit_healthy_voters(&f, g), fit_voters(&p->groups[g]));
            at = n;
        }
        for (uint32_t k = 0; k < p->v.n_nodes && at < n; k++) {
            enum fit_verdict verdict = fit_judge(&f, &p->groups[g], fit_at(&f, g), i, k, false);
            if (k == node || verdict == FIT_OK || verdict == FIT_HAS || (seen >> verdict & 1))
                continue;
            char text[160];
            fit_explain(&f, verdict, &p->groups[g], k, text, sizeof text);
            used = snprintf(why + at, n - at, "%s%s", seen ? "; " : "", text);
            at = (size_t)used < n - at ? at + (size_t)used : n;
            seen |= 1u << verdict;
        }
        if (!seen && at < n)
            snprintf(why + at, n - at, "every other node has a replica of it; add a node first");
    }
    fit_close(&f);
    return stuck ? ERR_REFUSED : ERR_OK;
}

/* Refuses where a zone got more replicas of a group than need be, though nothing was short when it
 * began. */
static enum err check_zones(const struct play *p, const struct plan_view *before,
                            const struct plan_list *ops, char *why, size_t n)
{
    struct fit a, b;
    enum err e = ERR_OK;
    fit_open(&a, before, NULL);
    fit_open(&b, &p->v, NULL);
    for (uint32_t k = 0; k < ops->n && e == ERR_OK; k++) {
        uint32_t to = ops->op[k].to ? fit_find(before, ops->op[k].to) : FIT_NONE;
        const struct plan_group *was = plan_find_group(before, ops->op[k].group);
        uint32_t g = (uint32_t)(was - before->groups), r = p->descs[g].n_replicas;
        if (ops->op[k].kind != PLAN_MOVE || to == FIT_NONE || b.n_zones == 0)
            continue;
        uint32_t allowed = (r + b.n_zones - 1) / b.n_zones, there = 0, were = 0;
        for (uint32_t i = 0; i < r; i++)
            there +=
                fit_at(&b, g)[i] != FIT_NONE && b.node[fit_at(&b, g)[i]].zone == b.node[to].zone;
        for (uint32_t i = 0; i < was->desc->n_replicas; i++)
            were +=
                fit_at(&a, g)[i] != FIT_NONE && a.node[fit_at(&a, g)[i]].zone == a.node[to].zone;
        if (there <= allowed || there <= were)
            continue;
        snprintf(why, n,
                 "%u replicas of group %llu would be in zone %s, as the other zones have no room: "
                 "make room or add a node there",
                 there, (unsigned long long)was->desc->group, before->nodes[to].zone);
        e = ERR_REFUSED;
    }
    fit_close(&a);
    fit_close(&b);
    return e;
}

enum err plan_preview_drain(const struct plan_view *v, uint32_t node, uint64_t rate,
                            struct plan_preview *out, char *why, size_t n)
{
    uint32_t at = fit_find(v, node);
    if (at == FIT_NONE) {
        snprintf(why, n, "there is no node %u", node);
        return ERR_NOT_FOUND;
    }
    if (v->nodes[at].state != PLAN_NODE_UP) {
        snprintf(why, n,
                 "%s is not up: a node that is lost is not drained, its replicas are "
                 "replaced (kvctl node remove)",
                 v->nodes[at].name);
        return ERR_REFUSED;
    }
    struct play p;
    struct plan_preview result = {0};
    plan_list_init(&result.ops);
    play_open(&p, v);
    p.nodes[at].draining = true;
    settle(&p);
    play(&p, rules_drain, &result.ops);
    keep_from(&result.ops, node);
    finish(&p, v, rate, &result);
    enum err e = explain_stuck(&p, at, why, n);
    if (e == ERR_OK)
        e = check_zones(&p, v, &result.ops, why, n);
    play_close(&p);
    if (e != ERR_OK)
        plan_preview_close(&result);
    else
        *out = result;
    return e;
}

void plan_preview_close(struct plan_preview *p)
{
    plan_list_close(&p->ops);
    free(p->nodes);
    memset(p, 0, sizeof(*p));
}
