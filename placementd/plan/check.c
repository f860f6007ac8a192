/* What an operator asks for by hand is checked with the same eyes as the planner's own proposals,
 * but for limits on what is under way: what is asked for waits for its turn. */
#include <stdio.h>
#include <stdarg.h>
#include <string.h>

#include "placementd/plan/fit.h"

#define ROLE_VOTER 1u

struct check {
    struct fit f;
    struct plan_op *op;
    const struct plan_group *g;
    uint32_t gi;
    int i; /* the replica in question; -1 */
    char *why;
    size_t n;
};

__attribute__((format(printf, 3, 4))) static enum err say(struct check *c, enum err e,
                                                          const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(c->why, c->n, format, ap);
    va_end(ap);
    return e;
}

static unsigned long long group_of(const struct check *c)
{
    return (unsigned long long)c->op->group;
}

static const char *name_at(const struct check *c, int i)
{
    return fit_name(&c->f, fit_at(&c->f, c->gi)[i]);
}

/* Finds the replica by op->replica or the node `*node`, and fills in the other. */
static enum err find_replica(struct check *c, uint32_t *node)
{
    const struct shard_desc *d = c->g->desc;
    if (c->op->replica == 0 && *node == 0)
        return say(c, ERR_REFUSED, "say which replica of group %llu: name its node", group_of(c));
    for (uint32_t i = 0; i < d->n_replicas; i++) {
        if ((c->op->replica && d->replica[i].replica != c->op->replica) ||
            (*node && d->replica[i].node != *node))
            continue;
        c->i = (int)i;
        c->op->replica = d->replica[i].replica;
        *node = d->replica[i].node;
        return ERR_OK;
    }
    const struct plan_node *p = *node ? plan_find_node(c->f.v, *node) : NULL;
    if (p)
        return say(c, ERR_NOT_FOUND, "group %llu has no %s on %s", group_of(c),
                   c->op->replica ? "such replica" : "replica", p->name);
    if (*node)
        return say(c, ERR_NOT_FOUND, "there is no node %u", *node);
    return say(c, ERR_NOT_FOUND, "group %llu has no replica %llu", group_of(c),
               (unsigned long long)c->op->replica);
}

/* Why no node at all will do: the reasons, counted by the last node of each. */
static enum err say_none(struct check *c)
{
    char text[160];
    size_t used = 0;
    unsigned seen = 0;
    c->why[0] = 0;
    used = (size_t)snprintf(c->why, c->n, "no node can take a replica of group %llu", group_of(c));
    for (uint32_t i = 0; i < c->f.v->n_nodes && used < c->n; i++) {
        enum fit_verdict v = fit_judge(&c->f, c->g, fit_at(&c->f, c->gi), c->i, i, false);
        if (v == FIT_OK || v == FIT_HAS || (seen >> v & 1))
            continue;
        seen |= 1u << v;
        fit_explain(&c->f, v, c->g, i, text, sizeof text);
        used += (size_t)snprintf(c->why + used, c->n - used, "; %s", text);
    }
    if (!seen)
        say(c, ERR_REFUSED, "every node has a replica of group %llu already: add a node",
            group_of(c));
    return ERR_REFUSED;
}

/* Checks op->to, or chooses it. */
static enum err check_target(struct check *c)
{
    if (c->op->to == 0) {
        uint32_t best = fit_best(&c->f, c->gi, c->i, FIT_ZONES_PREFER, false);
        if (best == FIT_NONE)
            return say_none(c);
        c->op->to = c->f.v->nodes[best].id;
        return ERR_OK;
    }
    uint32_t to = fit_find(c->f.v, c->op->to);
    if (to == FIT_NONE)
        return say(c, ERR_NOT_FOUND, "there is no node %u", c->op->to);
    enum fit_verdict v = fit_judge(&c->f, c->g, fit_at(&c->f, c->gi), c->i, to, false);
    fit_explain(&c->f, v, c->g, to, c->why, c->n);
    return v == FIT_OK ? ERR_OK : ERR_REFUSED;
}

/* The group without replica c->i must still have a majority of voters that are up to date. */
static enum err check_without(struct check *c, uint32_t added)
{
    uint32_t healthy = fit_healthy_voters(&c->f, c->gi) + added;
    uint32_t voters = fit_voters(c->g) + added;
    if (c->g->desc->replica[c->i].role == ROLE_VOTER) {
        healthy -= fit_healthy(&c->f, c->gi, (uint32_t)c->i);
        voters--;
    }
    if (healthy > voters / 2)
        return ERR_OK;
    return say(c, ERR_REFUSED,
               "group %llu would be left with %u of %u voters up to date, it needs %u: wait until "
               "the others have caught up or are replaced",
               group_of(c), healthy, voters, voters / 2 + 1);
}

