/* Random runs of the driver: crashes, cuts, loss, repeats and reordering, membership changes,
 * transfers, snapshots, a tiny memory budget; then everything heals and must get going again. A
 * failure prints its seed; run one with SEED=n, more with SEEDS=n, louder with VERBOSE=1. What the
 * checkers find with guards left out or faults planted: GUARDS_OFF=mask (group_guard.h), and in a
 * build with -DSHARDKV_TEST_HOOKS BUGS=mask. */
#include <check.h>

#include "tests/unit/raft/world.h"

struct probe {
    struct group_read r;
    struct node *node;
    uint64_t must_see;
    bool busy;
};

static struct {
    bool conf, healed;
    unsigned every_ms; /* proposals */
    uint64_t down_until[NODES + 1];
    uint64_t changes, transfers, installs;
    struct probe probe[16];
} S;

static uint64_t R(uint64_t n)
{
    return rng_below(&W.rng, n);
}

static void read_done(struct group_read *r, enum err e)
{
    struct probe *p = CONTAINER_OF(r, struct probe, r);
    p->busy = false;
    if (e != ERR_OK) {
        W.reads_refused++;
        return;
    }
    W.reads_done++;
    if (group_applied(p->node->g)->index < p->must_see)
        violate("a read at node %u saw %llu, %llu had been acknowledged", p->node->id,
                (unsigned long long)group_applied(p->node->g)->index,
                (unsigned long long)p->must_see);
}

/* The newest that had been acknowledged so long ago. */
static uint64_t acked_before(uint64_t age)
{
    uint64_t i = W.acked_max;
    while (i > 0 && W.acked_at[i] + age > W.now)
        i--;
    return i;
}

static void start_read(struct node *x)
{
    for (unsigned i = 0; i < 16; i++) {
        struct probe *p = &S.probe[i];
        if (p->busy)
            continue;
        *p = (struct probe){.r.done = read_done, .node = x, .must_see = W.acked_max, .busy = true};
        uint64_t age = R(3) ? 0 : R(400) * NS_PER_MS;
        uint64_t kind = R(3);
        if (kind == 0) {
            group_read(x->g, &p->r);
            return;
        }
        p->must_see = acked_before(age);
        if (kind == 1 && group_fresh(x->g, age))
            read_done(&p->r, ERR_OK);
        else
            group_follower_read(x->g, &p->r, age);
        return;
    }
}

static void change(struct node *l)
{
    struct group_conf c = l->g->conf;
    uint64_t id = 1 + R(NODES);
    struct group_member *m = (struct group_member *)(uintptr_t)group_conf_find(&c, id);
    if (!m) {
        if (c.n == NODES)
            return;
        c.member[c.n++] = (struct group_member){
            .replica = id, .node = (uint32_t)id, .role = R(2) ? GROUP_STANDBY : GROUP_SPARE};
    } else if (m->role == GROUP_VOTER && R(2)) {
        m->role = R(2) ? GROUP_STANDBY : GROUP_SPARE;
    } else if (m->role == GROUP_SPARE && R(2)) {
        m->role = GROUP_STANDBY;
    } else if (m->role == GROUP_STANDBY && R(4)) {
        m->role = GROUP_VOTER;
    } else {
        unsigned at = (unsigned)(m - c.member);
        memmove(m, m + 1, (c.n - at - 1) * sizeof *m);
        c.n--;
    }
    if (group_change(l->g, &c) == ERR_OK)
        S.changes++;
    group_set_turn(l->set);
}

/* Every node that believes to lead gets something to do: the deposed ones, too. */
static void work(void)
{
    for (unsigned i = 1; i <= NODES; i++) {
        struct node *x = &W.node[i];
        if (!x->up || !x->g)
            continue;
        if (group_state_of(x->g) == GROUP_LEADER) {
            uint8_t data[600];
            size_t n = 8 + R(R(10) ? 40 : 590);
            uint64_t id = W.proposals;
            memset(data, (int)i, sizeof data);
            memcpy(data, &id, sizeof id);
            for (uint64_t k = 1 + R(4); k > 0; k--) {
                uint64_t index, term;
                if (group_propose(x->g, slice_of(data, n), &index, &term) == ERR_OK)
                    W.proposals++;
            }
            if (R(2))
                start_read(x);
        } else if (R(5) == 0) {
            start_read(x); /* group_read() must be refused */
        }
        if (R(30) == 0 && !group_installing(x->g))
            flush(x);
        if (S.conf && !S.healed && R(40) == 0 && group_state_of(x->g) == GROUP_LEADER)
            change(x);
        group_set_turn(x->set);
    }
}

