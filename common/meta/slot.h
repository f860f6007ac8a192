/* key -> slot, exactly Redis Cluster's rule: CRC16/XMODEM of the key, or of the part between the
 * first '{' and the next '}' if that is not empty, modulo 16384.
 * Thread: any, pure.  Source: redis.io, cluster specification. */
#ifndef META_SLOT_H
#define META_SLOT_H

#include <stdint.h>
#include "common/base/slice.h"

uint16_t slot_of_key(struct slice key);
/* The checksum alone. "123456789" gives 0x31c3. */
uint16_t slot_crc16(struct slice s);

#endif
