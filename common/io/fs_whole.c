/* Whole small files, built on the other calls of fs.h: shared with the simulator. */
#include <stdio.h>
#include <string.h>

#include "common/base/limits.h"
#include "common/io/fs.h"

#define WHOLE_FILE_MAX (64 * MIB)
#define PATH_BYTES 4096

enum err fs_read_file(const char *path, struct buf *out)
{
    struct fs_file *f;
    uint64_t size;
    size_t got;
    enum err e = fs_open(path, FS_READ, &f);
    if (e != ERR_OK)
        return e;
    struct buf b = {0};
    e = fs_size(f, &size);
    if (e == ERR_OK && size > WHOLE_FILE_MAX)
        e = ERR_TOO_LARGE;
    if (e == ERR_OK) {
        void *p = buf_extend(&b, (size_t)size);
        e = fs_read(f, p, (size_t)size, 0, &got);
    }
    fs_close(f);
    if (e != ERR_OK) {
        buf_close(&b);
        return e;
    }
    b.n = got;
    buf_close(out);
    *out = b;
    return ERR_OK;
}

/* "dir" of "dir/name", "." of "name". */
static void parent_of(const char *path, char out[PATH_BYTES])
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        snprintf(out, PATH_BYTES, ".");
    else if (slash == path)
        snprintf(out, PATH_BYTES, "/");
    else
        snprintf(out, PATH_BYTES, "%.*s", (int)(slash - path), path);
}

enum err fs_read_durable(const char *path, struct buf *out)
{
    char parent[PATH_BYTES];
    if (!fs_exists(path))
        return ERR_NOT_FOUND;
    parent_of(path, parent);
    enum err e = fs_sync_dir(parent);
    return e == ERR_OK ? fs_read_file(path, out) : e;
}

enum err fs_write_file(const char *path, struct slice contents)
{
    char temporary[PATH_BYTES], parent[PATH_BYTES];
    struct fs_file *f;
    if (contents.n > WHOLE_FILE_MAX)
        return ERR_TOO_LARGE;
    if (strlen(path) + sizeof ".tmp" > PATH_BYTES)
        return ERR_BAD_REQUEST;
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    parent_of(path, parent);
    enum err e = fs_open(temporary, FS_WRITE | FS_CREATE | FS_TRUNCATE, &f);
    if (e != ERR_OK)
        return e;
    e = fs_write(f, contents.p, contents.n, 0);
    if (e == ERR_OK)
        e = fs_sync(f);
    fs_close(f);
    if (e == ERR_OK)
        e = fs_rename(temporary, path);
    if (e == ERR_OK)
        e = fs_sync_dir(parent);
    return e;
}
