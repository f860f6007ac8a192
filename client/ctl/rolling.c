/* cluster rolling-restart: one node after the other, each only if all others are well.
 *
 * Of each: maintenance on -> leaderships handed away -> restarted -> heard again -> its replicas
 * have what their leaders had when it came back -> maintenance off. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/ctl/admin.h"
#include "client/ctl/output.h"
#include "client/ctl/playground.h"

#define NODES_MAX 256
#define HEALTHY_MS 60000u
#define BACK_MS 300000u
#define HANDOVER_MS 15000u
#define POLL_MS 100
#define MAINTENANCE_MS 600000u

struct rolling {
    struct ctl *ctl;
    struct playground pg;
    bool has_pg, plan;
    const char *command;
    const char *only[NODES_MAX];
    unsigned n_only;
    json_t *done;
};

static bool takes_part(const struct kvadmin_node *n)
{
    return strcmp(n->state, "lost") != 0 && strcmp(n->state, "removed") != 0;
}

/* Why the cluster cannot spare a node now; false: it can. */
static bool unwell(const struct kvadmin_status *s, char *why, size_t n)
{
    if (!s->authoritative) {
        snprintf(why, n, "the leader of placementd is not known");
        return true;
    }
    for (unsigned i = 0; i < s->n_nodes; i++) {
        const struct kvadmin_node *node = &s->nodes[i];
        bool up = strcmp(node->state, "up") == 0 || strcmp(node->state, "draining") == 0 ||
                  strcmp(node->state, "maintenance") == 0;
        if (takes_part(node) && !up && node->replicas) {
            snprintf(why, n, "node %s is %s", node->name, node->state);
            return true;
        }
    }
    for (unsigned i = 0; i < s->n_groups; i++) {
        if (s->groups[i].leader == 0) {
            snprintf(why, n, "group g%llu has no known leader",
                     (unsigned long long)s->groups[i].id);
            return true;
        }
    }
    return false;
}

/* A status, or false with the reason while there is none. */
static bool look(struct ctl *ctl, struct kvadmin_status *s, char *why, size_t n)
{
    *s = (struct kvadmin_status){0};
    return kvadmin_status(ctl->url, ctl->timeout_ms, s, why, n) == KV_OK;
}

static int wait_healthy(struct ctl *ctl, const char *before)
{
    char why[256] = "";
    uint64_t began = ctl_now_ms();
    for (;;) {
        struct kvadmin_status s;
        bool bad = true;
        if (look(ctl, &s, why, sizeof(why))) {
            bad = unwell(&s, why, sizeof(why));
            kvadmin_status_close(&s);
        }
        if (!bad)
            return CTL_OK;
        if (ctl_now_ms() - began > HEALTHY_MS)
            return ctl_fail(ctl, CTL_REFUSED, "REFUSED", "See: kvctl status",
                            "stopped before %s: %s", before, why);
        poll(NULL, 0, POLL_MS);
    }
}

static int maintenance(struct ctl *ctl, const char *node, unsigned ms)
{
    json_t *answer;
    int code = admin_call(
        ctl, "admin.node", true,
        json_pack("{s:s,s:s,s:I}", "action", "maintenance", "node", node, "for_ms", (json_int_t)ms),
        &answer);
    if (code == CTL_OK)
        json_decref(answer);
    return code;
}

/* ---- leaderships ---- */

/* How many groups the node leads. With `ordered` it is told to hand them over, and *ordered counts
 * those that it will: one with an operator under way is handed over by the node when it stops. */
static unsigned leads(struct ctl *ctl, const char *name, unsigned *ordered)
{
    struct kvadmin_status s;
    char why[256];
    unsigned n = 0;
    if (!look(ctl, &s, why, sizeof(why)))
        return 1; /* not known: ask again */
    const struct kvadmin_node *node = admin_find_node(&s, name);
    for (unsigned i = 0; node && i < s.n_groups; i++) {
        json_t *answer;
        if (s.groups[i].leader != node->id)
            continue;
        n++;
        if (ordered && admin_ask(ctl, "admin.group",
                                 json_pack("{s:s,s:I}", "action", "transfer-leader", "group",
                                           (json_int_t)s.groups[i].id),
                                 &answer, why, sizeof(why)) == KV_OK) {
            json_decref(answer);
            ++*ordered;
        }
    }
    kvadmin_status_close(&s);
    return n;
}

