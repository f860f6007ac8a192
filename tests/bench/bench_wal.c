/* Cost of a commit: one record at a time, one commit of 4 KiB in flight, through the WAL and the
 * loop, against a bare loop of pwrite and fdatasync on a file zero-written before. Also commits
 * that gather many records.
 *
 *     bench_wal DIRECTORY [commits, default 5000]
 *
 * DIRECTORY must exist and lie on the disk in question; files in it are removed again. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/histogram.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/io/fs.h"
#include "common/wal/wal.h"

static struct io *io;
static struct wal *wal;
static struct histogram took;
static uint64_t commits, left, begun;
static unsigned batch;
static uint8_t payload[3500];
static bool started;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void report(const char *what, uint64_t n, uint64_t ns)
{
    printf("%-34s %8.0f commits/s   p50 %5.0f us   p99 %5.0f us\n", what,
           (double)n * 1e9 / (double)ns, (double)histogram_quantile(&took, 0.5) / 1e3,
           (double)histogram_quantile(&took, 0.99) / 1e3);
}

static void bare(const char *dir, int flags, const char *what)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/bare", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | flags, 0600);
    CHECK(fd >= 0);
    uint8_t *p = mem_alloc_aligned(4096, MIB);
    memset(p, 0, MIB);
    for (unsigned i = 0; i < 64; i++)
        CHECK(pwrite(fd, p, MIB, (off_t)(i * MIB)) == (ssize_t)MIB);
    CHECK(fdatasync(fd) == 0);
    memset(p, 'x', 4096);
    histogram_init(&took);
    uint64_t begin = now_ns();
    for (uint64_t i = 0; i < commits; i++) {
        uint64_t t = now_ns();
        CHECK(pwrite(fd, p, 4096, (off_t)(i * 4096 % (64 * MIB))) == 4096);
        CHECK(fdatasync(fd) == 0);
        histogram_add(&took, now_ns() - t);
    }
    report(what, commits, now_ns() - begin);
    close(fd);
    unlink(path);
    free(p);
}

static void append(void)
{
    struct wal_record r = {.group = 1, .type = WAL_ENTRY};
    begun = now_ns();
    for (unsigned i = 0; i < batch; i++)
        wal_append(wal, &r, slice_of(payload, batch > 1 ? 100 : sizeof payload), NULL);
}

static void hook(void *arg)
{
    (void)arg;
    if (!started) {
        started = true;
        append();
    }
    wal_flush(wal);
    if (left == 0 && wal_idle(wal))
        io_stop(io);
    else if (left == 0)
        io_again(io);
}

static void on_durable(void *arg, uint64_t lsn)
{
    (void)arg;
    (void)lsn;
    if (left == 0)
        return;
    histogram_add(&took, now_ns() - begun);
    if (--left > 0)
        append();
}

static void on_rotate(void *arg)
{
    (void)arg;
}

static uint64_t oldest_needed(void *arg)
{
    (void)arg;
    return UINT64_MAX;
}

static void on_fatal(void *arg, enum err why, const char *text)
{
    (void)arg;
    fprintf(stderr, "%s: %s\n", err_name(why), text);
    exit(1);
}

static void replay(void *arg, const struct wal_record *r, struct slice p, uint64_t lsn)
{
    (void)arg;
    (void)r;
    (void)p;
    (void)lsn;
}

static void run(const char *what, uint64_t n, unsigned a_commit)
{
    batch = a_commit;
    left = n;
    started = false;
    histogram_init(&took);
    uint64_t begin = now_ns();
    io_again(io);
    io_run(io);
    report(what, n, now_ns() - begin);
}

static void with_wal(const char *dir, bool dsync)
{
    char path[4096], msg[1024];
    snprintf(path, sizeof path, "%s/wal", dir);
    struct io_options io_options = {.dsync = dsync};
    if (io_create(&io_options, &io, msg, sizeof msg) != ERR_OK) {
        fprintf(stderr, "%s\n", msg);
        exit(1);
    }
    struct wal_options o = {.io = io,
                            .dir = path,
                            .on_durable = on_durable,
                            .on_rotate = on_rotate,
                            .oldest_needed = oldest_needed,
                            .on_fatal = on_fatal};
    io_set_turn_hook(io, hook, NULL);
    uint64_t begin = now_ns();
    if (wal_open(&o, replay, NULL, &wal, msg, sizeof msg) != ERR_OK) {
        fprintf(stderr, "%s\n", msg);
        exit(1);
    }
    printf("%-34s %8.1f ms\n", "open of a fresh log", (double)(now_ns() - begin) / 1e6);
    run(dsync ? "wal, RWF_DSYNC, fresh" : "wal, fresh", commits, 1);
    /* Goes through the first segments, which are zero-written meanwhile. */
    run("wal, through 128 MiB", 2 * 64 * MIB / 4096, 1);
    run(dsync ? "wal, RWF_DSYNC, recycled" : "wal, recycled", commits, 1);
    run("wal, recycled, 100 records of 100 B", commits, 100);
    wal_close(wal);
    io_destroy(io);
    if (fs_rmdir_all(path) != ERR_OK)
        fprintf(stderr, "cannot remove %s\n", path);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: bench_wal DIRECTORY [commits]\n");
        return 2;
    }
    commits = argc > 2 ? strtoull(argv[2], NULL, 10) : 5000;
    memset(payload, 'x', sizeof payload);
    bare(argv[1], 0, "bare pwrite + fdatasync");
    bare(argv[1], O_DIRECT, "bare pwrite + fdatasync, O_DIRECT");
    with_wal(argv[1], false);
    with_wal(argv[1], true);
    bare(argv[1], O_DIRECT, "bare again");
    return 0;
}
