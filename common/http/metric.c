#include "common/http/metric.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/base/version.h"

void metric_family(struct buf *b, enum metric_kind kind, const char *name, const char *help)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kinds[kind]);
}

static void put_label(struct buf *b, const char *name, const char *value, bool first)
{
    buf_printf(b, "%c%s=\"", first ? '{' : ',', name);
    for (const char *p = value; *p; p++) {
        if (*p == '"' || *p == '\\')
            buf_u8(b, '\\');
        if (*p == '\n')
            buf_append(b, "\\n", 2);
        else
            buf_u8(b, (uint8_t)*p);
    }
    buf_u8(b, '"');
}

/* Counters are whole numbers up to 2^53 and more: all their digits. */
static void put_value(struct buf *b, double v)
{
    if (v >= 0 && v < 1e18 && v == (double)(uint64_t)v)
        buf_printf(b, " %llu\n", (unsigned long long)v);
    else
        buf_printf(b, " %.9g\n", v);
}

void metric_sample(struct buf *b, const char *name, double value, ...)
{
    va_list args;
    bool first = true;
    const char *label;
    buf_printf(b, "%s", name);
    va_start(args, value);
    while ((label = va_arg(args, const char *))) {
        put_label(b, label, va_arg(args, const char *), first);
        first = false;
    }
    va_end(args);
    if (!first)
        buf_u8(b, '}');
    put_value(b, value);
}

void metric_one(struct buf *b, enum metric_kind kind, const char *name, const char *help,
                double value)
{
    metric_family(b, kind, name, help);
    metric_sample(b, name, value, NULL);
}

static void put_part(struct buf *b, const char *name, const char *part, const char *label,
                     const char *value, const char *le)
{
    buf_printf(b, "%s_%s", name, part);
    if (label)
        put_label(b, label, value, true);
    if (le)
        put_label(b, "le", le, !label);
    if (label || le)
        buf_u8(b, '}');
}

void metric_latency(struct buf *b, const char *name, const struct latency *l, const char *label,
                    const char *value)
{
    uint64_t sum = 0;
    char le[32];
    for (unsigned i = 0; i <= LATENCY_BOUNDS; i++) {
        sum += l->bucket[i];
        if (i < LATENCY_BOUNDS)
            snprintf(le, sizeof(le), "%.9g", (double)latency_bound_ns[i] / 1e9);
        put_part(b, name, "bucket", label, value, i < LATENCY_BOUNDS ? le : "+Inf");
        put_value(b, (double)sum);
    }
    put_part(b, name, "sum", label, value, NULL);
    put_value(b, (double)l->sum_ns / 1e9);
    put_part(b, name, "count", label, value, NULL);
    put_value(b, (double)l->count);
}

static double resident_bytes(void)
{
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    if (fscanf(f, "%*s %llu", &pages) != 1)
        pages = 0;
    fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

/* Seconds since 1970: the 22nd field of stat counts ticks since the machine's start. */
static double start_seconds(void)
{
    char text[1024];
    unsigned long long ticks = 0;
    struct timespec wall, boot;
    FILE *f = fopen("/proc/self/stat", "re");
    if (!f)
        return 0;
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    char *after = strrchr(text, ')'); /* the name may hold anything */
    if (!after || sscanf(after + 1,
                         " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                         "%*s %*s %llu",
                         &ticks) != 1)
        return 0;
    clock_gettime(CLOCK_REALTIME, &wall);
    clock_gettime(CLOCK_BOOTTIME, &boot);
    return (double)(wall.tv_sec - boot.tv_sec) + (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

static double open_files(void)
{
    double n = 0;
    DIR *d = opendir("/proc/self/fd");
    if (!d)
        return 0;
    for (struct dirent *e = readdir(d); e; e = readdir(d))
        n += e->d_name[0] != '.';
    closedir(d);
    return n - 1; /* the directory itself */
}

void metric_process(struct buf *b)
{
    struct rlimit files = {0};
    struct rusage use = {0};
    (void)getrusage(RUSAGE_SELF, &use);
    double cpu = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
                 (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
    metric_family(b, METRIC_GAUGE, "shardkv_build_info", "1; the version is a label.");
    metric_sample(b, "shardkv_build_info", 1, "version", SHARDKV_VERSION, NULL);
    metric_one(b, METRIC_COUNTER, "process_cpu_seconds_total", "CPU time used.", cpu);
    metric_one(b, METRIC_GAUGE, "process_resident_memory_bytes", "Resident memory.",
               resident_bytes());
    metric_one(b, METRIC_GAUGE, "process_start_time_seconds", "Start, in seconds since 1970.",
               start_seconds());
    metric_one(b, METRIC_GAUGE, "process_open_fds", "Open files and sockets.", open_files());
    (void)getrlimit(RLIMIT_NOFILE, &files);
    metric_one(b, METRIC_GAUGE, "process_max_fds", "Limit of open files and sockets.",
               (double)files.rlim_cur);
}
