/* Committed entries to the owner; compaction; snapshots in and out.
 *
 * An entry is applied once it is committed, stored and durable here. While a snapshot is being
 * installed nothing is applied and the old log stays as it was, so that the replica can start again
 * from it if the snapshot fails. */
#include <stdlib.h>

#include "common/base/check.h"
#include "common/raft/group_internal.h"

static void apply_conf(struct group *g, uint64_t index, struct slice payload)
{
    CHECK(raft_conf_parse(payload, &g->applied.conf)); /* checked before it entered the log */
    g->applied.conf_index = index;
    struct raft_event ev = group_event(RAFT_CONFIGURATION);
    ev.configuration.index = index;
    raft_conf_to(&g->applied.conf, &ev.configuration.conf);
    if (group_step(g, &ev) != 0)
        group_fail(g, ERR_INTERNAL, "libraft refused a committed configuration");
    if (g->ops->on_conf)
        g->ops->on_conf(g->arg, &g->applied.conf);
}

static void apply_entry(struct group *g, const struct log_entry *e, struct slice payload)
{
    g->applied.index++;
    g->applied.term = e->term;
    if (group_is_leader(g) && e->kind == LOG_KIND_COMMAND && e->term == g->r.current_term)
        g->inflight -= e->n < g->inflight ? e->n : g->inflight;
    if (e->kind == LOG_KIND_CHANGE) {
        apply_conf(g, g->applied.index, payload);
    } else if (e->kind == LOG_KIND_COMMAND) {
        struct group_entry entry = {.index = g->applied.index, .term = e->term, .payload = payload};
        g->ops->apply(g->arg, &entry);
    }
}

static uint64_t apply_limit(const struct group *g)
{
    uint64_t limit = g->r.commit_index;
    if (limit > g->r.last_stored || GROUP_BUG(BUG_APPLY_EARLY))
        limit = g->r.last_stored;
    return limit;
}

void group_apply(struct group *g)
{
    uint64_t limit = apply_limit(g), bytes = 0;
    uint64_t durable = wal_durable_lsn(g->set->wal);
    unsigned n = 0;
    if (g->install.active || g->broken || g->in_apply || g->applied.index >= limit)
        return;
    g->in_apply = true;
    g->set->pool.locked++;
    while (g->applied.index < limit && !g->broken) {
        const struct log_entry *e = group_log_find(g->log, g->applied.index + 1);
        struct slice payload;
        CHECK(e); /* the log is cut only up to what was applied */
        if (e->lsn >= durable && !GROUP_BUG(BUG_ACK_EARLY))
            break;
        if (!group_log_payload(g->log, g->applied.index + 1, &payload)) {
            if (!group_log_load(g->log, g->applied.index + 1, limit))
                group_later(g);
            break;
        }
        if (n == GROUP_APPLY_ENTRIES || (n && bytes + payload.n > GROUP_APPLY_BYTES)) {
            group_later(g); /* the rest in the next turn */
            break;
        }
        n++;
        bytes += payload.n;
        struct log_entry copy = *e; /* the array may move while the owner proposes */
        apply_entry(g, &copy, payload);
    }
    g->set->pool.locked--;
    g->in_apply = false;
    if (n && g->ops->applied)
        g->ops->applied(g->arg);
}

/* ---- compaction ---- */

void group_compact(struct group *g, const struct group_position *p)
{
    if (g->broken || g->install.active || p->index <= g->durable.index ||
        p->index > g->applied.index)
        return;
    if (g->in_apply) { /* payloads are borrowed */
        g->compact_later = true;
        g->compact_to = *p;
        group_dirty(g);
        return;
    }
    g->durable = *p;
    g->log->stable = p->index;
    struct raft_event ev = group_event(RAFT_SNAPSHOT);
    ev.snapshot.metadata.index = p->index;
    ev.snapshot.metadata.term = p->term;
    ev.snapshot.metadata.configuration_index = p->conf_index;
    raft_conf_to(&p->conf, &ev.snapshot.metadata.configuration);
    ev.snapshot.trailing = GROUP_TRAILING;
    if (group_step(g, &ev) != 0) {
        group_fail(g, ERR_INTERNAL, "libraft refused a compaction");
        return;
    }
    group_log_drop(g->log, g->r.trail.offset);
}

