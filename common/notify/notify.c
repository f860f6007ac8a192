#include "common/notify/notify.h"

#include <stdarg.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>
#include <time.h>

/* A failure to tell has no one to be told to: systemd acts on silence by itself. */
static void tell(const char *text)
{
    (void)sd_notify(0, text);
}

void notify_ready(void)
{
    tell("READY=1");
}

void notify_stopping(void)
{
    tell("STOPPING=1");
}

void notify_reloading(void)
{
    struct timespec now;
    char text[96];
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%llu",
             (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000);
    tell(text);
}

void notify_status(const char *fmt, ...)
{
    char text[512] = "STATUS=";
    va_list args;
    va_start(args, fmt);
    vsnprintf(text + 7, sizeof(text) - 7, fmt, args);
    va_end(args);
    tell(text);
}

void notify_extend(unsigned seconds)
{
    char text[64];
    snprintf(text, sizeof(text), "EXTEND_TIMEOUT_USEC=%llu", seconds * 1000000ull);
    tell(text);
}

uint64_t notify_watchdog_ms(void)
{
    uint64_t us = 0;
    if (sd_watchdog_enabled(0, &us) <= 0)
        return 0;
    return us / 2000 ? us / 2000 : 1;
}

void notify_watchdog(void)
{
    tell("WATCHDOG=1");
}
