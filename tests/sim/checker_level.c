#include "tests/sim/checker_level.h"

#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/lin/checker_lin.h"
#include "tests/sim/sim.h"
#include "tests/sim/violation.h"

typedef unsigned long long ull;

/* The newest version that was known to be there at a time; both grow. */
struct point {
    uint64_t time, version;
};

struct key {
    struct point *points;
    size_t n, cap;
    struct map value;   /* version -> value + 1 */
    struct map written; /* value -> anything */
    uint64_t seen[LEVEL_PROCESSES];
};

static struct key keys[LEVEL_KEYS];
static uint64_t judged[KV_LEVEL_ANY + 1];
static int there; /* what maps point at */

static const char *const level_names[] = {"linearizable", "session", "bounded", "any"};

void checker_level_begin(void)
{
    for (unsigned i = 0; i < LEVEL_KEYS; i++) {
        map_init(&keys[i].value);
        map_init(&keys[i].written);
    }
}

void checker_level_draw(struct level_read *r, struct client_op *op, unsigned percent,
                        unsigned process, unsigned key)
{
    static const uint64_t bounds_ms[] = {3, 20, 100, 400, 2000};

    *r = (struct level_read){.process = process, .key = key, .called = sim_now()};
    if (op->method != KV_METHOD_GET || percent == 0 || sim_below(100) >= percent)
        return;
    r->level = (uint8_t)(1 + sim_below(3));
    op->level = r->level;
    if (r->level == KV_LEVEL_BOUNDED)
        op->staleness_ms = bounds_ms[sim_below(5)];
    r->staleness = op->staleness_ms * NS_PER_MS;
    r->seen = keys[key].seen[process];
}

void checker_level_wrote(unsigned key, uint32_t value)
{
    map_set(&keys[key].written, value, &there);
}

/* A version stands for one value, whoever tells it. */
static void bind(unsigned key, uint32_t value, uint64_t version)
{
    struct map *m = &keys[key].value;
    uintptr_t known = (uintptr_t)map_find(m, version);

    if (known == 0)
        map_set(m, version, (void *)((uintptr_t)value + 1));
    else if (known != (uintptr_t)value + 1)
        sim_violation("key%u: version %llu is value %llu and value %u", key, (ull)version,
                      (ull)known - 1, value);
}

static void see(unsigned process, unsigned key, uint64_t version)
{
    struct key *k = &keys[key];

    if (version > k->seen[process])
        k->seen[process] = version;
}

static uint64_t position(const struct client_result *r)
{
    return r->err == ERR_NOT_FOUND ? r->at : r->version;
}

void checker_level_saw(unsigned process, unsigned key, uint32_t value,
                       const struct client_result *result)
{
    struct key *k = &keys[key];
    uint64_t version = position(result), last = k->n ? k->points[k->n - 1].version : 0;

    if (result->err == ERR_OK)
        bind(key, value, version);
    see(process, key, version);
    if (version <= last)
        return;
    if (k->n == k->cap) {
        k->cap = k->cap ? 2 * k->cap : 64;
        k->points = mem_realloc(k->points, k->cap * sizeof *k->points);
    }
    k->points[k->n++] = (struct point){sim_now(), version};
}

/* What was known to be there at `time`. */
static uint64_t known_at(unsigned key, uint64_t time)
{
    const struct key *k = &keys[key];
    size_t low = 0, high = k->n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (k->points[mid].time <= time)
            low = mid + 1;
        else
            high = mid;
    }
    return low ? k->points[low - 1].version : 0;
}

void checker_level_answered(const struct level_read *r, uint32_t value,
                            const struct client_result *result)
{
    uint64_t is = position(result), least = 0;

    judged[r->level]++;
    if (result->err == ERR_OK) {
        bind(r->key, value, result->version);
        if (!map_find(&keys[r->key].written, value))
            sim_violation("key%u: a %s read found value %u, which was never written to it", r->key,
                          level_names[r->level], value);
        if (result->at < result->version)
            sim_violation("key%u: version %llu was read at position %llu", r->key,
                          (ull)result->version, (ull)result->at);
    }
    if (r->level == KV_LEVEL_SESSION)
        least = r->seen;
    if (r->level == KV_LEVEL_BOUNDED && r->called > r->staleness)
        least = known_at(r->key, r->called - r->staleness);
    if (is < least)
        sim_violation("key%u: a %s read, bound %.0f ms, found version %llu (at %llu): %llu was "
                      "there before",
                      r->key, level_names[r->level], (double)r->staleness / 1e6,
                      (ull)result->version, (ull)result->at, (ull)least);
    see(r->process, r->key, is);
}

uint64_t checker_level_judged(uint8_t level)
{
    return judged[level];
}
