#include "shardd/tombstone.h"

#include <stdio.h>

#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/io/fs.h"
#include "shardd/shard_bug.h"

#define MAGIC 0x54564b53u /* "SKVT" */
#define FORMAT 1u

static void encode(const struct tombstones *t, struct buf *out)
{
    struct buf body = {0};
    size_t it = 0;
    uint64_t group;
    void *replica;
    while (map_next(&t->greatest, &it, &group, &replica)) {
        buf_u64(&body, group);
        buf_u64(&body, (uintptr_t)replica);
    }
    buf_clear(out);
    buf_u32(out, MAGIC);
    buf_u32(out, FORMAT);
    buf_u32(out, (uint32_t)t->greatest.n);
    buf_u32(out, crc32c(0, body.p, body.n));
    buf_append(out, body.p, body.n);
    buf_close(&body);
}

static enum err decode(struct slice file, struct tombstones *t)
{
    struct cursor c = cursor_of(file);
    uint32_t magic = cursor_u32(&c), format = cursor_u32(&c), n = cursor_u32(&c);
    uint32_t crc = cursor_u32(&c);
    if (c.bad || magic != MAGIC)
        return ERR_CORRUPT;
    if (format != FORMAT)
        return ERR_FORMAT;
    if (c.left.n != (size_t)n * 16 || crc32c(0, c.left.p, c.left.n) != crc)
        return ERR_CORRUPT;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t group = cursor_u64(&c), replica = cursor_u64(&c);
        if (replica == 0)
            return ERR_CORRUPT;
        map_set(&t->greatest, group, (void *)(uintptr_t)replica);
    }
    return ERR_OK;
}

enum err tombstones_open(struct tombstones *t, struct io *io, const char *dir, unsigned core,
                         char *msg, size_t n)
{
    *t = (struct tombstones){.io = io};
    map_init(&t->greatest);
    snprintf(t->path, sizeof t->path, "%.2900s/tombstones-%u", dir, core);
    struct buf file = {0};
    enum err e = fs_read_file(t->path, &file);
    if (e == ERR_NOT_FOUND)
        return ERR_OK;
    if (e == ERR_OK)
        e = decode(buf_slice(&file), t);
    buf_close(&file);
    if (e != ERR_OK)
        snprintf(msg, n,
                 "%s: %s; it keeps destroyed replicas from coming back: restore it, or empty the "
                 "data directory and let the node join anew",
                 t->path, err_text(e));
    return e;
}

void tombstones_close(struct tombstones *t)
{
    CHECK(t->saving == 0);
    map_close(&t->greatest);
    buf_close(&t->bytes);
}

bool tombstones_has(const struct tombstones *t, uint64_t group, uint64_t replica)
{
    return replica <= (uintptr_t)map_find(&t->greatest, group) && !SHARD_BUG(TOMBSTONE);
}

static void forget_oldest(struct tombstones *t)
{
    size_t it = 0;
    uint64_t group, lowest = UINT64_MAX;
    void *replica;
    while (map_next(&t->greatest, &it, &group, &replica))
        if (group < lowest)
            lowest = group;
    map_remove(&t->greatest, lowest);
}

uint64_t tombstones_add(struct tombstones *t, uint64_t group, uint64_t replica)
{
    if (!tombstones_has(t, group, replica)) {
        if (t->greatest.n >= TOMBSTONES_MAX && !map_find(&t->greatest, group))
            forget_oldest(t);
        map_set(&t->greatest, group, (void *)(uintptr_t)replica);
        t->version++;
    }
    return t->version;
}

static void save_run(struct io_work *work)
{
    struct tombstones *t = CONTAINER_OF(work, struct tombstones, work);
    t->result = fs_write_file(t->path, buf_slice(&t->bytes));
    if (t->result != ERR_OK)
        log_warn("tombstones_not_saved", "path=%s error=\"%s\"", t->path, fs_last_error());
}

static void save_done(struct io_work *work)
{
    struct tombstones *t = CONTAINER_OF(work, struct tombstones, work);
    if (t->result == ERR_OK)
        t->saved = t->saving;
    t->saving = 0;
    if (t->on_saved)
        t->on_saved(t->arg);
}

void tombstones_save(struct tombstones *t)
{
    if (t->saving || t->saved == t->version)
        return;
    t->saving = t->version;
    encode(t, &t->bytes);
    t->work = (struct io_work){.run = save_run, .done = save_done};
    io_offload(t->io, &t->work);
}
