#include "client/kvadmin_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/base/limits.h"
#include "common/wire/rpc.h"

uint64_t kvadmin_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static bool wait_fd(int fd, short events, uint64_t deadline)
{
    uint64_t now = kvadmin_now_ms();
    struct pollfd p = {.fd = fd, .events = events};
    return now < deadline && poll(&p, 1, (int)(deadline - now)) == 1;
}

int kvadmin_dial(const char *addr, uint64_t deadline)
{
    char host[64];
    const char *colon = strrchr(addr, ':');
    if (!colon || (size_t)(colon - addr) >= sizeof(host))
        return -1;
    snprintf(host, sizeof(host), "%.*s", (int)(colon - addr), addr);
    char *h = host;
    if (h[0] == '[') {
        h[strlen(h) - 1] = '\0';
        h++;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
    struct addrinfo *ai;
    if (getaddrinfo(h, colon + 1, &hints, &ai) != 0)
        return -1;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int rc = fd < 0 ? -1 : connect(fd, ai->ai_addr, ai->ai_addrlen);
    freeaddrinfo(ai);
    if (rc != 0 && fd >= 0) {
        int error = errno;
        socklen_t len = sizeof(error);
        if (error != EINPROGRESS || !wait_fd(fd, POLLOUT, deadline) ||
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0) {
            close(fd);
            return -1;
        }
    }
    return fd;
}

bool kvadmin_send(int fd, struct slice data, uint64_t deadline)
{
    while (data.n) {
        ssize_t n = send(fd, data.p, data.n, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (n < 0 && !wait_fd(fd, POLLOUT, deadline))
            return false;
        if (n > 0)
            data = slice_of(data.p + n, data.n - (size_t)n);
    }
    return true;
}

enum err kvadmin_receive(int fd, struct buf *in, size_t *n, uint64_t deadline)
{
    for (;;) {
        enum err e = rpc_split(buf_slice(in), LIMIT_FRAME, n);
        if (e != ERR_INCOMPLETE)
            return e;
        buf_reserve(in, 64 * KIB);
        ssize_t got = recv(fd, in->p + in->n, in->cap - in->n, 0);
        if (got == 0)
            return ERR_CLOSED;
        if (got > 0)
            in->n += (size_t)got;
        else if (errno != EAGAIN && errno != EINTR)
            return ERR_UNREACHABLE;
        else if (!wait_fd(fd, POLLIN, deadline))
            return ERR_TIMEOUT;
    }
}
