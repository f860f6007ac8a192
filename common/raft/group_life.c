/* Start and stop of a replica, and its restart from what is on disk.
 *
 * A start matches the log found in the WAL against the position that the engine has made durable:
 *   - the log has that position at its term: it goes on behind it;
 *   - it lacks it (a snapshot was installed and the process ended before the old log was cut): the
 *     old entries are cut off now, before anything can be appended behind them;
 *   - it begins later than the position + 1: entries are missing, ERR_CORRUPT. */
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/raft/group_internal.h"

/* The configuration in force: the last one in the log, or that of the durable position. */
static void conf_of_log(const struct group *g, struct group_conf *out)
{
    *out = g->durable.conf;
    for (uint64_t i = group_log_last(g->log); i > g->log->base && i > g->durable.conf_index; i--) {
        struct slice payload;
        if (group_log_find(g->log, i)->kind != LOG_KIND_CHANGE)
            continue;
        CHECK(group_log_payload(g->log, i, &payload) && raft_conf_parse(payload, out));
        return;
    }
}

/* SINGLE at start: libraft would lead at once in the term that it last had. */
static void single_voter_start(struct group *g)
{
    struct group_conf conf;
    conf_of_log(g, &conf);
    const struct group_member *self = group_conf_find(&conf, g->replica);
    if (!GUARD(SINGLE) || !self || self->role != GROUP_VOTER || raft_conf_voters(&conf) != 1)
        return;
    g->log->term++;
    g->log->vote = g->replica;
    g->hold = group_log_save(g->log);
}

static struct raft_entry *start_entries(const struct group *g, unsigned *n)
{
    struct group_log *l = g->log;
    struct raft_entry *entries = mem_zalloc((l->n + 1) * sizeof *entries);
    for (size_t i = 0; i < l->n; i++) {
        uint64_t index = l->base + 1 + i;
        const struct log_entry *e = group_log_find(l, index);
        struct slice payload = {NULL, 0};
        if (e->kind == LOG_KIND_CHANGE)
            CHECK(group_log_payload(l, index, &payload));
        entries[i].term = e->term;
        entries[i].type = (enum raft_entry_type)e->kind;
        entries[i].buf.base = (void *)(uintptr_t)payload.p; /* only read */
        entries[i].buf.len = payload.n;
        entries[i].batch = entries;
    }
    *n = (unsigned)l->n;
    return entries;
}

static void init_raft(struct group *g)
{
    struct group_set *s = g->set;
    struct raft *r = &g->r;
    memset(r, 0, sizeof *r);
    CHECK(raft_init(r, NULL, NULL, g->replica, g->address) == 0);
    r->tracer = NULL; /* its buffers are static, shared by threads, and cost half the speed */
    raft_seed(r, (unsigned)io_random(s->io));
    raft_set_election_timeout(r, s->o.election_timeout_ms);
    raft_set_heartbeat_timeout(r, s->o.heartbeat_ms);
    raft_set_install_snapshot_timeout(r, GROUP_INSTALL_TIMEOUT_MS);
    raft_set_max_inflight_entries(r, LIMIT_RAFT_INFLIGHT_ENTRIES);
    raft_set_pre_vote(r, true);
}

void group_boot(struct group *g)
{
    struct group_log *l = g->log;
    struct group_position *d = &g->durable;
    struct raft_event ev = group_event(RAFT_START);
    struct raft_snapshot_metadata meta = {.index = d->index, .term = d->term};
    g->applied = *d;
    g->conf = (struct group_conf){0};
    l->stable = d->index;
    if (l->term < d->term) { /* the snapshot became durable before the term did: nobody was told */
        l->term = d->term;
        l->vote = 0;
        g->hold = group_log_save(l);
    }
    init_raft(g);
    single_voter_start(g);
    /* Term and vote may be those of an earlier start in this process, not durable yet. */
    g->hold = l->state_lsn;
    if (d->index) {
        raft_conf_to(&d->conf, &meta.configuration);
        meta.configuration_index = d->conf_index;
        ev.start.metadata = &meta;
    }
    /* Entries that the WAL has not made durable yet (a restart within the process) count as stored
     * here, so nothing may be said that rests on them. */
    const struct log_entry *last = group_log_find(l, group_log_last(l));
    if (last && last->lsn >= wal_durable_lsn(g->set->wal)) {
        if (g->hold < last->lsn)
            g->hold = last->lsn;
        list_remove(&g->unstored);
        list_push_back(&g->set->unstored, &g->unstored);
    }
    unsigned n;
    struct raft_entry *entries = start_entries(g, &n);
    ev.start.term = l->term;
    ev.start.voted_for = l->vote;
    ev.start.start_index = l->base + 1;
    ev.start.entries = n ? entries : NULL;
    ev.start.n_entries = n;
    g->role_term = 0;
    CHECK(group_step(g, &ev) == 0); /* its input was checked: only memory can fail */
    free(entries);
    if (g->campaign && g->r.state == RAFT_FOLLOWER) {
        g->r.follower_state.randomized_election_timeout =
            1 + (unsigned)(io_random(g->set->io) % 10);
        group_schedule(g);
    }
}

