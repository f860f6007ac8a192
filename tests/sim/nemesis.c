/* See nemesis.h. */
#include "tests/sim/nemesis.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "tests/sim/violation.h"

struct fault_clock {
    struct sim_event event;
    enum fault fault;
    struct scenario_fault f;
};

struct undo {
    struct sim_event event;
    enum fault fault;
    unsigned host, other;
};

static struct {
    struct fault_clock clock[FAULT_COUNT];
    struct sim_event restart[SIM_HOSTS];
    unsigned struck[FAULT_COUNT];
    unsigned hosts;
    uint64_t until;
    struct nemesis_ops ops;
    bool healed;
    unsigned damage; /* scenario's */
    bool damaged[SIM_HOSTS], refused[SIM_HOSTS], wipe_due[SIM_HOSTS];
    bool once; /* who was wiped and seeded anew is spared: a group would lose one too many */
    bool wiped[SIM_HOSTS];
    unsigned refusals, flips;
    uint64_t gone_until;
} N;

static double seconds_left(double mean)
{
    return -log(1.0 - (double)sim_below(1000000) / 1000000.0) * mean;
}

static uint64_t ns_of(double s)
{
    return (uint64_t)(s * 1e9);
}

static struct sim_host *random_host(void)
{
    return sim_host_find(1 + (unsigned)sim_below(N.hosts));
}

/* ---- processes come back ---- */

static void on_restart(struct sim_event *e)
{
    unsigned number = (unsigned)(e - N.restart);
    struct sim_host *h = sim_host_find(number);

    if (sim_host_up(h))
        return;
    if (N.wipe_due[number]) {
        sim_log("n%u wiped", number);
        sim_disk_wipe(h);
        N.wipe_due[number] = N.refused[number] = false;
        N.wiped[number] = true;
    }
    if (!N.refused[number])
        N.ops.start(h);
}

static void restart_after(struct sim_host *h, double s)
{
    struct sim_event *e = &N.restart[sim_host_number(h)];

    e->fn = on_restart;
    sim_at(e, sim_now() + ns_of(s));
}

/* A process that ended from within comes back too. */
static void on_exit_of(struct sim_host *h, const char *why)
{
    unsigned n = sim_host_number(h);

    (void)why;
    if (N.refused[n] && !N.wipe_due[n])
        return;
    restart_after(h, N.healed ? 0.1 : 0.1 + (double)sim_below(1500) / 1000.0);
}

/* ---- damage ---- */

static void kind_of(unsigned host, unsigned *from, unsigned *to)
{
    bool first = host <= N.ops.kinds;

    *from = first ? 1 : N.ops.kinds + 1;
    *to = first ? N.ops.kinds : N.hosts;
}

static bool may_damage(unsigned host)
{
    unsigned from, to;

    kind_of(host, &from, &to);
    if (N.once && N.wiped[host])
        return false;
    return N.damaged[host] || nemesis_damaged_in(from, to) < N.damage;
}

static void flip(enum fault f, struct sim_host *h, double s)
{
    static const char *const parts[] = {[FAULT_FLIP_WAL - FAULT_FLIP_WAL] = "/wal",
                                        [FAULT_FLIP_DATA - FAULT_FLIP_WAL] = NULL,
                                        [FAULT_FLIP_MAP - FAULT_FLIP_WAL] = "/map",
                                        [FAULT_FLIP_ANY - FAULT_FLIP_WAL] = "/"};
    const char *part = parts[f - FAULT_FLIP_WAL];
    unsigned n = sim_host_number(h);
    bool harmless = f == FAULT_FLIP_MAP;

    if (!harmless && !may_damage(n))
        return;
    if (!part)
        part = sim_chance(0.5) ? "IMAGE" : "/state";
    if (!sim_disk_flip(h, part))
        return;
    sim_log("n%u: a bit of %s has flipped", n, part);
    N.struck[f]++;
    N.flips++;
    N.damaged[n] = N.damaged[n] || !harmless;
    if (sim_host_up(h) && sim_chance(f == FAULT_FLIP_DATA ? 0.2 : 0.7)) {
        /* Most damage shows at the next start. */
        sim_host_kill(h, sim_chance(0.5) ? SIM_KILL : SIM_POWER);
        restart_after(h, s);
    }
}

