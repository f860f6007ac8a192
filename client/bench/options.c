#include "client/bench/options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/playground_file.h"
#include "client/kvclient.h"

#define USAGE 2

static const char help[] =
    "kvbench - load generator of shardkv\n"
    "\n"
    "usage: kvbench [--url kv://host:port,...] [options]\n"
    "  --url URL          cluster (KV_URL; default: the playground in ./run)\n"
    "  --clients N        clients, each with --pipeline operations under way (64)\n"
    "  --pipeline N       operations under way per client (1)\n"
    "  --connections N    spread the clients over N client handles (1)\n"
    "  --reads PERCENT    share of gets, the rest are puts (50)\n"
    "  --keys N           different keys (1000000)\n"
    "  --dist D           uniform or zipfian (uniform; zipfian: theta 0.99)\n"
    "  --key-size N       bytes, at least 8 (16)\n"
    "  --value-size N     bytes (128)\n"
    "  --seconds S        how long to measure (10)\n"
    "  --ops N            stop after N operations instead\n"
    "  --warmup S         not measured, before it (0.5)\n"
    "  --rate R           open loop: R operations a second in all, latency counted from the\n"
    "                     intended start, so a stall is not hidden\n"
    "  --load             put every key once before measuring\n"
    "  --read LEVEL       of gets: linearizable, session, bounded:MS or any (linearizable)\n"
    "  --mget N           each read is of N keys at once\n"
    "  --batch N          each write is a batch of N puts\n"
    "  --if-version       puts only if the key has the version that was last seen of it\n"
    "  --incr             writes are increments\n"
    "  --ttl MS           what is written lives so long\n"
    "  --no-session       writes are not exactly once, and not tried again when in doubt\n"
    "  --history FILE     write every operation as a JSON line for a linearizability checker;\n"
    "                     keys of their own, unique values; use few --keys\n"
    "  --gaps N           longest span without a successful write in each of N slot ranges\n"
    "  --interval S       progress on stderr every S seconds\n"
    "  --timeout MS       deadline of one operation (5000)\n"
    "  --seed N           of keys and of the mix (from the clock)\n"
    "  -o plain|json      result on stdout\n"
    "  --help, --version\n";

enum option_id {
    O_URL = 256,
    O_CLIENTS,
    O_PIPELINE,
    O_CONNECTIONS,
    O_READS,
    O_KEYS,
    O_DIST,
    O_KEY_SIZE,
    O_VALUE_SIZE,
    O_SECONDS,
    O_OPS,
    O_WARMUP,
    O_RATE,
    O_LOAD,
    O_READ,
    O_MGET,
    O_BATCH,
    O_IF_VERSION,
    O_INCR,
    O_TTL,
    O_NO_SESSION,
    O_HISTORY,
    O_GAPS,
    O_INTERVAL,
    O_TIMEOUT,
    O_SEED,
    O_HELP,
    O_VERSION,
};

static const struct option options[] = {
    {"url", required_argument, NULL, O_URL},
    {"clients", required_argument, NULL, O_CLIENTS},
    {"pipeline", required_argument, NULL, O_PIPELINE},
    {"connections", required_argument, NULL, O_CONNECTIONS},
    {"reads", required_argument, NULL, O_READS},
    {"keys", required_argument, NULL, O_KEYS},
    {"dist", required_argument, NULL, O_DIST},
    {"key-size", required_argument, NULL, O_KEY_SIZE},
    {"value-size", required_argument, NULL, O_VALUE_SIZE},
    {"seconds", required_argument, NULL, O_SECONDS},
    {"ops", required_argument, NULL, O_OPS},
    {"warmup", required_argument, NULL, O_WARMUP},
    {"rate", required_argument, NULL, O_RATE},
    {"load", no_argument, NULL, O_LOAD},
    {"read", required_argument, NULL, O_READ},
    {"mget", required_argument, NULL, O_MGET},
    {"batch", required_argument, NULL, O_BATCH},
    {"if-version", no_argument, NULL, O_IF_VERSION},
    {"incr", no_argument, NULL, O_INCR},
    {"ttl", required_argument, NULL, O_TTL},
    {"no-session", no_argument, NULL, O_NO_SESSION},
    {"history", required_argument, NULL, O_HISTORY},
    {"gaps", required_argument, NULL, O_GAPS},
    {"interval", required_argument, NULL, O_INTERVAL},
    {"timeout", required_argument, NULL, O_TIMEOUT},
    {"seed", required_argument, NULL, O_SEED},
    {"help", no_argument, NULL, O_HELP},
    {"version", no_argument, NULL, O_VERSION},
    {NULL, 0, NULL, 0},
};

