#include "common/raft/snapshot_scan.h"

#include <stdlib.h>

#include "common/base/crc32c.h"
#include "common/base/mem.h"

#define READ_CHUNK (256 * KIB)

char *snapshot_join(const char *dir, const char *name)
{
    struct buf b = {0};

    buf_printf(&b, "%s/%s", dir, name);
    buf_u8(&b, 0);
    return (char *)b.p;
}

enum err snapshot_scan_file(struct fs_file *f, uint64_t *size, uint32_t *crc)
{
    uint8_t *chunk = mem_alloc(READ_CHUNK);
    uint64_t at = 0;
    uint32_t sum = 0;
    size_t got;
    enum err e;

    do {
        got = 0;
        e = fs_read(f, chunk, READ_CHUNK, at, &got);
        sum = crc32c(sum, chunk, got);
        at += got;
    } while (e == ERR_OK && got == READ_CHUNK);
    free(chunk);
    if (e != ERR_OK)
        return e;
    *size = at;
    *crc = sum;
    return ERR_OK;
}

struct names {
    struct buf bytes; /* NUL-terminated, one after the other */
    size_t n;
    bool directory;
};

static void take_name(void *arg, const char *name, bool is_dir)
{
    struct names *names = arg;

    names->directory = names->directory || is_dir;
    buf_append(&names->bytes, name, strlen(name) + 1);
    names->n++;
}

static enum err add_file(struct snapshot_manifest *m, const char *dir, const char *name)
{
    char *path = snapshot_join(dir, name);
    struct fs_file *f = NULL;
    uint64_t size;
    uint32_t crc;
    enum err e = fs_open(path, FS_READ, &f);

    if (e == ERR_OK)
        e = snapshot_scan_file(f, &size, &crc);
    if (e == ERR_OK)
        e = snapshot_manifest_add(m, name, size, crc);
    fs_close(f);
    free(path);
    return e;
}

enum err snapshot_scan_dir(const char *path, struct snapshot_manifest *m, const atomic_bool *stop)
{
    struct names names = {0};
    enum err e = fs_list(path, take_name, &names); /* sorted, as the manifest wants it */

    if (e == ERR_OK && names.directory)
        e = ERR_UNSUPPORTED;
    if (e == ERR_OK && names.n > SNAPSHOT_FILES_MAX)
        e = ERR_TOO_LARGE;
    const char *name = (const char *)names.bytes.p;
    for (size_t i = 0; i < names.n && e == ERR_OK; i++) {
        e = atomic_load(stop) ? ERR_INTERRUPTED : add_file(m, path, name);
        name += strlen(name) + 1;
    }
    buf_close(&names.bytes);
    return e;
}

struct removal {
    const char *dir, *prefix, *keep;
    struct names found;
};

static void take_dir(void *arg, const char *name, bool is_dir)
{
    struct removal *r = arg;

    if (is_dir && strncmp(name, r->prefix, strlen(r->prefix)) == 0 &&
        (!r->keep || strcmp(name, r->keep) != 0))
        take_name(&r->found, name, false);
}

enum err snapshot_remove_dirs(const char *dir, const char *prefix, const char *keep)
{
    struct removal r = {.dir = dir, .prefix = prefix, .keep = keep};
    enum err e = fs_list(dir, take_dir, &r);
    const char *name = (const char *)r.found.bytes.p;

    for (size_t i = 0; i < r.found.n && e == ERR_OK; i++) {
        char *path = snapshot_join(dir, name);
        e = fs_rmdir_all(path);
        free(path);
        name += strlen(name) + 1;
    }
    buf_close(&r.found.bytes);
    return e;
}
