/* The raft world: replicated registers over the real driver, WAL and peer links.
 *
 * Clients run in the world itself: each proposes or reads at a node that thinks it leads (deposed
 * ones included: that is where stale reads come from), one operation at a time, and gives up after
 * a while. First the faults, then all is healed and everything has to work; in the end every
 * replica must have the same state. */
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "tests/sim/checker_raft.h"
#include "common/lin/history.h"
#include "tests/sim/nemesis.h"
#include "tests/sim/raft_node.h"
#include "tests/sim/violation.h"
#include "tests/sim/world.h"

#define MAX_CLIENTS 64u

struct client {
    struct sim_event event; /* next operation, or the patience's end */
    bool waiting;
    uint64_t op;  /* unique number of the operation under way */
    size_t entry; /* in the history */
    enum lin_kind kind;
    unsigned group, key;
    bool follow; /* a get by the leader's word, at any node */
    uint32_t seen[RAFT_NODE_GROUPS + 1][RAFT_NODE_KEYS]; /* last read value, for cas */
};

static struct {
    const struct scenario *s;
    unsigned members;
    unsigned changes; /* of membership that were accepted */
    struct raft_node *node[SIM_HOSTS];
    struct history history;
    struct client client[MAX_CLIENTS];
    uint64_t next_op;
    uint32_t next_value;
    bool quiet; /* no more operations */
    uint64_t done_after_heal[RAFT_NODE_GROUPS + 1];
    bool healed;
} W;

/* ---- processes ---- */

static void on_done(uint64_t op, enum err result, uint32_t value);
static const struct raft_node_ops node_ops = {.done = on_done};

static void start_inside(void *arg)
{
    unsigned number = sim_host_number(arg);

    W.node[number] = raft_node_start(number, W.s, &node_ops, W.members);
}

static void start(struct sim_host *h)
{
    W.node[sim_host_number(h)] = NULL;
    sim_log("n%u starts", sim_host_number(h));
    sim_host_start(h, start_inside, h);
}

static struct raft_node *running(unsigned number)
{
    struct sim_host *h = sim_host_find(number);

    return sim_host_up(h) && !sim_host_paused(h) ? W.node[number] : NULL;
}

/* Any of the nodes that think they lead the group; 0: none. */
static unsigned find_leader(unsigned group)
{
    unsigned found = 0, seen = 0;

    for (unsigned i = 1; i <= W.s->nodes; i++) {
        struct raft_node *n = running(i);
        if (n && group_state_of(n->replica[group].group) == GROUP_LEADER && sim_below(++seen) == 0)
            found = i;
    }
    return found;
}

/* Any that runs. */
static unsigned find_any(unsigned group)
{
    unsigned found = 0, seen = 0;

    for (unsigned i = 1; i <= W.s->nodes; i++) {
        struct raft_node *n = running(i);
        if (n && n->replica[group].group && sim_below(++seen) == 0)
            found = i;
    }
    return found;
}

/* ---- clients ---- */

static void rest(struct client *c)
{
    uint64_t mean = (uint64_t)(W.s->think_ms * 1e6);

    c->waiting = false;
    sim_at(&c->event, sim_now() + sim_below(2 * mean + 1));
}

static void on_done(uint64_t op, enum err result, uint32_t value)
{
    for (unsigned i = 0; i < W.s->clients; i++) {
        struct client *c = &W.client[i];
        if (!c->waiting || c->op != op)
            continue;
        if (result == ERR_OK) {
            history_ok(&W.history, c->entry, value, sim_now());
            if (c->kind == LIN_GET)
                c->seen[c->group][c->key] = value;
            if (W.healed)
                W.done_after_heal[c->group]++;
        } else if (result == ERR_CONDITION_FAILED) {
            history_refused(&W.history, c->entry, sim_now());
        } else {
            history_fail(&W.history, c->entry, sim_now());
        }
        rest(c);
        return;
    }
}

struct call {
    struct client *c;
    struct raft_node *n;
    struct machine_command command;
    enum err result;
};

