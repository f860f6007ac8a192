/* The full world: placementd members, shardd nodes and client processes, as they run in
 * production, over simulated machines.
 *
 * Hosts 1 .. P are placementd's, the next N are shardd's, the last two the clients'. Faults strike
 * the first P + N. Clients keep a history of puts, gets, deletes and conditional puts by version.
 * In the end everything is healed; every key must be read and written, all replicas of a group
 * must hold the same data, and the history must be linearizable. */
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "shardd/engine_key.h"
#include "shardd/replica.h"
#include "tests/sim/checker_level.h"
#include "tests/sim/checker_raft.h"
#include "common/lin/history.h"
#include "tests/sim/nemesis.h"
#include "tests/sim/sim_admin.h"
#include "tests/sim/sim_client.h"
#include "tests/sim/sim_cluster.h"
#include "tests/sim/sim_count.h"
#include "tests/sim/sim_engine.h"
#include "tests/sim/sim_merge.h"
#include "tests/sim/sim_placement.h"
#include "tests/sim/sim_shardd.h"
#include "tests/sim/sim_split.h"
#include "tests/sim/violation.h"
#include "tests/sim/world.h"

#define CLIENT_HOSTS 2u
#define MAX_CLIENTS 64u
#define KEYS_MAX 64u
#define OPERATORS_AT_LEAST 3u
#define OP_DEADLINE (2 * NS_PER_S)

typedef unsigned long long ull;

/* What a client knows of a key from its own answers: for conditional puts. */
struct known {
    bool valid;
    uint32_t value; /* LIN_ABSENT: the key was not there */
    uint64_t version;
};

struct client {
    struct sim_event event;
    struct client_op op;
    bool busy;
    size_t entry;
    enum lin_kind kind;
    struct level_read weak; /* a get of a weaker level: not in the history */
    unsigned key, number;
    uint32_t value;
    char key_text[16], value_text[24];
    struct known known[KEYS_MAX];
    uint64_t began;
};

static struct {
    const struct scenario *s;
    unsigned cores;
    struct sim_shardd *shardd[SIM_HOSTS];
    struct sim_client *process[CLIENT_HOSTS];
    struct sim_admin *admin; /* the last host */
    char seed_text[SIM_HOSTS][32];
    const char *seeds[SIM_HOSTS];
    struct history history;
    struct client client[MAX_CLIENTS];
    struct sim_event watch;
    uint32_t next_value;
    bool quiet, healed;
    uint64_t key_done[KEYS_MAX]; /* since all was healed */
    uint64_t slowest;            /* of operations that succeeded after that */
} F;

static unsigned servers(void)
{
    return F.s->placements + F.s->nodes;
}

/* ---- processes ---- */

/* What a replica has applied is seen even if the process ends right after. */
static void watch_core(struct core *c)
{
    size_t it = 0;
    void *value;

    while (map_next(&c->replicas, &it, NULL, &value))
        sim_split_watch(value);
}

static void start_inside(void *arg)
{
    unsigned number = sim_host_number(arg);

    if (number <= F.s->placements)
        sim_placement_start(number, F.s);
    else
        (F.shardd[number] = sim_shardd_start(number, F.cores, F.s))->watch = watch_core;
}

static void start(struct sim_host *h)
{
    F.shardd[sim_host_number(h)] = NULL;
    sim_log("n%u starts", sim_host_number(h));
    if (!sim_host_start(h, start_inside, h))
        F.shardd[sim_host_number(h)] = NULL;
}

static void start_client(void *arg)
{
    unsigned i = sim_host_number(arg) - servers() - 1;

    if (i == CLIENT_HOSTS)
        F.admin = sim_admin_start(F.s->placements, F.s->groups, scenario_replicas(F.s));
    else
        F.process[i] = sim_client_start(F.seeds, F.s->placements);
}

static void start_counting(void *arg)
{
    (void)arg;
    sim_count_start(F.s, F.s->placements + 1, F.s->nodes);
}

/* ---- clients ---- */

