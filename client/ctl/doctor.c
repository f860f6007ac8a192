/* doctor disk: how long does it take until 4 KiB are durable? Every write of the cluster waits for
 * that on a majority, so it decides more than anything else. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/ctl/ctl.h"
#include "client/ctl/output.h"
#include "common/base/histogram.h"

#define BLOCK 4096
#define FILE_BLOCKS 4096 /* preallocated: a WAL segment is, too */
#define GOOD_P99_US 10000u
#define FAIR_P99_US 50000u

static uint64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* 0 or errno. */
static int measure(int fd, double seconds, struct histogram *h)
{
    static char block[BLOCK];
    uint64_t end = now_us() + (uint64_t)(seconds * 1e6);
    int error = posix_fallocate(fd, 0, (off_t)BLOCK * FILE_BLOCKS);
    if (error)
        return error;
    if (fsync(fd) != 0)
        return errno;
    for (uint64_t i = 0, t = now_us(); t < end; i++) {
        memset(block, (int)(i & 0xff), sizeof(block));
        if (pwrite(fd, block, BLOCK, (off_t)(i % FILE_BLOCKS) * BLOCK) != BLOCK ||
            fdatasync(fd) != 0)
            return errno;
        uint64_t done = now_us();
        histogram_add(h, done - t);
        t = done;
    }
    return 0;
}

static int report(const struct ctl *ctl, const char *dir, const struct histogram *h)
{
    uint64_t p50 = histogram_quantile(h, 0.5), p99 = histogram_quantile(h, 0.99);
    const char *verdict = p99 <= GOOD_P99_US ? "good" : p99 <= FAIR_P99_US ? "fair" : "slow";
    if (ctl->output == CTL_JSON) {
        out_json(json_pack("{s:s,s:I,s:I,s:I,s:I,s:s}", "dir", dir, "writes", (json_int_t)h->count,
                           "p50_us", (json_int_t)p50, "p99_us", (json_int_t)p99, "max_us",
                           (json_int_t)h->max, "verdict", verdict));
    } else {
        printf("%s: write + fdatasync of 4 KiB: p50 %llu us, p99 %llu us, max %llu us (%llu "
               "writes)\n",
               dir, (unsigned long long)p50, (unsigned long long)p99, (unsigned long long)h->max,
               (unsigned long long)h->count);
        printf("verdict: %s%s\n", verdict,
               verdict[0] == 's'   ? "; writes will be slow and leaders may change: use an SSD"
               : verdict[0] == 'f' ? "; enough for most uses, an NVMe disk would be better"
                                   : "");
        if (p50 < 20)
            printf("So fast that it is memory or a cache without protection: data may not survive "
                   "a power cut.\n");
    }
    return verdict[0] == 's' ? CTL_NEGATIVE : CTL_OK;
}

int cmd_doctor(struct ctl *ctl, int argc, char **argv)
{
    static const struct option options[] = {
        {"dir", required_argument, NULL, 'd'}, {"seconds", required_argument, NULL, 's'}, {0}};
    const char *dir = ".";
    unsigned ms = 2000;
    char path[4200];
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == '?')
            return CTL_USAGE;
        if (o == 'd')
            dir = optarg;
        else if (!ctl_parse_duration(optarg, &ms))
            return ctl_usage(ctl, "doctor disk", "'%s' is not a duration", optarg);
    }
    if (optind < argc)
        return ctl_usage(ctl, "doctor disk", "what is '%s'?", argv[optind]);
    snprintf(path, sizeof(path), "%.4000s/kvctl-doctor-XXXXXX", dir);
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return ctl_fail(ctl, CTL_SERVER, "IO", NULL, "%s: %s", dir, strerror(errno));
    unlink(path); /* gone whatever happens */
    struct histogram *h = malloc(sizeof(*h));
    if (!h)
        abort();
    histogram_init(h);
    int error = measure(fd, ms / 1000.0, h);
    close(fd);
    int code = error ? ctl_fail(ctl, CTL_SERVER, error == ENOSPC ? "NO_SPACE" : "IO", NULL,
                                "%s: %s", dir, strerror(error))
                     : report(ctl, dir, h);
    free(h);
    return code;
}