static void call_inside(void *arg)
{
    struct call *a = arg;

    if (a->c->kind == LIN_GET)
        raft_node_read(a->n, a->c->group, a->c->key, a->c->op, a->c->follow);
    else
        a->result = raft_node_propose(a->n, a->c->group, &a->command);
}

static void begin_operation(struct client *c)
{
    static const enum lin_kind kinds[] = {LIN_PUT, LIN_PUT, LIN_CAS, LIN_DEL};
    struct call a = {.c = c, .result = ERR_OK};
    char key[32], value[32];
    uint32_t v = 0, expected = 0;
    unsigned at;

    c->group = 1 + (unsigned)sim_below(W.s->groups);
    c->key = (unsigned)sim_below(W.s->keys);
    c->kind = sim_below(100) < W.s->reads ? LIN_GET : kinds[sim_below(4)];
    c->follow = c->kind == LIN_GET && sim_chance(0.3);
    at = c->follow ? find_any(c->group) : find_leader(c->group);
    if (!at) {
        rest(c);
        return;
    }
    c->op = ++W.next_op;
    if (c->kind == LIN_PUT || c->kind == LIN_CAS) {
        snprintf(value, sizeof value, "v%u", ++W.next_value);
        v = history_value(&W.history, slice_str(value));
    }
    if (c->kind == LIN_CAS)
        expected = c->seen[c->group][c->key];
    snprintf(key, sizeof key, "g%uk%u", c->group, c->key);
    c->entry = history_call(&W.history, (uint32_t)(c - W.client), c->kind,
                            history_key(&W.history, slice_str(key)), v, expected, sim_now());
    c->waiting = true;
    a.n = W.node[at];
    a.command = (struct machine_command){c->op, (uint8_t)c->kind, (uint8_t)c->key, v, expected};
    sim_at(&c->event, sim_now() + 300 * NS_PER_MS + sim_below(1500 * NS_PER_MS));
    if (sim_host_call(sim_host_find(at), call_inside, &a) && a.result != ERR_OK && c->waiting) {
        history_fail(&W.history, c->entry, sim_now());
        rest(c);
    }
}

static void on_client(struct sim_event *e)
{
    struct client *c = CONTAINER_OF(e, struct client, event);

    if (c->waiting) {
        history_info(&W.history, c->entry, sim_now());
        c->waiting = false;
    }
    if (!W.quiet)
        begin_operation(c);
}

/* ---- faults of the world's own ---- */

struct transfer {
    struct raft_node *n;
    unsigned group, to;
};

static void transfer_inside(void *arg)
{
    struct transfer *t = arg;

    (void)!group_transfer(t->n->replica[t->group].group, t->to);
    io_again(t->n->io);
}

static void transfer(void)
{
    struct transfer t = {.group = 1 + (unsigned)sim_below(W.s->groups)};
    unsigned at = find_leader(t.group);

    if (!at)
        return;
    t.n = W.node[at];
    t.to = (unsigned)sim_below(W.s->nodes + 1);
    if (t.to != at)
        sim_host_call(sim_host_find(at), transfer_inside, &t);
}

struct change {
    struct raft_node *n;
    unsigned group;
    struct group_conf conf;
};

static unsigned voters(const struct group_conf *c)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < c->n; i++)
        n += c->member[i].role == GROUP_VOTER;
    return n;
}

static void change_inside(void *arg)
{
    struct change *c = arg;

    enum err e = group_change(c->n->replica[c->group].group, &c->conf);

    W.changes += e == ERR_OK;
    sim_log("n%u group %u: change to %u members, %u voters: %s", c->n->number, c->group, c->conf.n,
            voters(&c->conf), err_name(e));
    io_again(c->n->io);
}

/* One step at random: a node comes in as standby, a standby is promoted, or a member goes. Three
 * voters stay at least. Refusals of the driver are part of the game. */
