/* Setting up the ring: the best flags this kernel takes, and clear words when it takes none. */
#include "common/io/uring_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

unsigned uring_without;

void uring_explain(int error, char *msg, size_t n)
{
    switch (error) {
    case EPERM:
    case EACCES:
        snprintf(
            msg, n,
            "io_uring is forbidden here: check that sysctl kernel.io_uring_disabled is 0 and, in "
            "a container, that its seccomp profile allows io_uring_setup");
        break;
    case ENOSYS:
        snprintf(msg, n,
                 "io_uring is not there: Linux 5.15 or newer is needed; in a container its seccomp "
                 "profile may hide io_uring_setup; see also sysctl kernel.io_uring_disabled");
        break;
    case ENOMEM:
        snprintf(
            msg, n,
            "not enough memory for io_uring: raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK= of "
            "the unit) or the memory limit");
        break;
    case EMFILE:
    case ENFILE:
        snprintf(msg, n,
                 "too few file handles: raise RLIMIT_NOFILE (ulimit -n, LimitNOFILE= of the unit)");
        break;
    default:
        snprintf(msg, n, "io_uring cannot be set up: %s", strerror(error));
    }
}

static enum err error_of(int error)
{
    if (error == EPERM || error == EACCES || error == ENOSYS || error == EINVAL)
        return ERR_UNSUPPORTED;
    return err_from_errno(error);
}

/* Tries flags from the newest kernel's down. The ring starts disabled where it binds itself to one
 * thread: the one that first runs it, which need not be the one that creates it. */
static int queue_init(struct io *io)
{
    static const unsigned flags[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_R_DISABLED, /* 6.1 */
        IORING_SETUP_COOP_TASKRUN, /* 5.19 */
        0,
    };
    unsigned entries = io->options.sq_entries != 0 ? io->options.sq_entries : URING_SQ_DEFAULT;
    int rc = -EINVAL;
    size_t first = (uring_without & URING_WITHOUT_DEFER) ? 2 : 0;
    for (size_t i = first; i < sizeof flags / sizeof *flags && rc == -EINVAL; i++) {
        struct io_uring_params p = {
            .flags = flags[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
            .cq_entries = entries > URING_CQ_ENTRIES / 4 ? entries * 4 : URING_CQ_ENTRIES,
        };
        rc = io_uring_queue_init_params(entries, &io->ring, &p);
        io->enabled = rc == 0 && !(flags[i] & IORING_SETUP_R_DISABLED);
    }
    return rc;
}

/* Features without a bit of their own are known by an opcode that came with the same kernel. */
static void probe(struct io *io)
{
    struct io_uring_probe *p = io_uring_get_probe_ring(&io->ring);
    bool k5_19 = p != NULL && io_uring_opcode_supported(p, IORING_OP_SOCKET);
    bool k6_0 = p != NULL && io_uring_opcode_supported(p, IORING_OP_SEND_ZC);
    io_uring_free_probe(p);
    bool multishot = !(uring_without & URING_WITHOUT_MULTISHOT);
    io->can.multishot_accept = k5_19 && multishot;
    io->can.cqe_skip = (io->ring.features & IORING_FEAT_CQE_SKIP) != 0 && multishot;
    if ((uring_without & URING_WITHOUT_BUFFERS) || !uring_buffers_create(io))
        io->can.recv = URING_RECV_PRIVATE;
    else
        io->can.recv = k6_0 && multishot ? URING_RECV_MULTISHOT : URING_RECV_SINGLE;
}

enum err uring_open(struct io *io, char *msg, size_t n)
{
    int rc = queue_init(io);
    if (rc < 0) {
        uring_explain(-rc, msg, n);
        return error_of(-rc);
    }
    if (!(io->ring.features & IORING_FEAT_EXT_ARG) || !(io->ring.features & IORING_FEAT_NODROP)) {
        snprintf(msg, n, "this kernel's io_uring is too old: Linux 5.15 or newer is needed");
        io_uring_queue_exit(&io->ring);
        return ERR_UNSUPPORTED;
    }
    probe(io);
    return ERR_OK;
}
