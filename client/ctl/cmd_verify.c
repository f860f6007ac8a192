/* verify linear: a canary workload on a live cluster, and the judgement of its history.
 *
 * A few clients put, get, delete and compare-and-set a few keys of their own, paced; what was asked
 * and answered goes into a history that the checker of the tests judges (common/lin). A call begins
 * before it is handed to the library and ends after its answer was taken from the queue: the times
 * enclose the real ones, so that a violation is never the clock's. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/ctl/ctl.h"
#include "client/ctl/output.h"
#include "client/ctl/progress.h"
#include "common/base/rng.h"
#include "common/lin/history.h"

#define BUDGET 50000000u
#define KEYS_MAX 64u
#define CLIENTS_MAX 64u
#define GETS_PERCENT 50u
#define DELETES_PERCENT 10u /* of the writes; as many are compare-and-set as are put */
#define CAS_PERCENT 45u

struct canary_client {
    bool busy;
    uint32_t id;
    size_t op; /* in the history */
    enum lin_kind kind;
    unsigned key;
    uint32_t value; /* what it writes, as the history counts it */
};

/* What a key was last seen to be: what a compare-and-set expects. */
struct canary_key {
    char name[96];
    uint32_t number, value; /* in the history */
    uint64_t version;
    bool known;
};

struct canary {
    unsigned clients, keys, rate;
    unsigned ms;
    const char *prefix, *path;
    bool keep;
    struct canary_client client[CLIENTS_MAX];
    struct canary_key key[KEYS_MAX];
    uint32_t next_id;
    uint64_t serial;
    struct rng rng;
    struct history history;
    kv_client *kv;
    kv_callopts opts;
    kv_err last_error;
    char why[256];
};

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static bool parse_count(const char *text, unsigned max, unsigned *out)
{
    unsigned long long n;
    if (!ctl_parse_u64(text, &n) || n < 1 || n > max)
        return false;
    *out = (unsigned)n;
    return true;
}

static int parse(struct ctl *ctl, int argc, char **argv, struct canary *c)
{
    static const struct option options[] = {
        {"for", required_argument, NULL, 'f'},    {"clients", required_argument, NULL, 'c'},
        {"keys", required_argument, NULL, 'k'},   {"rate", required_argument, NULL, 'r'},
        {"prefix", required_argument, NULL, 'p'}, {"history", required_argument, NULL, 'h'},
        {"keep", no_argument, NULL, 'K'},         {0}};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        bool ok = o != '?';
        if (o == 'f')
            ok = ctl_parse_duration(optarg, &c->ms) && c->ms >= 100;
        else if (o == 'c')
            ok = parse_count(optarg, CLIENTS_MAX, &c->clients);
        else if (o == 'k')
            ok = parse_count(optarg, KEYS_MAX, &c->keys);
        else if (o == 'r')
            ok = parse_count(optarg, 100000, &c->rate);
        else if (o == 'p')
            ok = (c->prefix = optarg) && strlen(optarg) <= 64;
        else if (o == 'h')
            c->path = optarg;
        else if (o == 'K')
            c->keep = true;
        if (!ok)
            return o == '?' ? CTL_USAGE
                            : ctl_usage(ctl, "verify linear", "'%s' is not possible there", optarg);
    }
    if (optind < argc)
        return ctl_usage(ctl, "verify linear", "what is '%s'?", argv[optind]);
    return CTL_OK;
}

/* ---- one operation ---- */

static void choose(struct canary *c, struct canary_client *cl)
{
    uint64_t dice = rng_below(&c->rng, 100);
    cl->key = (unsigned)rng_below(&c->rng, c->keys);
    cl->kind = LIN_GET;
    if (rng_below(&c->rng, 100) >= GETS_PERCENT)
        cl->kind = dice < DELETES_PERCENT                                          ? LIN_DEL
                   : dice < DELETES_PERCENT + CAS_PERCENT && c->key[cl->key].known ? LIN_CAS
                                                                                   : LIN_PUT;
}

