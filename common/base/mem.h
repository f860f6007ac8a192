/* Allocation that cannot fail: out of memory ends the process with a message. Every size that a
 * peer or client decides is bounded (limits.h) before it gets here.
 * Thread: any. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>

void *mem_alloc(size_t n);  /* uninitialised */
void *mem_zalloc(size_t n); /* zeroed */
void *mem_realloc(void *p, size_t n);
void *mem_dup(const void *p, size_t n);
char *mem_strdup(const char *s);
/* For O_DIRECT: aligned to `align` (a power of two). Free with free(). */
void *mem_alloc_aligned(size_t align, size_t n);

/* The struct that holds `member` at `ptr`. */
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
