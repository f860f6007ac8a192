#include "client/ctl/playground.h"

#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/ctl/output.h"

#define STOP_MS 10000u
#define KILL_MS 5000u

unsigned playground_count(const struct playground *pg)
{
    return pg->members + pg->nodes;
}

bool playground_is_member(const struct playground *pg, unsigned i)
{
    return i < pg->members;
}

struct process playground_process(const struct playground *pg, unsigned i)
{
    struct process p = {0};
    bool member = playground_is_member(pg, i);
    unsigned k = member ? i + 1 : i - pg->members + 1;
    snprintf(p.name, sizeof(p.name), "%c%u", member ? 'p' : 'n', k);
    snprintf(p.dir, sizeof(p.dir), "%s", pg->dir);
    p.program = member ? "placementd" : "shardd";
    p.client_port = pg->base_port + k + (member ? 100 : 0);
    p.peer_port = pg->base_port + k + (member ? 300 : 200);
    p.http_port = pg->base_port + k + (member ? 500 : 400);
    return p;
}

int playground_find(const struct playground *pg, const char *name)
{
    for (unsigned i = 0; i < playground_count(pg); i++)
        if (strcmp(playground_process(pg, i).name, name) == 0)
            return (int)i;
    return -1;
}

static bool set_is_for(const char *set, bool member)
{
    if (strncmp(set, "log.", 4) == 0)
        return true;
    return (strncmp(set, "placement.", 10) == 0) == member;
}

bool playground_load(const struct ctl *ctl, struct playground *pg)
{
    bool ok = playground_read(pg);
    if (!ok)
        ctl_fail(ctl, CTL_SERVER, "CORRUPT", NULL, "%s/playground.json is damaged", pg->dir);
    return ok;
}

bool playground_save(const struct ctl *ctl, const struct playground *pg)
{
    char path[600];
    snprintf(path, sizeof(path), "%s/playground.json", pg->dir);
    json_t *o =
        json_pack("{s:i,s:i,s:i,s:i,s:i,s:i,s:i}", "schema", 1, "base_port", (int)pg->base_port,
                  "nodes", (int)pg->nodes, "groups", (int)pg->groups, "cores", (int)pg->cores,
                  "placements", (int)pg->members, "founders", (int)pg->founders);
    json_t *sets = json_array();
    for (unsigned i = 0; i < pg->n_sets; i++)
        json_array_append_new(sets, json_string(pg->sets[i]));
    json_object_set_new(o, "set", sets);
    bool ok = json_dump_file(o, path, JSON_INDENT(2)) == 0;
    json_decref(o);
    if (!ok)
        ctl_fail(ctl, CTL_SERVER, "IO", NULL, "%s: %s", path, strerror(errno));
    return ok;
}

