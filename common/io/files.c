#include "common/io/files.h"

#include <sys/resource.h>

#define CLIENTS_MIN 8u

uint64_t files_raise(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return UINT64_MAX;
    rlim_t soft = r.rlim_cur;
    r.rlim_cur = r.rlim_max;
    if (soft < r.rlim_max && setrlimit(RLIMIT_NOFILE, &r) != 0)
        r.rlim_cur = soft;
    return r.rlim_cur == RLIM_INFINITY ? UINT64_MAX : (uint64_t)r.rlim_cur;
}

unsigned files_for_clients(uint64_t files, unsigned loops, unsigned most)
{
    uint64_t each = files / 2 / loops;
    if (each > most)
        return most;
    return each < CLIENTS_MIN ? CLIENTS_MIN : (unsigned)each;
}
