#include "client/bench/load.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/base/limits.h"
#include "common/base/mem.h"

#define HISTORY_VALUE_MAX 40
#define DELETES_PERCENT 10 /* of a history's writes */

enum phase { PHASE_FILL, PHASE_WARMUP, PHASE_MEASURE, PHASE_OVER };

struct lane {
    struct load *load;
    kv_client *kv;
    struct rng rng;
    uint64_t t0;     /* what latency counts from: in an open loop the intended start */
    uint64_t called; /* the call itself: an operation cannot take effect before it */
    struct op op;
    uint64_t client, seq; /* history */
    unsigned value_len;
    struct lane *next_idle;
    uint8_t value[HISTORY_VALUE_MAX]; /* history: unique */
};

struct load {
    const struct bench_options *o;
    kv_client **handles;
    struct keys keys;
    struct op_run run;
    struct lane *lanes;
    unsigned n_lanes;
    uint8_t *value;
    FILE *history;
    uint64_t next_client;
    atomic_int phase;
    atomic_uint active; /* lanes with an operation under way */
    atomic_uint_fast64_t issued, finished, failed;
    uint64_t fill_failed;
    struct load_side read, write;
    uint64_t ok, errors, unknown, conflicts;
    uint64_t begin, end; /* of the measured time */
    double cpu;
    uint64_t *last_write, max_gap; /* per slot range */
    kv_err last_error;
    char error_text[160];
    /* open loop */
    pthread_mutex_t lock;
    struct lane *idle;
    uint64_t pace_start, due; /* operations given out */
};

static volatile sig_atomic_t interrupted;

void load_interrupt(void)
{
    interrupted = 1;
}

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void sleep_ns(uint64_t ns)
{
    struct timespec ts = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
    nanosleep(&ts, NULL);
}

static void on_done(void *arg, kv_err err, const kv_result *result);
static void on_many_done(void *arg, kv_err err, const kv_results *results);

struct load *load_create(const struct bench_options *o, kv_client **handles, FILE *history)
{
    struct load *l = mem_zalloc(sizeof(*l));
    char prefix[16] = "";
    if (o->incr) /* numbers have keys of their own */
        snprintf(prefix, sizeof(prefix), "n");
    l->o = o;
    l->handles = handles;
    l->history = history;
    if (history) /* a history begins with keys that nobody has written */
        snprintf(prefix, sizeof(prefix), "h%llu-", (unsigned long long)time(NULL) % 100000000);
    keys_init(&l->keys, o->keys, o->zipfian, o->key_size, prefix);
    l->n_lanes = o->clients * o->pipeline;
    l->lanes = mem_zalloc(l->n_lanes * sizeof(struct lane));
    op_run_init(&l->run, o, &l->keys);
    l->value = mem_alloc(o->value_size + 1);
    struct rng rng;
    rng_seed(&rng, o->seed);
    for (unsigned i = 0; i < o->value_size; i++)
        l->value[i] = (uint8_t)('a' + rng_below(&rng, 26));
    l->run.value = o->incr ? kv_str("0") : kv_bytes(l->value, o->value_size);
    l->run.done = on_done;
    l->run.many_done = on_many_done;
    for (unsigned i = 0; i < l->n_lanes; i++) {
        struct lane *lane = &l->lanes[i];
        lane->load = l;
        lane->kv = handles[i / o->pipeline % o->connections];
        op_init(&lane->op, o);
        lane->client = i;
        rng_seed(&lane->rng, rng_next(&rng));
    }
    l->next_client = l->n_lanes;
    histogram_init(&l->read.latency);
    histogram_init(&l->write.latency);
    if (o->gaps)
        l->last_write = mem_zalloc(o->gaps * sizeof(uint64_t));
    pthread_mutex_init(&l->lock, NULL);
    return l;
}

void load_destroy(struct load *l)
{
    pthread_mutex_destroy(&l->lock);
    free(l->last_write);
    for (unsigned i = 0; i < l->n_lanes; i++)
        op_close(&l->lanes[i].op);
    op_run_close(&l->run);
    free(l->value);
    free(l->lanes);
    free(l);
}

/* ---- one operation ---- */

static void choose(struct lane *lane)
{
    struct load *l = lane->load;
    op_choose(&lane->op, &l->run, &lane->rng);
    if (l->history && lane->op.kind == OP_PUT && rng_below(&lane->rng, 100) < DELETES_PERCENT)
        lane->op.kind = OP_DEL;
}