static enum err check_exchange(struct check *c)
{
    if (fit_exchanges(c->g) || c->g->desc->replica[c->i].role != ROLE_VOTER)
        return ERR_OK;
    return say(c, ERR_REFUSED,
               "group %llu has two voters: a third would have to come before one goes, and three "
               "never become two; %u are wanted, wait until it has them",
               group_of(c), c->f.v->options.replicas);
}

static enum err check_move(struct check *c)
{
    enum err e = find_replica(c, &c->op->from);
    if (e == ERR_OK && c->op->to == c->op->from)
        return say(c, ERR_REFUSED, "the replica of group %llu is on %s already", group_of(c),
                   name_at(c, c->i));
    if (e == ERR_OK)
        e = check_exchange(c);
    if (e == ERR_OK)
        e = check_without(c, 1);
    if (e == ERR_OK)
        e = check_target(c);
    if (e == ERR_OK)
        c->op->bytes = c->g->bytes;
    return e;
}

static enum err check_replace(struct check *c)
{
    enum err e = find_replica(c, &c->op->from);
    if (e == ERR_OK && fit_healthy(&c->f, c->gi, (uint32_t)c->i))
        return say(c, ERR_REFUSED, "the replica on %s is healthy: move it, do not replace it",
                   name_at(c, c->i));
    if (e == ERR_OK)
        e = check_target(c);
    if (e == ERR_OK)
        c->op->bytes = c->g->bytes;
    return e;
}

static enum err check_transfer(struct check *c)
{
    int leader = fit_leader(c->g);
    if (leader < 0)
        return say(c, ERR_REFUSED, "the leader of group %llu is not known at the moment: try again",
                   group_of(c));
    c->op->from = c->g->desc->replica[leader].node;
    if (c->op->replica == 0 && c->op->to == 0) {
        c->i = leaders_best(&c->f, c->gi);
        if (c->i < 0)
            return say(c, ERR_REFUSED, "no other replica of group %llu is up to date and may lead",
                       group_of(c));
        c->op->replica = c->g->desc->replica[c->i].replica;
        c->op->to = c->g->desc->replica[c->i].node;
        return ERR_OK;
    }
    enum err e = find_replica(c, &c->op->to);
    if (e != ERR_OK)
        return e;
    if (c->i == leader)
        return say(c, ERR_REFUSED, "%s leads group %llu already", name_at(c, c->i), group_of(c));
    if (!fit_healthy(&c->f, c->gi, (uint32_t)c->i))
        return say(c, ERR_REFUSED, "the replica on %s is not up to date: it cannot lead",
                   name_at(c, c->i));
    if (!c->f.node[fit_at(&c->f, c->gi)[c->i]].leads)
        return say(c, ERR_REFUSED, "%s is draining or in maintenance: it is given no leaders",
                   name_at(c, c->i));
    return ERR_OK;
}

/* One more than wanted may be added by hand; the planner takes the worst placed one away again. */
static enum err check_add(struct check *c)
{
    if (c->g->desc->n_replicas >= LIMIT_GROUP_MEMBERS ||
        fit_voters(c->g) > c->f.v->options.replicas)
        return say(c, ERR_REFUSED, "group %llu has %u replicas, %u are wanted: move one instead",
                   group_of(c), c->g->desc->n_replicas, c->f.v->options.replicas);
    if (fit_voters(c->g) == 1 && c->f.v->options.replicas == 1)
        return say(c, ERR_REFUSED,
                   "group %llu would have two voters, of which neither may be lost: one is wanted, "
                   "move it instead",
                   group_of(c));
    enum err e = check_target(c);
    if (e == ERR_OK)
        c->op->bytes = c->g->bytes;
    return e;
}

static enum err check_remove(struct check *c)
{
    enum err e = find_replica(c, &c->op->from);
    if (e != ERR_OK || c->g->desc->replica[c->i].role != ROLE_VOTER)
        return e;
    uint32_t after = fit_voters(c->g) - 1, wanted = c->f.v->options.replicas;
    if (after < wanted || after == 0)
        return say(c, ERR_REFUSED,
                   "group %llu would be left with %u of %u replicas: move the one on %s instead",
                   group_of(c), after, wanted, name_at(c, c->i));
    if (after == 2)
        return say(c, ERR_REFUSED,
                   "group %llu would be left with two voters, of which neither may be lost: "
                   "keep three",
                   group_of(c));
    return check_without(c, 0);
}

static enum err check_split(struct check *c)
{
    const struct shard_desc *d = c->g->desc;
    uint32_t max = c->f.v->options.max_groups ? c->f.v->options.max_groups : LIMIT_SLOTS;
    if (c->f.n_groups >= max)
        return say(c, ERR_REFUSED, "there are %u groups, %u is the limit", c->f.n_groups, max);
    if (fit_voters(c->g) != d->n_replicas)
        return say(c, ERR_BUSY, "a change of members of group %llu is not finished", group_of(c));
    if (c->op->slot == 0)
        c->op->slot = split_middle(d);
    if (c->op->slot == 0)
        return say(c, ERR_REFUSED, "group %llu has a single slot: it cannot be split", group_of(c));
    if (c->op->slot <= d->first_slot || c->op->slot > d->last_slot)
        return say(c, ERR_REFUSED,
                   "slot %u is not inside group %llu: the first slot of the new group may be %u to "
                   "%u",
                   c->op->slot, group_of(c), d->first_slot + 1u, d->last_slot);
    return ERR_OK;
}

