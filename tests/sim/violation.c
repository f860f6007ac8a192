/* See violation.h. */
#include "tests/sim/violation.h"

#include <stdio.h>
#include <unistd.h>

#include "tests/sim/sim.h"

void sim_violation(const char *fmt, ...)
{
    va_list ap;

    printf("VIOLATION at %.6f s: ", (double)sim_now() / 1e9);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
    fflush(stdout);
    _exit(SIM_EXIT_VIOLATION);
}