static void wipe(struct sim_host *h, double s)
{
    unsigned n = sim_host_number(h);

    if (!may_damage(n) || N.refused[n])
        return;
    N.struck[FAULT_WIPE]++;
    N.damaged[n] = N.wipe_due[n] = true;
    if (sim_host_up(h))
        sim_host_kill(h, SIM_POWER);
    restart_after(h, s);
}

bool nemesis_damaged(unsigned host)
{
    return N.damaged[host];
}

unsigned nemesis_damaged_in(unsigned from, unsigned to)
{
    unsigned n = 0;

    for (unsigned i = from; i <= to; i++)
        n += N.damaged[i];
    return n;
}

bool nemesis_refused(unsigned host)
{
    return N.refused[host];
}

unsigned nemesis_refusals(void)
{
    return N.refusals;
}

unsigned nemesis_flips(void)
{
    return N.flips;
}

void nemesis_cannot_start(unsigned host, enum err e, const char *what, const char *msg)
{
    if (e == ERR_IO || e == ERR_NO_SPACE)
        sim_exit("it could not start");
    if (!N.damaged[host])
        sim_violation("n%u: %s cannot start: %s: %s", host, what, err_name(e), msg);
    sim_log("n%u refuses: %s: %s", host, err_name(e), msg);
    N.refusals++;
    N.refused[host] = true;
    N.wipe_due[host] = !N.ops.no_wipe && sim_chance(0.5);
    sim_exit("it refuses its damaged data");
}

/* ---- strike and undo ---- */

static void on_undo(struct sim_event *e)
{
    struct undo *u = CONTAINER_OF(e, struct undo, event);
    struct sim_host *h = sim_host_find(u->host);

    switch (u->fault) {
    case FAULT_CUT_IN:
        sim_net_cut_host(u->host, true, false, false);
        break;
    case FAULT_CUT_OUT:
        sim_net_cut_host(u->host, false, true, false);
        break;
    case FAULT_CUT:
        sim_net_cut_host(u->host, true, true, false);
        break;
    case FAULT_CUT_LINK:
        sim_net_cut(u->host, u->other, false);
        break;
    case FAULT_PARTITION:
        sim_net_heal();
        break;
    case FAULT_SLOW:
        sim_disk_slow(h, 1);
        break;
    case FAULT_CLOCK:
        sim_host_clock(h, 1.0, 0);
        break;
    case FAULT_DISK_FULL:
        sim_disk_capacity(h, UINT64_MAX);
        break;
    default:
        break;
    }
    free(u);
}

static void undo_after(enum fault f, unsigned host, unsigned other, double s)
{
    struct undo *u = mem_zalloc(sizeof *u);

    u->event.fn = on_undo;
    u->fault = f;
    u->host = host;
    u->other = other;
    sim_at(&u->event, sim_now() + ns_of(s));
}

static void partition(void)
{
    unsigned sides = (unsigned)sim_random();

    for (unsigned a = 1; a <= N.hosts; a++)
        for (unsigned b = 1; b <= N.hosts; b++)
            if (((sides >> a) & 1) != ((sides >> b) & 1))
                sim_net_cut(a, b, true);
}

static void power_all(double s)
{
    for (unsigned i = 1; i <= N.hosts; i++) {
        struct sim_host *h = sim_host_find(i);
        if (sim_host_up(h))
            sim_host_kill(h, SIM_POWER);
        restart_after(h, s * (0.5 + (double)sim_below(100) / 200.0));
    }
}

