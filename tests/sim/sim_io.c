/* common/io/io.h in simulated time: loops, timers, offload, mail, asynchronous file operations.
 *
 * Each io has one wake-up event. Whatever happens for it (bytes, a finished operation, mail) goes
 * onto its ready list and moves the wake-up to a moment later; the turn that then runs takes all
 * that has gathered, the due timers, the mail, and calls the hook once: batches form as they do in
 * production. A turn costs simulated time, so a busy core falls behind. A paused process has its
 * wake-ups after the pause.
 *
 * An offloaded job runs as a whole at one later moment (a crash may cut it at a file operation,
 * see sim_host_crash_at_fs), its done() in a turn after that. */
#include "tests/sim/sim_internal.h"

#include <stdlib.h>

#include "common/io/timer_heap.h"
#include "tests/sim/sim_fileop.h"

#define TURN_COST_NS 3000u
#define ITEM_COST_NS 500u
#define JOB_SLOW 0.03
#define JOB_DELAY_MAX (40 * NS_PER_MS)
#define WALL_START_MS 1767225600000u /* 2026-01-01 */

struct io {
    struct list link; /* sim_host.ios */
    struct sim_host *host;
    uint32_t life;
    struct sim_event wake;
    uint64_t busy_until;
    uint64_t now; /* host clock of this turn */
    struct list ready;
    struct list mail;
    struct timer_heap timers;
    void (*hook)(void *arg);
    void *hook_arg;
    void *mail_arg;
    bool again, stopped, in_turn;
};

static void on_wake(struct sim_event *e);

enum err io_create(const struct io_options *options, struct io **out, char *msg, size_t n)
{
    struct io *io = mem_zalloc(sizeof *io);

    (void)options;
    (void)msg;
    (void)n;
    CHECK(sim_world.current);
    io->host = sim_world.current;
    io->life = io->host->life;
    io->wake.fn = on_wake;
    io->now = sim_host_clock_now(io->host);
    list_init(&io->ready);
    list_init(&io->mail);
    timer_heap_init(&io->timers);
    list_push_back(&io->host->ios, &io->link);
    *out = io;
    return ERR_OK;
}

void io_destroy(struct io *io)
{
    CHECK(!io->in_turn);
    CHECK(list_empty(&io->ready));
    sim_cancel(&io->wake);
    list_remove(&io->link);
    timer_heap_close(&io->timers);
    free(io);
}

struct sim_host *sim_io_host(const struct io *io)
{
    return io->host;
}

bool sim_io_alive(const struct io *io)
{
    return io->host->up && io->life == io->host->life && !io->stopped;
}

static uint64_t next_wake(struct io *io)
{
    uint64_t at = UINT64_MAX;
    struct io_timer *first = timer_heap_first(&io->timers);

    if (io->again || !list_empty(&io->ready) || !list_empty(&io->mail))
        at = sim_world.now + sim_below(20 * NS_PER_US);
    if (first && first->at != UINT64_MAX) {
        uint64_t due = sim_host_clock_to_sim(io->host, first->at);
        due += sim_below(50 * NS_PER_US);
        at = due < at ? due : at;
    }
    if (at == UINT64_MAX)
        return at;
    at = at > io->busy_until ? at : io->busy_until;
    return at > io->host->paused_until ? at : io->host->paused_until;
}

/* Moves the wake-up to the earliest reason for one. */
static void reschedule(struct io *io)
{
    uint64_t at;

    if (io->in_turn || !sim_io_alive(io))
        return;
    at = next_wake(io);
    if (at == UINT64_MAX)
        sim_cancel(&io->wake);
    else if (io->wake.pos == 0 || at < io->wake.at || io->host->paused_until > io->wake.at)
        sim_at(&io->wake, at);
}

void sim_io_ready(struct io *io, struct sim_ready *r)
{
    list_push_back(&io->ready, &r->link);
    reschedule(io);
}

