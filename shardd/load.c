#include "shardd/load.h"

#include "common/base/limits.h"
#include "common/raft/snapshot_stream.h"
#include "shardd/core.h"

#define PACE_MIN (1 * MIB)
#define PACE_MAX (4 * GIB) /* beyond it, it is no limit */
#define YIELD_US 10000u
#define SMOOTHING 10u         /* periods */
#define ENOUGH 20u            /* writes that a percentile says something of */
#define MOVING_MIN (64 * KIB) /* bytes in a period: a manifest or two are no move */

void load_write(struct load *l, uint64_t ns)
{
    histogram_add(&l->writes, ns / NS_PER_US);
}

uint64_t load_write_p99(const struct load *l)
{
    uint64_t p99 = 0;
    for (unsigned i = 0; i < LOAD_PERIODS; i++)
        p99 = l->p99_us[i] > p99 ? l->p99_us[i] : p99;
    return p99;
}

static uint64_t smoothed(uint64_t milli, uint64_t count)
{
    uint64_t now = count * 1000 * 10 / LOAD_TICKS; /* ticks are a tenth of a second */
    return now > milli ? milli + (now - milli + SMOOTHING - 1) / SMOOTHING
                       : milli - (milli - now) / SMOOTHING;
}

uint64_t load_reads(const struct load_ops *o)
{
    return (o->read_milli + 500) / 1000;
}

uint64_t load_writes(const struct load_ops *o)
{
    return (o->write_milli + 500) / 1000;
}

uint64_t load_pace(uint64_t pace, uint64_t cap, uint64_t moving, uint64_t p99_us,
                   uint64_t baseline_us)
{
    uint64_t bound = 2 * baseline_us > YIELD_US ? 2 * baseline_us : YIELD_US;
    if (p99_us > bound) {
        uint64_t from = pace ? pace : moving;
        return from / 2 > PACE_MIN ? from / 2 : PACE_MIN;
    }
    if (pace == 0)
        return 0;
    pace += pace / 4;
    return pace >= (cap ? cap : PACE_MAX) ? 0 : pace;
}

static uint64_t cap_of(const struct load *l)
{
    if (l->configured == 0 || l->ordered == 0)
        return l->configured + l->ordered;
    return l->configured < l->ordered ? l->configured : l->ordered;
}

static void apply_rate(struct core *c)
{
    uint64_t rate = cap_of(&c->load);
    if (c->load.pace && (rate == 0 || c->load.pace < rate))
        rate = c->load.pace;
    if (rate == c->fetch_rate.bytes_per_s)
        return;
    snapshot_rate_set(&c->fetch_rate, rate);
    if (c->snapshot_server)
        snapshot_server_set_rate(c->snapshot_server, rate);
}

void load_configure(struct core *c, uint64_t bytes_per_s)
{
    c->load.configured = bytes_per_s;
    apply_rate(c);
}

void load_order(struct core *c, uint64_t bytes_per_s)
{
    c->load.ordered = bytes_per_s;
    apply_rate(c);
}

static void count_moved(struct core *c)
{
    struct load *l = &c->load;
    struct snapshot_server_stats s = {0};
    if (c->snapshot_server)
        snapshot_server_stats(c->snapshot_server, &s);
    uint64_t moved = c->fetch_rate.taken + s.bytes;
    uint64_t bytes = moved > l->moved ? moved - l->moved : 0;
    l->moving = bytes * 10 / LOAD_TICKS;
    l->moved = moved;
}

/* The worst of all cores: they share the disk, and mostly the processors. */
static uint64_t node_p99(const struct core *c)
{
    uint64_t worst = 0;
    for (unsigned i = 0; i < c->node->options.cores; i++) {
        struct core *other = c->node->core[i];
        uint64_t us =
            other ? atomic_load_explicit(&other->load.last_p99_us, memory_order_relaxed) : 0;
        worst = us > worst ? us : worst;
    }
    return worst;
}

static void end_period(struct core *c)
{
    struct load *l = &c->load;
    uint64_t p99 = l->writes.count >= ENOUGH ? histogram_quantile(&l->writes, 0.99) : 0;
    if (l->writes.count)
        histogram_init(&l->writes);
    l->p99_us[l->at] = p99;
    l->at = (l->at + 1) % LOAD_PERIODS;
    atomic_store_explicit(&l->last_p99_us, p99, memory_order_relaxed);
    count_moved(c);
    uint64_t worst = node_p99(c);
    if (l->moving * LOAD_TICKS / 10 < MOVING_MIN) {
        l->pace = 0;
        if (worst)
            l->baseline_us = l->baseline_us ? (3 * l->baseline_us + worst) / 4 : worst;
    } else {
        l->pace = load_pace(l->pace, cap_of(l), l->moving, worst, l->baseline_us);
    }
    apply_rate(c);
}

void load_tick(struct core *c)
{
    size_t it = 0;
    void *value;
    if (c->ticks % LOAD_TICKS != 0)
        return;
    end_period(c);
    while (map_next(&c->replicas, &it, NULL, &value)) {
        struct load_ops *o = &((struct replica *)value)->ops;
        o->read_milli = smoothed(o->read_milli, o->reads);
        o->write_milli = smoothed(o->write_milli, o->writes);
        o->reads = o->writes = 0;
    }
}
