/* Addresses as text: pure, shared with the simulator. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "common/io/io.h"

static const uint8_t v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool parse_port(const char *text, uint16_t *out)
{
    unsigned port = 0;
    size_t n = strlen(text);
    if (n == 0 || n > 5)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    if (port > 65535)
        return false;
    *out = (uint16_t)port;
    return true;
}

enum err io_addr_parse(const char *text, struct io_addr *out)
{
    struct io_addr a = {0};
    char host[64];
    const char *colon = strrchr(text, ':');
    if (colon == NULL || !parse_port(colon + 1, &a.port))
        return ERR_BAD_REQUEST;
    bool v6 = text[0] == '[';
    const char *from = v6 ? text + 1 : text;
    const char *to = v6 ? colon - 1 : colon;
    if (to <= from || (size_t)(to - from) >= sizeof host || (v6 && *to != ']'))
        return ERR_BAD_REQUEST;
    size_t n = (size_t)(to - from);
    memcpy(host, from, n);
    host[n] = '\0';
    if (v6) {
        if (inet_pton(AF_INET6, host, a.ip) != 1)
            return ERR_BAD_REQUEST;
    } else {
        memcpy(a.ip, v4_prefix, sizeof v4_prefix);
        if (inet_pton(AF_INET, host, a.ip + 12) != 1)
            return ERR_BAD_REQUEST;
    }
    *out = a;
    return ERR_OK;
}

void io_addr_format(const struct io_addr *a, char out[64])
{
    char host[INET6_ADDRSTRLEN];
    if (memcmp(a->ip, v4_prefix, sizeof v4_prefix) == 0) {
        snprintf(out, 64, "%u.%u.%u.%u:%u", a->ip[12], a->ip[13], a->ip[14], a->ip[15], a->port);
        return;
    }
    if (inet_ntop(AF_INET6, a->ip, host, sizeof host) == NULL)
        host[0] = '\0';
    snprintf(out, 64, "[%s]:%u", host, a->port);
}

bool io_addr_is_loopback(const struct io_addr *a)
{
    static const uint8_t v6_loopback[16] = {[15] = 1};
    if (memcmp(a->ip, v4_prefix, sizeof v4_prefix) == 0)
        return a->ip[12] == 127;
    return memcmp(a->ip, v6_loopback, sizeof v6_loopback) == 0;
}
