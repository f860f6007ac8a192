/* libkvclient in an epoll loop of one's own: completions come through a queue, whose file
 * descriptor is readable while there are any. Counts a key up, WINDOW calls at a time.
 *
 *     cc epoll.c $(pkg-config --cflags --libs kvclient) -o epoll
 *     ./epoll kv://127.0.0.1:7101 */
#include <inttypes.h>
#include <kvclient.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define CALLS 1000
#define WINDOW 64

static int started, finished, failed;
static int64_t highest;

static void start_some(kv_client *kv, kv_queue *queue)
{
    kv_callopts opts = KV_CALLOPTS_INIT;
    opts.queue = queue;
    while (started < CALLS && started - finished < WINDOW) {
        kv_err e = kv_incr_async(kv, kv_str("counter"), 1, &opts, NULL, NULL);
        if (e == KV_BUSY)
            return; /* too much in flight: go on when something is finished */
        if (e != KV_OK) {
            fprintf(stderr, "incr: %s\n", kv_err_str(e));
            exit(1);
        }
        started++;
    }
}

static void take_events(kv_queue *queue)
{
    kv_event event;
    while (kv_queue_next(queue, &event)) {
        finished++;
        if (event.err != KV_OK) {
            failed++;
            fprintf(stderr, "incr: %s: %s\n", kv_err_name(event.err), kv_result_text(event.result));
        } else if (kv_result_number(event.result) > highest) {
            highest = kv_result_number(event.result);
        }
        kv_result_free(event.result);
    }
}

int main(int argc, char **argv)
{
    const char *url = argc > 1 ? argv[1] : "kv://127.0.0.1:7101";
    struct epoll_event want = {0}, got;
    kv_client *kv;
    kv_queue *queue;
    char msg[256];
    int loop = epoll_create1(EPOLL_CLOEXEC);
    if (kv_open(url, NULL, &kv, msg, sizeof(msg)) != KV_OK) {
        fprintf(stderr, "%s: %s\n", url, msg);
        return 1;
    }
    if (loop < 0 || kv_queue_create(&queue) != KV_OK)
        return 1;
    want.events = EPOLLIN;
    epoll_ctl(loop, EPOLL_CTL_ADD, kv_queue_fd(queue), &want);

    (void)kv_delete(kv, kv_str("counter"), NULL, NULL);
    start_some(kv, queue);
    while (finished < CALLS) {
        if (epoll_wait(loop, &got, 1, -1) < 0)
            continue;
        take_events(queue);
        start_some(kv, queue);
    }
    printf("%d calls, %d failed, counter = %" PRId64 "\n", finished, failed, highest);
    kv_close(kv, 1000);
    kv_queue_destroy(queue);
    close(loop);
    return failed ? 1 : 0;
}