static void rest(struct client *c)
{
    uint64_t mean = (uint64_t)(F.s->think_ms * 1e6);

    c->busy = false;
    sim_at(&c->event, sim_now() + sim_below(2 * mean + 1));
}

static void learn(struct client *c, bool valid, uint32_t value, uint64_t version)
{
    c->known[c->key] = (struct known){valid, value, version};
}

static void succeeded(struct client *c, const struct client_result *r)
{
    uint32_t value = c->kind == LIN_DEL ? LIN_ABSENT : c->value;

    if (c->kind == LIN_GET)
        value = r->err == ERR_NOT_FOUND ? LIN_ABSENT : history_value(&F.history, r->value);
    if (c->weak.level) {
        checker_level_answered(&c->weak, value, r);
    } else {
        history_ok(&F.history, c->entry, value, sim_now());
        checker_level_saw(c->number % CLIENT_HOSTS, c->key, value, r);
    }
    learn(c, true, value, value == LIN_ABSENT ? 0 : r->version);
    if (F.healed) {
        F.key_done[c->key]++;
        if (sim_now() - c->began > F.slowest)
            F.slowest = sim_now() - c->began;
    }
}

static void on_done(struct client_op *op, const struct client_result *r)
{
    struct client *c = CONTAINER_OF(op, struct client, op);

    CHECK(c->busy);
    sim_log("client %u %s %s: %s%s (%s)", c->number, msg_kv_method_name(c->op.method), c->key_text,
            err_name(r->err), r->maybe_applied ? ", maybe applied" : "", r->text);
    if (r->err == ERR_OK || r->err == ERR_NOT_FOUND) {
        succeeded(c, r);
    } else if (c->weak.level) {
        learn(c, false, 0, 0);
    } else if (r->err == ERR_CONDITION_FAILED && c->kind == LIN_CAS && !r->maybe_applied) {
        history_refused(&F.history, c->entry, sim_now());
        learn(c, false, 0, 0);
    } else if (r->maybe_applied) {
        history_info(&F.history, c->entry, sim_now());
    } else {
        history_fail(&F.history, c->entry, sim_now());
    }
    rest(c);
}

static void submit_inside(void *arg)
{
    struct client *c = arg;
    struct sim_client *p = F.process[c->number % CLIENT_HOSTS];

    c->op.deadline = io_now(p->io) + OP_DEADLINE;
    client_core_submit(p->core, &c->op, io_now(p->io));
    io_again(p->io);
}

static void begin_operation(struct client *c)
{
    static const enum lin_kind kinds[] = {LIN_PUT, LIN_PUT, LIN_CAS, LIN_DEL};
    const struct known *k;
    uint32_t expected = 0;

    c->key = (unsigned)sim_below(F.s->keys);
    k = &c->known[c->key];
    c->kind = sim_below(100) < F.s->reads ? LIN_GET : kinds[sim_below(4)];
    if (c->kind == LIN_CAS && !k->valid)
        c->kind = LIN_GET;
    snprintf(c->key_text, sizeof c->key_text, "key%u", c->key);
    c->op = (struct client_op){.done = on_done, .key = slice_str(c->key_text)};
    c->op.method = c->kind == LIN_GET   ? KV_METHOD_GET
                   : c->kind == LIN_DEL ? KV_METHOD_DELETE
                                        : KV_METHOD_PUT;
    c->value = 0;
    if (c->kind == LIN_PUT || c->kind == LIN_CAS) {
        snprintf(c->value_text, sizeof c->value_text, "v%u", ++F.next_value);
        c->op.value = slice_str(c->value_text);
        c->value = history_value(&F.history, c->op.value);
        checker_level_wrote(c->key, c->value);
    }
    if (c->kind == LIN_CAS) {
        expected = k->value;
        c->op.if_absent = k->value == LIN_ABSENT;
        c->op.has_if_version = !c->op.if_absent;
        c->op.if_version = k->version;
    }
    checker_level_draw(&c->weak, &c->op, F.s->levels, c->number % CLIENT_HOSTS, c->key);
    if (!c->weak.level)
        c->entry = history_call(&F.history, c->number, c->kind, history_key(&F.history, c->op.key),
                                c->value, expected, sim_now());
    c->busy = true;
    c->began = sim_now();
    CHECK(sim_host_call(sim_host_find(servers() + 1 + c->number % CLIENT_HOSTS), submit_inside, c));
}

