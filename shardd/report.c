/* States: PAUSED (the timer brings the next attempt) -> CONNECTING -> REGISTERING -> RUNNING, and
 * back to PAUSED on any failure. One timer says what comes next, a second one limits the wait for
 * an answer. A connection has a small struct of its own (line), as its end is told later than it
 * was decided: an old line's last call must not reach the new state. */
#include "shardd/report.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/wire/msg_map.h"
#include "common/wire/rpc.h"

#define INTERVAL_NS (1 * NS_PER_S)
#define INTERVAL_FORMING_NS (100 * NS_PER_MS)
#define KICK_NS (20 * NS_PER_MS)
#define ANSWER_NS (3 * NS_PER_S)
#define BACKOFF_MIN_NS (50 * NS_PER_MS)
#define BACKOFF_MAX_NS (2 * NS_PER_S)
#define REFUSED_NS (2 * NS_PER_S)
#define ELECTION_NS                                                                                \
    (100 * NS_PER_MS) /* a member answers that there is no leader: soon there is                   \
                       */
/* Redirects in a row that are followed at once; then it waits, as with any failure. */
#define REDIRECTS_MAX 3u

enum state { PAUSED, CONNECTING, REGISTERING, RUNNING };

struct line {
    struct report *r; /* NULL: given up */
    struct conn *conn;
};

struct report {
    struct report_options o;
    struct io_addr placement[REPORT_ADDRESSES];
    /* What placementd says of its members: those that were configured may all be gone by now. */
    unsigned n_members;
    struct io_addr member[LIMIT_GROUP_MEMBERS];
    unsigned n_learned; /* those of them that were not configured */
    struct io_addr learned[LIMIT_GROUP_MEMBERS];
    struct msg_register self;
    enum state state;
    struct line *line;
    struct io_timer next, answer;
    unsigned target; /* in placement[], then learned[] */
    bool has_redirect;
    struct io_addr redirect;
    unsigned redirects;
    unsigned failures; /* in a row, without any answer */
    uint32_t msgid;
    uint32_t asked, asked_map; /* msgids awaited; 0: none */
    uint32_t node;
    uint8_t cluster[16];
    bool registered; /* this process, by a placementd that knows us still */
    bool told;       /* on_registered() was called with node and cluster */
    enum err refused;
    bool collecting, kicked;
    uint32_t n_groups; /* as last reported */
    bool forming;      /* no groups, steps under way, or a merge */
    bool handing;      /* a range that nobody serves is on its way to its new group */
    uint64_t sent_at, answered_at;
    struct shard_map map;
};

/* ---- connection ---- */

static void drop_line(struct report *r)
{
    if (!r->line)
        return;
    r->line->r = NULL;
    conn_abort(r->line->conn);
    r->line = NULL;
}

static void pause_for(struct report *r, uint64_t ns)
{
    drop_line(r);
    io_timer_cancel(r->o.io, &r->answer);
    r->state = PAUSED;
    r->asked = r->asked_map = 0;
    io_timer_set(r->o.io, &r->next, io_now(r->o.io) + ns);
}

/* Gives this member up; the next attempt goes to the next one, after half to all of `ns`. */
static void try_next(struct report *r, uint64_t ns)
{
    r->has_redirect = false;
    r->target = (r->target + 1) % (r->o.n_placement + r->n_learned);
    pause_for(r, ns / 2 + io_random(r->o.io) % (ns / 2 + 1));
}

/* No sense was got out of this member. The wait doubles with each round through all of them: one
 * dead member must not keep us from the live ones. */
static void back_off(struct report *r)
{
    unsigned rounds = r->failures++ / (r->o.n_placement + r->n_learned);
    uint64_t ns = rounds < 6 ? BACKOFF_MIN_NS << rounds : BACKOFF_MAX_NS;
    try_next(r, ns < BACKOFF_MAX_NS ? ns : BACKOFF_MAX_NS);
}

/* It lives, but cannot serve us now. */
static void answered_not_now(struct report *r)
{
    r->failures = 0;
    try_next(r, 2 * ELECTION_NS);
}

