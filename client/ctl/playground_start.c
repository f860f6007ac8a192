/* Starting: ports first, then all processes at once, then wait for what a user waits for. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/ctl/admin.h"
#include "client/ctl/output.h"
#include "client/ctl/playground.h"
#include "client/kvadmin.h"

#define READY_MS 30000u
#define POLL_MS 25
#define ASK_MS 1000u
#define LOG_LINES 10
/* The kernel takes down the sockets of a killed process a moment after it is gone (io_uring). */
#define LINGER_MS 2000

static int port_fails(const struct ctl *ctl, const struct process *p, unsigned port)
{
    char who[128];
    bool owned, taken;
    for (unsigned waited = 0;; waited += POLL_MS) {
        taken = process_port_taken(port, who, sizeof(who), &owned);
        if (!taken || owned || waited >= LINGER_MS)
            break;
        poll(NULL, 0, POLL_MS);
    }
    if (!taken)
        return CTL_OK;
    return ctl_fail(ctl, CTL_REFUSED, "ADDRESS_IN_USE",
                    "Stop that one, or take other ports: --base-port N (and --dir, for a second "
                    "playground).",
                    "port %u, which %s needs, is taken by %s", port, p->name, who);
}

static int make_dirs(const struct ctl *ctl, const struct playground *pg)
{
    static const char *const subs[] = {"log", "pid"};
    char path[600];
    for (unsigned i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/%s", pg->dir, subs[i]);
        if (mkdir(path, 0700) != 0 && errno != EEXIST)
            return ctl_fail(ctl, CTL_SERVER, "IO", NULL, "%s: %s", path, strerror(errno));
    }
    return CTL_OK;
}

/* Starts what is not running; *n says how many that were. */
static int spawn(const struct ctl *ctl, const struct playground *pg, int only, unsigned *n)
{
    *n = 0;
    for (int pass = 0; pass < 2; pass++) { /* all ports are looked at before anything starts */
        for (unsigned i = 0; i < playground_count(pg); i++) {
            struct process p = playground_process(pg, i);
            if ((only >= 0 && i != (unsigned)only) || process_pid(&p) || playground_is_gone(pg, i))
                continue;
            int code = CTL_OK;
            if (pass == 0)
                code = port_fails(ctl, &p, p.client_port);
            if (pass == 0 && code == CTL_OK)
                code = port_fails(ctl, &p, p.peer_port);
            if (pass == 0 && code == CTL_OK)
                code = port_fails(ctl, &p, p.http_port);
            if (code != CTL_OK)
                return code;
            if (pass == 1 && !playground_spawn(ctl, pg, i))
                return CTL_SERVER;
            *n += (unsigned)pass;
        }
    }
    return CTL_OK;
}

/* A process that should run and does not: its name, its last words and the likely fix. */
static bool somebody_died(const struct ctl *ctl, const struct playground *pg, int only)
{
    while (waitpid(-1, NULL, WNOHANG) > 0)
        continue;
    for (unsigned i = 0; i < playground_count(pg); i++) {
        struct process p = playground_process(pg, i);
        if ((only >= 0 && i != (unsigned)only) || process_pid(&p) || playground_is_gone(pg, i))
            continue;
        const char *fix = process_explain(&p, LOG_LINES);
        ctl_fail(ctl, CTL_SERVER, "DIED", fix, "%s (%s) has ended", p.name, p.program);
        return true;
    }
    return false;
}

enum progress { WAITS_PLACEMENT, WAITS_NODES, WAITS_INIT, WAITS_LEADERS, READY };

/* `begin`: when we started the processes. A node that was heard before that does not count. */
static enum progress look(const struct playground *pg, int only, unsigned long long begin,
                          char *what, size_t n)
{
    struct kvadmin_status s;
    char msg[256];
    bool answered = kvadmin_status(pg->url, ASK_MS, &s, msg, sizeof(msg)) == KV_OK;
    if (!answered || !s.authoritative) {
        if (answered)
            kvadmin_status_close(&s);
        snprintf(what, n, "placementd has no leader yet");
        return WAITS_PLACEMENT;
    }
    unsigned up = 0, led = 0;
    bool mine = only < 0;
    const struct process p = playground_process(pg, only < 0 ? 0 : (unsigned)only);
    for (unsigned i = 0; i < s.n_nodes; i++) {
        bool is_up = strcmp(s.nodes[i].state, "up") == 0;
        bool since = s.nodes[i].heard && s.nodes[i].heard_ms < ctl_now_ms() - begin;
        up += is_up && s.nodes[i].disk_size > 0; /* before that nothing is moved there */
        mine = mine || (is_up && since && strcmp(s.nodes[i].name, p.name) == 0);
    }
    for (unsigned i = 0; i < s.n_groups; i++)
        led += s.groups[i].leader != 0;
    enum progress at = READY;
    if (only >= (int)pg->members ? !mine : only < 0 && up < pg->nodes) {
        if (only < 0)
            snprintf(what, n, "%u of %u nodes have registered", up, pg->nodes);
        else
            snprintf(what, n, "%s has not registered", p.name);
        at = WAITS_NODES;
    } else if (!s.n_groups && only < 0) {
        at = WAITS_INIT;
    } else if (led < s.n_groups && only < 0) {
        snprintf(what, n, "%u of %u groups have a leader", led, s.n_groups);
        at = WAITS_LEADERS;
    }
    kvadmin_status_close(&s);
    return at;
}

