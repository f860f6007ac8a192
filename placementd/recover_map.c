#include "placementd/recover_map.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/raft/group.h"

typedef unsigned long long ull;

#define LINES_MAX 40u /* of one kind */

/* All that was said of one group. */
struct claim {
    uint64_t group;
    const struct msg_group_status *leader; /* the best word; NULL: nobody leads it */
    struct shard_epoch newest;             /* that anybody knows of */
    uint32_t seen_on;                      /* a node that has a replica */
    uint16_t first, last;                  /* the newest range that anybody knows of */
    struct shard_epoch range_epoch;
    unsigned replicas;
    bool swallowed;
};

struct build {
    const struct recover_map *r;
    struct cluster *out;
    struct claim *claim; /* ascending group */
    uint32_t n;
    uint64_t top_group, top_replica, top_operator, top_version;
    unsigned missing;
};

__attribute__((format(printf, 2, 3))) static void say(const struct build *b, const char *fmt, ...)
{
    char line[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    b->r->say(b->r->arg, line);
}

/* Something that has to be there first. */
#define LACK(b, ...)                                                                               \
    do {                                                                                           \
        if ((b)->missing++ < LINES_MAX)                                                            \
            say(b, __VA_ARGS__);                                                                   \
    } while (0)

static void top(uint64_t *to, uint64_t id)
{
    if (*to < id)
        *to = id;
}

static const char *name_of(const struct build *b, uint32_t node, char buf[24])
{
    const struct cluster_node *n = cluster_find_node(b->r->c, node);
    if (n)
        return n->name;
    snprintf(buf, 24, "node %u", node);
    return buf;
}

/* ---- gathering ---- */

static struct claim *claim_of(struct build *b, uint64_t group)
{
    uint32_t lo = 0, hi = b->n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (b->claim[mid].group < group)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < b->n && b->claim[lo].group == group)
        return &b->claim[lo];
    b->claim = mem_realloc(b->claim, (b->n + 1u) * sizeof(*b->claim));
    memmove(b->claim + lo + 1, b->claim + lo, (b->n - lo) * sizeof(*b->claim));
    b->n++;
    b->claim[lo] = (struct claim){.group = group};
    return &b->claim[lo];
}

static bool leads(const struct msg_group_status *s)
{
    return s->state == MSG_REPLICA_LEADER && s->n_members > 0;
}

static void take_ids(struct build *b, const struct msg_group_status *s)
{
    top(&b->top_group, s->group);
    top(&b->top_group, s->child);
    top(&b->top_group, s->peer);
    top(&b->top_replica, s->replica);
    top(&b->top_operator, s->merge);
    top(&b->top_operator, s->refused_op);
    for (uint32_t i = 0; i < s->n_members; i++)
        top(&b->top_replica, s->member[i].replica);
}

static void take(struct build *b, uint32_t node, const struct msg_group_status *s)
{
    take_ids(b, s);
    if (s->replica == 0 || s->state == MSG_REPLICA_BROKEN || s->applied == 0)
        return; /* it has nothing to say: broken, or it was to join */
    struct claim *c = claim_of(b, s->group);
    c->replicas++;
    c->seen_on = node;
    if (c->replicas == 1 || shard_epoch_less(c->newest, s->epoch))
        c->newest = s->epoch;
    if (c->replicas == 1 || shard_epoch_less(c->range_epoch, s->epoch)) {
        c->range_epoch = s->epoch;
        c->first = s->first_slot;
        c->last = s->last_slot;
    }
    if (!leads(s))
        return;
    bool later =
        c->leader && (shard_epoch_less(c->leader->epoch, s->epoch) ||
                      (!shard_epoch_less(s->epoch, c->leader->epoch) && c->leader->term < s->term));
    if (!c->leader || later)
        c->leader = s;
}

static bool is_fresh(const struct build *b, const struct recovery_report *p)
{
    return p && b->r->now - p->heard < RECOVER_FRESH_NS;
}

static void gather(struct build *b)
{
    for (uint32_t i = 0; i < b->r->c->n_nodes; i++) {
        const struct recovery_report *p = recovery_of(b->r->seen, b->r->c->nodes[i].id);
        if (p)
            top(&b->top_version, p->have);
        for (uint32_t k = 0; is_fresh(b, p) && k < p->n_groups; k++)
            take(b, p->node, &p->groups[k]);
    }
}

/* ---- judging each group ---- */

/* Another group has taken in the whole range. */
static bool is_swallowed(const struct build *b, const struct claim *c)
{
    for (uint32_t i = 0; i < b->n; i++) {
        const struct claim *o = &b->claim[i];
        if (o != c && o->leader && o->leader->first_slot <= c->first &&
            o->leader->last_slot >= c->last && c->range_epoch.range < o->leader->epoch.range)
            return true;
    }
    return false;
}

