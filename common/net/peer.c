/* A link connects when there is something to send, and not before its back-off is over; what is
 * sent meanwhile is lost, what is sent while it connects waits in its output. The receiver never
 * answers on a link: its messages take its own.
 *
 * A turn's messages for a node share a frame; one that has grown beyond FRAME_FULL is closed and
 * the next begun, so that the receiver can start on it and gathers less. */
#include "common/net/peer.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/net/peer_hello.h"
#include "common/wire/frame.h"

#define MESSAGE_HEAD 12u /* u64 group, u32 length */
#define FRAME_FULL (256 * KIB)
#define BACKOFF_MIN (50 * NS_PER_MS)
#define BACKOFF_MAX (2 * NS_PER_S)
#define CONNECT_NS (2 * NS_PER_S)
#define STEADY_NS (2 * NS_PER_S) /* a connection that lived so long was a good one */
#define HELLO_NS (5 * NS_PER_S)
#define STRANGERS_MAX 256u /* accepted, no HELLO yet: few beside the files of io/files.h */
#define LOG_AGAIN_NS (60 * NS_PER_S)

/* What we know of a node, and our connection to it. */
struct link {
    struct peer_set *ps;
    struct list open; /* in ps->open: a frame is begun */
    struct conn *c;   /* NULL: not connected nor connecting */
    struct io_timer timeout;
    uint64_t connected_at; /* 0: still connecting */
    uint64_t retry_at, backoff;
    uint64_t heard;
    size_t frame; /* where the open frame begins in conn_out() */
    bool in_frame;
    uint32_t node;
};

/* An accepted connection: a stranger until its HELLO, then, by peer_take(), a node's. */
struct incoming {
    struct list link; /* in ps->incoming or ps->strangers */
    struct peer_set *ps;
    struct conn *c;
    struct io_timer timeout;
    struct peer_hello hello;
    struct link *from; /* whom it was taken for */
};

struct peer_set {
    struct peer_set_options o;
    struct map links; /* by node */
    struct list open;
    struct list incoming, strangers;
    unsigned n_strangers;
    uint64_t logged[8]; /* when a refusal of each kind was last logged */
    struct peer_stats stats;
};

enum refusal {
    REFUSED_MALFORMED,
    REFUSED_VERSION,
    REFUSED_CLUSTER,
    REFUSED_NODE,
    REFUSED_SELF,
    REFUSED_SILENT,
    REFUSED_CROWD,
    REFUSED_FRAME,
};

static const char *const refusal_text[] = {
    "malformed_hello", "protocol_version", "other_cluster",      "meant_for_another_node",
    "own_node_id",     "no_hello",         "too_many_strangers", "damaged_frame",
};

static void log_refusal(struct peer_set *ps, enum refusal why, uint32_t node)
{
    uint64_t now = io_now(ps->o.io);
    ps->stats.refused++;
    if (ps->logged[why] != 0 && now - ps->logged[why] < LOG_AGAIN_NS)
        return;
    ps->logged[why] = now;
    log_warn("peer_refused", "node=%u core=%u from=%u why=%s", ps->o.self.node, ps->o.self.core,
             node, refusal_text[why]);
}

/* ---- connections that are nobody's any more ---- */

static enum err limbo_split(void *arg, struct slice data, size_t *n)
{
    (void)arg;
    *n = data.n;
    return ERR_OK;
}

static void limbo_message(void *arg, struct slice message)
{
    (void)arg;
    (void)message;
}

static void limbo_end(void *arg, enum err why)
{
    (void)arg;
    (void)why;
}

static const struct conn_ops limbo_ops = {
    .split = limbo_split,
    .on_message = limbo_message,
    .on_end = limbo_end,
};

static void disown(struct conn *c)
{
    conn_set_ops(c, &limbo_ops, NULL);
    conn_abort(c);
}

/* ---- links ---- */

static struct link *link_get(struct peer_set *ps, uint32_t node)
{
    struct link *l = map_find(&ps->links, node);
    if (l != NULL)
        return l;
    l = mem_zalloc(sizeof *l);
    l->ps = ps;
    l->node = node;
    list_init(&l->open);
    map_set(&ps->links, node, l);
    return l;
}