/* Our own directory: the daemons are beside us. */
static bool program_path(const char *program, char *out, size_t n)
{
    ssize_t len = readlink("/proc/self/exe", out, n - 1);
    out[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(out, '/');
    if (!slash)
        return false;
    size_t at = (size_t)(slash + 1 - out);
    snprintf(out + at, n - at, "%s", program);
    return access(out, X_OK) == 0;
}

static void member_list(const struct playground *pg, unsigned i, char out[PLAYGROUND_ADDRESSES])
{
    size_t at = 0;
    out[0] = '\0';
    for (unsigned k = 0; k < pg->members && at + 32 < PLAYGROUND_ADDRESSES; k++)
        if (i < pg->founders ? k < pg->founders : k == i || !playground_is_gone(pg, k))
            at += (size_t)snprintf(out + at, PLAYGROUND_ADDRESSES - at, "%s%u=127.0.0.1:%u",
                                   at ? "," : "", k + 1, pg->base_port + 301 + k);
}

/* A process's command line. */
struct command_line {
    char path[PATH_MAX], set[6][1024], host[40], cores[16];
    const char *argv[20 + 2 * PLAYGROUND_SETS_MAX];
    unsigned n;
};

static void add_argument(struct command_line *c, const char *option, const char *value)
{
    c->argv[c->n++] = option;
    c->argv[c->n++] = value;
}

static bool command_line_of(const struct ctl *ctl, const struct playground *pg, unsigned i,
                            struct command_line *c)
{
    struct process p = playground_process(pg, i);
    char list[PLAYGROUND_ADDRESSES];
    bool member = playground_is_member(pg, i);
    *c = (struct command_line){.argv = {p.program}, .n = 1};
    if (!program_path(p.program, c->path, sizeof(c->path))) {
        ctl_fail(ctl, CTL_SERVER, "NO_PROGRAM", "Build it first: make", "there is no %s", c->path);
        return false;
    }
    if (member)
        snprintf(c->set[0], sizeof(c->set[0]), "node.id=%u", i + 1);
    else
        snprintf(c->set[0], sizeof(c->set[0]), "node.id=%s", p.name);
    snprintf(c->set[1], sizeof(c->set[1]), "node.data-dir=%s/%s", p.dir, p.name);
    snprintf(c->set[2], sizeof(c->set[2]), "listen.client=127.0.0.1:%u", p.client_port);
    snprintf(c->set[3], sizeof(c->set[3]), "listen.peer=127.0.0.1:%u", p.peer_port);
    /* Founders have to agree on who they are; the others join whoever is there. */
    if (member)
        member_list(pg, i, list);
    else
        playground_addresses(pg, 101, false, pg->members, list);
    snprintf(c->set[4], sizeof(c->set[4]), "cluster.%s=%s", member ? "members" : "placement", list);
    snprintf(c->set[5], sizeof(c->set[5]), "listen.http=127.0.0.1:%u", p.http_port);
    for (unsigned k = 0; k < 6; k++)
        add_argument(c, "--set", c->set[k]);
    if (!member) {
        /* Every node plays a host of its own, else no group could have three replicas here. */
        snprintf(c->host, sizeof(c->host), "node.host=%s", p.name);
        snprintf(c->cores, sizeof(c->cores), "%u", pg->cores);
        add_argument(c, "--set", c->host);
        add_argument(c, "--cores", c->cores);
    } else if (i >= pg->founders) {
        add_argument(c, "--set", "cluster.join=true");
    }
    for (unsigned k = 0; k < pg->n_sets; k++)
        if (set_is_for(pg->sets[k], member))
            add_argument(c, "--set", pg->sets[k]);
    return true;
}

bool playground_spawn(const struct ctl *ctl, const struct playground *pg, unsigned i)
{
    struct process p = playground_process(pg, i);
    struct command_line c;
    char msg[1024];
    if (!command_line_of(ctl, pg, i, &c))
        return false;
    if (process_spawn(&p, c.path, (char *const *)c.argv, msg, sizeof(msg)))
        return true;
    ctl_fail(ctl, CTL_SERVER, "START", NULL, "%s cannot be started: %s", p.name, msg);
    return false;
}

/* Has the daemons look at the settings, so that a wrong one is refused before it is kept. */
static int check_sets(const struct ctl *ctl, const struct playground *pg)
{
    const unsigned of_each_kind[] = {0, pg->members};
    for (unsigned k = 0; k < 2; k++) {
        struct command_line c;
        char said[512];
        if (!command_line_of(ctl, pg, of_each_kind[k], &c))
            return CTL_SERVER;
        c.argv[c.n++] = "--check-config";
        if (!process_try(c.path, (char *const *)c.argv, said, sizeof(said)))
            return ctl_fail(ctl, CTL_USAGE, "CONFIG", "Nothing was started or changed.", "%s",
                            said);
    }
    return CTL_OK;
}

/* ---- stop, status, destroy ---- */

/* Stops the processes from..to-1 together: SIGTERM to all, one wait, then SIGKILL. */
static int stop_range(const struct ctl *ctl, const struct playground *pg, unsigned from,
                      unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        struct process p = playground_process(pg, i);
        process_signal(&p, false);
    }
    int code = CTL_OK;
    for (unsigned i = from; i < to; i++) {
        struct process p = playground_process(pg, i);
        if (!process_wait_end(&p, STOP_MS)) {
            fprintf(stderr, "%s does not stop by itself, it is killed\n", p.name);
            process_signal(&p, true);
            if (!process_wait_end(&p, KILL_MS))
                code = ctl_fail(ctl, CTL_SERVER, "TIMEOUT", NULL, "%s cannot be stopped (pid %d)",
                                p.name, (int)process_pid(&p));
        }
        if (!process_pid(&p))
            process_forget(&p);
    }
    return code;
}