/* A process ends with the last of its loops. */
static bool all_stopped(struct sim_host *h)
{
    LIST_FOR(item, &h->ios)
    {
        if (!CONTAINER_OF(item, struct io, link)->stopped)
            return false;
    }
    return true;
}

static void run_turn(void *arg)
{
    struct io *io = arg;
    uint64_t now = sim_host_clock_now(io->host);
    struct list batch, *item;

    io->now = now > io->now ? now : io->now + 1;
    io->in_turn = true;
    io->again = false;
    io->busy_until = sim_world.now + TURN_COST_NS;
    list_init(&batch);
    list_splice(&batch, &io->ready);
    while ((item = list_pop_front(&batch))) {
        struct sim_ready *r = CONTAINER_OF(item, struct sim_ready, link);
        io->busy_until += ITEM_COST_NS;
        r->fn(r);
    }
    timer_heap_run(&io->timers, io->now);
    list_splice(&batch, &io->mail);
    while ((item = list_pop_front(&batch))) {
        struct io_mail *m = CONTAINER_OF(item, struct io_mail, link);
        io->busy_until += ITEM_COST_NS;
        m->deliver(m, io->mail_arg);
    }
    if (io->hook)
        io->hook(io->hook_arg);
    io->in_turn = false;
    if (all_stopped(io->host))
        sim_exit("its loops have ended");
}

static void on_wake(struct sim_event *e)
{
    struct io *io = CONTAINER_OF(e, struct io, wake);

    if (io->host->paused_until > sim_world.now) {
        sim_at(e, io->host->paused_until);
        return;
    }
    sim_world.stats.turns++;
    sim_trace(io->host->number);
    if (sim_enter(io->host, run_turn, io))
        reschedule(io);
}

void sim_io_host_died(struct sim_host *h)
{
    struct list *item;

    while ((item = list_pop_front(&h->ios))) {
        struct io *io = CONTAINER_OF(item, struct io, link);
        io->in_turn = false;
        sim_cancel(&io->wake);
    }
}

void sim_io_host_resumed(struct sim_host *h)
{
    LIST_FOR(item, &h->ios)
    {
        struct io *io = CONTAINER_OF(item, struct io, link);
        sim_cancel(&io->wake);
        reschedule(io);
    }
}

/* The world turns the loop: there is nothing to do here. */
void io_run(struct io *io)
{
    (void)io;
}

void io_stop(struct io *io)
{
    io->stopped = true;
    sim_cancel(&io->wake);
}

void io_set_turn_hook(struct io *io, void (*hook)(void *arg), void *arg)
{
    io->hook = hook;
    io->hook_arg = arg;
}

void io_again(struct io *io)
{
    io->again = true;
    reschedule(io);
}

/* ---- clock and chance ---- */

uint64_t io_now(const struct io *io)
{
    return io->now;
}

uint64_t io_now_exact(const struct io *io)
{
    uint64_t now = sim_host_clock_now(io->host);

    return now > io->now ? now : io->now;
}

uint64_t io_wall_ms(const struct io *io)
{
    return (uint64_t)((int64_t)(WALL_START_MS + sim_world.now / NS_PER_MS) + io->host->wall_off);
}

uint64_t io_random(struct io *io)
{
    (void)io;
    return sim_random();
}

/* ---- timers ---- */

void io_timer_cancel(struct io *io, struct io_timer *t)
{
    timer_heap_cancel(&io->timers, t);
}

void io_timer_set(struct io *io, struct io_timer *t, uint64_t at_ns)
{
    CHECK(t->fn);
    timer_heap_set(&io->timers, t, at_ns);
    reschedule(io);
}

/* ---- mail ---- */

void io_post(struct io *to, struct io_mail *m)
{
    CHECK(to->host == sim_world.current);
    list_push_back(&to->mail, &m->link);
    reschedule(to);
}

