/* export: all pairs of the cluster into a file, in the order of (slot, key), so that the file
 * itself says how far it has come. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/ctl/ctl.h"
#include "client/ctl/progress.h"
#include "client/ctl/records.h"
#include "client/kvscan.h"

#define SLOTS 16384.0

struct export
{
    const char *path; /* "-": standard output */
    FILE *out;
    enum records_format format;
    bool format_given, resume, replace;
    uint64_t before; /* records that the file had already */
    struct kvscan *scan;
    struct progress progress;
    struct buf buf;
    unsigned slot; /* the next one */
};

static bool to_stdout(const struct export *x)
{
    return strcmp(x->path, "-") == 0;
}

static int parse(struct ctl *ctl, int argc, char **argv, struct export *x)
{
    static const struct option options[] = {{"format", required_argument, NULL, 'f'},
                                            {"resume", no_argument, NULL, 'r'},
                                            {"replace", no_argument, NULL, 'x'},
                                            {0}};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'r')
            x->resume = true;
        else if (o == 'x')
            x->replace = true;
        else if (o != 'f')
            return CTL_USAGE;
        else if (!records_format_of(optarg, &x->format))
            return ctl_usage(ctl, "export", "--format is json or msgpack, not '%s'", optarg);
        else
            x->format_given = true;
    }
    if (argc - optind != 1)
        return ctl_usage(ctl, "export", "export wants a file, or - for standard output");
    x->path = argv[optind];
    if (x->resume && (to_stdout(x) || x->replace))
        return ctl_usage(ctl, "export", "--resume goes on with a file that is there");
    if (!x->format_given)
        x->format = records_format_by_name(x->path);
    return CTL_OK;
}

static int fail_file(const struct ctl *ctl, const char *path, const char *what)
{
    return ctl_fail(ctl, CTL_SERVER, "IO", NULL, "%s: %s: %s", path, what, strerror(errno));
}

/* Finds the last whole record, cuts off what follows it and begins behind its key. */
static int go_on(struct ctl *ctl, struct export *x)
{
    struct records_reader reader = {.in = x->out, .known = x->format_given, .format = x->format};
    struct slice raw;
    struct buf last = {0};
    uint64_t end = 0;
    enum records_next next;
    char msg[256];
    int code = CTL_OK;
    while ((next = records_read(&reader, &raw)) == RECORDS_ONE) {
        buf_clear(&last);
        buf_append(&last, raw.p, raw.n);
        end = reader.offset;
        x->before++;
    }
    if (reader.known)
        x->format = reader.format;
    if (next == RECORDS_BAD || next == RECORDS_IO) {
        code = ctl_fail(ctl, CTL_USAGE, "BAD_REQUEST", NULL, "%s is no export of ours", x->path);
    } else if (x->before > 0) {
        struct record record;
        struct record_memory memory;
        if (record_decode(x->format, buf_slice(&last), &record, &memory, msg, sizeof msg)) {
            kvscan_seek(x->scan, record.key);
            x->slot = kv_slot(kv_bytes(record.key.p, record.key.n));
            record_close(&memory);
        } else {
            code = ctl_fail(ctl, CTL_USAGE, "BAD_REQUEST", NULL, "%s: its last record: %s", x->path,
                            msg);
        }
    }
    if (code == CTL_OK &&
        (ftruncate(fileno(x->out), (off_t)end) != 0 || fseeko(x->out, (off_t)end, SEEK_SET) != 0))
        code = fail_file(ctl, x->path, "it cannot be cut after its last record");
    buf_close(&last);
    records_close(&reader);
    return code;
}

static int open_file(struct ctl *ctl, struct export *x)
{
    if (to_stdout(x)) {
        x->out = stdout;
        return CTL_OK;
    }
    if (!x->resume && !x->replace && access(x->path, F_OK) == 0)
        return ctl_fail(ctl, CTL_REFUSED, "EXISTS",
                        "--resume goes on with it, --replace writes it anew.", "%s exists",
                        x->path);
    x->out = fopen(x->path, x->resume ? "r+" : "w");
    if (!x->out && x->resume && errno == ENOENT)
        x->out = fopen(x->path, "w"); /* it had not begun */
    if (!x->out)
        return fail_file(ctl, x->path, "it cannot be opened");
    return x->resume ? go_on(ctl, x) : CTL_OK;
}

