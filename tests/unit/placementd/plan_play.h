/* Large clusters for the planner, whose rounds are played through: each operator is applied as
 * done before the next round. Counts how often each replica has been placed anew.
 *
 * Node i is on a host of its own and in zone i % zones. The shards are between half and one and a
 * half of `bytes`, drawn from a fixed seed; disks are sized so that they are half full.
 *
 * Owner: the test or bench. */
#ifndef TEST_PLAN_PLAY_H
#define TEST_PLAN_PLAY_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "placementd/plan/layout.h"
#include "placementd/plan/planner.h"

#define PLAY_UNUSED __attribute__((unused))

struct played {
    uint32_t n_nodes, cap_nodes, n_groups;
    struct plan_node *nodes;
    struct plan_group *groups;
    struct shard_desc *descs;
    uint8_t *placed; /* of replica i of group g, at g * LIMIT_GROUP_MEMBERS + i */
    char (*names)[2][16];
    struct plan_view v;
    uint32_t zones;
    uint64_t disk, next_replica;
    uint32_t rounds, moves, transfers, replaced, twice; /* of the last run */
};

PLAY_UNUSED static void play_add_nodes(struct played *p, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = p->n_nodes++;
        CHECK(i < p->cap_nodes);
        snprintf(p->names[i][0], sizeof p->names[i][0], "n%u", i + 1);
        snprintf(p->names[i][1], sizeof p->names[i][1], "z%u", i % p->zones);
        p->nodes[i] = (struct plan_node){.id = i + 1,
                                         .name = p->names[i][0],
                                         .zone = p->names[i][1],
                                         .host = p->names[i][0],
                                         .disk_size = p->disk,
                                         .disk_free = p->disk};
    }
    p->v.n_nodes = p->n_nodes;
}

PLAY_UNUSED static void play_open(struct played *p, uint32_t nodes, uint32_t more, uint32_t groups,
                                  uint32_t zones, uint64_t bytes)
{
    struct rng rng;
    char msg[256];
    memset(p, 0, sizeof(*p));
    rng_seed(&rng, 7);
    p->cap_nodes = nodes + more;
    p->nodes = mem_zalloc(p->cap_nodes * sizeof(*p->nodes));
    p->names = mem_zalloc(p->cap_nodes * sizeof(*p->names));
    p->groups = mem_zalloc(groups * sizeof(*p->groups));
    p->descs = mem_zalloc(groups * sizeof(*p->descs));
    p->placed = mem_zalloc((size_t)groups * LIMIT_GROUP_MEMBERS);
    p->n_groups = groups;
    p->zones = zones;
    p->disk = (bytes + 64 * MIB) * groups * 3 / nodes * 2;
    p->v = (struct plan_view){.n_groups = groups,
                              .nodes = p->nodes,
                              .groups = p->groups,
                              .options = {.replicas = 3,
                                          .max_moves = 2,
                                          .max_groups = LIMIT_SLOTS,
                                          .hysteresis_percent = 5,
                                          .disk_full_percent = 80,
                                          .balance = true}};
    play_add_nodes(p, nodes);
    struct layout_node *l = mem_alloc(nodes * sizeof(*l));
    for (uint32_t i = 0; i < nodes; i++)
        l[i] = (struct layout_node){i + 1, p->nodes[i].zone, p->nodes[i].host};
    struct layout_request q = {.n_nodes = nodes,
                               .nodes = l,
                               .groups = groups,
                               .replicas = 3,
                               .first_group = 1,
                               .first_replica = 1};
    CHECK(layout_plan(&q, p->descs, msg, sizeof msg) == ERR_OK);
    free(l);
    p->next_replica = 3 * (uint64_t)groups + 1;
    for (uint32_t g = 0; g < groups; g++) {
        p->groups[g] = (struct plan_group){
            .desc = &p->descs[g],
            .bytes = bytes ? bytes / 2 + rng_below(&rng, bytes) : 0,
            .keys = 1000,
            .reads = 500 + rng_below(&rng, 1000),
        };
        p->groups[g].requests = p->groups[g].reads;
        p->descs[g].leader = p->descs[g].replica[0].replica;
        for (uint32_t i = 0; i < 3; i++)
            p->nodes[p->descs[g].replica[i].node - 1].disk_free -= p->groups[g].bytes;
    }
}

PLAY_UNUSED static void play_close(struct played *p)
{
    free(p->nodes);
    free(p->names);
    free(p->groups);
    free(p->descs);
    free(p->placed);
}

PLAY_UNUSED static void play_apply(struct played *p, const struct plan_op *op)
{
    uint32_t g = (uint32_t)(plan_find_group(&p->v, op->group) - p->groups), i = 0;
    struct shard_desc *d = &p->descs[g];
    while (i < d->n_replicas && d->replica[i].replica != op->replica)
        i++;
    CHECK(i < d->n_replicas);
    if (op->kind == PLAN_TRANSFER) {
        CHECK(d->leader != op->replica);
        d->leader = op->replica;
        p->transfers++;
        return;
    }
    CHECK(op->kind == PLAN_MOVE || op->kind == PLAN_REPLACE);
    for (uint32_t k = 0; k < d->n_replicas; k++)
        CHECK(d->replica[k].node != op->to);
    bool led = d->leader == op->replica;
    d->replica[i].replica = p->next_replica++;
    d->replica[i].node = op->to;
    if (led)
        d->leader = d->replica[i == 0].replica;
    p->nodes[op->from - 1].disk_free += p->groups[g].bytes;
    p->nodes[op->to - 1].disk_free -= p->groups[g].bytes;
    p->moves += op->kind == PLAN_MOVE;
    p->replaced += op->kind == PLAN_REPLACE;
    p->twice += p->placed[(size_t)g * LIMIT_GROUP_MEMBERS + i]++ == 1;
}

