#include "placementd/recover_lost.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/raft/group.h"
#include "placementd/cluster_index.h"

typedef unsigned long long ull;

#define NAMES 200u

struct tally {
    unsigned touched, kept, forced, gone;
};

__attribute__((format(printf, 2, 3))) static void say(const struct recover_lost *r, const char *fmt,
                                                      ...)
{
    char line[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    r->say(r->arg, line);
}

static const char *name_of(const struct recover_lost *r, uint32_t node, char buf[24])
{
    const struct cluster_node *n = cluster_find_node(r->c, node);
    if (n)
        return n->name;
    snprintf(buf, 24, "node %u", node);
    return buf;
}

static bool is_named(const struct recover_lost *r, uint32_t node)
{
    for (uint32_t i = 0; i < r->n; i++)
        if (r->node[i] == node)
            return true;
    return false;
}

static bool is_lost(const struct recover_lost *r, uint32_t node)
{
    const struct cluster_node *n = cluster_find_node(r->c, node);
    return is_named(r, node) || !n || n->state == CLUSTER_NODE_LOST ||
           n->state == CLUSTER_NODE_REMOVED;
}

static void add_name(char *list, const char *name)
{
    size_t at = strlen(list);
    if (at + strlen(name) + 3 < NAMES)
        snprintf(list + at, NAMES - at, "%s%s", at ? ", " : "", name);
}

/* ---- may they be given up? ---- */

static enum err check_nodes(const struct recover_lost *r, char *why, size_t n)
{
    for (uint32_t i = 0; i < r->n; i++) {
        char buf[24];
        const char *name = name_of(r, r->node[i], buf);
        enum liveness_state state = liveness_state(r->live, r->node[i], r->now);
        const struct live_node *live = liveness_node(r->live, r->node[i]);
        if (state == LIVE_UP || state == LIVE_SUSPECT) {
            snprintf(why, n,
                     "%s is not lost: it was heard %llu s ago. Stop it for good, and wait until it "
                     "counts as down; if it is to go, drain it instead",
                     name, live ? (ull)((r->now - live->heard) / NS_PER_S) : 0ULL);
            return ERR_REFUSED;
        }
        if (!live && r->now - r->live->since < r->live->down_ns) {
            snprintf(why, n,
                     "placementd's leader has just begun and may not have heard of %s yet: try "
                     "again in %llu s",
                     name, (ull)((r->live->down_ns - (r->now - r->live->since)) / NS_PER_S + 1));
            return ERR_REFUSED;
        }
    }
    return ERR_OK;
}

/* ---- one group ---- */

struct survey {
    unsigned voters, left; /* left: voters on nodes that are not lost */
    unsigned silent;       /* those of them that are not heard */
    bool touched;          /* has a replica on a node that is named */
    uint32_t silent_node;
    int best; /* in desc.replica[]; -1: none */
    const struct live_replica *best_live;
    char lost[NAMES]; /* names */
};

/* What has no vote is only taken if nothing else is left: it may lack more than the last. */
static bool better(const struct survey *s, const struct shard_desc *d, uint32_t i,
                   const struct live_replica *l)
{
    if (s->best < 0)
        return true;
    bool votes = d->replica[i].role == GROUP_VOTER;
    bool best_votes = d->replica[s->best].role == GROUP_VOTER;
    if (votes != best_votes)
        return votes;
    if (l->log_term != s->best_live->log_term)
        return l->log_term > s->best_live->log_term;
    return l->log_index > s->best_live->log_index;
}

static void survey_replica(const struct recover_lost *r, const struct shard_desc *d, uint32_t i,
                           struct survey *s)
{
    uint32_t node = d->replica[i].node;
    const struct live_replica *l = liveness_replica(r->live, node, d->group);
    bool votes = d->replica[i].role == GROUP_VOTER;
    char buf[24];
    s->voters += votes;
    s->touched = s->touched || is_named(r, node);
    if (is_lost(r, node)) {
        add_name(s->lost, name_of(r, node, buf));
        return;
    }
    s->left += votes;
    if (liveness_state(r->live, node, r->now) != LIVE_UP) {
        s->silent += votes;
        s->silent_node = votes ? node : s->silent_node;
    } else if (l && l->replica == d->replica[i].replica && l->applied > 0 &&
               l->state <= MSG_REPLICA_LEADER && better(s, d, i, l)) {
        s->best = (int)i;
        s->best_live = l;
    }
}

/* How far behind its leader the replica was when that was last heard; "" if it was not. */
static void behind(const struct recover_lost *r, const struct cluster_group *g, uint64_t replica,
                   char *out, size_t n)
{
    const struct live_group *live = liveness_group(r->live, g->desc.group);
    uint64_t last = 0, mine = 0;
    out[0] = '\0';
    for (uint32_t i = 0; live && i < live->n_members; i++) {
        if (live->member[i].match > last)
            last = live->member[i].match;
        if (live->member[i].replica == replica)
            mine = live->member[i].match;
    }
    if (last && mine)
        snprintf(out, n, " (when its leader was last heard it lacked %llu entries)",
                 (ull)(last - mine));
}

static enum err survey_group(const struct recover_lost *r, const struct cluster_group *g,
                             struct cluster_command *cmd, struct tally *t, char *why, size_t n)
{
    const struct shard_desc *d = &g->desc;
    struct survey s = {.best = -1};
    char buf[24], lag[100];
    for (uint32_t i = 0; i < d->n_replicas; i++)
        survey_replica(r, d, i, &s);
    bool dead = s.left < s.voters / 2 + 1;
    t->touched += s.touched;
    t->kept += s.touched && !dead;
    if (!dead && s.touched && s.left - s.silent < s.voters / 2 + 1) {
        snprintf(
            why, n,
            "g%llu keeps a majority only with %s, which is not heard: start that node first, or "
            "name it as lost too",
            (ull)d->group, name_of(r, s.silent_node, buf));
        return ERR_REFUSED;
    }
    if (!dead || g->force)
        return ERR_OK;
    if (s.silent) {
        snprintf(why, n,
                 "g%llu loses its majority, and %s, which has a replica of it, is not heard: start "
                 "that node first, for it may have more than the others, or name it as lost too",
                 (ull)d->group, name_of(r, s.silent_node, buf));
        return ERR_REFUSED;
    }
    if (s.best < 0) {
        say(r,
            "g%llu (slots %u-%u): no replica survives (%s). Its data is lost, its slots stay "
            "unavailable",
            (ull)d->group, d->first_slot, d->last_slot, s.lost);
        t->gone++;
        return ERR_OK;
    }
    uint64_t replica = d->replica[s.best].replica;
    behind(r, g, replica, lag, sizeof(lag));
    say(r,
        "g%llu (slots %u-%u): goes on with the replica on %s alone%s, as of log entry %llu%s. "
        "Given "
        "up: acknowledged writes that only %s had",
        (ull)d->group, d->first_slot, d->last_slot, name_of(r, d->replica[s.best].node, buf),
        d->replica[s.best].role == GROUP_VOTER ? "" : ", which is a standby and has no vote",
        (ull)s.best_live->log_index, lag, s.lost);
    cmd->created[cmd->n_created++] = (struct cluster_created){d->group, replica};
    t->forced++;
    return ERR_OK;
}

/* ---- all ---- */

static void sum_up(const struct recover_lost *r, const struct tally *t)
{
    char list[NAMES] = "", buf[24];
    unsigned up = 0;
    for (uint32_t i = 0; i < r->n; i++)
        add_name(list, name_of(r, r->node[i], buf));
    for (uint32_t i = 0; i < r->c->n_nodes; i++)
        up += r->c->nodes[i].state == CLUSTER_NODE_IN &&
              liveness_state(r->live, r->c->nodes[i].id, r->now) == LIVE_UP;
    say(r, "given up for good: %s. They must never come back with their old data: empty it", list);
    if (t->kept)
        say(r, "%u groups have lost replicas and keep their majority: those are replaced", t->kept);
    say(r, "%u groups are forced, %u of %u lose nothing", t->forced,
        r->c->n_groups - t->forced - t->gone, r->c->n_groups);
    if (up < 3)
        say(r, "%u nodes are up: three replicas of each group come back once there are three nodes",
            up);
}

enum err recover_lost_plan(const struct recover_lost *r, struct cluster_command *cmd, char *why,
                           size_t n)
{
    struct tally t = {0};
    enum err e = check_nodes(r, why, n);
    *cmd = (struct cluster_command){.kind = CLUSTER_CMD_LOST};
    if (e != ERR_OK)
        return e;
    cmd->created = mem_alloc((r->c->n_groups + 1u) * sizeof(*cmd->created));
    for (uint32_t i = 0; i < r->c->n_groups && e == ERR_OK; i++)
        e = survey_group(r, &r->c->groups[i], cmd, &t, why, n);
    if (e != ERR_OK) {
        cluster_command_close(cmd);
        return e;
    }
    cmd->lost = mem_alloc((r->n + 1u) * sizeof(*cmd->lost));
    for (uint32_t i = 0; i < r->n; i++)
        cmd->lost[cmd->n_lost++] = r->node[i];
    sum_up(r, &t);
    return ERR_OK;
}
