/* The loop of one core on io_uring: create, destroy, the turn, clock and timers. */
#include "common/io/uring_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/limits.h"

static uint64_t read_clock(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* ---- create, destroy ---- */

enum err io_create(const struct io_options *options, struct io **out, char *msg, size_t n)
{
    struct io *io = mem_zalloc(sizeof *io);
    enum err e;
    io->options = *options;
    io->again = true;
    io->now = read_clock(CLOCK_BOOTTIME);
    list_init(&io->socks);
    list_init(&io->listeners);
    list_init(&io->deferred);
    list_init(&io->graveyard);
    timer_heap_init(&io->timers);
    uint64_t seed = io->now;
    if (getrandom(&seed, sizeof seed, 0) < 0)
        seed ^= (uint64_t)(uintptr_t)io; /* before the kernel has entropy: distinct is enough */
    rng_seed(&io->rng, seed);
    uring_inbox_init(io);
    io->inbox.wake_fd = eventfd(0, EFD_CLOEXEC);
    if (io->inbox.wake_fd < 0) {
        uring_explain(errno, msg, n);
        e = err_from_errno(errno);
        goto fail;
    }
    e = uring_open(io, msg, n);
    if (e != ERR_OK)
        goto fail;
    e = uring_pool_start(io);
    if (e != ERR_OK) {
        snprintf(msg, n, "no thread could be started: raise RLIMIT_NPROC (ulimit -u, TasksMax=)");
        io_uring_queue_exit(&io->ring);
        uring_buffers_destroy(io);
        goto fail;
    }
    *out = io;
    return ERR_OK;
fail:
    uring_inbox_close(io);
    free(io);
    return e;
}

static void reap(struct io *io)
{
    struct io_uring_cqe *cqe;
    /* Only what is there now: what callbacks complete belongs to the next turn. */
    for (unsigned n = io_uring_cq_ready(&io->ring); n > 0; n--) {
        if (io_uring_peek_cqe(&io->ring, &cqe) != 0)
            return;
        struct uring_req *r = io_uring_cqe_get_data(cqe);
        int res = cqe->res;
        unsigned flags = cqe->flags;
        io_uring_cqe_seen(&io->ring, cqe);
        if (r == NULL)
            continue;
        if (!(flags & IORING_CQE_F_MORE) && r != &io->wake)
            io->in_flight--;
        r->fn(r, res, flags);
    }
}

/* Waits for what was cancelled: its memory is the kernel's until then. Not possible on a thread
 * that does not own the ring (-EEXIST); then the ring's end, which cancels the rest, has to do. */
static void drain(struct io *io)
{
    for (int tries = 0; io->in_flight > 0 && io->enabled && tries < 100; tries++) {
        struct io_uring_cqe *cqe;
        struct __kernel_timespec ts = {.tv_nsec = 10 * (long long)NS_PER_MS};
        int rc = io_uring_submit_and_wait_timeout(&io->ring, &cqe, 1, &ts, NULL);
        if (rc < 0 && rc != -ETIME && rc != -EINTR)
            return;
        reap(io);
        uring_socks_bury(io);
    }
}

void io_destroy(struct io *io)
{
    if (io == NULL)
        return;
    uring_pool_stop(io);
    drain(io);
    io_uring_queue_exit(&io->ring);
    uring_socks_destroy(io);
    uring_listeners_destroy(io);
    uring_buffers_destroy(io);
    timer_heap_close(&io->timers);
    uring_inbox_close(io);
    free(io);
}

/* ---- submission ---- */

static void enable(struct io *io)
{
    if (io->enabled)
        return;
    /* By hand: liburing 2.3 declares io_uring_enable_rings() but does not export it. */
    long rc =
        syscall(__NR_io_uring_register, io->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    CHECK(rc == 0);
    io->enabled = true;
}

void uring_reserve(struct io *io, unsigned n)
{
    if (io_uring_sq_space_left(&io->ring) >= n)
        return;
    enable(io);
    for (int tries = 0; io_uring_sq_space_left(&io->ring) < n; tries++) {
        int rc = io_uring_submit(&io->ring);
        CHECK(rc >= 0 || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
        CHECK(tries < 1000);
    }
}

struct io_uring_sqe *uring_sqe(struct io *io)
{
    uring_reserve(io, 1);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&io->ring);
    CHECK(sqe != NULL);
    return sqe;
}

void uring_track(struct io *io, struct io_uring_sqe *sqe, struct uring_req *r)
{
    io_uring_sqe_set_data(sqe, r);
    io->in_flight++;
}

void uring_untracked(struct io_uring_sqe *sqe, struct uring_req *r)
{
    io_uring_sqe_set_data(sqe, r);
}

void uring_cancel(struct io *io, struct uring_req *r)
{
    struct io_uring_sqe *sqe = uring_sqe(io);
    io_uring_prep_cancel(sqe, r, 0);
    io_uring_sqe_set_data(sqe, NULL);
}

/* ---- the turn ---- */

/* How long the loop may wait: false for not at all, *ts untouched for ever. */
static bool may_wait(struct io *io, struct __kernel_timespec *ts, bool *forever)
{
    struct io_timer *t = timer_heap_first(&io->timers);
    *forever = t == NULL;
    if (io->again)
        return false;
    if (t != NULL) {
        uint64_t now = read_clock(CLOCK_BOOTTIME);
        if (t->at <= now)
            return false;
        uint64_t left = t->at - now;
        ts->tv_sec = (long long)(left / NS_PER_S);
        ts->tv_nsec = (long long)(left % NS_PER_S);
    }
    return uring_inbox_sleep(io);
}

static void submit_and_wait(struct io *io)
{
    struct __kernel_timespec ts = {0};
    struct io_uring_cqe *cqe;
    bool forever;
    int rc;
    if (may_wait(io, &ts, &forever)) {
        rc = io_uring_submit_and_wait_timeout(&io->ring, &cqe, 1, forever ? NULL : &ts, NULL);
        uring_inbox_awake(io);
    } else {
        rc = io_uring_submit_and_get_events(&io->ring);
    }
    io->again = false;
    /* EBUSY, EAGAIN: the kernel wants completions taken or is short of memory; the entries stay. */
    CHECK(rc >= 0 || rc == -ETIME || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY);
}

static void turn(struct io *io)
{
    submit_and_wait(io);
    uint64_t now = read_clock(CLOCK_BOOTTIME);
    io->now = now > io->now ? now : io->now + 1;
    reap(io);
    uring_socks_deferred(io);
    uring_inbox_done(io);
    timer_heap_run(&io->timers, io->now);
    uring_inbox_mail(io);
    if (io->hook != NULL)
        io->hook(io->hook_arg);
    uring_socks_bury(io);
}

void io_run(struct io *io)
{
    enable(io);
    uring_inbox_arm(io);
    io->again = true; /* submits what was prepared before */
    do
        turn(io);
    while (!atomic_load(&io->inbox.stop));
    atomic_store(&io->inbox.stop, false);
    io_uring_submit(&io->ring); /* the last turn's cancellations: only this thread can */
}

void io_set_turn_hook(struct io *io, void (*hook)(void *arg), void *arg)
{
    io->hook = hook;
    io->hook_arg = arg;
}

void io_again(struct io *io)
{
    io->again = true;
}

/* ---- clock, chance, timers ---- */

uint64_t io_now(const struct io *io)
{
    return io->now;
}

uint64_t io_now_exact(const struct io *io)
{
    uint64_t now = read_clock(CLOCK_BOOTTIME);
    return now > io->now ? now : io->now;
}

uint64_t io_wall_ms(const struct io *io)
{
    (void)io;
    return read_clock(CLOCK_REALTIME) / NS_PER_MS;
}

uint64_t io_random(struct io *io)
{
    return rng_next(&io->rng);
}

void io_timer_set(struct io *io, struct io_timer *t, uint64_t at_ns)
{
    timer_heap_set(&io->timers, t, at_ns);
}

void io_timer_cancel(struct io *io, struct io_timer *t)
{
    timer_heap_cancel(&io->timers, t);
}