static void issue(struct lane *lane, uint64_t t0)
{
    struct load *l = lane->load;
    kv_slice value = l->run.value;
    lane->t0 = t0;
    lane->called = l->history ? now_ns() : t0;
    if (l->history && lane->op.kind == OP_PUT) {
        int n = snprintf((char *)lane->value, sizeof(lane->value), "%llu.%llu",
                         (unsigned long long)lane->client, (unsigned long long)lane->seq++);
        lane->value_len = (unsigned)n;
        value = kv_bytes(lane->value, lane->value_len);
    }
    kv_err e = op_issue(&lane->op, &l->run, lane->kv, value, lane);
    if (e != KV_OK) { /* nothing else may refuse: the handles take as many as there are lanes */
        fprintf(stderr, "kvbench: %s\n", kv_err_str(e));
        abort();
    }
}

/* What the lane does next; false: nothing, it is not active any more. */
static bool next(struct lane *lane, uint64_t now)
{
    struct load *l = lane->load;
    int phase = atomic_load_explicit(&l->phase, memory_order_relaxed);
    if (phase == PHASE_OVER)
        return false;
    if (phase == PHASE_FILL) {
        uint64_t number = atomic_fetch_add(&l->issued, 1);
        if (number >= l->o->keys)
            return false;
        op_set(&lane->op, &l->run, OP_PUT, number);
    } else {
        if (l->o->ops && phase == PHASE_MEASURE && atomic_fetch_add(&l->issued, 1) >= l->o->ops)
            return false;
        choose(lane);
    }
    issue(lane, now);
    return true;
}

static uint64_t due_time(const struct load *l, uint64_t i)
{
    return l->pace_start + (uint64_t)((double)i * (1e9 / l->o->rate));
}

static bool paced_over(const struct load *l)
{
    return atomic_load(&l->phase) == PHASE_OVER || (l->o->ops && l->due >= l->o->ops);
}

/* Open loop: takes up an operation that is due already, or goes idle. */
static void next_paced(struct lane *lane, uint64_t now)
{
    struct load *l = lane->load;
    pthread_mutex_lock(&l->lock);
    bool over = paced_over(l);
    uint64_t at = due_time(l, l->due);
    bool late = !over && at <= now;
    if (late) {
        l->due++;
    } else {
        lane->next_idle = l->idle;
        l->idle = lane;
    }
    pthread_mutex_unlock(&l->lock);
    if (late) {
        choose(lane);
        issue(lane, at);
    } else {
        atomic_fetch_sub(&l->active, 1); /* the last touch: `l` may go when it is zero */
    }
}

static void note_gap(struct load *l, const struct lane *lane, uint64_t now)
{
    unsigned range = kv_slot(lane->op.key[0]) * l->o->gaps / 16384;
    uint64_t last = l->last_write[range];
    if (last && now - last > l->max_gap)
        l->max_gap = now - last;
    l->last_write[range] = now;
}

/* What became of an operation. */
struct outcome {
    kv_err err;
    bool maybe_applied;
    const char *text;
};

static void count_failure(struct lane *lane, const struct outcome *o, int phase)
{
    struct load *l = lane->load;
    atomic_fetch_add_explicit(&l->failed, 1, memory_order_relaxed);
    l->last_error = o->err;
    snprintf(l->error_text, sizeof(l->error_text), "%s", o->text);
    if (phase != PHASE_MEASURE && phase != PHASE_OVER)
        return;
    if (!op_is_read(lane->op.kind) && o->maybe_applied)
        l->unknown++;
    else
        l->errors++;
}

static void count(struct lane *lane, const struct outcome *o, uint64_t now)
{
    struct load *l = lane->load;
    bool is_read = op_is_read(lane->op.kind);
    int phase = atomic_load_explicit(&l->phase, memory_order_relaxed);
    atomic_fetch_add_explicit(&l->finished, 1, memory_order_relaxed);
    if (phase == PHASE_FILL && o->err < 0)
        l->fill_failed++;
    if (o->err < 0) {
        count_failure(lane, o, phase);
        return;
    }
    if (!is_read && l->last_write)
        note_gap(l, lane, now);
    if (phase != PHASE_MEASURE)
        return;
    struct load_side *side = is_read ? &l->read : &l->write;
    histogram_add(&side->latency, (now - lane->t0) / NS_PER_US);
    side->done++;
    side->items += lane->op.n;
    l->ok++;
    l->conflicts += o->err == KV_CONDITION_FAILED;
}

