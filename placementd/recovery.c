#include "placementd/recovery.h"

#include <stdlib.h>

#include "common/base/mem.h"

void recovery_reset(struct recovery *r)
{
    size_t it = 0;
    uint64_t key;
    void *value;
    while (map_next(&r->reports, &it, &key, &value)) {
        free(((struct recovery_report *)value)->groups);
        free(value);
    }
    map_close(&r->reports);
    memset(r, 0, sizeof(*r));
}

static struct recovery_knock *place_of(struct recovery *r, const char *name)
{
    struct recovery_knock *oldest = &r->knock[0];
    for (uint32_t i = 0; i < r->n_knocks; i++) {
        if (strcmp(r->knock[i].name, name) == 0)
            return &r->knock[i];
        if (r->knock[i].heard < oldest->heard)
            oldest = &r->knock[i];
    }
    return r->n_knocks < RECOVERY_KNOCKS_MAX ? &r->knock[r->n_knocks++] : oldest;
}

void recovery_knocks(struct recovery *r, const struct msg_register *m, uint64_t now)
{
    struct recovery_knock *k = place_of(r, m->name);
    *k = (struct recovery_knock){.node = m->node, .heard = now};
    memcpy(k->name, m->name, sizeof(k->name));
    memcpy(k->client_addr, m->client_addr, sizeof(k->client_addr));
    memcpy(k->cluster, m->cluster, 16);
}

void recovery_heard(struct recovery *r, const struct msg_heartbeat *h, uint64_t now)
{
    struct recovery_report *p = map_find(&r->reports, h->node);
    if (!p) {
        p = mem_zalloc(sizeof(*p));
        map_set(&r->reports, h->node, p);
    }
    free(p->groups);
    *p = (struct recovery_report){
        .node = h->node, .heard = now, .have = h->have, .n_groups = h->n_groups};
    p->groups = mem_alloc((h->n_groups + 1u) * sizeof(*p->groups));
    if (h->n_groups)
        memcpy(p->groups, h->groups, h->n_groups * sizeof(*p->groups));
}

const struct recovery_report *recovery_of(const struct recovery *r, uint32_t node)
{
    return map_find(&r->reports, node);
}
