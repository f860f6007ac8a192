/* What this machine can do at best: the yardstick beside which our own figures are read.
 *
 *   bench_limits --dir DIR [--connections 64] [--pipeline 16] [--seconds 3]
 *
 * Prints one JSON line:
 *   fdatasync_p50_us, fdatasync_per_s   a lone 4 KiB O_DIRECT write and fdatasync at a time, in a
 *                                       file that has been written once, as the WAL's segments are
 *   echo_per_s                          128-byte messages sent to and fro over loopback TCP by a
 *                                       server and a client of one epoll thread each, which do
 *                                       nothing else: no parsing, no log, no store
 *
 * Depends on nothing of ours, on purpose. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
#define FILE_BYTES (16 * 1024 * 1024)
#define MESSAGE 128
#define READ_BYTES (64 * 1024)
#define SAMPLES_MAX 1000000

static const char *dir;
static int connections = 64, pipeline = 16, seconds = 3;

static void die(const char *what)
{
    fprintf(stderr, "bench_limits: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- disk ---- */

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int open_written(char *path, size_t n, void *block)
{
    snprintf(path, n, "%s/bench_limits.XXXXXX", dir);
    int fd = mkstemp(path);
    if (fd < 0)
        die(path);
    for (off_t at = 0; at < FILE_BYTES; at += BLOCK)
        if (pwrite(fd, block, BLOCK, at) != BLOCK)
            die("write");
    if (fsync(fd) != 0)
        die("fsync");
    if (fcntl(fd, F_SETFL, O_DIRECT) != 0)
        fprintf(stderr, "bench_limits: no O_DIRECT in %s, going on without\n", dir);
    return fd;
}

static void measure_disk(double *p50_us, double *per_s)
{
    char path[4096];
    void *block = aligned_alloc(BLOCK, BLOCK);
    uint32_t *samples = malloc(SAMPLES_MAX * sizeof *samples);
    size_t n = 0;
    if (block == NULL || samples == NULL)
        die("memory");
    memset(block, 0x5a, BLOCK);
    int fd = open_written(path, sizeof path, block);
    uint64_t start = now_ns(), end = start + (uint64_t)seconds * 1000000000u, at = start;
    while (at < end && n < SAMPLES_MAX) {
        if (pwrite(fd, block, BLOCK, (off_t)(n * BLOCK % FILE_BYTES)) != BLOCK)
            die("write");
        if (fdatasync(fd) != 0)
            die("fdatasync");
        uint64_t after = now_ns();
        samples[n++] = (uint32_t)(after - at);
        at = after;
    }
    close(fd);
    unlink(path);
    qsort(samples, n, sizeof *samples, compare);
    *p50_us = samples[n / 2] / 1000.0;
    *per_s = (double)n * 1e9 / (double)(at - start);
    free(samples);
    free(block);
}

/* ---- network ---- */

static atomic_bool stop;
static int client_fd[4096], server_fd[4096];

static void send_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t rc = send(fd, p, n, MSG_NOSIGNAL);
        if (rc < 0 && errno != EINTR)
            return; /* the other side is gone: the end */
        if (rc > 0) {
            p += rc;
            n -= (size_t)rc;
        }
    }
}

/* Sends back whatever comes, until told to stop. Gives the bytes received. */
static uint64_t bounce(const int *fds)
{
    static const int batch = 256;
    struct epoll_event events[256];
    char *p = malloc(READ_BYTES);
    uint64_t bytes = 0;
    int ep = epoll_create1(0);
    if (ep < 0 || p == NULL)
        die("epoll");
    for (int i = 0; i < connections; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fds[i]};
        if (epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &e) != 0)
            die("epoll_ctl");
    }
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        int n = epoll_wait(ep, events, batch, 50);
        for (int i = 0; i < n; i++) {
            ssize_t got = recv(events[i].data.fd, p, READ_BYTES, MSG_DONTWAIT);
            if (got <= 0)
                continue;
            bytes += (uint64_t)got;
            send_all(events[i].data.fd, p, (size_t)got);
        }
    }
    close(ep);
    free(p);
    return bytes;
}

static void *server_main(void *arg)
{
    (void)arg;
    bounce(server_fd);
    return NULL;
}

static void *client_main(void *arg)
{
    *(uint64_t *)arg = bounce(client_fd);
    return NULL;
}

static void connect_all(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET};
    socklen_t n = sizeof sa;
    int one = 1;
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int l = socket(AF_INET, SOCK_STREAM, 0);
    if (l < 0 || bind(l, (struct sockaddr *)&sa, sizeof sa) != 0 || listen(l, 1024) != 0 ||
        getsockname(l, (struct sockaddr *)&sa, &n) != 0)
        die("listen");
    for (int i = 0; i < connections; i++) {
        client_fd[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (client_fd[i] < 0 || connect(client_fd[i], (struct sockaddr *)&sa, sizeof sa) != 0)
            die("connect");
        server_fd[i] = accept(l, NULL, NULL);
        if (server_fd[i] < 0)
            die("accept");
        setsockopt(client_fd[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(server_fd[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    close(l);
}

static double measure_echo(void)
{
    static char first[MESSAGE * 1024];
    pthread_t server, client;
    uint64_t bytes = 0;
    connect_all();
    uint64_t start = now_ns();
    if (pthread_create(&server, NULL, server_main, NULL) != 0 ||
        pthread_create(&client, NULL, client_main, &bytes) != 0)
        die("thread");
    for (int i = 0; i < connections; i++)
        send_all(client_fd[i], first, (size_t)pipeline * MESSAGE);
    sleep((unsigned)seconds);
    atomic_store(&stop, true);
    pthread_join(client, NULL);
    double s = (double)(now_ns() - start) / 1e9;
    pthread_join(server, NULL);
    for (int i = 0; i < connections; i++) {
        close(client_fd[i]);
        close(server_fd[i]);
    }
    return (double)bytes / MESSAGE / s;
}

/* ---- arguments ---- */

static int usage(void)
{
    fprintf(stderr, "usage: bench_limits --dir DIR [--connections 1..4096] [--pipeline 1..1024] "
                    "[--seconds 1..600]\n");
    return 2;
}

static int number(const char *text, int max)
{
    char *end;
    long v = strtol(text, &end, 10);
    return *end == '\0' && v >= 1 && v <= max ? (int)v : 0;
}

int main(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--dir") == 0)
            dir = argv[i + 1];
        else if (strcmp(argv[i], "--connections") == 0)
            connections = number(argv[i + 1], 4096);
        else if (strcmp(argv[i], "--pipeline") == 0)
            pipeline = number(argv[i + 1], 1024);
        else if (strcmp(argv[i], "--seconds") == 0)
            seconds = number(argv[i + 1], 600);
        else
            return usage();
    }
    if (argc % 2 == 0 || dir == NULL || connections == 0 || pipeline == 0 || seconds == 0)
        return usage();
    double p50, per_s;
    measure_disk(&p50, &per_s);
    double echo = measure_echo();
    printf("{\"fdatasync_p50_us\":%.1f,\"fdatasync_per_s\":%.0f,\"echo_per_s\":%.0f}\n", p50, per_s,
           echo);
    return 0;
}
