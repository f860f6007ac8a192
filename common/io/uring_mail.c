/* Mail between cores and finished offload work: lists under a lock, and an eventfd to wake a loop
 * that waits.
 *
 * The fd is written only when the loop sleeps. The loop says "sleeping", then looks into the lists;
 * a sender puts into the lists, then looks whether it sleeps: one of the two sees the other. The
 * fd is watched by a multishot poll and never read: every write is an edge, which completes it. */
#include "common/io/uring_impl.h"

#include <poll.h>
#include <unistd.h>

static void wake_if_asleep(struct uring_inbox *in)
{
    if (!atomic_exchange(&in->sleeping, false))
        return;
    uint64_t one = 1;
    ssize_t rc = write(in->wake_fd, &one, sizeof one);
    (void)rc; /* can only fail when the counter is full, and then it is readable */
}

static void on_wake(struct uring_req *r, int res, unsigned flags)
{
    struct io *io = CONTAINER_OF(r, struct io, wake);
    (void)res;
    if (!(flags & IORING_CQE_F_MORE)) {
        io->wake_armed = false;
        uring_inbox_arm(io);
    }
}

void uring_inbox_init(struct io *io)
{
    struct uring_inbox *in = &io->inbox;
    pthread_mutex_init(&in->lock, NULL);
    list_init(&in->mail);
    list_init(&in->done);
    atomic_init(&in->stop, false);
    atomic_init(&in->sleeping, false);
    io->wake.fn = on_wake;
}

void uring_inbox_close(struct io *io)
{
    pthread_mutex_destroy(&io->inbox.lock);
    close(io->inbox.wake_fd);
}

void uring_inbox_arm(struct io *io)
{
    if (io->wake_armed)
        return;
    struct io_uring_sqe *sqe = uring_sqe(io);
    io_uring_prep_poll_multishot(sqe, io->inbox.wake_fd, POLLIN);
    uring_untracked(sqe, &io->wake);
    io->wake_armed = true;
}

bool uring_inbox_sleep(struct io *io)
{
    struct uring_inbox *in = &io->inbox;
    atomic_store(&in->sleeping, true);
    pthread_mutex_lock(&in->lock);
    bool empty = list_empty(&in->mail) && list_empty(&in->done);
    pthread_mutex_unlock(&in->lock);
    if (empty && !atomic_load(&in->stop))
        return true;
    atomic_store(&in->sleeping, false);
    return false;
}

void uring_inbox_awake(struct io *io)
{
    atomic_store(&io->inbox.sleeping, false);
}

static void take(struct uring_inbox *in, struct list *from, struct list *to)
{
    list_init(to);
    pthread_mutex_lock(&in->lock);
    list_splice(to, from);
    pthread_mutex_unlock(&in->lock);
}

void uring_inbox_done(struct io *io)
{
    struct list now, *item;
    take(&io->inbox, &io->inbox.done, &now);
    while ((item = list_pop_front(&now)) != NULL) {
        struct io_work *w = CONTAINER_OF(item, struct io_work, link);
        w->done(w);
    }
}

void uring_inbox_mail(struct io *io)
{
    struct list now, *item;
    take(&io->inbox, &io->inbox.mail, &now);
    while ((item = list_pop_front(&now)) != NULL) {
        struct io_mail *m = CONTAINER_OF(item, struct io_mail, link);
        m->deliver(m, io->mail_arg);
    }
}

static void put(struct uring_inbox *in, struct list *to, struct list *item)
{
    pthread_mutex_lock(&in->lock);
    list_push_back(to, item);
    pthread_mutex_unlock(&in->lock);
    wake_if_asleep(in);
}

void uring_inbox_put_done(struct io *io, struct io_work *w)
{
    put(&io->inbox, &io->inbox.done, &w->link);
}

void io_post(struct io *to, struct io_mail *m)
{
    put(&to->inbox, &to->inbox.mail, &m->link);
}

void io_set_mail_arg(struct io *io, void *arg)
{
    io->mail_arg = arg;
}

/* No lock: may be called by a signal handler too. */
void io_stop(struct io *io)
{
    atomic_store(&io->inbox.stop, true);
    wake_if_asleep(&io->inbox);
}
