#include "shardd/step.h"

#include "common/base/log.h"
#include "shardd/core.h"
#include "shardd/handover.h"
#include "shardd/merge.h"
#include "shardd/split.h"

/* Entries. A member that close to the log's end has caught up; the driver asks for less. */
#define CAUGHT_UP 128u
/* A target of a transfer that is further behind would have proposals wait for long. */
#define NEARLY 2048u

typedef unsigned long long ull;

/* ---- replicas of this node ---- */

static void create(struct core *c, const struct msg_step *s)
{
    uint64_t group = s->shard.group;
    if (core_find_replica(c, group) || c->no_space)
        return;
    if (tombstones_has(&c->tombstones, group, s->replica)) {
        log_warn("create_refused", "core=%u group=%llu replica=%llu; it was destroyed here",
                 c->number, (ull)group, (ull)s->replica);
        return;
    }
    if (s->join)
        replica_join(c, &s->shard, s->replica);
    else
        replica_create(c, &s->shard, s->replica, s->campaign);
}

/* Also one that is not here must not come later: the order to make it may still be on its way. */
static void destroy(struct core *c, const struct msg_step *s)
{
    const struct replica *r = core_find_replica(c, s->shard.group);
    if (r) {
        core_destroy_replica(c, s->shard.group, s->replica);
    } else if (!tombstones_has(&c->tombstones, s->shard.group, s->replica)) {
        tombstones_add(&c->tombstones, s->shard.group, s->replica);
        tombstones_save(&c->tombstones);
    }
}

/* ---- steps of a leader ---- */

static bool within(const struct replica *r, uint64_t replica, uint64_t entries)
{
    uint64_t match = group_match(r->group, replica);
    return match > 0 && match + entries >= group_last_index(r->group);
}

static enum err add_standby(struct replica *r, const struct msg_step *s)
{
    struct group_conf conf = r->applied.conf;
    const struct group_member *m = group_conf_find(&conf, s->replica);
    if (m)
        return m->node == s->node ? ERR_OK : ERR_EXISTS;
    /* One that was given up may have come in after all: it has to go first. */
    for (uint32_t i = 0; i < conf.n; i++)
        if (conf.member[i].node == s->node)
            return ERR_EXISTS;
    if (conf.n == LIMIT_GROUP_MEMBERS)
        return ERR_REFUSED;
    conf.member[conf.n++] = (struct group_member){s->replica, s->node, GROUP_STANDBY};
    return group_change(r->group, &conf);
}

static enum err promote(struct replica *r, const struct msg_step *s)
{
    struct group_conf conf = r->applied.conf;
    for (uint32_t i = 0; i < conf.n; i++) {
        if (conf.member[i].replica != s->replica)
            continue;
        if (conf.member[i].role == GROUP_VOTER)
            return ERR_OK;
        if (!within(r, s->replica, CAUGHT_UP))
            return ERR_BUSY;
        conf.member[i].role = GROUP_VOTER;
        return group_change(r->group, &conf);
    }
    return ERR_NOT_FOUND;
}

/* Enough of the voters of `conf` have caught up to commit what follows: a group that loses a member
 * must not stand still because others are away. */
static bool can_commit(const struct replica *r, const struct group_conf *conf)
{
    unsigned voters = 0, fit = 0;
    for (uint32_t i = 0; i < conf->n; i++) {
        if (conf->member[i].role != GROUP_VOTER)
            continue;
        voters++;
        fit += conf->member[i].replica == r->shard.replica ||
               within(r, conf->member[i].replica, NEARLY);
    }
    return fit > voters / 2;
}

static enum err remove_member(struct replica *r, const struct msg_step *s)
{
    struct group_conf conf = {0};
    for (uint32_t i = 0; i < r->applied.conf.n; i++)
        if (r->applied.conf.member[i].replica != s->replica)
            conf.member[conf.n++] = r->applied.conf.member[i];
    if (conf.n == r->applied.conf.n)
        return ERR_OK;
    if (s->replica == r->shard.replica) /* the next leader does it */
        return group_transferring(r->group) ? ERR_OK : handover_begin(r, 0);
    const struct group_member *gone = group_conf_find(&r->applied.conf, s->replica);
    if (gone->role == GROUP_VOTER && !can_commit(r, &conf))
        return ERR_BUSY;
    return group_change(r->group, &conf);
}

static enum err transfer(struct replica *r, const struct msg_step *s)
{
    if (s->replica == r->shard.replica || group_transferring(r->group))
        return ERR_OK;
    const struct group_member *m = group_conf_find(&r->applied.conf, s->replica);
    if (!m)
        return ERR_NOT_FOUND;
    if (m->role != GROUP_VOTER)
        return ERR_REFUSED;
    return within(r, s->replica, NEARLY) ? handover_begin(r, s->replica) : ERR_BUSY;
}

static enum err lead(struct replica *r, const struct msg_step *s)
{
    switch (s->kind) {
    case MSG_STEP_ADD_STANDBY:
        return add_standby(r, s);
    case MSG_STEP_PROMOTE:
        return promote(r, s);
    case MSG_STEP_REMOVE:
        return remove_member(r, s);
    case MSG_STEP_TRANSFER:
        return transfer(r, s);
    case MSG_STEP_MERGE_TARGET:
    case MSG_STEP_MERGE_INTENT:
    case MSG_STEP_MERGE_FREEZE:
    case MSG_STEP_MERGE_OWN:
    case MSG_STEP_MERGE_ABORT:
    case MSG_STEP_MERGE_UNFREEZE:
        return merge_step(r, s);
    case MSG_STEP_SPLIT:
        return split_step(r, s);
    default:
        return ERR_UNKNOWN_METHOD; /* of a later version */
    }
}

/* The order's epoch is that of the map or later: an order that comes late meets the epoch of the
 * forced one, which is far beyond. */
static enum err force(struct replica *r, const struct msg_step *s)
{
    if (r->shard.replica != s->replica || shard_epoch_less(s->shard.epoch, r->shard.epoch))
        return ERR_WRONG_EPOCH;
    return replica_force(r);
}

/* The report tells the last refusal; what is done clears it. */
static void remember(struct replica *r, const struct msg_step *s, enum err e)
{
    uint64_t op = e == ERR_OK ? 0 : s->op;
    if (r->refused_op == op && r->refused_err == e)
        return;
    if (e != ERR_OK)
        log_info("step_refused", "core=%u group=%llu op=%llu kind=%u replica=%llu error=%s",
                 r->core->number, (ull)r->shard.group, (ull)s->op, s->kind, (ull)s->replica,
                 err_name(e));
    r->refused_op = op;
    r->refused_err = e;
    core_changed(r->core);
}

void step_run(struct core *c, const struct msg_step *s)
{
    if (c->stage > 0 || !c->peers)
        return;
    if (s->kind == MSG_STEP_CREATE_REPLICA) {
        create(c, s);
        return;
    }
    if (s->kind == MSG_STEP_DESTROY_REPLICA) {
        destroy(c, s);
        return;
    }
    struct replica *r = core_find_replica(c, s->shard.group);
    if (r && !r->doomed && s->kind == MSG_STEP_FORCE) {
        remember(r, s, force(r, s));
        return;
    }
    bool now = r && r->shard.epoch.range == s->shard.epoch.range &&
               r->shard.epoch.members == s->shard.epoch.members;
    if (!r || r->doomed || !replica_is_leader(r) || !(now || SHARD_BUG(EPOCH)) ||
        group_changing(r->group))
        return;
    remember(r, s, lead(r, s));
}
