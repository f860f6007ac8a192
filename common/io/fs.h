/* Blocking file system calls: at start and stop, or on offload threads. Never on a running loop.
 *
 * The second half of the seam: fs_posix.c in production, tests/sim/sim_fs.c in the simulator (a
 * crash there loses what was not synced: file data without fs_sync, names without fs_sync_dir).
 * Paths are plain strings; one name space a process.
 * Thread: any.  Depends on: base. */
#ifndef IO_FS_H
#define IO_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/slice.h"

struct fs_file;

enum {
    FS_READ = 1,
    FS_WRITE = 2,
    FS_CREATE = 4,    /* if it does not exist */
    FS_EXCLUSIVE = 8, /* with FS_CREATE: must not exist (ERR_EXISTS) */
    FS_TRUNCATE = 16,
    FS_DIRECT = 32, /* O_DIRECT: 4096-aligned buffers, sizes and offsets */
};

/* ERR_NOT_FOUND, ERR_EXISTS, ERR_NO_SPACE, ERR_FORBIDDEN (permissions), ERR_IO. */
MUST_USE enum err fs_open(const char *path, unsigned flags, struct fs_file **out);
void fs_close(struct fs_file *f); /* takes NULL */
MUST_USE enum err fs_size(struct fs_file *f, uint64_t *out);
/* Reads up to n bytes; *got < n only at the end of the file. */
MUST_USE enum err fs_read(struct fs_file *f, void *p, size_t n, uint64_t offset, size_t *got);
/* Writes all or fails. */
MUST_USE enum err fs_write(struct fs_file *f, const void *p, size_t n, uint64_t offset);
MUST_USE enum err fs_sync(struct fs_file *f); /* fdatasync; an error is final (fsyncgate) */
/* Has the kernel begin to write what was written there, so that little is left for fs_sync: a large
 * file that goes out at once holds up everyone else's fdatasync. A hint: promises nothing. */
void fs_write_out(struct fs_file *f, uint64_t offset, size_t n);
MUST_USE enum err fs_truncate(struct fs_file *f, uint64_t size);
MUST_USE enum err fs_rename(const char *from, const char *to); /* replaces `to` */
MUST_USE enum err fs_unlink(const char *path);
MUST_USE enum err fs_mkdir(const char *path);     /* mode 0700; ERR_OK if it is there already */
MUST_USE enum err fs_rmdir_all(const char *path); /* with all below; ERR_OK if absent */
MUST_USE enum err fs_sync_dir(const char *path);  /* makes names in it durable */
bool fs_exists(const char *path);
/* Calls fn for each name in the directory but . and .., sorted by name. */
MUST_USE enum err fs_list(const char *path, void (*fn)(void *arg, const char *name, bool is_dir),
                          void *arg);
/* Exclusive lock for the life of the process (or until fs_close); ERR_LOCKED if another has it. */
MUST_USE enum err fs_lock(const char *path, struct fs_file **out);
MUST_USE enum err fs_space(const char *path, uint64_t *free_bytes, uint64_t *total_bytes);
/* The errno text of the last failure of this thread, for messages ("No space left on device"). */
const char *fs_last_error(void);

/* Whole small files. fs_write_file writes PATH.tmp, syncs, renames and syncs the directory:
 * after ERR_OK the new contents survive a crash, before it the old ones. Max 64 MiB. */
MUST_USE enum err fs_read_file(const char *path, struct buf *out);
/* Reads a file of fs_write_file() whose contents will be relied on: its name is made durable first.
 * A process killed between the rename and the directory's sync leaves new contents that the next
 * one sees and a loss of power takes back. */
MUST_USE enum err fs_read_durable(const char *path, struct buf *out);
MUST_USE enum err fs_write_file(const char *path, struct slice contents);

#endif
