#include "common/http/ask.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/check.h"
#include "common/base/mem.h"

struct ask {
    pthread_mutex_t lock;
    pthread_cond_t all;
    unsigned left;    /* parts to come */
    unsigned holders; /* loops that have not answered, and the asker */
    void *data;
    void (*release)(void *data);
};

struct ask *ask_create(unsigned parts, void *data, void (*release)(void *data))
{
    struct ask *a = mem_zalloc(sizeof(*a));
    pthread_condattr_t attr;
    CHECK(parts > 0);
    CHECK(pthread_condattr_init(&attr) == 0);
    CHECK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_mutex_init(&a->lock, NULL) == 0);
    CHECK(pthread_cond_init(&a->all, &attr) == 0);
    pthread_condattr_destroy(&attr);
    a->left = parts;
    a->holders = parts + 1;
    a->data = data;
    a->release = release;
    return a;
}

void *ask_data(struct ask *a)
{
    return a->data;
}

/* Unlocks; frees with the last holder. */
static void drop(struct ask *a)
{
    bool last = --a->holders == 0;
    pthread_mutex_unlock(&a->lock);
    if (!last)
        return;
    a->release(a->data);
    pthread_cond_destroy(&a->all);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

void ask_answer(struct ask *a)
{
    pthread_mutex_lock(&a->lock);
    CHECK(a->left > 0);
    if (--a->left == 0)
        pthread_cond_signal(&a->all);
    drop(a);
}

bool ask_wait(struct ask *a, unsigned ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&a->lock);
    int rc = 0;
    while (a->left > 0 && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&a->all, &a->lock, &until);
    bool all = a->left == 0;
    pthread_mutex_unlock(&a->lock);
    return all;
}

void ask_release(struct ask *a)
{
    pthread_mutex_lock(&a->lock);
    drop(a);
}
