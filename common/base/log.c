#include "common/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE 2048u

static enum log_level level_min = LOG_INFO;
static void (*sink_fn)(void *arg, enum log_level level, const char *line);
static void *sink_arg;

static const char *const level_names[] = {"debug", "info", "warn", "error", "silent"};

void log_set_level(enum log_level level)
{
    level_min = level;
}

int log_level_parse(const char *name, enum log_level *out)
{
    for (int i = LOG_DEBUG; i <= LOG_ERROR; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return 1;
        }
    }
    return 0;
}

void log_set_sink(void (*sink)(void *arg, enum log_level level, const char *line), void *arg)
{
    sink_fn = sink;
    sink_arg = arg;
}

/* Is stderr the journal's socket? systemd.exec(5): JOURNAL_STREAM is "device:inode" of it. Looked
 * at once: a daemon does not change its stderr. */
static bool log_to_journal(void)
{
    static _Atomic int known; /* 0: not yet, 1: no, 2: yes */
    int answer = atomic_load_explicit(&known, memory_order_relaxed);
    if (answer == 0) {
        struct stat st;
        char own[64];
        const char *stream = getenv("JOURNAL_STREAM");
        bool same = stream && fstat(STDERR_FILENO, &st) == 0;
        if (same) {
            snprintf(own, sizeof(own), "%llu:%llu", (unsigned long long)st.st_dev,
                     (unsigned long long)st.st_ino);
            same = strcmp(own, stream) == 0;
        }
        answer = same ? 2 : 1;
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer == 2;
}

/* "2024-05-01T12:34:56.789Z LEVEL ", or for the journal, which has a clock of its own and filters
 * by priority (sd-daemon(3)), "<6>LEVEL ": gives its length. */
static size_t log_prefix(char *out, size_t cap, enum log_level level)
{
    static const int priorities[] = {7, 6, 4, 3};
    struct timespec now;
    struct tm tm;
    if (log_to_journal()) {
        int k = snprintf(out, cap, "<%d>%s ", priorities[level], level_names[level]);
        return (size_t)k;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t n = strftime(out, cap, "%Y-%m-%dT%H:%M:%S", &tm);
    int m = snprintf(out + n, cap - n, ".%03ldZ %s ", now.tv_nsec / 1000000, level_names[level]);
    return n + (size_t)m;
}

/* A text from outside (a path, a peer's error) must not be able to forge a second line. */
static void log_tame(char *p)
{
    for (; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
}

void log_event(enum log_level level, const char *event, const char *fmt, ...)
{
    if (level < level_min || level >= LOG_SILENT)
        return;
    char line[LOG_LINE];
    size_t prefix = sink_fn ? 0 : log_prefix(line, sizeof(line), level);
    size_t cap = sizeof(line) - 1; /* one kept for the newline */
    int m = snprintf(line + prefix, cap - prefix, "%s ", event);
    size_t n = prefix + (m < 0 ? 0 : (size_t)m);
    if (n > cap - 1)
        n = cap - 1;
    va_list args;
    va_start(args, fmt);
    m = vsnprintf(line + n, cap - n, fmt, args);
    va_end(args);
    n += m < 0 ? 0 : (size_t)m;
    if (n > cap - 1) {
        n = cap - 1;
        memcpy(line + n - 3, "...", 3);
    }
    while (n > prefix && line[n - 1] == ' ') /* an event without values */
        n--;
    line[n] = '\0';
    log_tame(line + prefix);
    if (sink_fn) {
        sink_fn(sink_arg, level, line);
        return;
    }
    line[n] = '\n';
    ssize_t written = write(STDERR_FILENO, line, n + 1);
    (void)written; /* nowhere to report that the log cannot be written */
}
