/* A few threads for calls that block: first come first served within a class of work. Long work has
 * one thread at most, so with two there is always one for the rest; and one thread takes nothing
 * but urgent work: the log must get its next segment while others read gigabytes. The others take
 * urgent work and the rest in turns, so that many reads do not keep a flush from running. */
#include "common/io/uring_impl.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"

static struct list *take_other(struct uring_pool *pool)
{
    struct list *item = NULL;
    if (!pool->in_long) {
        item = list_pop_front(&pool->queue[IO_WORK_LONG]);
        pool->in_long = item != NULL;
    }
    return item != NULL ? item : list_pop_front(&pool->queue[IO_WORK_NORMAL]);
}

/* What this thread is to do next; NULL: nothing now. Under the lock. */
static struct io_work *take(struct uring_pool *pool, bool urgent_only, bool urgent_last)
{
    struct list *item = urgent_last && !urgent_only ? take_other(pool) : NULL;
    if (item == NULL)
        item = list_pop_front(&pool->queue[IO_WORK_URGENT]);
    if (item == NULL && !urgent_only)
        item = take_other(pool);
    return item != NULL ? CONTAINER_OF(item, struct io_work, link) : NULL;
}

static void work_through(struct io *io, bool urgent_only)
{
    struct uring_pool *pool = &io->pool;
    bool was_urgent = false;
    for (;;) {
        struct io_work *w;
        pthread_mutex_lock(&pool->lock);
        while ((w = take(pool, urgent_only, was_urgent)) == NULL && !pool->stop)
            pthread_cond_wait(&pool->more, &pool->lock);
        pthread_mutex_unlock(&pool->lock);
        if (w == NULL)
            return;
        bool is_long = w->class == IO_WORK_LONG;
        was_urgent = w->class == IO_WORK_URGENT;
        w->run(w);
        uring_inbox_put_done(io, w); /* w may be gone from here on */
        if (!is_long)
            continue;
        pthread_mutex_lock(&pool->lock);
        pool->in_long = false;
        pthread_cond_broadcast(&pool->more);
        pthread_mutex_unlock(&pool->lock);
    }
}

static void *offload_main(void *arg)
{
    work_through(arg, false);
    return NULL;
}

static void *urgent_main(void *arg)
{
    work_through(arg, true);
    return NULL;
}

/* Signals are for the main thread: these never take one. */
static int start_thread(struct io *io, pthread_t *out, void *(*main)(void *arg))
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(out, NULL, main, io);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

enum err uring_pool_start(struct io *io)
{
    struct uring_pool *pool = &io->pool;
    unsigned n = io->options.offload_threads;
    n = (n != 0 ? n : URING_OFFLOAD_DEFAULT) + 1;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->more, NULL);
    for (unsigned i = 0; i <= IO_WORK_LONG; i++)
        list_init(&pool->queue[i]);
    pool->threads = mem_zalloc(n * sizeof *pool->threads);
    for (pool->n = 0; pool->n < n; pool->n++) {
        int rc =
            start_thread(io, &pool->threads[pool->n], pool->n + 1 < n ? offload_main : urgent_main);
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
    for (unsigned i = 0; i <= IO_WORK_LONG; i++)
        CHECK(list_empty(&pool->queue[i]));
    free(pool->threads);
    pthread_cond_destroy(&pool->more);
    pthread_mutex_destroy(&pool->lock);
}

void io_offload(struct io *io, struct io_work *w)
{
    struct uring_pool *pool = &io->pool;
    CHECK(w->class <= IO_WORK_LONG);
    w->io = io;
    pthread_mutex_lock(&pool->lock);
    list_push_back(&pool->queue[w->class], &w->link);
    pthread_cond_broadcast(&pool->more); /* not all threads take all classes */
    pthread_mutex_unlock(&pool->lock);
}