static void on_client(struct sim_event *e)
{
    if (!F.quiet)
        begin_operation(CONTAINER_OF(e, struct client, event));
}

/* ---- what is watched while it runs ---- */

static void watch_replica(struct replica *r)
{
    uint64_t last;

    sim_split_watch(r);
    if (F.s->operators)
        sim_cluster_watch(r);
    if (r->state != REPLICA_RUNNING)
        return;
    last = group_last_index(r->group);
    checker_raft_log(r->shard.group, r->shard.replica,
                     last > r->applied.index ? last : r->applied.index);
    if (group_state_of(r->group) == GROUP_LEADER)
        checker_raft_leader(r->shard.group, group_term(r->group), r->shard.replica);
    if (group_applied(r->group)->index == r->applied.index) {
        struct engine_key_range owned;
        engine_key_slots(r->shard.first_slot, r->shard.last_slot, &owned);
        checker_raft_state(r->shard.group, r->shard.replica, r->applied.index,
                           sim_engine_hash(r->db, engine_key_from(&owned), engine_key_to(&owned),
                                           r->shard.time_ms) ^
                               dedupe_hash(r->dedupe, r->shard.time_ms));
    }
    sim_merge_watch(r);
}

static void each_replica_of(unsigned host, void (*fn)(struct replica *r))
{
    if (!sim_host_up(sim_host_find(host)) || !F.shardd[host])
        return;
    for (unsigned k = 0; k < F.cores; k++) {
        const struct map *m = &F.shardd[host]->node.core[k]->replicas;
        size_t it = 0;
        void *value;
        while (map_next(m, &it, NULL, &value))
            fn(value);
    }
}

static void each_replica(void (*fn)(struct replica *r))
{
    for (unsigned i = F.s->placements + 1; i <= servers(); i++)
        each_replica_of(i, fn);
}

static void on_watch(struct sim_event *e)
{
    each_replica(watch_replica);
    if (F.s->operators)
        each_replica(sim_cluster_check);
    sim_split_check();
    sim_at(e, sim_now() + 10 * NS_PER_MS);
}

/* ---- faults of the world's own ---- */

static struct replica *picked;
static uint64_t picks;

static void pick_leader(struct replica *r)
{
    if (r->state == REPLICA_RUNNING && group_state_of(r->group) == GROUP_LEADER &&
        sim_below(++picks) == 0)
        picked = r;
}

/* Runs fn in the process that has the replica. */
static void call_at(const struct replica *r, void (*fn)(void *arg), void *arg)
{
    for (unsigned i = F.s->placements + 1; i <= servers(); i++)
        if (sim_host_up(sim_host_find(i)) && F.shardd[i] && r->core->node == &F.shardd[i]->node) {
            sim_host_call(sim_host_find(i), fn, arg);
            return;
        }
}

static void transfer_inside(void *arg)
{
    struct replica *r = arg;

    (void)!group_transfer(r->group, 0);
    io_again(r->core->io);
}

static void transfer(void)
{
    picked = NULL;
    picks = 0;
    each_replica(pick_leader);
    if (picked)
        call_at(picked, transfer_inside, picked);
}

static struct {
    uint64_t group;
    uint16_t slot;
} wanted;

static void split_inside(void *arg)
{
    (void)arg;
    sim_admin_split(F.admin, wanted.group, wanted.slot);
}

static void split(uint64_t group, uint16_t slot)
{
    wanted.group = group;
    wanted.slot = slot;
    sim_host_call(sim_host_find(servers() + 1 + CLIENT_HOSTS), split_inside, NULL);
}

static struct sim_ask asked;

static void ask_inside(void *arg)
{
    (void)arg;
    sim_admin_ask(F.admin, &asked);
}

static void ask(const struct sim_ask *q)
{
    asked = *q;
    sim_host_call(sim_host_find(servers() + 1 + CLIENT_HOSTS), ask_inside, NULL);
}

