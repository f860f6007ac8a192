/* The end of a seed that went wrong: prints what, and ends the process with SIM_EXIT_VIOLATION.
 * From anywhere, hosts included. */
#ifndef SIM_VIOLATION_H
#define SIM_VIOLATION_H

#define SIM_EXIT_VIOLATION 10

_Noreturn void sim_violation(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