static void link_close_frame(struct link *l)
{
    if (!l->in_frame)
        return;
    frame_finish(conn_out(l->c), l->frame);
    l->in_frame = false;
    list_remove(&l->open);
    l->ps->stats.frames_out++;
}

static void link_lost(struct link *l)
{
    io_timer_cancel(l->ps->o.io, &l->timeout);
    list_remove(&l->open);
    l->in_frame = false;
    l->c = NULL;
}

static enum err link_split(void *arg, struct slice data, size_t *n)
{
    (void)arg;
    return frame_split(data, PEER_HELLO_MAX, n);
}

static void on_link_connected(void *arg)
{
    struct link *l = arg;
    l->connected_at = io_now(l->ps->o.io);
    l->ps->stats.connects++;
    io_timer_cancel(l->ps->o.io, &l->timeout);
}

static void on_link_end(void *arg, enum err why)
{
    struct link *l = arg;
    struct io *io = l->ps->o.io;
    uint64_t now = io_now(io);
    (void)why;
    if (l->connected_at != 0 && now - l->connected_at >= STEADY_NS)
        l->backoff = 0;
    link_lost(l);
    l->backoff = l->backoff == 0 ? BACKOFF_MIN : l->backoff * 2;
    if (l->backoff > BACKOFF_MAX - BACKOFF_MIN)
        l->backoff = BACKOFF_MAX - BACKOFF_MIN;
    l->retry_at = now + BACKOFF_MIN + io_random(io) % l->backoff;
}

static const struct conn_ops link_ops = {
    .split = link_split,
    .on_message = limbo_message, /* nothing is said on it yet; a later version may */
    .on_end = on_link_end,
    .on_connected = on_link_connected,
};

static void on_link_timeout(struct io_timer *t)
{
    struct link *l = CONTAINER_OF(t, struct link, timeout);
    conn_abort(l->c);
}

static bool link_connect(struct link *l)
{
    struct peer_set *ps = l->ps;
    struct io_addr to;
    uint64_t now = io_now(ps->o.io);
    if (now < l->retry_at || !ps->o.resolve(ps->o.arg, l->node, &to))
        return false;
    struct peer_hello hello = ps->o.self;
    hello.to = l->node;
    hello.purpose = PEER_RAFT;
    l->connected_at = 0;
    l->c = conn_connect(ps->o.conns, &to, &link_ops, l);
    peer_hello_encode(conn_out(l->c), &hello);
    l->timeout.fn = on_link_timeout;
    io_timer_set(ps->o.io, &l->timeout, now + CONNECT_NS);
    return true;
}

void peer_send(struct peer_set *ps, uint32_t node, uint64_t group, const struct slice *parts,
               unsigned n)
{
    CHECK(node != ps->o.self.node);
    struct link *l = link_get(ps, node);
    size_t bytes = 0;
    for (unsigned i = 0; i < n; i++)
        bytes += parts[i].n;
    if (l->c == NULL && !link_connect(l)) {
        ps->stats.dropped++;
        return;
    }
    if (bytes > LIMIT_PEER_FRAME ||
        conn_unsent(l->c) + bytes + MESSAGE_HEAD + FRAME_HEADER > LIMIT_PEER_FRAME) {
        ps->stats.dropped++;
        return;
    }
    struct buf *out = conn_out(l->c);
    if (!l->in_frame) {
        l->frame = frame_begin(out, FRAME_MESSAGES);
        l->in_frame = true;
        list_push_back(&ps->open, &l->open);
    }
    buf_u64(out, group);
    buf_u32(out, (uint32_t)bytes);
    for (unsigned i = 0; i < n; i++)
        buf_append(out, parts[i].p, parts[i].n);
    ps->stats.messages_out++;
    if (out->n - l->frame >= FRAME_FULL)
        link_close_frame(l);
}

void peer_flush(struct peer_set *ps)
{
    struct list *item;
    while ((item = list_first(&ps->open)) != NULL)
        link_close_frame(CONTAINER_OF(item, struct link, open));
}