static int init_cluster(const struct ctl *ctl, const struct playground *pg)
{
    char msg[512] = "";
    unsigned replicas = pg->nodes >= 3 ? 3 : 1;
    kv_err e = kvadmin_init(pg->url, 5000, pg->groups, replicas, msg, sizeof(msg));
    if (e == KV_OK || e == KV_EXISTS)
        return CTL_OK;
    return ctl_fail_kv(ctl, e, false, msg);
}

static int wait_ready(const struct ctl *ctl, const struct playground *pg, int only,
                      unsigned long long begin)
{
    uint64_t until = ctl_now_ms() + (ctl->timeout_given ? ctl->timeout_ms : READY_MS);
    char what[256] = "";
    for (;;) {
        if (somebody_died(ctl, pg, only))
            return CTL_SERVER;
        enum progress at = look(pg, only, begin, what, sizeof(what));
        if (at == READY)
            return CTL_OK;
        if (at == WAITS_INIT) {
            int code = init_cluster(ctl, pg);
            if (code != CTL_OK)
                return code;
        }
        if (ctl_now_ms() >= until)
            break;
        poll(NULL, 0, POLL_MS);
    }
    struct process p = playground_process(pg, only >= 0 ? (unsigned)only : pg->members);
    process_explain(&p, LOG_LINES);
    return ctl_fail(ctl, CTL_SERVER, "TIMEOUT",
                    "The processes are running: look into the logs, or kvctl playground stop.",
                    "the cluster is not ready in time: %s", what);
}

/* ---- more members of placementd ---- */

/* Not there yet: added and not in the group, or of an odd number without a vote. */
static unsigned without_vote(const json_t *answer)
{
    const json_t *list = json_object_get(answer, "members"), *m;
    unsigned expected = 0, standby = 0, voters = 0;
    size_t i;
    json_array_foreach(list, i, m)
    {
        const char *role = admin_str(m, "role");
        expected += strcmp(role, "expected") == 0;
        standby += strcmp(role, "standby") == 0;
        voters += strcmp(role, "voter") == 0;
    }
    return (expected + standby + voters) % 2 ? expected + standby : expected;
}

static int add_members(struct ctl *ctl, const struct playground *pg)
{
    struct ctl at = *ctl;
    json_t *answer;
    char msg[256] = "";
    at.url = pg->url;
    for (unsigned i = pg->old_members; i < pg->members; i++) {
        char peer[32];
        snprintf(peer, sizeof(peer), "127.0.0.1:%u", playground_process(pg, i).peer_port);
        int code = admin_call(
            &at, "admin.member", true,
            json_pack("{s:s,s:I,s:s}", "action", "add", "id", (json_int_t)(i + 1), "peer", peer),
            &answer);
        if (code != CTL_OK)
            return code;
        json_decref(answer);
    }
    uint64_t until = ctl_now_ms() + (ctl->timeout_given ? ctl->timeout_ms : READY_MS);
    unsigned left = 1;
    while (left && ctl_now_ms() < until) {
        poll(NULL, 0, POLL_MS * 4);
        for (unsigned i = pg->old_members; i < pg->members; i++)
            if (somebody_died(ctl, pg, (int)i))
                return CTL_SERVER;
        if (admin_ask(&at, "admin.member", json_pack("{s:s}", "action", "list"), &answer, msg,
                      sizeof(msg)) != KV_OK)
            continue;
        left = without_vote(answer);
        json_decref(answer);
    }
    if (!left)
        return CTL_OK;
    return ctl_fail(ctl, CTL_SERVER, "TIMEOUT", "See: kvctl cluster members",
                    "the new members of placementd are not in the group yet");
}

int playground_start(struct ctl *ctl, struct playground *pg, int only)
{
    unsigned started = 0;
    uint64_t begin = ctl_now_ms();
    int code = make_dirs(ctl, pg);
    if (code == CTL_OK && only < 0 && !playground_save(ctl, pg))
        code = CTL_SERVER;
    if (code == CTL_OK)
        code = spawn(ctl, pg, only, &started);
    /* A node started alone may be needed to make the majority of placementd: do not wait then. */
    if (code == CTL_OK && (only < 0 || (started && only >= (int)pg->members)))
        code = wait_ready(ctl, pg, only, begin);
    if (code == CTL_OK && only < 0 && pg->members > pg->old_members)
        code = add_members(ctl, pg);
    if (code != CTL_OK)
        return code;
    double seconds = (double)(ctl_now_ms() - begin) / 1000;
    if (ctl->output == CTL_JSON)
        out_json(json_pack("{s:i,s:f,s:s}", "started", (int)started, "seconds", seconds, "url",
                           pg->url));
    else
        printf("%u processes started, ready after %.1f s\n%s\n", started, seconds, pg->url);
    return CTL_OK;
}
