#include "shardd/replica_stamp.h"

#include <stdio.h>

#include "common/base/crc32c.h"
#include "common/base/slice.h"
#include "common/io/fs.h"

#define MAGIC 0x53564b53u
#define FORMAT 1u
#define SIZE 28u

static void stamp_path(const char *dir, char *out, size_t n)
{
    snprintf(out, n, "%.3000s/stamp", dir);
}

enum err replica_stamp_write(const char *dir, uint64_t wal, uint64_t replica)
{
    char path[3100];
    struct buf b = {0};
    stamp_path(dir, path, sizeof path);
    buf_u32(&b, MAGIC);
    buf_u32(&b, FORMAT);
    buf_u64(&b, wal);
    buf_u64(&b, replica);
    buf_u32(&b, crc32c(0, b.p, b.n));
    enum err e = fs_write_file(path, buf_slice(&b));
    buf_close(&b);
    return e;
}

static enum err decode(struct slice file, uint64_t *wal)
{
    struct cursor c = cursor_of(file);
    if (file.n != SIZE || cursor_u32(&c) != MAGIC)
        return ERR_CORRUPT;
    if (cursor_u32(&c) != FORMAT)
        return ERR_FORMAT;
    *wal = cursor_u64(&c);
    cursor_u64(&c);
    return cursor_u32(&c) == crc32c(0, file.p, SIZE - 4) ? ERR_OK : ERR_CORRUPT;
}

enum err replica_stamp_check(const char *dir, uint64_t wal, char *msg, size_t n)
{
    char path[3100];
    struct buf file = {0};
    uint64_t stamped = 0;
    stamp_path(dir, path, sizeof path);
    enum err e = fs_read_file(path, &file);
    if (e == ERR_NOT_FOUND)
        return ERR_OK;
    if (e == ERR_OK)
        e = decode(buf_slice(&file), &stamped);
    buf_close(&file);
    if (e != ERR_OK) {
        snprintf(msg, n, "its stamp cannot be read");
    } else if (stamped != wal) {
        snprintf(msg, n, "its log is gone: the WAL directory is another one than it was made with");
        e = ERR_FOREIGN;
    }
    return e;
}
