#include "client/ctl/watch.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/ctl/output.h"

#define FIRST_MS 50       /* short work is over soon */
#define POLL_MS 400       /* the rest is looked at less often */
#define PATIENCE 60000u   /* ms without an answer */
#define PLANNED_MS 15000u /* what is planned but not begun is waited for so long */
#define BAR 24u

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
    (void)sig;
    interrupted = 1;
}

void watch_line(const struct watch_now *now, const char *what, uint64_t rate, unsigned width,
                char *out, size_t n)
{
    char bar[64] = "", a[16], b[16], c[16], left[32], count[48];
    bool bytes = now->bytes_total > 0;
    uint64_t done = bytes ? now->bytes : now->done, total = bytes ? now->bytes_total : now->total;
    unsigned percent = total ? (unsigned)(done >= total ? 100 : done * 100 / total) : 0;
    if (percent == 100 && !now->over)
        percent = 99;
    for (unsigned i = 0; i < width && i < sizeof(bar) - 1; i++) {
        bar[i] = i < percent * width / 100 ? '#' : '.';
        bar[i + 1] = '\0';
    }
    snprintf(out, n, "%s%s%s%s%s %u%%", what, what[0] ? "  " : "", bar[0] ? "[" : "", bar,
             bar[0] ? "]" : "", percent);
    if (bytes) {
        snprintf(out + strlen(out), n - strlen(out), "  %s of %s", out_size(now->bytes, a),
                 out_size(now->bytes_total, b));
        if (rate)
            snprintf(out + strlen(out), n - strlen(out), "  %s/s", out_size(rate, c));
        if (rate && now->bytes < now->bytes_total)
            snprintf(out + strlen(out), n - strlen(out), "  %s left",
                     admin_seconds((now->bytes_total - now->bytes) / rate + 1, left));
    }
    if (now->total)
        snprintf(out + strlen(out), n - strlen(out), "  %u of %s", now->done,
                 admin_count(now->total, now->unit ? now->unit : "step", count));
    if (now->note[0] && strlen(out) < n)
        snprintf(out + strlen(out), n - strlen(out), "  %s", now->note);
}

/* The rate is that of the last seconds: nodes report once a second, and not all at once. */
#define SAMPLES 10u

struct show {
    bool terminal;
    uint64_t at[SAMPLES], bytes[SAMPLES]; /* ms, and bytes moved by then; a ring */
    unsigned n;                           /* samples taken ever */
    uint64_t rate, shown;
    char last[512];
};

static void measure(struct show *s, const struct watch_now *now, uint64_t t)
{
    if (s->n && t - s->at[(s->n - 1) % SAMPLES] < 1000)
        return;
    unsigned oldest = s->n < SAMPLES ? 0 : s->n % SAMPLES;
    if (s->n) {
        uint64_t moved = now->bytes > s->bytes[oldest] ? now->bytes - s->bytes[oldest] : 0;
        s->rate = moved * 1000 / (t - s->at[oldest]);
    }
    s->at[s->n % SAMPLES] = t;
    s->bytes[s->n++ % SAMPLES] = now->bytes;
}

static void draw(struct show *s, const struct watch *w, const struct watch_now *now, uint64_t t)
{
    char line[512];
    measure(s, now, t);
    watch_line(now, w->what, now->rate ? now->rate : s->rate, s->terminal ? BAR : 0, line,
               sizeof(line));
    if (s->terminal) {
        /* Cut rather than wrapped: a wrapped line cannot be redrawn. */
        fprintf(stderr, "\r%.158s\033[K", line);
    } else if (strcmp(line, s->last) != 0 && (t - s->shown >= 1000 || now->over || !s->shown)) {
        fprintf(stderr, "%s\n", line);
        s->shown = t;
        memcpy(s->last, line, sizeof(line));
    }
    fflush(stderr);
}

static void clear_line(const struct show *s)
{
    if (s->terminal)
        fprintf(stderr, "\r\033[K");
}

static int run(struct ctl *ctl, const struct watch *w, struct show *show)
{
    char msg[512] = "";
    uint64_t answered = ctl_now_ms();
    int pause = FIRST_MS;
    for (;;) {
        struct watch_now now = {0};
        kv_err e = w->look(ctl, w->arg, &now, msg, sizeof(msg));
        uint64_t t = ctl_now_ms();
        if (interrupted) {
            clear_line(show);
            fprintf(stderr, "Detached; the work goes on. Take it up again: %s\n", w->resume);
            return CTL_UNKNOWN;
        }
        if (e == KV_OK) {
            answered = t;
            if (now.total || show->shown)
                draw(show, w, &now, t);
            if (now.over)
                return CTL_OK;
        } else if (e == KV_NOT_FOUND || e == KV_REFUSED || t - answered > PATIENCE) {
            clear_line(show);
            return ctl_fail(ctl, ctl_exit_code(e), kv_err_name(e), NULL, "%s",
                            msg[0] ? msg : kv_err_str(e));
        } else if (t - answered > 3000 && show->terminal) {
            fprintf(stderr, "\r%s  placementd does not answer (%.80s); the work goes on\033[K",
                    w->what, msg);
        }
        poll(NULL, 0, pause);
        pause = pause < POLL_MS ? pause * 2 : POLL_MS;
    }
}

int watch_run(struct ctl *ctl, const struct watch *w)
{
    struct sigaction act = {.sa_handler = on_interrupt}, old;
    struct show show = {.terminal = isatty(STDERR_FILENO) == 1};
    interrupted = 0;
    sigaction(SIGINT, &act, &old);
    int code = run(ctl, w, &show);
    sigaction(SIGINT, &old, NULL);
    if (code == CTL_OK)
        clear_line(&show);
    return code;
}

/* ---- operators ---- */

