/* Clock, queue of events, hosts and their processes. See sim.h.
 *
 * A process may end in the middle of a call (exit on a fatal error, a crash at a file operation):
 * that is a longjmp out of production code to the event loop, after which nothing of the process is
 * touched any more. All that it had allocated is left behind. */
#include "tests/sim/sim_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/log.h"

struct sim sim_world;

/* ---- time, chance, trace ---- */

static void log_line(void *arg, enum log_level level, const char *line)
{
    (void)arg;
    (void)level;
    if (sim_world.verbose)
        sim_log("n%u %s", sim_world.current ? sim_world.current->number : 0, line);
}

/* The worlds before, in a process that makes several: for the leak sanitizer alone, which must not
 * take what an abandoned world still holds for leaks. */
struct past {
    struct past *before;
    struct sim world;
};
static struct past *pasts;

static void leave_behind(void)
{
    struct past *p = mem_alloc(sizeof *p);

    p->before = pasts;
    p->world = sim_world;
    pasts = p;
}

void sim_begin(uint64_t seed)
{
    bool verbose = sim_world.verbose;

    leave_behind();
    memset(&sim_world, 0, sizeof sim_world);
    sim_world.verbose = verbose;
    rng_seed(&sim_world.rng, seed);
    sim_world.trace = 0xcbf29ce484222325u ^ seed;
    sim_world.now = NS_PER_S;
    list_init(&sim_world.graves);
    sim_net_begin();
    log_set_sink(log_line, NULL);
}

uint64_t sim_now(void)
{
    return sim_world.now;
}

uint64_t sim_random(void)
{
    return rng_next(&sim_world.rng);
}

uint64_t sim_below(uint64_t n)
{
    return rng_below(&sim_world.rng, n);
}

uint64_t sim_between(uint64_t low, uint64_t high)
{
    CHECK(low <= high);
    return low + sim_below(high - low + 1);
}

bool sim_chance(double p)
{
    return p > 0 && rng_double(&sim_world.rng) < p;
}

uint64_t sim_trace_hash(void)
{
    return sim_world.trace;
}

void sim_trace(uint64_t what)
{
    uint64_t h = (sim_world.trace ^ what) * 0x9e3779b97f4a7c15u;

    sim_world.trace = h ^ (h >> 29);
}

uint64_t sim_events(void)
{
    return sim_world.n_events;
}

void sim_set_verbose(bool on)
{
    sim_world.verbose = on;
}

void sim_log(const char *fmt, ...)
{
    va_list ap;

    if (!sim_world.verbose)
        return;
    printf("%10.6f ", (double)sim_world.now / 1e9);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}

const struct sim_stats *sim_stats(void)
{
    return &sim_world.stats;
}

/* ---- the queue: a heap by (at, order), four children a node ---- */

#define FIRST_CHILD(pos) (4 * (pos)-2)
#define PARENT(pos) (((pos) + 2) / 4)

