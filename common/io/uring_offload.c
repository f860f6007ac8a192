/* A few threads for calls that block: one queue, first come first served. */
#include "common/io/uring_impl.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"

static void *offload_main(void *arg)
{
    struct io *io = arg;
    struct uring_pool *pool = &io->pool;
    for (;;) {
        pthread_mutex_lock(&pool->lock);
        while (list_empty(&pool->queue) && !pool->stop)
            pthread_cond_wait(&pool->more, &pool->lock);
        struct list *item = list_pop_front(&pool->queue);
        pthread_mutex_unlock(&pool->lock);
        if (item == NULL)
            return NULL;
        struct io_work *w = CONTAINER_OF(item, struct io_work, link);
        w->run(w);
        uring_inbox_put_done(io, w);
    }
}

/* Signals are for the main thread: these never take one. */
static int start_thread(struct io *io, pthread_t *out)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(out, NULL, offload_main, io);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

enum err uring_pool_start(struct io *io)
{
    struct uring_pool *pool = &io->pool;
    unsigned n = io->options.offload_threads;
    n = n != 0 ? n : URING_OFFLOAD_DEFAULT;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->more, NULL);
    list_init(&pool->queue);
    pool->threads = mem_zalloc(n * sizeof *pool->threads);
    for (pool->n = 0; pool->n < n; pool->n++) {
        int rc = start_thread(io, &pool->threads[pool->n]);
        if (rc != 0) {
            uring_pool_stop(io);
            return err_from_errno(rc);
        }
        char name[16];
        snprintf(name, sizeof name, "offload%u.%u", io->options.core % 100, pool->n % 100);
        pthread_setname_np(pool->threads[pool->n], name);
    }
    return ERR_OK;
}

void uring_pool_stop(struct io *io)
{
    struct uring_pool *pool = &io->pool;
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    pthread_cond_broadcast(&pool->more);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->n; i++)
        pthread_join(pool->threads[i], NULL);
    CHECK(list_empty(&pool->queue));
    free(pool->threads);
    pthread_cond_destroy(&pool->more);
    pthread_mutex_destroy(&pool->lock);
}

void io_offload(struct io *io, struct io_work *w)
{
    struct uring_pool *pool = &io->pool;
    w->io = io;
    pthread_mutex_lock(&pool->lock);
    list_push_back(&pool->queue, &w->link);
    pthread_cond_signal(&pool->more);
    pthread_mutex_unlock(&pool->lock);
}