/* What a power cut or a crash does: nothing is handed over, nothing is said. */
static int kill_one(const struct ctl *ctl, const struct playground *pg, unsigned i)
{
    struct process p = playground_process(pg, i);
    pid_t pid = process_pid(&p);
    if (!pid)
        return ctl_fail(ctl, CTL_NEGATIVE, "NOT_RUNNING", "See: kvctl playground status",
                        "%s does not run", p.name);
    process_signal(&p, true);
    if (!process_wait_end(&p, KILL_MS))
        return ctl_fail(ctl, CTL_SERVER, "TIMEOUT", NULL, "%s cannot be killed (pid %d)", p.name,
                        (int)pid);
    process_forget(&p);
    if (ctl->output == CTL_JSON)
        out_json(json_pack("{s:s,s:i}", "killed", p.name, "pid", (int)pid));
    else
        printf("%s (pid %d) is killed. Back: kvctl playground start %s\n", p.name, (int)pid,
               p.name);
    return CTL_OK;
}

int playground_stop(const struct ctl *ctl, const struct playground *pg, int only)
{
    if (only >= 0)
        return stop_range(ctl, pg, (unsigned)only, (unsigned)only + 1);
    /* The nodes first: they report to placementd to the end. */
    int a = stop_range(ctl, pg, pg->members, playground_count(pg));
    int b = stop_range(ctl, pg, 0, pg->members);
    return a ? a : b;
}

static int stop(const struct ctl *ctl, const struct playground *pg, int only)
{
    unsigned running = 0;
    for (unsigned i = 0; i < playground_count(pg); i++) {
        struct process p = playground_process(pg, i);
        running += (only < 0 || only == (int)i) && process_pid(&p);
    }
    int code = playground_stop(ctl, pg, only);
    if (code != CTL_OK)
        return code;
    if (ctl->output == CTL_JSON)
        out_json(json_pack("{s:i}", "stopped", (int)running));
    else if (only >= 0)
        printf("%s %s\n", playground_process(pg, (unsigned)only).name,
               running ? "is stopped" : "did not run");
    else
        printf("%u processes stopped\n", running);
    return CTL_OK;
}

