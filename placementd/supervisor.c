#include "placementd/supervisor.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/notify/notify.h"

#define LOOK_NS (500 * NS_PER_MS)
#define LOOK_START_NS (20 * NS_PER_MS)
#define ALONE_NS (10 * NS_PER_S)

static void signals_of(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGUSR1); /* ends the thread itself */
}

void supervisor_block_signals(void)
{
    sigset_t set;
    signals_of(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* ---- reload ---- */

/* The log's level and all of [placement]. What is left needs other sockets, files or agreement of
 * the other members. */
static bool is_reloadable(const struct config_key *k)
{
    return strcmp(k->section, "placement") == 0 ||
           (strcmp(k->section, "log") == 0 && strcmp(k->key, "level") == 0);
}

struct reload {
    struct io_mail mail;
    struct supervisor *supervisor;
    struct settings fresh;
};

static void deliver_reload(struct io_mail *mail, void *server)
{
    struct reload *r = CONTAINER_OF(mail, struct reload, mail);
    struct settings *now = r->supervisor->settings;
    unsigned changed = 0, waiting = 0;
    enum log_level level;
    for (size_t i = 0; i < settings_n_keys; i++) {
        const struct config_key *k = &settings_keys[i];
        if (config_same(k, now, &r->fresh))
            continue;
        if (is_reloadable(k)) {
            config_swap(k, now, &r->fresh);
            log_info("reload_applied", "key=%s.%s", k->section, k->key);
            changed++;
        } else {
            log_warn("reload_needs_restart", "key=%s.%s; the old value stays in force until then",
                     k->section, k->key);
            waiting++;
        }
    }
    if (log_level_parse(now->log_level, &level))
        log_set_level(level);
    server_apply_settings(server);
    log_info("reloaded", "changed=%u need_restart=%u", changed, waiting);
    config_free(settings_keys, settings_n_keys, &r->fresh);
    free(r);
    notify_ready();
}

static void reload(struct supervisor *s)
{
    char msg[512] = "";
    struct reload *r = mem_zalloc(sizeof(*r));
    notify_reloading();
    r->supervisor = s;
    r->mail.deliver = deliver_reload;
    enum err e = s->reread(s->arg, &r->fresh, msg, sizeof(msg));
    if (e == ERR_OK) {
        io_post(s->server->io, &r->mail);
        return;
    }
    log_error("reload_refused", "%s; the old configuration stays in force",
              msg[0] ? msg : err_text(e));
    config_free(settings_keys, settings_n_keys, &r->fresh);
    free(r);
    notify_ready();
}

/* ---- signals ---- */

static void deliver_stop(struct io_mail *m, void *server)
{
    free(m);
    server_stop(server);
}

static void *wait_for_signals(void *arg)
{
    struct supervisor *s = arg;
    sigset_t set;
    int number;
    signals_of(&set);
    for (;;) {
        if (sigwait(&set, &number) != 0 || number == SIGUSR1)
            return NULL;
        if (number == SIGHUP) {
            reload(s);
            continue;
        }
        struct io_mail *m = mem_zalloc(sizeof(*m));
        notify_stopping();
        placement_http_stopping(s->http);
        m->deliver = deliver_stop;
        io_post(s->server->io, m);
    }
}

/* ---- on the loop ---- */

static void tell_role(struct supervisor *s)
{
    uint32_t leader = server_leader(s->server);
    if (s->told && leader == s->told_leader)
        return;
    s->told = true;
    s->told_leader = leader;
    if (leader == 0)
        notify_status("no leader is known: waiting for a majority of the members");
    else if (leader == s->server->self->id)
        notify_status("leader");
    else
        notify_status("follower of member %u", leader);
}

static void on_timer(struct io_timer *t)
{
    struct supervisor *s = CONTAINER_OF(t, struct supervisor, timer);
    uint64_t now = io_now(s->server->io);
    if (s->server->failed)
        return; /* the loop ends: not to be fed any more */
    if (!s->server->stopping)
        tell_role(s);
    if (!s->ready && (server_leader(s->server) != 0 || now - s->started >= ALONE_NS)) {
        s->ready = true;
        notify_ready();
    }
    notify_watchdog();
    io_timer_set(s->server->io, t, now + (s->ready ? s->every : LOOK_START_NS));
}

bool supervisor_start(struct supervisor *s)
{
    uint64_t watchdog = notify_watchdog_ms() * NS_PER_MS;
    s->every = watchdog && watchdog < LOOK_NS ? watchdog : LOOK_NS;
    s->started = io_now(s->server->io);
    s->timer.fn = on_timer;
    if (pthread_create(&s->thread, NULL, wait_for_signals, s) != 0)
        return false;
    io_timer_set(s->server->io, &s->timer, s->started);
    return true;
}

void supervisor_stop(struct supervisor *s)
{
    io_timer_cancel(s->server->io, &s->timer);
    pthread_kill(s->thread, SIGUSR1);
    pthread_join(s->thread, NULL);
}
