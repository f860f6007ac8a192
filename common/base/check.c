#include "common/base/check.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void check_failed(const char *file, int line, const char *function, const char *what)
{
    fprintf(stderr, "%s:%d: CHECK(%s) failed in %s\n", file, line, what, function);
    fflush(stderr);
    abort();
}
