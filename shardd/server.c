#include "shardd/server.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/exit_code.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/notify/notify.h"
#include "shardd/front.h"
#include "shardd/http.h"
#include "shardd/supervisor.h"

#define STOP_MS 5000u
#define FILES_WANTED 65536u
#define FILES_NEEDED 1024u

struct server_core {
    struct server *server;
    pthread_t thread;
    struct io *io;
    unsigned number;
    enum err result;
    char msg[512];
};

struct server {
    struct shardd_config *config;
    struct supervisor supervisor;
    struct node_http *http; /* NULL: none */
    struct data_dir dir;
    struct node node;
    struct front *front;
    struct server_core core[LIMIT_CORES];
    sem_t opened;            /* posted by each core once it is open */
    sem_t go;                /* posted for each core once the node is complete */
    pthread_barrier_t ended; /* cores post to each other until all loops have ended */
    int failed;              /* why the start failed, once something has */
};

/* A WAL that failed must not acknowledge anything any more (fsyncgate), a node that its cluster
 * refuses must not serve. _exit: no handler, no destructor may touch the disk again. */
static void on_fatal(void *arg, enum err why, const char *text)
{
    (void)arg;
    bool refused = why == ERR_FOREIGN || why == ERR_REFUSED;
    log_error("fatal", "error=%s text=\"%s\"; the node stops%s", err_name(why), text,
              refused ? "" : ": check the disk, then start it again");
    _exit(refused ? exit_code_of(why) : EXIT_CODE_STORAGE);
}

/* The start has failed for that reason. Always gives false. */
static bool start_failed(struct server *s, const char *event, enum err e, const char *text)
{
    log_error(event, "error=%s %s", err_name(e), text);
    s->failed = exit_code_of(e);
    return false;
}

static void on_changed(void *arg, struct core *c)
{
    struct server *s = arg;
    if (s->front)
        front_on_changed(s->front, c);
}

static void on_core_stopped(void *arg)
{
    struct server_core *sc = arg;
    io_stop(sc->io);
}

static void begin_stop(struct core *c, void *arg)
{
    struct server *s = arg;
    if (c->number == 0)
        front_destroy(s->front);
    core_stop(c, STOP_MS, on_core_stopped, &s->core[c->number]);
}

static void *core_main(void *arg)
{
    struct server_core *sc = arg;
    struct server *s = sc->server;
    char name[16];
    snprintf(name, sizeof name, "core-%u", sc->number);
    (void)pthread_setname_np(pthread_self(), name);
    struct io_options io = {.core = sc->number, .dsync = strcmp(s->config->wal_io, "dsync") == 0};
    sc->result = io_create(&io, &sc->io, sc->msg, sizeof sc->msg);
    if (sc->result == ERR_OK)
        sc->result =
            core_create(&s->node, sc->number, sc->io, s->dir.stamp.cluster, s->dir.stamp.node,
                        &s->node.core[sc->number], sc->msg, sizeof sc->msg);
    sem_post(&s->opened);
    sem_wait(&s->go);
    io_run(sc->io);
    (void)pthread_barrier_wait(&s->ended);
    core_destroy(s->node.core[sc->number]);
    return NULL;
}

static bool raise_file_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return true;
    if (r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
    if (r.rlim_cur < FILES_NEEDED) {
        log_error("too_few_files",
                  "limit=%llu needed=%u; raise it: ulimit -n, or LimitNOFILE= of the unit",
                  (unsigned long long)r.rlim_cur, FILES_NEEDED);
        return false;
    }
    if (r.rlim_cur < FILES_WANTED)
        log_warn("few_files", "limit=%llu wanted=%u; many replicas need more (8 files each)",
                 (unsigned long long)r.rlim_cur, FILES_WANTED);
    return true;
}

static bool open_data_dir(struct server *s)
{
    char msg[512];
    uint64_t random = 0;
    if (getrandom(&random, sizeof random, 0) != sizeof random) {
        log_error("no_randomness", "getrandom failed: %s", strerror(errno));
        return false;
    }
    const struct shardd_config *c = s->config;
    enum err e = data_dir_open(c->data_dir, "shardd", c->name, random, (uint32_t)c->cores, &s->dir,
                               msg, sizeof msg);
    if (e != ERR_OK)
        return start_failed(s, "data_dir", e, msg);
    if (s->dir.stamp.cores != c->cores) {
        log_error("cores_differ",
                  "the data directory %s was made with %u cores; start with --cores %u",
                  c->data_dir, s->dir.stamp.cores, s->dir.stamp.cores);
        s->failed = EXIT_CODE_CONFIG;
        return false;
    }
    return true;
}

static bool open_engine(struct server *s)
{
    char msg[512];
    struct engine_options o = {.block_cache = s->config->block_cache,
                               .memtable_budget = s->config->memtable_budget,
                               .compression = s->config->compression};
    enum err e = engine_create(&o, &s->node.engine, msg, sizeof msg);
    return e == ERR_OK || start_failed(s, "engine", e, msg);
}

static void fill_node(struct server *s)
{
    const struct shardd_config *c = s->config;
    s->node = (struct node){
        .options = {.data_dir = s->dir.path,
                    .name = c->name,
                    .zone = c->zone,
                    .host = c->host,
                    .incarnation = s->dir.stamp.incarnation,
                    .cores = (unsigned)c->cores,
                    .key_max = c->key_max,
                    .session_retention_ms = c->session_retention_ms,
                    .value_max = c->value_max,
                    .wal_segment_size = c->wal_segment_size,
                    .log_memory = c->log_memory,
                    .election_timeout_ms = (unsigned)c->election_timeout_ms,
                    .read_lease = c->read_lease,
                    .heartbeat_ms = (unsigned)c->heartbeat_ms,
                    .snapshot_rate = c->snapshot_rate},
        .on_fatal = on_fatal,
        .on_changed = on_changed,
        .arg = s,
    };
}

