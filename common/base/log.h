/* Log lines of the daemons: `TIME LEVEL event key=value ...` to stderr, one write(2) a line.
 * Libraries below the daemons return errors and do not log. Values with spaces are quoted by the
 * caller's format. Never a key, a value or a secret of a user.
 * Thread: any (the level is set once at start).
 *
 *     log_info("leader_elected", "core=%u group=%llu term=%llu", ...);  */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stddef.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_SILENT };

void log_set_level(enum log_level level);
/* "debug", "info", "warn", "error"; false for anything else. */
int log_level_parse(const char *name, enum log_level *out);
/* The simulator takes the lines instead of stderr. NULL: stderr again. */
void log_set_sink(void (*sink)(void *arg, enum log_level level, const char *line), void *arg);
void log_event(enum log_level level, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define log_debug(...) log_event(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_event(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_event(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_event(LOG_ERROR, __VA_ARGS__)

#endif
