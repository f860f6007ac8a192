#include "shardd/supervisor.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/notify/notify.h"
#include "shardd/front.h"

#define LOOK_MS 1000u
#define EXTEND_S 60u
#define MEMBER_WAIT_S 10u
#define STUCK_S 3u

static void signals_of(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
}

void supervisor_block_signals(void)
{
    sigset_t set;
    signals_of(&set);
    CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    signal(SIGPIPE, SIG_IGN);
}

void supervisor_starting(const struct supervisor *s)
{
    notify_extend(EXTEND_S);
    notify_status("replaying the log: %u%%, %llu replicas opened", node_replayed(s->node),
                  atomic_load(&s->node->replicas_opened));
}

/* ---- reload ---- */

struct limits {
    uint64_t key_max, value_max, snapshot_rate;
};

static void deliver_limits(struct core *c, void *arg)
{
    struct limits *l = arg;
    core_set_limits(c, l->key_max, l->value_max, l->snapshot_rate);
    free(l);
}

static void apply_limits(const struct supervisor *s)
{
    struct limits l = {s->config->key_max, s->config->value_max, s->config->snapshot_rate};
    for (unsigned i = 0; i < s->node->options.cores; i++)
        core_post(s->node->core[i], deliver_limits, mem_dup(&l, sizeof l));
}

static void apply_log_level(const struct supervisor *s)
{
    enum log_level level;
    if (log_level_parse(s->config->log_level, &level))
        log_set_level(level);
}

struct placement {
    struct front *front;
    struct io_addr addr[SHARDD_PLACEMENT_MAX];
    unsigned n;
};

static void deliver_placement(struct core *c, void *arg)
{
    struct placement *p = arg;
    (void)c;
    front_set_placement(p->front, p->addr, p->n);
    free(p);
}

static void apply_placement(const struct supervisor *s)
{
    char msg[256];
    struct placement *p = mem_zalloc(sizeof *p);
    p->front = s->front;
    if (shardd_config_placement(s->config, p->addr, &p->n, msg, sizeof msg) == ERR_OK && p->n > 0)
        core_post(s->node->core[0], deliver_placement, p);
    else
        free(p); /* the configuration has been checked: it does not come here */
}

static const struct reloadable {
    const char *section, *key;
    void (*apply)(const struct supervisor *s);
} reloadable[] = {
    {"log", "level", apply_log_level},         {"limits", "key-size", apply_limits},
    {"limits", "value-size", apply_limits},    {"raft", "snapshot-rate", apply_limits},
    {"cluster", "placement", apply_placement},
};

static const struct reloadable *find_reloadable(const struct config_key *k)
{
    for (unsigned i = 0; i < sizeof reloadable / sizeof reloadable[0]; i++)
        if (strcmp(k->section, reloadable[i].section) == 0 &&
            strcmp(k->key, reloadable[i].key) == 0)
            return &reloadable[i];
    return NULL;
}

static void reload(struct supervisor *s)
{
    struct shardd_config fresh;
    unsigned changed = 0, waiting = 0;
    notify_reloading();
    enum config_action action = shardd_config_load(s->argc, s->argv, &fresh);
    for (size_t i = 0; i < shardd_config_n && action == CONFIG_RUN; i++) {
        const struct config_key *k = &shardd_config_keys[i];
        if (config_same(k, s->config, &fresh))
            continue;
        const struct reloadable *r = find_reloadable(k);
        if (r) {
            config_swap(k, s->config, &fresh);
            r->apply(s);
            log_info("reload_applied", "key=%s.%s", k->section, k->key);
            changed++;
        } else {
            log_warn("reload_needs_restart", "key=%s.%s; the old value stays in force until then",
                     k->section, k->key);
            waiting++;
        }
    }
    if (action == CONFIG_RUN)
        log_info("reloaded", "changed=%u need_restart=%u", changed, waiting);
    else
        log_error("reload_refused", "the configuration has a mistake; the old one stays in force");
    config_free(shardd_config_keys, shardd_config_n, &fresh);
    notify_ready();
}

/* ---- readiness and watchdog ---- */

struct watch {
    uint64_t started, ready_at; /* seconds; ready_at 0: not yet */
    uint64_t seen[LIMIT_CORES];
    uint64_t moved[LIMIT_CORES]; /* second in which seen[] last changed */
    bool told[LIMIT_CORES];
};

static uint64_t seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec;
}

static void look_for_ready(const struct supervisor *s, struct watch *w)
{
    uint64_t now = seconds();
    bool registered = atomic_load(&s->node->registered);
    if (w->ready_at)
        return;
    if (registered || (s->member && now - w->started >= MEMBER_WAIT_S)) {
        w->ready_at = now;
        notify_status(registered ? "serving"
                                 : "serving; placementd does not answer, with the map it had");
        notify_ready();
    } else {
        notify_extend(EXTEND_S); /* whoever waits for the unit waits: there is nothing to restart */
        notify_status("waiting for placementd to register this node (cluster.placement)");
    }
}

/* Feeds the watchdog if every core has ticked since the last look. */
static void look_at_cores(const struct supervisor *s, struct watch *w)
{
    bool all = true;
    uint64_t now = seconds();
    for (unsigned i = 0; i < s->node->options.cores; i++) {
        uint64_t alive = atomic_load_explicit(&s->node->core[i]->alive, memory_order_relaxed);
        if (alive != w->seen[i]) {
            if (w->told[i])
                log_warn("core_turns_again", "core=%u seconds=%llu", i,
                         (unsigned long long)(now - w->moved[i]));
            w->seen[i] = alive;
            w->moved[i] = now;
            w->told[i] = false;
            continue;
        }
        all = false;
        if (now - w->moved[i] >= STUCK_S && !w->told[i]) {
            w->told[i] = true;
            log_error("core_stuck", "core=%u; its loop has not turned for %u seconds", i, STUCK_S);
            notify_status("core %u is stuck: its loop does not turn", i);
        }
    }
    if (all)
        notify_watchdog();
}

int supervisor_run(struct supervisor *s)
{
    struct watch w = {.started = seconds()};
    uint64_t every = notify_watchdog_ms();
    sigset_t set;
    signals_of(&set);
    if (every == 0 || every > LOOK_MS)
        every = LOOK_MS;
    for (unsigned i = 0; i < LIMIT_CORES; i++)
        w.moved[i] = w.started;
    for (;;) {
        /* Until it is ready it looks more often: whoever waits for that waits for nothing else. */
        uint64_t ms = w.ready_at ? every : every < 50 ? every : 50;
        struct timespec wait = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
        int got = sigtimedwait(&set, NULL, &wait);
        if (got == SIGTERM || got == SIGINT)
            return got;
        if (got == SIGHUP)
            reload(s);
        look_for_ready(s, &w);
        if (w.ready_at)
            look_at_cores(s, &w);
    }
}