/* It is the leader of now: most of its voters are heard, in its term. */
static unsigned followers(const struct build *b, const struct claim *c, unsigned *voters)
{
    unsigned heard = 0;
    *voters = 0;
    for (uint32_t i = 0; i < c->leader->n_members; i++) {
        const struct msg_member_status *m = &c->leader->member[i];
        const struct recovery_report *p = recovery_of(b->r->seen, m->node);
        if (m->role != GROUP_VOTER)
            continue;
        ++*voters;
        for (uint32_t k = 0; is_fresh(b, p) && k < p->n_groups; k++)
            heard += p->groups[k].group == c->group && p->groups[k].replica == m->replica &&
                     p->groups[k].term == c->leader->term;
    }
    return heard;
}

static bool is_known(const struct build *b, uint32_t node)
{
    return cluster_find_node(b->out, node) != NULL;
}

static void check_members(struct build *b, const struct claim *c)
{
    for (uint32_t i = 0; i < c->leader->n_members; i++) {
        const struct msg_member_status *m = &c->leader->member[i];
        if (m->replica == 0 || m->node == 0)
            LACK(b, "g%llu: its leader says nonsense of its members", (ull)c->group);
        else if (!is_known(b, m->node))
            LACK(
                b,
                "node %u, which has a replica of g%llu, is not heard: start it, or give it up with "
                "--lost %u",
                m->node, (ull)c->group, m->node);
    }
}

static void check_claim(struct build *b, const struct claim *c)
{
    char buf[24];
    unsigned voters = 0, heard = c->leader ? followers(b, c, &voters) : 0;
    if (!c->leader)
        LACK(b,
             "g%llu (slots %u-%u) has no leader that is heard; %u of its replicas are, one on %s: "
             "start the nodes that are missing",
             (ull)c->group, c->first, c->last, c->replicas, name_of(b, c->seen_on, buf));
    else if (shard_epoch_less(c->leader->epoch, c->newest))
        LACK(b, "g%llu: its leader has not told its newest state yet: try again", (ull)c->group);
    else if (heard < voters / 2 + 1)
        LACK(b, "g%llu: %u of its %u voters are heard, a majority has to be: start the others",
             (ull)c->group, heard, voters);
    else
        check_members(b, c);
}

/* ---- the whole ---- */

static int by_first_slot(const void *x, const void *y)
{
    const struct claim *a = *(const struct claim *const *)x, *b = *(const struct claim *const *)y;
    if (a->leader->first_slot != b->leader->first_slot)
        return a->leader->first_slot < b->leader->first_slot ? -1 : 1;
    return a->group < b->group ? -1 : a->group > b->group;
}

static void check_slots(struct build *b)
{
    const struct claim **in = mem_alloc((b->n + 1u) * sizeof(*in));
    uint32_t n = 0, next = 0;
    uint64_t before = 0;
    for (uint32_t i = 0; i < b->n; i++)
        if (b->claim[i].leader && !b->claim[i].swallowed)
            in[n++] = &b->claim[i];
    qsort(in, n, sizeof(*in), by_first_slot);
    for (uint32_t i = 0; i < n; i++) {
        const struct msg_group_status *s = in[i]->leader;
        if (s->first_slot > next)
            LACK(b, "slots %u-%u: no group that is heard owns them", next, s->first_slot - 1u);
        else if (s->first_slot < next)
            LACK(b, "slots %u-%u: both g%llu and g%llu say that they own them", s->first_slot,
                 next - 1u, (ull)before, (ull)s->group);
        if (s->last_slot + 1u > next) {
            next = s->last_slot + 1u;
            before = s->group;
        }
    }
    if (next < LIMIT_SLOTS)
        LACK(b, "slots %u-%u: no group that is heard owns them", next, LIMIT_SLOTS - 1u);
    free(in);
}

static void put_nodes(struct build *b)
{
    const struct cluster *c = b->r->c;
    for (uint32_t i = 0; i < c->n_nodes; i++)
        cluster_add_node(b->out, &c->nodes[i]);
    for (uint32_t i = 0; i < b->r->n_lost; i++) {
        struct cluster_node gone = {.id = b->r->lost[i], .state = CLUSTER_NODE_LOST, .cores = 1};
        struct cluster_node *known = cluster_find_node(b->out, gone.id);
        if (known) {
            if (is_fresh(b, recovery_of(b->r->seen, gone.id)))
                LACK(b, "%s is not lost: it is heard", known->name);
            known->state = CLUSTER_NODE_LOST;
            continue;
        }
        if (b->out->n_nodes == LIMIT_NODES) {
            LACK(b, "there are more than %u nodes", LIMIT_NODES);
            return;
        }
        /* Nobody knows its name any more; the data directory is known by its number alone. */
        snprintf(gone.name, sizeof(gone.name), "node-%u", gone.id);
        gone.incarnation = UINT64_MAX;
        cluster_add_node(b->out, &gone);
    }
}