void io_set_mail_arg(struct io *io, void *arg)
{
    io->mail_arg = arg;
}

/* ---- offload ---- */

struct job {
    struct sim_ready ready;
    struct sim_event event;
    struct io *io;
    struct sim_host *host;
    uint32_t life;
    struct io_work *work;
    bool ran;
};

/* Threads are busy, or slow to begin: now and then a job runs much later, or its end is told much
 * later, and everything else has gone on meanwhile. */
static uint64_t job_delay(void)
{
    return sim_chance(JOB_SLOW) ? sim_below(JOB_DELAY_MAX) : 0;
}

static void job_done(struct sim_ready *r)
{
    struct job *j = CONTAINER_OF(r, struct job, ready);
    struct io_work *w = j->work;

    free(j);
    w->done(w);
}

static void job_run(void *arg)
{
    struct job *j = arg;

    j->work->run(j->work);
}

static void on_job(struct sim_event *e)
{
    struct job *j = CONTAINER_OF(e, struct job, event);
    uint64_t held = j->host->paused_until;

    if (!j->host->up || j->life != j->host->life) {
        free(j);
        return;
    }
    held = held > j->host->disk.stalled_until ? held : j->host->disk.stalled_until;
    if (held > sim_world.now) {
        sim_at(e, held);
        return;
    }
    if (j->ran) {
        sim_io_ready(j->io, &j->ready);
        return;
    }
    sim_trace(j->host->number + 1000);
    if (!sim_enter(j->host, job_run, j))
        return;
    j->ran = true;
    uint64_t delay = job_delay();
    if (delay > 0)
        sim_at(e, sim_world.now + delay);
    else
        sim_io_ready(j->io, &j->ready);
}

void io_offload(struct io *io, struct io_work *w)
{
    struct job *j = mem_zalloc(sizeof *j);

    CHECK(io->host == sim_world.current);
    j->ready.fn = job_done;
    list_init(&j->ready.link);
    j->event.fn = on_job;
    j->io = io;
    j->host = io->host;
    j->life = io->life;
    j->work = w;
    w->io = io;
    sim_at(&j->event, sim_world.now + sim_fileop_latency(io->host) + job_delay());
}

/* ---- files ---- */

static void op_done(struct sim_ready *r)
{
    struct sim_fileop *o = CONTAINER_OF(r, struct sim_fileop, ready);
    struct io_op *op = o->op;
    enum err result = o->result;

    free(o);
    op->done(op, result);
}

static void on_op(struct sim_event *e)
{
    struct sim_fileop *o = CONTAINER_OF(e, struct sim_fileop, event);

    if (o->host->disk.stalled_until > sim_world.now) {
        sim_at(e, o->host->disk.stalled_until);
        return;
    }
    list_remove(&o->link);
    o->result = sim_fileop_execute(o);
    sim_trace(o->offset + o->n);
    sim_io_ready(o->io, &o->ready);
}

static void op_start(struct io *io, struct sim_fileop what)
{
    struct sim_fileop *o = mem_dup(&what, sizeof what);

    CHECK(io->host == sim_world.current);
    o->ready.fn = op_done;
    list_init(&o->ready.link);
    o->event.fn = on_op;
    o->io = io;
    o->host = io->host;
    list_push_back(&io->host->disk.ops, &o->link);
    sim_at(&o->event, sim_world.now + sim_fileop_latency(io->host));
}

void io_write_durable(struct io *io, struct fs_file *f, const void *p, size_t n, uint64_t offset,
                      struct io_op *op)
{
    op_start(io, (struct sim_fileop){
                     .f = f, .from = p, .n = n, .offset = offset, .op = op, .write = true});
}

void io_read(struct io *io, struct fs_file *f, void *p, size_t n, uint64_t offset, struct io_op *op)
{
    op_start(io, (struct sim_fileop){.f = f, .to = p, .n = n, .offset = offset, .op = op});
}