static kv_err issue(struct canary *c, struct canary_client *cl)
{
    struct canary_key *k = &c->key[cl->key];
    kv_callopts opts = c->opts;
    char text[32];
    kv_slice key = kv_str(k->name);
    /* Unique to the write. */
    int n = snprintf(text, sizeof text, "%u.%llu", cl->id, (unsigned long long)++c->serial);
    bool writes = cl->kind == LIN_PUT || cl->kind == LIN_CAS;
    cl->value = writes ? history_value(&c->history, slice_str(text)) : LIN_ABSENT;
    cl->op = history_call(&c->history, cl->id, cl->kind, k->number, cl->value,
                          cl->kind == LIN_CAS ? k->value : LIN_ABSENT, now_ns());
    if (cl->kind == LIN_GET)
        return kv_get_async(c->kv, key, &opts, NULL, cl);
    if (cl->kind == LIN_DEL)
        return kv_delete_async(c->kv, key, &opts, NULL, cl);
    if (cl->kind == LIN_CAS) {
        opts.flags |= k->value == LIN_ABSENT ? KV_IF_ABSENT : KV_IF_VERSION;
        opts.if_version = k->version;
    }
    return kv_put_async(c->kv, key, kv_bytes(text, (size_t)n), &opts, NULL, cl);
}

static void know(struct canary_key *k, uint32_t value, uint64_t version)
{
    k->known = true;
    k->value = value;
    k->version = version;
}

static void answered(struct canary *c, struct canary_client *cl, kv_err e, const kv_result *r)
{
    struct history *h = &c->history;
    struct canary_key *k = &c->key[cl->key];
    uint64_t now = now_ns();
    cl->busy = false;
    if (e == KV_OK && cl->kind == LIN_GET) {
        kv_slice v = kv_result_value(r);
        know(k, history_value(h, slice_of(v.data, v.len)), kv_result_version(r));
        history_ok(h, cl->op, k->value, now);
    } else if (e == KV_OK || (e == KV_NOT_FOUND && cl->kind == LIN_GET)) {
        know(k, e == KV_OK ? cl->value : LIN_ABSENT, kv_result_version(r));
        history_ok(h, cl->op, LIN_ABSENT, now);
    } else if (e == KV_CONDITION_FAILED && cl->kind == LIN_CAS) {
        k->known = false;
        history_refused(h, cl->op, now);
    } else if (kv_result_maybe_applied(r)) {
        history_info(h, cl->op, now);
        cl->id = c->next_id++; /* that one may still be under way */
    } else {
        history_fail(h, cl->op, now);
    }
    if (e < 0) {
        c->last_error = e;
        snprintf(c->why, sizeof c->why, "%s", kv_result_text(r));
    }
}

/* ---- the run ---- */

static unsigned take_answers(struct canary *c, int wait_ms)
{
    struct pollfd p = {.fd = kv_queue_fd(c->opts.queue), .events = POLLIN};
    kv_event e;
    unsigned n = 0;
    poll(&p, 1, wait_ms);
    for (; kv_queue_next(c->opts.queue, &e); n++) {
        answered(c, e.arg, e.err, e.result);
        kv_result_free(e.result);
    }
    return n;
}

static struct canary_client *idle_client(struct canary *c)
{
    unsigned from = (unsigned)rng_below(&c->rng, c->clients);
    for (unsigned i = 0; i < c->clients; i++)
        if (!c->client[(from + i) % c->clients].busy)
            return &c->client[(from + i) % c->clients];
    return NULL;
}

static kv_err run(struct canary *c)
{
    uint64_t begin = now_ns(), end = begin + c->ms * 1000000ull, step = 1000000000u / c->rate;
    uint64_t due = begin;
    unsigned busy = 0;
    kv_err e = KV_OK;
    while (e == KV_OK && now_ns() < end && !progress_interrupted()) {
        uint64_t now = now_ns();
        struct canary_client *cl = due <= now ? idle_client(c) : NULL;
        if (cl) {
            choose(c, cl);
            e = issue(c, cl);
            cl->busy = e == KV_OK;
            busy += cl->busy;
            due = due + 100 * step < now ? now : due + step; /* no burst after a stall */
        }
        if (!cl)
            busy -= take_answers(c, due > now ? (int)((due - now) / 1000000) : 1);
    }
    while (busy > 0)
        busy -= take_answers(c, 100);
    return e;
}

