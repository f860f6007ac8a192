/* The eventfd is set when the first event comes and read when the last one is taken, both under the
 * lock: it is readable exactly while there are events. */
#include "client/queue.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/list.h"
#include "common/base/mem.h"

struct kv_queue {
    pthread_mutex_t lock;
    struct list events;
    int fd;
};

struct queued {
    struct list link;
    kv_event event;
};

kv_err kv_queue_create(kv_queue **out)
{
    kv_queue *q = mem_alloc(sizeof(*q));
    q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->fd < 0) {
        free(q);
        return KV_NO_MEMORY;
    }
    pthread_mutex_init(&q->lock, NULL);
    list_init(&q->events);
    *out = q;
    return KV_OK;
}

int kv_queue_fd(const kv_queue *q)
{
    return q->fd;
}

static void push(kv_queue *q, kv_event event)
{
    struct queued *item = mem_alloc(sizeof(*item));
    item->event = event;
    pthread_mutex_lock(&q->lock);
    bool first = list_empty(&q->events);
    list_push_back(&q->events, &item->link);
    if (first) {
        uint64_t one = 1;
        ssize_t n = write(q->fd, &one, sizeof(one));
        (void)n; /* cannot be full: it was zero */
    }
    pthread_mutex_unlock(&q->lock);
}

void queue_push(kv_queue *q, void *arg, const kv_result *result)
{
    push(q, (kv_event){arg, kv_result_err(result), kv_result_keep(result), NULL});
}

void queue_push_many(kv_queue *q, void *arg, kv_err err, kv_results *results)
{
    push(q, (kv_event){arg, err, NULL, results});
}

int kv_queue_next(kv_queue *q, kv_event *out)
{
    pthread_mutex_lock(&q->lock);
    struct list *item = list_pop_front(&q->events);
    if (item && list_empty(&q->events)) {
        uint64_t count;
        ssize_t n = read(q->fd, &count, sizeof(count));
        (void)n;
    }
    pthread_mutex_unlock(&q->lock);
    if (!item)
        return 0;
    struct queued *queued = CONTAINER_OF(item, struct queued, link);
    *out = queued->event;
    free(queued);
    return 1;
}

void kv_queue_destroy(kv_queue *q)
{
    kv_event e;
    if (!q)
        return;
    while (kv_queue_next(q, &e)) {
        kv_result_free(e.result);
        kv_results_free(e.results);
    }
    close(q->fd);
    pthread_mutex_destroy(&q->lock);
    free(q);
}