static bool neighbours(const struct shard_desc *a, const struct shard_desc *b)
{
    return (uint32_t)a->last_slot + 1 == b->first_slot ||
           (uint32_t)b->last_slot + 1 == a->first_slot;
}

/* The smaller neighbour; NULL. */
static const struct plan_group *find_neighbour(const struct check *c)
{
    const struct plan_group *best = NULL;
    for (uint32_t i = 0; i < c->f.v->n_groups; i++) {
        const struct plan_group *p = &c->f.v->groups[i];
        if (neighbours(p->desc, c->g->desc) && !p->busy && (!best || p->bytes < best->bytes))
            best = p;
    }
    return best;
}

static enum err check_merge(struct check *c)
{
    const struct plan_group *t =
        c->op->into ? plan_find_group(c->f.v, c->op->into) : find_neighbour(c);
    uint64_t max = c->f.v->options.split_bytes;
    if (!t)
        return say(c, ERR_NOT_FOUND,
                   c->op->into ? "there is no group %llu"
                               : "group %llu has no neighbour to merge into",
                   c->op->into ? (unsigned long long)c->op->into : group_of(c));
    c->op->into = t->desc->group;
    unsigned long long into = (unsigned long long)t->desc->group;
    if (t == c->g)
        return say(c, ERR_REFUSED, "a group cannot be merged into itself");
    if (!neighbours(t->desc, c->g->desc))
        return say(c, ERR_REFUSED,
                   "groups %llu and %llu are not neighbours: their slots do not "
                   "join",
                   group_of(c), into);
    uint32_t ti = (uint32_t)(t - c->f.v->groups);
    if (t->busy)
        return say(c, ERR_BUSY, "group %llu has an operator under way", into);
    /* Every replica must take over the data: one that is missing would hold the merge up. */
    if (fit_healthy_voters(&c->f, c->gi) != c->g->desc->n_replicas ||
        fit_healthy_voters(&c->f, ti) != t->desc->n_replicas)
        return say(c, ERR_REFUSED,
                   "a merge needs all replicas of groups %llu and %llu up and "
                   "caught up",
                   group_of(c), into);
    if (max && t->bytes + c->g->bytes > max)
        return say(c, ERR_REFUSED, "together they have %.1f GiB and would be split again at %.1f",
                   (double)(t->bytes + c->g->bytes) / (double)GIB, (double)max / (double)GIB);
    c->op->bytes = c->g->bytes;
    return ERR_OK;
}

static enum err check_kind(struct check *c)
{
    switch (c->op->kind) {
    case PLAN_MOVE:
        return check_move(c);
    case PLAN_REPLACE:
        return check_replace(c);
    case PLAN_TRANSFER:
        return check_transfer(c);
    case PLAN_ADD:
        return check_add(c);
    case PLAN_REMOVE:
        return check_remove(c);
    case PLAN_SPLIT:
        return check_split(c);
    case PLAN_MERGE:
        return check_merge(c);
    default:
        return say(c, ERR_REFUSED, "no such kind of operator: %u", c->op->kind);
    }
}

enum err plan_check(const struct plan_view *v, struct plan_op *op, char *why, size_t n)
{
    struct plan_op filled = *op;
    struct check c = {.op = &filled, .i = -1, .why = why, .n = n};
    c.g = plan_find_group(v, op->group);
    if (!c.g)
        return say(&c, ERR_NOT_FOUND, "there is no group %llu", group_of(&c));
    if (c.g->busy)
        return say(&c, ERR_BUSY, "group %llu has an operator under way: wait or cancel it",
                   group_of(&c));
    c.gi = (uint32_t)(c.g - v->groups);
    fit_open(&c.f, v, NULL);
    enum err e = ERR_OK;
    if (!fit_has_quorum(&c.f, c.gi))
        e = say(&c, ERR_REFUSED,
                "group %llu has %u of %u voters up and caught up, fewer than a majority: nothing "
                "can be changed until they are back",
                group_of(&c), fit_healthy_voters(&c.f, c.gi), fit_voters(c.g));
    if (e == ERR_OK)
        e = check_kind(&c);
    fit_close(&c.f);
    if (e != ERR_OK)
        return e;
    if (filled.why[0] == 0)
        snprintf(filled.why, sizeof filled.why, "asked for by hand");
    *op = filled;
    return ERR_OK;
}