/* False: the page or its end cannot be written. */
static bool write_page(struct export *x, struct kvscan_page *page)
{
    buf_clear(&x->buf);
    for (uint32_t i = 0; i < page->n; i++) {
        struct msg_scan_item item;
        msg_scan_next_item(&page->items, &item);
        struct record record = {.key = item.key,
                                .value = item.value,
                                .version = item.version,
                                .expires_ms = item.expiry_ms};
        record_encode(&x->buf, x->format, &record);
    }
    x->progress.records += page->n;
    x->progress.bytes += x->buf.n;
    return fwrite(x->buf.p, 1, x->buf.n, x->out) == x->buf.n && fflush(x->out) == 0;
}

static int run(struct ctl *ctl, struct export *x)
{
    char msg[512] = "";
    bool more = true;
    progress_begin(&x->progress, "export");
    x->progress.share_from = x->slot / SLOTS;
    while (more) {
        struct kvscan_page page;
        kv_err e = kvscan_next(x->scan, &page, msg, sizeof msg);
        if (e != KV_OK)
            return ctl_fail_kv(ctl, e, false, msg);
        if (!write_page(x, &page))
            return fail_file(ctl, x->path, "it cannot be written");
        more = page.more;
        x->slot = page.slot;
        x->progress.share = page.slot / SLOTS;
        progress_show(&x->progress);
        if (more && progress_interrupted())
            return ctl_fail(ctl, CTL_UNKNOWN, "INTERRUPTED", NULL, "interrupted");
    }
    if (!to_stdout(x) && fsync(fileno(x->out)) != 0)
        return fail_file(ctl, x->path, "it cannot be made durable");
    return CTL_OK;
}

static void report(const struct ctl *ctl, const struct export *x, double seconds)
{
    uint64_t all = x->before + x->progress.records;
    char size[16];
    FILE *to = to_stdout(x) ? stderr : stdout;
    if (ctl->output == CTL_JSON) {
        fprintf(to, "{\"schema\":1,\"records\":%llu,\"bytes\":%llu,\"seconds\":%.3f}\n",
                (unsigned long long)all, (unsigned long long)x->progress.bytes, seconds);
        return;
    }
    fprintf(to, "%llu keys", (unsigned long long)all);
    if (x->before)
        fprintf(to, ", %llu of them now", (unsigned long long)x->progress.records);
    fprintf(to, ", %s in %.1f s\n", out_size(x->progress.bytes, size), seconds);
}

int cmd_export(struct ctl *ctl, int argc, char **argv)
{
    struct export x = {0};
    char msg[512] = "";
    int code = parse(ctl, argc, argv, &x);
    if (code != CTL_OK)
        return code;
    kv_err e = kvscan_open(ctl->url, ctl->timeout_ms, &x.scan, msg, sizeof msg);
    if (e != KV_OK)
        return ctl_fail_kv(ctl, e, false, msg);
    code = open_file(ctl, &x);
    if (code == CTL_OK) {
        code = run(ctl, &x);
        double seconds = progress_end(&x.progress);
        if (code == CTL_OK)
            report(ctl, &x, seconds);
        else if (!to_stdout(&x))
            fprintf(stderr, "%s has %llu keys, up to slot %u; to go on: kvctl export %s --resume\n",
                    x.path, (unsigned long long)(x.before + x.progress.records), x.slot, x.path);
    }
    if (x.out && x.out != stdout && fclose(x.out) != 0 && code == CTL_OK)
        code = fail_file(ctl, x.path, "it cannot be written");
    buf_close(&x.buf);
    kvscan_close(x.scan);
    return code;
}
