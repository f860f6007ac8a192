#include "common/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"

static _Noreturn void mem_out(size_t n)
{
    fprintf(stderr, "out of memory: %zu bytes wanted\n", n);
    abort();
}

/* malloc(0) may give NULL, which callers would have to tell from failure: ask for one byte. */
static size_t mem_at_least_one(size_t n)
{
    return n ? n : 1;
}

void *mem_alloc(size_t n)
{
    void *p = malloc(mem_at_least_one(n));
    if (!p)
        mem_out(n);
    return p;
}

void *mem_zalloc(size_t n)
{
    void *p = calloc(1, mem_at_least_one(n));
    if (!p)
        mem_out(n);
    return p;
}

void *mem_realloc(void *p, size_t n)
{
    void *q = realloc(p, mem_at_least_one(n));
    if (!q)
        mem_out(n);
    return q;
}

void *mem_dup(const void *p, size_t n)
{
    void *q = mem_alloc(n);
    if (n)
        memcpy(q, p, n);
    return q;
}

char *mem_strdup(const char *s)
{
    return mem_dup(s, strlen(s) + 1);
}

void *mem_alloc_aligned(size_t align, size_t n)
{
    CHECK(align != 0);
    CHECK((align & (align - 1)) == 0);
    void *p = NULL;
    size_t a = align < sizeof(void *) ? sizeof(void *) : align;
    if (posix_memalign(&p, a, mem_at_least_one(n)) != 0)
        mem_out(n);
    return p;
}