static void admin(void)
{
    sim_cluster_act(F.admin);
}

static struct sim_shardd *shardd_of(unsigned host)
{
    return sim_host_up(sim_host_find(host)) ? F.shardd[host] : NULL;
}

/* ---- judgement ---- */

static unsigned broken;

static void count_broken(struct replica *r)
{
    broken += r->state == REPLICA_BROKEN;
}

/* A replica that its disk's errors have broken stays so until somebody restarts the node. */
static void restart_broken(void)
{
    for (unsigned i = F.s->placements + 1; i <= servers(); i++) {
        broken = 0;
        if (sim_host_up(sim_host_find(i)))
            each_replica_of(i, count_broken);
        if (broken > 0) {
            sim_log("n%u has %u broken replicas: restarted", i, broken);
            sim_host_kill(sim_host_find(i), SIM_KILL);
            start(sim_host_find(i));
        }
    }
}

static unsigned host_of(const struct replica *r)
{
    for (unsigned i = F.s->placements + 1; i <= servers(); i++)
        if (F.shardd[i] && r->core->node == &F.shardd[i]->node)
            return i;
    return 0;
}

/* On damaged data a replica may be unable to run; it is not counted. */
static bool excused(const struct replica *r)
{
    return r->state == REPLICA_BROKEN && nemesis_damaged(host_of(r));
}

static void judge_running(struct replica *r)
{
    if (excused(r))
        return;
    if (r->state == REPLICA_BROKEN)
        sim_violation("group %llu replica %llu is broken in peace: %s", (ull)r->shard.group,
                      (ull)r->shard.replica, r->broken);
    if (r->state != REPLICA_RUNNING)
        sim_violation("group %llu replica %llu is in state %d in peace", (ull)r->shard.group,
                      (ull)r->shard.replica, (int)r->state);
}

static uint64_t applied_of[1024];
static unsigned replicas_of[1024];

static void judge_equal(struct replica *r)
{
    uint64_t g = r->shard.group % 1024;

    if (excused(r))
        return;
    if (applied_of[g] && applied_of[g] != r->applied.index)
        sim_violation("group %llu: one replica has applied %llu, replica %llu %llu, in peace",
                      (ull)r->shard.group, (ull)applied_of[g], (ull)r->shard.replica,
                      (ull)r->applied.index);
    applied_of[g] = r->applied.index;
    replicas_of[g]++;
    watch_replica(r);
}

/* A majority of each kind of hosts is whole: all must work again. */
static bool live(void)
{
    return 2 * F.s->damage < F.s->nodes && 2 * F.s->damage < F.s->placements;
}

static bool may_be_damaged(const struct scenario *s)
{
    return s->fault[FAULT_FLIP_WAL].every > 0 || s->fault[FAULT_FLIP_DATA].every > 0 ||
           s->fault[FAULT_FLIP_ANY].every > 0 || s->fault[FAULT_WIPE].every > 0;
}

/* Replicas that a group has at least: those on damaged hosts may be gone. */
static unsigned replicas_due(void)
{
    unsigned damaged = nemesis_damaged_in(F.s->placements + 1, servers());

    return scenario_replicas(F.s) - damaged;
}

static void judge_progress(void);

static uint64_t applied_most[1024];
static bool behind;

static void see_applied(struct replica *r)
{
    uint64_t *most = &applied_most[r->shard.group % 1024];
    behind = behind || (*most && *most != r->applied.index);
    if (r->applied.index > *most)
        *most = r->applied.index;
}

/* placementd may have moved a leader just now: its first entry is on its way. */
static void come_to_rest(void)
{
    for (unsigned i = 0; i < 20; i++) {
        memset(applied_most, 0, sizeof applied_most);
        behind = false;
        each_replica(see_applied);
        if (!behind)
            return;
        sim_run(sim_now() + 50 * NS_PER_MS);
    }
}

static void judge(void)
{
    world_judge(&F.history);
    sim_merge_judge();
    sim_count_judge(live());
    if (live() || !may_be_damaged(F.s))
        judge_progress();
}