void peer_forget(struct peer_set *ps, uint32_t node)
{
    struct link *l = map_find(&ps->links, node);
    if (l == NULL)
        return;
    if (l->c != NULL) {
        struct conn *c = l->c;
        link_lost(l);
        disown(c);
    }
    l->backoff = 0;
    l->retry_at = 0;
}

uint64_t peer_heard(const struct peer_set *ps, uint32_t node)
{
    const struct link *l = map_find(&ps->links, node);
    return l != NULL ? l->heard : 0;
}

const struct peer_stats *peer_stats(const struct peer_set *ps)
{
    return &ps->stats;
}

/* ---- accepted connections, until their HELLO ---- */

static void incoming_free(struct incoming *in)
{
    struct peer_set *ps = in->ps;
    io_timer_cancel(ps->o.io, &in->timeout);
    list_remove(&in->link);
    if (in->from == NULL)
        ps->n_strangers--;
    free(in);
}

static void on_incoming_end(void *arg, enum err why)
{
    (void)why;
    incoming_free(arg);
}

static void refuse(struct incoming *in, enum refusal why)
{
    log_refusal(in->ps, why, in->hello.node);
    conn_abort(in->c);
}

static enum err hello_split(void *arg, struct slice data, size_t *n)
{
    (void)arg;
    return frame_split(data, PEER_HELLO_MAX, n);
}

static void on_hello_malformed(void *arg, enum err why)
{
    struct incoming *in = arg;
    (void)why;
    log_refusal(in->ps, REFUSED_MALFORMED, 0);
}

static void on_hello_timeout(struct io_timer *t)
{
    refuse(CONTAINER_OF(t, struct incoming, timeout), REFUSED_SILENT);
}

static void on_hello_frame(void *arg, struct slice message)
{
    struct incoming *in = arg;
    struct peer_set *ps = in->ps;
    struct slice body = {0};
    struct peer_hello hello;
    uint8_t type = 0;
    enum err e = frame_decode(message, &type, &body);
    if (e == ERR_OK)
        e = type == FRAME_HELLO ? peer_hello_decode(body, &hello) : ERR_BAD_REQUEST;
    if (e != ERR_OK) {
        refuse(in, e == ERR_PROTOCOL_VERSION ? REFUSED_VERSION : REFUSED_MALFORMED);
        return;
    }
    in->hello = hello;
    if (memcmp(hello.cluster, ps->o.self.cluster, sizeof hello.cluster) != 0) {
        refuse(in, REFUSED_CLUSTER);
    } else if (hello.to != ps->o.self.node) {
        refuse(in, REFUSED_NODE);
    } else if (hello.node == ps->o.self.node) {
        refuse(in, REFUSED_SELF);
    } else {
        struct conn *c = in->c;
        conn_set_ops(c, &limbo_ops, NULL);
        incoming_free(in);
        ps->o.on_hello(ps->o.arg, c, &hello);
    }
}

static const struct conn_ops hello_ops = {
    .split = hello_split,
    .on_message = on_hello_frame,
    .on_malformed = on_hello_malformed,
    .on_end = on_incoming_end,
};

void peer_accept(struct peer_set *ps, int handle)
{
    if (ps->n_strangers >= STRANGERS_MAX) {
        log_refusal(ps, REFUSED_CROWD, 0);
        io_handle_close(handle);
        return;
    }
    struct incoming *in = mem_zalloc(sizeof *in);
    in->ps = ps;
    in->timeout.fn = on_hello_timeout;
    if (conn_adopt(ps->o.conns, handle, &hello_ops, in, &in->c) != ERR_OK) {
        free(in);
        return;
    }
    ps->n_strangers++;
    list_push_back(&ps->strangers, &in->link);
    io_timer_set(ps->o.io, &in->timeout, io_now(ps->o.io) + HELLO_NS);
}

/* ---- accepted connections that speak for a node ---- */

static enum err taken_split(void *arg, struct slice data, size_t *n)
{
    (void)arg;
    return frame_split(data, LIMIT_PEER_FRAME, n);
}

