#include "client/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/base/mem.h"

#define RECV_BYTES (256 * KIB)
#define EVENTS_MAX 256
#define READS_PER_TURN 8 /* of one connection, so that others get their turn */

/* One attempt at a connection. Lives to the end of the turn in which it was closed, because events
 * gathered earlier in that turn may still point at it. */
struct socket_conn {
    struct list link; /* in the graveyard or in `failed`; self-linked otherwise */
    struct socket_client *sc;
    unsigned id;
    int fd; /* -1: closed */
    bool connecting, wants_out;
    enum err error; /* of an attempt that failed at once */
};

struct socket_thread {
    pthread_t thread;
    unsigned refs; /* under `global_lock` */
    int epoll, wake;
    atomic_bool sleeping, stopping;
    pthread_mutex_t lock; /* `posted` */
    struct list posted;
    /* the I/O thread's own */
    uint64_t now, next_tick;
    struct list clients, touched, graveyard, failed;
    uint8_t *recv_buf;
};

static pthread_mutex_t global_lock = PTHREAD_MUTEX_INITIALIZER;
static struct socket_thread *global_thread;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static unsigned fork_count; /* written only in a child that has one thread */
static _Thread_local const struct socket_thread *this_thread;

uint64_t socket_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

unsigned socket_fork_count(void)
{
    return fork_count;
}

/* The I/O thread does not exist in the child, and what it held is in an unknown state: leave it. */
static void in_child(void)
{
    fork_count++;
    global_thread = NULL;
    this_thread = NULL;
    pthread_mutex_init(&global_lock, NULL);
}

static void fork_prepare(void)
{
    pthread_atfork(NULL, NULL, in_child);
}

bool socket_on_thread(const struct socket_thread *t)
{
    return this_thread == t;
}

uint64_t socket_turn_now(const struct socket_thread *t)
{
    return t->now;
}

/* ---- what the core asks for ---- */

static bool parse_addr(const char *text, struct sockaddr_storage *out, socklen_t *n)
{
    char host[64];
    const char *colon = strrchr(text, ':');
    unsigned long port = colon ? strtoul(colon + 1, NULL, 10) : 0;
    if (!colon || (size_t)(colon - text) >= sizeof(host) || port == 0 || port > 65535)
        return false;
    size_t len = (size_t)(colon - text);
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    memcpy(host, text, len);
    host[len] = '\0';
    memset(out, 0, sizeof(*out));
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        *n = sizeof(*v4);
        return true;
    }
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        *n = sizeof(*v6);
        return true;
    }
    return false;
}

static enum err start_connect(struct socket_conn *c, const char *addr)
{
    struct sockaddr_storage sa;
    socklen_t n;
    if (!parse_addr(addr, &sa, &n))
        return ERR_UNREACHABLE;
    c->fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        return ERR_UNREACHABLE;
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    if ((connect(c->fd, (struct sockaddr *)&sa, n) != 0 && errno != EINPROGRESS) ||
        epoll_ctl(c->sc->thread->epoll, EPOLL_CTL_ADD, c->fd, &ev) != 0) {
        close(c->fd);
        c->fd = -1;
        return ERR_UNREACHABLE;
    }
    c->connecting = c->wants_out = true;
    return ERR_OK;
}

static void op_connect(void *arg, unsigned id, const char *addr)
{
    struct socket_client *sc = arg;
    struct socket_conn *c = mem_zalloc(sizeof(*c));
    if (id >= sc->n_conns) {
        sc->conns = mem_realloc(sc->conns, (id + 1) * sizeof(struct socket_conn *));
        while (sc->n_conns <= id)
            sc->conns[sc->n_conns++] = NULL;
    }
    CHECK(sc->conns[id] == NULL);
    sc->conns[id] = c;
    c->sc = sc;
    c->id = id;
    c->fd = -1;
    list_init(&c->link);
    c->error = start_connect(c, addr);
    if (c->error != ERR_OK)
        list_push_back(&sc->thread->failed, &c->link); /* told in the next turn */
}

static void set_events(struct socket_conn *c, bool out)
{
    if (c->wants_out == out)
        return;
    struct epoll_event ev = {.events = EPOLLIN | (out ? EPOLLOUT : 0u), .data.ptr = c};
    epoll_ctl(c->sc->thread->epoll, EPOLL_CTL_MOD, c->fd, &ev);
    c->wants_out = out;
}

