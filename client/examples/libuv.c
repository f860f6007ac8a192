/* libkvclient in a libuv loop: a uv_poll_t watches the queue's file descriptor.
 *
 *     cc libuv.c $(pkg-config --cflags --libs kvclient libuv) -o libuv
 *     ./libuv kv://127.0.0.1:7101 */
#include <kvclient.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define WRITES 10

static kv_client *kv;
static kv_queue *queue;
static uv_poll_t watcher;
static int outstanding, failed;
static char keys[WRITES][16];

static void start_read(void)
{
    kv_callopts opts = KV_CALLOPTS_INIT;
    kv_slice slices[WRITES];
    int i;
    for (i = 0; i < WRITES; i++)
        slices[i] = kv_str(keys[i]);
    opts.queue = queue;
    opts.read = KV_READ_SESSION;
    if (kv_mget_async(kv, slices, WRITES, &opts, NULL, NULL) != KV_OK)
        exit(1);
    outstanding++;
}

static void take(const kv_event *event)
{
    size_t i, found = 0;
    outstanding--;
    if (event->err != KV_OK) {
        fprintf(stderr, "%s: %s\n", kv_err_name(event->err), kv_result_text(event->result));
        failed = 1;
    }
    if (!event->results) { /* a write */
        if (outstanding == 0)
            start_read();
        return;
    }
    for (i = 0; i < kv_results_count(event->results); i++) {
        const kv_result *r = kv_results_at(event->results, i);
        kv_slice v = kv_result_value(r);
        found += kv_result_err(r) == KV_OK && v.len == strlen(keys[i]) &&
                 memcmp(v.data, keys[i], v.len) == 0;
    }
    printf("%lu of %d keys read back\n", (unsigned long)found, WRITES);
    failed |= found != WRITES;
}

static void on_readable(uv_poll_t *w, int status, int events)
{
    kv_event event;
    (void)status;
    (void)events;
    while (kv_queue_next(queue, &event)) {
        take(&event);
        kv_result_free(event.result);
        kv_results_free(event.results);
    }
    if (outstanding == 0)
        uv_poll_stop(w); /* the loop ends: nothing is left to wait for */
}

int main(int argc, char **argv)
{
    const char *url = argc > 1 ? argv[1] : "kv://127.0.0.1:7101";
    kv_callopts opts = KV_CALLOPTS_INIT;
    char msg[256];
    int i;
    if (kv_open(url, NULL, &kv, msg, sizeof(msg)) != KV_OK) {
        fprintf(stderr, "%s: %s\n", url, msg);
        return 1;
    }
    if (kv_queue_create(&queue) != KV_OK)
        return 1;
    uv_poll_init(uv_default_loop(), &watcher, kv_queue_fd(queue));
    uv_poll_start(&watcher, UV_READABLE, on_readable);

    opts.queue = queue;
    for (i = 0; i < WRITES; i++) {
        snprintf(keys[i], sizeof(keys[i]), "uv%d", i);
        if (kv_put_async(kv, kv_str(keys[i]), kv_str(keys[i]), &opts, NULL, NULL) != KV_OK)
            return 1;
        outstanding++;
    }
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);

    kv_close(kv, 1000);
    kv_queue_destroy(queue);
    uv_loop_close(uv_default_loop());
    return failed;
}
