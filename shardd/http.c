#include "shardd/http.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/http/ask.h"
#include "common/http/http.h"
#include "shardd/front.h"
#include "shardd/health.h"

#define ANSWER_MS 1000u
#define PATHS "/livez /readyz /readyz?verbose /metrics /api/v1/status"

enum phase { REPLAYING, RUNNING, STOPPING };

struct node_http {
    const struct node *node;
    struct http *http;
    pthread_mutex_t lock; /* held while loops are asked: guards what follows */
    enum phase phase;
    const struct front *front;
};

/* ---- asking the cores ---- */

/* On its way to one core; an array of them is part of the question. */
struct part {
    struct ask *ask;
    const struct front *front;
};

static void on_asked(struct core *c, void *arg)
{
    struct part *part = arg;
    struct ask *ask = part->ask;
    struct health *health = ask_data(ask);
    health_sample(c, &health->core[c->number]);
    if (c->number == 0)
        health->placement_connected = front_connected(part->front);
    free(part);
    ask_answer(ask);
}

/* NULL: a core did not answer in time. Else ask_release() when done with ask_data(). */
static struct ask *ask_cores(const struct node_http *h)
{
    unsigned n = h->node->options.cores;
    struct ask *ask = ask_create(n, health_create(h->node), health_destroy);
    for (unsigned i = 0; i < n; i++) {
        struct part *part = mem_zalloc(sizeof *part);
        part->ask = ask;
        part->front = h->front;
        core_post(h->node->core[i], on_asked, part);
    }
    if (ask_wait(ask, ANSWER_MS))
        return ask;
    ask_release(ask);
    return NULL;
}

/* ---- pages ---- */

static void livez(const struct health *health, struct http_reply *reply)
{
    (void)health;
    buf_printf(&reply->body, "ok\n");
}

static void readyz(const struct health *health, bool verbose, struct http_reply *reply)
{
    struct buf lines = {0};
    bool ok = health_ready(health, &lines);
    reply->status = ok ? 200 : 503;
    if (verbose || !ok)
        buf_append(&reply->body, lines.p, lines.n);
    buf_printf(&reply->body, ok ? "ok\n" : "not ready\n");
    buf_close(&lines);
}

static void page(const struct health *health, const char *path, bool verbose,
                 struct http_reply *reply)
{
    if (strcmp(path, "/livez") == 0) {
        livez(health, reply);
    } else if (strcmp(path, "/readyz") == 0) {
        readyz(health, verbose, reply);
    } else if (strcmp(path, "/metrics") == 0) {
        reply->type = HTTP_METRICS;
        health_metrics(health, &reply->body);
    } else {
        reply->type = HTTP_JSON;
        health_status(health, &reply->body);
    }
}

/* The process lives, its loops have not begun or have ended. */
static void page_without_loops(const struct node_http *h, const char *path,
                               struct http_reply *reply)
{
    const struct node *node = h->node;
    reply->status = strcmp(path, "/livez") == 0 ? 200 : 503;
    if (h->phase == STOPPING)
        buf_printf(&reply->body, "stopping\n");
    else
        buf_printf(&reply->body, "[-] replay: %u%%, %llu replicas opened\n", node_replayed(node),
                   atomic_load(&node->replicas_opened));
}

static bool known(const char *path)
{
    static const char *const paths[] = {"/livez", "/readyz", "/metrics", "/api/v1/status"};
    for (unsigned i = 0; i < sizeof paths / sizeof paths[0]; i++)
        if (strcmp(path, paths[i]) == 0)
            return true;
    return false;
}

static void on_request(void *arg, const char *path, bool verbose, struct http_reply *reply)
{
    struct node_http *h = arg;
    if (!known(path)) {
        http_not_found(reply, PATHS);
        return;
    }
    pthread_mutex_lock(&h->lock);
    if (h->phase != RUNNING) {
        page_without_loops(h, path, reply);
    } else {
        struct ask *ask = ask_cores(h);
        if (ask) {
            page(ask_data(ask), path, verbose, reply);
            ask_release(ask);
        } else {
            reply->status = 503;
            buf_printf(&reply->body, "[-] a core did not answer within %u ms\n", ANSWER_MS);
        }
    }
    pthread_mutex_unlock(&h->lock);
}

/* ---- life ---- */

enum err node_http_start(const struct node *node, const struct io_addr *addr,
                         struct node_http **out, char *msg, size_t n)
{
    struct node_http *h = mem_zalloc(sizeof *h);
    h->node = node;
    CHECK(pthread_mutex_init(&h->lock, NULL) == 0);
    enum err e = http_start(addr, on_request, h, &h->http, msg, n);
    if (e != ERR_OK)
        free(h);
    else
        *out = h;
    return e;
}

static void set_phase(struct node_http *h, enum phase phase, const struct front *front)
{
    if (!h)
        return;
    pthread_mutex_lock(&h->lock);
    h->phase = phase;
    h->front = front;
    pthread_mutex_unlock(&h->lock);
}

void node_http_running(struct node_http *h, const struct front *front)
{
    set_phase(h, RUNNING, front);
}

void node_http_stopping(struct node_http *h)
{
    set_phase(h, STOPPING, NULL);
}

void node_http_stop(struct node_http *h)
{
    if (!h)
        return;
    http_stop(h->http);
    pthread_mutex_destroy(&h->lock);
    free(h);
}
