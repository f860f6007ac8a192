/* Random small clusters, crooked in every way at once, played through: it always comes to rest, and
 * no operator on the way breaks a rule. The seed of a failure is printed. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/rng.h"
#include "placementd/plan/planner.h"

#define NODES 12
#define GROUPS 40

static struct plan_node nodes[NODES];
static char names[NODES][3][16];
static struct plan_group groups[GROUPS];
static struct shard_desc descs[GROUPS];
static struct plan_view v;
static uint64_t next_replica, seed;

static void make_nodes(struct rng *r)
{
    v.n_nodes = 3 + (uint32_t)rng_below(r, NODES - 3);
    uint64_t zones = rng_below(r, 5), hosts = 1 + rng_below(r, 2 * NODES);
    for (uint32_t i = 0; i < v.n_nodes; i++) {
        snprintf(names[i][0], sizeof names[i][0], "n%u", i + 1);
        snprintf(names[i][1], sizeof names[i][1], "z%u", zones ? (unsigned)rng_below(r, zones) : 0);
        snprintf(names[i][2], sizeof names[i][2], "h%u", (unsigned)rng_below(r, hosts));
        uint64_t size = (50 + rng_below(r, 150)) * GIB;
        nodes[i] = (struct plan_node){.id = i + 1,
                                      .name = names[i][0],
                                      .zone = zones ? names[i][1] : "",
                                      .host = rng_below(r, 10) ? names[i][2] : "",
                                      .disk_size = rng_below(r, 20) ? size : 0,
                                      .disk_free = size - rng_below(r, size / 3),
                                      .draining = rng_below(r, 8) == 0,
                                      .maintenance = rng_below(r, 12) == 0};
        if (rng_below(r, 5) == 0)
            nodes[i].state = (uint8_t)rng_below(r, 4);
    }
}

static void make_group(struct rng *r, uint32_t g)
{
    struct shard_desc *d = &descs[g];
    bool used[NODES] = {false};
    *d = (struct shard_desc){.group = g + 1};
    uint32_t n = rng_below(r, 4) ? v.options.replicas : 1 + (uint32_t)rng_below(r, 5);
    n = n < v.n_nodes ? n : v.n_nodes;
    groups[g] = (struct plan_group){.desc = d, .keys = 1 + rng_below(r, 5)};
    groups[g].bytes = rng_below(r, 3) ? rng_below(r, 3 * GIB) : rng_below(r, 30) * GIB;
    groups[g].reads = rng_below(r, 2) ? rng_below(r, 5000) : 0;
    groups[g].requests = groups[g].reads;
    groups[g].unsettled = rng_below(r, 8) == 0;
    while (d->n_replicas < n) {
        uint32_t i = (uint32_t)rng_below(r, v.n_nodes);
        if (used[i])
            continue;
        used[i] = true;
        uint8_t role = rng_below(r, 15) ? 1 : 0;
        groups[g].lagging =
            (uint16_t)(groups[g].lagging | (rng_below(r, 15) == 0) << d->n_replicas);
        groups[g].missing =
            (uint16_t)(groups[g].missing | (rng_below(r, 20) == 0) << d->n_replicas);
        d->replica[d->n_replicas++] = (struct shard_replica){next_replica++, i + 1, role};
    }
    if (rng_below(r, 10))
        d->leader = d->replica[rng_below(r, n)].replica;
    groups[g].busy = rng_below(r, 15) == 0;
}

static void make(void)
{
    struct rng r;
    rng_seed(&r, seed);
    next_replica = 1;
    v = (struct plan_view){.nodes = nodes, .groups = groups};
    v.options = (struct plan_options){.replicas = 1 + 2 * (uint32_t)rng_below(&r, 3),
                                      .max_moves = 1 + (uint32_t)rng_below(&r, 3),
                                      .max_operators = (uint32_t)rng_below(&r, 12),
                                      .max_groups = LIMIT_SLOTS,
                                      .hysteresis_percent = 5,
                                      .disk_full_percent = 80,
                                      .balance = rng_below(&r, 5) != 0};
    make_nodes(&r);
    v.n_groups = 1 + (uint32_t)rng_below(&r, GROUPS - 1);
    for (uint32_t g = 0; g < v.n_groups; g++)
        make_group(&r, g);
}

static bool healthy(const struct plan_group *g, uint32_t i)
{
    const struct plan_node *n = &nodes[g->desc->replica[i].node - 1];
    return g->desc->replica[i].role == 1 && n->state == PLAN_NODE_UP && !(g->lagging >> i & 1) &&
           !(g->missing >> i & 1);
}

static bool has_majority(const struct plan_group *g)
{
    uint32_t voters = 0, up = 0;
    for (uint32_t i = 0; i < g->desc->n_replicas; i++) {
        voters += g->desc->replica[i].role == 1;
        up += healthy(g, i);
    }
    return up > voters / 2;
}

static unsigned host_pairs(const struct shard_desc *d)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < d->n_replicas; i++)
        for (uint32_t k = 0; k < i; k++) {
            const char *a = nodes[d->replica[i].node - 1].host;
            n += a[0] && strcmp(a, nodes[d->replica[k].node - 1].host) == 0;
        }
    return n;
}

static bool one_host(void)
{
    for (uint32_t i = 0; i < v.n_nodes; i++)
        if (nodes[i].host[0] == 0 || strcmp(nodes[i].host, nodes[0].host) != 0)
            return false;
    return true;
}

static void arrive(const struct plan_group *g, uint32_t to)
{
    struct plan_node *n = &nodes[to - 1];
    ck_assert_msg(n->state == PLAN_NODE_UP && !n->draining && !n->maintenance && n->disk_size,
                  "seed %llu: %s takes a replica", (unsigned long long)seed, n->name);
    ck_assert(n->disk_free >= g->bytes);
    n->disk_free -= g->bytes;
    ck_assert_msg((n->disk_size - n->disk_free) <= n->disk_size / 100 * 81, "seed %llu: %s is full",
                  (unsigned long long)seed, n->name);
}

/* Bit `last` takes the place of bit `i`; those from `last` on are cleared. */
static uint16_t move_bit(uint16_t mask, uint32_t last, uint32_t i)
{
    uint32_t m = mask, bit = m >> last & 1u;
    m = (m & ~(1u << i)) | bit << i;
    return (uint16_t)(m & ((1u << last) - 1));
}

