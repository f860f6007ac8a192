/* import: puts the pairs of a file, many at a time.
 *
 * At any time a run of records at the beginning is done; what comes after it may be done in part.
 * Its length is where a later run goes on (--from): a put that is repeated changes nothing more.
 * Two records of one key are never under way together, so that the later one wins. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client/ctl/ctl.h"
#include "client/ctl/progress.h"
#include "client/ctl/records.h"
#include "common/base/crc32c.h"
#include "common/base/limits.h"

#define WINDOW 1024u            /* puts under way */
#define WINDOW_BYTES (64 * MIB) /* their keys and values */
#define BUCKETS 65536u          /* of keys under way */
#define TIMEOUT_MS 30000u       /* of a put: elections and restarts are waited out */
#define WAIT_MS 200

struct put {
    bool answered, done;
    uint32_t bucket;
    uint64_t bytes;
};

struct import {
    const char *path;
    FILE *in;
    struct records_reader reader;
    uint64_t from, size; /* size: of the file; 0: not known */
    kv_callopts opts;
    kv_client *kv;
    struct put ring[WINDOW];
    uint64_t begun, done; /* records: taken from the file; the run of those that are done */
    uint64_t bytes;       /* under way */
    uint16_t busy[BUCKETS];
    uint64_t written, kept, expired;
    kv_err failed;
    bool maybe;
    char why[256];
    struct progress progress;
};

static int parse(struct ctl *ctl, int argc, char **argv, struct import *x)
{
    static const struct option options[] = {{"format", required_argument, NULL, 'f'},
                                            {"from", required_argument, NULL, 'n'},
                                            {"if-absent", no_argument, NULL, 'a'},
                                            {0}};
    unsigned long long n;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'a') {
            x->opts.flags |= KV_IF_ABSENT;
        } else if (o == 'n') {
            if (!ctl_parse_u64(optarg, &n))
                return ctl_usage(ctl, "import", "--from wants a number of records");
            x->from = n;
        } else if (o == 'f') {
            if (!records_format_of(optarg, &x->reader.format))
                return ctl_usage(ctl, "import", "--format is json or msgpack, not '%s'", optarg);
            x->reader.known = true;
        } else {
            return CTL_USAGE;
        }
    }
    if (argc - optind != 1)
        return ctl_usage(ctl, "import", "import wants a file, or - for standard input");
    x->path = argv[optind];
    return CTL_OK;
}

/* ---- puts under way ---- */

static void settle(struct import *x, const kv_event *e)
{
    struct put *p = e->arg;
    p->answered = true;
    p->done = e->err >= 0;
    x->busy[p->bucket]--;
    x->bytes -= p->bytes;
    x->written += e->err == KV_OK;
    x->kept += e->err == KV_CONDITION_FAILED;
    if (e->err < 0 && x->failed == KV_OK) {
        x->failed = e->err;
        x->maybe = kv_result_maybe_applied(e->result) != 0;
        snprintf(x->why, sizeof x->why, "%s", kv_result_text(e->result));
    }
    while (x->done < x->begun && x->ring[x->done % WINDOW].done)
        x->done++;
}

/* Takes what is answered; if nothing is, waits a moment for it. */
static void collect(struct import *x, bool wait)
{
    kv_event e;
    struct pollfd p = {.fd = kv_queue_fd(x->opts.queue), .events = POLLIN};
    if (wait)
        poll(&p, 1, WAIT_MS);
    while (kv_queue_next(x->opts.queue, &e)) {
        settle(x, &e);
        kv_result_free(e.result);
    }
    x->progress.records = x->done;
    progress_show(&x->progress);
}

static unsigned under_way(const struct import *x)
{
    unsigned n = 0;
    for (uint64_t i = x->done; i < x->begun; i++)
        n += !x->ring[i % WINDOW].answered;
    return n;
}

static bool stopped(const struct import *x)
{
    return x->failed != KV_OK || progress_interrupted();
}

static uint64_t wall_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* The ms that it has to live. False: it is over. */
static bool ttl_of(const struct record *r, uint64_t *ttl)
{
    uint64_t now = wall_ms();
    *ttl = r->ttl_ms;
    if (!r->expires_ms)
        return true;
    *ttl = r->expires_ms > now ? r->expires_ms - now : 0;
    return *ttl > 0;
}

static void put(struct import *x, const struct record *r)
{
    kv_callopts opts = x->opts;
    uint32_t bucket = crc32c(0, r->key.p, r->key.n) % BUCKETS;
    uint64_t bytes = r->key.n + r->value.n;
    while (!stopped(x) &&
           (x->begun - x->done >= WINDOW || x->bytes > WINDOW_BYTES || x->busy[bucket] > 0))
        collect(x, true);
    if (stopped(x))
        return;
    struct put *p = &x->ring[x->begun % WINDOW];
    *p = (struct put){.bucket = bucket, .bytes = bytes};
    if (!ttl_of(r, &opts.ttl_ms)) {
        p->answered = p->done = true;
        x->begun++;
        x->expired++;
        return;
    }
    if (opts.ttl_ms)
        opts.flags |= KV_TTL;
    kv_err e = kv_put_async(x->kv, kv_bytes(r->key.p, r->key.n), kv_bytes(r->value.p, r->value.n),
                            &opts, NULL, p);
    if (e != KV_OK) {
        x->failed = e;
        return;
    }
    x->begun++;
    x->busy[bucket]++;
    x->bytes += bytes;
    x->progress.bytes += bytes;
    if (x->begun % 64 == 0)
        collect(x, false);
}

