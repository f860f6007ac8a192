#include "common/http/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/mem.h"

#define CONNECTIONS_MAX 64u
#define IDLE_S 15u

struct http {
    struct MHD_Daemon *daemon;
    struct io_addr addr;
    http_handler handler;
    void *arg;
};

static enum MHD_Result send_reply(struct MHD_Connection *c, const struct http_reply *r)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(r->body.n, r->body.p, MHD_RESPMEM_MUST_COPY);
    if (!response)
        return MHD_NO;
    (void)MHD_add_response_header(response, "Content-Type", r->type);
    (void)MHD_add_response_header(response, "Cache-Control", "no-store");
    (void)MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (r->status == MHD_HTTP_METHOD_NOT_ALLOWED)
        (void)MHD_add_response_header(response, "Allow", "GET, HEAD");
    enum MHD_Result ok = MHD_queue_response(c, r->status, response);
    MHD_destroy_response(response);
    return ok;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **state)
{
    static int seen;
    struct http *h = cls;
    struct http_reply reply = {.status = 200, .type = "text/plain; charset=utf-8"};
    (void)version;
    (void)upload;
    if (*state == NULL) { /* the first call is for the head alone */
        *state = &seen;
        return MHD_YES;
    }
    if (*upload_size != 0) { /* a body: read over */
        *upload_size = 0;
        return MHD_YES;
    }
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        reply.status = MHD_HTTP_METHOD_NOT_ALLOWED;
        buf_printf(&reply.body, "only GET: this port changes nothing\n");
    } else {
        enum MHD_Result verbose =
            MHD_lookup_connection_value_n(c, MHD_GET_ARGUMENT_KIND, "verbose", 7, NULL, NULL);
        h->handler(h->arg, url, verbose == MHD_YES, &reply);
    }
    enum MHD_Result ok = send_reply(c, &reply);
    buf_close(&reply.body);
    return ok;
}

static socklen_t to_sockaddr(const struct io_addr *a, struct sockaddr_storage *out)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    memset(out, 0, sizeof(*out));
    if (memcmp(a->ip, mapped, sizeof(mapped)) == 0) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(a->port);
        memcpy(&v4->sin_addr, a->ip + 12, 4);
        return sizeof(*v4);
    }
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(a->port);
    memcpy(&v6->sin6_addr, a->ip, 16);
    return sizeof(*v6);
}

/* The port that the kernel chose. */
static void learn_port(struct http *h, int fd)
{
    struct sockaddr_storage real;
    socklen_t size = sizeof(real);
    if (getsockname(fd, (struct sockaddr *)&real, &size) == 0)
        h->addr.port =
            ntohs(real.ss_family == AF_INET ? ((const struct sockaddr_in *)&real)->sin_port
                                            : ((const struct sockaddr_in6 *)&real)->sin6_port);
}

/* Our own socket: libmicrohttpd would only say that it failed. -1: errno. */
static int listen_on(const struct io_addr *addr)
{
    struct sockaddr_storage sa;
    socklen_t size = to_sockaddr(addr, &sa);
    int one = 1;
    int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (const struct sockaddr *)&sa, size) == 0 && listen(fd, 64) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

enum err http_start(const struct io_addr *addr, http_handler handler, void *arg, struct http **out,
                    char *msg, size_t n)
{
    char text[64];
    io_addr_format(addr, text);
    int fd = listen_on(addr);
    if (fd < 0) {
        bool taken = errno == EADDRINUSE;
        snprintf(msg, n, "listen.http: cannot listen on %s: %s%s", text, strerror(errno),
                 taken ? " (in use): stop what uses it or give another port with --set listen.http"
                       : "");
        return taken ? ERR_ADDRESS_IN_USE : ERR_IO;
    }
    struct http *h = mem_zalloc(sizeof(*h));
    h->addr = *addr;
    h->handler = handler;
    h->arg = arg;
    learn_port(h, fd);
    h->daemon =
        MHD_start_daemon(MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, on_request,
                         h, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
                         CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S, MHD_OPTION_END);
    if (!h->daemon) {
        snprintf(msg, n, "listen.http: the server on %s could not be started: %s", text,
                 strerror(errno));
        close(fd);
        free(h);
        return ERR_IO;
    }
    *out = h;
    return ERR_OK;
}

void http_addr(const struct http *h, struct io_addr *out)
{
    *out = h->addr;
}

void http_stop(struct http *h)
{
    if (!h)
        return;
    MHD_stop_daemon(h->daemon);
    free(h);
}

void http_not_found(struct http_reply *reply, const char *paths)
{
    reply->status = MHD_HTTP_NOT_FOUND;
    buf_printf(&reply->body, "not found; there is: %s\n", paths);
}
