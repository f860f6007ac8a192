#include "shardd/health.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/http/mp_json.h"
#include "common/raft/snapshot_serve.h"

struct health *health_create(const struct node *node)
{
    unsigned n = node->options.cores;
    struct health *h = mem_zalloc(sizeof *h + n * sizeof h->core[0]);
    h->node = node;
    h->n = n;
    return h;
}

void health_destroy(void *health)
{
    struct health *h = health;
    for (unsigned i = 0; i < h->n; i++)
        buf_close(&h->core[i].replicas);
    free(h);
}

const char *health_state_name(unsigned state)
{
    static const char *const names[HEALTH_STATES] = {"starting", "running", "installing", "broken",
                                                     "stopped"};
    CHECK(state < HEALTH_STATES);
    return names[state];
}

/* ---- sampling, on the core's thread ---- */

static void sample_replica(const struct replica *r, struct health_core *out)
{
    struct health_replica h = {
        .group = r->shard.group,
        .replica = r->shard.replica,
        .applied = r->applied.index,
        .bytes = r->stats.disk_bytes + r->stats.memtable_bytes,
        .keys = r->stats.keys,
        .epoch = r->shard.epoch,
        .first_slot = r->shard.first_slot,
        .last_slot = r->shard.last_slot,
        .state = (uint8_t)r->state,
        .role = GROUP_SPARE,
        .stalled = r->stats.stalled,
    };
    const struct group_member *self = group_conf_find(&r->applied.conf, r->shard.replica);
    if (self)
        h.role = self->role;
    if (r->group) {
        h.term = group_term(r->group);
        h.leader = replica_is_leader(r);
    }
    if (r->state == REPLICA_BROKEN)
        snprintf(h.reason, sizeof h.reason, "%.*s", (int)sizeof h.reason - 1, r->broken);
    out->n_states[r->state]++;
    out->n_stalled += h.stalled;
    out->memtable_bytes += r->stats.memtable_bytes;
    out->disk_bytes += r->stats.disk_bytes;
    out->keys += r->stats.keys;
    out->sessions += dedupe_sessions(r->dedupe);
    out->session_results += dedupe_results(r->dedupe);
    buf_append(&out->replicas, &h, sizeof h);
}

static void sample_log(struct core *c, struct health_core *out)
{
    const struct wal *wal = group_set_wal(c->groups);
    out->raft = *group_set_stats(c->groups);
    out->wal = *wal_stats(wal);
    wal_usage(wal, &out->wal_segments, &out->wal_bytes);
    out->leaders = group_set_leaders(c->groups);
}

void health_sample(struct core *c, struct health_core *out)
{
    size_t it = 0;
    void *value;
    out->stats = c->stats;
    if (c->groups)
        sample_log(c, out);
    if (c->peers)
        out->peers = *peer_stats(c->peers);
    if (c->snapshot_server) {
        struct snapshot_server_stats served;
        snapshot_server_stats(c->snapshot_server, &served);
        out->snapshot_bytes_out = served.bytes;
    }
    LIST_FOR(item, &c->sessions)
    {
        out->connections++;
    }
    out->snapshot_bytes_in = c->fetch_rate.taken;
    out->requests = c->n_requests;
    out->request_bytes = c->request_bytes;
    out->disk_free = c->disk_free;
    out->disk_size = c->disk_size;
    out->map_version = c->map.version;
    out->node_id = c->node_id;
    memcpy(out->cluster, c->cluster, sizeof out->cluster);
    out->no_space = c->no_space;
    out->over_memory = c->over_memory;
    out->stopping = c->stage > 0;
    while (map_next(&c->replicas, &it, NULL, &value))
        sample_replica(value, out);
}

/* ---- sums ---- */