static void crash(unsigned i)
{
    if (!W.node[i].up)
        return;
    node_crash(&W.node[i], R(2));
    for (unsigned k = 0; k < 16; k++)
        if (S.probe[k].busy && S.probe[k].node == &W.node[i])
            violate("a read was forgotten");
    S.down_until[i] = W.now + (20 + R(2000)) * NS_PER_MS;
}

static void cut_node(unsigned i, bool in, bool out)
{
    for (unsigned k = 1; k <= NODES; k++) {
        W.cut[k][i] |= in && k != i;
        W.cut[i][k] |= out && k != i;
    }
}

static void fault(void)
{
    uint64_t k = R(100);
    unsigned i = 1 + (unsigned)R(NODES);
    struct node *l = world_leader(), *x = &W.node[i];
    if (k < 10)
        crash(i);
    else if (k < 13)
        for (unsigned q = 1; q <= NODES; q++)
            crash(q);
    else if (k < 19 && l)
        crash(l->id);
    else if (k < 30)
        W.cut[i][1 + R(NODES)] = true;
    else if (k < 38)
        cut_node(i, true, true);
    else if (k < 42 && l)
        cut_node(l->id, R(2), R(2));
    else if (k < 65)
        memset(W.cut, 0, sizeof W.cut);
    else if (k < 70 && l) {
        if (group_transfer(l->g, R(2) ? 0 : i) == ERR_OK)
            S.transfers++;
    } else if (k < 90 && S.conf && l)
        change(l);
    else if (k < 93 && x->up)
        x->io.stalled = !x->io.stalled;
    else if (k < 96 && x->up && x->g && group_installing(x->g) && x->install_due) {
        x->install_due = 0;
        group_install_failed(x->g, &x->disk.at);
        x->state = x->disk.state;
    }
    for (unsigned q = 1; q <= NODES; q++)
        if (!W.node[q].up && S.down_until[q] <= W.now)
            node_start(&W.node[q]);
}

static void heal(void)
{
    S.healed = true;
    memset(W.cut, 0, sizeof W.cut);
    W.drop = W.dup = 0;
    W.delay_max = 2 * NS_PER_MS;
    for (unsigned i = 1; i <= NODES; i++) {
        W.node[i].io.stalled = false;
        if (!W.node[i].up)
            node_start(&W.node[i]);
    }
}

static void show(const struct node *x)
{
    const struct group *g = x->g;
    if (!x->up || !g)
        return;
    printf("  node %u state %u term %llu log %llu+%zu stored %llu commit %llu applied %llu durable "
           "%llu installing %d wanted %u conf@%llu/%llu:",
           x->id, g->r.state, g->r.current_term, (unsigned long long)g->log->base, g->log->n,
           g->r.last_stored, g->r.commit_index, (unsigned long long)g->applied.index,
           (unsigned long long)g->durable.index, g->install.active, x->wanted,
           g->r.configuration_committed_index, g->r.configuration_uncommitted_index);
    for (uint32_t i = 0; i < g->conf.n; i++)
        printf(" %llu%c", (unsigned long long)g->conf.member[i].replica,
               "svp"[g->conf.member[i].role]);
    for (unsigned i = 0; i < g->peers; i++)
        printf(" [%llu match %llu stream %llu-%llu]", (unsigned long long)g->peer[i].replica,
               (unsigned long long)group_match(g, g->peer[i].replica),
               (unsigned long long)g->peer[i].stream.next,
               (unsigned long long)g->peer[i].stream.end);
    printf("\n");
}

static void check_end(uint64_t healed_at)
{
    struct node *l = world_leader();
    if (!l || W.applied_max <= healed_at) {
        violate("nothing was committed after healing (%llu)", (unsigned long long)healed_at);
        return;
    }
    for (uint32_t i = 0; i < l->g->conf.n; i++) {
        const struct group_member *m = &l->g->conf.member[i];
        const struct node *x = &W.node[m->replica];
        if (m->role != GROUP_SPARE && group_applied(x->g)->index + 600 < W.applied_max)
            violate("node %u lags: %llu of %llu", x->id,
                    (unsigned long long)group_applied(x->g)->index,
                    (unsigned long long)W.applied_max);
    }
}

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