static void drop(struct plan_group *g, struct shard_desc *d, uint32_t i)
{
    struct plan_node *n = &nodes[d->replica[i].node - 1];
    n->disk_free = n->disk_free + g->bytes < n->disk_size ? n->disk_free + g->bytes : n->disk_size;
    if (d->leader == d->replica[i].replica)
        d->leader = 0;
    d->n_replicas--;
    d->replica[i] = d->replica[d->n_replicas];
    g->lagging = move_bit(g->lagging, d->n_replicas, i);
    g->missing = move_bit(g->missing, d->n_replicas, i);
}

static void apply(const struct plan_op *op)
{
    struct plan_group *g = &groups[op->group - 1];
    struct shard_desc *d = &descs[op->group - 1];
    unsigned pairs = host_pairs(d);
    ck_assert_msg(has_majority(g) && !g->busy, "seed %llu", (unsigned long long)seed);
    ck_assert(op->why[0]);
    uint32_t i = 0, voters = 0;
    while (i < d->n_replicas && d->replica[i].replica != op->replica)
        voters += d->replica[i++].role == 1;
    if (op->kind == PLAN_TRANSFER) {
        ck_assert(d->leader != 0 && d->leader != op->replica && healthy(g, i));
        d->leader = op->replica;
        return;
    }
    if (op->kind != PLAN_ADD)
        ck_assert(i < d->n_replicas && d->replica[i].node == op->from);
    if (op->kind != PLAN_REMOVE) {
        arrive(g, op->to);
        for (uint32_t k = 0; k < d->n_replicas; k++)
            ck_assert(d->replica[k].node != op->to);
        g->lagging = (uint16_t)(g->lagging & ~(1u << d->n_replicas));
        g->missing = (uint16_t)(g->missing & ~(1u << d->n_replicas));
        d->replica[d->n_replicas++] = (struct shard_replica){next_replica++, op->to, 1};
        ck_assert_msg(has_majority(g), "seed %llu: majority lost", (unsigned long long)seed);
    }
    if (op->kind != PLAN_ADD) {
        bool voter = d->replica[i].role == 1;
        bool led = d->leader == d->replica[i].replica;
        drop(g, d, i);
        if (led && d->n_replicas)
            d->leader = d->replica[0].replica;
        voters = 0;
        for (uint32_t k = 0; k < d->n_replicas; k++)
            voters += d->replica[k].role == 1;
        ck_assert_msg(!(op->kind == PLAN_REMOVE && voter && voters == 2), "two voters left");
    }
    ck_assert_msg(has_majority(g), "seed %llu: majority lost", (unsigned long long)seed);
    ck_assert_msg(host_pairs(d) <= pairs || one_host(), "seed %llu: group %llu shares hosts more",
                  (unsigned long long)seed, (unsigned long long)op->group);
}

START_TEST(test_random)
{
    uint64_t ops = 0, longest = 0;
    for (seed = 1; seed <= 3000; seed++) {
        struct plan_list l;
        uint32_t round = 0;
        make();
        plan_list_init(&l);
        do {
            l.n = 0;
            plan_round(&v, &l);
            if (v.options.max_operators)
                ck_assert_uint_le(l.n, v.options.max_operators);
            for (uint32_t k = 0; k < l.n; k++)
                apply(&l.op[k]);
            ops += l.n;
            ck_assert_msg(++round < 400, "seed %llu: no rest", (unsigned long long)seed);
        } while (l.n);
        longest = round > longest ? round : longest;
        plan_list_close(&l);
    }
    printf("%llu operators, at most %llu rounds\n", (unsigned long long)ops,
           (unsigned long long)longest);
    ck_assert_uint_gt(ops, 10000);
}
END_TEST

/* Whatever is shown, a preview ends, and a drain that it allows empties the node. */
START_TEST(test_previews)
{
    uint64_t allowed = 0;
    for (seed = 1; seed <= 500; seed++) {
        struct plan_preview p;
        make();
        plan_preview_balance(&v, 0, &p);
        plan_preview_close(&p);
        for (uint32_t i = 0; i < v.n_nodes; i++) {
            char why[256] = "";
            if (plan_preview_drain(&v, i + 1, 0, &p, why, sizeof why) != ERR_OK) {
                ck_assert(why[0]);
                continue;
            }
            uint32_t has = 0, moved = 0;
            for (uint32_t g = 0; g < v.n_groups; g++)
                for (uint32_t k = 0; k < descs[g].n_replicas; k++)
                    has += descs[g].replica[k].node == i + 1 &&
                           !(groups[g].busy && descs[g].replica[k].role != 1);
            for (uint32_t k = 0; k < p.ops.n; k++)
                moved += p.ops.op[k].kind == PLAN_MOVE;
            ck_assert_msg(moved == has, "seed %llu: %u of %u moved", (unsigned long long)seed,
                          moved, has);
            allowed++;
            plan_preview_close(&p);
        }
    }
    ck_assert_uint_gt(allowed, 100);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plan_random");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, test_random);
    tcase_add_test(t, test_previews);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
