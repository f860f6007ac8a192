/* The simplest way to use libkvclient: each call waits for its answer.
 *
 *     cc sync.c $(pkg-config --cflags --libs kvclient) -o sync
 *     ./sync kv://127.0.0.1:7101 */
#include <inttypes.h>
#include <kvclient.h>
#include <stdio.h>
#include <stdlib.h>

static void die(const char *what, kv_err e, const kv_result *r)
{
    fprintf(stderr, "%s: %s (%s) %s\n", what, kv_err_name(e), kv_err_str(e), kv_result_text(r));
    if (kv_result_maybe_applied(r))
        fprintf(stderr, "it may have been applied\n");
    exit(1);
}

static void print_value(const char *key, const kv_result *r)
{
    kv_slice v = kv_result_value(r);
    printf("%s = %.*s (version %" PRIu64 ")\n", key, (int)v.len, (const char *)v.data,
           kv_result_version(r));
}

/* Reads, changes and writes back: if another was faster, once more. */
static void compare_and_set(kv_client *kv, kv_slice key)
{
    kv_callopts opts = KV_CALLOPTS_INIT;
    kv_result *r;
    kv_err e;
    do {
        e = kv_get(kv, key, NULL, &r);
        if (e != KV_OK)
            die("get", e, r);
        opts.flags = KV_IF_VERSION;
        opts.if_version = kv_result_version(r);
        kv_result_free(r);
        e = kv_put(kv, key, kv_str("hello again"), &opts, &r);
        if (e != KV_OK && e != KV_CONDITION_FAILED)
            die("put", e, r);
        kv_result_free(r);
    } while (e == KV_CONDITION_FAILED);
}

/* Keys of one {tag} are of one slot: they can change together or not at all. */
static void transfer(kv_client *kv)
{
    kv_callopts atomic = KV_CALLOPTS_INIT;
    kv_batch *b = kv_batch_create();
    kv_results *results;
    kv_err e;
    if (!b || kv_batch_incr(b, kv_str("{bank}alice"), -5, NULL) != KV_OK ||
        kv_batch_incr(b, kv_str("{bank}bob"), 5, NULL) != KV_OK)
        die("batch", KV_NO_MEMORY, NULL);
    atomic.flags = KV_ATOMIC;
    e = kv_batch_run(kv, b, &atomic, &results);
    if (e != KV_OK)
        die("batch", e, kv_results_at(results, 0));
    printf("alice has %" PRId64 ", bob has %" PRId64 "\n",
           kv_result_number(kv_results_at(results, 0)),
           kv_result_number(kv_results_at(results, 1)));
    kv_results_free(results);
    kv_batch_destroy(b);
}

int main(int argc, char **argv)
{
    const char *url = argc > 1 ? argv[1] : "kv://127.0.0.1:7101";
    kv_callopts opts = KV_CALLOPTS_INIT;
    kv_slice keys[3];
    kv_results *many;
    kv_client *kv;
    kv_result *r;
    char msg[256];
    size_t i;
    kv_err e = kv_open(url, NULL, &kv, msg, sizeof(msg));
    if (e != KV_OK) {
        fprintf(stderr, "%s: %s\n", url, msg);
        return 1;
    }

    e = kv_put(kv, kv_str("greeting"), kv_str("hello"), NULL, &r);
    if (e != KV_OK)
        die("put", e, r);
    kv_result_free(r);
    compare_and_set(kv, kv_str("greeting"));

    /* A weaker read may be served by any replica; this one sees at least what we have written. */
    opts.read = KV_READ_SESSION;
    e = kv_get(kv, kv_str("greeting"), &opts, &r);
    if (e != KV_OK)
        die("get", e, r);
    print_value("greeting", r);
    kv_result_free(r);

    opts.flags = KV_TTL;
    opts.ttl_ms = 60000;
    e = kv_put(kv, kv_str("visitor"), kv_str("here for a minute"), &opts, &r);
    if (e != KV_OK)
        die("put", e, r);
    kv_result_free(r);

    transfer(kv);

    keys[0] = kv_str("greeting");
    keys[1] = kv_str("visitor");
    keys[2] = kv_str("nobody");
    e = kv_mget(kv, keys, 3, NULL, &many);
    if (e != KV_OK)
        die("mget", e, NULL);
    for (i = 0; i < kv_results_count(many); i++) {
        const kv_result *one = kv_results_at(many, i);
        if (kv_result_err(one) == KV_OK)
            print_value((const char *)keys[i].data, one);
        else
            printf("%s: %s\n", (const char *)keys[i].data, kv_err_str(kv_result_err(one)));
    }
    kv_results_free(many);
    return kv_close(kv, 1000) == KV_OK ? 0 : 1;
}
