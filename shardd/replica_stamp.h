/* The file <group directory>/stamp: which replica this is and which log it votes through.
 *
 * A replica whose log is gone must not vote again under its id. Data that was never flushed does
 * not show that it once had a log: the stamp does. It is written when the replica is made, before
 * its directory has its name, and never changed: a snapshot that is installed leaves it alone.
 *
 * Format: u32 "SKVS", u32 format, u64 WAL id (wal_id()), u64 replica, u32 crc32c of all before.
 * All calls block.  Thread: offload, or at start.  Depends on: fs. */
#ifndef SHARDD_REPLICA_STAMP_H
#define SHARDD_REPLICA_STAMP_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

/* `wal`: core->wal_id of the core that the group lives on. */
MUST_USE enum err replica_stamp_write(const char *dir, uint64_t wal, uint64_t replica);
/* ERR_FOREIGN: made with another WAL; ERR_CORRUPT, ERR_FORMAT, ERR_IO. A directory without the file
 * is one of an earlier version: ERR_OK. */
MUST_USE enum err replica_stamp_check(const char *dir, uint64_t wal, char *msg, size_t n);

#endif
