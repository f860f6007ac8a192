/* Two ways to the same sum. Short inputs (record and frame headers, small values) run the
 * processor's crc32 instruction in line, eight bytes at a time; long ones go to ISA-L, whose
 * folding by carry-less multiplication is several times faster but costs a dispatch and a set-up.
 * ISA-L chooses at run time and falls back to tables, so it is also the way for processors
 * without SSE4.2. */
#include "common/base/crc32c.h"

#include <isa-l/crc.h>
#include <string.h>

#define ISAL_CHUNK ((size_t)1 << 30) /* its length is an int */

static uint32_t crc32c_isal(uint32_t crc, const uint8_t *p, size_t n)
{
    while (n > 0) {
        size_t k = n < ISAL_CHUNK ? n : ISAL_CHUNK;
        crc = crc32_iscsi((unsigned char *)(uintptr_t)p, (int)k, crc); /* reads only */
        p += k;
        n -= k;
    }
    return crc;
}

#if defined(__x86_64__)

#define SHORT_INPUT 256u

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *p,
                                                               size_t n)
{
    uint64_t c = crc;
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        c = __builtin_ia32_crc32di(c, word);
    }
    crc = (uint32_t)c;
    for (; n > 0; p++, n--)
        crc = __builtin_ia32_crc32qi(crc, *p);
    return crc;
}

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
    if (n <= SHORT_INPUT && __builtin_cpu_supports("sse4.2"))
        return ~crc32c_sse42(~crc, p, n);
    return ~crc32c_isal(~crc, p, n);
}

#else

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
    return ~crc32c_isal(~crc, p, n);
}

#endif
