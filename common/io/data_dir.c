/* The data directory's lock and stamp.
 *
 * The stamp's bytes, little-endian: magic "SKVSTAMP", u32 version, program 16, cluster 16, name
 * LIMIT_NAME + 1, u32 node, u32 cores, u64 incarnation, u32 CRC32C of all before it. */
#include "common/io/data_dir.h"

#include <stdio.h>
#include <string.h>

#include "common/base/crc32c.h"

#define MAGIC "SKVSTAMP"
#define VERSION 1u
#define STAMP_BYTES (8 + 4 + 16 + 16 + (LIMIT_NAME + 1) + 4 + 4 + 8 + 4)
#define PATH_BYTES 4096

static void encode(const struct data_dir_stamp *s, struct buf *b)
{
    buf_append(b, MAGIC, 8);
    buf_u32(b, VERSION);
    buf_append(b, s->program, sizeof s->program);
    buf_append(b, s->cluster, sizeof s->cluster);
    buf_append(b, s->name, sizeof s->name);
    buf_u32(b, s->node);
    buf_u32(b, s->cores);
    buf_u64(b, s->incarnation);
    buf_u32(b, crc32c(0, b->p, b->n));
}

static void take_bytes(struct cursor *c, void *out, size_t n)
{
    struct slice s = cursor_bytes(c, n);
    if (s.n == n)
        memcpy(out, s.p, n);
}

static enum err decode(struct slice in, struct data_dir_stamp *out)
{
    struct cursor c = cursor_of(in);
    struct data_dir_stamp s = {0};
    if (in.n < 12 || memcmp(in.p, MAGIC, 8) != 0)
        return ERR_CORRUPT;
    (void)cursor_bytes(&c, 8);
    if (cursor_u32(&c) != VERSION)
        return ERR_FORMAT; /* before the size: a newer one may be longer */
    if (in.n != STAMP_BYTES)
        return ERR_CORRUPT;
    take_bytes(&c, s.program, sizeof s.program);
    take_bytes(&c, s.cluster, sizeof s.cluster);
    take_bytes(&c, s.name, sizeof s.name);
    s.node = cursor_u32(&c);
    s.cores = cursor_u32(&c);
    s.incarnation = cursor_u64(&c);
    if (cursor_u32(&c) != crc32c(0, in.p, in.n - 4) || c.bad)
        return ERR_CORRUPT;
    if (s.program[sizeof s.program - 1] != '\0' || s.name[sizeof s.name - 1] != '\0')
        return ERR_CORRUPT;
    *out = s;
    return ERR_OK;
}

static void file_in(const struct data_dir *d, const char *name, char out[PATH_BYTES])
{
    snprintf(out, PATH_BYTES, "%s/%s", d->path, name);
}

enum err data_dir_save(struct data_dir *d)
{
    char path[PATH_BYTES];
    struct buf b = {0};
    file_in(d, "stamp", path);
    encode(&d->stamp, &b);
    enum err e = fs_write_file(path, buf_slice(&b));
    buf_close(&b);
    return e;
}

/* Makes the directory with its parents and makes their names durable. */
static enum err make_dirs(const char *path)
{
    char part[PATH_BYTES], parent[PATH_BYTES] = ".";
    size_t n = strlen(path);
    if (path[0] == '/')
        snprintf(parent, sizeof parent, "/");
    for (size_t i = 1; i <= n; i++) {
        if ((path[i] != '/' && path[i] != '\0') || path[i - 1] == '/')
            continue;
        snprintf(part, sizeof part, "%.*s", (int)i, path);
        if (!fs_exists(part)) {
            enum err e = fs_mkdir(part);
            if (e == ERR_OK)
                e = fs_sync_dir(parent);
            if (e != ERR_OK)
                return e;
        }
        snprintf(parent, sizeof parent, "%s", part);
    }
    return ERR_OK;
}

/* What to do about a directory that may not be written to; "" for other errors. */
static const char *remedy(enum err e)
{
    return e == ERR_FORBIDDEN ? ": it must belong to the user that the daemon runs as; a unit of "
                                "systemd needs ReadWritePaths= for a directory of its own"
                              : "";
}