static void strike_process(enum fault f, struct sim_host *h, double s)
{
    if (!sim_host_up(h))
        return;
    N.struck[f]++;
    switch (f) {
    case FAULT_KILL:
        sim_host_kill(h, SIM_KILL);
        restart_after(h, s);
        break;
    case FAULT_POWER:
        sim_host_kill(h, SIM_POWER);
        restart_after(h, s);
        break;
    case FAULT_POWER_ALL:
        power_all(s);
        break;
    case FAULT_CRASH_FS:
        sim_host_crash_at_fs(h, 1 + (unsigned)sim_below(30));
        break;
    case FAULT_PAUSE:
        sim_host_pause(h, ns_of(s));
        break;
    case FAULT_WRITE_ERROR:
        sim_disk_fail(h, 1 + (unsigned)sim_below(20), 0);
        break;
    case FAULT_READ_ERROR:
        sim_disk_fail(h, 0, 1 + (unsigned)sim_below(5));
        break;
    default:
        CHECK(false);
    }
}

/* Often as slow or as fast as they come: it is the two ends that meet badly. */
static double clock_rate(void)
{
    uint64_t k = sim_below(4);

    return k == 0 ? 0.8 : k == 1 ? 1.2 : 0.8 + (double)sim_below(400) / 1000.0;
}

static void strike_rest(enum fault f, struct sim_host *h, double s)
{
    unsigned n = sim_host_number(h), other = 1 + (unsigned)sim_below(N.hosts);

    N.struck[f]++;
    sim_log("fault %s n%u for %.2f s", fault_name(f), n, s);
    switch (f) {
    case FAULT_CUT_IN:
        sim_net_cut_host(n, true, false, true);
        break;
    case FAULT_CUT_OUT:
        sim_net_cut_host(n, false, true, true);
        break;
    case FAULT_CUT:
        sim_net_cut_host(n, true, true, true);
        break;
    case FAULT_CUT_LINK:
        if (other != n)
            sim_net_cut(n, other, true);
        break;
    case FAULT_PARTITION:
        partition();
        break;
    case FAULT_CLOG:
        sim_net_clog(n, other, ns_of(s));
        break;
    case FAULT_RESET:
        while (sim_net_reset_one(n) && sim_chance(0.7))
            ;
        break;
    case FAULT_STALL:
        sim_disk_stall(h, ns_of(s));
        break;
    case FAULT_SLOW:
        sim_disk_slow(h, 2 + (unsigned)sim_below(100));
        break;
    case FAULT_CLOCK:
        sim_host_clock(h, clock_rate(), (int64_t)sim_below(20000) - 10000);
        break;
    case FAULT_DISK_FULL:
        sim_disk_capacity(h, sim_disk_used(h) + sim_below(200 * KIB));
        break;
    default:
        break;
    }
    undo_after(f, n, other, s);
}

/* One host of the second kind at a time is away for long. */
static void gone(double s)
{
    unsigned n = N.ops.kinds + 1 + (unsigned)sim_below(N.hosts - N.ops.kinds);
    struct sim_host *h = sim_host_find(n);

    if (sim_now() < N.gone_until || !sim_host_up(h))
        return;
    N.gone_until = sim_now() + ns_of(s);
    N.struck[FAULT_GONE]++;
    sim_log("n%u is gone for %.2f s", n, s);
    if (sim_chance(0.5)) {
        sim_host_kill(h, SIM_POWER);
        restart_after(h, s);
    } else {
        sim_net_cut_host(n, true, true, true);
        undo_after(FAULT_CUT, n, 0, s);
    }
}

static void strike_placement(double s)
{
    static const enum fault kinds[] = {FAULT_KILL, FAULT_POWER, FAULT_PAUSE, FAULT_CUT};
    struct sim_host *h = sim_host_find(1 + (unsigned)sim_below(N.ops.kinds));
    enum fault f = kinds[sim_below(4)];

    N.struck[FAULT_PLACEMENT]++;
    if (f == FAULT_CUT)
        strike_rest(f, h, s);
    else
        strike_process(f, h, s);
}

