/* Blocking file work that both ends of the snapshot path share.
 * Thread: offload (or at start).  Depends on: fs, snapshot_manifest. */
#ifndef RAFT_SNAPSHOT_SCAN_H
#define RAFT_SNAPSHOT_SCAN_H

#include <stdatomic.h>

#include "common/io/fs.h"
#include "common/raft/snapshot_manifest.h"

/* "dir/name" as a new NUL-terminated string. */
char *snapshot_join(const char *dir, const char *name);
/* Size and CRC32C of a whole file, read in chunks. */
MUST_USE enum err snapshot_scan_file(struct fs_file *f, uint64_t *size, uint32_t *crc);
/* Adds every file of the directory to the manifest. ERR_UNSUPPORTED: a directory in it, or a name
 * that cannot be sent. ERR_INTERRUPTED: *stop, which another thread may set, was found true. */
MUST_USE enum err snapshot_scan_dir(const char *path, struct snapshot_manifest *m,
                                    const atomic_bool *stop);
/* Removes the directories in `dir` whose names begin with `prefix`, but for `keep` (may be NULL).
 */
MUST_USE enum err snapshot_remove_dirs(const char *dir, const char *prefix, const char *keep);

#endif