static bool change_conf(struct group_conf *c, unsigned leader)
{
    unsigned node = 1 + (unsigned)sim_below(W.s->nodes);
    struct group_member *m = NULL;

    for (uint32_t i = 0; i < c->n; i++)
        if (c->member[i].node == node)
            m = &c->member[i];
    if (node == leader)
        return false;
    if (!m) {
        c->member[c->n++] = (struct group_member){node, node, GROUP_STANDBY};
        return true;
    }
    if (m->role == GROUP_STANDBY && sim_chance(0.8)) {
        m->role = GROUP_VOTER;
        return true;
    }
    if (m->role == GROUP_VOTER && voters(c) <= 3)
        return false;
    memmove(m, m + 1, (size_t)(&c->member[c->n] - m - 1) * sizeof *m);
    c->member[--c->n] = (struct group_member){0};
    return true;
}

static void member(void)
{
    struct change c = {.group = 1 + (unsigned)sim_below(W.s->groups)};
    unsigned at = find_leader(c.group);

    if (!at)
        return;
    c.n = W.node[at];
    c.conf = group_applied(c.n->replica[c.group].group)->conf;
    if (change_conf(&c.conf, at))
        sim_host_call(sim_host_find(at), change_inside, &c);
}

/* ---- judgement ---- */

/* All members of the leader's configuration must have got everything. */
static void judge_equal(void)
{
    for (unsigned g = 1; g <= W.s->groups; g++) {
        unsigned at = find_leader(g);
        const struct raft_replica *leader;
        if (!at)
            sim_violation("group %u has no leader in peace", g);
        leader = &W.node[at]->replica[g];
        for (unsigned i = 1; i <= W.s->nodes; i++) {
            const struct raft_replica *r;
            if (!group_conf_find(&leader->applied.conf, i) || nemesis_refused(i))
                continue;
            r = &W.node[i]->replica[g];
            if (r->applied.index != leader->applied.index)
                sim_violation("group %u: n%u has applied %llu, n%u %llu, in peace", g, at,
                              (unsigned long long)leader->applied.index, i,
                              (unsigned long long)r->applied.index);
            if (r->machine.hash != leader->machine.hash)
                sim_violation("group %u: n%u and n%u differ in state", g, at, i);
        }
    }
}

/* A majority of what may be damaged is whole: all must work again. */
static bool live(void)
{
    return 2 * W.s->damage < W.s->nodes;
}

static void judge_live(void)
{
    for (unsigned i = 1; i <= W.s->nodes; i++)
        if (!sim_host_up(sim_host_find(i)) && !nemesis_refused(i))
            sim_violation("n%u is down in peace", i);
    for (unsigned g = 1; g <= W.s->groups; g++)
        if (W.done_after_heal[g] == 0)
            sim_violation("group %u has done nothing for %.1f s in peace", g, W.s->healthy);
}

void raft_world_run(const struct scenario *s, struct world_result *out)
{
    struct nemesis_ops ops = {
        .start = start, .transfer = transfer, .member = member, .no_wipe = true};
    uint64_t faults_end = sim_now() + (uint64_t)(s->seconds * 1e9);

    CHECK(s->groups <= RAFT_NODE_GROUPS && s->keys <= RAFT_NODE_KEYS && s->clients <= MAX_CLIENTS);
    W.s = s;
    W.members = s->members ? s->members : s->nodes;
    history_init(&W.history);
    checker_raft_begin();
    for (unsigned i = 1; i <= s->nodes; i++)
        start(sim_host_create(i));
    nemesis_begin(s, s->nodes, faults_end, &ops);
    for (unsigned i = 0; i < s->clients; i++) {
        W.client[i].event.fn = on_client;
        sim_at(&W.client[i].event, sim_now() + sim_below(NS_PER_S));
    }
    sim_run(faults_end);
    nemesis_heal();
    sim_run(sim_now() + (uint64_t)(s->healthy * 0.5e9));
    W.healed = true;
    sim_run(sim_now() + (uint64_t)(s->healthy * 0.5e9));
    if (live())
        judge_live();
    W.quiet = true;
    sim_run(sim_now() + 3 * NS_PER_S);
    if (live())
        judge_equal();
    world_judge(&W.history);
    world_collect(&W.history, out);
}