static unsigned hand_over(struct ctl *ctl, const char *name)
{
    uint64_t began = ctl_now_ms();
    unsigned ordered = 0, led = leads(ctl, name, &ordered), left = led;
    while (led - (left < led ? left : led) < ordered && ctl_now_ms() - began < HANDOVER_MS) {
        poll(NULL, 0, POLL_MS);
        left = leads(ctl, name, NULL);
    }
    return led - (left < led ? left : led);
}

/* ---- restarting ---- */

static void put(char *out, size_t n, const char *text, size_t len)
{
    size_t at = strlen(out);
    if (at + len + 1 < n) {
        memcpy(out + at, text, len);
        out[at + len] = '\0';
    }
}

/* {node}, {host} and {address} replaced. Names hold neither spaces nor quotes. */
static void fill_in(const char *command, const struct kvadmin_node *node, char *out, size_t n)
{
    struct {
        const char *mark, *text;
    } const marks[] = {
        {"{node}", node->name}, {"{host}", node->host}, {"{address}", node->address}};
    out[0] = '\0';
    while (*command) {
        size_t k = 0;
        while (k < 3 && strncmp(command, marks[k].mark, strlen(marks[k].mark)) != 0)
            k++;
        if (k < 3) {
            put(out, n, marks[k].text, strlen(marks[k].text));
            command += strlen(marks[k].mark);
        } else {
            put(out, n, command++, 1);
        }
    }
}

static int run_command(struct rolling *r, const struct kvadmin_node *node)
{
    char command[2048];
    fill_in(r->command, node, command, sizeof(command));
    fflush(stdout);
    int status = system(command);
    if (status == 0)
        return CTL_OK;
    return ctl_fail(r->ctl, CTL_SERVER, "COMMAND", "The node is still in maintenance.",
                    "'%s' failed (status %d)", command,
                    WIFEXITED(status) ? WEXITSTATUS(status) : status);
}

static int ask_user(struct rolling *r, const struct kvadmin_node *node)
{
    char line[64];
    printf("Run on %s (%s): systemctl restart shardd\nThen press Enter: ", node->name,
           node->host[0] ? node->host : node->address);
    fflush(stdout);
    return fgets(line, sizeof(line), stdin) ? CTL_OK
                                            : ctl_fail(r->ctl, CTL_REFUSED, "REFUSED", NULL,
                                                       "stopped; %s is in maintenance", node->name);
}

/* The process of the playground that is this node, or -1. */
static int process_of(const struct rolling *r, const struct kvadmin_node *node)
{
    char address[64];
    int at = r->has_pg ? playground_find(&r->pg, node->name) : -1;
    if (at < 0)
        return -1;
    struct process p = playground_process(&r->pg, (unsigned)at);
    snprintf(address, sizeof(address), "127.0.0.1:%u", p.client_port);
    return strcmp(address, node->address) == 0 ? at : -1;
}

static int restart(struct rolling *r, const struct kvadmin_node *node)
{
    if (r->command)
        return run_command(r, node);
    int at = process_of(r, node);
    if (at < 0)
        return ask_user(r, node);
    int code = playground_stop(r->ctl, &r->pg, at);
    if (code == CTL_OK && !playground_spawn(r->ctl, &r->pg, (unsigned)at))
        code = CTL_SERVER;
    return code;
}

/* ---- catching up ---- */

struct target {
    uint64_t group, match;
};

static const struct kvadmin_replica *replica_of(const struct kvadmin_group *g, uint32_t node)
{
    for (unsigned k = 0; k < g->n_replicas; k++)
        if (g->replica[k].node == node)
            return &g->replica[k];
    return NULL;
}