static void look_for_strangers(void *arg, const char *name, bool is_dir)
{
    bool *found = arg;
    /* stamp.tmp: a crash came between making the directory and its stamp. */
    bool ours = strcmp(name, "lock") == 0 || strcmp(name, "stamp.tmp") == 0 ||
                strcmp(name, "lost+found") == 0;
    *found = *found || is_dir != (strcmp(name, "lost+found") == 0) || !ours;
}

static enum err stamp_new(struct data_dir *d, const char *program, const char *name,
                          uint64_t random, uint32_t cores, char *msg, size_t n)
{
    bool strangers = false;
    enum err e = fs_list(d->path, look_for_strangers, &strangers);
    if (e == ERR_OK && strangers) {
        snprintf(
            msg, n,
            "%s is not empty and has no stamp: not a data directory of ours; give an empty one",
            d->path);
        return ERR_FOREIGN;
    }
    snprintf(d->stamp.program, sizeof d->stamp.program, "%s", program);
    snprintf(d->stamp.name, sizeof d->stamp.name, "%s", name);
    d->stamp.cores = cores;
    d->stamp.incarnation = random;
    d->fresh = true;
    if (e == ERR_OK)
        e = data_dir_save(d);
    if (e != ERR_OK)
        snprintf(msg, n, "cannot write the stamp into %s: %s%s", d->path, fs_last_error(),
                 remedy(e));
    return e;
}

static enum err check_owner(const struct data_dir *d, const char *program, const char *name,
                            char *msg, size_t n)
{
    if (strcmp(d->stamp.program, program) != 0) {
        snprintf(msg, n, "%s belongs to %s, not to %s: check node.data-dir", d->path,
                 d->stamp.program, program);
        return ERR_FOREIGN;
    }
    if (strcmp(d->stamp.name, name) != 0) {
        snprintf(msg, n, "%s belongs to node %s, not to %s: check node.data-dir and node.id",
                 d->path, d->stamp.name, name);
        return ERR_FOREIGN;
    }
    return ERR_OK;
}

static enum err stamp_read(struct data_dir *d, const char *stamp_path, char *msg, size_t n)
{
    struct buf b = {0};
    enum err e = fs_read_durable(stamp_path, &b);
    if (e != ERR_OK) {
        snprintf(msg, n, "cannot read %s: %s", stamp_path, fs_last_error());
        return e;
    }
    e = decode(buf_slice(&b), &d->stamp);
    buf_close(&b);
    if (e == ERR_FORMAT)
        snprintf(msg, n, "%s has a format this version does not know: use a newer program",
                 stamp_path);
    else if (e != ERR_OK)
        snprintf(msg, n,
                 "%s is damaged: restore it from a backup, or empty the directory and let the node "
                 "be filled anew by the others",
                 stamp_path);
    return e;
}

enum err data_dir_open(const char *path, const char *program, const char *name, uint64_t random,
                       uint32_t cores, struct data_dir *out, char *msg, size_t n)
{
    struct data_dir d = {0};
    char file[PATH_BYTES];
    if (strlen(path) == 0 || strlen(path) >= sizeof d.path || strlen(name) > LIMIT_NAME ||
        strlen(program) >= sizeof d.stamp.program) {
        snprintf(msg, n, "the data directory's path or the node's name is empty or too long");
        return ERR_CONFIG;
    }
    snprintf(d.path, sizeof d.path, "%s", path);
    enum err e = make_dirs(path);
    if (e != ERR_OK) {
        snprintf(msg, n, "cannot make %s: %s%s", path, fs_last_error(), remedy(e));
        return e;
    }
    file_in(&d, "lock", file);
    e = fs_lock(file, &d.lock);
    if (e == ERR_LOCKED) {
        snprintf(msg, n, "%s is in use by another process: stop that first", path);
        return e;
    }
    if (e != ERR_OK) {
        snprintf(msg, n, "cannot lock %s: %s%s", file, fs_last_error(), remedy(e));
        return e;
    }
    file_in(&d, "stamp", file);
    if (!fs_exists(file))
        e = stamp_new(&d, program, name, random, cores, msg, n);
    else
        e = stamp_read(&d, file, msg, n);
    if (e == ERR_OK)
        e = check_owner(&d, program, name, msg, n);
    if (e != ERR_OK) {
        fs_close(d.lock);
        return e;
    }
    *out = d;
    return ERR_OK;
}

void data_dir_close(struct data_dir *d)
{
    fs_close(d->lock);
    d->lock = NULL;
}