static void run(uint64_t seed)
{
    world_init(seed);
    group_test_guards_off = (unsigned)number("GUARDS_OFF", 0);
    memset(&S, 0, sizeof S);
    unsigned voters = R(4) ? 3 : R(3) ? 5 : R(2) ? 4 : 1;
    S.conf = R(3) > 0;
    S.every_ms = 1 + (unsigned)R(25);
    W.drop = (unsigned)(R(3) ? R(30) : R(200));
    W.dup = (unsigned)R(40);
    W.delay_max = (1 + R(60)) * NS_PER_MS;
    W.log_memory = R(3) ? 0 : 2000 + R(20000);
    if (R(4) == 0)
        W.segment = 64 * KIB;
    W.read_lease = R(2);
    W.vote_holiday = W.read_lease || R(4) == 0;
    world_create(voters, R(2) ? 1 : 0);
    for (unsigned i = voters + 1; i <= NODES; i++)
        world_join(i);
    for (unsigned i = 1; i <= NODES; i++)
        W.node[i].flush_every = R(3) ? 50 + R(3000) : 0;
    uint64_t end = W.now + 12 * NS_PER_S, next_fault = W.now + 500 * NS_PER_MS, healed_at = 0;
    while (W.now < end + 9 * NS_PER_S && !W.violation) {
        world_run(1 + R(S.every_ms));
        if (!S.healed && W.now >= end) {
            heal();
            healed_at = W.applied_max;
        }
        if (!S.healed && W.now >= next_fault) {
            fault();
            next_fault = W.now + (10 + R(250)) * NS_PER_MS;
        }
        if (!S.healed || W.now < end + 8 * NS_PER_S)
            work();
        if (W.applied_max > MAX_INDEX - 3000)
            break;
    }
    if (!W.violation && S.healed && W.now >= end + 9 * NS_PER_S)
        check_end(healed_at);
    for (unsigned i = 1; i <= NODES; i++)
        S.installs += W.node[i].installs;
    for (unsigned i = 1; getenv("VERBOSE") && i <= NODES; i++)
        show(&W.node[i]);
    if (getenv("VERBOSE"))
        printf("seed %llu: %s; applied %llu proposals %llu elections %llu crashes %llu installs "
               "%llu changes %llu transfers %llu reads %llu refused %llu\n",
               (unsigned long long)seed, W.violation ? W.violation : "ok",
               (unsigned long long)W.applied_max, (unsigned long long)W.proposals,
               (unsigned long long)W.elections, (unsigned long long)W.crashes,
               (unsigned long long)S.installs, (unsigned long long)S.changes,
               (unsigned long long)S.transfers, (unsigned long long)W.reads_done,
               (unsigned long long)W.reads_refused);
}

START_TEST(random_runs)
{
    uint64_t first = number("SEED", 1), n = number("SEEDS", getenv("SEED") ? 1 : 150), bad = 0;
    uint64_t elections = 0, crashes = 0, installs = 0, changes = 0, transfers = 0, reads = 0;
#ifdef SHARDKV_TEST_HOOKS
    group_test_bugs = (unsigned)number("BUGS", 0);
#endif
    for (uint64_t seed = first; seed < first + n; seed++) {
        run(seed);
        if (W.violation) {
            bad++;
            printf("SEED=%llu: %s\n", (unsigned long long)seed, W.violation);
        }
        elections += W.elections;
        crashes += W.crashes;
        installs += S.installs;
        changes += S.changes;
        transfers += S.transfers;
        reads += W.reads_done;
        world_close();
    }
    printf("%llu runs: %llu bad; elections %llu crashes %llu installs %llu changes %llu transfers "
           "%llu reads %llu\n",
           (unsigned long long)n, (unsigned long long)bad, (unsigned long long)elections,
           (unsigned long long)crashes, (unsigned long long)installs, (unsigned long long)changes,
           (unsigned long long)transfers, (unsigned long long)reads);
    ck_assert_uint_eq(bad, 0);
    if (n >= 100) /* it must have been able to fail */
        ck_assert(elections > n && crashes > n && installs > n / 4 && changes > n &&
                  reads > 10 * n);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("group_sim");
    TCase *t = tcase_create("group_sim");
    tcase_set_timeout(t, 600);
    tcase_add_test(t, random_runs);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