/* What the leaders of the groups in which the node votes have now. One that is being seeded takes
 * its time, and nobody's majority rests on it. */
static struct target *targets_of(const struct kvadmin_status *s, uint32_t node, unsigned *n)
{
    struct target *t = calloc(s->n_groups + 1, sizeof(*t));
    *n = 0;
    if (!t)
        abort();
    for (unsigned i = 0; i < s->n_groups; i++) {
        const struct kvadmin_group *g = &s->groups[i];
        const struct kvadmin_replica *leader = replica_of(g, g->leader);
        const struct kvadmin_replica *own = replica_of(g, node);
        if (own && leader && strcmp(own->role, "voter") == 0)
            t[(*n)++] = (struct target){g->id, leader->match};
    }
    return t;
}

static bool caught_up(const struct kvadmin_status *s, uint32_t node, const struct target *t,
                      unsigned n, char *why, size_t size)
{
    for (unsigned i = 0; i < n; i++) {
        const struct kvadmin_group *g = admin_find_group(s, t[i].group);
        const struct kvadmin_replica *r = g ? replica_of(g, node) : NULL;
        if (r && (r->match < t[i].match || g->leader == 0)) {
            snprintf(why, size, "g%llu has %llu of %llu entries there",
                     (unsigned long long)t[i].group, (unsigned long long)r->match,
                     (unsigned long long)t[i].match);
            return false;
        }
    }
    return true;
}

/* Until the node was heard after `since` and its replicas have caught up. */
static int wait_back(struct ctl *ctl, const char *name, uint64_t since)
{
    char why[256] = "";
    struct target *t = NULL;
    unsigned n = 0;
    for (;;) {
        struct kvadmin_status s;
        bool there = false, done = false;
        if (look(ctl, &s, why, sizeof(why))) {
            const struct kvadmin_node *node = admin_find_node(&s, name);
            there = node && s.authoritative && node->heard && node->heard_ms < ctl_now_ms() - since;
            if (there && !t)
                t = targets_of(&s, node->id, &n);
            if (there)
                done = caught_up(&s, node->id, t, n, why, sizeof(why)) &&
                       !unwell(&s, why, sizeof(why));
            else
                snprintf(why, sizeof(why), "it has not reported since");
            kvadmin_status_close(&s);
        }
        if (done || ctl_now_ms() - since > BACK_MS) {
            free(t);
            return done ? CTL_OK
                        : ctl_fail(ctl, CTL_NEGATIVE, "TIMEOUT",
                                   "It is still in maintenance. See its log.",
                                   "%s is not back after %us: %s", name, BACK_MS / 1000, why);
        }
        poll(NULL, 0, POLL_MS);
    }
}

/* ---- the command ---- */

static int one(struct rolling *r, const struct kvadmin_node *node)
{
    char before[100];
    snprintf(before, sizeof(before), "restarting %s", node->name);
    int code = wait_healthy(r->ctl, before);
    if (code == CTL_OK)
        code = maintenance(r->ctl, node->name, MAINTENANCE_MS);
    if (code != CTL_OK)
        return code;
    unsigned handed = hand_over(r->ctl, node->name);
    uint64_t began = ctl_now_ms();
    code = restart(r, node);
    uint64_t up = ctl_now_ms();
    if (code == CTL_OK)
        code = wait_back(r->ctl, node->name, up);
    if (code == CTL_OK)
        code = maintenance(r->ctl, node->name, 0);
    if (code != CTL_OK)
        return code;
    uint64_t end = ctl_now_ms();
    char count[48];
    if (r->ctl->output != CTL_JSON)
        printf("%s: %s handed over, restarted in %.1f s, caught up after %.1f s\n", node->name,
               admin_count(handed, "leadership", count), (double)(up - began) / 1000,
               (double)(end - up) / 1000);
    fflush(stdout);
    json_array_append_new(r->done, json_pack("{s:s,s:i,s:I,s:I}", "name", node->name, "handed_over",
                                             (int)handed, "restart_ms", (json_int_t)(up - began),
                                             "caught_up_ms", (json_int_t)(end - up)));
    return CTL_OK;
}