static void judge_progress(void)
{
    unsigned groups = 0;

    sim_split_judge();
    each_replica(judge_running);
    each_replica(judge_equal);
    for (unsigned g = 0; g < 1024; g++) {
        groups += replicas_of[g] > 0;
        if (replicas_of[g] > 0 && replicas_of[g] < replicas_due() && !F.s->operators)
            sim_violation("group %u has %u replicas", g, replicas_of[g]);
    }
    unsigned due = sim_split_groups() - sim_merge_owned(); /* a merge's source is destroyed */
    if (F.s->operators)
        sim_cluster_judge();
    else if (groups != due)
        sim_violation("%u groups instead of %u", groups, due);
    for (unsigned k = 0; k < F.s->keys; k++)
        if (F.key_done[k] == 0)
            sim_violation("key%u: nothing has succeeded in peace", k);
    for (unsigned i = 0; i < F.s->clients; i++)
        if (F.client[i].busy)
            sim_violation("client %u still waits for an operation that began at %.3f s", i,
                          (double)F.client[i].began / 1e9);
    if (F.slowest > NS_PER_S)
        sim_violation("an operation took %.3f s in peace", (double)F.slowest / 1e9);
}

void full_world_run(const struct scenario *s, struct world_result *out)
{
    struct nemesis_ops ops = {.start = start,
                              .transfer = transfer,
                              .merge = s->operators ? sim_cluster_merge : sim_merge_begin,
                              .split = sim_split_begin,
                              .admin = admin,
                              .kinds = s->placements};
    uint64_t ended = 0, faults_end = sim_now() + (uint64_t)(s->seconds * 1e9);

    CHECK(s->keys <= KEYS_MAX && s->clients <= MAX_CLIENTS);
    F.s = s;
    F.cores = 1 + (unsigned)sim_below(2);
    history_init(&F.history);
    checker_raft_begin();
    checker_level_begin();
    sim_merge_init(each_replica, call_at, s->placements);
    sim_split_init(each_replica, split);
    sim_cluster_init(s, &(struct sim_cluster_ops){shardd_of, ask, start});
    for (unsigned i = 0; i < s->placements; i++) {
        snprintf(F.seed_text[i], sizeof F.seed_text[i], "127.0.0.%u:%u", i + 1,
                 SIM_PLACEMENT_CLIENT_PORT);
        F.seeds[i] = F.seed_text[i];
    }
    for (unsigned i = 1; i <= servers(); i++)
        start(sim_host_create(i));
    for (unsigned i = 0; i <= CLIENT_HOSTS; i++) {
        struct sim_host *h = sim_host_create(servers() + 1 + i);
        CHECK(sim_host_start(h, start_client, h));
    }
    if (s->sessions > 0) {
        struct sim_host *h = sim_host_create(servers() + 2 + CLIENT_HOSTS);
        CHECK(sim_host_start(h, start_counting, h));
    }
    nemesis_begin(s, servers(), faults_end, &ops);
    for (unsigned i = 0; i < s->clients; i++) {
        F.client[i].number = i;
        F.client[i].event.fn = on_client;
        sim_at(&F.client[i].event, sim_now() + sim_below(NS_PER_S));
    }
    F.watch.fn = on_watch;
    sim_at(&F.watch, sim_now());
    sim_run(faults_end);
    nemesis_heal();
    restart_broken();
    if (s->operators)
        sim_cluster_settle();
    sim_run(sim_now() + (uint64_t)(s->healthy * 0.6e9));
    if (s->operators)
        sim_cluster_rest();
    F.healed = true;
    sim_count_settle();
    sim_run(sim_now() + (uint64_t)(s->healthy * 0.4e9));
    F.quiet = true;
    sim_run(sim_now() + 4 * NS_PER_S);
    come_to_rest();
    judge();
    world_collect(&F.history, out);
    for (unsigned k = 0; k < WORLD_KINDS && s->operators; k++)
        for (unsigned e = 0; e < 3; e++)
            ended += out->operators[k][e] = sim_cluster_ended(k, e);
    out->idle = s->operators && ended < OPERATORS_AT_LEAST;
}