static bool number(const char *name, const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    char *end;
    unsigned long long v = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || v < min || v > max) {
        fprintf(stderr, "kvbench: --%s wants a number from %llu to %llu, not '%s'\n", name,
                (unsigned long long)min, (unsigned long long)max, text);
        return false;
    }
    *out = v;
    return true;
}

static bool small(const char *name, const char *text, unsigned min, unsigned max, unsigned *out)
{
    uint64_t v;
    if (!number(name, text, min, max, &v))
        return false;
    *out = (unsigned)v;
    return true;
}

static bool real(const char *name, const char *text, double *out)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !(v >= 0) || v > 1e9) {
        fprintf(stderr, "kvbench: --%s wants a number, not '%s'\n", name, text);
        return false;
    }
    *out = v;
    return true;
}

static bool choice(const char *name, const char *text, const char *a, const char *b, bool *is_b)
{
    *is_b = b && strcmp(text, b) == 0;
    if (*is_b || strcmp(text, a) == 0)
        return true;
    fprintf(stderr, "kvbench: --%s knows %s%s%s, not '%s'\n", name, a, b ? " and " : "", b ? b : "",
            text);
    return false;
}

static bool read_level(const char *text, struct bench_options *o)
{
    static const char *const names[] = {"linearizable", "session", "bounded", "any"};
    static const char bounded[] = "bounded:";
    if (strncmp(text, bounded, sizeof(bounded) - 1) == 0) {
        o->read = KV_READ_BOUNDED;
        return small("read bounded:", text + sizeof(bounded) - 1, 1, 86400000, &o->staleness_ms);
    }
    for (int i = KV_READ_LINEARIZABLE; i <= KV_READ_ANY; i++) {
        if (i != KV_READ_BOUNDED && strcmp(text, names[i]) == 0) {
            o->read = (kv_read)i;
            return true;
        }
    }
    fprintf(stderr, "kvbench: --read knows linearizable, session, bounded:MS and any, not '%s'\n",
            text);
    return false;
}

static bool set_kind(struct bench_options *o, int id, const char *text)
{
    switch (id) {
    case O_READ:
        return read_level(text, o);
    case O_MGET:
        return small("mget", text, 1, 65536, &o->mget);
    case O_BATCH:
        return small("batch", text, 1, 65536, &o->batch);
    case O_TTL:
        return small("ttl", text, 1, UINT32_MAX, &o->ttl_ms);
    case O_IF_VERSION:
        return o->if_version = true;
    case O_INCR:
        return o->incr = true;
    case O_NO_SESSION:
        return o->no_session = true;
    default:
        return false;
    }
}

static bool set_load(struct bench_options *o, int id, const char *text)
{
    switch (id) {
    case O_CLIENTS:
        return small("clients", text, 1, 65536, &o->clients);
    case O_PIPELINE:
        return small("pipeline", text, 1, 65536, &o->pipeline);
    case O_CONNECTIONS:
        return small("connections", text, 1, 65536, &o->connections);
    case O_READS:
        return small("reads", text, 0, 100, &o->reads);
    case O_KEYS:
        return number("keys", text, 1, 1ULL << 40, &o->keys);
    case O_DIST:
        return choice("dist", text, "uniform", "zipfian", &o->zipfian);
    case O_KEY_SIZE:
        return small("key-size", text, 8, 4096, &o->key_size);
    case O_VALUE_SIZE:
        return small("value-size", text, 0, 8u << 20, &o->value_size);
    default:
        return set_kind(o, id, text);
    }
}