struct tracked {
    char id[24];
    uint64_t bytes, moved;
    bool ended;
    json_t *how; /* as it ended; owned */
};

struct operators {
    unsigned n;
    bool all;
    uint64_t idle_since; /* ms; 0: operators are under way */
    struct tracked *list;
};

static struct tracked *track(struct operators *o, const char *id)
{
    for (unsigned i = 0; i < o->n; i++)
        if (strcmp(o->list[i].id, id) == 0)
            return &o->list[i];
    o->list = realloc(o->list, (o->n + 1) * sizeof(*o->list));
    if (!o->list)
        abort();
    struct tracked *t = &o->list[o->n++];
    *t = (struct tracked){0};
    snprintf(t->id, sizeof(t->id), "%s", id);
    return t;
}

static json_t *find_id(const json_t *list, const char *id)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) if (strcmp(admin_str(item, "id"), id) == 0) return item;
    return NULL;
}

static void note_of(const json_t *op, struct watch_now *now)
{
    const char *waits = admin_str(op, "waits_for");
    snprintf(now->note, sizeof(now->note), "g%s: %s%s%s", admin_str(op, "group"),
             admin_str(op, "step"), waits[0] ? ", waits for " : "", waits);
}

/* With nothing under way: is more to come? The planner goes in rounds, so between two of them there
 * may be nothing although it is not done. */
static bool more_planned(struct ctl *ctl, struct operators *o)
{
    char msg[512];
    json_t *status = NULL, *plan = NULL;
    uint64_t t = ctl_now_ms();
    o->idle_since = o->idle_since ? o->idle_since : t;
    if (t - o->idle_since > PLANNED_MS)
        return false; /* the planner has a reason to hold back: kvctl rebalance plan tells it */
    if (admin_ask(ctl, "admin.rebalance", json_pack("{s:s}", "action", "status"), &status, msg,
                  sizeof(msg)) != KV_OK)
        return false;
    bool more = !admin_bool(status, "paused") &&
                admin_ask(ctl, "admin.rebalance", json_pack("{s:s}", "action", "plan"), &plan, msg,
                          sizeof(msg)) == KV_OK &&
                json_array_size(json_object_get(plan, "ops")) > 0;
    json_decref(status);
    json_decref(plan);
    return more;
}

static kv_err look_operators(struct ctl *ctl, void *arg, struct watch_now *now, char *msg, size_t n)
{
    struct operators *o = arg;
    json_t *answer, *op;
    size_t k;
    kv_err e =
        admin_ask(ctl, "admin.operator", json_pack("{s:s}", "action", "list"), &answer, msg, n);
    if (e != KV_OK)
        return e;
    const json_t *running = json_object_get(answer, "operators");
    const json_t *finished = json_object_get(answer, "finished");
    if (o->all)
        json_array_foreach(running, k, op) track(o, admin_str(op, "id"));
    now->unit = "operator";
    now->over = true;
    for (unsigned i = 0; i < o->n; i++) {
        struct tracked *t = &o->list[i];
        op = t->ended ? NULL : find_id(running, t->id);
        if (op) {
            t->bytes = admin_u64(op, "bytes");
            t->moved = admin_u64(op, "moved");
            now->over = false;
            if (!now->note[0] && strcmp(admin_str(op, "state"), "queued") != 0)
                note_of(op, now);
        } else if (!t->ended) {
            t->ended = true;
            t->moved = t->bytes;
            t->how = json_incref(find_id(finished, t->id));
        }
        now->bytes += t->moved < t->bytes ? t->moved : t->bytes;
        now->bytes_total += t->bytes;
        now->done += t->ended;
        now->total++;
    }
    json_decref(answer);
    if (o->all && now->over)
        now->over = !more_planned(ctl, o);
    else
        o->idle_since = 0;
    return KV_OK;
}

static bool is_done(const struct tracked *t)
{
    /* Not among the last that have ended: so many came after it that it is long over. */
    return !t->how || strcmp(admin_str(t->how, "outcome"), "done") == 0;
}

static void print_ends(const struct ctl *ctl, const struct operators *o, unsigned done)
{
    char count[48];
    if (ctl->output == CTL_JSON) {
        json_t *list = json_array();
        for (unsigned i = 0; i < o->n; i++)
            json_array_append_new(list, o->list[i].how ? json_incref(o->list[i].how)
                                                       : json_pack("{s:s}", "id", o->list[i].id));
        out_json(json_pack("{s:b,s:o}", "done", done == o->n, "operators", list));
        return;
    }
    if (!o->n)
        printf("nothing is under way\n");
    if (done)
        printf("%s done\n", admin_count(done, "operator", count));
    for (unsigned i = 0; i < o->n; i++) {
        const json_t *how = o->list[i].how;
        if (!is_done(&o->list[i]))
            printf("operator %s (%s of g%s) %s: %s\n", o->list[i].id, admin_str(how, "kind"),
                   admin_str(how, "group"), admin_str(how, "outcome"), admin_str(how, "why"));
    }
}

int watch_operators(struct ctl *ctl, const char *what, const json_t *ids, bool all)
{
    struct operators o = {.all = all};
    struct watch w = {what, "kvctl rebalance watch", look_operators, &o};
    unsigned done = 0;
    size_t k;
    json_t *id;
    json_array_foreach(ids, k, id) track(&o, json_string_value(id) ? json_string_value(id) : "");
    int code = watch_run(ctl, &w);
    for (unsigned i = 0; i < o.n; i++)
        done += is_done(&o.list[i]);
    if (code == CTL_OK) {
        print_ends(ctl, &o, done);
        code = done == o.n ? CTL_OK : CTL_NEGATIVE;
    }
    for (unsigned i = 0; i < o.n; i++)
        json_decref(o.list[i].how);
    free(o.list);
    return code;
}