static int status(const struct ctl *ctl, const struct playground *pg)
{
    json_t *list = json_array();
    struct out_table *t =
        ctl->output == CTL_JSON ? NULL : out_table_new(ctl, "NAME PROGRAM STATE >PID ADDRESS HTTP");
    bool all = true;
    for (unsigned i = 0; i < playground_count(pg); i++) {
        struct process p = playground_process(pg, i);
        char address[32], http[32];
        pid_t pid = process_pid(&p);
        bool gone = playground_is_gone(pg, i);
        const char *state = pid ? "running" : gone ? "removed" : "stopped";
        all = all && (pid || gone);
        snprintf(address, sizeof(address), "127.0.0.1:%u", p.client_port);
        snprintf(http, sizeof(http), "127.0.0.1:%u", p.http_port);
        json_array_append_new(list,
                              json_pack("{s:s,s:s,s:o,s:s,s:s,s:s}", "program", p.program, "name",
                                        p.name, "pid", pid ? json_integer(pid) : json_null(),
                                        "state", state, "address", address, "http", http));
        if (!t)
            continue;
        out_table_row(t);
        out_table_cell(t, "%s", p.name);
        out_table_cell(t, "%s", p.program);
        out_table_cell(t, "%s", state);
        pid ? out_table_cell(t, "%d", (int)pid) : out_table_cell(t, "-");
        out_table_cell(t, "%s", address);
        out_table_cell(t, "%s", http);
    }
    if (t) {
        out_table_end(t);
        printf("URL: %s\n", pg->url);
        json_decref(list);
    } else {
        out_json(json_pack("{s:o,s:s}", "processes", list, "url", pg->url));
    }
    return all ? CTL_OK : CTL_NEGATIVE;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int destroy(const struct ctl *ctl, const struct playground *pg)
{
    char question[700], path[600];
    const char *name = strrchr(pg->dir, '/');
    snprintf(question, sizeof(question), "This stops the playground and deletes all data in %s.",
             pg->dir);
    if (!ctl_confirm(ctl, question, name ? name + 1 : pg->dir))
        return CTL_REFUSED;
    int code = playground_stop(ctl, pg, -1);
    if (code != CTL_OK)
        return code;
    /* Only what the playground made: the directory may be one that others use too. */
    for (unsigned i = 0; i < playground_count(pg) + 2; i++) {
        unsigned n = playground_count(pg);
        struct process p = playground_process(pg, i < n ? i : 0);
        snprintf(path, sizeof(path), "%s/%s", pg->dir, i < n ? p.name : i == n ? "log" : "pid");
        if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
            return ctl_fail(ctl, CTL_SERVER, "IO", NULL, "%s: %s", path, strerror(errno));
    }
    snprintf(path, sizeof(path), "%s/playground.json", pg->dir);
    unlink(path);
    rmdir(pg->dir);
    if (ctl->output == CTL_JSON)
        out_json(json_pack("{s:s}", "destroyed", pg->dir));
    else
        printf("the playground is stopped, its data in %s deleted\n", pg->dir);
    return CTL_OK;
}

/* ---- the command ---- */

struct asked {
    unsigned long long nodes, groups, cores, base_port, placements; /* 0: not given */
    const char *dir;
    const char *sets[PLAYGROUND_SETS_MAX];
    unsigned n_sets;
};

static bool parse(struct ctl *ctl, int argc, char **argv, struct asked *a)
{
    static const struct option options[] = {
        {"nodes", required_argument, NULL, 'n'},     {"placements", required_argument, NULL, 'm'},
        {"groups", required_argument, NULL, 'g'},    {"cores", required_argument, NULL, 'c'},
        {"base-port", required_argument, NULL, 'p'}, {"dir", required_argument, NULL, 'd'},
        {"set", required_argument, NULL, 's'},       {0}};
    *a = (struct asked){.dir = "./run"};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        unsigned long long *at = o == 'n'   ? &a->nodes
                                 : o == 'g' ? &a->groups
                                 : o == 'c' ? &a->cores
                                 : o == 'm' ? &a->placements
                                            : &a->base_port;
        unsigned long long max = o == 'n'   ? PLAYGROUND_NODES_MAX
                                 : o == 'g' ? 16384
                                 : o == 'c' ? 64
                                 : o == 'm' ? PLAYGROUND_MEMBERS_MAX
                                            : 65000;
        if (o == '?')
            return false;
        if (o == 'd')
            a->dir = optarg;
        else if (o == 's' && a->n_sets == PLAYGROUND_SETS_MAX)
            return ctl_usage(ctl, "playground", "at most %u --set", PLAYGROUND_SETS_MAX), false;
        else if (o == 's')
            a->sets[a->n_sets++] = optarg;
        else if (!ctl_parse_u64(optarg, at) || *at < 1 || *at > max)
            return ctl_usage(ctl, "playground", "'%s' is not a number from 1 to %llu", optarg, max),
                   false;
    }
    return true;
}

