/* The list of files of one snapshot: what InstallSnapshot carries; the files go out of band
 * (snapshot_stream.h).
 *
 *   u32 magic "SKVM"   u16 version (1)   u16 core   u64 snapshot id   u64 group   u64 index
 *   u32 length, note   u32 count, then per file { u8 length, name   u64 size   u32 crc32c }
 *   u32 crc32c of all before it
 *
 * Files stand in strictly ascending order of name, so that a duplicate is seen at once. A name is
 * 1-64 of [A-Za-z0-9._-] and does not begin with '.': it can never leave the directory it is put
 * in. `core` is the sender's core that has the snapshot, `note` is the owner's own (the encoded
 * position in the checkpoint, say) and is not looked at here.
 *
 * Owner: the caller.  Thread: any, pure.  Depends on: base. */
#ifndef RAFT_SNAPSHOT_MANIFEST_H
#define RAFT_SNAPSHOT_MANIFEST_H

#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/base/slice.h"

#define SNAPSHOT_FILES_MAX 65536u
#define SNAPSHOT_NAME_MAX 64u
#define SNAPSHOT_NOTE_MAX (64 * KIB)
#define SNAPSHOT_FILE_SIZE_MAX (1ULL << 44) /* and their sum at most 2^48 */
#define SNAPSHOT_SIZE_MAX (1ULL << 48)

struct snapshot_file {
    char name[SNAPSHOT_NAME_MAX + 1];
    uint32_t crc; /* CRC32C of the whole file */
    uint64_t size;
};

struct snapshot_manifest {
    uint64_t id;    /* random, never 0 */
    uint64_t group; /* whose snapshot it is */
    uint64_t index; /* of the last entry applied in it */
    uint16_t core;
    struct buf note;
    uint32_t n;
    uint32_t cap; /* private */
    struct snapshot_file *files;
    uint64_t bytes; /* sum of the sizes */
};

/* A zeroed manifest is an empty one. */
void snapshot_manifest_close(struct snapshot_manifest *m);
bool snapshot_name_ok(struct slice name);
/* In ascending order of name. ERR_TOO_LARGE: too many or too large; ERR_UNSUPPORTED: such a name
 * could not be sent; ERR_EXISTS: out of order or twice. */
MUST_USE enum err snapshot_manifest_add(struct snapshot_manifest *m, const char *name,
                                        uint64_t size, uint32_t crc);
/* Appends. ERR_TOO_LARGE: over LIMIT_MANIFEST (or the note over SNAPSHOT_NOTE_MAX). */
MUST_USE enum err snapshot_manifest_encode(const struct snapshot_manifest *m, struct buf *out);
/* Untrusted. ERR_FORMAT: unknown magic or version; ERR_TOO_LARGE; ERR_CORRUPT: anything else.
 * Initialises *out on success only. */
MUST_USE enum err snapshot_manifest_decode(struct slice in, struct snapshot_manifest *out);

#endif