static void on_taken_malformed(void *arg, enum err why)
{
    struct incoming *in = arg;
    (void)why;
    log_refusal(in->ps, REFUSED_FRAME, in->hello.node);
}

static void on_taken_frame(void *arg, struct slice message)
{
    struct incoming *in = arg;
    struct peer_set *ps = in->ps;
    struct slice body = {0};
    uint8_t type = 0;
    if (frame_decode(message, &type, &body) != ERR_OK) {
        refuse(in, REFUSED_FRAME);
        return;
    }
    in->from->heard = io_now(ps->o.io);
    ps->stats.frames_in++;
    if (type != FRAME_MESSAGES)
        return; /* of a later version */
    struct cursor c = cursor_of(body);
    while (c.left.n > 0 && !c.bad) {
        uint64_t group = cursor_u64(&c);
        struct slice bytes = cursor_bytes(&c, cursor_u32(&c));
        if (c.bad)
            break;
        ps->stats.messages_in++;
        ps->o.on_message(ps->o.arg, in->hello.node, group, bytes);
    }
    if (c.bad)
        refuse(in, REFUSED_FRAME);
}

static const struct conn_ops taken_ops = {
    .split = taken_split,
    .on_message = on_taken_frame,
    .on_malformed = on_taken_malformed,
    .on_end = on_incoming_end,
};

/* A node has one connection per core of its: an older one is what a restart or a cut left behind.
 */
static void end_older(struct peer_set *ps, const struct peer_hello *hello)
{
    LIST_FOR_SAFE(item, &ps->incoming)
    {
        struct incoming *in = CONTAINER_OF(item, struct incoming, link);
        if (in->hello.node == hello->node && in->hello.core == hello->core) {
            struct conn *c = in->c;
            incoming_free(in);
            disown(c);
        }
    }
}

void peer_take(struct peer_set *ps, struct conn *c, const struct peer_hello *hello)
{
    if (map_find(&ps->links, hello->node) == NULL && ps->links.n >= LIMIT_NODES) {
        log_refusal(ps, REFUSED_CROWD, hello->node);
        disown(c);
        return;
    }
    end_older(ps, hello);
    struct incoming *in = mem_zalloc(sizeof *in);
    in->ps = ps;
    in->c = c;
    in->hello = *hello;
    in->from = link_get(ps, hello->node);
    in->from->heard = io_now(ps->o.io);
    list_push_back(&ps->incoming, &in->link);
    conn_set_ops(c, &taken_ops, in);
}

void peer_take_handle(struct peer_set *ps, int handle, const struct peer_hello *hello,
                      struct slice rest)
{
    struct conn *c;
    if (conn_adopt(ps->o.conns, handle, &limbo_ops, NULL, &c) != ERR_OK)
        return;
    if (rest.n > 0)
        conn_feed(c, rest);
    peer_take(ps, c, hello);
}

/* ---- the set ---- */

struct peer_set *peer_set_create(const struct peer_set_options *o)
{
    struct peer_set *ps = mem_zalloc(sizeof *ps);
    ps->o = *o;
    map_init(&ps->links);
    list_init(&ps->open);
    list_init(&ps->incoming);
    list_init(&ps->strangers);
    return ps;
}

static void drop_incoming(struct list *l)
{
    struct list *item;
    while ((item = list_first(l)) != NULL) {
        struct incoming *in = CONTAINER_OF(item, struct incoming, link);
        struct conn *c = in->c;
        incoming_free(in);
        disown(c);
    }
}

void peer_set_destroy(struct peer_set *ps)
{
    size_t it = 0;
    uint64_t node;
    void *value;
    if (ps == NULL)
        return;
    drop_incoming(&ps->incoming);
    drop_incoming(&ps->strangers);
    while (map_next(&ps->links, &it, &node, &value)) {
        struct link *l = value;
        if (l->c != NULL) {
            struct conn *c = l->c;
            link_lost(l);
            disown(c);
        }
        free(l);
    }
    map_close(&ps->links);
    free(ps);
}