static void follow(struct report *r, struct slice raw_error)
{
    char addr[64];
    struct io_addr to;
    if (!msg_placement_leader_addr(raw_error, addr) || io_addr_parse(addr, &to) != ERR_OK ||
        r->redirects++ >= REDIRECTS_MAX) {
        r->redirects = 0;
        back_off(r);
        return;
    }
    r->redirect = to;
    r->has_redirect = true;
    pause_for(r, 0);
}

static void await_answer(struct report *r)
{
    r->asked = ++r->msgid;
    io_timer_set(r->o.io, &r->answer, io_now(r->o.io) + ANSWER_NS);
}

static void send_register(struct report *r)
{
    r->state = REGISTERING;
    await_answer(r);
    msg_register_encode(conn_out(r->line->conn), r->asked, &r->self);
}

static void send_watch(struct report *r)
{
    r->asked_map = ++r->msgid;
    msg_map_request_encode(conn_out(r->line->conn), r->asked_map, "map.watch", r->map.version);
}

static void run(struct report *r)
{
    r->state = RUNNING;
    send_watch(r);
    io_timer_set(r->o.io, &r->next, io_now(r->o.io));
}

static enum err on_split(void *arg, struct slice data, size_t *n)
{
    (void)arg;
    return rpc_split(data, LIMIT_FRAME, n);
}

static void on_connected(void *arg)
{
    struct report *r = ((struct line *)arg)->r;
    if (!r)
        return;
    io_timer_cancel(r->o.io, &r->answer);
    if (r->registered)
        run(r);
    else
        send_register(r);
}

static void on_end(void *arg, enum err why)
{
    struct line *line = arg;
    struct report *r = line->r;
    free(line);
    if (!r)
        return;
    r->line = NULL;
    log_debug("placement_lost", "error=%s", err_name(why));
    back_off(r);
}

static void on_message(void *arg, struct slice message);
static const struct conn_ops ops = {
    .split = on_split,
    .on_message = on_message,
    .on_end = on_end,
    .on_connected = on_connected,
};

static void connect_next(struct report *r)
{
    unsigned n = r->o.n_placement, at = r->target % (n + r->n_learned);
    struct io_addr to = r->has_redirect ? r->redirect
                        : at < n        ? r->placement[at]
                                        : r->learned[at - n];
    r->has_redirect = false;
    r->state = CONNECTING;
    r->line = mem_zalloc(sizeof(*r->line));
    r->line->r = r;
    r->line->conn = conn_connect(r->o.conns, &to, &ops, r->line);
    io_timer_set(r->o.io, &r->answer, io_now(r->o.io) + ANSWER_NS);
}

/* ---- answers ---- */

static void succeeded(struct report *r)
{
    r->failures = 0;
    r->redirects = 0;
    r->refused = ERR_OK;
}

static void on_register_error(struct report *r, const struct rpc_message *m)
{
    struct rpc_error e;
    rpc_get_error(m->error, &e);
    if (e.err == ERR_NOT_LEADER) {
        follow(r, m->error);
    } else if (err_class(e.err) == ERR_CLASS_NEVER) {
        if (r->refused != e.err && r->o.on_refused)
            r->o.on_refused(r->o.arg, e.err, e.text);
        r->refused = e.err;
        pause_for(r, REFUSED_NS);
    } else {
        answered_not_now(r);
    }
}

static void on_register_reply(struct report *r, const struct rpc_message *m)
{
    struct msg_register_reply reply;
    if (m->error.n) {
        on_register_error(r, m);
        return;
    }
    if (msg_register_reply_decode(m->result, &reply) != ERR_OK) {
        back_off(r);
        return;
    }
    bool news = !r->told || r->node != reply.node || memcmp(r->cluster, reply.cluster, 16) != 0;
    succeeded(r);
    r->registered = r->told = true;
    r->node = reply.node;
    memcpy(r->cluster, reply.cluster, 16);
    r->self.has_cluster = true;
    memcpy(r->self.cluster, reply.cluster, 16);
    r->self.node = reply.node;
    if (news)
        r->o.on_registered(r->o.arg, r->cluster, r->node);
    run(r);
}

static void on_heartbeat_error(struct report *r, const struct rpc_message *m)
{
    struct rpc_error e;
    rpc_get_error(m->error, &e);
    if (e.err == ERR_NOT_LEADER) {
        follow(r, m->error);
    } else if (e.err == ERR_NOT_FOUND) {
        r->registered = false;
        send_register(r);
    } else {
        answered_not_now(r);
    }
}