static bool wanted(const struct rolling *r, const struct kvadmin_node *n)
{
    if (!takes_part(n))
        return false;
    for (unsigned i = 0; i < r->n_only; i++)
        if (strcmp(r->only[i], n->name) == 0)
            return true;
    return r->n_only == 0;
}

static void say_plan(struct rolling *r, const struct kvadmin_node *n)
{
    char command[2048] = "by hand: systemctl restart shardd", count[48];
    if (r->command)
        fill_in(r->command, n, command, sizeof(command));
    else if (process_of(r, n) >= 0)
        snprintf(command, sizeof(command), "process of the playground in %s", r->pg.dir);
    json_array_append_new(r->done, json_pack("{s:s,s:I,s:s}", "name", n->name, "leaders",
                                             (json_int_t)n->leaders, "restart", command));
    if (r->ctl->output != CTL_JSON)
        printf("%s: hand over %s, restart (%s), wait until it has caught up\n", n->name,
               admin_count(n->leaders, "leadership", count), command);
}

static int all(struct rolling *r, const struct kvadmin_status *s)
{
    for (unsigned i = 0; i < s->n_nodes; i++) {
        const struct kvadmin_node *n = &s->nodes[i];
        if (!wanted(r, n))
            continue;
        if (r->plan) {
            say_plan(r, n);
            continue;
        }
        bool by_hand = !r->command && process_of(r, n) < 0;
        if (by_hand && !isatty(STDIN_FILENO))
            return ctl_fail(r->ctl, CTL_REFUSED, "REFUSED",
                            "Give --command 'ssh {node} systemctl restart shardd', or --dir of the "
                            "playground.",
                            "how is %s restarted? It is no process of a playground here", n->name);
        int code = one(r, n);
        if (code != CTL_OK)
            return code;
    }
    return CTL_OK;
}

int cmd_rolling_restart(struct ctl *ctl, int argc, char **argv)
{
    static const struct option options[] = {{"node", required_argument, NULL, 'n'},
                                            {"command", required_argument, NULL, 'c'},
                                            {"dir", required_argument, NULL, 'd'},
                                            {"plan", no_argument, NULL, 'p'},
                                            {0}};
    struct rolling r = {.ctl = ctl, .plan = ctl->dry_run};
    struct kvadmin_status s;
    char count[48];
    const char *dir = "./run", *given = NULL;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == '?')
            return CTL_USAGE;
        if (c == 'n' && r.n_only < NODES_MAX)
            r.only[r.n_only++] = optarg;
        else if (c == 'c')
            r.command = optarg;
        else if (c == 'd')
            dir = given = optarg;
        r.plan = r.plan || c == 'p';
    }
    if (optind < argc)
        return ctl_usage(ctl, "cluster rolling-restart", "what is '%s'?", argv[optind]);
    r.has_pg = playground_open(ctl, dir, &r.pg);
    if (given && !r.has_pg)
        return ctl_fail(ctl, CTL_NEGATIVE, "NOT_FOUND", NULL, "there is no playground in %s", dir);
    int code = admin_status(ctl, &s);
    if (code != CTL_OK)
        return code;
    r.done = json_array();
    for (unsigned i = 0; i < r.n_only && code == CTL_OK; i++)
        if (!admin_find_node(&s, r.only[i]))
            code = admin_no_node(ctl, &s, r.only[i]);
    if (code == CTL_OK)
        code = all(&r, &s);
    if (code == CTL_OK && ctl->output == CTL_JSON)
        out_json(json_pack("{s:O}", "nodes", r.done));
    else if (code == CTL_OK && !r.plan)
        printf("%s restarted\n", admin_count(json_array_size(r.done), "node", count));
    json_decref(r.done);
    kvadmin_status_close(&s);
    return code;
}