/* ---- the file ---- */

static int bad_record(const struct ctl *ctl, const struct import *x, const char *why)
{
    return ctl_fail(ctl, CTL_USAGE, "BAD_REQUEST", NULL, "%s: record %llu, at byte %llu: %s",
                    x->path, (unsigned long long)x->begun + 1, (unsigned long long)x->reader.offset,
                    why);
}

static int read_all(struct ctl *ctl, struct import *x)
{
    struct slice raw;
    struct record record;
    struct record_memory memory;
    enum records_next next = RECORDS_ONE;
    char msg[256];
    while (!stopped(x) && (next = records_read(&x->reader, &raw)) == RECORDS_ONE) {
        x->progress.share = x->size ? (double)x->reader.offset / (double)x->size : -1;
        if (x->begun < x->from) {
            x->done = ++x->begun;
            x->progress.share_from = x->progress.share;
            continue;
        }
        if (!record_decode(x->reader.format, raw, &record, &memory, msg, sizeof msg))
            return bad_record(ctl, x, msg);
        if (record.key.n == 0) {
            record_close(&memory);
            return bad_record(ctl, x, "its key is empty");
        }
        put(x, &record);
        record_close(&memory);
    }
    if (stopped(x) || next == RECORDS_END)
        return CTL_OK;
    if (next == RECORDS_IO)
        return ctl_fail(ctl, CTL_SERVER, "IO", NULL, "%s: %s", x->path, strerror(errno));
    return bad_record(ctl, x,
                      next == RECORDS_CUT ? "the input ends within it"
                                          : "neither JSON lines nor MessagePack");
}

static int run(struct ctl *ctl, struct import *x)
{
    int code = read_all(ctl, x);
    while (under_way(x) > 0)
        collect(x, true);
    if (code == CTL_OK && x->failed != KV_OK)
        code = ctl_fail_kv(ctl, x->failed, x->maybe, x->why);
    if (code == CTL_OK && progress_interrupted())
        code = ctl_fail(ctl, CTL_UNKNOWN, "INTERRUPTED", NULL, "interrupted");
    if (code == CTL_OK && x->from > x->begun)
        code = ctl_fail(ctl, CTL_USAGE, "BAD_REQUEST", NULL, "%s has only %llu records", x->path,
                        (unsigned long long)x->begun);
    return code;
}

static void report(const struct ctl *ctl, const struct import *x, double seconds)
{
    typedef unsigned long long ull;
    char size[16];
    if (ctl->output == CTL_JSON) {
        printf("{\"schema\":1,\"records\":%llu,\"written\":%llu,\"kept\":%llu,\"expired\":%llu,"
               "\"bytes\":%llu,\"seconds\":%.3f}\n",
               (ull)x->done, (ull)x->written, (ull)x->kept, (ull)x->expired, (ull)x->progress.bytes,
               seconds);
        return;
    }
    printf("%llu keys written, %s in %.1f s", (ull)x->written, out_size(x->progress.bytes, size),
           seconds);
    if (x->kept)
        printf(", %llu were there and stay", (ull)x->kept);
    if (x->expired)
        printf(", %llu had expired", (ull)x->expired);
    putchar('\n');
}

static int open_all(struct ctl *ctl, struct import *x)
{
    struct stat st;
    int code = CTL_OK;
    x->in = strcmp(x->path, "-") == 0 ? stdin : fopen(x->path, "r");
    if (!x->in)
        return ctl_fail(ctl, CTL_USAGE, "IO", NULL, "%s: %s", x->path, strerror(errno));
    x->reader.in = x->in;
    if (fstat(fileno(x->in), &st) == 0 && S_ISREG(st.st_mode))
        x->size = (uint64_t)st.st_size;
    x->kv = ctl_client(ctl, &code);
    if (x->kv && kv_queue_create(&x->opts.queue) != KV_OK)
        code = ctl_fail_kv(ctl, KV_NO_MEMORY, false, "");
    return code;
}

int cmd_import(struct ctl *ctl, int argc, char **argv)
{
    struct import *x = calloc(1, sizeof *x);
    if (!x)
        return ctl_fail_kv(ctl, KV_NO_MEMORY, false, "");
    x->opts = (kv_callopts)KV_CALLOPTS_INIT;
    x->opts.timeout_ms = ctl->timeout_given ? ctl->timeout_ms : TIMEOUT_MS;
    int code = parse(ctl, argc, argv, x);
    if (code == CTL_OK)
        code = open_all(ctl, x);
    if (code == CTL_OK) {
        progress_begin(&x->progress, "import");
        code = run(ctl, x);
        double seconds = progress_end(&x->progress);
        if (code == CTL_OK)
            report(ctl, x, seconds);
        else
            fprintf(stderr,
                    "The first %llu records are done; to go on: kvctl import %s --from %llu\n",
                    (unsigned long long)x->done, x->path, (unsigned long long)x->done);
    }
    records_close(&x->reader);
    if (x->in && x->in != stdin)
        fclose(x->in);
    kv_queue_destroy(x->opts.queue);
    free(x);
    return code;
}
