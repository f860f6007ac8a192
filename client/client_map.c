/* Where the map comes from: connection number 0, to any one address of the URL or, when none of
 * them answers, of the nodes that the map names. It asks map.watch once and so hears of every
 * change; map.get refreshes on demand (one at a time) and, now and then, proves that the server
 * is alive. */
#include <stdio.h>

#include "client/client_core_int.h"
#include "client/retry.h"

/* The next address to try: the URL's first, then the nodes'. */
static void next_address(struct client_core *core, char out[64])
{
    unsigned n = core->n_seeds + core->routes.map.n_nodes;
    const char *addr = "";
    for (unsigned tries = 0; tries < n && addr[0] == '\0'; tries++) {
        unsigned i = core->next_addr++ % n;
        addr = i < core->n_seeds ? core->seeds[i]
                                 : core->routes.map.nodes[i - core->n_seeds].client_addr;
    }
    snprintf(out, 64, "%s", addr);
}

static void ask(struct client_conn *c, const char *method, uint32_t msgid, uint64_t now)
{
    struct client_core *core = c->core;
    rpc_put_request(&c->out, msgid, method);
    mp_put_array(&c->out, 1);
    mp_put_map(&c->out, 1);
    mp_put_str(&c->out, "have");
    mp_put_uint(&c->out, core->routes.map.version);
    core->map_asked = true;
    core->want_refresh = false;
    core->map_at = now;
    client_conn_dirty(c);
}

static void set_timer(struct client_core *core, uint64_t now)
{
    bool eager = core->want_refresh || core->map_asked || !list_empty(&core->want_map);
    wheel_set(&core->wheel, &core->conns[0]->timer, now + (eager ? MAP_EAGER_NS : MAP_POLL_NS));
}

void client_map_kick(struct client_core *core, uint64_t now)
{
    struct client_conn *c = core->conns[0];
    if (c->state == CONN_DOWN) {
        if (now < c->retry_at)
            return; /* its timer is set */
        next_address(core, c->addr);
        client_conn_open(c, now);
    } else if (c->state == CONN_READY && !core->map_asked && core->want_refresh) {
        ask(c, "map.get", MSGID_MAP, now);
        set_timer(core, now);
    } else if (c->state == CONN_READY && c->timer.at > now + MAP_EAGER_NS) {
        set_timer(core, now);
    }
}

void client_map_on_ready(struct client_conn *c, uint64_t now)
{
    struct client_core *core = c->core;
    core->no_watch = false;
    ask(c, "map.watch", MSGID_WATCH, now);
    set_timer(core, now);
}

/* Session tokens may be here before the map. */
static void check_cluster(struct client_core *core)
{
    static const uint8_t none[16];
    if (memcmp(core->routes.map.cluster, none, 16) != 0 &&
        !client_session_check(&core->session, core->routes.map.cluster))
        client_core_log(core, 2, "a session token of another cluster is not heeded");
}

bool client_map_take(struct client_core *core, struct slice raw, bool redirect, uint64_t now)
{
    bool changed = false;
    enum err e = route_cache_merge(&core->routes, raw, redirect, &changed);
    if (e != ERR_OK) {
        client_core_log(core, 2, "map refused: %s", err_text(e));
        return false;
    }
    core->stats.map_version = core->routes.map.version;
    check_cluster(core);
    if (changed) {
        core->stats.map_updates++;
        client_core_map_changed(core, now);
    }
    return true;
}

void client_map_on_reply(struct client_conn *c, const struct rpc_message *m, uint64_t now)
{
    struct client_core *core = c->core;
    core->map_asked = false;
    core->map_at = now;
    if (m->error.n) {
        struct rpc_error e;
        rpc_get_error(m->error, &e);
        if (m->msgid == MSGID_WATCH && e.err == ERR_UNKNOWN_METHOD && !core->no_watch) {
            core->no_watch = true;
            ask(c, "map.get", MSGID_MAP, now);
        } else {
            /* This one cannot tell (no leader, starting): the next may. */
            client_core_log(core, 1, "no map from %s: %s", c->addr, err_text(e.err));
            client_conn_drop(c, e.err, now);
            return;
        }
    } else {
        struct mp_reader r = mp_reader_of(m->result);
        if (!mp_get_nil(&r) && !client_map_take(core, m->result, false, now)) {
            client_conn_drop(c, ERR_BAD_REQUEST, now);
            return;
        }
    }
    set_timer(core, now);
}

void client_map_on_timer(struct client_conn *c, uint64_t now)
{
    struct client_core *core = c->core;
    if (c->state == CONN_DOWN) {
        client_map_kick(core, now);
        return;
    }
    if (core->map_asked) {
        if (now - core->map_at >= 2 * CONN_SILENCE_NS) {
            client_conn_drop(c, ERR_TIMEOUT, now);
            return;
        }
    } else if (core->want_refresh || !list_empty(&core->want_map) ||
               now - core->map_at >= MAP_POLL_NS) {
        ask(c, "map.get", MSGID_MAP, now);
    }
    set_timer(core, now);
}

void client_map_on_down(struct client_conn *c, uint64_t now)
{
    struct client_core *core = c->core;
    core->map_asked = false;
    /* The first round through the addresses goes at once: one dead member costs nothing. */
    if (c->failures >= core->n_seeds)
        c->retry_at = now + retry_delay(&core->rng, c->failures - core->n_seeds + 3, 0);
    else
        c->retry_at = now;
    wheel_set(&core->wheel, &c->timer, c->retry_at);
}
