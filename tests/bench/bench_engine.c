/* Cost of the engine on one thread: engine_write of small batches, engine_get of cached keys, and
 * the memory of idle open databases. CPU time is what counts on a core that does all the rest too.
 *
 *     bench_engine DIRECTORY [puts per size, default 400000] [idle databases, default 64]
 *
 * DIRECTORY must be empty; the databases stay there. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/base/rng.h"
#include "shardd/engine.h"
#include "shardd/engine_key.h"

#define KEYS 200000u
#define VALUE 128u

static uint64_t clock_ns(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static unsigned long resident_kib(void)
{
    unsigned long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    if (f && fscanf(f, "%lu %lu", &pages, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return resident * (unsigned long)(sysconf(_SC_PAGESIZE) / 1024);
}

static struct slice make_key(uint8_t *out, uint64_t k)
{
    char user[32];
    int n = snprintf(user, sizeof user, "user:%012llu", (unsigned long long)k);

    return engine_key_data(out, (uint16_t)(k % 1024), slice_of(user, (size_t)n));
}

static struct engine_db *open_db(struct engine *e, const char *dir, const char *name)
{
    char path[4096], msg[256] = "";
    struct engine_db *db = NULL;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    enum err r = engine_open(e, path, true, &db, msg, sizeof msg);
    if (r != ERR_OK) {
        fprintf(stderr, "%s: %s\n", err_name(r), msg);
        exit(1);
    }
    return db;
}

static void bench_write(struct engine_db *db, unsigned batch, uint64_t puts)
{
    struct engine_batch *b = engine_batch_create();
    uint8_t key[ENGINE_KEY_MAX], head[ENGINE_VALUE_HEAD_MAX], value[VALUE] = {7};
    struct rng rng;
    uint64_t key_ns = 0;

    rng_seed(&rng, batch);
    uint64_t t0 = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    for (uint64_t i = 0; i < puts; i++)
        key_ns += make_key(key, rng_below(&rng, KEYS)).n;
    key_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - t0 + (key_ns == 1);
    rng_seed(&rng, batch);
    uint64_t c0 = clock_ns(CLOCK_THREAD_CPUTIME_ID), w0 = clock_ns(CLOCK_MONOTONIC);
    for (uint64_t i = 0; i < puts; i += batch) {
        engine_batch_clear(b);
        for (unsigned k = 0; k < batch; k++) {
            struct engine_value_head h = {.version = i + k};
            engine_batch_put2(b, make_key(key, rng_below(&rng, KEYS)),
                              engine_value_encode(head, &h), slice_of(value, sizeof value));
        }
        CHECK(engine_write(db, b) == ERR_OK);
    }
    uint64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - c0 - key_ns;
    uint64_t wall = clock_ns(CLOCK_MONOTONIC) - w0;
    printf("write batch=%-4u %6.3f us cpu a put, %6.3f us wall\n", batch,
           (double)cpu / 1e3 / (double)puts, (double)wall / 1e3 / (double)puts);
    engine_batch_destroy(b);
}

static void bench_get(struct engine_db *db, const char *what, uint64_t base, uint64_t gets)
{
    uint8_t key[ENGINE_KEY_MAX];
    uint64_t n[2] = {0}, sum = 0;
    struct rng rng;

    rng_seed(&rng, 99);
    uint64_t c0 = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    for (uint64_t i = 0; i < gets; i++) {
        struct engine_value v;
        enum err r = engine_get(db, make_key(key, base + rng_below(&rng, KEYS)), true, &v);
        n[r == ERR_INCOMPLETE]++;
        if (r != ERR_OK)
            continue;
        sum += v.data.n;
        engine_value_close(&v);
    }
    uint64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - c0;
    printf("get %-12s %6.3f us cpu, incomplete %.2f %%, %llu bytes\n", what,
           (double)cpu / 1e3 / (double)gets, 100.0 * (double)n[1] / (double)gets,
           (unsigned long long)sum);
}

static void bench_stats(struct engine_db *db)
{
    struct engine_db_stats s;
    unsigned stalled = 0;

    uint64_t t0 = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    for (unsigned i = 0; i < 10000; i++)
        stalled += engine_stalled(db);
    uint64_t t1 = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    for (unsigned i = 0; i < 10000; i++)
        engine_db_stats(db, &s);
    uint64_t t2 = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    printf("engine_stalled %.3f us, engine_db_stats %.3f us, disk %llu keys %llu stalled %u\n",
           (double)(t1 - t0) / 1e7, (double)(t2 - t1) / 1e7, (unsigned long long)s.disk_bytes,
           (unsigned long long)s.keys, stalled);
}

static void bench_idle(struct engine *e, const char *dir, unsigned n)
{
    struct engine_db **dbs = calloc(n, sizeof *dbs);
    struct engine_batch *b = engine_batch_create();
    unsigned long before = resident_kib();

    CHECK(dbs != NULL);
    uint64_t t0 = clock_ns(CLOCK_MONOTONIC);
    for (unsigned i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "idle-%u", i);
        dbs[i] = open_db(e, dir, name);
    }
    uint64_t t1 = clock_ns(CLOCK_MONOTONIC);
    unsigned long opened = resident_kib();
    engine_batch_put(b, slice_str("mposition"), slice_str("one"));
    for (unsigned i = 0; i < n; i++)
        CHECK(engine_write(dbs[i], b) == ERR_OK);
    uint64_t t2 = clock_ns(CLOCK_MONOTONIC);
    uint64_t sum = engine_memtable_bytes(e);
    uint64_t t3 = clock_ns(CLOCK_MONOTONIC);
    printf("idle %u databases: created in %.1f ms each, %.1f MiB resident, %.1f MiB after one "
           "write each; memtables %.1f MiB (asked in %.0f us)\n",
           n, (double)(t1 - t0) / 1e6 / n, (double)(opened - before) / 1024,
           (double)(resident_kib() - before) / 1024, (double)sum / (double)MIB,
           (double)(t3 - t2) / 1e3);
    for (unsigned i = 0; i < n; i++)
        engine_close(dbs[i]);
    engine_batch_destroy(b);
    free(dbs);
}

int main(int argc, char **argv)
{
    struct engine_options o = {0};
    struct engine *e;
    char msg[256];

    if (argc < 2) {
        fprintf(stderr, "usage: bench_engine DIRECTORY [puts] [idle databases]\n");
        return 2;
    }
    uint64_t puts = argc > 2 ? strtoull(argv[2], NULL, 10) : 400000;
    unsigned idle = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 64;
    CHECK(engine_create(&o, &e, msg, sizeof msg) == ERR_OK);
    struct engine_db *db = open_db(e, argv[1], "one");
    static const unsigned batches[] = {1, 16, 256};
    for (unsigned i = 0; i < 3; i++)
        bench_write(db, batches[i], batches[i] == 1 ? puts / 4 : puts);
    bench_get(db, "mixed", 0, 200000);
    bench_get(db, "absent", KEYS, 200000);
    CHECK(engine_flush(db) == ERR_OK);
    CHECK(engine_compact(db) == ERR_OK);
    bench_get(db, "cold", 0, 200000);
    for (uint64_t k = 0; k < KEYS; k++) {
        uint8_t key[ENGINE_KEY_MAX];
        struct engine_value v;
        if (engine_get(db, make_key(key, k), false, &v) == ERR_OK)
            engine_value_close(&v);
    }
    bench_get(db, "cached", 0, 200000);
    bench_get(db, "absent", KEYS, 200000);
    bench_stats(db);
    bench_idle(e, argv[1], idle);
    engine_close(db);
    engine_destroy(e);
    return 0;
}