static enum err match_log(struct group *g, bool create)
{
    struct group_log *l = g->log;
    const struct group_position *d = &g->durable;
    if (create) {
        if (l->exists)
            return ERR_EXISTS;
        l->term = d->term;
        l->vote = 0;
        g->hold = group_log_cut(l, d->index, d->term);
        return ERR_OK;
    }
    if (!l->exists || l->damaged || l->base > d->index)
        return ERR_CORRUPT;
    uint64_t term = group_log_term_of(l, d->index);
    if (d->index == l->base && (term == 0 || term == d->term)) {
        l->base_term = d->term;
        return ERR_OK;
    }
    if (term == d->term) {
        if (d->index > GROUP_TRAILING)
            group_log_drop(l, d->index - GROUP_TRAILING);
        return ERR_OK;
    }
    if (d->index == l->base)
        return ERR_CORRUPT;
    if (l->term < d->term) {
        l->term = d->term;
        l->vote = 0;
    }
    g->hold = group_log_cut(l, d->index, d->term);
    return ERR_OK;
}

enum err group_start(struct group_set *set, const struct group_options *options, struct group **out)
{
    const struct group_position *d = &options->durable;
    CHECK(options->group && options->replica);
    if (group_set_find(set, options->group))
        return ERR_EXISTS;
    if ((d->index == 0) != (d->term == 0) || (d->index && !raft_conf_valid(&d->conf)))
        return ERR_CORRUPT;
    struct group *g = mem_zalloc(sizeof *g);
    g->set = set;
    g->id = options->group;
    g->replica = options->replica;
    g->ops = options->ops;
    g->arg = options->arg;
    g->durable = *d;
    g->log = &group_set_new_slot(set, options->group)->log;
    enum err e = match_log(g, options->create);
    if (e != ERR_OK) {
        free(g);
        return e;
    }
    list_init(&g->held);
    list_init(&g->dirty);
    list_init(&g->unstored);
    list_init(&g->holding);
    list_init(&g->reading);
    read_index_init(&g->reads);
    follower_read_init(&g->follower, io_random(set->io));
    g->log->on_loaded = group_on_loaded;
    g->log->arg = g;
    const struct group_member *self = group_conf_find(&d->conf, g->replica);
    raft_address_format(self ? self->node : 0, g->replica, g->address);
    g->campaign = options->campaign ? GROUP_CAMPAIGN_TRIES : 0;
    if (set->o.vote_holiday && !options->create)
        g->holiday_ms = io_now_exact(set->io) / NS_PER_MS + 1 + set->o.election_timeout_ms;
    group_set_add(set, g);
    group_boot(g);
    *out = g;
    return ERR_OK;
}

void group_stop(struct group *g)
{
    struct group_set *s = g->set;
    read_index_fail(&g->reads, ERR_SHUTTING_DOWN);
    read_index_run(&g->reads, 0, 0);
    CHECK(read_index_empty(&g->reads));
    follower_read_fail(&g->follower, ERR_SHUTTING_DOWN);
    follower_read_run(&g->follower, 0, 0);
    CHECK(follower_read_empty(&g->follower));
    group_drop_held(g);
    group_log_forget_loads(g->log);
    g->log->on_loaded = NULL;
    list_remove(&g->dirty);
    list_remove(&g->unstored);
    list_remove(&g->holding);
    list_remove(&g->reading);
    group_set_remove(s, g);
    raft_close(&g->r, NULL);
    buf_close(&g->install.manifest);
    free(g);
}

uint64_t group_needed_lsn(const struct group *g)
{
    const struct group_log *l = g->log;
    if (l->n == 0)
        return UINT64_MAX;
    uint64_t next = wal_next_lsn(g->set->wal);
    uint64_t margin = 2 * g->set->segment;
    uint64_t horizon = next > margin ? next - margin : 0;
    /* What the engine lacks is needed; what is kept for followers that lag only while it is young:
     * an idle group must not hold old segments for ever. */
    uint64_t first = l->entries[l->start].lsn;
    if (first < horizon)
        first = horizon;
    const struct log_entry *e =
        group_log_find(l, g->durable.index < l->base ? l->base + 1 : g->durable.index + 1);
    return e && e->lsn < first ? e->lsn : first;
}