static bool earlier(const struct sim_slot *a, const struct sim_slot *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void heap_put(size_t pos, const struct sim_slot *s)
{
    sim_world.heap[pos] = *s;
    s->event->pos = pos;
}

static void heap_up(size_t pos, const struct sim_slot *s)
{
    for (; pos > 1 && earlier(s, &sim_world.heap[PARENT(pos)]); pos = PARENT(pos))
        heap_put(pos, &sim_world.heap[PARENT(pos)]);
    heap_put(pos, s);
}

static void heap_down(size_t pos, const struct sim_slot *s)
{
    const struct sim_slot *heap = sim_world.heap;
    size_t n = sim_world.heap_n;

    for (size_t c; (c = FIRST_CHILD(pos)) <= n;) {
        size_t end = c + 3 < n ? c + 3 : n;
        for (size_t k = c + 1; k <= end; k++)
            if (earlier(&heap[k], &heap[c]))
                c = k;
        if (!earlier(&heap[c], s))
            break;
        heap_put(pos, &heap[c]);
        pos = c;
    }
    heap_put(pos, s);
}

void sim_cancel(struct sim_event *e)
{
    size_t pos = e->pos;
    struct sim_slot last;

    if (pos == 0)
        return;
    e->pos = 0;
    last = sim_world.heap[sim_world.heap_n--];
    if (last.event == e)
        return;
    if (pos > 1 && earlier(&last, &sim_world.heap[PARENT(pos)]))
        heap_up(pos, &last);
    else
        heap_down(pos, &last);
}

void sim_at(struct sim_event *e, uint64_t at)
{
    sim_cancel(e);
    e->at = at > sim_world.now ? at : sim_world.now;
    e->order = sim_world.order++;
    if (sim_world.heap_n + 2 > sim_world.heap_cap) {
        sim_world.heap_cap = sim_world.heap_cap ? sim_world.heap_cap * 2 : 256;
        sim_world.heap = mem_realloc(sim_world.heap, sim_world.heap_cap * sizeof *sim_world.heap);
    }
    heap_up(++sim_world.heap_n, &(struct sim_slot){e->at, e->order, e});
}

void sim_bury(struct sim_grave *g)
{
    list_push_back(&sim_world.graves, &g->link);
}

void sim_run(uint64_t until)
{
    sim_world.stop = false;
    while (!sim_world.stop && sim_world.heap_n > 0) {
        struct sim_event *e = sim_world.heap[1].event;
        struct list *g;

        if (e->at > until)
            break;
        sim_cancel(e);
        CHECK(e->at >= sim_world.now);
        sim_world.now = e->at;
        sim_world.n_events++;
        sim_trace(e->at);
        e->fn(e);
        CHECK(!sim_world.current);
        while ((g = list_pop_front(&sim_world.graves)))
            free(CONTAINER_OF(g, struct sim_grave, link));
    }
    if (!sim_world.stop && sim_world.now < until)
        sim_world.now = until;
}

void sim_stop(void)
{
    sim_world.stop = true;
}

/* ---- hosts ---- */

struct sim_host *sim_host_create(unsigned number)
{
    struct sim_host *h = mem_zalloc(sizeof *h);

    CHECK(number > 0 && number < SIM_HOSTS);
    CHECK(!sim_world.host[number]);
    h->number = number;
    h->rate = 1.0;
    h->clock_since = sim_world.now;
    h->clock_base = sim_between(1, 1000) * NS_PER_S;
    list_init(&h->ios);
    list_init(&h->listeners);
    sim_fs_host_init(h);
    sim_world.host[number] = h;
    return h;
}

struct sim_host *sim_host_find(unsigned number)
{
    return number < SIM_HOSTS ? sim_world.host[number] : NULL;
}

unsigned sim_host_number(const struct sim_host *h)
{
    return h->number;
}

bool sim_host_up(const struct sim_host *h)
{
    return h->up;
}

struct sim_host *sim_current(void)
{
    return sim_world.current;
}

uint64_t sim_host_clock_now(const struct sim_host *h)
{
    return h->clock_base + (uint64_t)((double)(sim_world.now - h->clock_since) * h->rate);
}

uint64_t sim_host_clock_to_sim(const struct sim_host *h, uint64_t host_ns)
{
    if (host_ns <= h->clock_base)
        return h->clock_since;
    /* One more ns: rounding must never wake a timer a moment early, for ever. */
    return h->clock_since + (uint64_t)((double)(host_ns - h->clock_base) / h->rate) + 1;
}

void sim_host_clock(struct sim_host *h, double rate, int64_t wall_ms)
{
    h->clock_base = sim_host_clock_now(h);
    h->clock_since = sim_world.now;
    h->rate = rate;
    h->wall_off = wall_ms;
    sim_io_host_resumed(h);
}

static void host_down(struct sim_host *h, enum sim_death how)
{
    CHECK(h->up);
    h->up = false;
    h->powered = how == SIM_KILL;
    h->life++;
    h->paused_until = 0;
    h->disk.crash_at = 0;
    sim_world.stats.crashes++;
    sim_io_host_died(h);
    sim_net_host_died(h, how);
    sim_fs_host_died(h, how);
    sim_trace(h->number * 2 + (how == SIM_POWER));
}

/* What is allocated between the two is no leak: a process that dies leaves all of it behind. There
 * in the builds that have the leak sanitizer. */
extern void __lsan_disable(void) __attribute__((weak));
extern void __lsan_enable(void) __attribute__((weak));

static void set_current(struct sim_host *h)
{
    if (h && __lsan_disable)
        __lsan_disable();
    if (!h && __lsan_enable)
        __lsan_enable();
    sim_world.current = h;
}

bool sim_enter(struct sim_host *h, void (*fn)(void *arg), void *arg)
{
    CHECK(!sim_world.current);
    CHECK(h->up);
    set_current(h);
    if (_setjmp(h->escape) == 0) {
        fn(arg);
        set_current(NULL);
        return true;
    }
    set_current(NULL);
    sim_log("n%u ended: %s", h->number, h->exit_why);
    host_down(h, h->power_pending ? SIM_POWER : SIM_KILL);
    h->power_pending = false;
    if (sim_world.on_exit)
        sim_world.on_exit(h, h->exit_why);
    return false;
}

bool sim_host_start(struct sim_host *h, void (*fn)(void *arg), void *arg)
{
    CHECK(!h->up);
    h->up = true;
    h->disk.dead = false;
    return sim_enter(h, fn, arg);
}

bool sim_host_call(struct sim_host *h, void (*fn)(void *arg), void *arg)
{
    return sim_enter(h, fn, arg);
}

_Noreturn void sim_exit(const char *why)
{
    struct sim_host *h = sim_world.current;

    CHECK(h);
    h->exit_why = why;
    _longjmp(h->escape, 1);
}

void sim_host_kill(struct sim_host *h, enum sim_death how)
{
    CHECK(!sim_world.current);
    sim_log("n%u %s", h->number, how == SIM_POWER ? "power lost" : "killed");
    host_down(h, how);
}

void sim_host_crash_at_fs(struct sim_host *h, unsigned k)
{
    h->disk.crash_at = k;
}

void sim_on_exit(void (*fn)(struct sim_host *h, const char *why))
{
    sim_world.on_exit = fn;
}

void sim_host_pause(struct sim_host *h, uint64_t ns)
{
    sim_log("n%u paused for %.3f s", h->number, (double)ns / 1e9);
    h->paused_until = sim_world.now + ns;
    sim_io_host_resumed(h);
}

bool sim_host_paused(const struct sim_host *h)
{
    return h->paused_until > sim_world.now;
}