static size_t op_send(void *arg, unsigned id, struct slice data)
{
    struct socket_client *sc = arg;
    struct socket_conn *c = sc->conns[id];
    size_t taken = 0;
    while (taken < data.n) {
        ssize_t n = send(c->fd, data.p + taken, data.n - taken, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            /* A broken connection is told by epoll as EPOLLERR or EPOLLHUP. */
            set_events(c, true);
            break;
        }
        taken += (size_t)n;
    }
    return taken;
}

static void bury(struct socket_conn *c)
{
    if (c->fd >= 0)
        close(c->fd); /* leaves the epoll set by itself */
    c->fd = -1;
    c->sc->conns[c->id] = NULL;
    list_remove(&c->link);
    list_push_back(&c->sc->thread->graveyard, &c->link);
}

static void op_close(void *arg, unsigned id)
{
    struct socket_client *sc = arg;
    bury(sc->conns[id]);
}

static void op_log(void *arg, int level, const char *text)
{
    struct socket_client *sc = arg;
    if (sc->log)
        sc->log(sc->log_arg, level, text);
}

const struct client_core_ops socket_core_ops = {op_connect, op_send, op_close, op_log};

/* ---- the loop ---- */

static void ended(struct socket_conn *c, enum err why)
{
    struct socket_client *sc = c->sc;
    unsigned id = c->id;
    bury(c);
    client_core_on_closed(sc->core, id, why, sc->thread->now);
    socket_touch(sc);
}

static void on_readable(struct socket_thread *t, struct socket_conn *c)
{
    for (int i = 0; i < READS_PER_TURN && c->fd >= 0; i++) {
        ssize_t n = recv(c->fd, t->recv_buf, RECV_BYTES, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n <= 0) {
            ended(c, n == 0 ? ERR_CLOSED : ERR_UNREACHABLE);
            return;
        }
        socket_touch(c->sc);
        client_core_on_data(c->sc->core, c->id, slice_of(t->recv_buf, (size_t)n), t->now);
        if ((size_t)n < RECV_BYTES)
            return;
    }
}

static void on_event(struct socket_thread *t, struct socket_conn *c, uint32_t events)
{
    if (c->fd < 0)
        return; /* closed earlier in this turn */
    if (c->connecting) {
        int error = 0;
        socklen_t len = sizeof(error);
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error || !(events & EPOLLOUT)) {
            ended(c, ERR_UNREACHABLE);
            return;
        }
        c->connecting = false;
        set_events(c, false);
        client_core_on_connected(c->sc->core, c->id, t->now);
        socket_touch(c->sc);
        return;
    }
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
        on_readable(t, c);
    if (c->fd >= 0 && (events & EPOLLOUT)) {
        set_events(c, false);
        client_core_on_writable(c->sc->core, c->id);
        socket_touch(c->sc);
    }
}

static void run_posts(struct socket_thread *t)
{
    struct list posts;
    list_init(&posts);
    pthread_mutex_lock(&t->lock);
    list_splice(&posts, &t->posted);
    pthread_mutex_unlock(&t->lock);
    for (struct list *item; (item = list_pop_front(&posts));) {
        struct socket_post *p = CONTAINER_OF(item, struct socket_post, link);
        p->run(p, t->now);
    }
}

/* Timers. next_tick is a lower bound over all clients, so that a turn need not ask each of them. */
static void run_timers(struct socket_thread *t)
{
    if (t->now < t->next_tick)
        return;
    t->next_tick = UINT64_MAX;
    LIST_FOR_SAFE(item, &t->clients)
    {
        struct socket_client *sc = CONTAINER_OF(item, struct socket_client, link);
        client_core_tick(sc->core, t->now);
        socket_touch(sc); /* next_tick is brought up to date by its flush */
    }
}

static void flush(struct socket_thread *t)
{
    for (struct list *item; (item = list_pop_front(&t->touched));) {
        struct socket_client *sc = CONTAINER_OF(item, struct socket_client, touched);
        client_core_flush(sc->core, t->now);
        uint64_t next = client_core_next_deadline(sc->core);
        if (next < t->next_tick)
            t->next_tick = next;
    }
    for (struct list *item; (item = list_pop_front(&t->graveyard));)
        free(CONTAINER_OF(item, struct socket_conn, link));
}

static int wait_ms(struct socket_thread *t)
{
    if (!list_empty(&t->failed))
        return 0;
    if (t->next_tick == UINT64_MAX)
        return -1;
    uint64_t now = socket_now();
    if (t->next_tick <= now)
        return 0;
    uint64_t ms = (t->next_tick - now + NS_PER_MS - 1) / NS_PER_MS;
    return ms < 60000 ? (int)ms : 60000;
}

/* Announces the sleep first and looks for posts after: a poster does it the other way round, so one
 * of the two sees the other. */
