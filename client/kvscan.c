#include "client/kvscan.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/kvadmin.h"
#include "client/kvadmin_socket.h"
#include "client/result.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/meta/slot.h"
#include "common/wire/msg_kv.h"
#include "common/wire/msg_map.h"
#include "common/wire/rpc.h"

#define ATTEMPT_MS 3000u /* one node may not use up the whole deadline */
#define PAUSE_MS 5u /* between attempts; doubled each time, and not less than the server says */
#define PAUSE_MAX_MS 200u
#define SLOTS_END LIMIT_SLOTS

struct kvscan {
    char *url;
    unsigned timeout_ms;
    struct shard_map map;
    struct buf in, after;
    uint16_t slot; /* the next page begins here */
    bool has_after;
    uint64_t max_bytes, group, position;
    /* the connection */
    int fd; /* -1: none */
    uint32_t node;
    uint64_t conn_group; /* whose core it is at */
    uint32_t msgid;
    /* the search for the leader of `slot` */
    uint32_t leader;  /* node that an error has named; 0: none */
    unsigned attempt; /* without one: the replicas in turn */
};

kv_err kvscan_open(const char *url, unsigned timeout_ms, struct kvscan **out, char *msg, size_t n)
{
    struct shard_map map;
    kv_err e = kvadmin_map(url, timeout_ms, &map, msg, n);
    if (e != KV_OK)
        return e;
    struct kvscan *s = mem_zalloc(sizeof *s);
    s->url = mem_dup(url, strlen(url) + 1);
    s->timeout_ms = timeout_ms;
    s->map = map;
    s->fd = -1;
    *out = s;
    return KV_OK;
}

static void hang_up(struct kvscan *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    buf_clear(&s->in);
}

void kvscan_close(struct kvscan *s)
{
    if (!s)
        return;
    hang_up(s);
    shard_map_close(&s->map);
    buf_close(&s->in);
    buf_close(&s->after);
    free(s->url);
    free(s);
}

void kvscan_seek(struct kvscan *s, struct slice key)
{
    s->slot = slot_of_key(key);
    s->has_after = true;
    buf_clear(&s->after);
    buf_append(&s->after, key.p, key.n);
    s->group = s->position = 0;
}

void kvscan_page_size(struct kvscan *s, uint64_t bytes)
{
    s->max_bytes = bytes;
}

/* ---- one attempt ---- */

struct attempt {
    enum err err;
    bool final; /* no other attempt will do better */
    uint64_t retry_ms;
    char text[256];
};

static enum err exchange(struct kvscan *s, const struct buf *request, uint64_t deadline,
                         struct rpc_message *m)
{
    size_t n = 0;
    buf_clear(&s->in);
    if (!kvadmin_send(s->fd, buf_slice(request), deadline))
        return ERR_UNREACHABLE;
    for (;;) {
        enum err e = kvadmin_receive(s->fd, &s->in, &n, deadline);
        if (e == ERR_OK)
            e = rpc_decode(slice_of(s->in.p, n), m);
        if (e != ERR_OK)
            return e;
        if (m->type == RPC_RESPONSE && m->msgid == s->msgid)
            return ERR_OK;
        buf_consume(&s->in, n);
    }
}

/* A connection to the core of that node that has the group. */
static enum err reach(struct kvscan *s, const struct shard_node *node, uint64_t group,
                      uint64_t deadline)
{
    if (s->fd >= 0 && s->node == node->node && s->conn_group == group)
        return ERR_OK;
    hang_up(s);
    s->fd = kvadmin_dial(node->client_addr, deadline);
    if (s->fd < 0)
        return ERR_UNREACHABLE;
    struct msg_hello hello = {.proto = RPC_PROTOCOL_VERSION, .client = "kvctl", .has_core = true};
    struct buf request = {0};
    struct rpc_message m;
    hello.core = (uint32_t)(group % (node->cores ? node->cores : 1));
    msg_hello_encode(&request, ++s->msgid, &hello);
    enum err e = exchange(s, &request, deadline, &m);
    buf_close(&request);
    if (e == ERR_OK && m.error.n > 0)
        e = ERR_UNREACHABLE;
    if (e != ERR_OK)
        hang_up(s);
    s->node = node->node;
    s->conn_group = group;
    return e;
}

/* The node to ask: the one that an error has named, the leader of the map, the replicas in turn. */
static const struct shard_node *choose(const struct kvscan *s, const struct shard_desc *desc)
{
    uint32_t node = s->leader;
    for (uint32_t i = 0; i < desc->n_replicas && node == 0 && s->attempt == 0; i++)
        if (desc->leader != 0 && desc->replica[i].replica == desc->leader)
            node = desc->replica[i].node;
    if (node == 0 && desc->n_replicas > 0)
        node = desc->replica[s->attempt % desc->n_replicas].node;
    return shard_map_find_node(&s->map, node);
}

