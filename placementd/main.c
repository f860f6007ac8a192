/* placementd: one member of the placement group. See README.md. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/base/exit_code.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/version.h"
#include "common/io/files.h"
#include "common/io/fs.h"
#include "common/notify/notify.h"
#include "placementd/http.h"
#include "placementd/server.h"
#include "placementd/session.h"
#include "placementd/supervisor.h"

static const char usage[] =
    "Usage: placementd [--config FILE] [--set SECTION.KEY=VALUE]... [OPTION]...\n"
    "Keeps the map of a shardkv cluster: nodes, groups and who owns which slots.\n"
    "\n"
    "  --config FILE   read the configuration (TOML)\n"
    "  --set KEY=V     override one key, e.g. --set listen.client=127.0.0.1:7001\n"
    "  --insecure      allow addresses other than loopback without TLS\n"
    "  --check-config  check it, print what is in force, and exit\n"
    "  --help, --version\n"
    "\n"
    "Three members on one machine:\n"
    "  placementd --set node.id=1 --set node.data-dir=./p1 --set listen.client=127.0.0.1:7001 \\\n"
    "    --set cluster.members=1=127.0.0.1:7101,2=127.0.0.1:7102,3=127.0.0.1:7103\n"
    "and the same with ids 2 and 3, their directories and their client ports.\n"
    "\n"
    "Exit code: 0 stopped, 1 failed, 2 wrong configuration, 3 this member was removed from the\n"
    "group (kvctl cluster member remove): do not start it again, 4 the data directory is damaged\n"
    "or another's, 70 the log could not be made durable.\n";

struct args {
    const char *config;
    const char **sets;
    int n_sets;
    bool insecure, check;
};

static int fail(int code, const char *what, const char *text)
{
    fprintf(stderr, "placementd: %s%s%s\n", what, what[0] ? ": " : "", text);
    return code;
}

/* Exit code, or -1 to go on. */
static int parse_args(int argc, char **argv, struct args *a)
{
    a->sets = mem_zalloc((size_t)argc * sizeof(*a->sets));
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        const char *config = strcmp(arg, "--config") == 0 && i + 1 < argc ? argv[++i] : NULL;
        if (config) {
            a->config = config;
        } else if (strcmp(arg, "--set") == 0 && i + 1 < argc) {
            a->sets[a->n_sets++] = argv[++i];
        } else if (strncmp(arg, "--config=", 9) == 0) {
            a->config = arg + 9;
        } else if (strncmp(arg, "--set=", 6) == 0) {
            a->sets[a->n_sets++] = arg + 6;
        } else if (strcmp(arg, "--insecure") == 0) {
            a->insecure = true;
        } else if (strcmp(arg, "--check-config") == 0) {
            a->check = true;
        } else if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            fputs(usage, stdout);
            return 0;
        } else if (strcmp(arg, "--version") == 0) {
            puts("placementd (shardkv) " SHARDKV_VERSION);
            return 0;
        } else {
            fprintf(stderr, "placementd: unknown or incomplete option \"%s\"; see --help\n", arg);
            return 2;
        }
    }
    return -1;
}

static enum err read_settings(const struct args *a, struct settings *s, char *msg, size_t n)
{
    enum err e = config_defaults(settings_keys, settings_n_keys, s);
    if (e == ERR_OK && a->config) {
        struct buf text = {0};
        e = fs_read_file(a->config, &text);
        if (e != ERR_OK)
            snprintf(msg, n, "cannot read %.200s: %s", a->config, fs_last_error());
        else
            e = config_parse(settings_keys, settings_n_keys, a->config, buf_slice(&text), s, msg,
                             n);
        buf_close(&text);
    }
    for (int i = 0; i < a->n_sets && e == ERR_OK; i++)
        e = config_set(settings_keys, settings_n_keys, a->sets[i], s, msg, n);
    return e == ERR_OK ? settings_check(s, a->insecure, msg, n) : e;
}

/* ---- running ---- */

static enum err reread(void *arg, struct settings *out, char *msg, size_t n)
{
    return read_settings(arg, out, msg, n);
}