static void schedule(struct report *r)
{
    uint64_t now = io_now(r->o.io);
    uint64_t at = r->sent_at + (r->forming ? INTERVAL_FORMING_NS : INTERVAL_NS);
    if (r->kicked || r->handing)
        at = r->sent_at + KICK_NS;
    r->kicked = false;
    io_timer_set(r->o.io, &r->next, at > now ? at : now);
}

static bool same_addr(const struct io_addr *a, const struct io_addr *b)
{
    char x[64], y[64];
    io_addr_format(a, x);
    io_addr_format(b, y);
    return strcmp(x, y) == 0;
}

/* False: these are known. */
static bool set_members(struct report *r, const struct io_addr *addr, unsigned n)
{
    bool same = n == r->n_members;
    for (unsigned i = 0; same && i < n; i++)
        same = same_addr(&addr[i], &r->member[i]);
    if (same)
        return false;
    r->n_learned = 0;
    r->n_members = n;
    for (unsigned i = 0; i < n; i++) {
        bool configured = false;
        for (unsigned k = 0; !configured && k < r->o.n_placement; k++)
            configured = same_addr(&addr[i], &r->placement[k]);
        r->member[i] = addr[i];
        if (!configured)
            r->learned[r->n_learned++] = addr[i];
    }
    return true;
}

static void learn(struct report *r, const struct msg_heartbeat_reply *reply)
{
    struct io_addr addr[LIMIT_GROUP_MEMBERS];
    unsigned n = 0;
    for (uint32_t i = 0; i < reply->n_members; i++)
        n += io_addr_parse(reply->member[i], &addr[n]) == ERR_OK;
    if (n > 0 && set_members(r, addr, n) && r->o.on_members)
        r->o.on_members(r->o.arg, addr, n);
}

static void on_heartbeat_reply(struct report *r, const struct rpc_message *m)
{
    struct msg_heartbeat_reply reply;
    if (m->error.n) {
        on_heartbeat_error(r, m);
        return;
    }
    if (msg_heartbeat_reply_decode(m->result, &reply) != ERR_OK) {
        back_off(r);
        return;
    }
    succeeded(r);
    r->answered_at = io_now(r->o.io);
    learn(r, &reply);
    if (reply.n_steps)
        r->forming = true;
    if (reply.version > r->map.version && r->asked_map == 0)
        send_watch(r);
    schedule(r);
    if (r->o.on_rate)
        r->o.on_rate(r->o.arg, reply.move_rate);
    for (uint32_t i = 0; i < reply.n_steps; i++)
        r->o.on_step(r->o.arg, &reply.steps[i]);
    msg_heartbeat_reply_close(&reply);
}

/* A whole map, the answer of map.watch: nil if ours is the newest. A member that has just become
 * leader may be behind what we know: its map is left alone until it has caught up. */
static void on_map_reply(struct report *r, const struct rpc_message *m)
{
    struct shard_map map;
    if (m->error.n || msg_map_decode(m->result, &map) != ERR_OK)
        return;
    if (map.version < r->map.version) {
        shard_map_close(&map);
        return;
    }
    shard_map_close(&r->map);
    r->map = map;
    r->o.on_map(r->o.arg, &r->map);
}

static void on_map_changed(struct report *r, const struct rpc_message *m)
{
    struct shard_map piece;
    struct slice params = m->params;
    /* One-element array: its head is the byte 0x91. */
    if (params.n < 2 || params.p[0] != 0x91 || r->map.version == 0)
        return;
    if (msg_map_decode(slice_of(params.p + 1, params.n - 1), &piece) != ERR_OK)
        return;
    if (shard_map_merge(&r->map, &piece))
        r->o.on_map(r->o.arg, &r->map);
    shard_map_close(&piece);
}

