/* What the service manager is told: readiness, a status line, that we live (sd_notify(3)).
 *
 * Without NOTIFY_SOCKET in the environment every call does nothing, so nobody has to ask.
 * Thread: any.  Depends on: libsystemd. */
#ifndef NOTIFY_NOTIFY_H
#define NOTIFY_NOTIFY_H

#include <stdint.h>

void notify_ready(void);
void notify_stopping(void);
/* A reload begins; notify_ready() ends it. */
void notify_reloading(void);
/* One line for `systemctl status`. */
void notify_status(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The start or stop takes longer than configured, but goes on: so many more seconds from now. */
void notify_extend(unsigned seconds);
/* How often the manager wants to be fed, with a margin (half of WatchdogSec=); 0: it does not. */
uint64_t notify_watchdog_ms(void);
void notify_watchdog(void);

#endif
