/* placementd: one member of the placement group. See README.md. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/io/fs.h"
#include "placementd/server.h"

#define VERSION "0.1.0"

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
    "and the same with ids 2 and 3, their directories and their client ports.\n";

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
            puts("placementd (shardkv) " VERSION);
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

/* ---- signals: a thread waits for them and tells the loop by mail ---- */

struct signal_thread {
    pthread_t thread;
    sigset_t set;
    struct io *io;
};

static void deliver_stop(struct io_mail *m, void *server)
{
    free(m);
    server_stop(server);
}

static void *wait_for_signals(void *arg)
{
    struct signal_thread *t = arg;
    int number;
    for (;;) {
        if (sigwait(&t->set, &number) != 0 || number == SIGUSR1)
            return NULL;
        if (number == SIGHUP) {
            log_info("reload", "text=\"no key can be changed while running: restart this member\"");
            continue;
        }
        struct io_mail *m = mem_zalloc(sizeof(*m));
        m->deliver = deliver_stop;
        io_post(t->io, m);
    }
}

/* Before any other thread is made, so that all of them inherit the mask. */
static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGUSR1); /* ends the thread itself */
    pthread_sigmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int run(const struct settings *settings, struct data_dir *dir, const sigset_t *set)
{
    static struct server server;
    struct signal_thread signals = {.set = *set};
    char msg[512] = "";
    enum err e = server_open(&server, settings, dir, msg, sizeof(msg));
    if (e != ERR_OK)
        return fail(1, "", msg[0] ? msg : err_text(e));
    signals.io = server.io;
    if (pthread_create(&signals.thread, NULL, wait_for_signals, &signals) != 0) {
        server_close(&server);
        return fail(1, "", "cannot start a thread: check the limit on processes (ulimit -u)");
    }
    log_info("ready", "member=%u client=%s members=%u version=%s pid=%d", server.self->id,
             server.self->client_addr, server.members.n, VERSION, (int)getpid());
    e = server_run(&server);
    pthread_kill(signals.thread, SIGUSR1);
    pthread_join(signals.thread, NULL);
    server_close(&server);
    log_info("stopped", "member=%llu clean=%d", (unsigned long long)settings->node_id, e == ERR_OK);
    return e == ERR_OK ? 0 : 1;
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

static int serve(const struct args *args, struct settings *s, const sigset_t *set)
{
    static struct data_dir dir;
    char msg[512] = "";
    enum log_level level;
    enum err e = read_settings(args, s, msg, sizeof(msg));
    if (e != ERR_OK)
        return fail(2, "", msg[0] ? msg : err_text(e));
    if (args->check) {
        print_config(s);
        return 0;
    }
    if (log_level_parse(s->log_level, &level))
        log_set_level(level);
    e = open_dir(s, &dir, msg, sizeof(msg));
    if (e != ERR_OK)
        return fail(1, "", msg[0] ? msg : err_text(e));
    int code = run(s, &dir, set);
    data_dir_close(&dir);
    return code;
}

int main(int argc, char **argv)
{
    struct args args = {0};
    struct settings settings = {0};
    sigset_t set;
    int code = parse_args(argc, argv, &args);
    if (code < 0) {
        block_signals(&set);
        code = serve(&args, &settings, &set);
        config_free(settings_keys, settings_n_keys, &settings);
    }
    free(args.sets);
    return code;
}