static void clean_up(struct canary *c)
{
    for (unsigned i = 0; i < c->keys && !c->keep; i++) {
        kv_result *r = NULL;
        (void)kv_delete(c->kv, kv_str(c->key[i].name), NULL, &r);
        kv_result_free(r);
    }
}

static int report(const struct ctl *ctl, const struct canary *c, enum lin_verdict v)
{
    static const char *const names[] = {"linearizable", "NOT linearizable", "undecided"};
    const struct history *h = &c->history;
    unsigned ok = history_count(h, HISTORY_OK), failed = history_count(h, HISTORY_FAIL);
    unsigned unknown = history_count(h, HISTORY_INFO) + history_count(h, HISTORY_OPEN);
    if (ok == 0)
        return ctl_fail_kv(ctl, c->last_error ? c->last_error : KV_TIMEOUT, false,
                           c->why[0] ? c->why : "no operation succeeded: nothing was verified");
    if (ctl->output == CTL_JSON)
        out_json(json_pack("{s:s, s:I, s:i, s:I, s:I, s:I}", "verdict", names[v], "operations",
                           (json_int_t)h->n, "keys", (int)c->keys, "ok", (json_int_t)ok, "failed",
                           (json_int_t)failed, "unknown", (json_int_t)unknown));
    else
        printf("%s: %zu operations on %u keys; %u ok, %u failed, %u unknown\n", names[v], h->n,
               c->keys, ok, failed, unknown);
    return v == LIN_OK ? CTL_OK : v == LIN_BAD ? CTL_NEGATIVE : CTL_UNKNOWN;
}

static int judge(const struct ctl *ctl, const struct canary *c)
{
    FILE *f = c->path ? fopen(c->path, "w") : NULL;
    if (f)
        history_write(&c->history, f);
    if (c->path && (!f || fclose(f) != 0))
        return ctl_fail(ctl, CTL_SERVER, "IO", NULL, "%s: %s", c->path, strerror(errno));
    return report(ctl, c, history_check(&c->history, BUDGET, stderr));
}

static void name_keys(struct canary *c)
{
    char own[40];
    uint64_t seed = now_ns() ^ (uint64_t)getpid() << 40;
    rng_seed(&c->rng, seed);
    snprintf(own, sizeof own, "%08llx", (unsigned long long)(rng_next(&c->rng) & 0xffffffff));
    for (unsigned i = 0; i < c->keys; i++) {
        struct canary_key *k = &c->key[i];
        snprintf(k->name, sizeof k->name, "%s%s:%u", c->prefix, own, i);
        k->number = history_key(&c->history, slice_str(k->name));
    }
    for (unsigned i = 0; i < c->clients; i++)
        c->client[i].id = c->next_id++;
}

int cmd_verify_linear(struct ctl *ctl, int argc, char **argv)
{
    struct canary *c = calloc(1, sizeof *c);
    struct progress progress;
    int code = CTL_OK;
    if (!c)
        return ctl_fail_kv(ctl, KV_NO_MEMORY, false, "");
    c->clients = 8;
    c->keys = 5;
    c->rate = 500;
    c->ms = 10000;
    c->prefix = "kvctl-verify:";
    c->opts = (kv_callopts)KV_CALLOPTS_INIT;
    history_init(&c->history);
    code = parse(ctl, argc, argv, c);
    if (code == CTL_OK)
        c->kv = ctl_client(ctl, &code);
    if (c->kv && kv_queue_create(&c->opts.queue) != KV_OK)
        code = ctl_fail_kv(ctl, KV_NO_MEMORY, false, "");
    if (code == CTL_OK) {
        name_keys(c);
        progress_begin(&progress, "verify"); /* for ^C: it judges what there is */
        kv_err e = run(c);
        progress_end(&progress);
        code = e == KV_OK ? judge(ctl, c) : ctl_fail_kv(ctl, e, false, "");
        clean_up(c);
    }
    kv_queue_destroy(c->opts.queue);
    history_close(&c->history);
    free(c);
    return code;
}
