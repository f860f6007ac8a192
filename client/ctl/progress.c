#include "client/ctl/progress.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/ctl/admin.h"
#include "client/ctl/output.h"

#define DRAW_MS 200u
#define PRINT_MS 5000u

static volatile sig_atomic_t interrupted;
static struct sigaction before;

static void on_interrupt(int sig)
{
    (void)sig;
    interrupted = 1;
}

void progress_begin(struct progress *p, const char *what)
{
    /* The second ^C ends the program. */
    struct sigaction act = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    interrupted = 0;
    sigaction(SIGINT, &act, &before);
    *p = (struct progress){
        .what = what, .share = -1, .begin = ctl_now_ms(), .terminal = isatty(STDERR_FILENO) == 1};
    p->shown = p->begin;
}

bool progress_interrupted(void)
{
    return interrupted;
}

void progress_line(const struct progress *p, double seconds, char *out, size_t n)
{
    char done[16], rate[16], left[32];
    double done_share = p->share - p->share_from;
    int len = snprintf(out, n, "%s  %llu keys  %s", p->what, (unsigned long long)p->records,
                       out_size(p->bytes, done));
    if (seconds > 0 && len >= 0 && (size_t)len < n)
        len += snprintf(out + len, n - (size_t)len, "  %s/s",
                        out_size((uint64_t)((double)p->bytes / seconds), rate));
    if (p->share >= 0 && len >= 0 && (size_t)len < n)
        len += snprintf(out + len, n - (size_t)len, "  %d%%",
                        p->share >= 1 ? 100 : (int)(p->share * 100));
    if (p->share >= 0 && p->share < 1 && done_share > 0 && seconds >= 1 && len >= 0 &&
        (size_t)len < n)
        snprintf(out + len, n - (size_t)len, "  %s left",
                 admin_seconds((uint64_t)(seconds / done_share * (1 - p->share)) + 1, left));
}

void progress_show(struct progress *p)
{
    char line[256];
    uint64_t now = ctl_now_ms();
    if (now - p->shown < (p->terminal ? DRAW_MS : PRINT_MS))
        return;
    p->shown = now;
    progress_line(p, (double)(now - p->begin) / 1000, line, sizeof line);
    if (p->terminal)
        fprintf(stderr, "\r%.150s\033[K", line);
    else
        fprintf(stderr, "%s\n", line);
    fflush(stderr);
    p->drawn = true;
}

double progress_end(struct progress *p)
{
    sigaction(SIGINT, &before, NULL);
    if (p->terminal && p->drawn)
        fprintf(stderr, "\r\033[K");
    return (double)(ctl_now_ms() - p->begin) / 1000;
}
