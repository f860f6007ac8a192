/* File operations: a write that is durable when done, and reads.
 *
 * Durable by a write linked to an fdatasync, or by RWF_DSYNC. A write that comes out short breaks
 * the link, so the sync is cancelled and the operation fails: never a sync over half a write, and
 * never a second try (fsyncgate: after a failed sync the pages may count as clean). */
#include "common/io/uring_impl.h"

#include <errno.h>
#include <string.h>

#include "common/base/check.h"
#include "common/io/fs_posix.h"

#define READ_MAX (1u << 30) /* of one request */

/* What lies in io_op.internal while it is under way. */
struct durable {
    struct uring_req write, sync;
    uint32_t n;
    uint32_t waiting; /* completions to come */
    int64_t failed;   /* negative errno, or 0 */
};

struct reading {
    struct uring_req req;
    struct io *io;
    uint8_t *p;
    uint64_t offset;
    uint32_t left;
    int fd;
};

_Static_assert(sizeof(struct durable) <= sizeof(((struct io_op *)0)->internal), "io_op too small");
_Static_assert(sizeof(struct reading) <= sizeof(((struct io_op *)0)->internal), "io_op too small");

static struct io_op *op_of(void *internal)
{
    return CONTAINER_OF(internal, struct io_op, internal);
}

static void durable_done(struct durable *d)
{
    struct io_op *op = op_of(d);
    op->done(op, d->failed == 0 ? ERR_OK : err_from_errno((int)-d->failed));
}

static void on_write(struct uring_req *r, int res, unsigned flags)
{
    struct durable *d = CONTAINER_OF(r, struct durable, write);
    (void)flags;
    if (res < 0)
        d->failed = res;
    else if ((uint32_t)res != d->n)
        d->failed = -EIO;
    if (--d->waiting == 0)
        durable_done(d);
}

static void on_sync(struct uring_req *r, int res, unsigned flags)
{
    struct durable *d = CONTAINER_OF(r, struct durable, sync);
    (void)flags;
    if (res < 0 && d->failed == 0)
        d->failed = res;
    if (--d->waiting == 0)
        durable_done(d);
}

void io_write_durable(struct io *io, struct fs_file *f, const void *p, size_t n, uint64_t offset,
                      struct io_op *op)
{
    struct durable *d = (struct durable *)(void *)op->internal;
    CHECK(n > 0 && n <= UINT32_MAX / 4);
    *d = (struct durable){{on_write}, {on_sync}, (uint32_t)n, 1, 0};
    uring_reserve(io, 2);
    struct io_uring_sqe *sqe = uring_sqe(io);
    io_uring_prep_write(sqe, f->fd, p, (unsigned)n, offset);
    if (io->options.dsync) {
        sqe->rw_flags = RWF_DSYNC;
        uring_track(io, sqe, &d->write);
        return;
    }
    sqe->flags |= IOSQE_IO_LINK;
    if (io->can.cqe_skip) {
        /* One completion for both: a success of the write is silent, and if it fails the sync's is.
         * So the loop is not woken between the two. */
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
        uring_untracked(sqe, &d->write);
    } else {
        d->waiting = 2;
        uring_track(io, sqe, &d->write);
    }
    sqe = uring_sqe(io);
    io_uring_prep_fsync(sqe, f->fd, IORING_FSYNC_DATASYNC);
    uring_track(io, sqe, &d->sync);
}

/* ---- reads ---- */

static void read_more(struct reading *rd)
{
    struct io_uring_sqe *sqe = uring_sqe(rd->io);
    io_uring_prep_read(sqe, rd->fd, rd->p, rd->left < READ_MAX ? rd->left : READ_MAX, rd->offset);
    uring_track(rd->io, sqe, &rd->req);
}

static void on_read(struct uring_req *r, int res, unsigned flags)
{
    struct reading *rd = CONTAINER_OF(r, struct reading, req);
    struct io_op *op = op_of(rd);
    (void)flags;
    if (res == -EINTR || res == -EAGAIN) {
        read_more(rd);
        return;
    }
    if (res <= 0) {
        op->done(op, res == 0 ? ERR_IO : err_from_errno(-res));
        return;
    }
    rd->p += res;
    rd->offset += (uint32_t)res;
    rd->left -= (uint32_t)res;
    if (rd->left > 0)
        read_more(rd);
    else
        op->done(op, ERR_OK);
}

void io_read(struct io *io, struct fs_file *f, void *p, size_t n, uint64_t offset, struct io_op *op)
{
    struct reading *rd = (struct reading *)(void *)op->internal;
    CHECK(n > 0 && n <= UINT32_MAX);
    *rd = (struct reading){{on_read}, io, p, offset, (uint32_t)n, f->fd};
    read_more(rd);
}