/* One core is open; says meanwhile how far the replay is. */
static void wait_opened(struct server *s)
{
    for (;;) {
        struct timespec until;
        supervisor_starting(&s->supervisor);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec++;
        if (sem_timedwait(&s->opened, &until) == 0)
            return;
        CHECK(errno == EINTR || errno == ETIMEDOUT);
    }
}

static bool start_http(struct server *s)
{
    struct io_addr addr;
    char msg[512];
    if (!s->config->listen_http[0])
        return true;
    enum err e = io_addr_parse(s->config->listen_http, &addr);
    if (e == ERR_OK)
        e = node_http_start(&s->node, &addr, &s->http, msg, sizeof msg);
    return e == ERR_OK || start_failed(s, "start", e, msg);
}

static bool start_cores(struct server *s)
{
    unsigned n = s->node.options.cores;
    bool ok = true;
    CHECK(pthread_barrier_init(&s->ended, NULL, n) == 0);
    for (unsigned i = 0; i < n; i++) {
        s->core[i] = (struct server_core){.server = s, .number = i};
        int rc = pthread_create(&s->core[i].thread, NULL, core_main, &s->core[i]);
        if (rc != 0) {
            log_error("thread", "core=%u cannot be started: %s", i, strerror(rc));
            return false;
        }
    }
    for (unsigned i = 0; i < n; i++)
        wait_opened(s);
    for (unsigned i = 0; i < n; i++) {
        if (s->core[i].result == ERR_OK)
            continue;
        log_error("core", "core=%u error=%s %s", i, err_name(s->core[i].result), s->core[i].msg);
        /* Damage outweighs what may pass. */
        int why = exit_code_of(s->core[i].result);
        s->failed = why > s->failed ? why : s->failed;
        ok = false;
    }
    return ok;
}

static bool start_front(struct server *s)
{
    const struct shardd_config *c = s->config;
    struct front_options o = {.node = &s->node, .data_dir = &s->dir};
    char msg[512];
    enum err e = front_load_map(&s->node, msg, sizeof msg);
    if (e == ERR_OK)
        e = shardd_config_placement(c, o.placement, &o.n_placement, msg, sizeof msg);
    if (e == ERR_OK && (io_addr_parse(c->listen_client, &o.client) != ERR_OK ||
                        io_addr_parse(c->listen_peer, &o.peer) != ERR_OK))
        e = ERR_CONFIG; /* config.c has checked them */
    if (e == ERR_OK)
        e = front_create(&o, &s->front, msg, sizeof msg);
    return e == ERR_OK || start_failed(s, "start", e, msg);
}

/* A loop that frees and allocates the same few buffers each turn must not give their pages back and
 * fault them in again: glibc's default trims a thread's arena at 128 KiB. */
static void tune_malloc(void)
{
    mallopt(M_TRIM_THRESHOLD, (int)(32 * MIB));
    mallopt(M_MMAP_THRESHOLD, (int)(4 * MIB));
}

/* Cores drain and end; then nothing of ours runs any more. */
static void stop_cores(struct server *s)
{
    unsigned n = s->node.options.cores;
    for (unsigned i = 0; i < n; i++)
        core_post(s->node.core[i], begin_stop, s);
    for (unsigned i = 0; i < n; i++)
        pthread_join(s->core[i].thread, NULL);
    for (unsigned i = 0; i < n; i++) /* not before all have ended: they post to each other */
        io_destroy(s->core[i].io);
}

static void serve(struct server *s)
{
    const struct shardd_config *c = s->config;
    for (unsigned i = 0; i < s->node.options.cores; i++)
        sem_post(&s->go);
    log_info("ready", "name=%s cores=%u client=%s peer=%s http=%s", c->name, s->node.options.cores,
             c->listen_client, c->listen_peer, c->listen_http[0] ? c->listen_http : "off");
    s->supervisor.front = s->front;
    node_http_running(s->http, s->front);
    int got = supervisor_run(&s->supervisor);
    log_info("stopping", "signal=%d", got);
    notify_stopping();
    notify_status("stopping: handing leaderships over");
    node_http_stopping(s->http);
    stop_cores(s);
}

int server_run(struct shardd_config *config, int argc, char **argv)
{
    static struct server s;
    enum log_level level = LOG_INFO;
    (void)log_level_parse(config->log_level, &level);
    log_set_level(level);
    s.config = config;
    sem_init(&s.opened, 0, 0);
    sem_init(&s.go, 0, 0);
    tune_malloc();
    supervisor_block_signals(); /* before any thread: only the supervisor sees them */
    s.failed = EXIT_CODE_FAILED;
    if (!raise_file_limit() || !open_data_dir(&s))
        return s.failed;
    fill_node(&s);
    s.supervisor = (struct supervisor){.node = &s.node,
                                       .config = config,
                                       .argc = argc,
                                       .argv = argv,
                                       .member = s.dir.stamp.node != 0};
    if (!start_http(&s) || !open_engine(&s) || !start_cores(&s) || !start_front(&s)) {
        data_dir_close(&s.dir);
        return s.failed;
    }
    serve(&s);
    node_http_stop(s.http);
    engine_destroy(s.node.engine);
    data_dir_close(&s.dir);
    log_info("stopped", "name=%s", config->name);
    return 0;
}