/* What is there, and what was asked for on top. */
static int settle(struct ctl *ctl, const struct asked *a, bool start, struct playground *pg)
{
    if (start && mkdir(a->dir, 0700) != 0 && errno != EEXIST)
        return ctl_fail(ctl, CTL_SERVER, "IO", NULL, "%s: %s", a->dir, strerror(errno));
    char real[PATH_MAX];
    if (!realpath(a->dir, real) || strlen(real) >= 400)
        return ctl_fail(ctl, CTL_NEGATIVE, "NOT_FOUND", "Start one: kvctl playground start",
                        "there is no playground in %s", a->dir);
    *pg = (struct playground){.base_port = 7000,
                              .nodes = 3,
                              .groups = 8,
                              .cores = 1,
                              .members = PLAYGROUND_MEMBERS,
                              .founders = PLAYGROUND_MEMBERS};
    memcpy(pg->dir, real, strlen(real) + 1); /* its length was looked at above */
    if (!playground_load(ctl, pg))
        return CTL_SERVER;
    if (!start && !pg->exists)
        return ctl_fail(ctl, CTL_NEGATIVE, "NOT_FOUND", "Start one: kvctl playground start",
                        "there is no playground in %s", real);
    if (pg->exists &&
        ((a->base_port && a->base_port != pg->base_port) || (a->cores && a->cores != pg->cores) ||
         (a->nodes && a->nodes < pg->nodes) || (a->placements && a->placements < pg->members)))
        return ctl_fail(
            ctl, CTL_REFUSED, "REFUSED",
            "--nodes and --placements can grow (fewer members of placementd: kvctl cluster "
            "member remove). Otherwise: kvctl playground destroy, then start.",
            "the playground in %s has %u nodes of %u cores from port %u on, and %u "
            "members of placementd so far",
            real, pg->nodes, pg->cores, pg->base_port, pg->members);
    if (!pg->exists && a->placements && a->placements % 2 == 0)
        return ctl_usage(ctl, "playground", "--placements: begin with 1, 3 or 5 members");
    if (a->base_port)
        pg->base_port = (unsigned)a->base_port;
    if (a->nodes)
        pg->nodes = (unsigned)a->nodes;
    if (a->placements)
        pg->members = (unsigned)a->placements;
    if (!pg->exists)
        pg->founders = pg->old_members = pg->members;
    if (a->cores)
        pg->cores = (unsigned)a->cores;
    if (a->groups && !pg->exists)
        pg->groups = (unsigned)a->groups;
    for (unsigned i = 0; i < a->n_sets; i++)
        if (!playground_add_set(pg, a->sets[i]))
            return ctl_usage(ctl, "playground", "--set %s: want section.key=value, at most %u",
                             a->sets[i], PLAYGROUND_SETS_MAX);
    playground_set_url(pg);
    return CTL_OK;
}

bool playground_open(const struct ctl *ctl, const char *dir, struct playground *pg)
{
    return playground_at(dir, pg) && playground_load(ctl, pg) && pg->exists;
}

int cmd_playground(struct ctl *ctl, int argc, char **argv)
{
    struct playground pg;
    struct asked a;
    if (!parse(ctl, argc, argv, &a))
        return CTL_USAGE;
    const char *what = optind < argc ? argv[optind] : "";
    const char *name = optind + 1 < argc ? argv[optind + 1] : NULL;
    bool start = strcmp(what, "start") == 0, stopping = strcmp(what, "stop") == 0;
    bool killing = strcmp(what, "kill") == 0;
    if (!start && !stopping && !killing && strcmp(what, "status") != 0 &&
        strcmp(what, "destroy") != 0)
        return ctl_usage(ctl, "playground",
                         "playground wants start, stop, kill, status or destroy");
    if (killing && !name)
        return ctl_usage(ctl, "playground", "kill wants the name of a process: n1, p1");
    if (optind + 2 < argc || (name && !start && !stopping && !killing))
        return ctl_usage(ctl, "playground", "what is '%s'?", argv[argc - 1]);
    int code = settle(ctl, &a, start, &pg);
    if (code != CTL_OK)
        return code;
    int only = name ? playground_find(&pg, name) : -1;
    if (name && (only < 0 || !pg.exists))
        return ctl_fail(ctl, CTL_USAGE, "NOT_FOUND", "See: kvctl playground status",
                        "the playground has no process '%s'", name);
    bool existed = pg.exists;
    if (start && a.n_sets && (code = check_sets(ctl, &pg)) != CTL_OK)
        return code;
    if (start) {
        code = playground_start(ctl, &pg, only);
        if (code == CTL_OK && a.n_sets && existed)
            fprintf(stderr, "The settings are those of processes that start from now on. For all: "
                            "kvctl playground stop, then start.\n");
        return code;
    }
    if (stopping)
        return stop(ctl, &pg, only);
    if (killing)
        return kill_one(ctl, &pg, (unsigned)only);
    return strcmp(what, "status") == 0 ? status(ctl, &pg) : destroy(ctl, &pg);
}
