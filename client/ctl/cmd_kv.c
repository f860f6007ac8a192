/* get, put, del, cas, mget. */
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/ctl/ctl.h"
#include "client/ctl/kv_flags.h"
#include "client/ctl/output.h"

#define STDIN_MAX                                                                                  \
    ((8u << 20) + 1) /* the largest value there can be, and one byte to notice more                \
                      */

static int finish(const struct ctl *ctl, kv_err e, kv_result *r)
{
    int code =
        e == KV_OK ? CTL_OK : ctl_fail_kv(ctl, e, kv_result_maybe_applied(r), kv_result_text(r));
    kv_result_free(r);
    return code;
}

static void print_get_json(const char *key, const kv_result *r)
{
    json_t *o = json_object();
    kv_slice v = kv_result_value(r);
    out_json_bytes(o, "key", key, strlen(key));
    out_json_bytes(o, "value", v.data, v.len);
    json_object_set_new(o, "version", out_json_id(kv_result_version(r)));
    json_object_set_new(o, "ttl_ms", json_null());
    out_json(o);
}

int cmd_get(struct ctl *ctl, int argc, char **argv)
{
    struct kv_flags f;
    int code = CTL_OK;
    if (!kv_flags_parse(ctl, "get", FLAG_RAW | FLAG_READ, argc, argv, &f))
        return CTL_USAGE;
    if (argc - optind != 1)
        return ctl_usage(ctl, "get", "get wants one key");
    kv_client *kv = ctl_client(ctl, &code);
    if (!kv)
        return code;
    kv_result *r = NULL;
    kv_err e = kv_get(kv, kv_str(argv[optind]), &f.opts, &r);
    if (e == KV_OK && ctl->output == CTL_JSON) {
        print_get_json(argv[optind], r);
    } else if (e == KV_OK) {
        kv_slice v = kv_result_value(r);
        fwrite(v.data, 1, v.len, stdout);
        if (!f.raw)
            putchar('\n');
    }
    return finish(ctl, e, r);
}

/* The value of the command line, or all of standard input for "-". *owned: free() it. */
static int read_value(const struct ctl *ctl, const char *text, kv_slice *out, char **owned)
{
    *owned = NULL;
    *out = kv_str(text);
    if (strcmp(text, "-") != 0)
        return CTL_OK;
    char *p = malloc(STDIN_MAX);
    size_t n = 0;
    for (size_t got; p && n < STDIN_MAX && (got = fread(p + n, 1, STDIN_MAX - n, stdin)) > 0;)
        n += got;
    if (!p || ferror(stdin) || n == STDIN_MAX) {
        free(p);
        return ctl_fail(ctl, CTL_USAGE, "VALUE_TOO_LARGE", NULL,
                        "standard input cannot be read or is larger than a value may be");
    }
    *owned = p;
    *out = kv_bytes(p, n);
    return CTL_OK;
}

static void print_write(const struct ctl *ctl, const char *key, const kv_result *r)
{
    if (ctl->output == CTL_JSON) {
        json_t *o = json_object();
        out_json_bytes(o, "key", key, strlen(key));
        json_object_set_new(o, "version", out_json_id(kv_result_version(r)));
        out_json(o);
        return;
    }
    printf("ok version=%llu\n", (unsigned long long)kv_result_version(r));
}

static int write_value(struct ctl *ctl, const char *key, const char *text, const kv_callopts *opts)
{
    kv_slice value;
    char *owned;
    int code = read_value(ctl, text, &value, &owned);
    kv_client *kv = code == CTL_OK ? ctl_client(ctl, &code) : NULL;
    if (kv) {
        kv_result *r = NULL;
        kv_err e = kv_put(kv, kv_str(key), value, opts, &r);
        if (e == KV_OK)
            print_write(ctl, key, r);
        code = finish(ctl, e, r);
    }
    free(owned);
    return code;
}