static void put_groups(struct build *b)
{
    for (uint32_t i = 0; i < b->n; i++) {
        const struct msg_group_status *s = b->claim[i].leader;
        if (b->claim[i].swallowed)
            continue;
        struct shard_desc d = {.group = s->group,
                               .first_slot = s->first_slot,
                               .last_slot = s->last_slot,
                               .epoch = s->epoch,
                               .n_replicas = s->n_members};
        for (uint32_t k = 0; k < s->n_members; k++)
            d.replica[k] =
                (struct shard_replica){s->member[k].replica, s->member[k].node, s->member[k].role};
        /* All were made once: none is ever made again under its id. */
        cluster_add_group(b->out, &d)->created = (uint16_t)((1u << d.n_replicas) - 1);
    }
}

/* A merge under way: its operator again, turned back. Both sides know it by its number. */
static void put_merge(struct build *b, const struct msg_group_status *s)
{
    bool is_target = s->phase == SHARD_PHASE_TARGET;
    struct cluster_operator o = {
        .id = s->merge,
        .kind = CLUSTER_OP_MERGE,
        .origin = CLUSTER_ORIGIN_ADMIN,
        .cancelling = true,
        .turned = CLUSTER_STEP_MERGE_OWN,
        .outcome = ERR_SHUTTING_DOWN,
        .group = is_target ? s->peer : s->group,
        .peer = is_target ? s->group : s->peer,
        .n_steps = 2,
        .step = {{.kind = CLUSTER_STEP_MERGE_ABORT}, {.kind = CLUSTER_STEP_MERGE_UNFREEZE}}};
    const struct cluster_group *source = cluster_find_group(b->out, o.group);
    if (cluster_find_operator(b->out, o.id))
        return; /* the other side has told */
    if (!source || !cluster_find_group(b->out, o.peer)) {
        LACK(b, "g%llu is in a merge with g%llu, which is not heard", (ull)s->group, (ull)s->peer);
        return;
    }
    o.epoch = source->desc.epoch;
    snprintf(o.why, sizeof(o.why), "the map was recovered meanwhile");
    cluster_add_operator(b->out, &o);
}

static void put_merges(struct build *b)
{
    for (uint32_t i = 0; i < b->n; i++) {
        const struct msg_group_status *s = b->claim[i].leader;
        if (!b->claim[i].swallowed && s->phase != SHARD_PHASE_NONE && s->merge && s->peer)
            put_merge(b, s);
    }
}

static void put_counters(struct build *b)
{
    const struct cluster *c = b->r->c;
    struct cluster *o = b->out;
    o->founded = true;
    memcpy(o->id, c->id, 16);
    o->paused = c->paused;
    o->next_node = c->next_node;
    for (uint32_t i = 0; i < o->n_nodes; i++)
        if (o->next_node <= o->nodes[i].id)
            o->next_node = o->nodes[i].id + 1;
    o->next_group = b->top_group + 1;
    o->next_replica = b->top_replica + 1;
    o->next_operator = b->top_operator + 1;
    o->next_member = c->next_member;
    o->map_version = b->top_version > c->map_version ? b->top_version : c->map_version;
}

static void sum_up(const struct build *b)
{
    unsigned heard = 0, lost = 0;
    for (uint32_t i = 0; i < b->out->n_nodes; i++) {
        heard += is_fresh(b, recovery_of(b->r->seen, b->out->nodes[i].id));
        lost += b->out->nodes[i].state == CLUSTER_NODE_LOST;
    }
    say(b, "%u nodes are heard, %u are given up; they have %u groups", heard, lost, b->n);
    if (b->missing)
        say(b, "The map cannot be made yet: %u things are missing", b->missing);
    else
        say(b,
            "Every slot belongs to one group, a majority of each is heard: %u groups, %u merges "
            "under way are taken back",
            b->out->n_groups, b->out->n_operators);
}

bool recover_map_build(const struct recover_map *r, struct cluster *out)
{
    struct cluster state;
    struct build b = {.r = r, .out = &state};
    cluster_init(&state);
    gather(&b);
    put_nodes(&b);
    for (uint32_t i = 0; i < b.n; i++)
        b.claim[i].swallowed = is_swallowed(&b, &b.claim[i]);
    for (uint32_t i = 0; i < b.n; i++)
        if (!b.claim[i].swallowed)
            check_claim(&b, &b.claim[i]);
    check_slots(&b);
    put_counters(&b);
    if (!b.missing)
        put_groups(&b);
    if (!b.missing)
        put_merges(&b);
    sum_up(&b);
    free(b.claim);
    if (!b.missing) {
        *out = state;
        return true;
    }
    cluster_close(&state);
    return false;
}