static void record(struct lane *lane, kv_err err, const kv_result *result, uint64_t now)
{
    struct load *l = lane->load;
    struct history_event e = {
        .client = lane->client,
        .op = lane->op.kind == OP_GET   ? HISTORY_GET
              : lane->op.kind == OP_DEL ? HISTORY_DEL
                                        : HISTORY_PUT,
        .key = lane->op.key[0],
        .value = kv_bytes(lane->value, lane->value_len),
        .t0 = lane->called,
        .t1 = now,
        .err = err,
        .result = result,
    };
    history_write(l->history, &e);
    if (kv_result_maybe_applied(result))
        lane->client = l->next_client++;
}

static void go_on(struct lane *lane, const struct outcome *o, uint64_t now)
{
    struct load *l = lane->load;
    count(lane, o, now);
    if (l->o->rate > 0 && atomic_load_explicit(&l->phase, memory_order_relaxed) != PHASE_FILL)
        next_paced(lane, now);
    else if (!next(lane, now))
        atomic_fetch_sub(&l->active, 1);
}

static void on_done(void *arg, kv_err err, const kv_result *result)
{
    struct lane *lane = arg;
    struct load *l = lane->load;
    uint64_t now = now_ns();
    struct outcome o = {err, kv_result_maybe_applied(result) != 0, kv_result_text(result)};
    if (l->history && atomic_load_explicit(&l->phase, memory_order_relaxed) != PHASE_FILL)
        record(lane, err, result, now);
    op_answered(&lane->op, &l->run, err, result);
    go_on(lane, &o, now);
}

static void on_many_done(void *arg, kv_err err, const kv_results *results)
{
    struct outcome o = {err, false, ""};
    uint64_t now = now_ns();
    for (size_t i = 0; err < 0 && i < kv_results_count(results); i++) {
        const kv_result *r = kv_results_at(results, i);
        o.maybe_applied = o.maybe_applied || kv_result_maybe_applied(r);
        if (kv_result_err(r) == err)
            o.text = kv_result_text(r);
    }
    go_on(arg, &o, now);
}

/* ---- phases ---- */

static void start_lanes(struct load *l)
{
    for (unsigned i = 0; i < l->n_lanes; i++) {
        atomic_fetch_add(&l->active, 1);
        if (!next(&l->lanes[i], now_ns()))
            atomic_fetch_sub(&l->active, 1);
    }
}

static void show_progress(const struct load *l, uint64_t *last, uint64_t now, uint64_t begin)
{
    uint64_t finished = atomic_load(&l->finished);
    fprintf(stderr, "%6.1f s  %8llu op/s  %llu failed\n", (double)(now - begin) / 1e9,
            (unsigned long long)((finished - *last) / l->o->interval),
            (unsigned long long)atomic_load(&l->failed));
    *last = finished;
}

/* Waits until `until` (0: without end) or until no lane is active. */
static void watch(struct load *l, uint64_t until)
{
    uint64_t begin = now_ns(), shown = begin, last = atomic_load(&l->finished);
    for (;;) {
        uint64_t now = now_ns();
        if (interrupted || (until && now >= until) ||
            (l->o->rate <= 0 && atomic_load(&l->active) == 0))
            return;
        if (l->o->interval && now - shown >= l->o->interval * NS_PER_S) {
            show_progress(l, &last, now, begin);
            shown = now;
        }
        uint64_t step = 20 * NS_PER_MS;
        sleep_ns(until && until - now < step ? until - now : step);
    }
}

int load_fill(struct load *l)
{
    fprintf(stderr, "kvbench: loading %llu keys\n", (unsigned long long)l->o->keys);
    uint64_t begin = now_ns();
    atomic_store(&l->phase, PHASE_FILL);
    start_lanes(l);
    while (atomic_load(&l->active))
        sleep_ns(10 * NS_PER_MS);
    double seconds = (double)(now_ns() - begin) / 1e9;
    fprintf(stderr, "kvbench: loaded in %.1f s, %.0f puts/s\n", seconds,
            (double)l->o->keys / seconds);
    atomic_store(&l->issued, 0);
    atomic_store(&l->failed, 0);
    if (!l->fill_failed)
        return 0;
    fprintf(stderr, "kvbench: %llu keys could not be loaded: %s (%s)\n",
            (unsigned long long)l->fill_failed, kv_err_str(l->last_error), l->error_text);
    return 6;
}

