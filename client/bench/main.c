/* kvbench: opens the handles, runs the load, prints the result. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/bench/load.h"
#include "client/bench/options.h"
#include "client/kvclient.h"
#include "common/base/mem.h"

#define EXIT_UNREACHABLE 3
#define EXIT_SERVER 6

static void side_json(const char *name, const struct load_side *s, double seconds)
{
    const struct histogram *h = &s->latency;
    printf("\"%s\":{\"ops_per_s\":%.1f,\"keys_per_s\":%.1f,\"p50_us\":%llu,\"p99_us\":%llu,\"p999_"
           "us\":%llu,"
           "\"max_us\":%llu,\"mean_us\":%.1f}",
           name, (double)s->done / seconds, (double)s->items / seconds,
           (unsigned long long)histogram_quantile(h, 0.5),
           (unsigned long long)histogram_quantile(h, 0.99),
           (unsigned long long)histogram_quantile(h, 0.999), (unsigned long long)h->max,
           h->count ? (double)h->sum / (double)h->count : 0.0);
}

static void print_json(const struct bench_options *o, const struct load_report *r)
{
    printf("{\"schema\":1,\"ops_per_s\":%.1f,\"ok\":%llu,\"errors\":%llu,\"unknown\":%llu,",
           (double)r->ok / r->seconds, (unsigned long long)r->ok, (unsigned long long)r->errors,
           (unsigned long long)r->unknown);
    side_json("read", r->read, r->seconds);
    putchar(',');
    side_json("write", r->write, r->seconds);
    if (o->gaps)
        printf(",\"max_write_gap_ms\":%.1f", r->max_gap_ms);
    printf(",\"retries\":%llu,\"retried\":%llu,\"retries_max\":%llu",
           (unsigned long long)r->retries, (unsigned long long)r->retried,
           (unsigned long long)r->retries_max);
    printf(",\"conflicts\":%llu,\"follower_reads\":%llu", (unsigned long long)r->conflicts,
           (unsigned long long)r->follower_reads);
    printf(",\"seconds\":%.3f,\"generator_cpu\":%.3f}\n", r->seconds, r->cpu);
}

static void side_plain(const char *name, const struct load_side *s, double seconds)
{
    const struct histogram *h = &s->latency;
    if (!s->done)
        return;
    printf("%-6s %10.0f op/s   p50 %llu us   p99 %llu us   p99.9 %llu us   max %llu us\n", name,
           (double)s->done / seconds, (unsigned long long)histogram_quantile(h, 0.5),
           (unsigned long long)histogram_quantile(h, 0.99),
           (unsigned long long)histogram_quantile(h, 0.999), (unsigned long long)h->max);
    if (s->items != s->done)
        printf("       %10.0f keys/s\n", (double)s->items / seconds);
}

static void print_plain(const struct bench_options *o, const struct load_report *r)
{
    printf("total  %10.0f op/s   %llu ok, %llu failed, %llu unknown in %.1f s\n",
           (double)r->ok / r->seconds, (unsigned long long)r->ok, (unsigned long long)r->errors,
           (unsigned long long)r->unknown, r->seconds);
    side_plain("read", r->read, r->seconds);
    side_plain("write", r->write, r->seconds);
    if (o->gaps)
        printf("longest span without a write in one of %u slot ranges: %.1f ms\n", o->gaps,
               r->max_gap_ms);
    if (r->retried)
        printf("%llu operations were sent again, at most %llu times each\n",
               (unsigned long long)r->retried, (unsigned long long)r->retries_max);
    if (o->if_version)
        printf("%llu conditions did not hold\n", (unsigned long long)r->conflicts);
    if (o->read != KV_READ_LINEARIZABLE)
        printf("%llu reads were answered by followers\n", (unsigned long long)r->follower_reads);
    printf("generator: %.2f cores\n", r->cpu);
}

/* One get through, so that a cluster that is not there is an error and not a measurement. */
static int probe(kv_client *kv, const struct bench_options *o)
{
    kv_result *r;
    kv_err e = kv_get(kv, kv_str("kvbench"), NULL, &r);
    if (e < 0)
        fprintf(stderr, "kvbench: %s: %s%s%s\n", o->url, kv_err_str(e),
                kv_result_text(r)[0] ? ": " : "", kv_result_text(r));
    kv_result_free(r);
    return e >= 0 ? 0 : e == KV_UNREACHABLE ? EXIT_UNREACHABLE : EXIT_SERVER;
}

static void on_interrupt(int number)
{
    (void)number;
    load_interrupt();
}

/* The first ^C ends the measurement and prints what there is, the second one ends the program. */
static void catch_interrupt(void)
{
    struct sigaction sa = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
}

static int run(struct bench_options *o, kv_client **handles, FILE *history)
{
    struct load *l = load_create(o, handles, history);
    struct load_report r;
    int rc = o->load ? load_fill(l) : 0;
    if (rc == 0) {
        catch_interrupt();
        load_run(l);
        load_get_report(l, &r);
        if (o->json)
            print_json(o, &r);
        else
            print_plain(o, &r);
        if (r.errors || r.unknown)
            fprintf(stderr, "kvbench: last failure: %s (%s)\n", kv_err_str(r.last_error),
                    r.error_text);
        rc = r.ok ? 0 : EXIT_SERVER;
    }
    load_destroy(l);
    return rc;
}

static int open_handles(const struct bench_options *o, kv_client **handles)
{
    kv_options ko = KV_OPTIONS_INIT;
    ko.name = "kvbench";
    ko.timeout_ms = o->timeout_ms;
    unsigned most = o->mget > o->batch ? o->mget : o->batch;
    ko.max_in_flight = o->clients * o->pipeline * (most ? most : 1) + 1;
    ko.flags = o->no_session ? KV_OPEN_NO_SESSION : 0;
    ko.max_in_flight_bytes = UINT64_MAX;
    for (unsigned i = 0; i < o->connections; i++) {
        char msg[256] = "";
        kv_err e = kv_open(o->url, &ko, &handles[i], msg, sizeof(msg));
        if (e != KV_OK) {
            fprintf(stderr, "kvbench: %s\n", msg);
            return e == KV_BAD_REQUEST ? 2 : EXIT_UNREACHABLE;
        }
    }
    return probe(handles[0], o);
}

int main(int argc, char **argv)
{
    struct bench_options o;
    bool exit_now;
    int rc = bench_options_parse(argc, argv, &o, &exit_now);
    if (exit_now)
        return rc;
    if (!o.seed)
        o.seed = (uint64_t)time(NULL) ^ (uint64_t)getpid() << 32;
    FILE *history = NULL;
    if (o.history && !(history = fopen(o.history, "w"))) {
        perror(o.history);
        return 2;
    }
    kv_client **handles = mem_zalloc(o.connections * sizeof(kv_client *));
    rc = open_handles(&o, handles);
    if (rc == 0)
        rc = run(&o, handles, history);
    for (unsigned i = 0; i < o.connections; i++)
        kv_close(handles[i], 1000);
    free(handles);
    bool cut = history && ferror(history); /* an operation missing there would judge wrongly */
    if (history && (fclose(history) != 0 || cut)) {
        perror(o.history);
        rc = rc ? rc : EXIT_SERVER;
    }
    return rc;
}