static int run(const struct args *args, struct settings *settings, struct data_dir *dir)
{
    static struct server server;
    struct placement_http *http = NULL;
    char msg[512] = "";
    uint64_t files = files_raise();
    notify_status("replaying the log");
    enum err e = server_open(&server, settings, dir, msg, sizeof(msg));
    if (e != ERR_OK)
        return fail(exit_code_of(e), "", msg[0] ? msg : err_text(e));
    server.sessions_max = files_for_clients(files, 1, SESSION_MAX);
    if (settings->listen_http[0])
        e = placement_http_start(&server, &settings->http, &http, msg, sizeof(msg));
    struct supervisor supervisor = {.server = &server,
                                    .settings = settings,
                                    .http = http,
                                    .reread = reread,
                                    .arg = (void *)(uintptr_t)args};
    if (e != ERR_OK || !supervisor_start(&supervisor)) {
        placement_http_stop(http);
        server_close(&server);
        return fail(EXIT_CODE_FAILED, "",
                    msg[0] ? msg : "cannot start a thread: check the limit (ulimit -u)");
    }
    log_info("ready", "member=%u client=%s members=%u http=%s version=%s pid=%d", server.self->id,
             server.self->client_addr, server.members.n,
             settings->listen_http[0] ? settings->listen_http : "off", SHARDKV_VERSION,
             (int)getpid());
    e = server_run(&server);
    supervisor_stop(&supervisor);
    placement_http_stop(http);
    server_close(&server);
    log_info("stopped", "member=%llu clean=%d", (unsigned long long)settings->node_id, e == ERR_OK);
    return e == ERR_INTERNAL ? EXIT_CODE_STORAGE : exit_code_of(e);
}

static enum err open_dir(struct settings *s, struct data_dir *dir, char *msg, size_t n)
{
    char name[LIMIT_NAME + 1];
    uint64_t random = 0;
    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return ERR_IO;
    if (s->name[0])
        snprintf(name, sizeof(name), "%s", s->name);
    else
        snprintf(name, sizeof(name), "p%llu", (unsigned long long)s->node_id);
    enum err e = data_dir_open(s->data_dir, "placementd", name, random | 1, 1, dir, msg, n);
    if (e != ERR_OK)
        return e;
    if (dir->stamp.node == 0) {
        dir->stamp.node = (uint32_t)s->node_id;
        e = data_dir_save(dir);
        if (e != ERR_OK)
            snprintf(msg, n, "cannot write in %.200s: %s", s->data_dir, fs_last_error());
    } else if (dir->stamp.node != s->node_id) {
        snprintf(msg, n, "%.200s belongs to member %u, not %llu: check node.id and node.data-dir",
                 s->data_dir, dir->stamp.node, (unsigned long long)s->node_id);
        e = ERR_FOREIGN;
    }
    if (e != ERR_OK)
        data_dir_close(dir);
    return e;
}

static void print_config(const struct settings *s)
{
    struct buf b = {0};
    config_print(settings_keys, settings_n_keys, s, &b);
    fwrite(b.p, 1, b.n, stdout);
    buf_close(&b);
}

static int serve(const struct args *args, struct settings *s)
{
    static struct data_dir dir;
    char msg[512] = "";
    enum log_level level;
    enum err e = read_settings(args, s, msg, sizeof(msg));
    if (e != ERR_OK)
        return fail(EXIT_CODE_CONFIG, "", msg[0] ? msg : err_text(e));
    if (args->check) {
        print_config(s);
        return 0;
    }
    if (log_level_parse(s->log_level, &level))
        log_set_level(level);
    e = open_dir(s, &dir, msg, sizeof(msg));
    if (e != ERR_OK)
        return fail(exit_code_of(e), "", msg[0] ? msg : err_text(e));
    int code = run(args, s, &dir);
    data_dir_close(&dir);
    return code;
}

int main(int argc, char **argv)
{
    struct args args = {0};
    struct settings settings = {0};
    int code = parse_args(argc, argv, &args);
    if (code < 0) {
        supervisor_block_signals();
        code = serve(&args, &settings);
        config_free(settings_keys, settings_n_keys, &settings);
    }
    free(args.sets);
    return code;
}