static void add_stats(struct core_stats *to, const struct core_stats *from)
{
    to->requests += from->requests;
    to->replies += from->replies;
    to->refused_busy += from->refused_busy;
    to->forwarded += from->forwarded;
    to->expired += from->expired;
    to->turns += from->turns;
    to->repeated += from->repeated;
    for (unsigned r = 0; r < STATS_RESULTS; r++) {
        for (unsigned m = 0; m < STATS_METHODS; m++)
            to->answers[m][r] += from->answers[m][r];
        to->refused[r] += from->refused[r];
    }
    latency_merge(&to->read, &from->read);
    latency_merge(&to->write, &from->write);
    latency_merge(&to->turn, &from->turn);
}

static void add_raft(struct group_set_stats *to, const struct group_set_stats *from)
{
    to->elections += from->elections;
    to->proposals += from->proposals;
    to->messages_in += from->messages_in;
    to->messages_out += from->messages_out;
    to->reads += from->reads;
    to->read_rounds += from->read_rounds;
    to->log_reads += from->log_reads;
    to->snapshots_out += from->snapshots_out;
    to->snapshots_in += from->snapshots_in;
    to->log_bytes += from->log_bytes;
}

static void add_wal(struct wal_stats *to, const struct wal_stats *from)
{
    to->commits += from->commits;
    to->records += from->records;
    to->bytes += from->bytes;
    to->rotations += from->rotations;
    to->reads += from->reads;
    latency_merge(&to->fsync, &from->fsync);
}

static void add_peers(struct peer_stats *to, const struct peer_stats *from)
{
    to->frames_out += from->frames_out;
    to->frames_in += from->frames_in;
    to->dropped += from->dropped;
    to->connects += from->connects;
    to->refused += from->refused;
}

/* Disk, map and membership are the node's: core 0's word. */
void health_sum(const struct health *h, struct health_core *out)
{
    *out = h->core[0];
    out->replicas = (struct buf){0};
    for (unsigned i = 1; i < h->n; i++) {
        const struct health_core *c = &h->core[i];
        add_stats(&out->stats, &c->stats);
        add_raft(&out->raft, &c->raft);
        add_wal(&out->wal, &c->wal);
        add_peers(&out->peers, &c->peers);
        out->wal_segments += c->wal_segments;
        out->wal_bytes += c->wal_bytes;
        out->leaders += c->leaders;
        out->connections += c->connections;
        out->requests += c->requests;
        out->request_bytes += c->request_bytes;
        out->snapshot_bytes_in += c->snapshot_bytes_in;
        out->snapshot_bytes_out += c->snapshot_bytes_out;
        for (unsigned s = 0; s < HEALTH_STATES; s++)
            out->n_states[s] += c->n_states[s];
        out->n_stalled += c->n_stalled;
        out->memtable_bytes += c->memtable_bytes;
        out->disk_bytes += c->disk_bytes;
        out->keys += c->keys;
        out->sessions += c->sessions;
        out->session_results += c->session_results;
        out->no_space = out->no_space || c->no_space;
        out->over_memory = out->over_memory || c->over_memory;
    }
}

/* ---- readiness and status ---- */

static const struct health_replica *replicas_of(const struct health_core *c, size_t *n)
{
    *n = c->replicas.n / sizeof(struct health_replica);
    return (const struct health_replica *)(const void *)c->replicas.p;
}

static bool check_replicas(const struct health *h, struct buf *out)
{
    unsigned bad = 0;
    size_t total = 0;
    for (unsigned i = 0; i < h->n; i++) {
        size_t n;
        const struct health_replica *r = replicas_of(&h->core[i], &n);
        total += n;
        for (size_t k = 0; k < n; k++) {
            if (r[k].state == REPLICA_RUNNING)
                continue;
            bad++;
            buf_printf(out, "[-] replica of g%llu is %s%s%s\n", (unsigned long long)r[k].group,
                       health_state_name(r[k].state), r[k].reason[0] ? ": " : "", r[k].reason);
        }
    }
    if (bad == 0)
        buf_printf(out, "[+] replicas: all %zu running\n", total);
    return bad == 0;
}

