/* Greedy: each replica goes to the allowed node with the lowest load. With equal loads the order of
 * the nodes decides, so the same question has the same answer. Load of a node counts its replicas;
 * for the first replica of a group, the preferred leader, its leaders count first. Choosing the
 * leader last, among the nodes chosen, would be as even; choosing it first keeps the loop simple.
 *
 * 16384 groups x 3 replicas x 500 nodes are 25 million steps: well below a second. */
#include "placementd/plan/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/slice.h"

struct load {
    uint32_t leaders, replicas;
    uint32_t host, zone; /* the same number: the same label */
};

struct planner {
    const struct layout_request *q;
    struct load *load;
    uint32_t hosts, zones;
};

/* Numbers the labels, so that the inner loop compares integers. */
static void number_labels(struct planner *p)
{
    const struct layout_node *nodes = p->q->nodes;
    for (uint32_t i = 0; i < p->q->n_nodes; i++) {
        uint32_t h = 0, z = 0;
        while (h < i && strcmp(nodes[h].host, nodes[i].host) != 0)
            h++;
        while (z < i && strcmp(nodes[z].zone, nodes[i].zone) != 0)
            z++;
        p->load[i].host = h;
        p->load[i].zone = z;
        p->hosts += h == i;
        p->zones += z == i;
    }
}

static bool taken(const struct planner *p, const uint32_t *chosen, uint32_t n, uint32_t i,
                  bool zones)
{
    for (uint32_t j = 0; j < n; j++) {
        const struct load *a = &p->load[chosen[j]], *b = &p->load[i];
        if (chosen[j] == i || (!p->q->allow_same_host && a->host == b->host) ||
            (zones && a->zone == b->zone))
            return true;
    }
    return false;
}

static bool better(const struct load *a, const struct load *b, bool leader)
{
    if (leader && a->leaders != b->leaders)
        return a->leaders < b->leaders;
    if (a->replicas != b->replicas)
        return a->replicas < b->replicas;
    return a->leaders < b->leaders;
}

/* The best node for the next replica; zones are kept apart as long as that is possible. */
static bool choose(struct planner *p, uint32_t *chosen, uint32_t n)
{
    for (int zones = p->zones >= p->q->replicas; zones >= 0; zones--) {
        bool found = false;
        for (uint32_t i = 0; i < p->q->n_nodes; i++) {
            if (taken(p, chosen, n, i, zones))
                continue;
            if (!found || better(&p->load[i], &p->load[chosen[n]], n == 0))
                chosen[n] = i;
            found = true;
        }
        if (found)
            return true;
    }
    return false;
}

static enum err check(const struct layout_request *q, char *msg, size_t n)
{
    if (q->groups == 0 || q->groups > LIMIT_SLOTS) {
        snprintf(msg, n, "groups must be 1 to %u", LIMIT_SLOTS);
        return ERR_BAD_REQUEST;
    }
    if (q->replicas != 1 && q->replicas != 3 && q->replicas != 5) {
        snprintf(msg, n, "replicas must be 1, 3 or 5");
        return ERR_BAD_REQUEST;
    }
    if (q->n_nodes < q->replicas) {
        snprintf(msg, n, "%u replicas need %u nodes that are up, there %s %u%s", q->replicas,
                 q->replicas, q->n_nodes == 1 ? "is" : "are", q->n_nodes,
                 q->n_nodes ? "; start more, or ask for replicas=1 (no fault is survived then)"
                            : "; start shardd and let it register");
        return ERR_REFUSED;
    }
    return ERR_OK;
}

static void fill(const struct layout_request *q, uint32_t g, const uint32_t *chosen,
                 struct shard_desc *d)
{
    memset(d, 0, sizeof(*d));
    d->group = q->first_group + g;
    d->first_slot = (uint16_t)((uint64_t)g * LIMIT_SLOTS / q->groups);
    d->last_slot = (uint16_t)((uint64_t)(g + 1) * LIMIT_SLOTS / q->groups - 1);
    d->epoch = (struct shard_epoch){1, 1};
    d->n_replicas = q->replicas;
    for (uint32_t i = 0; i < q->replicas; i++) {
        d->replica[i].replica = q->first_replica + (uint64_t)g * q->replicas + i;
        d->replica[i].node = q->nodes[chosen[i]].node;
        d->replica[i].role = 1; /* voter */
    }
}

enum err layout_plan(const struct layout_request *q, struct shard_desc *groups, char *msg, size_t n)
{
    enum err e = check(q, msg, n);
    if (e != ERR_OK)
        return e;
    struct planner p = {.q = q, .load = mem_zalloc(q->n_nodes * sizeof(struct load))};
    number_labels(&p);
    if (!q->allow_same_host && p.hosts < q->replicas) {
        snprintf(msg, n,
                 "%u replicas need %u hosts, the %u nodes that are up are on %u; two replicas of a "
                 "group never share a host unless allow_same_host is given",
                 q->replicas, q->replicas, q->n_nodes, p.hosts);
        free(p.load);
        return ERR_REFUSED;
    }
    for (uint32_t g = 0; g < q->groups && e == ERR_OK; g++) {
        uint32_t chosen[LIMIT_GROUP_MEMBERS];
        for (uint32_t i = 0; i < q->replicas && e == ERR_OK; i++) {
            if (!choose(&p, chosen, i)) {
                snprintf(msg, n, "no node is left for replica %u of group %u", i + 1, g + 1);
                e = ERR_REFUSED;
                break;
            }
            p.load[chosen[i]].replicas++;
            p.load[chosen[i]].leaders += i == 0;
        }
        if (e == ERR_OK)
            fill(q, g, chosen, &groups[g]);
    }
    free(p.load);
    return e;
}
