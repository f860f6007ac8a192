/* Leadership transfer and membership changes, forced ones too. */
#include "common/base/check.h"
#include "common/raft/group_internal.h"

/* A transfer holds up everybody's writes until its deadline: not for one that is down, however
 * often it is asked for. */
bool group_answers(const struct group *g, const struct group_peer *p)
{
    return p->echo + g->set->o.election_timeout_ms * NS_PER_MS >= io_now(g->set->io);
}

static uint64_t most_advanced(struct group *g)
{
    uint64_t best = 0, best_match = 0;
    for (unsigned i = 0; i < g->peers; i++) {
        uint64_t match = group_match(g, g->peer[i].replica);
        if (g->peer[i].voter && group_answers(g, &g->peer[i]) &&
            (best == 0 || match > best_match)) {
            best = g->peer[i].replica;
            best_match = match;
        }
    }
    return best;
}

enum err group_transfer(struct group *g, uint64_t replica)
{
    if (g->broken || !group_is_leader(g))
        return ERR_NOT_LEADER;
    if (g->transfer.target || raft_transferee(&g->r) || g->r.configuration_uncommitted_index)
        return ERR_BUSY;
    if (replica == 0)
        replica = most_advanced(g);
    const struct group_peer *p = group_peer_find(g, replica);
    if (!p || !p->voter)
        return ERR_REFUSED;
    if (!group_answers(g, p))
        return ERR_BUSY;
    g->transfer = (struct group_transfer){
        .target = replica, .deadline_ms = now_ms(g->set) + g->set->o.election_timeout_ms};
    group_dirty(g);
    return ERR_OK;
}

bool group_transferring(const struct group *g)
{
    return group_is_leader(g) && (g->transfer.target || raft_transferee((struct raft *)&g->r));
}

bool group_changing(const struct group *g)
{
    return g->r.configuration_uncommitted_index != 0;
}

enum err group_change(struct group *g, const struct group_conf *conf)
{
    if (g->broken || !group_is_leader(g))
        return ERR_NOT_LEADER;
    enum err e = raft_conf_step(&g->conf, conf, g->replica);
    if (e != ERR_OK)
        return e;
    if (g->transfer.target || raft_transferee(&g->r) || g->r.configuration_uncommitted_index)
        return ERR_BUSY;
    /* GATE: without a committed entry of this term, two leaders' changes could both take effect
     * with majorities that do not overlap ("bug in single-server membership changes", Ongaro 2015).
     */
    if (GUARD(GATE) && (g->term_first == 0 || g->r.commit_index < g->term_first))
        return ERR_BUSY;
    for (uint32_t i = 0; i < conf->n; i++) {
        const struct group_member *m = &conf->member[i];
        const struct group_member *old = group_conf_find(&g->conf, m->replica);
        /* A voter that lags would halt commits until it has caught up. */
        if (m->role == GROUP_VOTER && old && old->role != GROUP_VOTER &&
            group_match(g, m->replica) + LIMIT_RAFT_INFLIGHT_ENTRIES < group_last_index(g))
            return ERR_BUSY;
    }
    struct buf b = {0};
    raft_conf_encode(conf, &b);
    int rv = group_submit(g, RAFT_CHANGE, buf_slice(&b));
    buf_close(&b);
    return rv == 0 ? ERR_OK : ERR_BUSY;
}

enum err group_force(struct group *g, const struct group_position *durable)
{
    struct group_log *l = g->log;
    const struct group_member *self = group_conf_find(&g->conf, g->replica);
    if (g->broken || g->install.active)
        return ERR_BUSY;
    if (durable->index == 0 || !self)
        return ERR_REFUSED;
    if (g->conf.n == 1 && self->role == GROUP_VOTER)
        return ERR_OK;
    struct group_conf alone = {
        .n = 1, .member = {{.replica = g->replica, .node = self->node, .role = GROUP_VOTER}}};
    struct buf b = {0};
    raft_conf_encode(&alone, &b);
    group_drop_held(g);
    l->term = (l->term > g->r.current_term ? l->term : g->r.current_term) + 1;
    l->vote = 0;
    (void)group_log_save(l);
    group_log_append(l, l->term, LOG_KIND_CHANGE, buf_slice(&b));
    buf_close(&b);
    g->durable = *durable;
    l->stable = durable->index;
    group_reboot(g);
    return ERR_OK;
}