bool health_ready(const struct health *h, struct buf *out)
{
    struct health_core all;
    health_sum(h, &all);
    bool joined = all.node_id != 0;
    buf_printf(out, "[+] replay: done\n");
    if (joined)
        buf_printf(out, "[+] cluster: node %u\n", all.node_id);
    else
        buf_printf(out, "[-] cluster: no placementd has registered this node yet\n");
    bool ok = check_replicas(h, out) && joined;
    if (all.stopping)
        buf_printf(out, "[-] stopping\n");
    /* What follows does not take readiness away: reads, and what is there, are still served. */
    if (joined && !h->placement_connected)
        buf_printf(out, "[!] placementd is not heard: the node goes on with the map it has\n");
    if (all.no_space)
        buf_printf(out, "[!] the disk is nearly full: puts are refused\n");
    if (all.over_memory || all.n_stalled)
        buf_printf(out, "[!] the storage engine is behind: writes are refused for now\n");
    return ok && !all.stopping;
}

static void status_replica(const struct health_replica *r, unsigned core, bool first, struct buf *b)
{
    static const char *const roles[] = {"standby", "voter", "spare"};
    buf_printf(b,
               "%s{\"group\":\"%llu\",\"id\":\"%llu\",\"core\":%u,\"state\":\"%s\",\"role\":\"%s\","
               "\"leader\":%s,\"term\":%llu,\"applied\":%llu,\"first_slot\":%u,\"last_slot\":%u,"
               "\"epoch\":[%u,%u],\"bytes\":%llu,\"keys\":%llu,\"reason\":",
               first ? "" : ",", (unsigned long long)r->group, (unsigned long long)r->replica, core,
               health_state_name(r->state), r->role <= 2 ? roles[r->role] : "?",
               r->leader ? "true" : "false", (unsigned long long)r->term,
               (unsigned long long)r->applied, r->first_slot, r->last_slot, r->epoch.range,
               r->epoch.members, (unsigned long long)r->bytes, (unsigned long long)r->keys);
    if (r->reason[0])
        mp_json_string(slice_str(r->reason), b);
    else
        buf_printf(b, "null");
    buf_u8(b, '}');
}

static void status_core(const struct health_core *c, unsigned number, struct buf *b)
{
    size_t n;
    (void)replicas_of(c, &n);
    buf_printf(b,
               "%s{\"core\":%u,\"leaders\":%u,\"replicas\":%zu,\"connections\":%u,\"requests\":%u,"
               "\"turns\":%llu,\"wal_bytes\":%llu}",
               number ? "," : "", number, c->leaders, n, c->connections, c->requests,
               (unsigned long long)c->stats.turns, (unsigned long long)c->wal_bytes);
}

void health_status(const struct health *h, struct buf *b)
{
    const struct health_core *c = &h->core[0];
    bool first = true;
    buf_printf(b, "{\"schema\":1,\"name\":");
    mp_json_string(slice_str(h->node->options.name), b);
    if (c->node_id)
        buf_printf(b, ",\"id\":\"%u\",\"cluster\":\"", c->node_id);
    else
        buf_printf(b, ",\"id\":null,\"cluster\":\"");
    for (unsigned i = 0; i < 16 && c->node_id; i++)
        buf_printf(b, "%02x", c->cluster[i]);
    buf_printf(b,
               "\",\"placement_connected\":%s,\"map_version\":\"%llu\",\"disk_free\":%llu,"
               "\"disk_size\":%llu,\"cores\":[",
               h->placement_connected ? "true" : "false", (unsigned long long)c->map_version,
               (unsigned long long)c->disk_free, (unsigned long long)c->disk_size);
    for (unsigned i = 0; i < h->n; i++)
        status_core(&h->core[i], i, b);
    buf_printf(b, "],\"replicas\":[");
    for (unsigned i = 0; i < h->n; i++) {
        size_t n;
        const struct health_replica *r = replicas_of(&h->core[i], &n);
        for (size_t k = 0; k < n; k++, first = false)
            status_replica(&r[k], i, first, b);
    }
    buf_printf(b, "]}\n");
}