static void on_message(void *arg, struct slice message)
{
    struct report *r = ((struct line *)arg)->r;
    struct rpc_message m;
    if (!r)
        return;
    if (rpc_decode(message, &m) != ERR_OK) {
        back_off(r);
    } else if (m.type == RPC_NOTIFY) {
        if (slice_eq(m.method, slice_str("map.changed")))
            on_map_changed(r, &m);
        else if (slice_eq(m.method, slice_str("node.report")))
            report_kick(r);
    } else if (m.type != RPC_RESPONSE || m.msgid == 0) {
        return;
    } else if (m.msgid == r->asked_map) {
        r->asked_map = 0;
        on_map_reply(r, &m);
    } else if (m.msgid == r->asked) {
        r->asked = 0;
        io_timer_cancel(r->o.io, &r->answer);
        if (r->state == REGISTERING)
            on_register_reply(r, &m);
        else
            on_heartbeat_reply(r, &m);
    }
}

/* ---- timers ---- */

static void on_answer_timeout(struct io_timer *t)
{
    struct report *r = CONTAINER_OF(t, struct report, answer);
    log_warn("placement_silent", "state=%d", (int)r->state);
    back_off(r);
}

static void on_next(struct io_timer *t)
{
    struct report *r = CONTAINER_OF(t, struct report, next);
    if (r->state == PAUSED) {
        connect_next(r);
    } else if (r->state == RUNNING && r->asked == 0 && !r->collecting) {
        r->collecting = true;
        r->o.collect(r->o.arg, r);
    }
}

void report_fill(struct report *r, const struct msg_heartbeat *h)
{
    CHECK(r->collecting);
    r->collecting = false;
    if (r->state != RUNNING)
        return;
    /* The line was lost and found again meanwhile, and an answer is awaited already. */
    if (r->asked)
        return;
    struct msg_heartbeat full = *h;
    full.node = r->node;
    full.incarnation = r->self.incarnation;
    full.have = r->map.version;
    r->n_groups = h->n_groups;
    r->forming = h->n_groups == 0;
    r->handing = false;
    for (uint32_t i = 0; i < h->n_groups; i++) {
        const struct msg_group_status *g = &h->groups[i];
        r->forming = r->forming || g->phase != SHARD_PHASE_NONE;
        r->handing = r->handing || g->phase == SHARD_PHASE_FROZEN || g->copy == MSG_COPY_COMPLETE;
    }
    r->sent_at = io_now(r->o.io);
    await_answer(r);
    msg_heartbeat_encode(conn_out(r->line->conn), r->asked, &full);
}

void report_kick(struct report *r)
{
    r->kicked = true;
    if (r->state == RUNNING && r->asked == 0 && !r->collecting)
        schedule(r);
}

/* ---- life ---- */

struct report *report_create(const struct report_options *o)
{
    CHECK(o->n_placement >= 1 && o->n_placement <= REPORT_ADDRESSES);
    struct report *r = mem_zalloc(sizeof(*r));
    r->o = *o;
    memcpy(r->placement, o->placement, o->n_placement * sizeof(*o->placement));
    r->o.placement = r->placement;
    CHECK(o->n_learned <= LIMIT_GROUP_MEMBERS);
    (void)set_members(r, o->learned, o->n_learned);
    r->self = o->self;
    r->next.fn = on_next;
    r->answer.fn = on_answer_timeout;
    /* All nodes of a cluster start together: not all at the same member first. */
    r->target = (unsigned)(io_random(o->io) % o->n_placement);
    shard_map_init(&r->map);
    io_timer_set(o->io, &r->next, io_now(o->io));
    return r;
}

void report_destroy(struct report *r)
{
    if (!r)
        return;
    drop_line(r);
    io_timer_cancel(r->o.io, &r->next);
    io_timer_cancel(r->o.io, &r->answer);
    shard_map_close(&r->map);
    free(r);
}

void report_set_placement(struct report *r, const struct io_addr *placement, unsigned n)
{
    CHECK(n >= 1 && n <= REPORT_ADDRESSES);
    memcpy(r->placement, placement, n * sizeof(*placement));
    r->o.n_placement = n;
    r->n_members = 0; /* as they are told next: some may have been configured or not */
    r->target %= n;
}

bool report_connected(const struct report *r)
{
    return r->answered_at && io_now(r->o.io) - r->answered_at < ANSWER_NS;
}

uint32_t report_groups(const struct report *r)
{
    return r->n_groups;
}

const struct shard_map *report_map(const struct report *r)
{
    return &r->map;
}
