/* CRC32C (Castagnoli). Chainable: crc32c(crc32c(0, a), b) is the checksum of a then b.
 * SSE4.2 where the processor has it, libisal or a table otherwise.  Thread: any. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *p, size_t n);

#endif