static void strike(const struct fault_clock *c)
{
    double s = c->f.min + (c->f.max - c->f.min) * (double)sim_below(1000) / 1000.0;
    struct sim_host *h = random_host();

    switch (c->fault) {
    case FAULT_KILL:
    case FAULT_POWER:
    case FAULT_POWER_ALL:
    case FAULT_CRASH_FS:
    case FAULT_PAUSE:
    case FAULT_WRITE_ERROR:
    case FAULT_READ_ERROR:
        strike_process(c->fault, h, s);
        break;
    case FAULT_FLIP_WAL:
    case FAULT_FLIP_DATA:
    case FAULT_FLIP_MAP:
    case FAULT_FLIP_ANY:
        flip(c->fault, h, s);
        break;
    case FAULT_WIPE:
        wipe(h, s);
        break;
    case FAULT_TRANSFER:
        if (N.ops.transfer) {
            N.struck[c->fault]++;
            N.ops.transfer();
        }
        break;
    case FAULT_MEMBER:
        if (N.ops.member) {
            N.struck[c->fault]++;
            N.ops.member();
        }
        break;
    case FAULT_SPLIT:
        if (N.ops.split) {
            N.struck[c->fault]++;
            N.ops.split();
        }
        break;
    case FAULT_MERGE:
        if (N.ops.merge) {
            N.struck[c->fault]++;
            N.ops.merge();
        }
        break;
    case FAULT_ADMIN:
        if (N.ops.admin) {
            N.struck[c->fault]++;
            N.ops.admin();
        }
        break;
    case FAULT_GONE:
        gone(s);
        break;
    case FAULT_PLACEMENT:
        strike_placement(s);
        break;
    default:
        strike_rest(c->fault, h, s);
    }
}

static void on_clock(struct sim_event *e)
{
    struct fault_clock *c = CONTAINER_OF(e, struct fault_clock, event);

    if (N.healed || sim_now() >= N.until)
        return;
    strike(c);
    sim_at(e, sim_now() + ns_of(seconds_left(c->f.every)));
}

static void set_apart(unsigned hosts)
{
    for (unsigned i = 1; i <= hosts; i++)
        sim_host_clock(sim_host_find(i), sim_chance(0.5) ? 0.8 : 1.2, 0);
}

void nemesis_begin(const struct scenario *s, unsigned hosts, uint64_t until,
                   const struct nemesis_ops *ops)
{
    memset(&N, 0, sizeof N);
    N.hosts = hosts;
    N.until = until;
    N.ops = *ops;
    N.damage = s->damage;
    N.once = s->full;
    sim_on_exit(on_exit_of);
    if (s->apart)
        set_apart(hosts);
    for (int i = 0; i < FAULT_COUNT; i++) {
        struct fault_clock *c = &N.clock[i];
        /* What a scenario is there to show happens in every seed. */
        bool always = i == FAULT_MERGE || i == FAULT_SPLIT;
        if (s->fault[i].every <= 0 || (s->swarm && !always && sim_chance(0.6)))
            continue;
        c->event.fn = on_clock;
        c->fault = (enum fault)i;
        c->f = s->fault[i];
        if (s->swarm)
            c->f.every *= 0.3 + (double)sim_below(1400) / 1000.0;
        sim_at(&c->event, sim_now() + ns_of(s->begin) + ns_of(seconds_left(c->f.every)));
    }
}

void nemesis_heal(void)
{
    N.healed = true;
    sim_log("healed");
    sim_net_heal();
    sim_net_configure(
        &(struct sim_net_config){.latency_min = 50 * NS_PER_US, .latency_max = 500 * NS_PER_US});
    for (unsigned i = 1; i <= N.hosts; i++) {
        struct sim_host *h = sim_host_find(i);
        sim_host_clock(h, 1.0, 0);
        sim_disk_slow(h, 1);
        sim_disk_stall(h, 0);
        sim_disk_fail(h, 0, 0);
        sim_disk_capacity(h, UINT64_MAX);
        sim_host_crash_at_fs(h, 0);
        sim_host_pause(h, 0);
        if (!sim_host_up(h))
            restart_after(h, (double)sim_below(300) / 1000.0);
    }
}

unsigned nemesis_struck(enum fault f)
{
    return N.struck[f];
}

unsigned nemesis_struck_all(void)
{
    unsigned n = 0;

    for (int i = 0; i < FAULT_COUNT; i++)
        n += N.struck[i];
    return n;
}