int cmd_put(struct ctl *ctl, int argc, char **argv)
{
    struct kv_flags f;
    if (!kv_flags_parse(ctl, "put", FLAG_TTL | FLAG_IF_VERSION | FLAG_IF_ABSENT, argc, argv, &f))
        return CTL_USAGE;
    if (argc - optind != 2)
        return ctl_usage(ctl, "put", "put wants a key and a value");
    return write_value(ctl, argv[optind], argv[optind + 1], &f.opts);
}

int cmd_cas(struct ctl *ctl, int argc, char **argv)
{
    struct kv_flags f;
    unsigned long long version;
    if (!kv_flags_parse(ctl, "cas", FLAG_TTL, argc, argv, &f))
        return CTL_USAGE;
    if (argc - optind != 3 || !ctl_parse_u64(argv[optind + 1], &version))
        return ctl_usage(ctl, "cas", "cas wants a key, a version and a value");
    f.opts.flags |= version ? KV_IF_VERSION : KV_IF_ABSENT;
    f.opts.if_version = version;
    return write_value(ctl, argv[optind], argv[optind + 2], &f.opts);
}

int cmd_del(struct ctl *ctl, int argc, char **argv)
{
    struct kv_flags f;
    int code = CTL_OK;
    if (!kv_flags_parse(ctl, "del", FLAG_IF_VERSION, argc, argv, &f))
        return CTL_USAGE;
    if (argc - optind != 1)
        return ctl_usage(ctl, "del", "del wants one key");
    kv_client *kv = ctl_client(ctl, &code);
    if (!kv)
        return code;
    kv_result *r = NULL;
    kv_err e = kv_delete(kv, kv_str(argv[optind]), &f.opts, &r);
    if (e == KV_OK)
        print_write(ctl, argv[optind], r);
    return finish(ctl, e, r);
}

static void print_mget(const struct ctl *ctl, char **keys, kv_event *events, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        kv_slice v = kv_result_value(events[i].result);
        bool ok = events[i].err == KV_OK;
        json_t *o = json_object();
        out_json_bytes(o, "key", keys[i], strlen(keys[i]));
        if (ok)
            out_json_bytes(o, "value", v.data, v.len);
        else
            json_object_set_new(o, "error", json_string(kv_err_name(events[i].err)));
        if (ok)
            json_object_set_new(o, "version", out_json_id(kv_result_version(events[i].result)));
        json_array_append_new(list, o);
        if (ctl->output == CTL_JSON)
            continue;
        printf("%s\t", keys[i]);
        if (ok)
            fwrite(v.data, 1, v.len, stdout);
        else
            printf("(%s)", kv_err_str(events[i].err));
        putchar('\n');
    }
    if (ctl->output == CTL_JSON)
        out_json(json_pack("{s:o}", "results", list));
    else
        json_decref(list);
}

int cmd_mget(struct ctl *ctl, int argc, char **argv)
{
    int n = argc - 1, code = CTL_OK, left = 0;
    char **keys = argv + 1;
    if (n < 1)
        return ctl_usage(ctl, "mget", "mget wants keys");
    kv_client *kv = ctl_client(ctl, &code);
    if (!kv)
        return code;
    kv_callopts opts = KV_CALLOPTS_INIT;
    kv_event *events = calloc((size_t)n, sizeof(*events)), e;
    if (!events || kv_queue_create(&opts.queue) != KV_OK)
        return free(events), ctl_fail_kv(ctl, KV_NO_MEMORY, false, "");
    for (int i = 0; i < n; i++) {
        events[i].err = kv_get_async(kv, kv_str(keys[i]), &opts, NULL, &events[i]);
        left += events[i].err == KV_OK;
    }
    while (left) {
        if (kv_queue_next(opts.queue, &e)) {
            *(kv_event *)e.arg = e;
            left--;
        } else {
            struct pollfd p = {.fd = kv_queue_fd(opts.queue), .events = POLLIN};
            poll(&p, 1, -1);
        }
    }
    print_mget(ctl, keys, events, n);
    for (int i = 0; i < n; i++) {
        int c = events[i].err == KV_OK ? CTL_OK : ctl_exit_code(events[i].err);
        code = c > code ? c : code;
        kv_result_free(events[i].result);
    }
    free(events);
    kv_queue_destroy(opts.queue);
    return code;
}