static bool set(struct bench_options *o, int id, const char *text)
{
    switch (id) {
    case O_URL:
        o->url = text;
        return true;
    case O_SECONDS:
        return real("seconds", text, &o->seconds);
    case O_OPS:
        return number("ops", text, 1, UINT64_MAX / 2, &o->ops);
    case O_WARMUP:
        return real("warmup", text, &o->warmup);
    case O_RATE:
        return real("rate", text, &o->rate);
    case O_LOAD:
        o->load = true;
        return true;
    case O_HISTORY:
        o->history = text;
        return true;
    case O_GAPS:
        return small("gaps", text, 1, 16384, &o->gaps);
    case O_INTERVAL:
        return small("interval", text, 1, 3600, &o->interval);
    case O_TIMEOUT:
        return small("timeout", text, 1, 3600000, &o->timeout_ms);
    case O_SEED:
        return number("seed", text, 0, UINT64_MAX, &o->seed);
    case 'o':
        return choice("o", text, "plain", "json", &o->json);
    default:
        return set_load(o, id, text);
    }
}

/* What a history can tell, and what goes together. */
static bool check_kinds(const struct bench_options *o)
{
    if (o->history && (o->mget || o->batch || o->incr || o->if_version || o->ttl_ms)) {
        fprintf(stderr, "kvbench: --history is of single gets, puts and deletes\n");
        return false;
    }
    if ((o->batch > 0) + o->incr + o->if_version > 1) {
        fprintf(stderr, "kvbench: --batch, --incr and --if-version exclude each other\n");
        return false;
    }
    if (o->if_version && o->keys > 1u << 27) {
        fprintf(stderr, "kvbench: --if-version remembers every key: fewer --keys\n");
        return false;
    }
    return true;
}

static bool check(struct bench_options *o)
{
    unsigned many = o->mget > o->batch ? o->mget : o->batch;
    if ((uint64_t)o->clients * o->pipeline * (many ? many : 1) > 1u << 24) {
        fprintf(stderr, "kvbench: --clients times --pipeline times keys is over 16 million\n");
        return false;
    }
    if (!check_kinds(o))
        return false;
    if ((uint64_t)o->clients * o->pipeline > 1u << 20) {
        fprintf(stderr, "kvbench: --clients times --pipeline is over a million\n");
        return false;
    }
    if (o->key_size < 20 && o->keys > 1) {
        uint64_t most = 1;
        for (unsigned i = 0; i < o->key_size - 1; i++)
            most *= 10;
        if (o->keys > most) {
            fprintf(stderr, "kvbench: %llu keys do not fit into --key-size %u\n",
                    (unsigned long long)o->keys, o->key_size);
            return false;
        }
    }
    if (o->connections > o->clients)
        o->connections = o->clients;
    if (o->history) { /* every operation counts there */
        o->warmup = 0;
        if (o->key_size < 24)
            o->key_size = 24;
    }
    return true;
}

int bench_options_parse(int argc, char **argv, struct bench_options *o, bool *exit_now)
{
    bool damaged = false;
    *o = (struct bench_options){.clients = 64,
                                .pipeline = 1,
                                .connections = 1,
                                .reads = 50,
                                .keys = 1000000,
                                .key_size = 16,
                                .value_size = 128,
                                .seconds = 10,
                                .warmup = 0.5,
                                .timeout_ms = 5000};
    *exit_now = true;
    for (int id; (id = getopt_long(argc, argv, "o:h", options, NULL)) != -1;) {
        if (id == O_HELP || id == 'h') {
            fputs(help, stdout);
            return 0;
        }
        if (id == O_VERSION) {
            printf("kvbench %s\n", kv_version());
            return 0;
        }
        if (id == '?') {
            fprintf(stderr, "Try: kvbench --help\n");
            return USAGE;
        }
        if (!set(o, id, optarg))
            return USAGE;
    }
    if (optind < argc) {
        fprintf(stderr, "kvbench: what is '%s'? Try: kvbench --help\n", argv[optind]);
        return USAGE;
    }
    if (!check(o))
        return USAGE;
    if (!o->url)
        o->url = playground_default_url(&damaged);
    if (damaged) {
        fprintf(stderr, "kvbench: run/playground.json is damaged. Name a cluster with --url\n");
        return USAGE;
    }
    *exit_now = false;
    return 0;
}
