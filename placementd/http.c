#include "placementd/http.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/http/ask.h"
#include "common/http/http.h"
#include "common/http/mp_json.h"
#include "placementd/http_metrics.h"
#include "placementd/server.h"
#include "placementd/status.h"

#define ANSWER_MS 1000u
#define PATHS "/livez /readyz /readyz?verbose /metrics /api/v1/status"

struct placement_http {
    struct server *server;
    struct http *http;
    pthread_mutex_t lock; /* held while the loop is asked */
    bool stopping;
};

enum page { PAGE_LIVEZ, PAGE_READYZ, PAGE_METRICS, PAGE_STATUS, PAGE_NONE };

/* What the loop answers. */
struct answer {
    enum page page;
    uint32_t leader, self;
    bool leads, founded, stopping;
    struct buf status; /* MessagePack; PAGE_STATUS */
    struct http_sample sample;
};

static void answer_free(void *data)
{
    struct answer *a = data;
    buf_close(&a->status);
    free(a);
}

/* ---- on the loop ---- */

struct question {
    struct io_mail mail;
    struct ask *ask;
};

static void deliver(struct io_mail *mail, void *receiver)
{
    struct question *q = CONTAINER_OF(mail, struct question, mail);
    struct server *s = receiver;
    struct answer *a = ask_data(q->ask);
    a->leader = server_leader(s);
    a->self = s->self->id;
    a->leads = fsm_leads(&s->fsm);
    a->founded = s->fsm.cluster.founded;
    a->stopping = s->stopping;
    if (a->page == PAGE_STATUS)
        status_encode(s, &a->status);
    if (a->page == PAGE_METRICS)
        http_sample_take(s, &a->sample);
    ask_answer(q->ask);
    free(q);
}

/* ---- on the HTTP server's thread ---- */

static struct ask *ask_loop(struct placement_http *h, enum page page)
{
    struct answer *a = mem_zalloc(sizeof(*a));
    struct question *q = mem_zalloc(sizeof(*q));
    a->page = page;
    q->mail.deliver = deliver;
    q->ask = ask_create(1, a, answer_free);
    struct ask *ask = q->ask;
    io_post(h->server->io, &q->mail);
    if (ask_wait(ask, ANSWER_MS))
        return ask;
    ask_release(ask);
    return NULL;
}

static void readyz(const struct answer *a, bool verbose, struct http_reply *reply)
{
    bool ok = a->leader != 0 && !a->stopping;
    reply->status = ok ? 200 : 503;
    if (verbose || !ok) {
        if (a->leader)
            buf_printf(&reply->body, "[+] leader: member %u%s\n", a->leader,
                       a->leads ? ", this one" : "");
        else
            buf_printf(&reply->body, "[-] leader: none is known; is a majority of the members up "
                                     "and reachable?\n");
        if (a->stopping)
            buf_printf(&reply->body, "[-] stopping\n");
        if (!a->founded)
            buf_printf(&reply->body, "[!] the cluster is not founded yet\n");
    }
    buf_printf(&reply->body, ok ? "ok\n" : "not ready\n");
}

/* As `kvctl status -o json` prints them: ids are strings, 0 is no leader. */
static const struct mp_json_rule rules[] = {
    {.key = "id", .id = true},
    {.key = "node", .id = true},
    {.key = "group", .id = true},
    {.key = "version", .id = true},
    {.key = "from", .id = true},
    {.key = "leader", .id = true, .zero_is_null = true},
    {.key = "client", .name = "address"},
};

static void status(const struct answer *a, struct http_reply *reply)
{
    reply->type = HTTP_JSON;
    if (mp_json(buf_slice(&a->status), rules, sizeof(rules) / sizeof(rules[0]), &reply->body) !=
        ERR_OK) {
        reply->status = 500;
        buf_printf(&reply->body, "{\"schema\":1,\"error\":\"INTERNAL\"}");
    }
    buf_u8(&reply->body, '\n');
}

static void render(const struct answer *a, bool verbose, struct http_reply *reply)
{
    switch (a->page) {
    case PAGE_READYZ:
        readyz(a, verbose, reply);
        break;
    case PAGE_METRICS:
        reply->type = HTTP_METRICS;
        http_metrics(&a->sample, &reply->body);
        break;
    case PAGE_STATUS:
        status(a, reply);
        break;
    default:
        buf_printf(&reply->body, "ok\n");
    }
}

static enum page page_of(const char *path)
{
    static const char *const paths[] = {"/livez", "/readyz", "/metrics", "/api/v1/status"};
    for (int i = 0; i < PAGE_NONE; i++)
        if (strcmp(path, paths[i]) == 0)
            return (enum page)i;
    return PAGE_NONE;
}

static void on_request(void *arg, const char *path, bool verbose, struct http_reply *reply)
{
    struct placement_http *h = arg;
    enum page page = page_of(path);
    if (page == PAGE_NONE) {
        http_not_found(reply, PATHS);
        return;
    }
    pthread_mutex_lock(&h->lock);
    if (h->stopping) {
        reply->status = page == PAGE_LIVEZ ? 200 : 503;
        buf_printf(&reply->body, "stopping\n");
    } else {
        struct ask *ask = ask_loop(h, page);
        if (ask) {
            render(ask_data(ask), verbose, reply);
            ask_release(ask);
        } else {
            reply->status = 503;
            buf_printf(&reply->body, "[-] the loop did not answer within %u ms\n", ANSWER_MS);
        }
    }
    pthread_mutex_unlock(&h->lock);
}

enum err placement_http_start(struct server *s, const struct io_addr *addr,
                              struct placement_http **out, char *msg, size_t n)
{
    struct placement_http *h = mem_zalloc(sizeof(*h));
    h->server = s;
    CHECK(pthread_mutex_init(&h->lock, NULL) == 0);
    enum err e = http_start(addr, on_request, h, &h->http, msg, n);
    if (e != ERR_OK)
        free(h);
    else
        *out = h;
    return e;
}

void placement_http_stopping(struct placement_http *h)
{
    if (!h)
        return;
    pthread_mutex_lock(&h->lock);
    h->stopping = true;
    pthread_mutex_unlock(&h->lock);
}

void placement_http_stop(struct placement_http *h)
{
    if (!h)
        return;
    http_stop(h->http);
    pthread_mutex_destroy(&h->lock);
    free(h);
}