/* An operator is under way, or no longer. */
PLAY_UNUSED static void play_mark(struct played *p, const struct plan_op *op, bool under_way)
{
    uint32_t g = (uint32_t)(plan_find_group(&p->v, op->group) - p->groups);
    CHECK(p->groups[g].busy != under_way);
    p->groups[g].busy = under_way;
    if (op->kind == PLAN_TRANSFER) {
        p->groups[g].next_leader = under_way ? op->replica : 0;
        return;
    }
    struct plan_node *to = &p->nodes[op->to - 1], *from = &p->nodes[op->from - 1];
    to->incoming += under_way ? 1 : UINT32_MAX;
    to->incoming_bytes += under_way ? op->bytes : 0 - op->bytes;
    CHECK(to->incoming <= p->v.options.max_moves);
    if (op->kind == PLAN_MOVE)
        from->outgoing += under_way ? 1 : UINT32_MAX;
    CHECK(from->outgoing <= p->v.options.max_moves);
}

PLAY_UNUSED static void play_begin(struct played *p)
{
    memset(p->placed, 0, (size_t)p->n_groups * LIMIT_GROUP_MEMBERS);
    p->moves = p->transfers = p->replaced = p->twice = 0;
}

/* No node takes or gives more than max_moves in a round. */
PLAY_UNUSED static void play_check_limits(const struct played *p, const struct plan_list *l)
{
    uint32_t *in = mem_zalloc((p->n_nodes + 1) * sizeof(*in));
    uint32_t *out = mem_zalloc((p->n_nodes + 1) * sizeof(*out));
    for (uint32_t k = 0; k < l->n; k++) {
        if (l->op[k].kind == PLAN_TRANSFER)
            continue;
        CHECK(++in[l->op[k].to] <= p->v.options.max_moves);
        if (l->op[k].kind == PLAN_MOVE)
            CHECK(++out[l->op[k].from] <= p->v.options.max_moves);
    }
    free(in);
    free(out);
}

/* Rounds until nothing is proposed, `max` at most. Returns whether it came to rest. on_round may be
 * NULL. */
PLAY_UNUSED static bool play_run(struct played *p, uint32_t max,
                                 void (*round)(struct played *p, struct plan_list *l))
{
    play_begin(p);
    for (p->rounds = 0; p->rounds < max; p->rounds++) {
        struct plan_list l;
        plan_list_init(&l);
        if (round)
            round(p, &l);
        else
            plan_round(&p->v, &l);
        uint32_t n = l.n;
        play_check_limits(p, &l);
        for (uint32_t k = 0; k < n; k++)
            play_apply(p, &l.op[k]);
        plan_list_close(&l);
        if (n == 0)
            return true;
    }
    return false;
}

/* Every replica on a node that is to have replicas, in a zone of its own. */
PLAY_UNUSED static void play_check_placed(const struct played *p)
{
    for (uint32_t g = 0; g < p->n_groups; g++) {
        const struct shard_desc *d = &p->descs[g];
        CHECK(d->n_replicas == 3);
        for (uint32_t i = 0; i < 3; i++) {
            const struct plan_node *n = &p->nodes[d->replica[i].node - 1];
            CHECK(n->state == PLAN_NODE_UP && !n->draining);
            for (uint32_t k = 0; k < i; k++)
                CHECK(strcmp(n->zone, p->nodes[d->replica[k].node - 1].zone) != 0);
        }
    }
}

/* Highest and lowest of the nodes that stay, in percent of their mean: of bytes, or of requests
 * led. */
PLAY_UNUSED static void play_levels(const struct played *p, bool leaders, unsigned *lo,
                                    unsigned *hi)
{
    double *x = mem_zalloc((p->n_nodes + 1) * sizeof(*x)), sum = 0, n = 0;
    for (uint32_t g = 0; g < p->n_groups; g++) {
        const struct shard_desc *d = &p->descs[g];
        for (uint32_t i = 0; i < d->n_replicas; i++) {
            if (leaders && d->replica[i].replica == d->leader)
                x[d->replica[i].node] += (double)p->groups[g].reads + 100;
            if (!leaders)
                x[d->replica[i].node] += (double)(p->groups[g].bytes + 64 * MIB);
        }
    }
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        bool stays = p->nodes[i].state == PLAN_NODE_UP && !p->nodes[i].draining;
        sum += stays ? x[i + 1] : 0;
        n += stays;
    }
    *lo = UINT32_MAX;
    *hi = 0;
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        if (p->nodes[i].state != PLAN_NODE_UP || p->nodes[i].draining)
            continue;
        unsigned level = (unsigned)(x[i + 1] * n / sum * 100 + 0.5);
        *lo = level < *lo ? level : *lo;
        *hi = level > *hi ? level : *hi;
    }
    free(x);
}

#endif