static void begin_measuring(struct load *l)
{
    l->begin = now_ns();
    l->cpu = cpu_seconds();
    atomic_store(&l->phase, PHASE_MEASURE);
}

static void end_measuring(struct load *l)
{
    l->end = now_ns();
    l->cpu = cpu_seconds() - l->cpu;
    atomic_store(&l->phase, PHASE_OVER);
}

/* The pacer: gives due operations to idle lanes; naps at most until the next one is due. */
static void pace(struct load *l, uint64_t until)
{
    for (;;) {
        uint64_t now = now_ns();
        if (interrupted || (until && now >= until))
            return;
        pthread_mutex_lock(&l->lock);
        bool over = paced_over(l);
        uint64_t at = due_time(l, l->due);
        struct lane *lane = !over && at <= now ? l->idle : NULL;
        if (lane) {
            l->idle = lane->next_idle;
            l->due++;
            atomic_fetch_add(&l->active, 1);
        }
        pthread_mutex_unlock(&l->lock);
        if (over)
            return;
        if (lane) {
            choose(lane);
            issue(lane, at);
            continue;
        }
        uint64_t nap = at > now ? at - now : 50 * NS_PER_US;
        sleep_ns(nap < NS_PER_MS ? nap : NS_PER_MS);
    }
}

static void run_paced(struct load *l)
{
    for (unsigned i = 0; i < l->n_lanes; i++) {
        l->lanes[i].next_idle = l->idle;
        l->idle = &l->lanes[i];
    }
    l->pace_start = now_ns();
    if (l->o->warmup > 0 && !l->o->ops) {
        atomic_store(&l->phase, PHASE_WARMUP);
        pace(l, now_ns() + (uint64_t)(l->o->warmup * 1e9));
    }
    begin_measuring(l);
    pace(l, l->o->ops ? 0 : l->begin + (uint64_t)(l->o->seconds * 1e9));
    while (l->o->ops && atomic_load(&l->active) && !interrupted)
        sleep_ns(NS_PER_MS);
    end_measuring(l);
}

static void run_closed(struct load *l)
{
    bool warm = l->o->warmup > 0;
    if (warm) {
        atomic_store(&l->phase, PHASE_WARMUP);
        start_lanes(l);
        watch(l, now_ns() + (uint64_t)(l->o->warmup * 1e9));
        begin_measuring(l);
    } else {
        begin_measuring(l);
        start_lanes(l);
    }
    watch(l, l->o->ops ? 0 : l->begin + (uint64_t)(l->o->seconds * 1e9));
    end_measuring(l);
}

void load_run(struct load *l)
{
    if (l->o->rate > 0)
        run_paced(l);
    else
        run_closed(l);
    while (atomic_load(&l->active))
        sleep_ns(NS_PER_MS);
    /* A range that was dead to the end has its gap too. */
    for (unsigned i = 0; i < l->o->gaps; i++)
        if (l->last_write[i] && l->end > l->last_write[i] && l->end - l->last_write[i] > l->max_gap)
            l->max_gap = l->end - l->last_write[i];
}

void load_get_report(const struct load *l, struct load_report *out)
{
    double seconds = (double)(l->end - l->begin) / 1e9;
    *out = (struct load_report){
        .read = &l->read,
        .write = &l->write,
        .ok = l->ok,
        .errors = l->errors,
        .unknown = l->unknown,
        .conflicts = l->conflicts,
        .seconds = seconds,
        .cpu = l->cpu / seconds,
        .max_gap_ms = (double)l->max_gap / 1e6,
        .last_error = l->last_error,
    };
    snprintf(out->error_text, sizeof(out->error_text), "%s", l->error_text);
    for (unsigned i = 0; i < l->o->connections; i++) {
        kv_stats s = {.size = sizeof(s)};
        if (kv_get_stats(l->handles[i], &s) != KV_OK)
            continue;
        out->retries += s.retries;
        out->retried += s.retried;
        out->follower_reads += s.follower_reads;
        if (s.retries_max > out->retries_max)
            out->retries_max = s.retries_max;
    }
}
