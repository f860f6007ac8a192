/* get, put, del, cas, incr, touch, persist, mget. */
#include <getopt.h>
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
    int64_t ttl = kv_result_ttl_ms(r);
    json_object_set_new(o, "ttl_ms", ttl < 0 ? json_null() : json_integer(ttl));
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

/* A negative number would be taken for a flag: it is taken out. False: there is none. */
static bool take_negative(int argc, char **argv, const char **text)
{
    int64_t ignored;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (argv[i][0] != '-' || !kv_flags_number(argv[i], &ignored))
            continue;
        *text = argv[i];
        memmove(&argv[i], &argv[i + 1], (size_t)(argc - i - 1) * sizeof(char *));
        return true;
    }
    return false;
}

int cmd_incr(struct ctl *ctl, int argc, char **argv)
{
    struct kv_flags f;
    const char *delta_text = NULL;
    int64_t delta = 1;
    int code = CTL_OK;
    argc -= take_negative(argc, argv, &delta_text);
    if (!kv_flags_parse(ctl, "incr", FLAG_TTL | FLAG_IF_VERSION, argc, argv, &f))
        return CTL_USAGE;
    int words = argc - optind;
    if (words == 2 && !delta_text)
        delta_text = argv[optind + 1];
    else if (words != 1)
        return ctl_usage(ctl, "incr", "incr wants a key and, if not 1, a number");
    if (delta_text && !kv_flags_number(delta_text, &delta))
        return ctl_usage(ctl, "incr", "'%s' is no whole number", delta_text);
    kv_client *kv = ctl_client(ctl, &code);
    if (!kv)
        return code;
    kv_result *r = NULL;
    kv_err e = kv_incr(kv, kv_str(argv[optind]), delta, &f.opts, &r);
    if (e == KV_OK && ctl->output == CTL_JSON) {
        json_t *o = json_object();
        out_json_bytes(o, "key", argv[optind], strlen(argv[optind]));
        json_object_set_new(o, "number", json_integer(kv_result_number(r)));
        json_object_set_new(o, "version", out_json_id(kv_result_version(r)));
        out_json(o);
    } else if (e == KV_OK) {
        printf("%lld\n", (long long)kv_result_number(r));
    }
    return finish(ctl, e, r);
}

int cmd_touch(struct ctl *ctl, int argc, char **argv)
{
    struct kv_flags f;
    uint64_t ttl;
    int code = CTL_OK;
    if (!kv_flags_parse(ctl, "touch", FLAG_IF_VERSION, argc, argv, &f))
        return CTL_USAGE;
    if (argc - optind != 2 || !kv_flags_ttl(argv[optind + 1], &ttl))
        return ctl_usage(ctl, "touch", "touch wants a key and a time to live: 30s, 2m, 1h, 7d");
    kv_client *kv = ctl_client(ctl, &code);
    if (!kv)
        return code;
    kv_result *r = NULL;
    kv_err e = kv_touch(kv, kv_str(argv[optind]), ttl, &f.opts, &r);
    if (e == KV_OK)
        print_write(ctl, argv[optind], r);
    return finish(ctl, e, r);
}

int cmd_persist(struct ctl *ctl, int argc, char **argv)
{
    struct kv_flags f;
    int code = CTL_OK;
    if (!kv_flags_parse(ctl, "persist", FLAG_IF_VERSION, argc, argv, &f))
        return CTL_USAGE;
    if (argc - optind != 1)
        return ctl_usage(ctl, "persist", "persist wants one key");
    kv_client *kv = ctl_client(ctl, &code);
    if (!kv)
        return code;
    kv_result *r = NULL;
    kv_err e = kv_persist(kv, kv_str(argv[optind]), &f.opts, &r);
    if (e == KV_OK)
        print_write(ctl, argv[optind], r);
    return finish(ctl, e, r);
}

/* ---- mget ---- */

static json_t *item_json(const char *key, const kv_result *r)
{
    kv_slice v = kv_result_value(r);
    int64_t ttl = kv_result_ttl_ms(r);
    json_t *o = json_object();
    out_json_bytes(o, "key", key, strlen(key));
    if (kv_result_err(r) != KV_OK) {
        json_object_set_new(o, "error", json_string(kv_err_name(kv_result_err(r))));
        return o;
    }
    out_json_bytes(o, "value", v.data, v.len);
    json_object_set_new(o, "version", out_json_id(kv_result_version(r)));
    json_object_set_new(o, "ttl_ms", ttl < 0 ? json_null() : json_integer(ttl));
    return o;
}

static void print_mget(const struct ctl *ctl, char **keys, const kv_results *results)
{
    json_t *list = json_array();
    for (size_t i = 0; i < kv_results_count(results); i++) {
        const kv_result *r = kv_results_at(results, i);
        if (ctl->output == CTL_JSON) {
            json_array_append_new(list, item_json(keys[i], r));
            continue;
        }
        kv_slice v = kv_result_value(r);
        printf("%s\t", keys[i]);
        if (kv_result_err(r) == KV_OK)
            fwrite(v.data, 1, v.len, stdout);
        else
            printf("(%s)", kv_err_str(kv_result_err(r)));
        putchar('\n');
    }
    if (ctl->output == CTL_JSON)
        out_json(json_pack("{s:o}", "results", list));
    else
        json_decref(list);
}

int cmd_mget(struct ctl *ctl, int argc, char **argv)
{
    struct kv_flags f;
    int code = CTL_OK;
    if (!kv_flags_parse(ctl, "mget", FLAG_READ, argc, argv, &f))
        return CTL_USAGE;
    size_t n = (size_t)(argc - optind);
    char **keys = argv + optind;
    if (n < 1)
        return ctl_usage(ctl, "mget", "mget wants keys");
    kv_client *kv = ctl_client(ctl, &code);
    if (!kv)
        return code;
    kv_slice *slices = calloc(n, sizeof(*slices));
    kv_results *results = NULL;
    if (!slices)
        return ctl_fail_kv(ctl, KV_NO_MEMORY, false, "");
    for (size_t i = 0; i < n; i++)
        slices[i] = kv_str(keys[i]);
    kv_err e = kv_mget(kv, slices, n, &f.opts, &results);
    if (results)
        print_mget(ctl, keys, results);
    if (e != KV_OK)
        code = ctl_fail_kv(ctl, e, false, "");
    for (size_t i = 0; code == CTL_OK && i < kv_results_count(results); i++)
        if (kv_result_err(kv_results_at(results, i)) != KV_OK)
            code = CTL_NEGATIVE;
    kv_results_free(results);
    free(slices);
    return code;
}