static void take_error(struct kvscan *s, struct slice raw, struct attempt *a)
{
    struct rpc_error error;
    struct shard_map piece;
    rpc_get_error(raw, &error);
    enum err_class class = err_class(error.err);
    a->err = error.err;
    a->retry_ms = error.retry_ms < PAUSE_MAX_MS ? error.retry_ms : PAUSE_MAX_MS;
    a->final = class == ERR_CLASS_NEVER;
    snprintf(a->text, sizeof a->text, "%s",
             error.err == ERR_UNKNOWN_METHOD ? "the servers are older than this kvctl"
             : error.text[0]                 ? error.text
                                             : err_text(error.err));
    if (error.map.n > 0 && msg_map_decode(error.map, &piece) == ERR_OK) {
        shard_map_merge(&s->map, &piece);
        shard_map_close(&piece);
    }
    s->leader = class == ERR_CLASS_REFRESH ? error.leader : 0;
    if (error.err == ERR_NO_LEADER || (class == ERR_CLASS_REFRESH && !error.leader))
        s->attempt++;
}

static void ask(struct kvscan *s, const struct shard_node *node, uint64_t group, uint64_t deadline,
                struct attempt *a, struct msg_scan_reply *reply)
{
    struct msg_scan_request q = {.first_slot = s->slot,
                                 .last_slot = LIMIT_SLOTS - 1,
                                 .has_after = s->has_after,
                                 .after = buf_slice(&s->after),
                                 .max_bytes = s->max_bytes,
                                 .group = s->group,
                                 .position = s->position};
    struct buf request = {0};
    struct rpc_message m;
    enum err e = reach(s, node, group, deadline);
    if (e == ERR_OK) {
        msg_scan_encode(&request, ++s->msgid, &q);
        e = exchange(s, &request, deadline, &m);
    }
    buf_close(&request);
    a->err = e;
    a->retry_ms = 0;
    if (e == ERR_OK && m.error.n > 0) {
        take_error(s, m.error, a);
        return;
    }
    if (e == ERR_OK)
        a->err = e = msg_scan_decode_reply(m.result, reply);
    if (e != ERR_OK) {
        hang_up(s);
        s->leader = 0;
        s->attempt++;
        snprintf(a->text, sizeof a->text, "%s: %s", node->client_addr,
                 e == ERR_CLOSED ? "the connection was closed" : err_text(e));
    }
}

/* ---- a page ---- */

static void take_page(struct kvscan *s, const struct msg_scan_reply *reply, struct kvscan_page *out)
{
    *out = (struct kvscan_page){
        .n = reply->n, .items = mp_reader_of(reply->items), .more = reply->more};
    out->slot = reply->more ? reply->next_slot : SLOTS_END;
    s->slot = reply->next_slot;
    s->has_after = reply->has_after;
    buf_clear(&s->after);
    buf_append(&s->after, reply->after.p, reply->after.n);
    s->group = reply->group;
    s->position = reply->position;
    s->leader = 0;
    s->attempt = 0;
}

/* A server that does not move on would be asked for ever. */
static bool moves_on(const struct kvscan *s, const struct msg_scan_reply *reply)
{
    return !reply->more || reply->next_slot > s->slot ||
           (reply->next_slot == s->slot && reply->has_after &&
            (!s->has_after || !slice_eq(reply->after, buf_slice(&s->after))));
}

static void refresh(struct kvscan *s, uint64_t deadline)
{
    struct shard_map fresh;
    char msg[256]; /* what the nodes said is worth more */
    uint64_t now = kvadmin_now_ms();
    if (now >= deadline)
        return;
    unsigned ms = deadline - now < ATTEMPT_MS ? (unsigned)(deadline - now) : ATTEMPT_MS;
    if (kvadmin_map(s->url, ms, &fresh, msg, sizeof msg) == KV_OK) {
        shard_map_merge(&s->map, &fresh);
        shard_map_close(&fresh);
    }
}

kv_err kvscan_next(struct kvscan *s, struct kvscan_page *out, char *msg, size_t n)
{
    struct attempt a = {.err = ERR_NO_LEADER};
    struct msg_scan_reply reply;
    uint64_t deadline = kvadmin_now_ms() + s->timeout_ms, pause = PAUSE_MS;
    snprintf(a.text, sizeof a.text, "%s", err_text(a.err));
    do {
        const struct shard_desc *desc = shard_map_find(&s->map, s->slot);
        const struct shard_node *node = desc ? choose(s, desc) : NULL;
        uint64_t limit = kvadmin_now_ms() + ATTEMPT_MS;
        if (node) {
            ask(s, node, desc->group, limit < deadline ? limit : deadline, &a, &reply);
            if (a.err == ERR_OK && moves_on(s, &reply)) {
                take_page(s, &reply, out);
                return KV_OK;
            }
            if (a.final || a.err == ERR_OK)
                break;
        } else { /* nobody we know */
            s->leader = 0;
            s->attempt++;
        }
        if (a.err != ERR_BUSY && s->leader == 0)
            refresh(s, deadline);
        if (a.retry_ms > pause)
            pause = a.retry_ms;
        poll(NULL, 0, s->leader ? 1 : (int)pause);
        pause = pause * 2 < PAUSE_MAX_MS ? pause * 2 : PAUSE_MAX_MS;
    } while (kvadmin_now_ms() < deadline);
    snprintf(msg, n, "slot %u: %s", s->slot,
             a.err == ERR_OK ? "the server repeats itself" : a.text);
    return a.err == ERR_OK ? KV_INTERNAL : result_err_of(a.err);
}