void group_run_compact(struct group *g)
{
    if (!g->compact_later)
        return;
    g->compact_later = false;
    group_compact(g, &g->compact_to);
}

/* ---- snapshots ---- */

void group_offer_snapshot(struct group *g, uint64_t replica, const struct group_position *p,
                          struct slice manifest)
{
    struct group_peer *peer = group_peer_find(g, replica);
    /* Behind the log's beginning it would not help: libraft asks again. */
    if (g->broken || !group_is_leader(g) || !peer || p->index + 1 < group_log_first(g->log) ||
        manifest.n > LIMIT_MANIFEST || p->term > g->r.current_term)
        return;
    struct group_msg m = {.type = MSG_INSTALL, .to = replica};
    m.install.term = g->r.current_term;
    m.install.position = *p;
    m.install.manifest = manifest;
    g->set->stats.snapshots_out++;
    peer->offered_ms = now_ms(g->set);
    group_send(g, peer->node, &m, NULL);
}

/* The update's data is ours. The log in memory stays: it is what a failed install goes back to. */
void group_begin_install(struct group *g, struct raft_update *u)
{
    struct raft_snapshot_metadata *m = &u->snapshot.metadata;
    struct group_install *in = &g->install;
    in->active = true;
    in->told = false;
    in->position = (struct group_position){
        .index = m->index, .term = m->term, .conf_index = m->configuration_index};
    raft_conf_from(&m->configuration, &in->position.conf);
    raft_configuration_close(&m->configuration);
    buf_clear(&in->manifest);
    buf_append(&in->manifest, u->snapshot.chunk.base, u->snapshot.chunk.len);
    raft_free(u->snapshot.chunk.base);
    uint64_t from = g->r.follower_state.current_leader.id;
    in->from =
        (struct group_member){.replica = from,
                              .node = raft_address_node(g->r.follower_state.current_leader.address),
                              .role = GROUP_VOTER};
}

void group_run_install(struct group *g)
{
    struct group_install *in = &g->install;
    if (!in->active || in->told)
        return;
    in->told = true;
    g->ops->install(g->arg, &in->position, buf_slice(&in->manifest), &in->from);
}

static void end_install(struct group *g, const struct group_position *p)
{
    g->install.active = false;
    buf_close(&g->install.manifest);
    g->durable = *p;
    g->log->stable = p->index;
}

void group_reboot(struct group *g)
{
    raft_close(&g->r, NULL);
    group_log_forget_loads(g->log);
    read_index_fail(&g->reads, ERR_NOT_LEADER);
    follower_read_reset(&g->follower);
    group_boot(g);
}

void group_installed(struct group *g, const struct group_position *p)
{
    if (!g->install.active || g->broken)
        return;
    bool as_asked = p->index == g->install.position.index && p->term == g->install.position.term;
    end_install(g, p);
    g->set->stats.snapshots_in++;
    if (!GROUP_BUG(BUG_KEEP_LOG)) {
        uint64_t lsn = group_log_cut(g->log, p->index, p->term);
        if (!as_asked)
            g->hold = lsn;
    }
    if (!as_asked) {
        group_reboot(g);
        return;
    }
    if (GROUP_BUG(BUG_KEEP_LOG)) {
        group_log_truncate(g->log, g->log->base + 1);
        g->log->base = p->index;
        g->log->base_term = p->term;
    }
    g->applied = *p;
    struct raft_event ev = group_event(RAFT_PERSISTED_SNAPSHOT);
    ev.persisted_snapshot.metadata.index = p->index;
    ev.persisted_snapshot.metadata.term = p->term;
    ev.persisted_snapshot.metadata.configuration_index = p->conf_index;
    raft_conf_to(&p->conf, &ev.persisted_snapshot.metadata.configuration);
    ev.persisted_snapshot.last = true;
    if (group_step(g, &ev) != 0)
        group_fail(g, ERR_INTERNAL, "libraft refused an installed snapshot");
}

void group_install_failed(struct group *g, const struct group_position *durable)
{
    if (!g->install.active || g->broken)
        return;
    end_install(g, durable);
    if (durable->index < g->log->base) {
        group_fail(g, ERR_CORRUPT, "the log begins after the durable position");
        return;
    }
    /* The failure may have come after the swap. */
    if (group_log_term_of(g->log, durable->index) != durable->term)
        group_log_cut(g->log, durable->index, durable->term);
    group_reboot(g);
}
