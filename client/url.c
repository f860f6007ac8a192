#include "client/url.h"

#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

__attribute__((format(printf, 4, 5))) static kv_err refuse(char *msg, size_t n, kv_err e,
                                                           const char *fmt, ...)
{
    va_list ap;
    if (msg) {
        va_start(ap, fmt);
        vsnprintf(msg, n, fmt, ap);
        va_end(ap);
    }
    return e;
}

/* "host:port" or "[v6]:port" in place: cuts it in two. False: malformed. */
static bool split_host_port(char *item, char **host, char **port)
{
    char *colon = strrchr(item, ':');
    if (!colon || colon == item || colon[1] == '\0' || strspn(colon + 1, "0123456789") > 5 ||
        colon[1 + strspn(colon + 1, "0123456789")] != '\0')
        return false;
    *colon = '\0';
    *host = item;
    *port = colon + 1;
    if (item[0] == '[') {
        if (colon[-1] != ']')
            return false;
        colon[-1] = '\0';
        *host = item + 1;
    } else if (strchr(item, ':')) {
        return false; /* an IPv6 address without brackets */
    }
    return (*host)[0] != '\0';
}

static void resolve(struct url *u, const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list;
    if (getaddrinfo(host, port, &hints, &list) != 0)
        return;
    for (struct addrinfo *a = list; a && u->n < CLIENT_SEEDS_MAX; a = a->ai_next) {
        char ip[48];
        if (getnameinfo(a->ai_addr, a->ai_addrlen, ip, sizeof(ip), NULL, 0, NI_NUMERICHOST) != 0)
            continue;
        const char *fmt = a->ai_family == AF_INET6 ? "[%s]:%s" : "%s:%s";

        snprintf(u->addr[u->n++], sizeof(u->addr[0]), fmt, ip, port);
    }
    freeaddrinfo(list);
}

kv_err url_resolve(const char *text, struct url *out, char *msg, size_t n)
{
    char copy[2048];
    if (!text || strncmp(text, "kv://", 5) != 0)
        return refuse(msg, n, KV_BAD_REQUEST,
                      "a URL looks like kv://host:port,host:port, this one does not: %s",
                      text ? text : "(none)");
    if (strlen(text) >= sizeof(copy))
        return refuse(msg, n, KV_BAD_REQUEST, "the URL is too long");
    snprintf(copy, sizeof(copy), "%s", text + 5);
    size_t len = strlen(copy);
    if (len && copy[len - 1] == '/')
        copy[len - 1] = '\0';
    out->n = 0;
    char *save = NULL;
    unsigned items = 0;
    for (char *item = strtok_r(copy, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
        char *host, *port;
        items++;
        if (!split_host_port(item, &host, &port))
            return refuse(msg, n, KV_BAD_REQUEST, "not host:port: %s", item);
        resolve(out, host, port);
    }
    if (!items)
        return refuse(msg, n, KV_BAD_REQUEST, "the URL names no address");
    if (!out->n)
        return refuse(msg, n, KV_UNREACHABLE, "no host name of %s could be resolved", text);
    return KV_OK;
}