static int wait_for_events(struct socket_thread *t, struct epoll_event *events)
{
    int ms = wait_ms(t);
    if (ms != 0) {
        atomic_store(&t->sleeping, true);
        pthread_mutex_lock(&t->lock);
        bool posted = !list_empty(&t->posted);
        pthread_mutex_unlock(&t->lock);
        if (posted)
            ms = 0;
    }
    int n = epoll_wait(t->epoll, events, EVENTS_MAX, ms);
    atomic_store(&t->sleeping, false);
    return n;
}

static void *loop(void *arg)
{
    struct socket_thread *t = arg;
    struct epoll_event events[EVENTS_MAX];
    this_thread = t;
    while (!atomic_load(&t->stopping)) {
        int n = wait_for_events(t, events);
        t->now = socket_now();
        run_posts(t);
        for (struct list *item; (item = list_pop_front(&t->failed));) {
            struct socket_conn *c = CONTAINER_OF(item, struct socket_conn, link);
            ended(c, c->error);
        }
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr) {
                on_event(t, events[i].data.ptr, events[i].events);
                continue;
            }
            uint64_t count;
            ssize_t got = read(t->wake, &count, sizeof(count));
            (void)got; /* only empties it */
        }
        run_timers(t);
        flush(t);
    }
    return NULL;
}

void socket_touch(struct socket_client *sc)
{
    if (list_empty(&sc->touched))
        list_push_back(&sc->thread->touched, &sc->touched);
}

void socket_attach(struct socket_client *sc, struct socket_thread *t)
{
    sc->thread = t;
    list_init(&sc->touched);
    list_push_back(&t->clients, &sc->link);
}

void socket_detach(struct socket_client *sc)
{
    list_remove(&sc->link);
    list_remove(&sc->touched);
    free(sc->conns);
    sc->conns = NULL;
    sc->n_conns = 0;
}

void socket_post(struct socket_thread *t, struct socket_post *p)
{
    pthread_mutex_lock(&t->lock);
    list_push_back(&t->posted, &p->link);
    pthread_mutex_unlock(&t->lock);
    if (atomic_load(&t->sleeping) && atomic_exchange(&t->sleeping, false)) {
        uint64_t one = 1;
        ssize_t n = write(t->wake, &one, sizeof(one));
        (void)n; /* full means that it is readable: just as good */
    }
}

/* ---- life ---- */

static void thread_free(struct socket_thread *t)
{
    if (t->epoll >= 0)
        close(t->epoll);
    if (t->wake >= 0)
        close(t->wake);
    pthread_mutex_destroy(&t->lock);
    free(t->recv_buf);
    free(t);
}

static struct socket_thread *thread_create(void)
{
    struct socket_thread *t = mem_zalloc(sizeof(*t));
    pthread_mutex_init(&t->lock, NULL);
    list_init(&t->posted);
    list_init(&t->clients);
    list_init(&t->touched);
    list_init(&t->graveyard);
    list_init(&t->failed);
    t->recv_buf = mem_alloc(RECV_BYTES);
    t->next_tick = UINT64_MAX;
    t->now = socket_now();
    t->epoll = epoll_create1(EPOLL_CLOEXEC);
    t->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    bool ok =
        t->epoll >= 0 && t->wake >= 0 && epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->wake, &ev) == 0;
    /* The application's signals are the application's threads' to handle. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    ok = ok && pthread_create(&t->thread, NULL, loop, t) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!ok) {
        thread_free(t);
        return NULL;
    }
    pthread_setname_np(t->thread, "kvclient-io");
    return t;
}

enum err socket_thread_acquire(struct socket_thread **out)
{
    pthread_once(&fork_once, fork_prepare);
    pthread_mutex_lock(&global_lock);
    if (!global_thread)
        global_thread = thread_create();
    struct socket_thread *t = global_thread;
    if (t)
        t->refs++;
    pthread_mutex_unlock(&global_lock);
    if (!t)
        return ERR_NO_SPACE;
    *out = t;
    return ERR_OK;
}

static void stop_run(struct socket_post *p, uint64_t now)
{
    (void)p;
    (void)now;
}

void socket_thread_release(struct socket_thread *t)
{
    CHECK(!socket_on_thread(t));
    pthread_mutex_lock(&global_lock);
    bool last = --t->refs == 0;
    if (last)
        global_thread = NULL;
    pthread_mutex_unlock(&global_lock);
    if (!last)
        return;
    struct socket_post wake = {.run = stop_run};
    atomic_store(&t->stopping, true);
    socket_post(t, &wake);
    pthread_join(t->thread, NULL);
    thread_free(t);
}
